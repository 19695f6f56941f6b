"""What a run leaves behind: rows of metrics, lines on the console, W&B, evaluations, the best model, checkpoints."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, NoReturn

import torch
from torch import Tensor

from hyperrun.config import Config
from hyperrun.errors import RunFailed, UserError
from hyperrun.hypernets import generated_statistics
from hyperrun.runs.folder import RunFolder
from hyperrun.runs.metrics_file import MetricsFile
from hyperrun.tracking.console import Console
from hyperrun.tracking.environment import and_now, made_with
from hyperrun.tracking.wandb_run import WandbRun
from hyperrun.training import checkpoint
from hyperrun.training.distributed import World, any_rank, barrier, share_buffers
from hyperrun.training.meter import Meter
from hyperrun.training.precision import Precision
from hyperrun.training.seeds import rng_state
from hyperrun.training.step import StepDone, TrainingStep
from hyperrun.training.task import Task
from hyperrun.training.timing import WARM_UP_STEPS


@dataclass
class LoopState:
    """Where a run stands; saved in every checkpoint."""

    step: int = 0
    """Optimizer steps done."""
    best: float | None = None
    """Best validation metric so far."""
    best_step: int = 0
    stale: int = 0
    """Evaluations since the best one."""
    skipped: int = 0
    """fp16 steps skipped because a gradient overflowed."""
    train_s: float = 0.0
    """Seconds spent training, evaluations left out, over all processes that worked on this run."""
    timed_s: float = 0.0
    timed_examples: int = 0
    """Seconds and examples that count towards throughput."""
    made_with: dict[str, str | None] = field(default_factory=dict)
    """device, torch and git of summary.json, over all processes that worked on this run: "A, then B"."""
    timed_tokens: int = 0
    """Symbols that count towards throughput, where sequences differ in length (Task.tokens_in)."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as they stand in a checkpoint; timed_tokens only where it counts something."""
        return {name: value for name, value in asdict(self).items() if name != "timed_tokens" or value}


class Stopwatch:
    """Seconds of training, evaluations and savings left out, and what throughput was; from when it is made."""

    def __init__(self, state: LoopState) -> None:
        self.state, self.steps = state, 0
        self.window_s, self.window_examples, self.window_tokens = 0.0, 0, 0
        """Since the last logged row, without the steps of warming up."""
        self.clock = time.perf_counter()

    def step(self, done: StepDone) -> None:
        """Count the time since the step before, or since go_on, as that of a step."""
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        self.state.train_s += seconds
        self.steps += 1
        if self.steps > WARM_UP_STEPS:
            self.window_s += seconds
            self.window_examples += done.examples
            self.window_tokens += done.tokens

    def go_on(self) -> None:
        """Leave out the time since the last step."""
        self.clock = time.perf_counter()

    def examples_per_s(self) -> float | None:
        """Return the throughput since this was last asked; None where all steps since were warming up."""
        if not self.window_s:
            return None
        rate = self.window_examples / self.window_s
        self.state.timed_s += self.window_s
        self.state.timed_examples += self.window_examples
        self.state.timed_tokens += self.window_tokens
        self.window_s, self.window_examples, self.window_tokens = 0.0, 0, 0
        return rate


