"""Sets of pairs: what every one of them is read into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.cache import cache_root, kept, key_of
from hyperrun.data.pairs.encoded import PairSplit, read_split, write_split
from hyperrun.data.pairs.learn import learned
from hyperrun.data.pairs.lines import ListedTexts, Texts
from hyperrun.data.pairs.pieces import BothPieces, Pieces
from hyperrun.data.pairs.progress import Counted, counted
from hyperrun.errors import UserError
from hyperrun.inputs import SentencePairs

SPLITS = ("train", "val", "test")
VERSION = 1
"""Of the files in which prepared pairs are kept: another number, and they are made anew."""


@dataclass(frozen=True)
class RawPairs:
    """A split as its files have it: as many sentences as translations."""

    source: Texts
    target: Texts
    where: str
    """How errors name it."""

    @staticmethod
    def of(source: Sequence[str], target: Sequence[str], where: str = "made up") -> RawPairs:
        """Return a split of sentences in memory."""
        return RawPairs(ListedTexts(source), ListedTexts(target), where)


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
        return self.train.predicted / max(1, len(self.train))

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data: pairs of each split (0: there is no such split), pieces that
        are predicted in each, sizes of the vocabularies, and how many training pairs were dropped."""
        facts: dict[str, Any] = {"data/verified": self.verified}
        facts |= {f"data/{name}": len(self.splits.get(name, ())) for name in SPLITS}
        facts |= {f"data/{name}_pieces": split.predicted for name, split in self.splits.items()}
        facts |= {"data/source_vocabulary": len(self.source_pieces), "data/target_vocabulary": len(self.target_pieces)}
        facts |= {f"data/{what}": count for what, count in self.train.left_out.items() if count}
        return facts | {"data/fingerprint": self.fingerprint}

    def describe(self) -> str:
        """Return in a few words what there is: "multi30k: 29,000 / 1,014 / 1,000 pairs, 16 target pieces each, of 8,000
        (shared)"."""
        counts = " / ".join(f"{len(split):,}" for split in self.splits.values())
        no_test = "" if self.test is not None else " (no test split)"
        out = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in self.train.left_out.items() if count)
        shared = "shared" if self.inputs.shared else "for each language"
        return (
            f"{self.name}: {counts} pairs{no_test}, {self.mean_predicted:,.0f} target pieces each, of "
            f"{len(self.target_pieces):,} ({shared})" + (f"; {out}" if out else "")
        )


def make_pairs(
    name: str,
    cfg: PairData,
    pieces: BothPieces | None = None,
    *,
    train: RawPairs | None,
    val: RawPairs,
    test: RawPairs | None = None,
    verified: bool = True,
) -> PairSet:
    """Return the set: its pieces, learned from the training pairs, and every pair as numbers of pieces.

    A training pair with an empty side, or with more than cfg.max_length pieces on one, is dropped and counted. What was
    learned and numbered is kept in files, by the sentences and the settings (see cache.py).

    Args:
        name: the set's, as it was registered.
        cfg: its config.
        pieces: those that a run has learned, of source and target, instead of learning them.
        train: what is learned from; None only with `pieces`.
        val: what validates.
        test: what tests, if there is something.
        verified: whether the files are as published.

    Raises:
        UserError: unequal numbers of sentences and translations; nothing is left to train on; as learn.learned.
    """
    raw = {"train": train, "val": val, "test": test}
    for one in raw.values():
        check_equal(one)
    root = cache_root(cfg.root)
    with counted() as progress:
        if pieces is None:
            assert train is not None, "pieces are learned from training pairs"
            pieces = learn_or_read(cfg, train, progress)
        digests, splits = [], {}
        for split, pairs in raw.items():
            if split == "test" and pairs is None:
                continue
            pairs = pairs or RawPairs.of((), ())
            texts, most = (pairs.source, pairs.target), cfg.max_length if split == "train" else None
            what = ((one.digest, two.model.hex(), two.normalization) for one, two in zip(texts, pieces, strict=True))
            digests.append(key_of(most, *what))
            folder = kept(
                root,
                key_of(VERSION, digests[-1]),
                lambda part, texts=texts, most=most, split=split: write_split(
                    part, texts, pieces, most=most, what=f"{name}: {split}", progress=progress
                ),
            )
            splits[split] = read_split(folder)
    if train is not None and not len(splits["train"]):
        raise UserError(
            f"{train.where}: nothing is left to train on: every pair has an empty side or more than "
            f"data.max_length={cfg.max_length} pieces on one"
        )
    return PairSet(
        name,
        train=splits["train"],
        val=splits["val"],
        test=splits.get("test"),
        source_pieces=pieces[0],
        target_pieces=pieces[1],
        verified=verified,
        fingerprint=key_of(*digests)[:8],
    )


def check_equal(pairs: RawPairs | None) -> None:
    """Refuse a split whose sides do not stand line beside line.

    Raises:
        UserError: they have unequal numbers of sentences.
    """
    if pairs is not None and len(pairs.source) != len(pairs.target):
        raise UserError(
            f"{pairs.where}: {len(pairs.source):,} sentences and {len(pairs.target):,} translations; line by line they "
            "must belong together"
        )


def learn_or_read(cfg: PairData, train: RawPairs, progress: Counted) -> BothPieces:
    """Return the vocabularies of training pairs, from files where they were learned before.

    Raises:
        UserError: as learn.learned.
    """
    found = []
    for texts in [[train.source, train.target]] if cfg.shared_vocabulary else [[train.source], [train.target]]:
        settings = (cfg.pieces, cfg.byte_fallback, cfg.normalization, *(one.digest for one in texts))
        folder = kept(
            cache_root(cfg.root),
            key_of(VERSION, "pieces", *settings),
            lambda part, texts=texts: (part / "model").write_bytes(learned(texts, cfg, train.where, progress)),
        )
        found.append(Pieces((folder / "model").read_bytes(), cfg.normalization))
    return found[0], found[-1]
