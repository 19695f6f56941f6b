"""Sets of labelled images: what every data set is read into.

`ImageSplit` holds pictures in memory as uint8, `FolderSplit` decodes files when they are asked for. `make_set` turns
what a data set's own file read into an `ImageSet`: checked, with a validation split, with mean and deviation.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperrun.data.decode import decode
from hyperrun.data.kinds import ImageData
from hyperrun.errors import UserError
from hyperrun.inputs import Images
from hyperrun.registry import choices

STATISTICS_FROM = 10_000
"""Mean and deviation of pictures that are decoded on the fly come from this many of them, evenly spaced."""


@dataclass(frozen=True)
class ImageSplit:
    """Images in memory: uint8 [N, C, H, W], and their classes, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def fetch(self, index: Tensor) -> Tensor:
        """Return the images at `index` (int64 [B]) as uint8 [B, C, H, W]."""
        return self.images[index]

    def select(self, index: Tensor) -> ImageSplit:
        """Return a split of the examples at `index` (int64 [M])."""
        return ImageSplit(self.images[index], self.labels[index])


@dataclass(frozen=True)
class FolderSplit:
    """Pictures that stay in files: N paths, their classes (int64 [N]), the side in pixels to which they are brought."""

    paths: list[Path]
    labels: Tensor
    size: int

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one decoded picture."""
        return 3, self.size, self.size

    def fetch(self, index: Tensor) -> Tensor:
        """Decode the pictures at `index` (int64 [B]) to uint8 [B, 3, size, size].

        Raises:
            UserError: a file that is missing or no picture.
        """
        return torch.stack([decode(self.paths[i], self.size) for i in index.tolist()])

    def select(self, index: Tensor) -> FolderSplit:
        """Return a split of the files at `index` (int64 [M])."""
        return FolderSplit([self.paths[i] for i in index.tolist()], self.labels[index], self.size)

    def read(self) -> ImageSplit:
        """Decode everything, on all cores (Pillow releases Python's lock while it decodes)."""
        images = torch.empty(len(self), *self.shape, dtype=torch.uint8)

        def one(i: int) -> None:
            images[i] = decode(self.paths[i], self.size)

        with ThreadPoolExecutor(cores()) as pool:
            for _ in pool.map(one, range(len(self))):
                pass
        return ImageSplit(images, self.labels)


Split = ImageSplit | FolderSplit
SPLITS = ("train", "val", "test")


@dataclass
class ImageSet:
    """A data set, split and measured. Shared between the jobs of a sweep: read it, do not write to it."""

    name: str
    """Its name, as it was registered."""
    train: Split
    """What is learned from."""
    val: Split
    """What selects the checkpoint; disjoint from train."""
    test: Split
    """What is read once, for the selected checkpoint."""
    num_classes: int
    """Labels are 0 .. num_classes - 1."""
    classes: list[str]
    """Their names."""
    mean: Tensor
    """float32 [C]: mean of the training split's pixels, in [0, 1]."""
    std: Tensor
    """float32 [C]: their standard deviation, in the same unit."""
    verified: bool
    """False if data.verify=false made us accept files whose checksum differs or could not be checked."""
    val_files: list[str] | None = None
    """Of pictures in files: those of val, below the folder's root, where they were drawn from train."""
    file_prints: dict[str, str] | None = None
    """Of pictures in files: split -> what `fingerprints` says of it."""
    notes: list[str] = field(default_factory=list)
    """What its user should hear: what was left out, what is odd."""

    @property
    def counts(self) -> dict[str, int]:
        """How many examples each split has."""
        return {part: len(getattr(self, part)) for part in SPLITS}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Split -> eight hexadecimal digits that differ where its examples do."""
        return self.file_prints or {part: _print_of(getattr(self, part)) for part in SPLITS}

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that differ where the examples, their split or the classes' names do."""
        parts = [*self.classes, *(self.fingerprints[part] for part in SPLITS)]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:8]

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data. Sets with published checksums need no fingerprint."""
        facts: dict[str, Any] = {"data/verified": self.verified, "data/classes": self.classes}
        facts |= {f"data/{part}": count for part, count in self.counts.items()}
        facts |= {"data/channels": self.channels, "data/image_size": self.image_size}
        facts |= {
            f"data/{name}": [round(value, 6) for value in getattr(self, name).tolist()] for name in ("mean", "std")
        }
        return facts if self.published else facts | {"data/fingerprint": self.fingerprint}

    @property
    def published(self) -> bool:
        """Whether its examples are known beforehand: bundled, or in files whose checksums were found right."""
        one = choices("data").get(self.name)
        if one is None or not one.build.__module__.startswith("hyperrun."):
            return False
        return self.verified and "looks" in one.facts

    def warnings(self) -> list[str]:
        """Return what its user should hear before training."""
        return [*self.notes, *larger_than_training(len(self.val), len(self.train), "data.val_size")]

    @property
    def inputs(self) -> Images:
        """What the set looks like to a model."""
        return Images(self.channels, self.image_size, self.num_classes, len(self.train))

    @property
    def channels(self) -> int:
        """Colour channels of an image."""
        return self.train.shape[0]

    @property
    def image_size(self) -> int:
        """Side of an image in pixels."""
        return self.train.shape[1]


def make_set(
    name: str,
    cfg: ImageData,
    *,
    train: Split,
    test: Split,
    classes: list[str],
    val: Split | None = None,
    verified: bool = True,
    measured: tuple[Tensor, Tensor] | None = None,
) -> ImageSet:
    """Check the splits, carve `val` from `train` where the data set brings none, and measure the training pixels.

    The examples of val are drawn from cfg.split_seed alone, so that every run of a comparison has the same ones.
    measured: mean and deviation where they are known, two float32 [C].

    Raises:
        UserError: images that are not square uint8 of one shape, labels out of range, a val_size that leaves nothing
            to train on, an image_size the data set does not have.
    """
    _check(f"{name}: train", train, len(classes))
    if val is None:
        for_training, for_val = drawn(name, cfg, len(train))
        train, val = train.select(for_training), train.select(for_val)
    for part, split in (("val", val), ("test", test)):
        _check(f"{name}: {part}", split, len(classes))
        if split.shape != train.shape:
            raise UserError(f"{name}: {part} has images of shape {split.shape}, train of {train.shape}")
    if cfg.image_size not in (None, train.shape[1]):
        raise UserError(
            f"data.image_size={cfg.image_size}: the images of {name} are {train.shape[1]} pixels wide; "
            "leave it at null (only image_folder scales)"
        )
    mean, std = measured or statistics(train)
    return ImageSet(name, train, val, test, len(classes), classes, mean, std, verified)


def drawn(name: str, cfg: ImageData, examples: int) -> tuple[Tensor, Tensor]:
    """Return which of so many examples are trained on, and which are set aside for validation: int64, sorted.

    Raises:
        UserError: none is left to train on.
    """
    left_to_train_on(name, cfg, examples)
    order = torch.randperm(examples, generator=seeded("val", cfg.split_seed))
    return order[cfg.val_size :].sort().values, order[: cfg.val_size].sort().values


def larger_than_training(val: int, train: int, key: str) -> list[str]:
    """Return a line where more is set aside for validation than is left to train on."""
    return [f"validation is larger than training: {val:,} against {train:,}; {key} sets it"] if val > train else []


def left_to_train_on(name: str, cfg: ImageData, examples: int) -> int:
    """Return how many training examples are left when data.val_size of them are set aside.

    Raises:
        UserError: none.
    """
    if cfg.val_size >= examples:
        raise UserError(
            f"data.val_size={cfg.val_size} leaves nothing to train on: {name} has {examples} training examples"
        )
    return examples - cfg.val_size


def _print_of(split: Split) -> str:
    """Return eight hexadecimal digits that differ where the pixels or labels of a split do."""
    split = split if isinstance(split, ImageSplit) else split.read()
    digest = hashlib.sha256(f"{[*split.images.shape]}".encode())
    for tensor in (split.images, split.labels):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:8]


def _check(what: str, split: Split, num_classes: int) -> None:
    if isinstance(split, ImageSplit) and (split.images.ndim != 4 or split.images.dtype != torch.uint8):
        raise UserError(f"{what}: images must be uint8 [N, C, H, W], not {split.images.dtype} {[*split.images.shape]}")
    if isinstance(split, ImageSplit) and len(split.images) != len(split.labels):
        raise UserError(f"{what}: {len(split.images)} images but {len(split.labels)} labels")
    if len(split) == 0:
        raise UserError(f"{what}: no examples")
    if split.labels.dtype != torch.int64 or split.labels.ndim != 1:
        raise UserError(f"{what}: labels must be int64 [N], not {split.labels.dtype} {[*split.labels.shape]}")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= num_classes:
        raise UserError(f"{what}: labels run from {low} to {high}, allowed are 0 to {num_classes - 1}")
    if split.shape[1] != split.shape[2]:
        raise UserError(f"{what}: images must be square, not {split.shape[1]} x {split.shape[2]}")


def statistics(split: Split) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel's pixels in [0, 1]: two float32 [C].

    Counted in whole numbers, so that the result does not depend on the number of threads. A channel that never
    changes gets the deviation 1/255, one grey level, so that it can be divided by.
    """
    index = torch.arange(len(split))
    if isinstance(split, FolderSplit) and len(split) > STATISTICS_FROM:
        index = index[torch.arange(STATISTICS_FROM) * len(split) // STATISTICS_FROM]
    total = torch.zeros(split.shape[0], dtype=torch.int64)
    squares = torch.zeros_like(total)
    for chunk in index.split(256):  # small enough to stay in the processor's cache
        pixels = split.fetch(chunk).to(torch.int32)
        total += pixels.sum((0, 2, 3))
        squares += pixels.square().sum((0, 2, 3))
    count = len(index) * split.shape[1] * split.shape[2]
    mean = total.double() / count
    variance = (squares.double() / count - mean.square()).clamp_min(1.0)
    return (mean / 255).float(), (variance.sqrt() / 255).float()


def seeded(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded from all `parts` together; different parts give unrelated streams."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on `device`, or None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:  # what could be freed counts as free; sysconf's figure leaves out the page cache
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return None
