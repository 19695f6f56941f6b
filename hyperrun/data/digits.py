"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels, bundled with the package."""

from __future__ import annotations

import torch

from hyperrun.config import ImageData
from hyperrun.data.images import ImageSet, ImageSplit, make_set, seeded


def load(cfg: ImageData) -> ImageSet:
    """Return the digits; grey levels 0..16 are scaled to 0..255.

    Every fifth example of each class, in an order drawn once and for all, is test data: 360 in all.
    """
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target).long()
    order = torch.randperm(len(labels), generator=seeded("digits", "test"))
    by_class = order[labels[order].argsort(stable=True)]
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    is_test[by_class[::5]] = True
    train, test = (ImageSplit(images[part], labels[part]) for part in (~is_test, is_test))
    return make_set("digits", cfg, train=train, test=test, classes=[str(digit) for digit in range(10)])
