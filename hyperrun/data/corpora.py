"""The published texts: Penn Treebank by characters and by words, enwik8 and text8.

hyperrun fetches none of them (the first belongs to the Linguistic Data Consortium; none has an address in a library we
stand on), so `Source.by_hand` says where people get them. The sha256 were taken from copies whose md5 is the published
one; of text8 only the published md5 is known.
"""

from __future__ import annotations

from torch import Tensor

from hyperrun.data.kinds import TextData
from hyperrun.data.sources import Form, Source, data_root, find
from hyperrun.data.text import TextSet, decode, make_text, read_bytes, refuse_path
from hyperrun.data.vocabulary import Vocabulary, number_bytes, number_characters, number_words
from hyperrun.errors import UserError
from hyperrun.inputs import Symbols
from hyperrun.registry import register

PTB_CHAR = {
    "ptb.char.train.txt": "e313d91425e06c4f0a8fb6e881dcce0c291f2a0e9f4dda54833069b122f91da9",
    "ptb.char.valid.txt": "21661f63ec355085879458b6524644d4add5573541b4be14fb52ab2e2e995eb8",
    "ptb.char.test.txt": "1ef5607ac3c463b16e38bfe7900dd3bfc91de5a96e0f21e7eab5188b465b8ebe",
}
PTB = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
ENWIK8 = "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
TEXT8 = "3bea1919949baf155f99411df5fada7e"

LENGTHS = {"enwik8": (90_000_000, 5_000_000, 5_000_000), "text8": (90_000_000, 5_000_000, 5_000_000)}
"""Symbols to train, validate and test, in the order in which they stand in the one file."""

PTB_PAGE = "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz"
WIKI_PAGE = "http://mattmahoney.net/dc/textdata.html"


def ptb_char_source() -> Source:
    """Return where the Penn Treebank by characters is looked for."""
    return _ptb_source("ptb_char", "ptb.char.*.txt", PTB_CHAR)


def ptb_source() -> Source:
    """Return where the Penn Treebank by words is looked for."""
    return _ptb_source("ptb", "ptb.*.txt", PTB)


def _ptb_source(name: str, pattern: str, files: dict[str, str]) -> Source:
    folders = ("ptb/", "simple-examples/data/", "")
    forms = [Form("text", folder + pattern, {folder + file: sha for file, sha in files.items()}) for folder in folders]
    by_hand = (
        f"put {', '.join(files)} of T. Mikolov's simple-examples.tgz there ({PTB_PAGE}; free for research, the text is "
        "LDC's)"
    )
    return Source(name, tuple(forms), (), by_hand)


def enwik8_source() -> Source:
    """Return where enwik8 is looked for."""
    return _wiki_source("enwik8", ENWIK8)


def text8_source() -> Source:
    """Return where text8 is looked for."""
    return _wiki_source("text8", TEXT8)


def _wiki_source(name: str, checksum: str) -> Source:
    forms = [Form("text", file, {file: checksum}) for file in (name, f"{name}/{name}")]
    return Source(name, tuple(forms), (), f"unpack {name}.zip there (M. Mahoney's page {WIKI_PAGE})")


UNIT_OF = {"ptb_char": "char", "ptb": "word", "enwik8": "byte", "text8": "char"}
"""What a symbol of each set is."""


@register("data", "ptb_char", TextData, source=ptb_char_source, looks=Symbols(50))
def load_ptb_char(cfg: TextData) -> TextSet:
    """Return the Penn Treebank by characters: 5,017,482 / 393,042 / 442,423 of 50 symbols.

    In the files, characters are parted by spaces and a space is written as "_"; here they are the text itself, and the
    end of a sentence is the end of a line.
    """
    texts, verified = _read_ptb(cfg, ptb_char_source())
    plain = [text.replace(" ", "").replace("_", " ") for text in texts]
    vocabulary, (train, val, test) = number_characters(plain)
    return make_text("ptb_char", train=train, val=val, test=test, vocabulary=vocabulary, verified=verified)


@register("data", "ptb", TextData, source=ptb_source, looks=Symbols(10_000))
def load_ptb(cfg: TextData) -> TextSet:
    """Return the Penn Treebank by words: 929,589 / 73,760 / 82,430 of 10,000, <eos> at the end of each sentence."""
    texts, verified = _read_ptb(cfg, ptb_source())
    vocabulary, (train, val, test) = number_words(texts)
    return make_text("ptb", train=train, val=val, test=test, vocabulary=vocabulary, verified=verified)


def _read_ptb(cfg: TextData, source: Source) -> tuple[list[str], bool]:
    expect_published(cfg)
    root = data_root(cfg.root)
    form, verified = find(source, root, verify=cfg.verify, explicit_root=cfg.root is not None)
    return [decode(read_bytes(root / file), cfg.encoding, root / file) for file in form.files], verified


@register("data", "enwik8", TextData, source=enwik8_source, looks=Symbols(205))
def load_enwik8(cfg: TextData) -> TextSet:
    """Return the first 100,000,000 bytes of the English Wikipedia of 2006: 90M / 5M / 5M of 205 symbols."""
    content, verified = _read_wiki(cfg, enwik8_source())
    vocabulary, (ids,) = number_bytes([content], cfg.encoding)
    return _in_lengths("enwik8", ids, vocabulary, verified)


@register("data", "text8", TextData, source=text8_source, looks=Symbols(27))
def load_text8(cfg: TextData) -> TextSet:
    """Return Wikipedia reduced to a to z and single spaces: 90M / 5M / 5M characters of 27 symbols."""
    content, verified = _read_wiki(cfg, text8_source())
    vocabulary, (ids,) = number_characters([content.decode("latin-1")])  # ASCII; an altered copy must not fail here
    return _in_lengths("text8", ids, vocabulary, verified)


def _read_wiki(cfg: TextData, source: Source) -> tuple[bytes, bool]:
    expect_published(cfg)
    root = data_root(cfg.root)
    form, verified = find(source, root, verify=cfg.verify, explicit_root=cfg.root is not None)
    path = root / next(iter(form.files))
    content, length = read_bytes(path), sum(LENGTHS[source.name])
    if len(content) != length:
        raise UserError(
            f"{path} has {len(content):,} bytes, and {source.name} is {length:,}: it cannot be split as usual"
        )
    return content, verified


def _in_lengths(name: str, ids: Tensor, vocabulary: Vocabulary, verified: bool) -> TextSet:
    train, val, test = ids.split(LENGTHS[name])
    return make_text(name, train=train, val=val, test=test, vocabulary=vocabulary, verified=verified)


def expect_published(cfg: TextData) -> None:
    """Refuse what a set with its own unit and split cannot be.

    Raises:
        UserError: a path, another unit, fractions.
    """
    refuse_path(cfg)
    unit = UNIT_OF[cfg.name]
    if cfg.unit != unit:
        raise UserError(f"data.unit={cfg.unit}: {cfg.name} is read by {unit}s; data=text takes any file and unit")
    if cfg.val_fraction is not None or cfg.test_fraction is not None:
        raise UserError(f"{cfg.name} brings its own split: leave data.val_fraction and data.test_fraction at null")
