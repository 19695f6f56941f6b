"""The training loop: one function, read from top to bottom.

Exactness: everything the next step depends on is either a pure function of the step (order, augmentation, learning
rate) or in the checkpoint (parameters, optimizer, scaler, average, generators, what has been counted since the last
logged row). So a run that is killed and started again ends with the same bits, on the same machine.
"""

from __future__ import annotations

from typing import Any

from hyperrun.config import Config
from hyperrun.runs.folder import RunFolder
from hyperrun.tracking.console import Console
from hyperrun.tracking.wandb_run import WandbRun
from hyperrun.training.distributed import World, any_rank
from hyperrun.training.precision import Precision
from hyperrun.training.recorder import LoopState, Recorder
from hyperrun.training.seeds import restore_rng
from hyperrun.training.step import TrainingStep
from hyperrun.training.stop import StopRequest
from hyperrun.training.task import Task

__all__ = ["LoopState", "train"]


def train(
    task: Task,
    config: Config,
    precision: Precision,
    world: World,
    folder: RunFolder,
    console: Console,
    wandb: WandbRun,
    stop: StopRequest,
    resume_from: dict[str, Any] | None,
) -> LoopState:
    """Train until the end, an early stop or a request to stop; return where the run stands.

    Leaves checkpoints/last.pt and best.pt and the rows of metrics.jsonl. `resume_from` is a state read from last.pt.

    Raises:
        RunFailed: the loss is no longer finite.
        UserError: `resume_from` is of another run or version.
    """
    trainer = config.trainer
    eval_every = trainer.eval_every or max(1, task.batches_per_epoch // trainer.accumulate)
    step = TrainingStep(task, config, precision, world)
    recorder = Recorder(task, config, step, folder, console, wandb, resume_from)
    state = recorder.state
    batches = task.batches(state.step * trainer.accumulate)
    if resume_from is not None:  # last, since building and loading draw random numbers too
        restore_rng(resume_from["rng"])
    task.model.train()

    with recorder:
        stopping = recorder.out_of_patience()
        while state.step < step.total and not stopping:
            done = step(state.step, batches, recorder.meter)
            state.step += 1
            state.skipped += done.skipped

            # ---------------------------------------------------- what is to be done after this step
            at_end = state.step == step.total
            log_now = state.step % trainer.log_every == 0 or at_end
            eval_now = state.step % eval_every == 0 or at_end
            poll_now = world.size == 1 or log_now  # several processes agree by a message, so not at every step
            stopping = poll_now and any_rank(stop.requested, world)
            # clocks differ between processes: several save when they evaluate
            save_now = stopping or at_end or (recorder.save_is_due() if world.size == 1 else eval_now)

            # ---------------------------------------------------- log, evaluate, save, stop
            if log_now or eval_now or save_now:
                recorder.check_losses()  # waits for the device, so the time is honest, and nothing broken is saved
            recorder.stopwatch.step(done)
            if log_now:
                recorder.log(done)
            if eval_now:
                recorder.evaluate()
                stopping = stopping or recorder.out_of_patience()
            if save_now or stopping:
                recorder.save()
    return state
