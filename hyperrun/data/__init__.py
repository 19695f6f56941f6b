"""Data sets by name.

A data set of your own is a function from its config to an `ImageSet`, in a module named by `plugins=[my.module]`:

    from hyperrun.data import ImageSplit, make_set, register_data

    @register_data("rings")
    def rings(cfg):
        x, y, x_test, y_test = ...          # uint8 [N, C, H, W] and int64 [N]
        return make_set("rings", cfg, train=ImageSplit(x, y), test=ImageSplit(x_test, y_test), classes=["in", "out"])

and a file `data/rings.yaml` in a folder for `--config-dir`, which builds on one of ours:

    defaults: [digits, _self_]
    name: rings

A text of your own that is more than a file (data=text reads those) is a function to a `TextSet`, registered by
`register_text`:

    @register_text("verses")
    def verses(cfg):
        vocabulary, (train, val, test) = number_characters([..., ..., ...])     # three texts
        return make_text("verses", train=train, val=val, test=test, vocabulary=vocabulary)

with a file that builds on pydocs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from hyperrun.config import DataConfig, ImageData, TaskData, TextData
from hyperrun.data import cifar, corpora, digits, folder, mnist, svhn, text
from hyperrun.data.images import FolderSplit, ImageSet, ImageSplit, make_set
from hyperrun.data.sources import Source, data_root
from hyperrun.data.tasks import TaskSet, classes_of, make_tasks
from hyperrun.data.text import TextSet, make_text
from hyperrun.data.vocabulary import Vocabulary, number_bytes, number_characters, number_words
from hyperrun.errors import choose

__all__ = [
    "DATASETS",
    "FORMS",
    "SHAPES",
    "SOURCES",
    "TEXT_DATASETS",
    "TRAINING_IMAGES",
    "VOCABULARY_SIZES",
    "FolderSplit",
    "ImageSet",
    "ImageSplit",
    "Inputs",
    "TaskSet",
    "TextSet",
    "Vocabulary",
    "data_root",
    "form_and_base",
    "images_to_train_on",
    "inputs_of",
    "load_images",
    "load_tasks",
    "load_text",
    "make_set",
    "make_text",
    "number_bytes",
    "number_characters",
    "number_words",
    "published_name",
    "register_data",
    "register_text",
    "vocabulary_size",
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

TEXT_DATASETS: dict[str, Callable[[TextData], TextSet]] = {
    "pydocs": text.load_pydocs,
    "ptb_char": corpora.load_ptb_char,
    "ptb": corpora.load_ptb,
    "enwik8": corpora.load_enwik8,
    "text8": corpora.load_text8,
    "text": text.load_text_file,
}
"""Name -> function that reads the text. `register_text` adds to it."""

SOURCES: dict[str, Callable[[], Source]] = {
    "mnist": mnist.mnist_source,
    "fashion_mnist": mnist.fashion_source,
    "cifar10": cifar.source10,
    "cifar100": cifar.source100,
    "svhn": svhn.source,
    "ptb_char": corpora.ptb_char_source,
    "ptb": corpora.ptb_source,
    "enwik8": corpora.enwik8_source,
    "text8": corpora.text8_source,
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

TRAINING_IMAGES: dict[str, int] = {
    "digits": 1437,
    "mnist": 60_000,
    "fashion_mnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "svhn": 73_257,
}
"""Name -> training images before data.val_size of them are set aside, so that latents can be counted beforehand."""

VOCABULARY_SIZES: dict[str, int] = {"ptb_char": 50, "ptb": 10_000, "enwik8": 205, "text8": 27}
"""Name -> number of symbols of a published text, so that parameters can be counted without reading it."""

Inputs = int | tuple[int, int, int]
"""What data mean to a model: how many symbols; or channels, side and classes of images."""

ONLY_FEEDING = (
    "crop_padding",
    "flip",
    "cutout",
    "workers",
    "epochs",
    "sequence_length",
    "eval_streams",
    "eval_burn_in",
)
"""Keys that do not change what is read, so that a sweep over them reads the set once."""
KEPT = 2
"""Sets kept in memory for the next job of a sweep in this process."""
_kept: dict[tuple[object, ...], Any] = {}

Cfg = TypeVar("Cfg", ImageData, TextData)
Set = TypeVar("Set", ImageSet, TextSet)


def register_data(name: str) -> Callable[[Callable[[ImageData], ImageSet]], Callable[[ImageData], ImageSet]]:
    """Return a decorator that adds a function to DATASETS, so that `data.name=NAME` finds it."""

    def add(function: Callable[[ImageData], ImageSet]) -> Callable[[ImageData], ImageSet]:
        DATASETS[name] = function
        return function

    return add


def register_text(name: str) -> Callable[[Callable[[TextData], TextSet]], Callable[[TextData], TextSet]]:
    """Return a decorator that adds a function to TEXT_DATASETS, so that `data.name=NAME` finds it."""

    def add(function: Callable[[TextData], TextSet]) -> Callable[[TextData], TextSet]:
        TEXT_DATASETS[name] = function
        return function

    return add


def load_images(cfg: ImageData) -> ImageSet:
    """Read the data set cfg.name, or return it from memory where this process has just read it.

    Raises:
        UserError: an unknown name; files that are missing, damaged or not the published ones; a val_size that leaves
            nothing to train on.
    """
    return _read_or_kept(DATASETS[choose("data set", cfg.name, DATASETS)], cfg)


def load_text(cfg: TextData) -> TextSet:
    """Read the text cfg.name, or return it from memory where this process has just read it.

    Raises:
        UserError: an unknown name; files that are missing, empty, in another encoding or not the published ones; a
            unit or fractions that the set does not have; a text too short to be split.
    """
    return _read_or_kept(TEXT_DATASETS[choose("text", cfg.name, TEXT_DATASETS)], cfg)


FORMS = ("split", "permuted", "rotated")
"""What tasks are made of a set of images: FORM_NAME."""


def load_tasks(cfg: TaskData) -> TaskSet:
    """Read the set that cfg.name speaks of and make the tasks of it.

    Raises:
        UserError: as load_images; a name or a number of tasks that cannot be.
    """
    form, base = form_and_base(cfg.name)
    return make_tasks(load_images(as_images(cfg)), form, cfg)


def form_and_base(name: str) -> tuple[str, str]:
    """Return ("split", "mnist") for split_mnist.

    Raises:
        UserError: no such form or set.
    """
    form, _, base = name.partition("_")
    allowed = [f"{form}_{base}" for form in FORMS for base in SHAPES]
    if form not in FORMS or base not in DATASETS:
        choose("set of tasks", name, allowed)
    return form, base


def as_images(cfg: TaskData) -> ImageData:
    """Return the config of the set of images that tasks are made of."""
    own: dict[str, Any] = {f.name: getattr(cfg, f.name) for f in fields(ImageData)}
    own |= {"kind": "images", "name": form_and_base(cfg.name)[1]}
    return ImageData(**own)


def published_name(cfg: DataConfig) -> str:
    """Return the name under which the files of a set are known: of tasks, that of the images they are made of."""
    return form_and_base(cfg.name)[1] if isinstance(cfg, TaskData) else cfg.name


def vocabulary_size(cfg: TextData) -> int:
    """Return how many symbols a text has; reads it only where that is not known beforehand."""
    return VOCABULARY_SIZES.get(cfg.name) or load_text(cfg).vocabulary_size


def inputs_of(cfg: DataConfig) -> Inputs:
    """Return what the data mean to a model. Only a set of unknown shape (a folder, a file, a plugin's) is looked at.

    Raises:
        UserError: such a set is not there.
    """
    if isinstance(cfg, TextData):
        return vocabulary_size(cfg)
    if isinstance(cfg, TaskData):
        channels, size, classes = inputs_of(as_images(cfg))  # pyright: ignore[reportGeneralTypeIssues]
        return channels, size, classes_of(classes, form_and_base(cfg.name)[0], cfg)
    if cfg.name in SHAPES:
        return SHAPES[cfg.name]
    assert isinstance(cfg, ImageData)
    images = load_images(cfg)
    return images.channels, images.train.shape[-1], images.num_classes


def images_to_train_on(cfg: ImageData) -> int:
    """Return how many images are left to train on; reads the set only where that is not known beforehand."""
    if cfg.name in TRAINING_IMAGES and cfg.val_size < TRAINING_IMAGES[cfg.name]:
        return TRAINING_IMAGES[cfg.name] - cfg.val_size
    return len(load_images(cfg).train)


def _read_or_kept(read: Callable[[Cfg], Set], cfg: Cfg) -> Set:
    where = data_root(cfg.root)  # $HYPERRUN_DATA may change between two calls
    settings = [(key, value) for key, value in asdict(cfg).items() if key not in ONLY_FEEDING]
    key = (read, where, _state_of_file(cfg), *settings)
    found = _kept.pop(key, None)
    if found is None:
        while len(_kept) >= KEPT:  # before reading, so that there are never more than KEPT in memory
            del _kept[next(iter(_kept))]
        found = read(cfg)
    _kept[key] = found  # last in the dict: the one used most recently
    return found


def _state_of_file(cfg: ImageData | TextData) -> tuple[int, int] | None:
    """Return what changes when a text file of one's own is written anew; None for sets that are not such a file."""
    if not isinstance(cfg, TextData) or cfg.path is None or not (path := Path(cfg.path).expanduser()).exists():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns
