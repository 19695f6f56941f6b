"""Symbols and their numbers: what turns a text into integers and back, for characters, words and bytes."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperrun.errors import UserError

EOS = "<eos>"
"""The word that stands for the end of a line."""
UNKNOWN = "<unk>"
"""The word by which published word-level texts replace rare ones."""
BYTE_ORDER_MARK = "\ufeff"
CHUNK = 1 << 20
"""Characters or bytes numbered at a time: the steps between need several times their memory."""
CODE_POINTS = 0x110000


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a text; the number of a symbol is its place in the list."""

    unit: str
    """char, word or byte."""
    symbols: list[str]
    """Characters in the order of their code points; words from the most to the least frequent; bytes in the order of
    their values, each written as the character of that code point (latin-1)."""
    encoding: str = "utf-8"
    """For byte: how a prompt becomes bytes, and bytes become a text that can be printed."""

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def number(self) -> dict[str, int]:
        """Symbol -> its number."""
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def had_mark(self, other: Vocabulary) -> bool:
        """Return whether it has symbols of a byte order mark that another one lacks."""
        alone = set(self.symbols) - set(other.symbols)
        if self.unit == "byte":
            return bool(alone) and alone <= set(BOM_UTF8.decode("latin-1"))
        return any(BYTE_ORDER_MARK in symbol for symbol in alone)

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text's symbols: int64 [N].

        Raises:
            UserError: the text has symbols that the vocabulary lacks; names them in one line.
        """
        return self.numbered(self.split(text))

    def numbered(self, parts: Sequence[str]) -> Tensor:
        """Return the numbers of symbols: int64 [N].

        Raises:
            UserError: as encode.
        """
        unknown = list(dict.fromkeys(symbol for symbol in parts if symbol not in self.number))
        if unknown:
            shown = ", ".join(self._shown(symbol) for symbol in unknown[:8])
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            hint = f"; {UNKNOWN} stands for words it does not know" if UNKNOWN in self.number else ""
            raise UserError(
                f"unknown {self.unit}{'s' if len(unknown) > 1 else ''} {shown}{more}: not among the "
                f"{len(self):,} symbols of the text that was learned from{hint}"
            )
        return torch.tensor([self.number[symbol] for symbol in parts], dtype=torch.int64)

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Return the text of a row of numbers (integers [N]).

        Words are joined by single spaces and <eos> becomes the end of a line; bytes that are not a text in the
        vocabulary's encoding become U+FFFD.
        """
        found = [self.symbols[i] for i in (ids.tolist() if isinstance(ids, Tensor) else ids)]
        if self.unit == "char":
            return "".join(found)
        if self.unit == "byte":
            return "".join(found).encode("latin-1").decode(self.encoding, errors="replace")
        lines: list[list[str]] = [[]]
        for word in found:
            if word == EOS:
                lines.append([])
            else:
                lines[-1].append(word)
        return "\n".join(" ".join(line) for line in lines)

    def split(self, text: str) -> Sequence[str]:
        """Return a text's symbols in order, known or not.

        Raises:
            UserError: byte: a text that the encoding cannot express.
        """
        if self.unit == "char":
            return text
        if self.unit == "word":
            return list(words(text))
        try:
            return text.encode(self.encoding).decode("latin-1")
        except UnicodeEncodeError as error:
            raise UserError(
                f"{text[error.start]!r} cannot be written in {self.encoding}, the text's encoding"
            ) from None

    def _shown(self, symbol: str) -> str:
        return f"0x{ord(symbol):02x}" if self.unit == "byte" else repr(symbol)

    def state_dict(self) -> dict[str, Any]:
        """Return it as plain strings and lists, for a checkpoint: sampling needs no data set."""
        return {"unit": self.unit, "symbols": self.symbols, "encoding": self.encoding}

    @staticmethod
    def from_state_dict(state: dict[str, Any]) -> Vocabulary:
        """Return the vocabulary that `state_dict` described."""
        return Vocabulary(state["unit"], list(state["symbols"]), state["encoding"])

    def check_same(self, other: Vocabulary, ours: str, theirs: str) -> None:
        """Refuse a vocabulary with other symbols or another order.

        Raises:
            UserError: they differ; names the two owners, as `ours` ("the checkpoint FILE") and `theirs` ("data=ptb").
        """
        if self.unit == other.unit and self.symbols == other.symbols:
            return
        sizes = [f"{len(vocabulary):,} {vocabulary.unit}s" for vocabulary in (self, other)]
        if self.unit == other.unit and self.had_mark(other):
            raise UserError(
                f"{ours} learned from a text with a byte order mark, which an earlier version took for a part of it; "
                f"{theirs} is read without it, and no longer has the same symbols: train it again"
            )
        if self.unit != other.unit or len(self) != len(other):
            raise UserError(f"{ours} has another vocabulary than {theirs}: {sizes[0]}, not {sizes[1]}")
        at = next(i for i, (a, b) in enumerate(zip(self.symbols, other.symbols, strict=True)) if a != b)
        raise UserError(
            f"{ours} has another vocabulary than {theirs}: both have {sizes[0]}, but number {at} is "
            f"{self._shown(self.symbols[at])}, not {self._shown(other.symbols[at])}"
        )


