"""Run folders: named by what the run is, held by one process, never half-written."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hyperrun.config import (
    NOT_IN_HASH,
    Config,
    from_omegaconf,
    run_hash,
    to_dict,
    what_is_computed,
)
from hyperrun.config.typed import ADDED_LATER, schemas
from hyperrun.errors import UserError
from hyperrun.runs.folder import RunFolder, find_run, write_beside
from tests.composed import compose_config

FREE_OF_RESULT = {
    "outputs",
    "tracking",
    "resume",
    "plugins",
    "paper",
    "fail_fast",
    "params",
    "data.root",
    "data.workers",
    "trainer.save_every_s",
}
"""Keys that may be changed without a run being another run. A key added here on purpose is added in the code too."""


@cache
def _composed(*overrides: str) -> Config:
    return compose_config(list(overrides))


def composed(*overrides: str) -> Config:
    return copy.deepcopy(_composed(*overrides))


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted name, dataclass that holds it, field) of every value in a config."""
    for f in fields(node):
        value = getattr(node, f.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", node, f.name


def changed(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case list():
            return [*value, 7]
    return 7  # where there was nothing


# ---------------------------------------------------------------- names


def test_a_folder_is_named_by_data_model_seed_and_hash():
    config = composed("model=resnet", "data=cifar10", "seed=3", "outputs=somewhere")
    path = RunFolder.of(config).path
    assert path == Path("somewhere/cifar10") / f"resnet-s3-{run_hash(config)}"
    assert len(run_hash(config)) == 8


def test_a_tilde_in_outputs_is_the_home_folder():
    config = composed()
    config.outputs = "~/runs"
    assert RunFolder.of(config).path.is_relative_to(Path.home() / "runs")


def test_a_model_name_cannot_lead_elsewhere():
    config = composed()
    config.model = "a/../../b"
    assert RunFolder.of(config).path.parent == Path("outputs/digits")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=resnet", "data=cifar10", "optim=sgd", "schedule=multi_step"),
        ("model=cnn", "target=torchvision", "optim=muon", "schedule=one_cycle"),
        ("experiment=ha2016/mnist_hypercnn",),
    ],
    ids=str,
)
def test_the_hash_changes_with_everything_that_changes_the_result_and_nothing_else(overrides):
    original = run_hash(composed(*overrides))
    assert run_hash(composed(*overrides)) == original
    names = [name for name, _, _ in leaves(composed(*overrides))]
    assert len(names) > 40
    for name in names:
        config = composed(*overrides)
        holder, field = next((h, f) for n, h, f in leaves(config) if n == name)
        setattr(holder, field, changed(getattr(holder, field)))
        free = any(name == key or name.startswith(f"{key}.") for key in FREE_OF_RESULT)
        assert (run_hash(config) == original) == free, name


def test_the_list_of_keys_outside_the_hash_is_changed_on_purpose():
    assert set(NOT_IN_HASH) == FREE_OF_RESULT


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("model=lstm", "data=pydocs"), "02f2b72e"),
        (("model=hyperlstm", "data=pydocs"), "e06b86c7"),
        (("model=lnhyperlstm", "data=pydocs", "seed=1"), "77e6fa61"),
        (("model=hyperrnn", "data=pydocs"), "86c7c477"),
        (("experiment=ha2016/ptb_lnhyperlstm1000",), "890b0f27"),
    ],
    ids=str,
)
def test_hashes_are_those_of_the_first_version(overrides, expected):
    """Computed at 4692f28, before a dynamic hypernet had include and exclude, and a recurrent target mixtures."""
    config = composed(*overrides)
    assert run_hash(config) == expected
    plain = to_dict(config)
    for (group, kind), added in ADDED_LATER.items():
        if plain[group]["kind"] == kind:
            for key in added:
                del plain[group][key]
    assert from_omegaconf(OmegaConf.create(plain)) == config  # a config.yaml from then
    assert plain == {**to_dict(config), "hypernet": plain["hypernet"], "target": plain["target"]}


