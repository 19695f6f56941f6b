"""Batches of pen strokes: sequences of about the same length, padded, whole or in chunks with a carried state.

Training. An epoch has every training sequence exactly once. Sequences are put in order of the length that they are
padded to (whole ones: one of `data.buckets` lengths; in chunks: the number of chunks), in an order drawn anew within
each of these lengths, and cut into batches of sizes that differ by one at most: the leftovers of a bucket are at the
beginning of a batch that goes on with the next longer ones. The batches come in an order that is drawn, too. All
batches have batch_size rows; where the sequences do not fill the last of them, empty rows (length 0) are spread
among them. What a batch holds follows from the seed, the epoch and its number alone.

Evaluation. Every sequence of a split comes once, in chunks with the state carried, in groups of about equal length and
of eval_batch_size at most: which group it is in changes nothing but the memory and time it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hyperrun.data.images import seeded
from hyperrun.data.kinds import StrokeData
from hyperrun.data.loader import device_or_host, one_thread, refuse_uneven
from hyperrun.data.strokes.sets import StrokeSet, StrokeSplit
from hyperrun.errors import UserError

EVAL_CHUNK = 256
"""Most steps of a chunk of evaluation where data.sequence_length does not say."""

Batch = tuple[Tensor, Tensor, bool]
"""points: float32 [B, T, 3] on the device, where the first T - 1 predict the last T - 1, and 0 beyond a sequence's end.
lengths: int64 [B] on the CPU: how many of the T - 1 predicted points of each row are the sequence's; 0 for a row that
is empty or has ended in an earlier chunk. first: whether the rows begin, so that the model's state is to be reset."""


