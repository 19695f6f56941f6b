"""W&B's environment variables, and a network that is not there."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hyperrun.tracking import wandb_run
from hyperrun.tracking.wandb_run import begin, begin_anyhow, project_of


def test_project_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert project_of("hyperrun") == "hyperrun"
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert project_of("hyperrun") == "theirs"
    assert project_of("typed") == "typed"
    monkeypatch.setenv("WANDB_PROJECT", "")
    assert project_of("hyperrun") == "hyperrun"


def test_empty_variables_are_as_if_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("WANDB_BASE_URL", "")
    run = begin("disabled")
    run.finish()
    assert "WANDB_MODE" not in os.environ and "WANDB_BASE_URL" not in os.environ


def test_without_a_network_it_is_recorded_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []

    def init(mode: str, **_: Any) -> str:
        modes.append(mode)
        if mode == "online":
            raise TimeoutError("no route to host")
        return "a run"

    monkeypatch.setattr(wandb_run, "begin", init)
    said: list[str] = []
    assert begin_anyhow("online", said.append, project="p") == "a run"
    assert modes == ["online", "offline"] and "no route to host" in said[0] and "recorded offline" in said[0]
