"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from their Python form or their binary form.

The Python form is pickles: they are read only when their md5 is the published one. The binary files have no published
checksums of their own, only the archive they come in has; where that stands in the root it is read instead of them.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperrun.data.images import ImageSet, ImageSplit, make_set
from hyperrun.data.kinds import ImageData
from hyperrun.data.sources import Download, Form, Source, data_root, find, unreadable
from hyperrun.errors import UserError
from hyperrun.inputs import Images
from hyperrun.registry import register

BINARY_ARCHIVES = {
    "cifar10": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    "cifar100": ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
}
"""Archive of the binary form and its md5, as the data sets' home page gives them; torchvision knows the Python one."""
BINARY_FILES = {
    "cifar10": ("cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin"),
    "cifar100": ("cifar-100-binary", ["train.bin"], "test.bin"),
}
BINARY_CLASSES = {"cifar10": "batches.meta.txt", "cifar100": "fine_label_names.txt"}
LABEL_BYTES = {"cifar10": 1, "cifar100": 2}
"""Label bytes before the pixels of a binary record; the last one is the class (CIFAR-100's first is the superclass)."""
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}
PIXELS = 3 * 32 * 32


def source10() -> Source:
    """Return where CIFAR-10 comes from."""
    from torchvision.datasets import CIFAR10

    return _source("cifar10", CIFAR10)


def source100() -> Source:
    """Return where CIFAR-100 comes from."""
    from torchvision.datasets import CIFAR100

    return _source("cifar100", CIFAR100)


@register("data", "cifar10", ImageData, source=source10, looks=Images(3, 32, 10, train=50_000))
def load10(cfg: ImageData) -> ImageSet:
    """Return CIFAR-10: uint8 [N, 3, 32, 32], 50,000 for training and validation, 10,000 for test."""
    return _load(cfg, source10())


@register("data", "cifar100", ImageData, source=source100, looks=Images(3, 32, 100, train=50_000))
def load100(cfg: ImageData) -> ImageSet:
    """Return CIFAR-100 with its 100 fine classes: uint8 [N, 3, 32, 32], 50,000 and 10,000."""
    return _load(cfg, source100())


def _source(name: str, dataset: Any) -> Source:
    """`dataset` is torchvision's class, whose attributes hold names, address and checksums."""
    folder = dataset.base_folder
    entries = [*dataset.train_list, *dataset.test_list, [dataset.meta["filename"], dataset.meta["md5"]]]
    python = Form("python", folder, {f"{folder}/{file}": md5 for file, md5 in entries}, pickled=True)
    archive_name, archive_md5 = BINARY_ARCHIVES[name]
    archive = Form("archive", archive_name, {archive_name: archive_md5})
    binary_folder, train, test = BINARY_FILES[name]
    binary = Form("binary", binary_folder, {f"{binary_folder}/{file}": None for file in [*train, test]})
    download = Download(dataset.filename, (dataset.url,), dataset.tgz_md5, unpack=folder)
    return Source(name, (python, archive, binary), (download,))


def _load(cfg: ImageData, source: Source) -> ImageSet:
    root = data_root(cfg.root)
    form, verified = find(source, root, verify=cfg.verify, explicit_root=cfg.root is not None)
    if form.kind == "python":
        train, test, classes = _read_python(root, form)
    else:
        files = _unpacked(root, source.name) if form.kind == "binary" else _in_archive(root / form.folder, source.name)
        train, test, classes = _read_binary(source.name, files)
    return make_set(source.name, cfg, train=train, test=test, classes=classes, verified=verified)


# ---------------------------------------------------------------- Python form


def _read_python(root: Path, form: Form) -> tuple[ImageSplit, ImageSplit, list[str]]:
    splits: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    classes: list[str] = []
    for file, md5 in form.files.items():
        assert md5 is not None
        content = read_pickle(root / file, md5)
        if "data" in content:
            splits[Path(file).name.startswith("test")].append(content)
        else:
            classes = list(content["label_names"] if "label_names" in content else content["fine_label_names"])
    return _joined(splits[False]), _joined(splits[True]), classes


def _joined(batches: list[dict[str, Any]]) -> ImageSplit:
    pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [label for batch in batches for label in batch["labels" if "labels" in batch else "fine_labels"]]
    return ImageSplit(torch.from_numpy(pixels), torch.tensor(labels, dtype=torch.int64))


def read_pickle(path: Path, md5: str) -> dict[str, Any]:
    """Unpickle `path`, provided that the very bytes that are unpickled have the published md5.

    Raises:
        UserError: the file cannot be read, or its md5 differs (pickles can run code).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"{path} is a pickle whose md5 is not the published one: it is not read")
    with warnings.catch_warnings():
        # The pickles are from Python 2: NumPy 2.4.0 to 2.4.4 remarks on how they write a dtype.
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
        return pickle.loads(content, encoding="latin1")


# ---------------------------------------------------------------- binary form


def _unpacked(root: Path, name: str) -> dict[str, bytes]:
    """Return the contents of the binary files, by name; the class names only where they are there."""
    folder, train, test = BINARY_FILES[name]
    contents = {}
    for file in [*train, test, BINARY_CLASSES[name]]:
        path = root / folder / file
        if file == BINARY_CLASSES[name] and not path.exists():
            continue
        try:
            contents[str(path)] = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from None
    return contents


def _in_archive(archive: Path, name: str) -> dict[str, bytes]:
    """Return the same out of the archive, without unpacking it on disk."""
    _, train, test = BINARY_FILES[name]
    wanted = {*train, test, BINARY_CLASSES[name]}
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
            for member in tar:
                stream = tar.extractfile(member) if Path(member.name).name in wanted else None
                if stream is not None:
                    contents[f"{archive}/{member.name}"] = stream.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise unreadable(archive, error) from None
    absent = wanted - {Path(file).name for file in contents} - {BINARY_CLASSES[name]}
    if absent:
        raise UserError(f"{archive} does not hold {', '.join(sorted(absent))}")
    return contents


def _read_binary(name: str, files: dict[str, bytes]) -> tuple[ImageSplit, ImageSplit, list[str]]:
    _, train_names, test_name = BINARY_FILES[name]
    parts: dict[str, np.ndarray] = {}
    classes = [str(label) for label in range(NUM_CLASSES[name])]
    for path, content in files.items():
        if Path(path).name == BINARY_CLASSES[name]:
            named = content.decode("utf-8", errors="replace").split()
            classes = named if len(named) == len(classes) else classes
        else:
            parts[Path(path).name] = _records(path, content, LABEL_BYTES[name])
    train = _split([parts[file] for file in train_names], LABEL_BYTES[name])
    return train, _split([parts[test_name]], LABEL_BYTES[name]), classes


def _records(path: str, content: bytes, label_bytes: int) -> np.ndarray:
    """View a binary file as its records, uint8 [N, label_bytes + 3 * 32 * 32]: 32x32 pixels of each colour."""
    size = label_bytes + PIXELS
    if not content or len(content) % size:
        raise UserError(f"{path} is damaged: {len(content)} bytes where records of {size} are expected")
    return np.frombuffer(content, np.uint8).reshape(-1, size)


def _split(records: list[np.ndarray], label_bytes: int) -> ImageSplit:
    pixels = np.concatenate([part[:, label_bytes:] for part in records])  # the only copy: 150 MB are slow to copy
    labels = np.concatenate([part[:, label_bytes - 1] for part in records]).astype(np.int64)
    return ImageSplit(torch.from_numpy(pixels).view(-1, 3, 32, 32), torch.from_numpy(labels))
