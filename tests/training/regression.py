"""A task of a few numbers, and runs of it in the training loop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperrun.config import Config
from hyperrun.runs.folder import RunFolder
from hyperrun.tracking.console import Console
from hyperrun.tracking.wandb_run import WandbRun
from hyperrun.training import checkpoint
from hyperrun.training.distributed import World
from hyperrun.training.loop import LoopState, train
from hyperrun.training.precision import Precision
from hyperrun.training.seeds import seed_everything
from hyperrun.training.stop import StopRequest
from hyperrun.training.task import Task
from tests.composed import compose_config

WORLD = World(0, 1, torch.device("cpu"))
FLOAT32 = Precision("float32", "", "cpu")
WALL_CLOCK = ("time/train_s", "throughput/examples_per_s")


class Squares(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.model(x) - y).square().mean()
        return loss, {"loss": loss.detach()}


class Regression(Task):
    """A linear model (with dropout if asked for) on 24 fixed examples; batch number n is always the same examples."""

    name, metric, higher_is_better, unit = "regression", "loss", False, "examples"

    def __init__(self, batch_size: int = 4, dropout: float = 0.0) -> None:
        self.model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(dropout)).double()
        self.loss = Squares(self.model)
        generator = torch.Generator().manual_seed(9)
        self.x = torch.randn(24, 3, generator=generator, dtype=torch.float64)
        self.y = self.x[:, :2] * 2 - 1
        self.batches_per_epoch = 24 // batch_size
        self.examples_per_batch = batch_size
        self.evaluations = 0

    def batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(start, 10**9):
            at = number % self.batches_per_epoch * self.examples_per_batch
            yield self.batch(
                number, self.x[at : at + self.examples_per_batch], self.y[at : at + self.examples_per_batch]
            )

    def batch(self, number: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return batch `number` (0 is the first); tasks below make something happen here."""
        return x, y

    @torch.no_grad()
    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        self.evaluations += 1
        self.model.eval()
        loss = (self.model(self.x) - self.y).square().mean().item()
        self.model.train()
        return {"loss": loss}

    def describe_data(self) -> str:
        return "24 examples"


class Stopped(Regression):
    """Sends the process a signal while batch 5 is fed."""

    signal = signal.SIGTERM

    def batch(self, number, x, y):
        if number == 5:
            os.kill(os.getpid(), self.signal)
        return x, y


@cache
def composed() -> Config:
    return compose_config(["model=cnn", "optim=sgd", "schedule=constant", "optim.lr=0.05", "optim.weight_decay=0"])


def config(optim: dict[str, Any] | None = None, schedule: Any = None, **trainer: Any) -> Config:
    base = composed()
    defaults = {"max_steps": 12, "log_every": 4, "eval_every": 6, "save_every_s": 1e9}
    return replace(
        base,
        trainer=replace(base.trainer, **{**defaults, **trainer}),
        optim=replace(base.optim, **(optim or {})),
        schedule=schedule or base.schedule,
    )


class Run:
    """A run folder and what trains in it; each call of `go` is a process of its own as far as the loop can tell."""

    def __init__(self, path: Path, config: Config) -> None:
        self.folder, self.config = RunFolder(path), config
        self.state: LoopState | None = None

    def go(self, task: Task, resume: bool = False, precision: Precision = FLOAT32) -> Task:
        self.folder.path.mkdir(parents=True, exist_ok=True)
        last = self.folder.checkpoints / "last.pt"
        resume_from = checkpoint.load(last) if resume else None
        with StopRequest(lambda _: None) as stop:
            console, wandb = Console(silent=True), WandbRun(None, print)
            self.state = train(task, self.config, precision, WORLD, self.folder, console, wandb, stop, resume_from)
        return task

    def rows(self, *without: str) -> list[dict[str, Any]]:
        lines = self.folder.metrics.read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k not in without} for line in lines]

    def saved(self, name: str = "last") -> dict[str, Any]:
        return checkpoint.load(self.folder.checkpoints / f"{name}.pt")


def trained(path: Path, task: Task, config: Config) -> Run:
    run = Run(path, config)
    run.go(task)
    return run


def regression(seed: int = 0, cls: type[Regression] = Regression, **keys: Any) -> Any:
    seed_everything(seed)
    return cls(**keys)


def weights(task: Task) -> Tensor:
    return torch.cat([p.detach().flatten() for p in task.model.parameters()])
