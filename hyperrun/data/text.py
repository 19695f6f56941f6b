"""Texts as rows of numbers: what every text data set is read into, and the two that need no published files.

`TextSet` holds the three splits in the smallest integer type. `make_text` turns what a data set's own function read
into one, checked; `cut` makes the splits of a text that brings none.
"""

from __future__ import annotations

import codecs
import hashlib
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperrun.data.kinds import TextData
from hyperrun.data.sources import unreadable
from hyperrun.data.vocabulary import (
    BYTE_ORDER_MARK,
    Vocabulary,
    number_bytes,
    number_characters,
    number_type,
    number_words,
)
from hyperrun.errors import UserError
from hyperrun.inputs import Symbols
from hyperrun.paths import expanded
from hyperrun.registry import register

SPLITS = ("train", "val", "test")
UNITS = {"char": "characters", "word": "words", "byte": "bytes"}


@dataclass
class TextSet:
    """A text, split and numbered. Shared between the jobs of a sweep: read it, do not write to it."""

    name: str
    """Its name, as it was registered."""
    train: Tensor
    """What is learned from: uint8, int16 or int32 [N], each a number in the vocabulary."""
    val: Tensor
    """What selects the checkpoint."""
    test: Tensor
    """What is read once, for the selected checkpoint."""
    vocabulary: Vocabulary
    """The symbols of all three splits."""
    verified: bool
    """False if data.verify=false made us accept files whose checksum differs."""
    edition: str | None = None
    """Which edition it is, where there are several ("Python 3.13.1")."""

    @property
    def symbols(self) -> list[str]:
        """The vocabulary as a list."""
        return self.vocabulary.symbols

    @property
    def inputs(self) -> Symbols:
        """What the text looks like to a model."""
        return Symbols(self.vocabulary_size)

    @property
    def vocabulary_size(self) -> int:
        """How many different symbols there are; the numbers run from 0 to one less."""
        return len(self.vocabulary)

    @cached_property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that differ where the text, its split or its vocabulary does."""
        digest = hashlib.sha256("\0".join([self.vocabulary.unit, *self.symbols]).encode("utf-8", "surrogatepass"))
        for ids in (self.train, self.val, self.test):
            digest.update(f"/{len(ids)}/".encode())
            digest.update(ids.numpy().data)
        return digest.hexdigest()[:8]

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data."""
        facts = {"data/verified": self.verified, "data/vocabulary": self.vocabulary_size, "data/unit": self.unit}
        facts |= {f"data/{split}": len(getattr(self, split)) for split in SPLITS}
        return facts | {"data/fingerprint": self.fingerprint} | ({"data/edition": self.edition} if self.edition else {})

    @property
    def unit(self) -> str:
        """char, word or byte."""
        return self.vocabulary.unit

    def describe(self) -> str:
        """Return in a few words what it is: name, sizes, vocabulary, edition."""
        sizes = " / ".join(f"{len(getattr(self, split)):,}" for split in SPLITS)
        edition = f" ({self.edition})" if self.edition else ""
        return (
            f"{self.name}{edition}: {sizes} {UNITS[self.unit]} to train / validate / test, "
            f"{self.vocabulary_size:,} different"
        )


def make_text(
    name: str,
    *,
    train: Tensor,
    val: Tensor,
    test: Tensor,
    vocabulary: Vocabulary,
    verified: bool = True,
    edition: str | None = None,
) -> TextSet:
    """Check the splits (integers [N]) and bring them into the smallest type that holds the vocabulary.

    Raises:
        UserError: a split that is not a row of whole numbers, has numbers outside the vocabulary, or is too short to
            predict anything.
    """
    parts = {}
    for split, ids in zip(SPLITS, (train, val, test), strict=True):
        if ids.ndim != 1 or ids.dtype.is_floating_point or ids.dtype == torch.bool:
            raise UserError(f"{name}: {split}: must be integers [N], not {ids.dtype} {[*ids.shape]}")
        if len(ids) < 2:
            raise UserError(f"{name}: {split}: {len(ids)} symbols, and it takes two to predict one from the other")
        low, high = (int(value) for value in ids.aminmax())
        if low < 0 or high >= len(vocabulary):
            raise UserError(
                f"{name}: {split}: numbers run from {low} to {high}, allowed are 0 to {len(vocabulary) - 1}"
            )
        parts[split] = ids.to(number_type(len(vocabulary))).contiguous()
    return TextSet(name, **parts, vocabulary=vocabulary, verified=verified, edition=edition)


# ---------------------------------------------------------------- texts that are split by the config


