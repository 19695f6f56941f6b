"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels, bundled with the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperrun.data.images import ImageSet, ImageSplit, make_set, seeded
from hyperrun.data.kinds import ImageData
from hyperrun.inputs import Images
from hyperrun.registry import register


@register("data", "digits", ImageData, looks=Images(1, 8, 10, train=1437))
def load(cfg: ImageData) -> ImageSet:
    """Return the digits; grey levels 0..16 are scaled to 0..255.

    Every fifth example of each class, in an order drawn once and for all, is test data: 360 in all.
    """
    table = torch.from_numpy(read_table())
    images = (table[:, :64] * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
    labels = table[:, 64].long()
    order = torch.randperm(len(labels), generator=seeded("digits", "test"))
    by_class = order[labels[order].argsort(stable=True)]
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    is_test[by_class[::5]] = True
    train, test = (ImageSplit(images[part], labels[part]) for part in (~is_test, is_test))
    return make_set("digits", cfg, train=train, test=test, classes=[str(digit) for digit in range(10)])


def read_table() -> np.ndarray:
    """Return the digits as [1797, 65] in float64: 64 pixels and the class.

    Read from scikit-learn's file, not by its function: to import scikit-learn takes as long as training on the digits.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.exists():  # in another version it may stand elsewhere
        from sklearn.datasets import load_digits

        found: Any = load_digits()
        return np.column_stack((found.data, found.target))
    return np.loadtxt(file, delimiter=",")
