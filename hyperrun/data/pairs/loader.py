"""Batches of pairs: as many as fit into so many pieces, of about equal length.

Training. An epoch has every training pair once. Pairs are put in order of the length that their target is padded to
(one of `data.buckets`) and then of that of their source, in an order drawn anew within each, and cut into batches: of
as many rows as data.tokens_per_batch holds of the padded target, rounded down to a power of 2 (few_rows). The
leftovers of a target length are at the beginning of the first batch of the next longer one; the last batch of all is
smaller. So there are few shapes, the same in each epoch. The batches come in an order that is drawn, too. What a batch
holds follows from the seed, the epoch and its number alone.

Of several processes each gets an equal part of a batch's rows. Up to one pair less than there are processes, of the
last batch (the longest), is then left out of an epoch, another each time.

Evaluation. Every pair of a split comes once, with its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hyperrun.data.images import seeded
from hyperrun.data.kinds import PairData
from hyperrun.data.loader import one_thread
from hyperrun.data.pairs.encoded import Side
from hyperrun.data.pairs.pieces import BOS, EOS, PAD
from hyperrun.data.pairs.sets import PairSet
from hyperrun.data.strokes.loader import best_tops
from hyperrun.errors import UserError
from hyperrun.inputs import few_rows


class PairBatch(NamedTuple):
    """Some pairs, padded with PAD."""

    source: Tensor
    """int64 [B, S] on the device: pieces, then EOS."""
    source_lengths: Tensor
    """int64 [B] on the CPU, EOS included: at least 1."""
    target: Tensor
    """int64 [B, T + 1] on the device: BOS, pieces, EOS. The first T are what a model reads, the last T what it
    predicts."""
    target_lengths: Tensor
    """int64 [B] on the CPU: predicted pieces of each, EOS included: at least 1."""


class Plan(NamedTuple):
    """What is the same of a batch in each epoch."""

    begin: int
    """Of the pairs in order: the batch's first."""
    end: int
    source: int
    """S of the batch."""
    target: int
    """T of the batch."""


