"""What data look like to a model: one small class for each kind of data.

`inputs_of(config.data)` (hyperrun.data) makes one from a config, a set that has been read has one as `.inputs`, and
targets are built for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class Inputs:
    """What data look like to a model. Another kind of data has a class of its own."""

    word: ClassVar[str]
    """What targets that take such data say they take."""

    def of_one(self) -> Inputs:
        """Return what one target sees of them."""
        return self


@dataclass(frozen=True)
class Images(Inputs):
    """Labelled square images, float32 [B, channels, size, size] and int64 [B]."""

    word = "images"
    channels: int
    size: int
    """Side in pixels."""
    classes: int
    train: int
    """How many there are to train on."""


@dataclass(frozen=True)
class Symbols(Inputs):
    """A text as numbers of symbols, int64 [B, T]."""

    word = "text"
    vocabulary: int
    """How many symbols there are."""


@dataclass(frozen=True)
class Tasks(Inputs):
    """Several sets of images of one shape."""

    word = "images"
    images: Images
    """Of each task. How many there are to train on is another number for each: train=0."""
    count: int

    def of_one(self) -> Images:
        return self.images


@dataclass(frozen=True)
class Strokes(Inputs):
    """Pen strokes, float32 [B, T, 3]: dx and dy (normalized), and 1 where the pen is lifted after the point, else 0."""

    word = "strokes"


@dataclass(frozen=True)
class SentencePairs(Inputs):
    """Sentences and their translations as numbers of pieces, int64 [B, S] and [B, T]."""

    word = "pairs"
    source: int
    """How many pieces the vocabulary of the source has, PAD, BOS, EOS and UNK included."""
    target: int
    """How many that of the target has."""
    shared: bool
    """Whether both are one vocabulary."""


def few_rows(rows: int, up: bool = False) -> int:
    """Return the next power of 2 downwards (or upwards): batches with such numbers of rows have few shapes, so that
    what is compiled for one, which takes seconds, is used again."""
    return 1 << ((rows - 1).bit_length() if up else rows.bit_length() - 1)