@register("data", "text", TextData)
def load_text_file(cfg: TextData) -> TextSet:
    """Return the file cfg.path, in the config's unit, cut by the config's fractions.

    A byte order mark at its beginning says how the rest is to be read and is no part of the text.

    Raises:
        UserError: no path; a file that is missing, empty, not in the declared encoding or too short to be cut.
    """
    if cfg.path is None:
        raise UserError("data=text needs data.path=FILE, a text file of your own")
    path = expanded(cfg.path)
    return cut("text", str(path), read_file(path, cfg.unit, cfg.encoding), cfg)


@register("data", "pydocs", TextData)
def load_pydocs(cfg: TextData) -> TextSet:
    """Return the reference text of Python's language and types that ships with its standard library.

    Its wording and its symbols differ between Python versions, so the edition is part of the result. The topics stand
    in the order of a hash of their names, which is the same for every Python: in alphabetical order, validation and
    test would be nothing but the chapters on types.

    Raises:
        UserError: this Python was packaged without the text; bytes asked for in an encoding that lacks a character.
    """
    refuse_path(cfg)
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError(
            "this Python was packaged without its reference text (pydoc_data): data=text reads a file of your own"
        ) from None
    order = sorted(topics, key=lambda name: hashlib.sha256(name.encode()).digest())
    text = "\n".join(topics[name] for name in order)
    try:
        content = text.encode(cfg.encoding) if cfg.unit == "byte" else text
    except UnicodeEncodeError as error:
        raise UserError(
            f"data.encoding={cfg.encoding} cannot express {text[error.start]!r} of pydocs; utf-8 can"
        ) from None
    return cut("pydocs", "pydocs", content, cfg, edition=f"Python {platform.python_version()}")


def cut(name: str, what: str, content: str | bytes, cfg: TextData, edition: str | None = None) -> TextSet:
    """Return a text in cfg.unit (bytes for byte), its last parts kept for validation and test by the config.

    `what` names the text in errors. Symbols that occur in any part are in the vocabulary.

    Raises:
        UserError: no fractions, or a text too short for each part to have two symbols.
    """
    if cfg.val_fraction is None or cfg.test_fraction is None:
        raise UserError(f"data={name} brings no split: set data.val_fraction and data.test_fraction (0.05 each)")
    if isinstance(content, bytes):
        vocabulary, (ids,) = number_bytes([content], cfg.encoding)
    else:
        vocabulary, (ids,) = number_words([content]) if cfg.unit == "word" else number_characters([content])
    val, test = (int(len(ids) * part) for part in (cfg.val_fraction, cfg.test_fraction))
    train = len(ids) - val - test
    if min(train, val, test) < 2:
        raise UserError(
            f"{what} is too short: of its {len(ids):,} {UNITS[cfg.unit]} {train:,} / {val:,} / {test:,} are left to "
            "train / validate / test, and each part needs 2 (data.val_fraction and data.test_fraction move them)"
        )
    parts = dict(zip(SPLITS, ids.split([train, val, test]), strict=True))
    return make_text(name, **parts, vocabulary=vocabulary, edition=edition)


# ---------------------------------------------------------------- reading


def read_file(path: Path, unit: str, encoding: str) -> str | bytes:
    """Return the text in a file, for byte its bytes, without a byte order mark.

    Raises:
        UserError: it is missing, empty, unreadable or not in that encoding.
    """
    content = read_bytes(path)
    if not content:
        raise UserError(f"{path} is empty")
    if unit != "byte":
        return decode(content, encoding, path).removeprefix(BYTE_ORDER_MARK)
    if codecs.lookup(encoding).name == "utf-8":  # elsewhere a prompt begins with the mark, too
        content = content.removeprefix(codecs.BOM_UTF8)
    return content


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        UserError: it is missing or cannot be read.
    """
    if not path.exists():
        raise UserError(f"there is no file {path}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def decode(content: bytes, encoding: str, path: Path) -> str:
    """Return the text that a file's bytes stand for, line ends and all as they are.

    Raises:
        UserError: they are not in that encoding; says where.
    """
    try:
        return content.decode(encoding)
    except UnicodeError as error:  # some rarer encodings do not say where
        where = ""
        if isinstance(error, UnicodeDecodeError):
            line = content.count(b"\n", 0, error.start) + 1
            where = f": byte 0x{content[error.start]:02x} at position {error.start:,} (line {line:,})"
        raise UserError(
            f"{path} is not {encoding}{where}; name its encoding with data.encoding=..., or take bytes as symbols with "
            "data.unit=byte"
        ) from None


def refuse_path(cfg: TextData) -> None:
    """Refuse data.path for a set that does not read it."""
    if cfg.path is not None:
        raise UserError(f"data.path={cfg.path}: {cfg.name} reads no such file; leave it at null, or choose data=text")
