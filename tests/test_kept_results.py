"""docs/results.md and the README's tables: written again, to the byte, out of the small files in docs/results."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from hyperrun.compare.gone import GONE, read_gone
from hyperrun.errors import UserError
from hyperrun.runs.reading import read_run, read_runs
from tests.conftest import REPO, Done
from tests.made_up_runs import made_up_run

KEPT = REPO / "docs" / "results"
WRITE = ["compare", "docs/results", "--results", "docs/results.md", "--readme", "README.md"]

Here = Callable[..., Done]


@pytest.fixture
def keep_runs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("keep_runs", REPO / "scripts" / "_keep_runs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow  # half a hundred configs are composed
def test_page_plot_and_readme_are_what_the_kept_files_give(here: Here, tmp_path: Path) -> None:
    shutil.copytree(KEPT, tmp_path / "docs" / "results")
    names = ["docs/results.md", "docs/results.png", "README.md"]
    for name in names:
        shutil.copy(REPO / name, tmp_path / name)
    (tmp_path / names[0]).unlink()  # all of it is written
    (tmp_path / names[1]).unlink()
    here(*WRITE)
    page, plot, readme = ((tmp_path / name).read_bytes() for name in names)
    assert page == (REPO / names[0]).read_bytes(), "scripts/results writes it again"
    assert readme == (REPO / names[2]).read_bytes(), "scripts/results writes its tables again"
    committed = (REPO / names[1]).read_bytes()
    if drawn_with(plot) == drawn_with(committed):  # another matplotlib draws a little otherwise
        assert plot == committed, "scripts/results draws it again"
    _, gone = read_gone([KEPT])
    sections = page.decode().partition("\n## ")[2]
    assert sections.count(", folder gone | ") == len(gone), f"delete from {GONE} what was trained again"


def drawn_with(png: bytes) -> bytes:
    """Return the version of matplotlib that a png names."""
    start = png.index(b"Matplotlib version")
    return png[start : png.index(b",", start)]


def test_what_is_kept_is_small_and_says_nothing_of_the_machine() -> None:
    files = [path for path in KEPT.rglob("*") if path.is_file()]
    assert {path.name for path in files} <= {"config.yaml", "summary.json", "metrics.jsonl", GONE, "README.md"}
    assert sum(path.stat().st_size for path in files) < 3_000_000
    runs = read_runs([KEPT])
    assert not runs.unfinished and not runs.warnings
    for run in runs.finished:
        assert run.config["outputs"] == "outputs" and run.config["data.root"] is None
        assert "outputs=" not in run.summary["command"] and "data.root=" not in run.summary["command"]


def test_of_a_run_its_figures_are_kept_and_not_where_it_was(keep_runs: ModuleType, tmp_path: Path) -> None:
    command = (
        f"hyperrun train experiment=ha2016/mnist_cnn seed=3 outputs={tmp_path} data.root=/data tracking.wandb.entity=me"
    )
    typed = ["experiment=ha2016/mnist_cnn", "seed=3", f"outputs={tmp_path}", "data.root=/data"]
    folder = made_up_run(tmp_path, *typed, "tracking.wandb.entity=me", command=command)
    rows = [{"step": 5, "val/accuracy": 0.5, "generated/w/norm": 1.0}, {"step": 6, "generated/w/norm": 1.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "train.log").write_text("a log")
    before = read_run(folder)
    kept = keep_runs.keep(before, tmp_path / "kept")
    assert kept == tmp_path / "kept" / "mnist" / folder.name
    assert sorted(path.name for path in kept.iterdir()) == ["config.yaml", "metrics.jsonl", "summary.json"]
    after = read_run(kept)
    assert after.computed == before.computed
    assert after.summary == before.summary | {"command": "hyperrun train experiment=ha2016/mnist_cnn seed=3"}
    assert (kept / "metrics.jsonl").read_text() == '{"step": 5, "val/accuracy": 0.5}\n'
    config = yaml.safe_load((kept / "config.yaml").read_text())
    assert (config["outputs"], config["data"]["root"], config["tracking"]["wandb"]["entity"]) == ("outputs", None, None)
    keep_runs.keep(before, tmp_path / "kept")  # again: it takes its own place


def test_a_place_that_is_part_of_the_run_is_not_published(keep_runs: ModuleType, tmp_path: Path) -> None:
    command = "hyperrun train experiment=ha2016/mnist_cnn --config-dir=/home/me/conf"
    folder = made_up_run(tmp_path, "experiment=ha2016/mnist_cnn", command=command)
    with pytest.raises(UserError, match="names a place on this machine: hyperrun train"):
        keep_runs.keep(read_run(folder), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_the_script_keeps_finished_runs_of_experiments(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    finished = made_up_run(outputs, "experiment=ha2016/mnist_cnn")
    made_up_run(outputs, "model=cnn", "data=mnist")
    made_up_run(outputs, "experiment=ha2016/mnist_cnn", "seed=1", status="preempted", error="stopped")
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    script = [sys.executable, REPO / "scripts" / "_keep_runs.py", tmp_path / "kept"]
    done = subprocess.run([*script, outputs], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stdout.startswith("kept    1 of 3 runs in "), done.stderr
    assert [path.parent.name for path in (tmp_path / "kept").rglob("config.yaml")] == [finished.name]
    done = subprocess.run([*script, tmp_path / "no"], capture_output=True, text=True, env=env)
    assert done.returncode == 2 and "there is no folder" in done.stderr and "Traceback" not in done.stderr
