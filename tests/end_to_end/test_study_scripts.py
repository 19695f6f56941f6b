"""scripts/studies: what each budget trains, and that typed again it goes on."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import QUIET, REPO

Here = Callable[..., Any]

STUDIES = {
    ("mnist", "SMALL"): 6,
    ("mnist", "PAPER"): 6,
    ("cifar10", "SMALL"): 4,
    ("cifar10", "PAPER"): 12,
    ("ptb_char", "SMALL"): 4,
    ("ptb_char", "PAPER"): 12,
    ("handwriting", "SMALL"): 16,
    ("handwriting", "PAPER"): 30,
    ("compression", "SMALL"): 39,
    ("compression", "PAPER"): 39,
}
"""scripts/studies/NAME.py and budget -> runs."""


def test_every_study_is_known() -> None:
    found = {path.stem for path in (REPO / "scripts" / "studies").glob("*.py")}
    assert found == {*(name for name, _ in STUDIES), "_study"}


@pytest.mark.parametrize(("name", "budget"), STUDIES)
def test_the_lines_of_a_study_can_be_run(
    here: Here, monkeypatch: pytest.MonkeyPatch, name: str, budget: str, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(REPO / "scripts" / "studies")
    lines = getattr(importlib.import_module(name), budget)
    sys.modules.pop(name)
    ends = [here("train", "-m", *shlex.split(line), "--dry-run").out.splitlines()[-1] for line in lines]
    assert all(end.endswith(" missing") for end in ends), ends
    assert sum(int(end.split()[0]) for end in ends) == STUDIES[name, budget]
    changed = [word for line in lines for word in line.split() if word.startswith(("trainer.", "schedule", "optim"))]
    assert not changed or budget == "SMALL", "paper: as the experiments stand"


TINY_STUDY = """
from _study import study

LINES = ["model=cnn seed=0,1 optim.lr=1e-3,1e38", "model=hypercnn"]
raise SystemExit(study("Tiny.", "digits", small=LINES, paper=[], analyze=["--checkpoint", "last"]))
"""


def run_study(study: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(REPO), str(REPO / "scripts" / "studies")])
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, study, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_what_is_typed_takes_the_place_of_the_studys_own(tmp_path: Path) -> None:
    done = run_study(REPO / "scripts" / "studies" / "mnist.py", "seed=7", "--dry-run", "outputs=runs", cwd=tmp_path)
    assert "2 jobs: 2 missing" in done.stdout and "runs/mnist/cnn-s7-" in done.stdout


@pytest.mark.parametrize("typed", ["trainer.epochs=2", "trainer.max_steps=2"])
def test_a_length_that_is_typed_is_the_only_one(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.syspath_prepend(REPO / "scripts" / "studies")
    with_overrides = importlib.import_module("_study").with_overrides
    assert with_overrides([["model=cnn", "trainer.max_steps=9"]], [typed]) == [["model=cnn", typed]]
    assert with_overrides([["trainer.max_steps=9"]], ["seed=1"]) == [["trainer.max_steps=9", "seed=1"]]


def test_a_key_that_only_some_lines_give_stays_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPO / "scripts" / "studies")
    with_overrides = importlib.import_module("_study").with_overrides
    lines = [["model=cnn", "seed=0"], ["model=hypercnn", "seed=0", "hypernet.z_dim=4,8"]]
    assert with_overrides(lines, ["hypernet.z_dim=2", "seed=1", "outputs=x"]) == [
        ["model=cnn", "seed=1", "outputs=x"],
        ["model=hypercnn", "hypernet.z_dim=2", "seed=1", "outputs=x"],
    ]


def test_a_study_trains_what_can_be_trained_ends_in_a_table_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY_STUDY)
    words = ["outputs=runs", *QUIET, "trainer.max_steps=20", "trainer.eval_every=20"]
    done = run_study(Path("tiny.py"), *words, cwd=tmp_path)
    assert done.returncode == 1 and "2 of 4 jobs failed" in done.stderr
    finished = [path for path in tmp_path.glob("runs/digits/*/summary.json") if '"finished"' in path.read_text()]
    assert len(finished) == 3
    seen = json.loads((tmp_path / "runs" / "digits" / "analysis" / "analysis.json").read_text())["runs"]
    assert [(run["model"], run["seed"], run["checkpoint"]) for run in seen.values()] == [
        ("cnn", 0, "last"),
        ("hypercnn", 0, "last"),
    ]
    table = done.stdout.rpartition("$ hyperrun compare runs/digits\n")[2]
    assert "digits: test accuracy" in table and "hypercnn" in table and "not finished" in table
    times = [path.stat().st_mtime_ns for path in finished]
    again = run_study(Path("tiny.py"), *words, cwd=tmp_path)
    assert again.stdout.count("this run is finished already") == 3
    assert [path.stat().st_mtime_ns for path in finished] == times


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--budget", "larg"], "mnist.py: error: argument --budget: invalid choice: 'larg'"),
        (["--budgt", "small"], "did you mean '--budget'?"),
        (["trainer.epoch=3"], "hyperrun: error: unknown key 'trainer.epoch'; did you mean 'trainer.epochs'?"),
    ],
)
def test_a_mistake_in_a_study_is_one_line(args: list[str], said: str, tmp_path: Path) -> None:
    done = run_study(REPO / "scripts" / "studies" / "mnist.py", *args, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr
    assert not list(tmp_path.iterdir())
