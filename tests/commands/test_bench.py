"""hyperrun bench: which models stand side by side, and that what is timed is the model that train would train."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperrun.commands.bench import bench, quartiles, table, training_step, with_twins
from hyperrun.tasks import build_task
from hyperrun.training.distributed import World
from hyperrun.training.precision import choose_precision
from tests.composed import compose_config

Here = Callable[..., Any]
WORLD = World(0, 1, torch.device("cpu"))


def rows(here: Here, *line: str) -> list[dict[str, Any]]:
    return json.loads(here("bench", *line, "--json", "--rounds", "2").out)["rows"]


def test_a_hypernet_stands_beside_its_target_trained_directly(here: Here) -> None:
    direct, hyper = rows(here, "model=hypercnn")
    assert (direct["model"], direct["trainable"]) == ("cnn", 14_010)
    assert (hyper["model"], hyper["trainable"]) == ("hypercnn", 5_710)
    assert direct["ratio"] is None and hyper["direct"] == "cnn"
    assert hyper["ratio"] > 0 and hyper["ratio_quartiles"][0] <= hyper["ratio"] <= hyper["ratio_quartiles"][1]
    assert hyper["examples_per_s"] == pytest.approx(128 / hyper["step_s"])


@pytest.mark.slow
def test_lists_stand_side_by_side_with_one_twin(here: Here) -> None:
    found = rows(here, "trainer.batch_size=16", "hypernet.z_dim=2,4", "seed=0,1")
    assert [row["model"] for row in found] == ["cnn", "hypercnn z_dim=2", "hypercnn z_dim=4"], "seeds cost the same"
    assert [row["direct"] for row in found] == [None, "cnn", "cnn"] and {row["batch"] for row in found} == {16}


def test_a_step_is_an_optimizer_step(here: Here) -> None:
    (row,) = rows(here, "model=cnn", "trainer.batch_size=16", "trainer.accumulate=3", "trainer.ema=0.9")
    assert row["batch"] == 48 and row["examples_per_s"] == pytest.approx(48 / row["step_s"])


def test_a_twin_that_is_named_is_taken() -> None:
    hyper, direct = (compose_config([f"model={name}", "data=cifar10"]) for name in ("hyperresnet", "resnet"))
    found = with_twins([hyper, direct])
    assert [config.model for config, _ in found] == ["resnet", "hyperresnet"]
    assert found[0][1] is None and found[1][1] is direct
    smaller = compose_config(["model=resnet", "data=cifar10", "target.width=1"])
    assert [config.model for config, _ in with_twins([hyper, smaller])] == ["wide_resnet", "hyperresnet", "resnet"]


@pytest.mark.parametrize("line", [["model=hypermlp", "data=split_digits"], ["model=hypersiren"], ["model=mlp"]])
def test_what_has_no_twin_stands_alone(line: list[str]) -> None:
    (row,) = bench([compose_config(line)], WORLD, rounds=1)["rows"]
    assert row["ratio"] is None and row["step_s"] > 0 and row["step_s_quartiles"] is None
    assert row["drawn_points_per_s"] is None


def test_how_fast_strokes_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperrun.tasks.stroke_modeling.DRAWN", 3)
    points = np.random.default_rng(0).normal(size=(60, 3)) * [1, 1, 0]
    np.savez(tmp_path / "walks.npz", points=points, offsets=np.arange(0, 61, 6))
    line = ["model=lstm", "data=strokes", f"data.path={tmp_path / 'walks.npz'}", "target.hidden_size=8"]
    report = bench([compose_config([*line, "target.mixtures=2", "trainer.batch_size=4"])], WORLD, rounds=1)
    assert report["rows"][0]["drawn_points_per_s"] > 0
    assert "draws side by side" in [column.header for column in table(report).columns]


def test_a_step_learns() -> None:
    config = compose_config(["model=hypercnn", "precision=float32"])
    task = build_task(config, WORLD)
    before = task.evaluate("val", choose_precision("float32", WORLD.device))["loss"]
    step = training_step(task, config, choose_precision("float32", WORLD.device), WORLD)
    for _ in range(20):
        step()
    assert task.evaluate("val", choose_precision("float32", WORLD.device))["loss"] < before - 0.1


def test_the_table_says_what_was_measured_and_nothing_is_left(here: Here, tmp_path: Path) -> None:
    done = here("bench", "--rounds", "1", "model=cnn")
    assert "cnn" in done.out and "14,010" in done.out and "torch" in done.out and "n = 1" in done.out
    assert list(tmp_path.iterdir()) == []


def test_quartiles() -> None:
    assert quartiles([3.0]) is None
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2.0, 4.0]
