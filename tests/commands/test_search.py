"""Search: sweep=search with Optuna, where the extra is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.commands.test_text_runs import CHORUS, LINE, PLAIN
from tests.running import FAST, Running, summary

Here = Callable[..., Any]
Start = Callable[..., Running]

with_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="needs the extra search (hydra-optuna-sweeper)")


def runs(cwd: Path) -> list[dict[str, Any]]:
    return [summary(path.parent) for path in sorted(cwd.glob("outputs/*/*/summary.json"))]


def best(cwd: Path) -> Any:
    return OmegaConf.load(cwd / "outputs" / ".hydra" / "optimization_results.yaml")


# ---------------------------------------------------------------- Optuna


@pytest.mark.skipif(find_spec("optuna") is not None, reason="the extra is installed")
def test_without_the_extra_its_name_is_said(here: Here, tmp_path: Path) -> None:
    for line in ("sweep=search", "hydra/sweeper=optuna"):
        done = here("train", "-m", line, status=2)
        wanted = "hydra/sweeper/optuna needs the extra search (pip install hydra-optuna-sweeper)"
        assert done.err == f"hyperrun: error: {wanted}\n"
    assert list(tmp_path.iterdir()) == []


@with_optuna
def test_a_search_finds_the_best_accuracy_and_typed_again_finds_it_done(start: Start, tmp_path: Path) -> None:
    line = ("train", "-m", "sweep=search", "hydra.sweeper.n_trials=4", "optim.lr=interval(1e-6,1e-2)", *FAST)
    first = start(*line)
    assert first.wait() == 0, first.err
    found = runs(tmp_path)
    assert len(found) == 4 and {run["status"] for run in found} == {"finished"}
    assert len({run["val/accuracy"] for run in found}) > 1
    assert best(tmp_path).best_value == max(run["val/accuracy"] for run in found), "maximized"
    again = start(*line)
    assert again.wait() == 0 and again.out.count("this run is finished already") == 4, "the same four jobs"
    assert len(runs(tmp_path)) == 4


@with_optuna
def test_bits_per_character_are_minimized(start: Start, tmp_path: Path) -> None:
    (tmp_path / "chorus.txt").write_text(CHORUS)
    line = (
        "sweep=search",
        "model=hyperlstm",
        "hypernet.z_dim=2,3",
        "hypernet.hyper_size=6",
        "hydra.sweeper.n_trials=3",
    )
    running = start("train", "-m", *LINE, *line, "trainer.max_steps=9", cwd=tmp_path / "here", env=PLAIN)
    assert running.wait() == 0, running.err
    values = [run["val/bpc"] for run in runs(tmp_path / "here")]
    assert len(values) == 3 and best(tmp_path / "here").best_value == min(values) < max(values)


@with_optuna
def test_a_failed_job_does_not_end_a_search(start: Start, tmp_path: Path) -> None:
    line = ("optim=sgd", "optim.lr=choice(1e20,1e-3)", "hydra.sweeper.n_trials=4", *FAST)
    running = start("train", "-m", "sweep=search", *line)
    assert running.wait() == 1, running.err
    found = [run["status"] for run in runs(tmp_path)]
    assert found.count("failed") >= 1 and found.count("finished") >= 1 and len(found) == 4
    assert running.err.splitlines()[-1] == f"hyperrun: error: {found.count('failed')} of 4 jobs failed"


@with_optuna
def test_the_jobs_of_a_search_cannot_be_listed(here: Here) -> None:
    done = here("train", "-m", "sweep=search", "--dry-run", status=2)
    assert "--dry-run cannot know the jobs of a search" in done.err and done.err.count("\n") == 1
