"""hyperrun train: what a run shows and leaves, run again, afresh, in a sweep, two at once, on a narrow terminal."""

from __future__ import annotations

import os
import pty
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from hyperrun.config import from_omegaconf, run_hash

FAST = ("trainer.max_steps=8", "trainer.log_every=2", "tracking.wandb.mode=disabled", "precision=float32")
TINY = ("target.depth=10", "target.width=1", "hypernet.z_dim=4")

SUMMARY_KEYS = {
    "status", "model", "target", "hypernet", "data", "task", "seed", "params/trainable", "params/generated",
    "params/free", "params/target", "params/compression", "metric", "val/accuracy", "test/accuracy", "best/step",
    "time/train_s", "throughput/examples_per_s", "precision", "device", "torch", "git", "command",
}  # fmt: skip
"""DESIGN, decision 5, for a classification."""


def rows(folder: Path) -> list[dict]:
    return [
        OmegaConf.to_container(OmegaConf.create(line))
        for line in (folder / "metrics.jsonl").read_text().split("\n")[:-1]
    ]


# ---------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def digits(zygote, tmp_path_factory):
    """The default run, as the quick start types it, at its full length."""
    from tests.commands.conftest import Running

    cwd = tmp_path_factory.mktemp("digits")
    running = Running(zygote, ("train",), cwd, {}, "")
    running.wait()
    return running
