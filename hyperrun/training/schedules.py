"""Schedules of the learning rate: pure functions of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from hyperrun.config import ScheduleConfig
from hyperrun.registry import chosen, register


def lr_factor(cfg: ScheduleConfig, step: int, total: int) -> float:
    """Return the factor on the peak learning rate for optimizer step `step` (0 is the first) of `total`.

    The warm-up comes first, whatever the schedule. An fp16 step that is skipped for overflow counts.
    """
    if step < cfg.warmup_steps:
        return (step + 1) / (cfg.warmup_steps + 1)
    return chosen("schedule", cfg.kind).build(cfg, step, total)


def progress(cfg: ScheduleConfig, step: int, total: int) -> float:
    """Return how far the schedule proper has come, from 0 to 1."""
    return min(1.0, (step - cfg.warmup_steps) / max(1, total - cfg.warmup_steps))


@dataclass
class ConstantSchedule(ScheduleConfig):
    """The peak learning rate throughout."""


@register("schedule", "constant", ConstantSchedule)
def constant(cfg: ConstantSchedule, step: int, total: int) -> float:
    return 1.0


@dataclass
class CosineSchedule(ScheduleConfig):
    """Half a cosine from the peak to final_factor times the peak."""

    final_factor: float
    """Learning rate that is reached when the last step is done, as a fraction of the peak."""


@register("schedule", "cosine", CosineSchedule)
def cosine(cfg: CosineSchedule, step: int, total: int) -> float:
    done = progress(cfg, step, total)
    return cfg.final_factor + (1 - cfg.final_factor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class OneCycleSchedule(ScheduleConfig):
    """Linear rise to the peak, then linear fall (Smith and Topin 2019)."""

    peak_at: float
    """Where the peak lies, as a fraction of the training length."""
    initial_factor: float
    """Learning rate at the first step, as a fraction of the peak."""
    final_factor: float
    """Learning rate that is reached when the last step is done, as a fraction of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.peak_at < 1:
            raise ValueError(f"peak_at must lie between 0 and 1, not {self.peak_at}")


@register("schedule", "one_cycle", OneCycleSchedule)
def one_cycle(cfg: OneCycleSchedule, step: int, total: int) -> float:
    done = progress(cfg, step, total)
    if done < cfg.peak_at:
        return cfg.initial_factor + (1 - cfg.initial_factor) * done / cfg.peak_at
    return cfg.final_factor + (1 - cfg.final_factor) * (1 - done) / (1 - cfg.peak_at)


@dataclass
class MultiStepSchedule(ScheduleConfig):
    """Piecewise constant: factors[i] times the peak from milestones[i] on."""

    milestones: list[float]
    """Increasing steps; numbers below 1 are fractions of the training length."""
    factors: list[float]
    """Factor on the peak learning rate from each milestone on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        increase = all(a < b for a, b in itertools.pairwise(self.milestones))
        if len(self.milestones) != len(self.factors) or not increase:
            raise ValueError("milestones must increase, with one entry in factors for each")


@register("schedule", "multi_step", MultiStepSchedule)
def multi_step(cfg: MultiStepSchedule, step: int, total: int) -> float:
    factor = 1.0
    for milestone, value in zip(cfg.milestones, cfg.factors, strict=True):
        if step >= (milestone * total if milestone < 1 else milestone):
            factor = value
    return factor
