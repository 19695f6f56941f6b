"""One optimizer step, as `hyperrun train` trains with it and `hyperrun bench` times it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from hyperrun.config import Config
from hyperrun.training.distributed import World, wrap
from hyperrun.training.ema import EMA
from hyperrun.training.meter import Meter
from hyperrun.training.optim import build_optimizers, set_learning_rate, total_steps
from hyperrun.training.precision import Precision
from hyperrun.training.schedules import lr_factor
from hyperrun.training.task import Task


class StepDone(NamedTuple):
    """What a step did."""

    lr: float
    """The learning rate it was done with (of the first optimizer, weight decay groups alike)."""
    skipped: bool
    """Whether nothing was updated because an fp16 gradient overflowed."""
    examples: int
    tokens: int
    """Of its batches, over all processes: Task.examples_in, Task.tokens_in."""


class TrainingStep:
    """Forward, backward, accumulation, clipping, update and average: everything that changes the parameters.

    Attributes:
        total: optimizer steps of the whole run.
        optimizers, scaler, ema: what they are named; ema is None without trainer.ema.
    """

    def __init__(self, task: Task, config: Config, precision: Precision, world: World) -> None:
        self.task, self.model, self.config, self.precision, self.world = task, task.model, config, precision, world
        self.total = total_steps(config, task.batches_per_epoch)
        self.optimizers = build_optimizers(config.optim, task.model)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=precision.needs_scaler)
        self.ema = EMA(task.model, config.trainer.ema) if config.trainer.ema else None
        # the raw modules keep their names: nothing compiled or wrapped is ever saved
        self.loss: nn.Module = wrap(torch.compile(task.loss) if config.compile else task.loss, world)  # type: ignore[arg-type]

    def __call__(self, number: int, batches: Iterator[tuple[Any, ...]], meter: Meter) -> StepDone:
        """Do optimizer step `number` (0 is the first) on the next trainer.accumulate batches; `meter` sums what their
        losses say. The model must be in training mode. Waits for the device only in fp16."""
        config, scaler = self.config, self.scaler
        accumulate, clip_norm = config.trainer.accumulate, config.trainer.clip_norm
        examples = tokens = 0
        factor = lr_factor(config.schedule, number, self.total)
        set_learning_rate(self.optimizers, factor)

        for i in range(accumulate):
            batch = next(batches)
            last = i == accumulate - 1  # after which the processes' gradients are averaged
            with nullcontext() if last or self.world.size == 1 else self.loss.no_sync():  # type: ignore[operator]
                with self.precision.autocast():
                    loss, stats = self.loss(*batch)
                scaler.scale(loss / accumulate).backward()
            meter.add(loss, stats, number + 1)
            examples += self.task.examples_in(batch)
            tokens += self.task.tokens_in(batch)

        if clip_norm is not None:
            for optimizer in self.optimizers:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        for optimizer in self.optimizers:
            scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        skipped = False
        if self.precision.needs_scaler:
            scale = scaler.get_scale()
            scaler.update()
            skipped = scaler.get_scale() < scale
        if self.ema is not None:
            self.ema.update()
        return StepDone(config.optim.lr * factor, skipped, examples, tokens)

    def state_dict(self) -> dict[str, Any]:
        """Return its part of a checkpoint: model, optimizers, scaler and average."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what state_dict returned; other keys are left alone.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is of another model, or of other optimizers.
        """
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
