"""Search: sweep=search with Optuna, where the extra is installed; scripts/wandb_sweep.yaml as W&B's agent runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from tests.end_to_end.test_text_runs import CHORUS, LINE, PLAIN
from tests.running import FAST, REPO, Running, summary

Here = Callable[..., Any]
Start = Callable[..., Running]

with_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="needs the extra search (hydra-optuna-sweeper)")


def runs(cwd: Path) -> list[dict[str, Any]]:
    return [summary(path.parent) for path in sorted(cwd.glob("outputs/*/*/summary.json"))]


def best(cwd: Path) -> Any:
    return OmegaConf.load(cwd / "outputs" / ".hydra" / "optimization_results.yaml")


# ---------------------------------------------------------------- Optuna


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
    assert "the jobs of a search cannot be known before" in done.err and done.err.count("\n") == 1


# ---------------------------------------------------------------- W&B


SWEEP_FILE = REPO / "scripts" / "wandb_sweep.yaml"


def proposed(parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what W&B's server might propose: of each parameter the value, the last of the values, or its middle."""
    chosen = {}
    for name, space in parameters.items():
        value = space["value"] if "value" in space else space["values"][-1] if "values" in space else None
        chosen[name] = {"value": value if value is not None else (space["min"] * space["max"]) ** 0.5}
    return chosen


def agents_line(sweep: dict[str, Any], args: dict[str, Any]) -> list[str]:
    """Return the command that `wandb agent` runs for these arguments, made by W&B's own functions."""
    from wandb.sdk.launch.sweeps import utils

    variables = utils.create_sweep_command_args({"args": args}) | {"env": ["/usr/bin/env"]}
    line: list[str] = []
    for word in utils.create_sweep_command(sweep["command"]):
        named = word.startswith("${") and word.endswith("}")
        line += variables[word[2:-1]] if named else [word]
    return line


def test_the_line_of_a_wandb_agent_trains(tmp_path: Path) -> None:
    """Made and run without W&B's server: its local controller (wandb[sweeps] 0.31) wants an account, too."""
    from wandb.sdk.lib import config_util

    sweep = yaml.safe_load(SWEEP_FILE.read_text())
    assert sweep["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    args = proposed(sweep["parameters"])
    line = agents_line(sweep, args)
    trained = "train data=digits model=hypercnn optim.lr=0.001 hypernet.z_dim=32 seed=2"
    assert line == ["/usr/bin/env", "hyperrun", *trained.split()]
    program = tmp_path / "bin" / "hyperrun"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hyperrun "$@"\n')
    program.chmod(0o755)
    config_util.save_config_file_from_dict(str(tmp_path / "args.yaml"), args)
    agent = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "r1", "WANDB_SWEEP_PARAM_PATH": str(tmp_path / "args.yaml")}
    env = {**os.environ, **agent, "WANDB_MODE": "offline", "PYTHONPATH": str(REPO)}
    env["PATH"] = f"{program.parent}{os.pathsep}{env['PATH']}"
    short = ["trainer.max_steps=4", "precision=float32"]
    done = subprocess.run([*line, *short], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = runs(tmp_path)
    assert (found["model"], found["seed"]) == ("hypercnn", 2) and sweep["metric"]["name"] in found
    offline = only(tmp_path.glob("outputs/digits/*/wandb/offline-run-*"))
    assert offline.name.endswith("-r1"), "the agent's run id, not ours"
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--summary", str(offline)]
    read = json.loads(subprocess.run(reader, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert read["summary"]["val/accuracy"] == found["val/accuracy"], "what the sweep is steered by"


def only(paths: Iterator[Path]) -> Path:
    (path,) = paths
    return path
