"""SVHN (Netzer et al. 2011): house numbers in colour, 32x32 pixels, from its two .mat files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hyperrun.data.images import ImageSet, ImageSplit, make_set
from hyperrun.data.kinds import ImageData
from hyperrun.data.sources import Download, Form, Source, data_root, find, unreadable
from hyperrun.errors import UserError
from hyperrun.inputs import Images
from hyperrun.registry import register


def source() -> Source:
    """Return where SVHN comes from: train and test, without the `extra` pictures."""
    from torchvision.datasets import SVHN

    parts = [SVHN.split_list[part] for part in ("train", "test")]
    form = Form("mat", " and ".join(file for _, file, _ in parts), {file: md5 for _, file, md5 in parts})
    return Source("svhn", (form,), tuple(Download(file, (url,), md5) for url, file, md5 in parts))


@register("data", "svhn", ImageData, source=source, looks=Images(3, 32, 10, train=73_257))
def load(cfg: ImageData) -> ImageSet:
    """Return SVHN: uint8 [N, 3, 32, 32], 73,257 for training and validation, 26,032 for test."""
    root = data_root(cfg.root)
    form, verified = find(source(), root, verify=cfg.verify, explicit_root=cfg.root is not None)
    train, test = (read_mat(root / file) for file in form.files)
    classes = [str(digit) for digit in range(10)]
    return make_set("svhn", cfg, train=train, test=test, classes=classes, verified=verified)


def read_mat(path: Path) -> ImageSplit:
    """Read one of the .mat files, whose arrays are X [32, 32, 3, N] and y [N, 1], with 10 for the digit 0.

    Raises:
        UserError: the file cannot be read, is damaged, or is something else.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # scipy documents no set of exceptions for damaged files
        raise unreadable(path, error) from None
    if not {"X", "y"} <= content.keys() or content["X"].ndim != 4 or content["X"].dtype != np.uint8:
        raise UserError(f"{path} is not an SVHN file (arrays X, uint8 [32, 32, 3, N], and y)")
    labels = content["y"].astype(np.int64).reshape(-1)
    pixels = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))
    return ImageSplit(torch.from_numpy(pixels), torch.from_numpy(np.where(labels == 10, 0, labels)))
