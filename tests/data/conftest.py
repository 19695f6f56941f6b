"""Configs and small data sets in the published formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import hyperrun.data
from hyperrun.data.images import ImageSet, ImageSplit, make_set
from hyperrun.data.kinds import ImageData, TextData

DEFAULTS: dict[str, Any] = {
    "kind": "images",
    "name": "digits",
    "root": None,
    "verify": True,
    "val_size": 4,
    "split_seed": 0,
    "epochs": 1,
    "image_size": None,
    "crop_padding": 0,
    "flip": False,
    "cutout": 0,
    "loader": "auto",
    "workers": 2,
}


TEXT_DEFAULTS: dict[str, Any] = {
    "kind": "text",
    "name": "text",
    "root": None,
    "verify": True,
    "epochs": 1,
    "path": None,
    "unit": "char",
    "encoding": "utf-8",
    "val_fraction": 0.1,
    "test_fraction": 0.1,
    "sequence_length": 8,
    "eval_streams": 4,
    "eval_burn_in": 3,
}


@pytest.fixture
def text_cfg() -> Callable[..., TextData]:
    """Return a function from some keys of TextData to the whole."""
    return lambda **keys: TextData(**{**TEXT_DEFAULTS, **keys})


@pytest.fixture
def image_cfg() -> Callable[..., ImageData]:
    """Return a function from some keys of ImageData to the whole."""
    return lambda **keys: ImageData(**{**DEFAULTS, **keys})


@pytest.fixture
def random_set(image_cfg: Callable[..., ImageData]) -> Callable[..., ImageSet]:
    """Return a function that makes a set of random images: train of `train` examples, val 4, test 7."""

    def make(train: int = 50, channels: int = 3, side: int = 8, classes: int = 5) -> ImageSet:
        generator = torch.Generator().manual_seed(1)

        def split(count: int) -> ImageSplit:
            shape = (count, channels, side, side)
            images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
            return ImageSplit(images, torch.randint(classes, (count,), generator=generator))

        names = [str(label) for label in range(classes)]
        return make_set("random", image_cfg(), train=split(train + 4), test=split(7), classes=names)

    return make


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Forget the data sets that earlier tests have read."""
    hyperrun.data._kept.clear()
    yield
    hyperrun.data._kept.clear()