class Recorder:
    """Writes down how training goes. Within the block the console shows progress; at its end the files are closed.

    Attributes:
        state: where the run stands; the loop counts its steps.
        meter: what the losses said since the last logged row.
        stopwatch: running from the start of the block.
    """

    def __init__(
        self,
        task: Task,
        config: Config,
        step: TrainingStep,
        folder: RunFolder,
        console: Console,
        wandb: WandbRun,
        resume_from: dict[str, Any] | None,
    ) -> None:
        """Stand where `resume_from`, a state read from last.pt, says; at the start without one.

        The random number generators are left alone: the loop restores them when all else is built.

        Raises:
            UserError: the checkpoint is of another run or version, or of other data.
        """
        self.task, self.config, self.training_step = task, config, step
        self.precision: Precision = step.precision
        self.world: World = step.world
        self.folder, self.console, self.wandb = folder, console, wandb
        self.meter = Meter(self.world)
        self.state = LoopState()
        position = 0
        if resume_from is not None:
            position = self._load(resume_from)
            console.say(f"resume   from step {self.state.step}")
        self.state.made_with = and_now(self.state.made_with, made_with(self.world.device))
        self.metrics = MetricsFile(folder.metrics, position) if self.world.is_main else None
        self._best_model: dict[str, Any] | None = None
        """Not yet written: files are written by save() and where the run fails, not at every small improvement."""

    def __enter__(self) -> Recorder:
        self.console.start(self.training_step.total, self.state.step)
        self.stopwatch = Stopwatch(self.state)
        self._begun_at = self._saved_at = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.console.stop()
        if self.metrics is not None:
            self.metrics.close()

    # ---------------------------------------------------------------- questions of the loop

    def out_of_patience(self) -> bool:
        """Return whether trainer.patience evaluations in a row brought no improvement."""
        patience = self.config.trainer.patience
        return patience is not None and self.state.stale >= patience

    def save_is_due(self) -> bool:
        """Return whether trainer.save_every_s has passed since the last checkpoint.

        The first is due after a second, then they are ever rarer: of a short run, too, most survives a kill.
        """
        since_saved = time.monotonic() - self._saved_at
        return since_saved > min(self.config.trainer.save_every_s, self._saved_at - self._begun_at + 1)

    # ---------------------------------------------------------------- rows

    def log(self, done: StepDone) -> None:
        """Write the row of the present step: means of the losses since the row before, learning rate, throughput."""
        state, trainer = self.state, self.config.trainer
        row = {
            "step": state.step,
            "epoch": state.step * trainer.accumulate / self.task.batches_per_epoch,
            **{f"train/{name}": value for name, value in self.meter.means().items()},
            "lr": done.lr,
        }
        if self.precision.needs_scaler:
            row |= {"fp16/skipped_steps": state.skipped, "fp16/scale": self.training_step.scaler.get_scale()}
        rate = self.stopwatch.examples_per_s()
        if rate is not None:
            row["throughput/examples_per_s"] = rate
        row["time/train_s"] = state.train_s
        self.meter.reset()
        self._record(row)
        self.console.step(row, self.training_step.total, self.task.unit)

    def evaluate(self) -> None:
        """Evaluate on the validation split, log what the hypernet makes, keep the model if it is the best so far."""
        state, task, ema = self.state, self.task, self.training_step.ema
        self._check_weights()
        share_buffers(task.model, self.world)
        with ema.applied() if ema is not None else nullcontext():
            results = task.evaluate("val", self.precision)
            generated = generated_statistics(task.model) if self.world.is_main else {}
            value = results[task.metric]
            better = state.best is None or (value > state.best if task.higher_is_better else value < state.best)
            better |= task.selects_last
            better &= not math.isnan(value)
            if better:
                state.best, state.best_step, state.stale = value, state.step, 0
                weights: dict[str, Tensor] = {name: value.clone() for name, value in task.model.state_dict().items()}
                self._best_model = {"model": weights, "step": state.step, "val": results, "task": task.state_dict()}
            else:
                state.stale += 1
        row = {"step": state.step, **{f"val/{name}": v for name, v in results.items()}, **generated}
        self._record(row)
        self.console.evaluation(row, self.training_step.total)
        self.stopwatch.go_on()

    def _record(self, row: dict[str, Any]) -> None:
        if self.metrics is not None:
            self.metrics.write(row)
            if row["step"] > self.metrics.last_step_before:
                self.wandb.log(row)

    # ---------------------------------------------------------------- what is not finite

    def check_losses(self) -> None:
        """Raise RunFailed if a loss was not finite. Waits for the device."""
        step = self.meter.first_not_finite()
        if step is not None:
            self._fail(step, "the loss")

    def _check_weights(self) -> None:
        # a loss can be finite and its gradient not: then the weights broke in the very last step
        broken = not all(bool(torch.isfinite(p).all()) for p in self.task.model.parameters())
        if any_rank(broken, self.world):
            self._fail(self.state.step, "a weight")

    def _fail(self, step: int, what: str) -> NoReturn:
        self._write_best()
        raise RunFailed(non_finite_message(step, self.folder, self.precision, what))

    # ---------------------------------------------------------------- checkpoints

    def save(self) -> None:
        """Write best.pt, if it changed, and last.pt; the one before becomes previous.pt. All processes call it."""
        self._check_weights()
        task_state = self.task.state_dict()
        self._write_best()  # before last.pt, so that what last.pt calls the best is always there
        if self.world.is_main:
            assert self.metrics is not None
            checkpoint.save(
                self.folder.checkpoints / "last.pt",
                {
                    **self.training_step.state_dict(),
                    "task": task_state,
                    "loop": self.state.as_dict(),
                    "meter": self.meter.state_dict(),
                    "metrics_position": self.metrics.position,
                    "rng": rng_state(),
                },
                keep_previous=True,
            )
        barrier(self.world)
        self._saved_at = time.monotonic()
        self.stopwatch.go_on()

    def _write_best(self) -> None:
        if self._best_model is not None and self.world.is_main:
            checkpoint.save(self.folder.checkpoints / "best.pt", self._best_model)
            self._best_model = None

    def _load(self, saved: dict[str, Any]) -> int:
        """Take up what save() wrote, all but the generators; return the position in metrics.jsonl."""
        try:
            self.task.load_state_dict(saved["task"])  # first: other data are the reason, where weights do not fit
            self.training_step.load_state_dict(saved)
            self.state = LoopState(**saved["loop"])
            self.meter.load_state_dict(saved["meter"])
            return saved["metrics_position"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            last = self.folder.checkpoints / "last.pt"
            reason = " ".join(str(error).split()[:30])
            raise UserError(f"{last} is of another run or version ({reason}); resume=never starts afresh") from None


def non_finite_message(step: int, folder: RunFolder, precision: Precision, what: str) -> str:
    last, best = folder.checkpoints / "last.pt", folder.checkpoints / "best.pt"
    if last.exists():
        good = f"the last good checkpoint is {last}"
    else:
        good = f"the best model before it is {best}" if best.exists() else "there is no checkpoint before it"
    advice = ["a lower optim.lr", "trainer.clip_norm=1.0", "schedule.warmup_steps=500"]
    if precision.name != "float32":
        advice.append("precision=float32")
    return f"{what} is not finite at step {step}; {good}; try {', '.join(advice)}"


def throughput(state: LoopState, task: Task, config: Config) -> dict[str, float]:
    """Return what summary.json says about speed: throughput/examples_per_s, and tokens_per_s of sequences."""
    examples, seconds = state.timed_examples, state.timed_s
    if not examples:  # so short a run that all of it was warm-up
        examples, seconds = state.step * task.examples_per_batch * config.trainer.accumulate, state.train_s
    tokens = state.timed_tokens or examples * (task.tokens_per_example or 0)
    speed = {"throughput/examples_per_s": round(examples / max(seconds, 1e-9), 1)}
    if tokens:
        speed["throughput/tokens_per_s"] = round(tokens / max(seconds, 1e-9), 1)
    return speed