class StrokeLoader:
    """Feeds one process of a training run. Never touches the global random state.

    Attributes:
        batch_size: sequences of a training batch over all processes, empty rows included; fewer where there are not so
            many sequences.
        sequences_per_epoch: training sequences: all of them come in each epoch.
        steps_per_epoch: batches that train_batches yields in an epoch: one for each chunk.
        sequences_per_step: sequences in one of these, over all processes, in the mean; a sequence in three chunks
            counts a third in each.
        mean_predicted: predicted points of a training sequence, in the mean.
        lengths: T of the training batches, each once.
        path: device, or host where the strokes would take more than a quarter of the device's free memory.
        reason: why that one.
    """

    def __init__(
        self,
        data: StrokeSet,
        cfg: StrokeData,
        *,
        device: torch.device,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Lay the batches out and, where they fit, put the strokes on the device.

        Args:
            data: the strokes.
            cfg: their config: buckets, sequence_length, scale.
            device: where batches are wanted.
            batch_size: sequences of training, over all processes.
            eval_batch_size: sequences that one process evaluates at a time.
            seed: of the order and of the random scaling.
            rank: which process this is.
            world_size: of how many.

        Raises:
            UserError: batch_size does not divide among the processes, or there are fewer sequences than processes.
        """
        refuse_uneven(batch_size, world_size)
        count = len(data.train)
        if count < world_size:
            raise UserError(f"{data.name} has {count} training sequences for {world_size} processes")
        self.batch_size = min(batch_size, -(-count // world_size) * world_size)
        self.sequences_per_epoch, self.mean_predicted = count, data.mean_predicted
        self._share, self._rank, self._world_size = self.batch_size // world_size, rank, world_size
        self._cfg, self._device, self._seed, self._eval_batch_size = cfg, device, seed, eval_batch_size
        self._sizes = batch_sizes(count, self.batch_size)
        lengths = data.train.lengths
        chunk = cfg.sequence_length
        self._padded = padded_lengths(lengths, cfg.buckets) if chunk is None else (lengths - 2) // chunk + 1
        longest = [int(part[-1]) for part in self._padded.sort().values.split(self._sizes)]
        self._chunks = torch.tensor([1] * len(longest) if chunk is None else longest)
        """Of each batch, from the shortest sequences to the longest."""
        self._longest = longest
        self.lengths = sorted(set(longest)) if chunk is None else [chunk + 1]
        self.steps_per_epoch = int(self._chunks.sum())
        self.sequences_per_step = count / self.steps_per_epoch
        self.path, self.reason = device_or_host([split.points for split in data.splits.values()], device)
        home = device if self.path == "device" else torch.device("cpu")
        self._splits = {name: split.points.to(home) for name, split in data.splits.items()}
        self._data = data
        self._shift = (data.mean / data.std).float().to(home)

    # ---------------------------------------------------------------- training

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `start` on: of a batch in chunks, chunk after chunk."""
        members, scales = self._members(epoch), self._scales(epoch)
        order = torch.randperm(len(self._sizes), generator=seeded(self._seed, epoch, "batches"))
        ends = self._chunks[order].cumsum(0)
        chunk = self._cfg.sequence_length
        for step in range(start, self.steps_per_epoch):
            at = int(torch.searchsorted(ends, step, right=True))
            batch = int(order[at])
            number = step - int(ends[at] - self._chunks[batch])
            rows = spread(members[batch], self.batch_size)[self._rank * self._share :][: self._share]
            length = self._longest[batch] - 1 if chunk is None else chunk
            yield *self._cut("train", rows, number * length, length, scales), number == 0

    def _members(self, epoch: int) -> list[Tensor]:
        """Return the numbers of the sequences in each batch, from the shortest batch to the longest."""
        order = torch.randperm(self.sequences_per_epoch, generator=seeded(self._seed, epoch, "order"))
        return list(order[self._padded[order].argsort(stable=True)].split(self._sizes))

    def _scales(self, epoch: int) -> Tensor | None:
        """Return the factors by which an epoch's sequences are made larger, float32 [S], by their numbers."""
        scale = self._cfg.scale
        if not scale:
            return None
        drawn = torch.rand(self.sequences_per_epoch, generator=seeded(self._seed, epoch, "scale"))
        return 1 + scale * (2 * drawn - 1)

    # ---------------------------------------------------------------- evaluation

    def eval_batches(self, split: str, chunk: int | None = None) -> Iterator[Batch]:
        """Yield a split ('train', 'val' or 'test'), group after group of this process's sequences, chunk by chunk; not
        scaled. Of several processes, each gets every world_size-th sequence, the shortest first; one may get none.

        A chunk has `chunk` steps at most (data.sequence_length, or EVAL_CHUNK, where it is not given), all chunks of a
        group equally many. A group has the sequences of one bucket, eval_batch_size at most.
        """
        most = chunk or self._cfg.sequence_length or EVAL_CHUNK
        lengths = self._data.splits[split].lengths
        padded = padded_lengths(lengths, self._cfg.buckets)
        mine = lengths.argsort(stable=True)[self._rank :: self._world_size]
        tops, counts = padded[mine].unique_consecutive(return_counts=True)
        for top, numbers in zip(tops.tolist(), mine.split(counts.tolist()), strict=True):
            chunks = -(-(top - 1) // most)
            length = -(-(top - 1) // chunks)
            for rows in numbers.split(self._eval_batch_size):
                for at in range(0, int(lengths[rows[-1]]) - 1, length):
                    yield *self._cut(split, rows, at, length, None), at == 0

    # ---------------------------------------------------------------- one batch

    def _cut(self, split: str, rows: Tensor, begin: int, length: int, scales: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return points begin .. begin + length of the sequences with these numbers (-1: an empty row), float32 [B,
        length + 1, 3], and how many points after the first there are of each, int64 [B]."""
        part: StrokeSplit = self._data.splits[split]
        with one_thread():
            there = rows.clamp_min(0)
            ends = part.offsets[there + 1]
            starts = part.offsets[there] + begin
            lengths = torch.where(rows < 0, 0, (ends - starts - 1).clamp(0, length))
            steps, last = torch.arange(length + 1), torch.where(lengths > 0, lengths, -1)
            points = self._splits[split]
            # one transfer, which waits for nothing; -1 where there is no point
            place = torch.where(steps <= last[:, None], starts[:, None] + steps, -1).to(
                points.device, non_blocking=True
            )
            cut = points[place.clamp_min(0)]
            if scales is not None:
                # what was written is scaled, not what is left when the mean is taken off; the first point stays 0, 0
                factor = scales[there].to(points.device, non_blocking=True)[:, None, None]
                cut[..., :2] = cut[..., :2] * factor + (factor - 1) * self._shift
                if begin == 0:
                    cut[:, 0, :2] = 0
            cut.masked_fill_((place < 0)[..., None], 0)
            return cut.to(self._device, non_blocking=True), lengths


def batch_sizes(count: int, most: int) -> list[int]:
    """Return how many of `count` sequences are in each of as few batches as there can be: `most` or a little fewer."""
    batches = -(-count // most)
    return [(i + 1) * count // batches - i * count // batches for i in range(batches)]


def spread(numbers: Tensor, size: int) -> Tensor:
    """Return int64 [size] with the numbers in order, and -1 between them, evenly, where there are fewer."""
    rows = torch.full((size,), -1)
    rows[torch.arange(len(numbers)) * size // len(numbers)] = numbers
    return rows


def padded_lengths(lengths: Tensor, buckets: int) -> Tensor:
    """Return to what each of the lengths (int64 [S]) is padded: `buckets` different ones, with the least padding."""
    different, counts = (part.numpy() for part in lengths.unique(return_counts=True))
    tops = torch.tensor(best_tops(tuple(different.tolist()), tuple(counts.tolist()), buckets))
    return tops[torch.searchsorted(tops, lengths)]


@lru_cache(maxsize=8)
def best_tops(lengths: tuple[int, ...], counts: tuple[int, ...], buckets: int) -> list[int]:
    """Return which of the rising lengths (each so often) are the longest of their bucket, such that the sum of all
    padded lengths is smallest. By dynamic programming over how many buckets there are up to each length."""
    top, many = np.array(lengths, np.float64), np.append(0, np.cumsum(counts)).astype(np.float64)
    n = len(top)
    cost = top * (many[1:] - many[:n, None])  # [i, j]: lengths i .. j in one bucket
    cost[np.tril_indices(n, -1)] = np.inf
    best, came = cost[0], []
    for _ in range(min(buckets, n) - 1):
        totals = np.append(np.inf, best[:-1])[:, None] + cost  # the last bucket begins at i
        came.append(totals.argmin(0))
        best = totals.min(0)
    tops, end = [n - 1], n - 1
    for begins in reversed(came):
        end = int(begins[end]) - 1
        tops.append(end)
    return [int(lengths[i]) for i in reversed(tops)]
