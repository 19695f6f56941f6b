from __future__ import annotations

import hashlib

import pytest
import torch

from hyperrun.data import corpora, load_text, looks_of, names_of, source_of
from hyperrun.data.text_loader import TextLoader
from hyperrun.errors import UserError

SENTENCES = {"train": "no it was n't\nthe <unk> of N\n", "valid": "was it\n", "test": "it q\n"}


@pytest.fixture
def cfg(text_cfg, tmp_path):
    """Return a function from a name and some keys to a config with tmp_path as root, and no fractions."""

    def make(name, **keys):
        fixed = {"root": str(tmp_path), "val_fraction": None, "test_fraction": None}
        fixed["unit"] = {"ptb": "word", "enwik8": "byte"}.get(name, "char")
        return text_cfg(name=name, **{**fixed, **keys})

    return make


@pytest.fixture
def ptb(tmp_path, monkeypatch):
    """Return a function that writes small files of both kinds into a folder and makes theirs the known checksums."""

    def write(folder="ptb"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for part, text in SENTENCES.items():
            lines = text.splitlines()
            forms = {
                f"ptb.{part}.txt": "".join(f" {line} \n" for line in lines),
                f"ptb.char.{part}.txt": "".join(" ".join(line.replace(" ", "_")) + " \n" for line in lines),
            }
            for name, content in forms.items():
                (tmp_path / folder / name).write_text(content)
                table = corpora.PTB_CHAR if "char" in name else corpora.PTB
                monkeypatch.setitem(table, name, hashlib.sha256(content.encode()).hexdigest())

    return write


@pytest.mark.parametrize("folder", ["ptb", "simple-examples/data", ""])
def test_ptb_in_the_folders_where_people_have_it(cfg, ptb, folder):
    ptb(folder)
    chars, words = load_text(cfg("ptb_char")), load_text(cfg("ptb"))
    parts = ("train", "val", "test")
    assert [chars.vocabulary.decode(getattr(chars, part)) for part in parts] == list(SENTENCES.values())
    assert [words.vocabulary.decode(getattr(words, part)) for part in parts] == list(SENTENCES.values())
    assert chars.symbols == sorted(set("".join(SENTENCES.values()))) and "q" in chars.symbols
    assert words.symbols[:2] == ["<eos>", "it"] and "q" in words.symbols
    assert chars.verified and words.verified


def test_ptb_that_is_missing_says_how_to_get_it(cfg, tmp_path, ptb):
    with pytest.raises(UserError) as caught:
        load_text(cfg("ptb_char"))
    assert str(caught.value) == (
        f"ptb_char is not in {tmp_path} (looked for ptb/ptb.char.*.txt or simple-examples/data/ptb.char.*.txt or "
        "ptb.char.*.txt): put ptb.char.train.txt, ptb.char.valid.txt, ptb.char.test.txt of T. Mikolov's "
        "simple-examples.tgz there (http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz; free for research, "
        "the text is LDC's), or set data.root=DIR"
    )
    ptb()
    (tmp_path / "ptb" / "ptb.valid.txt").unlink()
    with pytest.raises(
        UserError, match=r"^ptb is incomplete in .*: ptb/ptb\.valid\.txt missing; put ptb\.train\.txt, "
    ):
        load_text(cfg("ptb"))
    assert load_text(cfg("ptb_char")).verified


def test_an_altered_file_is_refused_unless_verify_is_off(cfg, ptb, tmp_path):
    ptb()
    (tmp_path / "ptb" / "ptb.test.txt").write_text(" something else \n")
    with pytest.raises(
        UserError,
        match=r"ptb/ptb\.test\.txt is not the published file \(its sha256 differs\): put .* there .*, or accept it "
        "with data.verify=false$",
    ):
        load_text(cfg("ptb"))
    data = load_text(cfg("ptb", verify=False))
    assert not data.verified and data.facts()["data/verified"] is False and "something" in data.symbols


@pytest.fixture
def wiki(tmp_path, monkeypatch):
    """Return a function that writes a enwik8 or text8 of 90 / 5 / 5 bytes and makes its checksum the known one."""

    def write(name, content, path=None):
        (tmp_path / (path or name)).parent.mkdir(exist_ok=True)
        (tmp_path / (path or name)).write_bytes(content)
        monkeypatch.setitem(corpora.LENGTHS, name, (90, 5, 5))
        known = hashlib.sha256(content) if name == "enwik8" else hashlib.md5(content)
        monkeypatch.setattr(corpora, name.upper(), known.hexdigest())

    return write


@pytest.mark.parametrize("path", ["enwik8", "enwik8/enwik8"])
def test_enwik8_is_bytes(cfg, wiki, path):
    content = ("né\n" * 30)[:90].encode()[:90] + "Zürich".encode()[:5] + b"\x00\xffabc"
    wiki("enwik8", content, path)
    data = load_text(cfg("enwik8"))
    assert (len(data.train), len(data.val), len(data.test)) == (90, 5, 5) and data.verified
    whole = torch.cat([data.train, data.val, data.test])
    assert bytes(ord(data.symbols[i]) for i in whole.tolist()) == content
    assert data.symbols == [chr(value) for value in sorted(set(content))]  # those of val and test too
    assert data.vocabulary.encode("né").tolist() == data.train[:3].tolist()


def test_text8_is_characters(cfg, wiki):
    content = b" anarchism originated" * 5
    wiki("text8", content[:100])
    data = load_text(cfg("text8"))
    assert data.unit == "char" and data.vocabulary.decode(data.train) == content[:90].decode() and len(data.test) == 5


def test_wiki_mistakes(cfg, wiki, tmp_path):
    with pytest.raises(
        UserError,
        match=r"^text8 is not in .* \(looked for text8 or text8/text8\): unpack text8.zip there \(M. Mahoney's page "
        r"http://mattmahoney.net/dc/textdata.html\), or set data.root=DIR$",
    ):
        load_text(cfg("text8"))
    wiki("text8", b"a" * 99)
    with pytest.raises(UserError, match="text8 has 99 bytes, and text8 is 100: it cannot be split as usual$"):
        load_text(cfg("text8"))
    (tmp_path / "text8").write_bytes(b"a" * 100)
    with pytest.raises(UserError, match=r"text8 is not the published file \(its md5 differs\): unpack text8.zip there"):
        load_text(cfg("text8"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"unit": "word"}, "^data.unit=word: ptb_char is read by chars; data=text takes any file and unit$"),
        ({"val_fraction": 0.1, "test_fraction": 0.1}, "^ptb_char brings its own split: leave data.val_fraction and "),
        ({"path": "x.txt"}, "^data.path=x.txt: ptb_char reads no such file; leave it at null"),
    ],
)
def test_what_published_texts_do_not_take(cfg, keys, message):
    with pytest.raises(UserError, match=message):
        load_text(cfg("ptb_char", **keys))


