"""Checkpoints: whole or not there, safe to read, and with a fall-back when damaged."""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from hyperrun.errors import UserError
from hyperrun.training import checkpoint
from hyperrun.training.seeds import rng_state


def make_state(step: int = 1) -> dict[str, Any]:
    """Return what the training loop saves, made small."""
    torch.manual_seed(step)
    model = nn.Linear(40, 30)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 40)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict()],
        "scaler": {},
        "ema": None,
        "loop": {"step": step, "best": None, "train_s": 0.5},
        "meter": {"sums": {"loss": torch.tensor(1.5, dtype=torch.float64)}, "count": 3},
        "metrics_position": 123,
        "rng": rng_state(),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two checkpoints: last.pt of step 2, previous.pt of step 1."""
    for step in (1, 2):
        checkpoint.save(tmp_path / "last.pt", make_state(step), keep_previous=True)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


# ---------------------------------------------------------------- writing


def test_round_trip(tmp_path):
    state = make_state()
    checkpoint.save(tmp_path / "new" / "last.pt", state)
    assert same(checkpoint.load(tmp_path / "new" / "last.pt"), {"format": checkpoint.FORMAT, **state})
    assert files(tmp_path / "new") == {"last.pt"}


def test_the_one_before_is_kept_only_on_request(folder):
    assert files(folder) == {"last.pt", "previous.pt"}
    assert checkpoint.load(folder / "last.pt")["loop"]["step"] == 2
    assert checkpoint.load(folder / "previous.pt")["loop"]["step"] == 1
    checkpoint.save(folder / "last.pt", make_state(3))
    assert checkpoint.load(folder / "previous.pt")["loop"]["step"] == 1


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("cannot be saved")


def test_a_state_that_cannot_be_saved_leaves_the_old_files(folder):
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    with pytest.raises(RuntimeError, match="cannot be saved"):
        checkpoint.save(folder / "last.pt", {**make_state(3), "bad": Unpicklable()}, keep_previous=True)
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let every write beyond `size` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_full_disk_leaves_the_old_files_and_is_an_os_error(folder, size):
    """An OSError, because that is what the command line turns into one line."""
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    with files_of_at_most(size), pytest.raises(Exception) as error:
        checkpoint.save(folder / "last.pt", {"model": {"w": torch.zeros(100_000)}}, keep_previous=True)
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
    assert isinstance(error.value, OSError), repr(error.value)


@pytest.mark.parametrize("killed_at", [0, 1])
def test_killed_while_renaming_there_is_a_whole_checkpoint_to_go_on_from(folder, monkeypatch, killed_at):
    replace, done = os.replace, []

    def killed(*names):
        if len(done) == killed_at:
            raise KeyboardInterrupt
        done.append(names)
        replace(*names)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder / "last.pt", make_state(3), keep_previous=True)
    state, warning = checkpoint.load_latest(folder, "cpu")
    assert state is not None and state["loop"]["step"] == 2
    assert warning is None


# ---------------------------------------------------------------- reading


class Code:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("how", ["torch.save", "old torch.save", "pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, how):
    file, trap = tmp_path / "last.pt", tmp_path / "trap"
    state = {"format": checkpoint.FORMAT, "model": {"w": Code(trap)}}
    if how == "pickle":
        file.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=how == "torch.save")
    with pytest.raises(UserError, match=r"last\.pt"):
        checkpoint.load(file)
    assert not trap.exists()


def saved(obj: Any) -> bytes:
    file = io.BytesIO()
    torch.save(obj, file)
    return file.getvalue()


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "hello")
    return file.getvalue()


FOREIGN = {
    "empty": b"",
    "text": b"<html>404 not found</html>\n",
    "random bytes": random.Random(0).randbytes(3000),
    "zeros": bytes(3000),
    "a number": saved(3),
    "a tensor": saved(torch.zeros(3)),
    "a state dict": saved(nn.Linear(2, 2).state_dict()),
    "no format": saved({"model": {}}),
    "no model": saved({"format": checkpoint.FORMAT}),
    "a later format": saved({"format": checkpoint.FORMAT + 1, "model": {}}),
    "a tensor for format": saved({"format": torch.zeros(2), "model": {}}),
    "another zip": zipped("readme.txt"),
    "safetensors": safetensors.torch.save({"w": torch.zeros(3)}),
    "a pickle": pickle.dumps({"format": checkpoint.FORMAT}),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_in_one_line(tmp_path, kind):
    file = tmp_path / "last.pt"
    file.write_bytes(FOREIGN[kind])
    with pytest.raises(UserError, match=r"last\.pt") as error:
        checkpoint.load(file)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "last.pt")


def test_a_folder_in_its_place_is_refused(tmp_path):
    with pytest.raises(UserError):
        checkpoint.load(tmp_path)


def damaged(whole: bytes, seed: int) -> bytes:
    """Cut the bytes short, or change, blank or remove some of them."""
    draw = random.Random(seed)
    data = bytearray(whole)
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.randrange(1, 3000))
    match seed % 5:
        case 0:
            del data[start:]
        case 1:
            data[start] ^= 1 << draw.randrange(8)
        case 2:
            data[start:end] = draw.randbytes(end - start)
        case 3:
            data[start:end] = bytes(end - start)  # what a power cut leaves
        case 4:
            del data[start:end]
    return bytes(data)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_checkpoint_is_never_read_as_something_else(folder, seed):
    """Refused, with the one before it in its place, or (damage where nothing is stored) read as it was."""
    last = folder / "last.pt"
    whole = checkpoint.load(last)
    last.write_bytes(damaged(last.read_bytes(), seed))
    state, warning = checkpoint.load_latest(folder, "cpu")
    assert state is not None
    if warning is None:
        assert same(state, whole), "changed weights were read without a word"
    else:
        assert state["loop"]["step"] == 1
        assert "going back to the checkpoint before it" in warning
        assert "\n" not in warning


# ---------------------------------------------------------------- falling back


def test_nothing_saved_means_a_fresh_start_without_a_warning(tmp_path):
    assert checkpoint.load_latest(tmp_path / "checkpoints", "cpu") == (None, None)


def test_a_whole_last_checkpoint_is_taken_without_a_warning(folder):
    state, warning = checkpoint.load_latest(folder, "cpu")
    assert state is not None and state["loop"]["step"] == 2
    assert warning is None


def test_with_both_damaged_the_run_starts_afresh_and_says_so(folder):
    for name in ("last.pt", "previous.pt"):
        (folder / name).write_bytes(b"")
    state, warning = checkpoint.load_latest(folder, "cpu")
    assert state is None
    assert "starting afresh" in warning


def test_a_damaged_only_checkpoint_starts_afresh_and_says_so(tmp_path):
    checkpoint.save(tmp_path / "last.pt", make_state())
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:100])
    state, warning = checkpoint.load_latest(tmp_path, "cpu")
    assert state is None
    assert "starting afresh" in warning


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_good_one_before_it(folder):
    """Going on from previous.pt, the next save must not throw the only good checkpoint away before it is replaced."""
    (folder / "last.pt").write_bytes(b"damaged")
    state, _ = checkpoint.load_latest(folder, "cpu")
    assert state is not None and state["loop"]["step"] == 1
    checkpoint.save(folder / "last.pt", make_state(3), keep_previous=True)
    (folder / "last.pt").write_bytes(b"damaged again")
    state, _ = checkpoint.load_latest(folder, "cpu")
    assert state is not None and state["loop"]["step"] == 1


@pytest.mark.parametrize(
    "trouble", [OSError(5, "Input/output error"), MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=repr
)
def test_a_whole_checkpoint_that_cannot_be_read_just_now_keeps_its_place(folder, monkeypatch, trouble):
    """A full GPU or a network drive that hiccups is no damage: the run must not go back, nor start afresh, for it."""
    before = {name: (folder / name).read_bytes() for name in files(folder)}

    def fails(*_, **__):
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fails)
        with pytest.raises(Exception):  # noqa: B017 - whatever says so
            checkpoint.load_latest(folder, "cpu")
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before


def test_two_processes_that_find_the_same_damage_both_go_back(folder, monkeypatch):
    """Under torchrun every process reads the checkpoint, and another one may have set it aside in the meantime."""
    (folder / "last.pt").write_bytes(b"damaged")
    read = Path.read_bytes

    def meanwhile(path: Path) -> bytes:
        content = read(path)
        if path.name == "last.pt":
            path.rename(path.with_suffix(".damaged"))
        return content

    monkeypatch.setattr(Path, "read_bytes", meanwhile)
    state, warning = checkpoint.load_latest(folder, "cpu")
    assert state is not None and state["loop"]["step"] == 1
    assert "going back" in warning
