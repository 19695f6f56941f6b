"""The training loop: one function, read from top to bottom.

Exactness: everything the next step depends on is either a pure function of the step (order, augmentation, learning
rate) or in the checkpoint (parameters, optimizer, scaler, average, generators, what has been counted since the last
logged row). So a run that is killed and started again ends with the same bits, on the same machine.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import NoReturn

import torch
from torch import Tensor, nn

from hyperrun.config import Config
from hyperrun.errors import RunFailed, UserError
from hyperrun.hypernets import generated_statistics
from hyperrun.runs.folder import RunFolder
from hyperrun.runs.metrics_file import MetricsFile
from hyperrun.tasks import Task
from hyperrun.tracking.console import Console
from hyperrun.tracking.environment import and_now, made_with
from hyperrun.tracking.wandb_run import WandbRun
from hyperrun.training import checkpoint
from hyperrun.training.distributed import World, any_rank, barrier, max_over_ranks, share_buffers, sum_over_ranks, wrap
from hyperrun.training.ema import EMA
from hyperrun.training.optim import build_optimizers, set_learning_rate, total_steps
from hyperrun.training.precision import Precision
from hyperrun.training.schedules import lr_factor
from hyperrun.training.seeds import restore_rng, rng_state
from hyperrun.training.stop import StopRequest

WARM_UP_STEPS = 3
"""Steps at the start of a process that do not count towards throughput: compilation, first allocations."""


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


class Meter:
    """Sums of the statistics since the last logged row, kept on the device so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.first_bad = torch.tensor(-1, device=device)
        """Step of the first non-finite loss, or -1."""

    def add(self, loss: Tensor, stats: dict[str, Tensor], step: int) -> None:
        for name, value in stats.items():
            value = value.double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1
        bad = ~torch.isfinite(loss.detach()) & (self.first_bad < 0)
        self.first_bad = torch.where(bad, step, self.first_bad)

    def means(self, world: World) -> dict[str, float]:
        names = list(self.sums)
        sums = sum_over_ranks(torch.stack([self.sums[n] for n in names]), world).tolist()
        return {name: value / (self.count * world.size) for name, value in zip(names, sums, strict=True)}

    def reset(self) -> None:
        self.sums, self.count = {}, 0


