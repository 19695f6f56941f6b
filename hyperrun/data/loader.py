"""Batches of images on the device, by one of two paths that give the same batches.

`device`: the whole training split lies on the device as uint8 and a batch is a gather. `dataloader`: worker processes
fetch (and, for image folders, decode) uint8 batches. Either way the same functions of augment.py finish the batch.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset

from hyperrun.data.augment import Plan, crop_and_flip, cut_out, draw_plan, normalise, scale_and_shift
from hyperrun.data.images import ImageSet, ImageSplit, Split, cores, free_memory, seeded
from hyperrun.data.kinds import ImageData
from hyperrun.errors import UserError


class ImageLoader:
    """Feeds one process of a training run. Never touches the global random state.

    Attributes:
        batch_size: examples of a training batch over all processes; the whole split where that is smaller.
        steps_per_epoch: full batches in an epoch; the ragged rest is left out, so that shapes stay constant.
        path: device or dataloader.
        reason: why that one.
    """

    def __init__(
        self,
        data: ImageSet,
        cfg: ImageData,
        *,
        device: torch.device,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        channels_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Choose the path and, for the device path, put the training split on the device.

        Raises:
            UserError: batch_size does not divide among the processes, or the split is smaller than their number.
        """
        refuse_uneven(batch_size, world_size)
        whole = len(data.train) - len(data.train) % world_size
        if not whole:
            raise UserError(f"{data.name} has {len(data.train)} training examples for {world_size} processes")
        self.batch_size = min(batch_size, whole)
        self.steps_per_epoch = len(data.train) // self.batch_size
        self._data, self._cfg, self._device = data, cfg, device
        self._eval_batch_size, self._seed, self._channels_last = eval_batch_size, seed, channels_last
        self._rank, self._world_size = rank, world_size
        self._scale, self._shift = (values.to(device) for values in scale_and_shift(data.mean, data.std))
        self._workers = min(cfg.workers, cores())
        self.path, self.reason = choose_path(data, cfg, device, self._workers)
        self._padded: Tensor | None = None
        if self.path == "device":
            self._padded = self._pad(read(data.train).to(device))

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch from batch `start` on, in that epoch's order, augmented.

        Yields:
            x: float32 [batch_size / world_size, C, H, W], normalised, on the device: this process's slice of the batch.
            y: int64 [batch_size / world_size], the classes, on the device.
        """
        data, share = self._data, self.batch_size // self._world_size
        plan = draw_plan(len(data.train), data.image_size, self._cfg, seed=self._seed, epoch=epoch)
        first = [step * self.batch_size + self._rank * share for step in range(start, self.steps_per_epoch)]
        labels = data.train.labels[plan.order].to(self._device)
        if self._padded is not None:
            plan = plan.to(self._device)
            for at in first:
                here = slice(at, at + share)
                yield self._finish(self._padded, plan.order[here], plan[here]), labels[here]
            return
        fetched = self._fetch(data.train, [plan.order[at : at + share] for at in first])
        plan = plan.to(self._device)
        index = torch.arange(share, device=self._device)
        for at, images in zip(first, fetched, strict=True):
            here = slice(at, at + share)
            yield self._finish(self._pad(images), index, plan[here]), labels[here]

    def stream(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield training batches without end, from batch number `start` (0 is the first of epoch 0)."""
        epoch, offset = divmod(start, self.steps_per_epoch)
        while True:
            yield from self.train_batches(epoch, offset)
            epoch, offset = epoch + 1, 0

    def eval_batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a split ('train', 'val' or 'test') in its own order, not augmented; the last batch may be smaller.

        Of several processes, each gets every world_size-th batch.

        Yields:
            x: float32 [B, C, H, W], normalised, on the device.
            y: int64 [B], the classes, on the device.
        """
        part: Split = {"train": self._data.train, "val": self._data.val, "test": self._data.test}[split]
        batches = torch.arange(len(part)).split(self._eval_batch_size)[self._rank :: self._world_size]
        fetched = self._slices(part, batches) if isinstance(part, ImageSplit) else self._fetch(part, batches)
        for index, images in zip(batches, fetched, strict=True):
            with one_thread():
                x = normalise(images, self._scale, self._shift, channels_last=self._channels_last)
            yield x, part.labels[index].to(self._device)

    def _finish(self, padded: Tensor, index: Tensor, plan: Plan) -> Tensor:
        with one_thread():
            images = crop_and_flip(padded, index, plan, self._data.image_size)
            x = normalise(images, self._scale, self._shift, channels_last=self._channels_last)
            return cut_out(x, plan, self._cfg.cutout)

    def _pad(self, images: Tensor) -> Tensor:
        return pad(images, [self._cfg.crop_padding] * 4) if self._cfg.crop_padding else images.contiguous()

    def _slices(self, split: ImageSplit, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield consecutive images that lie in memory: no worker could fetch them faster."""
        for index in batches:
            yield split.images[int(index[0]) : int(index[-1]) + 1].to(self._device)

    def _fetch(self, split: Split, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the batches with these indices as uint8 [B, C, H, W] on the device, fetched by worker processes."""
        loader = DataLoader(
            _Batches(split, [index.tolist() for index in batches]),
            batch_size=None,  # an item is a batch already
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            generator=seeded("workers"),  # else starting the workers draws from the global generator
        )
        with warnings.catch_warnings():
            # Python >= 3.12 warns of fork in a process with threads; the workers run torch on one thread, as they must.
            warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)
            fetched = iter(loader)
        for images in fetched:
            if isinstance(images, str):
                raise UserError(images)
            yield images.to(self._device, non_blocking=True)


class _Batches(Dataset[Tensor | str]):
    """What worker processes run: item i is batch i, or the text of the UserError that its fetching met."""

    def __init__(self, split: Split, batches: list[list[int]]) -> None:
        self.split, self.batches = split, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> Tensor | str:
        try:
            return self.split.fetch(torch.tensor(self.batches[i], dtype=torch.int64))
        except UserError as error:  # DataLoader would wrap the traceback into the message
            return str(error)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's CPU operators on the calling thread alone.

    A batch is a handful of operators of well under a millisecond. With another process on the machine they spend far
    longer waiting for each other's threads than they gain (2 busy cores: 45,000 images a second instead of 260,000).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # costs a quarter of a microsecond
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def read(split: Split) -> Tensor:
    """Return all images of a split, uint8 [N, C, H, W]."""
    return split.images if isinstance(split, ImageSplit) else split.read().images


def choose_path(data: ImageSet, cfg: ImageData, device: torch.device, workers: int) -> tuple[str, str]:
    """Return the loader path ('device' or 'dataloader') and the reason for it, in words."""
    if cfg.loader != "auto":
        return cfg.loader, f"data.loader={cfg.loader}"
    channels, side = data.channels, data.image_size + 2 * cfg.crop_padding
    needed, free = len(data.train) * channels * side * side, free_memory(device)
    size = f"{needed / 2**20:.0f} MiB"
    if not isinstance(data.train, ImageSplit):
        return "dataloader", f"the pictures are decoded as they are needed, by {workers} workers"
    if free is not None and 4 * needed > free:
        return (
            "dataloader",
            f"{size} is over a quarter of the {free / 2**30:.1f} GiB free on {device}; {workers} workers",
        )
    said = f" is under a quarter of the {free / 2**30:.1f} GiB free on {device}" if free is not None else ""
    return "device", f"{size}{said}"


def refuse_uneven(batch_size: int, processes: int) -> None:
    """Refuse trainer.batch_size that is not of equally many examples in each process.

    Raises:
        UserError: such a one.
    """
    if batch_size % processes:
        raise UserError(f"trainer.batch_size={batch_size} must be a multiple of the {processes} processes")


def device_or_host(parts: Iterable[Tensor], device: torch.device) -> tuple[str, str]:
    """Return where tensors that are read all through a training lie ('device' or 'host') and the reason, in words."""
    needed, free = sum(part.numel() * part.element_size() for part in parts), free_memory(device)
    size = f"{needed / 2**20:.1f} MiB"
    if device.type == "cpu":
        return "device", f"{size} in memory"
    if free is not None and 4 * needed > free:
        return "host", f"{size} is over a quarter of the {free / 2**30:.1f} GiB free on {device}"
    said = f" is under a quarter of the {free / 2**30:.1f} GiB free on {device}" if free is not None else ""
    return "device", f"{size}{said}"