class PairLoader:
    """Feeds one process of a training run. Never touches the global random state.

    Attributes:
        pairs_per_epoch: training pairs that come in each epoch.
        steps_per_epoch: batches that train_batches yields in an epoch.
        pairs_per_step: pairs in one of these, over all processes, in the mean.
        shapes: (rows over all processes, S, T) of the training batches, each once.
        mean_predicted: predicted pieces of a training batch, over all processes, in the mean.
    """

    def __init__(
        self,
        data: PairSet,
        cfg: PairData,
        *,
        device: torch.device,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Lay the batches out.

        Args:
            data: the pairs.
            cfg: their config: tokens_per_batch, buckets.
            device: where batches are wanted.
            seed: of the order.
            rank: which process this is.
            world_size: of how many.

        Raises:
            UserError: tokens_per_batch has no room for a pair of the longest for each process, or there are fewer pairs
                than processes.
        """
        count = len(data.train)
        if count < world_size:
            raise UserError(f"{data.name} has {count} training pairs for {world_size} processes")
        self._data, self._cfg, self._device = data, cfg, device
        self._seed, self._rank, self._world_size = seed, rank, world_size
        source, target = (Lengths.of(part, cfg.buckets) for part in (data.train.source, data.train.target))
        if (longest := target.tops[-1]) * world_size > cfg.tokens_per_batch:
            raise UserError(
                f"data.tokens_per_batch={cfg.tokens_per_batch} has no room for the longest target of {data.name} "
                f"({longest} pieces)" + (f" on each of {world_size} processes" if world_size > 1 else "")
            )
        self._cells = target.places * np.uint16(len(source.tops)) + source.places
        """Of each pair, the place of its two padded lengths in order, by the target's and then by the source's. NumPy
        sorts uint16 in linear time."""
        counts = np.bincount(self._cells, minlength=len(target.tops) * len(source.tops))
        self._plan = plan(
            counts.reshape(len(target.tops), -1), source.tops, target.tops, cfg.tokens_per_batch, world_size
        )
        self.steps_per_epoch = len(self._plan)
        self.pairs_per_epoch = self._plan[-1].end
        self.pairs_per_step = self.pairs_per_epoch / self.steps_per_epoch
        self.mean_predicted = data.train.predicted / self.steps_per_epoch
        self.shapes = sorted({(one.end - one.begin, one.source, one.target) for one in self._plan})

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[PairBatch]:
        """Yield the batches of an epoch from batch `start` on: this process's rows of each."""
        order = self._order(epoch)
        batches = torch.randperm(self.steps_per_epoch, generator=seeded(self._seed, epoch, "batches"))
        for number in batches[start:].tolist():
            batch = self._plan[number]
            share = (batch.end - batch.begin) // self._world_size
            begin = batch.begin + self._rank * share
            yield self._cut("train", order[begin : begin + share], batch.source, batch.target)

    def _order(self, epoch: int) -> np.ndarray:
        """Return the numbers of the training pairs as the plan cuts them, shuffled within each cell."""
        drawn = torch.randperm(len(self._cells), generator=seeded(self._seed, epoch, "order")).numpy()
        return drawn[np.argsort(self._cells[drawn], kind="stable")]

    def eval_batches(self, split: str, tokens: int | None = None) -> Iterator[tuple[Tensor, PairBatch]]:
        """Yield a split ('train', 'val' or 'test'), the shortest sources first, in batches of `tokens` padded source or
        target pieces at most (data.tokens_per_batch where it is not given), or of one pair. Of several processes, each
        gets every world_size-th batch; one may get none.

        All but the last have a power of 2 pairs.

        Yields:
            numbers: int64 [B] on the CPU: which pairs these are.
            batch: the pairs.
        """
        part, most = self._data.splits[split], tokens or self._cfg.tokens_per_batch
        lengths = np.stack([part.source.lengths, part.target.lengths], 1) + 1
        order = np.lexsort((lengths[:, 1], lengths[:, 0]))
        groups, begin, at, longest = [], 0, 0, 0
        widths = lengths[order].max(1).tolist()
        while at < len(widths):
            longest = max(longest, widths[at])
            at += 1
            if at - begin > 1 and longest * (at - begin) > most:
                at = begin + few_rows(at - 1 - begin)
                groups.append(order[begin:at])
                begin, longest = at, 0
        groups.append(order[begin:])
        for rows in groups[self._rank :: self._world_size]:
            source, target = lengths[rows].max(0).tolist()
            yield torch.from_numpy(rows), self._cut(split, rows, source, target)

    def _cut(self, split: str, rows: np.ndarray, source: int, target: int) -> PairBatch:
        part = self._data.splits[split]
        with one_thread():
            read, source_lengths = gathered(part.source, rows, source)
            written, target_lengths = gathered(part.target, rows, target)
            written = torch.cat([torch.full((len(rows), 1), BOS), written], 1)
            source_on, target_on = (ids.to(self._device, non_blocking=True) for ids in (read, written))
        return PairBatch(source_on, source_lengths, target_on, target_lengths)


def gathered(side: Side, rows: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
    """Return sentences with EOS behind each, padded to a length: int64 [B, length], and their lengths, int64 [B]."""
    begins = side.offsets[rows]
    lengths = side.offsets[rows + 1] - begins
    steps = np.arange(length)
    within = steps < lengths[:, None]
    ids = np.full(within.shape, PAD, np.int64)
    ids[within] = side.ids[(begins[:, None] + steps)[within]]
    ids[np.arange(len(rows)), lengths] = EOS
    return torch.from_numpy(ids), torch.from_numpy(lengths + 1)


def sources(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return sentences of numbers (Pieces.encode) as a model reads them: source and source_lengths of a PairBatch."""
    lengths = torch.tensor([len(row) + 1 for row in rows])
    source = torch.full((len(rows), int(lengths.max())), PAD)
    for i, row in enumerate(rows):
        source[i, : len(row) + 1] = torch.tensor([*row, EOS])
    return source.to(device), lengths


# ---------------------------------------------------------------- the plan


class Lengths(NamedTuple):
    """To what the sentences of one language are padded, EOS included."""

    tops: list[int]
    """The different lengths, rising: those that give the least padding."""
    places: np.ndarray
    """uint16 [S]: of each sentence, the place in `tops` of the length that it is padded to."""

    @staticmethod
    def of(side: Side, buckets: int) -> Lengths:
        """Return `buckets` lengths, or as many as there are."""
        lengths = side.lengths + 1
        counts = np.bincount(lengths)
        there = np.flatnonzero(counts)
        tops = best_tops(tuple(there.tolist()), tuple(counts[there].tolist()), buckets)
        return Lengths(tops, np.searchsorted(tops, lengths).astype(np.uint16))


def plan(counts: np.ndarray, sources: list[int], targets: list[int], tokens: int, world_size: int) -> list[Plan]:
    """Return the batches, from the shortest targets to the longest; see the top of this file.

    counts: how many pairs there are of each padded length of target and source, int64 [targets, sources].
    """
    ends = counts.cumsum()
    found, at = [], 0

    def add(end: int, target: int) -> None:
        cells = np.arange(np.searchsorted(ends, at, "right"), np.searchsorted(ends, end - 1, "right") + 1)
        longest = (cells[counts.reshape(-1)[cells] > 0] % len(sources)).max()
        found.append(Plan(at, end, sources[longest], target))

    for target, end in zip(targets, ends[len(sources) - 1 :: len(sources)].tolist(), strict=True):
        rows = few_rows(tokens // target // world_size) * world_size
        while end - at >= rows:
            add(at + rows, target)
            at += rows
    if (left := (int(ends[-1]) - at) // world_size * world_size) > 0:
        add(at + left, targets[-1])
    return found
