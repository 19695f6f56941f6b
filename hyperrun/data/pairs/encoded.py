"""Splits as numbers: written to files a chunk at a time, and mapped into memory from there.

So the memory that a set takes does not grow with it: 36 million pairs are 9 GB of files, of which the pages that the
next batches need are in memory.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from hyperrun.data.pairs.learn import chunks
from hyperrun.data.pairs.lines import Texts
from hyperrun.data.pairs.pieces import Pieces
from hyperrun.data.pairs.progress import Counted

SIDES = ("source", "target")


@dataclass(frozen=True)
class Side:
    """One language of a split: the pieces of sentence i are ids[offsets[i] : offsets[i + 1]], without BOS and EOS."""

    ids: np.ndarray
    """int32 [N], a file that is mapped into memory, read-only."""
    offsets: np.ndarray
    """int64 [S + 1], as well."""
    texts: Sequence[str]
    """The sentences as their file has them; empty for the training split."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        """Return the pieces of sentence i, int32 [n]."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Pieces of each sentence, int64 [S]."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class PairSplit:
    """Sentences and their translations, as pieces."""

    source: Side
    """What is translated."""
    target: Side
    """Its translations; `target.texts` are the references that a translation is compared with."""
    left_out: dict[str, int]
    """Why pairs were left out -> how many: dropped_empty, dropped_long."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def predicted(self) -> int:
        """Pieces that a model predicts: those of the targets, and the end of each."""
        return len(self.target.ids) + len(self)


def write_split(
    folder: Path,
    texts: tuple[Texts, Texts],
    pieces: tuple[Pieces, Pieces],
    *,
    most: int | None,
    what: str,
    progress: Counted,
) -> None:
    """Write the pairs as numbers to files in a folder, for read_split.

    Args:
        folder: where to; it exists.
        texts: the sentences, and their translations: as many.
        pieces: of the sentences, and of the translations.
        most: pairs with more pieces on a side, or with none on one, are left out and counted, and the texts are not
            kept, as training needs them no more; None: every pair stays, and so do the texts.
        what: how progress calls it.
        progress: called after each chunk.
    """
    empty = long = done = 0
    kept_texts: tuple[list[str], list[str]] = [], []
    with ExitStack() as stack:
        streams = [[stack.enter_context((folder / f"{s}.{e}").open("wb")) for e in ("ids", "offsets")] for s in SIDES]
        ends = [0, 0]
        for _, offsets in streams:
            np.zeros(1, np.int64).tofile(offsets)
        for chunk in zip(chunks(texts[0]), chunks(texts[1]), strict=True):
            encoded = [one.encode(part) for one, part in zip(pieces, chunk, strict=True)]
            done += len(chunk[0])
            if most is None:
                for kept, part in zip(kept_texts, chunk, strict=True):
                    kept.extend(part)
            else:
                rows = list(zip(*encoded, strict=True))
                full = [row for row in rows if row[0] and row[1]]
                fits = [row for row in full if len(row[0]) <= most and len(row[1]) <= most]
                empty, long = empty + len(rows) - len(full), long + len(full) - len(fits)
                encoded = [[row[i] for row in fits] for i in (0, 1)]
            for i, (ids, offsets) in enumerate(streams):
                ends[i] = append(ids, offsets, encoded[i], ends[i])
            progress(what, done, len(texts[0]))
    if most is None:
        (folder / "texts.json").write_text(json.dumps(kept_texts, ensure_ascii=False), encoding="utf-8")
    (folder / "left_out.json").write_text(json.dumps({"dropped_empty": empty, "dropped_long": long}))


def append(ids: IO[bytes], offsets: IO[bytes], rows: Sequence[Sequence[int]], end: int) -> int:
    """Write rows of numbers behind those that are there, `end` numbers in all; return how many there are then."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    numbers = array("i")
    for row in rows:
        numbers.extend(row)
    numbers.tofile(ids)
    (end + lengths.cumsum()).tofile(offsets)
    return end + len(numbers)


def read_split(folder: Path) -> PairSplit:
    """Return what write_split wrote, mapped into memory."""
    texts = folder / "texts.json"
    both = json.loads(texts.read_text(encoding="utf-8")) if texts.exists() else ((), ())
    sides = [
        Side(mapped(folder / f"{side}.ids", np.int32), mapped(folder / f"{side}.offsets", np.int64), of)
        for side, of in zip(SIDES, both, strict=True)
    ]
    return PairSplit(sides[0], sides[1], json.loads((folder / "left_out.json").read_text()))


def mapped(path: Path, dtype: type[np.integer]) -> np.ndarray:
    """Return a file of numbers [N] as an array that is read where and when it is looked at."""
    if not path.stat().st_size:
        return np.zeros(0, dtype)  # nothing cannot be mapped
    return np.asarray(np.memmap(path, dtype, "r"))
