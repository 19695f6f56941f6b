"""Pieces of words: what turns a sentence into numbers and back.

sentencepiece does the work: a wheel without dependencies, whose model is a few hundred kilobytes that a checkpoint can
carry, and whose pieces can be put together again to the very sentence.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

PAD, BOS, EOS, UNK = 0, 1, 2, 3
"""Numbers of the pieces for padding, the beginning and the end of a sentence, and what no piece has."""
UNKNOWN = "\N{DOUBLE QUESTION MARK}"
"""How UNK is written."""


class Pieces:
    """A vocabulary of pieces. What it is made of travels in the checkpoint, so that a moved run still translates."""

    def __init__(self, model: bytes, normalization: str) -> None:
        """model: as sentencepiece writes it. normalization: nfc, nfkc or none; see normalized."""
        self.model, self.normalization = model, normalization

    @cached_property
    def processor(self) -> SentencePieceProcessor:
        """sentencepiece's own object."""
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_proto=self.model)

    def __len__(self) -> int:
        return self.processor.get_piece_size()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pieces) and (self.model, self.normalization) == (other.model, other.normalization)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the pieces of each text, normalized, without BOS and EOS; of an empty one, none."""
        return self.processor.encode([normalized(text, self.normalization) for text in texts], out_type=int)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the sentence of a row of numbers, up to its first EOS; PAD and BOS are nothing, UNK is UNKNOWN, and
        bytes that are no UTF-8 are U+FFFD.

        Raises:
            IndexError: a number outside the vocabulary.
        """
        row: list[int] = []
        for one in ids:
            if one == EOS:
                break
            row.append(int(one))
        return self.processor.decode(row)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces with these numbers as they are printed: U+2581 stands for the blank before a word."""
        return [self.processor.id_to_piece(int(one)) for one in ids]

    def state_dict(self) -> dict[str, Any]:
        """Return it as tensors and strings, for a checkpoint."""
        return {
            "model": torch.from_numpy(np.frombuffer(self.model, np.uint8).copy()),
            "normalization": self.normalization,
        }

    @staticmethod
    def from_state_dict(state: dict[str, Any]) -> Pieces:
        """Return the pieces that `state_dict` described."""
        return Pieces(state["model"].cpu().numpy().tobytes(), state["normalization"])


BothPieces = tuple[Pieces, Pieces]
"""The vocabularies of source and target; one object twice where they share one."""


def normalized(text: str, form: str) -> str:
    """Return a text in a form of Unicode (nfc, nfkc, none), with one blank for each stretch of white space (a tab, a
    no-break space) and none at its ends."""
    if form != "none" and not text.isascii():
        text = unicodedata.normalize("NFC" if form == "nfc" else "NFKC", text)
    return " ".join(text.split())
