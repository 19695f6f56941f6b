"""Chunks of text for truncated back-propagation, and whole splits for evaluation.

Training reads a text as `batch_size` contiguous streams, side by side; a batch is the next `sequence_length` symbols of
each, so the state that a model had after batch i is where it begins batch i + 1. What a batch holds follows from the
epoch and its number alone: a resumed run needs the model's state and nothing from here.

Evaluation predicts every symbol of a split but the very first exactly once. The split is cut into `eval_streams`
pieces; each is read from `eval_burn_in` symbols before its beginning, unscored, so that its state is warm. The streams
are a property of the data: how many of them are read at a time, and in chunks of what length, changes nothing but the
memory and time it takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hyperrun.data.images import seeded
from hyperrun.data.kinds import TextData
from hyperrun.data.loader import device_or_host, one_thread, refuse_uneven
from hyperrun.data.text import UNITS, TextSet
from hyperrun.errors import UserError


def chunks_in(data: TextSet, length: int, world_size: int = 1) -> int:
    """Return how many whole chunks of `length` symbols there are to train on.

    Raises:
        UserError: not one for each process.
    """
    chunks = (len(data.train) - 1) // length  # the first symbol of a text is predicted from nothing
    if chunks < world_size:
        each = f" for each of {world_size} processes" if world_size > 1 else ""
        raise UserError(
            f"{data.name} has {len(data.train):,} {UNITS[data.unit]} to train on, fewer than one chunk of "
            f"data.sequence_length={length} and the one after it{each}: lower data.sequence_length"
        )
    return chunks


class TextLoader:
    """Feeds one process of a training run. Never touches the global random state.

    Attributes:
        batch_size: streams of training over all processes; fewer where the text has no chunk for each of so many.
        sequence_length: symbols of one chunk.
        steps_per_epoch: full chunks in an epoch; the ragged rest is left out, so that shapes stay constant.
        path: device, or host where the text would take more than a quarter of the device's free memory.
        reason: why that one.
    """

    def __init__(
        self,
        data: TextSet,
        cfg: TextData,
        *,
        device: torch.device,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Lay the streams out and, where it fits, put the text on the device.

        Args:
            data: the text.
            cfg: its config: sequence_length, eval_streams, eval_burn_in.
            device: where batches are wanted.
            batch_size: streams of training, over all processes.
            eval_batch_size: streams that one process evaluates at a time.
            seed: of the place in the text at which an epoch begins.
            rank: which process this is.
            world_size: of how many.

        Raises:
            UserError: batch_size does not divide among the processes, or the text is shorter than one chunk for each.
        """
        refuse_uneven(batch_size, world_size)
        self.sequence_length = length = cfg.sequence_length
        chunks = chunks_in(data, length, world_size)
        self.batch_size = min(batch_size, chunks - chunks % world_size)
        self.steps_per_epoch = chunks // self.batch_size
        self._share = self.batch_size // world_size
        self._cfg, self._device, self._seed = cfg, device, seed
        self._eval_batch_size, self._rank, self._world_size = eval_batch_size, rank, world_size
        self.path, self.reason = device_or_host((data.train, data.val, data.test), device)
        home = device if self.path == "device" else torch.device("cpu")
        self._splits = {name: getattr(data, name).to(home) for name in ("train", "val", "test")}

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Yield the batches of an epoch from batch `start` on.

        Yields:
            inputs: int64 [batch_size / world_size, sequence_length], on the device: this process's streams.
            targets: int64, the same shape: after each input, the symbol that follows it.
            first: whether the model's state is to be reset before this batch: at the beginning of an epoch.
        """
        train, length = self._splits["train"], self.sequence_length
        per_stream = self.steps_per_epoch * length
        begin = self.offset(epoch) + self._rank * self._share * per_stream
        streams = train.as_strided((self._share, per_stream + 1), (per_stream, 1), train.storage_offset() + begin)
        for step in range(start, self.steps_per_epoch):
            at = step * length
            inputs, targets = streams[:, at : at + length], streams[:, at + 1 : at + length + 1]
            yield self._wide(inputs), self._wide(targets), step == 0

    def offset(self, epoch: int) -> int:
        """Return the place in the text at which an epoch's streams begin: 0 at first, then drawn.

        A batch takes whole chunks, so that less than one batch of text is left over; beginning elsewhere in each epoch,
        all of it is learned from sooner or later, and chunks do not end at the same places for ever.
        """
        left = len(self._splits["train"]) - 1 - self.batch_size * self.steps_per_epoch * self.sequence_length
        if epoch == 0 or left == 0:
            return 0
        return int(torch.randint(left + 1, (), generator=seeded(self._seed, epoch, "offset")))

    def eval_batches(self, split: str, chunk: int | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor, bool]]:
        """Yield a split ('train', 'val' or 'test'), group after group of this process's streams, chunk by chunk.

        Of several processes, each gets every world_size-th stream; one may get none. `chunk` is the length of a chunk,
        sequence_length where it is not given.

        Yields:
            inputs: int64 [G, chunk] on the device, G at most eval_batch_size; 0 beyond the end of a stream.
            targets: int64 [G, chunk]: after each input, the symbol that follows it.
            scored: bool [G, chunk]: the targets that count; not those of a burn-in, nor those beyond the end.
            first: whether the model's state is to be reset: at the beginning of a group.
        """
        ids, length = self._splits[split], chunk or self.sequence_length
        begin, score, end = stream_bounds(len(ids), self._cfg.eval_streams, self._cfg.eval_burn_in)
        mine = slice(self._rank, None, self._world_size)
        groups = [part[mine].split(self._eval_batch_size) for part in (begin, score, end)]
        for begin, score, end in zip(*groups, strict=True):
            longest = int((end - begin).max()) - 1 if len(begin) else 0
            begin, score, end = (bound[:, None].to(ids.device) for bound in (begin, score, end))
            for at in range(0, longest, length):
                with one_thread():
                    place = begin + torch.arange(at + 1, at + length + 1, device=ids.device)  # of the targets
                    within = place < end
                    place = torch.where(within, place, 1)
                    inputs, targets = (torch.where(within, ids[place - back], 0) for back in (1, 0))
                    scored = within & (place >= score)
                yield self._wide(inputs), self._wide(targets), scored.to(self._device), at == 0

    def _wide(self, ids: Tensor) -> Tensor:
        """Return the numbers as int64 on the device, a copy of their own."""
        with one_thread():
            return ids.to(self._device, non_blocking=True).to(torch.int64).contiguous()


def stream_bounds(count: int, streams: int, burn_in: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the streams of an evaluation begin, score and end: three int64 [S] on the CPU.

    A stream's first input is symbol `begin`; of the targets `begin` + 1 .. `end` - 1 those from `score` on are scored.
    The scored targets of all streams are 1 .. count - 1, each once, in pieces whose lengths differ by one at most. S is
    `streams`, or count - 1 where that is smaller.
    """
    predicted = count - 1
    streams = min(streams, predicted)
    edges = torch.arange(streams + 1) * predicted // streams + 1
    score, end = edges[:-1], edges[1:]
    return (score - 1 - burn_in).clamp_min(0), score, end
