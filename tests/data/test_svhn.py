from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.io import savemat

from hyperrun.data import load_images
from hyperrun.errors import UserError


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two small files in the published layout, whose checksums are made the published ones."""
    from torchvision.datasets import SVHN

    random = np.random.default_rng(0)
    listed = dict(SVHN.split_list)
    for part, count in (("train", 20), ("test", 10)):
        url, file, _ = SVHN.split_list[part]
        pixels = random.integers(256, size=(32, 32, 3, count), dtype=np.uint8)
        labels = np.arange(1, count + 1, dtype=np.uint8).reshape(-1, 1) % 10
        labels[labels == 0] = 10
        savemat(tmp_path / file, {"X": pixels, "y": labels})
        listed[part] = [url, file, hashlib.md5((tmp_path / file).read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", listed)
    return tmp_path


def test_images_and_labels_are_torchvisions(small, image_cfg):
    from torchvision.datasets import SVHN

    data = load_images(image_cfg(name="svhn", root=str(small)))
    reference = SVHN(small, split="test")
    assert np.array_equal(data.test.images.numpy(), reference.data)
    assert data.test.labels.tolist() == reference.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert data.verified and (len(data.train), len(data.val)) == (16, 4)


def test_missing_file(small, image_cfg):
    (small / "test_32x32.mat").unlink()
    with pytest.raises(UserError, match=r"svhn is incomplete in .*: test_32x32\.mat missing; fetch it with"):
        load_images(image_cfg(name="svhn", root=str(small)))


@pytest.mark.parametrize("verify", [True, False])
def test_truncated_file(small, image_cfg, verify):
    path = small / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:5000])
    message = "is not the published file" if verify else r"^cannot read .*train_32x32\.mat: [^\n]+$"
    with pytest.raises(UserError, match=message):
        load_images(image_cfg(name="svhn", root=str(small), verify=verify))


def test_something_else_in_a_mat_file(small, image_cfg):
    savemat(small / "train_32x32.mat", {"X": np.zeros((2, 2))})
    with pytest.raises(UserError, match="train_32x32.mat is not an SVHN file"):
        load_images(image_cfg(name="svhn", root=str(small), verify=False))