def test_known_checksums_are_checksums():
    for name in filter(looks_of, names_of("text")):
        source = source_of(name)
        assert source.name == name and source.by_hand and not source.downloads
        for form in source.forms:
            assert {len(known or "") for known in form.files.values()} == ({32} if name == "text8" else {64})


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("ptb_char", (5_017_482, 393_042, 442_423)),
        ("ptb", (929_589, 73_760, 82_430)),
        ("enwik8", (90_000_000, 5_000_000, 5_000_000)),
    ],
)
def test_real_texts(cfg, name, sizes):
    data = load_text(cfg(name, root=None, eval_streams=64, eval_burn_in=500, sequence_length=250))
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    assert data.inputs == looks_of(name) and data.verified
    assert data.train.dtype == (torch.int16 if name == "ptb" else torch.uint8)
    assert len(set(data.val.unique().tolist()) | set(data.train.unique().tolist())) <= data.vocabulary_size
    loader = TextLoader(
        data,
        cfg(name, sequence_length=250, eval_streams=64, eval_burn_in=500),
        device=torch.device("cpu"),
        batch_size=128,
        eval_batch_size=500,
        seed=0,
    )
    assert loader.steps_per_epoch == (sizes[0] - 1) // (128 * 250)
    assert sum(int(scored.sum()) for _, _, scored, _ in loader.eval_batches("test")) == sizes[2] - 1


@pytest.mark.data
def test_the_characters_of_ptb_are_its_words(cfg):
    chars, words = load_text(cfg("ptb_char", root=None)), load_text(cfg("ptb", root=None))
    for part in ("val", "test"):
        assert chars.vocabulary.decode(getattr(chars, part)) == words.vocabulary.decode(getattr(words, part))
    prompt = "the meaning of <unk>\n"
    assert chars.vocabulary.decode(chars.vocabulary.encode(prompt)) == prompt
    assert words.vocabulary.decode(words.vocabulary.encode(prompt)) == prompt
