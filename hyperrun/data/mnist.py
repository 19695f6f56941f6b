"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): idx files, in the folders torchvision uses."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hyperrun.data.images import ImageSet, ImageSplit, make_set
from hyperrun.data.kinds import ImageData
from hyperrun.data.sources import Download, Form, Source, data_root, find, unreadable
from hyperrun.errors import UserError
from hyperrun.inputs import Images
from hyperrun.registry import register


def mnist_source() -> Source:
    """Return where MNIST comes from."""
    from torchvision.datasets import MNIST

    return _source("mnist", "MNIST", MNIST.resources, MNIST.mirrors)


def fashion_source() -> Source:
    """Return where Fashion-MNIST comes from."""
    from torchvision.datasets import FashionMNIST

    return _source("fashion_mnist", "FashionMNIST", FashionMNIST.resources, FashionMNIST.mirrors)


@register("data", "mnist", ImageData, source=mnist_source, looks=Images(1, 28, 10, train=60_000))
def load_mnist(cfg: ImageData) -> ImageSet:
    """Return MNIST: uint8 [N, 1, 28, 28], 60,000 for training and validation, 10,000 for test."""
    return _load(cfg, mnist_source(), [str(digit) for digit in range(10)])


@register("data", "fashion_mnist", ImageData, source=fashion_source, looks=Images(1, 28, 10, train=60_000))
def load_fashion(cfg: ImageData) -> ImageSet:
    """Return Fashion-MNIST: uint8 [N, 1, 28, 28], 60,000 for training and validation, 10,000 for test."""
    from torchvision.datasets import FashionMNIST

    return _load(cfg, fashion_source(), list(FashionMNIST.classes))


def _source(name: str, folder: str, resources: list[tuple[str, str]], mirrors: list[str]) -> Source:
    """Return both forms: the published .gz files, which have checksums, and the unpacked ones, which have none."""
    raw = f"{folder}/raw"
    packed = Form("gz", raw, {f"{raw}/{file}": md5 for file, md5 in resources})
    plain = Form("idx", raw, {f"{raw}/{file.removesuffix('.gz')}": None for file, _ in resources})
    downloads = tuple(
        Download(f"{raw}/{file}", tuple(mirror + file for mirror in mirrors), md5) for file, md5 in resources
    )
    return Source(name, (packed, plain), downloads)


def _load(cfg: ImageData, source: Source, classes: list[str]) -> ImageSet:
    root = data_root(cfg.root)
    form, verified = find(source, root, verify=cfg.verify, explicit_root=cfg.root is not None)
    paths = {Path(file).name.removesuffix(".gz"): root / file for file in form.files}
    train, test = (
        ImageSplit(
            read_idx(paths[f"{part}-images-idx3-ubyte"], 3).unsqueeze(1),
            read_idx(paths[f"{part}-labels-idx1-ubyte"], 1).long(),
        )
        for part in ("train", "t10k")
    )
    return make_set(source.name, cfg, train=train, test=test, classes=classes, verified=verified)


def read_idx(path: Path, ndim: int) -> Tensor:
    """Read an idx file of bytes with `ndim` dimensions, packed (.gz) or not: uint8, of the shape the file states.

    Raises:
        UserError: the file cannot be read, is damaged, or is something else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None
    header = 4 + 4 * ndim
    if len(content) < header or content[:4] != bytes([0, 0, 8, ndim]):  # 8: unsigned bytes
        raise UserError(f"{path} is not an idx file of bytes with {ndim} dimension{'s' if ndim > 1 else ''}")
    shape = [int(size) for size in np.frombuffer(content, ">u4", count=ndim, offset=4)]
    if len(content) != header + math.prod(shape):
        raise UserError(
            f"{path} is damaged: {len(content)} bytes where its header announces {header + math.prod(shape)}"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