def train(
    task: Task,
    config: Config,
    precision: Precision,
    world: World,
    folder: RunFolder,
    console: Console,
    wandb: WandbRun,
    stop: StopRequest,
    resume_from: dict | None,
) -> LoopState:
    """Train until the end, an early stop or a request to stop; return where the run stands.

    Leaves checkpoints/last.pt and best.pt and the rows of metrics.jsonl. `resume_from` is a state read from last.pt.

    Raises:
        RunFailed: the loss is no longer finite.
    """
    trainer = config.trainer
    optimizers = build_optimizers(config.optim, task.model)
    scaler = torch.amp.GradScaler(world.device.type, enabled=precision.needs_scaler)
    ema = EMA(task.model, trainer.ema) if trainer.ema else None
    meter = Meter(world.device)
    state = LoopState()
    total = total_steps(config, task.batches_per_epoch)
    eval_every = trainer.eval_every or max(1, task.batches_per_epoch // trainer.accumulate)

    # ---------------------------------------------------------------- resume
    metrics_position = 0
    if resume_from is not None:
        try:
            task.model.load_state_dict(resume_from["model"])
            for optimizer, saved in zip(optimizers, resume_from["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            scaler.load_state_dict(resume_from["scaler"])
            if ema is not None:
                ema.load_state_dict(resume_from["ema"])
            task.load_state_dict(resume_from["task"])
            state = LoopState(**resume_from["loop"])
            meter.sums, meter.count = dict(resume_from["meter"]["sums"]), resume_from["meter"]["count"]
            metrics_position = resume_from["metrics_position"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            last = folder.checkpoints / "last.pt"
            reason = " ".join(str(error).split()[:30])
            raise UserError(f"{last} is of another run or version ({reason}); resume=never starts afresh") from None
        console.say(f"resume   from step {state.step}")
    state.made_with = and_now(state.made_with, made_with(world.device))
    metrics = MetricsFile(folder.metrics, metrics_position) if world.is_main else None

    # not yet written: files are written by save() and where the run fails, not at every small improvement
    best_model: dict | None = None
    # the raw modules keep their names: nothing compiled or wrapped is ever saved
    loss_module: nn.Module = wrap(torch.compile(task.loss) if config.compile else task.loss, world)  # type: ignore[arg-type]

    def record(row: dict) -> None:
        if metrics is not None:
            metrics.write(row)
            if row["step"] > metrics.last_step_before:
                wandb.log(row)

    def fail(step: int, what: str) -> NoReturn:
        write_best()
        raise RunFailed(non_finite_message(step, folder, precision, what))

    def check_finite() -> None:
        step = max_over_ranks(int(meter.first_bad.item()), world)
        if step >= 0:
            fail(step, "the loss")

    def check_weights() -> None:
        # a loss can be finite and its gradient not: then the weights broke in the very last step
        broken = not all(bool(torch.isfinite(p).all()) for p in task.model.parameters())
        if any_rank(broken, world):
            fail(state.step, "a weight")

    def write_best() -> None:
        nonlocal best_model
        if best_model is not None and world.is_main:
            checkpoint.save(folder.checkpoints / "best.pt", best_model)
            best_model = None

    def save() -> None:
        check_weights()
        task_state = task.state_dict()
        write_best()  # before last.pt, so that what last.pt calls the best is always there
        if world.is_main:
            assert metrics is not None
            checkpoint.save(
                folder.checkpoints / "last.pt",
                {
                    "model": task.model.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "scaler": scaler.state_dict(),
                    "ema": ema.state_dict() if ema else None,
                    "task": task_state,
                    "loop": asdict(state),
                    "meter": {"sums": meter.sums, "count": meter.count},
                    "metrics_position": metrics.position,
                    "rng": rng_state(),
                },
                keep_previous=True,
            )
        barrier(world)

    def evaluate() -> None:
        """Evaluate on the validation split, log what the hypernet makes, keep the model if it is the best so far."""
        nonlocal best_model
        check_weights()
        share_buffers(task.model, world)
        with ema.applied() if ema else nullcontext():
            results = task.evaluate("val", precision)
            generated = generated_statistics(task.model) if world.is_main else {}
            value = results[task.metric]
            better = state.best is None or (value > state.best if task.higher_is_better else value < state.best)
            better |= task.selects_last
            better &= not math.isnan(value)
            if better:
                state.best, state.best_step, state.stale = value, state.step, 0
                weights = {name: value.clone() for name, value in task.model.state_dict().items()}
                best_model = {"model": weights, "step": state.step, "val": results, "task": task.state_dict()}
            else:
                state.stale += 1
        row = {"step": state.step, **{f"val/{name}": v for name, v in results.items()}, **generated}
        record(row)
        console.evaluation(row, total)

    # ---------------------------------------------------------------- train
    batches = task.batches(state.step * trainer.accumulate)
    if resume_from is not None:  # last, since building and loading draw random numbers too
        restore_rng(resume_from["rng"])
    task.model.train()
    console.start(total, state.step)
    first_step, clock = state.step, time.perf_counter()
    begun_at = saved_at = time.monotonic()
    window_s, window_examples = 0.0, 0
    examples_per_step = task.examples_per_batch * trainer.accumulate
    stopping = stalled(state, config)
    try:
        while state.step < total and not stopping:
            factor = lr_factor(config.schedule, state.step, total)
            set_learning_rate(optimizers, factor)
            for i in range(trainer.accumulate):
                batch = next(batches)
                last = i == trainer.accumulate - 1
                with nullcontext() if last or world.size == 1 else loss_module.no_sync():  # type: ignore[operator]
                    with precision.autocast():
                        loss, stats = loss_module(*batch)
                    scaler.scale(loss / trainer.accumulate).backward()
                meter.add(loss, stats, state.step + 1)
            if trainer.clip_norm is not None:
                for optimizer in optimizers:
                    scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(task.model.parameters(), trainer.clip_norm)
            for optimizer in optimizers:
                scaler.step(optimizer)
                optimizer.zero_grad(set_to_none=True)
            if precision.needs_scaler:
                scale = scaler.get_scale()
                scaler.update()
                state.skipped += scaler.get_scale() < scale
            if ema is not None:
                ema.update()
            state.step += 1

            # ---------------------------------------------------- log, evaluate, save, stop
            log_now = state.step % trainer.log_every == 0 or state.step == total
            eval_now = state.step % eval_every == 0 or state.step == total
            poll_now = world.size == 1 or log_now  # several processes agree by a message, so not at every step
            stopping = poll_now and any_rank(stop.requested, world)
            save_now = stopping or state.step == total
            if world.size == 1:
                # the first after a second, then ever more rarely: of a short run, too, most survives a kill
                save_now |= time.monotonic() - saved_at > min(trainer.save_every_s, saved_at - begun_at + 1)
            else:
                save_now |= eval_now  # clocks differ between processes
            if log_now or eval_now or save_now:
                check_finite()  # waits for the device, so the clock below is honest, and nothing broken is saved
            now = time.perf_counter()
            state.train_s += now - clock
            if state.step - first_step > WARM_UP_STEPS:
                window_s, window_examples = window_s + now - clock, window_examples + examples_per_step
            clock = now
            if log_now:
                row = {
                    "step": state.step,
                    "epoch": state.step * trainer.accumulate / task.batches_per_epoch,
                    **{f"train/{name}": value for name, value in meter.means(world).items()},
                    "lr": config.optim.lr * factor,
                }
                if precision.needs_scaler:
                    row |= {"fp16/skipped_steps": state.skipped, "fp16/scale": scaler.get_scale()}
                if window_s:
                    row["throughput/examples_per_s"] = window_examples / window_s
                    state.timed_s, state.timed_examples = (
                        state.timed_s + window_s,
                        state.timed_examples + window_examples,
                    )
                    window_s, window_examples = 0.0, 0
                row["time/train_s"] = state.train_s
                meter.reset()
                record(row)
                console.step(row, total, task.unit)
            if eval_now:
                evaluate()
                stopping = stopping or stalled(state, config)
                clock = time.perf_counter()
            if save_now or stopping:
                save()
                saved_at, clock = time.monotonic(), time.perf_counter()
    finally:
        console.stop()
        if metrics is not None:
            metrics.close()
    return state


def stalled(state: LoopState, config: Config) -> bool:
    """Return whether trainer.patience evaluations in a row brought no improvement."""
    return config.trainer.patience is not None and state.stale >= config.trainer.patience


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
