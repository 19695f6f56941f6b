"""hyperrun env: what a bug report needs."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

import hyperrun
from hyperrun.training.precision import choose_precision
from tests.running import REPO

Here = Callable[..., Any]


def test_json_has_versions_devices_precision_and_paths(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYPERRUN_DATA", str(tmp_path / "sets"))
    found = json.loads(here("env", "--json").out)
    assert found["hyperrun"].startswith(hyperrun.__version__)
    assert found["python"].startswith(platform.python_version()) and sys.executable in found["python"]
    for package in ("torch", "torchvision", "hydra-core", "omegaconf", "wandb", "rich", "numpy", "safetensors"):
        assert found[package] == version(package)
    assert "threads" in found["cpu"] and "gpus" in found and "cuda" in found
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = choose_precision("auto", device)
    assert found["precision"] == f"{chosen.name}: {chosen.reason}"
    assert found["wandb mode"] == "disabled: $WANDB_MODE is disabled"
    assert found["configs"] == str(REPO / "conf")
    assert found["data"] == f"{tmp_path / 'sets'} (not there yet)"


def test_text_says_the_same_a_line_each(here: Here, tmp_path: Path) -> None:
    found = json.loads(here("env", "--json").out)
    lines = here("env").out.splitlines()
    assert len(lines) == len(found)
    for (name, value), line in zip(found.items(), lines, strict=True):
        assert line.startswith(name) and str(value[0] if isinstance(value, list) else value) in line
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_said(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperrun.commands import env

    monkeypatch.setattr(env, "PACKAGES", ("no-such-package",))
    assert json.loads(here("env", "--json").out)["no-such-package"] == "not installed"
