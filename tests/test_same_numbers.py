"""scripts/same_numbers: what it calls equal, what it finds, and that two commits' own code is what is run."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

REPO = Path(__file__).resolve().parent.parent
CHECKS = REPO / "scripts" / "checks"
ROWS: list[dict[str, Any]] = [
    {"step": 1, "train/loss": 2.5, "time/train_s": 1.0},
    {"step": 2, "train/loss": 2.25, "throughput/examples_per_s": 9.0},
    {"step": 2, "val/loss": 2.0},
]
SUMMARY = {"status": "finished", "test/accuracy": 0.5, "val/loss": 2.0, "best/step": 2, "time/train_s": 1.5, "git": "a"}


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """Give the modules of scripts/checks by name."""
    monkeypatch.syspath_prepend(CHECKS)
    names = ("run_differences", "same_numbers")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name)


def made_up(path: Path) -> Path:
    """Write a run folder by hand; return it."""
    folder = path / "digits" / "cnn-s0-12345678"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    model = {"w": torch.linspace(0, 1, 6).view(2, 3), "steps": torch.tensor(3), "none": torch.zeros(0)}
    optimizers = [{"state": {0: {"m": torch.ones(2, 3)}}}]
    best = {"format": 1, "model": model, "step": 2, "val": {"loss": 2.0}, "task": {"seen": 3}}
    torch.save(best, folder / "checkpoints" / "best.pt")
    torch.save({"model": model, "optimizers": optimizers, "loop": {"train_s": 1.0}}, folder / "checkpoints" / "last.pt")
    return folder


def change_rows(folder: Path, index: int, **values: Any) -> None:
    rows = [dict(row) for row in ROWS]
    rows[index] |= {name.replace("__", "/"): value for name, value in values.items()}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def change_summary(folder: Path, **values: Any) -> None:
    changed = SUMMARY | {name.replace("__", "/"): value for name, value in values.items()}
    (folder / "summary.json").write_text(json.dumps(changed))


def change_state(folder: Path, name: str, *keys: Any, value: Any) -> None:
    state = torch.load(folder / "checkpoints" / name, weights_only=True)
    within = state
    for key in keys[:-1]:
        within = within[key]
    within[keys[-1]] = value
    torch.save(state, folder / "checkpoints" / name)


def one_bit_off() -> torch.Tensor:
    weights = torch.linspace(0, 1, 6).view(2, 3)
    weights[1, 2] = torch.nextafter(weights[1, 2], torch.tensor(2.0))
    return weights


def test_clocks_and_commits_are_not_compared(checks: dict[str, ModuleType], tmp_path: Path) -> None:
    old, new = made_up(tmp_path / "old"), made_up(tmp_path / "new")
    change_rows(new, 0, time__train_s=7.0)
    change_summary(new, time__train_s=7.0, git="b")
    change_state(new, "last.pt", "loop", "train_s", value=7.0)
    found = checks["run_differences"].compare_runs(old, new)
    assert (found.difference, found.rows, found.tensors) == (None, 3, 7)


def test_what_later_code_keeps_of_the_data_is_no_difference(checks: dict[str, ModuleType], tmp_path: Path) -> None:
    old, new = made_up(tmp_path / "old"), made_up(tmp_path / "new")
    change_state(new, "best.pt", "task", "images", value={"classes": ["a", "b"]})
    compare = checks["run_differences"].compare_runs
    assert compare(old, new).difference is None
    assert compare(new, old).difference == "best.pt: only old has task/images"
    change_state(new, "best.pt", "task", "other", value=1)
    assert compare(old, new).difference == "best.pt: only new has task/other"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda new: change_rows(new, 1, train__loss=2.2500000000000004),
            "step 2: train/loss 2.25 / 2.2500000000000004",
        ),
        (lambda new: change_rows(new, 2, val__loss=None), "step 2: val/loss 2.0 / null"),
        (lambda new: change_rows(new, 2, val__new=1), "step 2: only new has val/new"),
        (lambda new: change_summary(new, test__accuracy=0.25), "summary.json: test/accuracy 0.5 / 0.25"),
        (lambda new: change_summary(new, best__step=1), "summary.json: best/step 2 / 1"),
        (
            lambda new: change_state(new, "best.pt", "model", "w", value=one_bit_off()),
            "best.pt: model/w: 1 of 6 numbers differ, by 1.2e-07 at most",
        ),
        (
            lambda new: change_state(new, "best.pt", "model", "w", value=torch.zeros(3)),
            "best.pt: model/w: torch.float32 [2, 3] / torch.float32 [3]",
        ),
        (lambda new: change_state(new, "best.pt", "model", "b", value=torch.ones(1)), "best.pt: only new has model/b"),
        (lambda new: change_state(new, "best.pt", "val", "loss", value=3.0), "best.pt: val/loss: 2.0 / 3.0"),
        (
            lambda new: change_state(new, "last.pt", "optimizers", 0, "state", 0, "m", value=-torch.ones(2, 3)),
            "last.pt: optimizers/0/state/0/m: 6 of 6 numbers differ, by 2 at most",
        ),
        (lambda new: change_state(new, "last.pt", "optimizers", value=[]), "last.pt: optimizers: 1 / 0 entries"),
    ],
)
def test_the_first_difference_is_named(checks: dict[str, ModuleType], tmp_path: Path, change: Any, said: str) -> None:
    old, new = made_up(tmp_path / "old"), made_up(tmp_path / "new")
    change(new)
    assert checks["run_differences"].compare_runs(old, new).difference == said


def test_a_sign_of_zero_and_a_missing_row_are_differences(checks: dict[str, ModuleType], tmp_path: Path) -> None:
    compare = checks["run_differences"].compare_runs
    old, new = made_up(tmp_path / "old"), made_up(tmp_path / "new")
    change_rows(old, 1, train__loss=0.0)
    change_rows(new, 1, train__loss=-0.0)
    assert compare(old, new).difference == "step 2: train/loss 0.0 / -0.0"
    (new / "metrics.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    assert compare(old, new).difference == "3 / 1 rows in metrics.jsonl"
    other = new.with_name("cnn-s0-87654321")
    new.rename(other)
    assert compare(old, other).difference == "folder digits/cnn-s0-12345678 / digits/cnn-s0-87654321"


def test_a_failed_side_is_a_difference(checks: dict[str, ModuleType], tmp_path: Path) -> None:
    script = checks["same_numbers"]
    old, new = script.Made(made_up(tmp_path), 1.0), script.Made(None, 2.0, "status 2: hyperrun: error: no such key")
    found = script.Result.of("cnn", "bf16", old, new)
    assert found.difference == "new failed, status 2: hyperrun: error: no such key"
    assert script.Result.of("cnn", "bf16", old, old).difference is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-thing", "HEAD"], "there is no commit 'no-such-thing'"),
        (["HEAD", "HEAD", "--families", "cnn,lstmm"], "there is no 'lstmm' (allowed: cnn, "),
        (["HEAD", "HEAD", "--steps", "0"], "--steps: at least 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    checks: dict[str, ModuleType], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    if shutil.which("git") is None or not (REPO / ".git").exists():
        pytest.skip("not a git checkout")
    before = signal.getsignal(signal.SIGTERM)
    try:
        ended = checks["same_numbers"].main(words)
    except SystemExit as error:
        ended = error.code
    finally:
        signal.signal(signal.SIGTERM, before)
    said_here = capsys.readouterr().err
    assert ended == 2 and said in said_here.splitlines()[-1], said_here


def run_script(repo: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, repo / "scripts" / "checks" / "same_numbers.py", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_commit_equals_itself_and_a_changed_number_is_found(tmp_path: Path) -> None:
    """In a checkout of its own: one commit against itself, and against the working tree with a weight scaled."""
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    repo = tmp_path / "repo"
    for name in ("hyperrun", "conf", "scripts"):
        shutil.copytree(REPO / name, repo / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
    me = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "."], [*me, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=repo, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
    words = ("HEAD", ".", "--families", "hypercnn", "--precisions", "float32", "--steps", "6")
    same = run_script(repo, *words, "--json")
    assert same.returncode == 0, same.stdout + same.stderr
    (run,) = json.loads(same.stdout)["runs"]
    assert run["difference"] is None and run["rows"] == 9 and run["tensors"] > 20

    target = repo / "conf" / "optim" / "adam.yaml"
    target.write_text(target.read_text().replace("lr: 2e-3", "lr: 2.001e-3"))
    other = run_script(repo, *words)
    assert other.returncode == 1 and "0 of 1 equal" in other.stdout
    assert "folder digits/hypercnn-s3-" in other.stdout, "the hash of the config differs, too"
    source = repo / "hyperrun" / "cli.py"
    subprocess.run(["git", "checkout", "-q", "conf"], cwd=repo, check=True)
    source.write_text(source.read_text().replace("def main(", SCALED + "def main(", 1))
    scaled = run_script(repo, *words)
    assert scaled.returncode == 1 and "step 1: train/loss" in scaled.stdout, scaled.stdout + scaled.stderr


SCALED = """import torch as _torch
_normal_ = _torch.nn.init.normal_
_torch.nn.init.normal_ = lambda w, mean=0.0, std=1.0, **k: _normal_(w, mean, std * 1.01, **k)
_Tensor_normal_ = _torch.Tensor.normal_
_torch.Tensor.normal_ = lambda w, *a, **k: _Tensor_normal_(w, *a, **k).mul_(1.01)


"""
"""Put into a copy of hyperrun: every normally distributed initial weight is one per cent larger."""
