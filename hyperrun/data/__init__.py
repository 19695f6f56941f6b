"""Data sets by name.

A data set of your own is a function from its config to an `ImageSet`, in a module named by `plugins=[my.module]`:

    from hyperrun.data import ImageSplit, make_set, register_data

    @register_data("rings")
    def rings(cfg):
        x, y, x_test, y_test = ...          # uint8 [N, C, H, W] and int64 [N]
        return make_set("rings", cfg, train=ImageSplit(x, y), test=ImageSplit(x_test, y_test), classes=["in", "out"])

and a file `conf/data/rings.yaml` (`--config-dir`), for instance a copy of digits.yaml with `name: rings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from hyperrun.config import ImageData
from hyperrun.data import cifar, digits, folder, mnist, svhn
from hyperrun.data.images import FolderSplit, ImageSet, ImageSplit, make_set
from hyperrun.data.sources import Source, data_root
from hyperrun.errors import choose

__all__ = [
    "DATASETS",
    "SHAPES",
    "SOURCES",
    "FolderSplit",
    "ImageSet",
    "ImageSplit",
    "data_root",
    "load_images",
    "make_set",
    "register_data",
]

DATASETS: dict[str, Callable[[ImageData], ImageSet]] = {
    "digits": digits.load,
    "mnist": mnist.load_mnist,
    "fashion_mnist": mnist.load_fashion,
    "cifar10": cifar.load10,
    "cifar100": cifar.load100,
    "svhn": svhn.load,
    "image_folder": folder.load,
}
"""Name -> function that reads the set. `register_data` adds to it."""

SOURCES: dict[str, Callable[[], Source]] = {
    "mnist": mnist.mnist_source,
    "fashion_mnist": mnist.fashion_source,
    "cifar10": cifar.source10,
    "cifar100": cifar.source100,
    "svhn": svhn.source,
}
"""Name -> where its files come from, for the sets that have to be fetched."""

SHAPES: dict[str, tuple[int, int, int]] = {
    "digits": (1, 8, 10),
    "mnist": (1, 28, 10),
    "fashion_mnist": (1, 28, 10),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "svhn": (3, 32, 10),
}
"""Name -> (channels, image size, classes), so that parameters can be counted without reading the set."""

ONLY_FEEDING = ("crop_padding", "flip", "cutout", "workers", "epochs")
"""Keys that do not change what is read, so that a sweep over them reads the set once."""
KEPT = 2
"""Sets kept in memory for the next job of a sweep in this process."""
_kept: dict[tuple[object, ...], ImageSet] = {}


def register_data(name: str) -> Callable[[Callable[[ImageData], ImageSet]], Callable[[ImageData], ImageSet]]:
    """Return a decorator that adds a function to DATASETS, so that `data.name=NAME` finds it."""

    def add(function: Callable[[ImageData], ImageSet]) -> Callable[[ImageData], ImageSet]:
        DATASETS[name] = function
        return function

    return add


def load_images(cfg: ImageData) -> ImageSet:
    """Read the data set cfg.name, or return it from memory where this process has just read it.

    Raises:
        UserError: an unknown name; files that are missing, damaged or not the published ones; a val_size that leaves
            nothing to train on.
    """
    choose("data set", cfg.name, DATASETS)
    where = data_root(cfg.root)  # $HYPERRUN_DATA may change between two calls
    settings = [(key, value) for key, value in asdict(cfg).items() if key not in ONLY_FEEDING]
    key = (DATASETS[cfg.name], where, *settings)
    found = _kept.pop(key, None)
    if found is None:
        while len(_kept) >= KEPT:  # before reading, so that there are never more than KEPT in memory
            del _kept[next(iter(_kept))]
        found = DATASETS[cfg.name](cfg)
    _kept[key] = found  # last in the dict: the one used most recently
    return found
