from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch

from hyperrun.data import cifar, load_images
from hyperrun.errors import UserError

RECORDS = 6
"""Images in each small file."""
NAMES = {"cifar10": [f"class{i}" for i in range(10)], "cifar100": [f"fine{i}" for i in range(100)]}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def content_of(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels (uint8 [6, 3072]) and labels of each of the binary files."""
    _, train, test = cifar.BINARY_FILES[name]
    random = np.random.default_rng(1)
    return {
        file: (random.integers(256, size=(RECORDS, 3072), dtype=np.uint8), random.integers(10, size=RECORDS))
        for file in [*train, test]
    }


def put_binary(root, name):
    """Write the binary form; return the pixels of all its training images."""
    folder = root / cifar.BINARY_FILES[name][0]
    folder.mkdir(parents=True)
    contents = content_of(name)
    for file, (pixels, labels) in contents.items():
        coarse = [np.full((RECORDS, 1), 99, np.uint8)] if name == "cifar100" else []
        (folder / file).write_bytes(np.hstack([*coarse, labels[:, None].astype(np.uint8), pixels]).tobytes())
    (folder / cifar.BINARY_CLASSES[name]).write_text("\n".join(NAMES[name]) + "\n\n")
    return contents


def put_python(root, name, monkeypatch):
    """Write the same images in the Python form and publish its checksums."""
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    fine = "labels" if name == "cifar10" else "fine_labels"
    entries = []
    for (file, _), (pixels, labels) in zip(
        [*dataset.train_list, *dataset.test_list], content_of(name).values(), strict=True
    ):
        (folder / file).write_bytes(python2_pickle({"data": pixels, fine: labels.tolist()}))
        entries.append([file, md5((folder / file).read_bytes())])
    meta = dataset.meta["filename"]
    (folder / meta).write_bytes(pickle.dumps({dataset.meta["key"]: NAMES[name]}, protocol=2))
    monkeypatch.setattr(dataset, "train_list", entries[:-1])
    monkeypatch.setattr(dataset, "test_list", entries[-1:])
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": md5((folder / meta).read_bytes())})
    return folder


def python2_pickle(content: dict) -> bytes:
    """Pickle as the published files are: their dtype's flags are 0 and 1, of which NumPy 2.4.0 to 2.4.4 warns."""
    now = pickle.dumps(content, protocol=2)
    then = now.replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
    assert then != now
    return then


@pytest.fixture(params=["cifar10", "cifar100"])
def name(request):
    return request.param


def test_python_form(name, tmp_path, monkeypatch, image_cfg):
    put_python(tmp_path, name, monkeypatch)
    data = load_images(image_cfg(name=name, root=str(tmp_path)))
    assert data.verified and data.classes == NAMES[name] and data.num_classes == len(NAMES[name])
    pixels, labels = content_of(name)[cifar.BINARY_FILES[name][2]]
    assert np.array_equal(data.test.images.numpy(), pixels.reshape(-1, 3, 32, 32))
    assert data.test.labels.tolist() == labels.tolist()


def test_binary_and_python_form_are_the_same_set(name, tmp_path, monkeypatch, image_cfg):
    put_binary(tmp_path / "a", name)
    put_python(tmp_path / "b", name, monkeypatch)
    binary = load_images(image_cfg(name=name, root=str(tmp_path / "a"), verify=False))
    python = load_images(image_cfg(name=name, root=str(tmp_path / "b")))
    assert python.verified and not binary.verified and binary.classes == python.classes
    for part in ("train", "val", "test"):
        ours, theirs = getattr(binary, part), getattr(python, part)
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.labels, theirs.labels)
    assert len(binary.train) == RECORDS * (5 if name == "cifar10" else 1) - 4


def test_binary_form_alone_cannot_be_checked(name, tmp_path, image_cfg):
    put_binary(tmp_path, name)
    with pytest.raises(UserError, match="cannot be checked.*put cifar-.*-binary.tar.gz beside it"):
        load_images(image_cfg(name=name, root=str(tmp_path)))


def test_published_archive_beside_the_binary_files_is_read(name, tmp_path, monkeypatch, image_cfg):
    contents = put_binary(tmp_path, name)
    archive, _ = cifar.BINARY_ARCHIVES[name]
    folder = tmp_path / cifar.BINARY_FILES[name][0]
    with tarfile.open(tmp_path / archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    published = {name: (archive, md5((tmp_path / archive).read_bytes()))}
    monkeypatch.setattr(cifar, "BINARY_ARCHIVES", published)
    for path in folder.iterdir():  # what is read is the archive, whatever the files have become
        path.write_bytes(b"")
    data = load_images(image_cfg(name=name, root=str(tmp_path)))
    assert data.verified and data.classes == NAMES[name]
    assert np.array_equal(data.test.images.flatten(1).numpy(), contents[cifar.BINARY_FILES[name][2]][0])


def test_an_archive_without_the_files(tmp_path, image_cfg):
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme.html"), io.BytesIO())
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz does not hold data_batch_1\.bin, .*test_batch\.bin"):
        load_images(image_cfg(name="cifar10", root=str(tmp_path), verify=False))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("verify", [True, False])
def test_an_altered_pickle_is_not_executed(tmp_path, monkeypatch, image_cfg, verify):
    folder = put_python(tmp_path, "cifar10", monkeypatch)
    (folder / "data_batch_3").write_bytes(pickle.dumps(Evil()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="data_batch_3 is a pickle whose md5 is not the published one"):
        load_images(image_cfg(name="cifar10", root=str(tmp_path), verify=verify))
    with pytest.raises(UserError, match="it is not read"):  # a change after the check is noticed too
        cifar.read_pickle(folder / "data_batch_3", md5(b"as published"))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("size", [0, 3072, 3073 * RECORDS - 1])
def test_truncated_binary_file(tmp_path, image_cfg, size):
    put_binary(tmp_path, "cifar10")
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=rf"data_batch_2\.bin is damaged: {size} bytes where records of 3073 are"):
        load_images(image_cfg(name="cifar10", root=str(tmp_path), verify=False))


def test_labels_that_cannot_be(tmp_path, image_cfg):
    put_binary(tmp_path, "cifar10")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"\x0a" * 3073)
    with pytest.raises(UserError, match="cifar10: test: labels run from 10 to 10, allowed are 0 to 9"):
        load_images(image_cfg(name="cifar10", root=str(tmp_path), verify=False))


def test_without_the_class_names_classes_are_numbered(tmp_path, image_cfg):
    put_binary(tmp_path, "cifar10")
    (tmp_path / "cifar-10-batches-bin" / "batches.meta.txt").unlink()
    assert load_images(image_cfg(name="cifar10", root=str(tmp_path), verify=False)).classes[9] == "9"
