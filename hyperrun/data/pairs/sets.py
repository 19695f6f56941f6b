"""Sets of pairs: what every one of them is read into."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.pieces import Pieces, learn_pieces
from hyperrun.errors import UserError
from hyperrun.inputs import SentencePairs

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Side:
    """One language of a split: the pieces of sentence i are ids[offsets[i] : offsets[i + 1]], without BOS and EOS."""

    ids: np.ndarray
    """int32 [N]; of a large set a file that is mapped into memory, so do not write to it."""
    offsets: np.ndarray
    """int64 [S + 1]"""
    texts: Sequence[str]
    """The sentences as their file has them, without the end of the line; empty for the training split."""

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

    def __len__(self) -> int:
        return len(self.source)

    @property
    def predicted(self) -> int:
        """Pieces that a model predicts: those of the targets, and the end of each."""
        return len(self.target.ids) + len(self)


@dataclass(frozen=True)
class PairSet:
    """A set of pairs. Shared between the jobs of a sweep: read it, do not write to it."""

    name: str
    """Its name, as it was registered."""
    train: PairSplit
    """What is learned from."""
    val: PairSplit
    """What selects the checkpoint."""
    test: PairSplit | None
    """What is read once, for the selected checkpoint; None where the set has no such split."""
    source_pieces: Pieces
    """The vocabulary of the source."""
    target_pieces: Pieces
    """That of the target; the same object where it is shared."""
    verified: bool
    """False if data.verify=false made us accept files whose checksum differs."""
    fingerprint: str
    """Eight hexadecimal digits that differ where the sentences, their split or their pieces do."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What was done to pairs of the training text -> how often: see facts."""

    @property
    def inputs(self) -> SentencePairs:
        """What the pairs look like to a model."""
        return SentencePairs(len(self.source_pieces), len(self.target_pieces), self.source_pieces is self.target_pieces)

    @property
    def splits(self) -> dict[str, PairSplit]:
        """The splits that there are, by name."""
        return {name: split for name in SPLITS if (split := getattr(self, name)) is not None}

    @property
    def mean_predicted(self) -> float:
        """Predicted pieces of a training pair, in the mean."""
        return self.train.predicted / len(self.train)

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data: pairs of each split (0: there is no such split), pieces that
        are predicted in each, sizes of the vocabularies, and how many training pairs were dropped."""
        facts: dict[str, Any] = {"data/verified": self.verified}
        facts |= {f"data/{name}": len(self.splits.get(name, ())) for name in SPLITS}
        facts |= {f"data/{name}_pieces": split.predicted for name, split in self.splits.items()}
        facts |= {"data/source_vocabulary": len(self.source_pieces), "data/target_vocabulary": len(self.target_pieces)}
        facts |= {f"data/{what}": count for what, count in self.left_out.items()}
        return facts | {"data/fingerprint": self.fingerprint}

    def describe(self) -> str:
        """Return in a few words what there is: "multi30k: 29,000 / 1,014 / 1,000 pairs, 16 pieces each of 8,000"."""
        counts = " / ".join(f"{len(split):,}" for split in self.splits.values())
        no_test = "" if self.test is not None else " (no test split)"
        out = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in self.left_out.items() if count)
        shared = "shared" if self.inputs.shared else "for each language"
        return (
            f"{self.name}: {counts} pairs{no_test}, {self.mean_predicted:,.0f} target pieces each, of "
            f"{len(self.target_pieces):,} ({shared})" + (f"; {out}" if out else "")
        )


@dataclass(frozen=True)
class RawPairs:
    """A split as a file has it: sentences, and their translations."""

    source: Sequence[str]
    target: Sequence[str]


def make_pairs(
    name: str,
    cfg: PairData,
    *,
    train: RawPairs,
    val: RawPairs,
    test: RawPairs | None = None,
    verified: bool = True,
) -> PairSet:
    """Return the set: its pieces learned from the training pairs, and every pair as pieces.

    A training pair with an empty side, or more than cfg.max_length pieces on one, is dropped and counted.

    Raises:
        UserError: nothing is left to train on or to validate by; as learn_pieces.
    """
    if cfg.shared_vocabulary:
        source = target = learn_pieces(chain(train.source, train.target), cfg, name)
    else:
        source, target = learn_pieces(train.source, cfg, name), learn_pieces(train.target, cfg, name)
    left_out: Counter[str] = Counter(dropped_empty=0, dropped_long=0)
    raw = {"train": train, "val": val} | ({"test": test} if test is not None else {})
    splits = {}
    digest = hashlib.sha256(source.model + target.model)
    for split, pairs in raw.items():
        rows = list(zip(source.encode(pairs.source), target.encode(pairs.target), strict=True))
        if split == "train":
            empty = [not (a and b) for a, b in rows]
            long = [max(len(a), len(b)) > cfg.max_length for a, b in rows]
            left_out["dropped_empty"] += sum(empty)
            left_out["dropped_long"] += sum(long)
            rows = [row for row, *gone in zip(rows, empty, long, strict=True) if not any(gone)]
        if not rows:
            raise UserError(f"{name}: nothing is left of {split}")
        texts = ((), ()) if split == "train" else (pairs.source, pairs.target)
        splits[split] = PairSplit(
            *(side(column, text) for column, text in zip(zip(*rows, strict=True), texts, strict=True))
        )
        for one in (splits[split].source, splits[split].target):
            digest.update(one.offsets.data)
            digest.update(one.ids.data)
    return PairSet(
        name,
        train=splits["train"],
        val=splits["val"],
        test=splits.get("test"),
        source_pieces=source,
        target_pieces=target,
        verified=verified,
        fingerprint=digest.hexdigest()[:8],
        left_out=dict(left_out),
    )


def side(rows: Sequence[Sequence[int]], texts: Sequence[str]) -> Side:
    ids = np.fromiter(chain.from_iterable(rows), np.int32)
    return Side(ids, np.cumsum([0, *map(len, rows)], dtype=np.int64), texts)
