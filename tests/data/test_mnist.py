from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperrun.data import load_images
from hyperrun.data.mnist import read_idx
from hyperrun.errors import UserError

FILES = {
    "train-images-idx3-ubyte": (30, 28, 28),
    "train-labels-idx1-ubyte": (30,),
    "t10k-images-idx3-ubyte": (10, 28, 28),
    "t10k-labels-idx1-ubyte": (10,),
}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture(params=["mnist", "fashion_mnist"])
def small(request, tmp_path, monkeypatch):
    """A small set in the published layout, whose checksums are made the published ones: its name, arrays and folder."""
    from torchvision.datasets import MNIST, FashionMNIST

    published = {"mnist": MNIST, "fashion_mnist": FashionMNIST}[request.param]
    folder = tmp_path / published.__name__ / "raw"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    arrays = {name: random.integers(256 if len(shape) > 1 else 10, size=shape) for name, shape in FILES.items()}
    for name, array in arrays.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    sums = [(f"{name}.gz", hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest()) for name in FILES]
    monkeypatch.setattr(published, "resources", sums)
    return request.param, arrays, folder


def contents(data) -> np.ndarray:
    return torch.cat([data.train.images, data.val.images]).squeeze(1).sort(0).values.numpy()


def test_packed_files_are_read_and_verified(small, tmp_path, image_cfg):
    name, arrays, _ = small
    data = load_images(image_cfg(name=name, root=str(tmp_path)))
    assert data.verified and (len(data.train), len(data.val), len(data.test)) == (26, 4, 10)
    assert np.array_equal(data.test.images.squeeze(1).numpy(), arrays["t10k-images-idx3-ubyte"])
    assert np.array_equal(data.test.labels.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert np.array_equal(contents(data), np.sort(arrays["train-images-idx3-ubyte"], axis=0))


def test_unpacked_files_need_verify_false(small, tmp_path, image_cfg):
    name, arrays, folder = small
    for path in list(folder.iterdir()):
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    with pytest.raises(
        UserError, match=rf"{folder.name} cannot be checked.*--root {tmp_path} --download.*verify=false"
    ):
        load_images(image_cfg(name=name, root=str(tmp_path)))
    data = load_images(image_cfg(name=name, root=str(tmp_path), verify=False))
    assert not data.verified
    assert np.array_equal(contents(data), np.sort(arrays["train-images-idx3-ubyte"], axis=0))


def test_a_copy_that_differs_is_refused_and_accepted_without_verify(small, tmp_path, image_cfg):
    name, arrays, folder = small
    changed = arrays["t10k-labels-idx1-ubyte"].copy()
    changed[0] = (changed[0] + 1) % 10
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(changed)))
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz is not the published file"):
        load_images(image_cfg(name=name, root=str(tmp_path)))
    data = load_images(image_cfg(name=name, root=str(tmp_path), verify=False))
    assert not data.verified and data.test.labels[0] == changed[0]


def test_a_truncated_file_is_named_even_without_verify(small, tmp_path, image_cfg):
    name, _, folder = small
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cannot read .*train-images-idx3-ubyte\.gz: Compressed file ended"):
        load_images(image_cfg(name=name, root=str(tmp_path), verify=False))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file of bytes with 1 dimension$"),
        (idx(np.zeros((2, 2))), "not an idx file of bytes with 1 dimension$"),
        (b"\0\0\x0d\1" + idx(np.zeros(4))[4:], "not an idx file of bytes"),
        (idx(np.zeros(5))[:-1], "damaged: 12 bytes where its header announces 13"),
        (idx(np.zeros(5)) + b"\0", "damaged: 14 bytes where its header announces 13"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_idx(path, 1)


@pytest.mark.parametrize("content", [b"no gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 20])
def test_damaged_gzip(tmp_path, content):
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^cannot read .*labels\.gz: [^\n]+$"):
        read_idx(path, 1)