def test_a_key_that_was_added_later_is_in_the_hash_where_it_changes_the_result():
    hashes = {run_hash(composed("model=hyperlstm", "data=pydocs", *words)) for words in
              ([], ["hypernet.include=[layers.0]"], ["hypernet.exclude=[layers.0]"])}  # fmt: skip
    assert len(hashes) == 3
    plain = to_dict(composed("model=hyperlstm", "data=pydocs", "hypernet.include=[layers.0]"))
    assert what_is_computed(plain)["hypernet"]["include"] == ["layers.0"]
    assert "exclude" not in what_is_computed(plain)["hypernet"] and plain["hypernet"]["exclude"] == []


def test_keys_added_later_have_their_value_from_before_as_default():
    for (group, kind), added in ADDED_LATER.items():
        values = {f.name: f.default_factory() if callable(f.default_factory) else f.default
                  for f in fields(schemas(group)[kind]) if f.name in added}  # fmt: skip
        assert values == added


@pytest.mark.slow
def test_the_hash_does_not_depend_on_the_process():
    code = "from hyperrun.hydra_app.compose import compose_config as c; from hyperrun.config import run_hash as h;"
    command = [sys.executable, "-c", f"{code} print(h(c([])))"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert done.stdout.strip() == run_hash(composed()), done.stderr


# ---------------------------------------------------------------- one process at a time


HOLD = """
import os, sys, time
from pathlib import Path
from hyperrun.errors import UserError
from hyperrun.runs.folder import RunFolder
try:
    with RunFolder(Path(sys.argv[1])):
        child = os.fork() if "fork" in sys.argv else -1  # as a data loader's workers are
        if child == 0:
            time.sleep(600)
        print("held", child, flush=True)
        sys.stdin.read()
except UserError as error:
    print("refused", error)
"""


@contextmanager
def other_process(path: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Try to hold the folder in a process of its own; give it and what it says, and kill it at the end."""
    command = [sys.executable, "-c", HOLD, str(path), *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def test_a_second_process_is_told_who_the_first_is(tmp_path):
    folder = RunFolder(tmp_path / "a" / "run")
    with other_process(folder.path) as (holder, said):
        assert said.startswith("held")
        message = rf"another process \(pid {holder.pid}\) is training in .*run"
        with pytest.raises(UserError, match=message), folder:
            pass
        holder.kill()  # as abruptly as can be
        holder.wait()
        with folder:
            assert (folder.path / ".lock").read_text() == str(os.getpid())


@pytest.mark.parametrize("error", [None, ZeroDivisionError], ids=str)
def test_a_folder_is_held_until_the_end(tmp_path, error):
    with pytest.raises(error) if error else nullcontext(), RunFolder(tmp_path):
        with other_process(tmp_path) as (_, said):
            assert said.startswith(f"refused another process (pid {os.getpid()})")
        if error:
            raise error
    with other_process(tmp_path) as (_, said):
        assert said.startswith("held")


def test_a_worker_that_outlives_the_holder_does_not_hold_the_folder(tmp_path):
    with other_process(tmp_path, "fork") as (holder, said):
        worker = int(said.split()[1])
        try:
            holder.kill()
            holder.wait()
            with RunFolder(tmp_path):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_place_that_cannot_be_written_is_a_one_line_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*outputs=DIR") as error, RunFolder(tmp_path / "file" / "run"):
        pass
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- what is in it


@pytest.mark.parametrize("old", [None, "old"])
def test_write_beside_writes_all_or_nothing(tmp_path, monkeypatch, old):
    path = tmp_path / "summary.json"
    if old is not None:
        path.write_text(old)
    before = {p.name: p.read_text() for p in tmp_path.iterdir()}

    def fails(*_):
        assert {p.name for p in tmp_path.iterdir()} - before.keys(), "nothing was written beside"
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="No space"):
            write_beside(path, "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == before

    with pytest.raises(UnicodeEncodeError):  # in the middle of writing
        write_beside(path, "new \udcff")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == before

    write_beside(path, "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"summary.json": "new"}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=resnet", "data=cifar10", "optim=sgd", "schedule=multi_step"),
        ("model=cnn", "target=torchvision", "optim=muon", "schedule=one_cycle"),
        ("experiment=ha2016/cifar10_hyperresnet40_2",),
        ("optim.lr=1e-05", "hypernet.include=[conv2.weight]", "trainer.clip_norm=1", "data.root='a: b #c'"),
    ],
    ids=str,
)
def test_a_config_written_and_read_is_the_same_run(tmp_path, overrides):
    config = composed(*overrides)
    with RunFolder(tmp_path) as folder:
        folder.write_config(config)
        again = folder.read_config()
    assert again == config
    assert type(again.target) is type(config.target)
    assert run_hash(again) == run_hash(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is no run folder"),
        ("{a: [", "cannot be read"),
        ("- 1\n", r"config\.yaml"),
        ("", "the config lacks"),
        ("seed: 1\n", "the config lacks"),
        ("colour: red\n", "unknown key 'colour'"),
    ],
)
def test_a_config_that_cannot_be_read_is_a_one_line_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        RunFolder(tmp_path).read_config()
    assert "\n" not in str(error.value)


def test_summaries_come_back_and_broken_ones_are_none(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_summary() is None
    folder.write_summary({"status": "finished", "val/accuracy": 0.5})
    assert folder.read_summary() == {"status": "finished", "val/accuracy": 0.5}
    for text in ('{"status": "fin', "[1]", ""):
        (tmp_path / "summary.json").write_text(text)
        assert folder.read_summary() is None


def test_clear_removes_what_a_run_leaves_and_nothing_of_the_users(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    (folder.checkpoints / "last.pt").write_text("")
    (tmp_path / "wandb").mkdir()
    for name in ("metrics.jsonl", "train.log", "summary.json", "notes.txt"):
        (tmp_path / name).write_text("")
    folder.clear()
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_sweep_removes_what_killed_processes_left_half_written(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for path in (tmp_path / "summary.json.12.tmp", folder.checkpoints / "last.12.tmp", folder.checkpoints / "last.pt"):
        path.write_text("")
    folder.sweep()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["last.pt"]


@pytest.mark.parametrize("name", ["", "config.yaml", "checkpoints/best.pt"])
def test_a_run_is_found_by_its_folder_or_a_file_in_it(tmp_path, name):
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    (folder.checkpoints / "best.pt").write_text("")
    folder.write_config(composed())
    assert find_run(str(folder.path / name)).path == folder.path


def test_a_run_that_is_not_there_names_those_near_it(tmp_path):
    folder = RunFolder(tmp_path / "digits" / "cnn-s0-12345678")
    folder.path.mkdir(parents=True)
    folder.write_config(composed())
    with pytest.raises(UserError, match="there is no folder .*runs near it: .*cnn-s0-12345678"):
        find_run(str(tmp_path / "digits" / "cnn-s1"))
    with pytest.raises(UserError, match="is no run folder .*runs near it: .*cnn-s0-12345678"):
        find_run(str(tmp_path))


def test_a_mistyped_run_names_those_like_it_first(tmp_path):
    for name in ("cnn-s0-00000000", "cnn-s0-11111111", "cnn-s0-22222222", "cnn-s0-33333333", "lstm-s0-58ecb326"):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        folder.write_config(composed())
    with pytest.raises(UserError, match=r"runs near it: \S*/lstm-s0-58ecb326, "):
        find_run(str(tmp_path / "lstm-s0-58ecb32"))


def test_the_summary_is_plain_json(tmp_path):
    RunFolder(tmp_path).write_summary({"a": None, "b": 0.1})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": None, "b": 0.1}