def words(text: str) -> Iterator[str]:
    """Yield the words between white space, and <eos> for the end of each line."""
    for i, line in enumerate(text.split("\n")):
        if i:
            yield EOS
        yield from line.split()


def number_type(size: int) -> torch.dtype:
    """Return the smallest integer type that holds 0 .. size - 1."""
    return torch.uint8 if size <= 2**8 else torch.int16 if size <= 2**15 else torch.int32


def number_characters(texts: Sequence[str]) -> tuple[Vocabulary, list[Tensor]]:
    """Return the characters that occur in any of the texts, and each text as numbers: uint8, int16 or int32 [N]."""
    seen = np.zeros(CODE_POINTS, bool)
    for text in texts:
        for codes in _code_points(text):
            seen[codes] = True
    symbols = np.flatnonzero(seen)
    table = _table(symbols, CODE_POINTS)
    ids = [_joined([table[codes] for codes in _code_points(text)], table.dtype) for text in texts]
    return Vocabulary("char", [chr(symbol) for symbol in symbols]), ids


def number_bytes(contents: Sequence[bytes], encoding: str) -> tuple[Vocabulary, list[Tensor]]:
    """Return the byte values that occur in any of the contents, and each content as numbers: uint8 [N]."""
    values = [value for value in range(256) if any(value in content for content in contents)]  # memchr: fast
    table = _table(np.array(values, np.int64), 256).tobytes()
    ids = [torch.from_numpy(np.frombuffer(bytearray(content.translate(table)), np.uint8)) for content in contents]
    return Vocabulary("byte", [chr(value) for value in values], encoding), ids


def number_words(texts: Sequence[str]) -> tuple[Vocabulary, list[Tensor]]:
    """Return the words that occur in any of the texts, and each text as numbers: uint8, int16 or int32 [N].

    The most frequent word is number 0; words of one frequency are in alphabetical order.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words(text))
    vocabulary = Vocabulary("word", sorted(counts, key=lambda word: (-counts[word], word)))
    dtype, numbers = _numpy_type(len(vocabulary)), vocabulary.number
    return vocabulary, [torch.from_numpy(np.fromiter((numbers[word] for word in words(text)), dtype)) for text in texts]


def _numpy_type(size: int) -> type[np.integer]:
    return {torch.uint8: np.uint8, torch.int16: np.int16, torch.int32: np.int32}[number_type(size)]


def _code_points(text: str) -> Iterator[np.ndarray]:
    for at in range(0, len(text), CHUNK):
        yield np.frombuffer(text[at : at + CHUNK].encode("utf-32-le", "surrogatepass"), "<u4")


def _table(symbols: np.ndarray, size: int) -> np.ndarray:
    """Return an array of `size` whose entry at each symbol is that symbol's number."""
    table = np.zeros(size, _numpy_type(len(symbols)))
    table[symbols] = np.arange(len(symbols))
    return table


def _joined(parts: list[np.ndarray], dtype: np.dtype) -> Tensor:
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, dtype))
