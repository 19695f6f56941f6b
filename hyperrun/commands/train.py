"""hyperrun train: from a composed config to a finished run folder. The main job, top to bottom."""

from __future__ import annotations

import os
import re
import shlex
import signal
from contextlib import ExitStack, suppress
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from hyperrun.config import Config
from hyperrun.data import published_name
from hyperrun.data.fetch import fetch_if_missing
from hyperrun.errors import Preempted, UserError
from hyperrun.hydra_app.app import through_hydra
from hyperrun.hydra_app.compose import configured
from hyperrun.hydra_app.job import JobEnd, run_job
from hyperrun.hydra_app.overrides import refuse_study, typed_overrides
from hyperrun.hydra_app.plan import planning_only
from hyperrun.hydra_app.sweep import leading_sweeps
from hyperrun.hypernets import count_parameters
from hyperrun.models import width_of
from hyperrun.runs.folder import RECORDED, RunFolder, named
from hyperrun.runs.typed import changed_words, has_papers_count
from hyperrun.tasks import Task, build_task
from hyperrun.tracking.console import Console
from hyperrun.tracking.environment import made_with
from hyperrun.tracking.wandb_run import choose_mode, first_line, wandb_run
from hyperrun.training import checkpoint
from hyperrun.training.distributed import World, barrier, join_world, max_over_ranks
from hyperrun.training.loop import LoopState, train
from hyperrun.training.precision import Precision, choose_matmul_precision, choose_precision
from hyperrun.training.recorder import throughput, times
from hyperrun.training.seeds import seed_everything
from hyperrun.training.stop import StopRequest


def main(argv: list[str]) -> int:
    """Run Hydra on the rest of the command line: overrides, -m, --cfg, --info, --help, completion; and --dry-run."""
    planning = "--dry-run" in argv
    failed.clear()
    through_hydra(
        [word for word in argv if word != "--dry-run"], job, planning_only() if planning else leading_sweeps()
    )
    if failed:
        raise failed[0]
    return 0


failed: list[Exception] = []
"""The error of this command line's one job: what else reaches main() is Hydra's, or a sweep's."""


def job(cfg: DictConfig) -> float | JobEnd | None:
    """Train one config (Hydra calls this once, or once for each job of a sweep); return the validation metric."""
    context = HydraConfig.get()
    typed = typed_overrides(context)
    command = shlex.join(["hyperrun", "train", *typed])
    if context.mode == RunMode.MULTIRUN:
        group = os.environ["HYPERRUN_SWEEP"]
        return run_job(cfg, lambda: configured(cfg, typed), lambda config: attempt(config, command, group))
    try:
        refuse_study(typed)
        config = configured(cfg, typed)
        return attempt(config, command, config.experiment)
    except Exception as error:
        failed.append(error)
        return None  # main() raises it; raised here, Hydra would print lines of its own first


NO_COMPILER = re.compile("InvalidCxxCompiler|No working C.. compiler|Failed to find C compiler")
"""What torch's and Triton's errors say, which come in the first step."""


def attempt(config: Config, command: str, group: str | None) -> float:
    """Run, and say more of errors that say too little."""
    try:
        return run(config, command, group)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:  # writing to an open file does not say to which
            error.filename = config.outputs
        if "Expected more than 1 value per channel" in str(error):  # torch finds it in the first step only
            said = UserError("trainer.batch_size: a batch norm needs more than one value per channel; raise it")
            said.__notes__ = getattr(error, "__notes__", [])
            raise said from None
        if config.compile and NO_COMPILER.search(str(error)):
            said = UserError("compile=true needs a C++ compiler (g++ or clang++; $CXX names it); there is none here")
            said.__notes__ = getattr(error, "__notes__", [])
            raise said from None
        raise


def run(config: Config, command: str, group: str | None = None) -> float:
    """Train what `config` describes, or finish what an earlier call began; return the validation metric.

    Raises:
        UserError: the config asks for something impossible, or another process is training it.
        RunFailed: the loss is no longer finite.
        Preempted: a signal asked to stop; everything is saved.
    """
    folder = RunFolder.of(config)
    with ExitStack() as stack:
        world = stack.enter_context(join_world())
        console = Console(silent=not world.is_main)
        done = finished_metric(folder, config, console)
        if done is not None:
            return done
        # everything that can be wrong with the request shows here, before anything is written
        seed_everything(config.seed, config.deterministic)
        precision = choose_precision(config.precision, world.device)
        torch.set_float32_matmul_precision(choose_matmul_precision(config.trainer.matmul_precision, world.device)[0])
        if world.is_main:
            fetch_if_missing(published_name(config.data), config.data.root)
        barrier(world)
        task = build_task(config, world)
        if world.is_main:
            stack.enter_context(folder)
            done = finished_metric(folder, config, console)  # by another process, since we looked
            if done is not None:
                return done
            prepare(folder, config, console)
            stack.callback(console.close_log)
        barrier(world)
        resume_from, warning = checkpoint.load_latest(folder.checkpoints, world.device)
        facts = run_facts(config, task, precision, world, command)
        announce(console, config, task, facts, precision, folder, warning)

        mode, reason = choose_mode(config.tracking.wandb.mode) if world.is_main else ("disabled", "")
        console.say(f"W&B      {mode}: {reason}")
        stop = stack.enter_context(StopRequest(console.warn))
        try:
            with wandb_run(config, folder, facts, group, mode, console.warn) as wandb:
                state = train(task, config, precision, world, folder, console, wandb, stop, resume_from)
                signalled = max_over_ranks(int(stop.signal or 0), world)  # a scheduler may tell one process only
                if signalled:
                    name = signal.Signals(signalled).name
                    raise Preempted(f"stopped by {name} at step {state.step}, saved", signalled)
                barrier(world)
                summary = facts | select_and_test(task, folder, precision, world, state, config)
                wandb.summarize(summary)
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None:  # writing to an open file does not say to which
                error.filename = str(folder.path)
            if world.is_main:
                write_unfinished(folder, facts, error, console)
            raise
        if world.is_main:
            folder.write_summary(summary)
            console.result(summary, folder.path)
            closing = task.closing_words(precision)
            if closing is not None:
                console.say(closing)
        return summary[f"val/{task.metric}"]


def finished_metric(folder: RunFolder, config: Config, console: Console) -> float | None:
    """Return the metric of a run that is finished already, after showing its result; None if there is work to do."""
    summary = folder.read_summary()
    if config.resume == "never" or summary is None or summary.get("status") != "finished":
        return None
    console.say("this run is finished already (resume=never trains it again)")
    console.result(summary, folder.path)
    return summary[f"val/{summary['metric']}"]


def prepare(folder: RunFolder, config: Config, console: Console) -> None:
    """Make the folder ready: empty if asked to start afresh, with the config, the log open."""
    folder.sweep()
    if config.resume == "never":
        folder.clear()
    folder.write_config(config)
    console.write_to(folder.log)


def run_facts(config: Config, task: Task, precision: Precision, world: World, command: str) -> dict[str, Any]:
    """Return what summary.json says about a run before anything is trained."""
    facts: dict[str, Any] = {
        **named(config),
        "task": task.name,
        **count_parameters(task.model).as_dict(),
        "metric": task.metric,
        **task.facts(),
        "precision": precision.name,
        "matmul_precision": torch.get_float32_matmul_precision(),
        **made_with(world.device),
        "processes": world.size,
        "command": command,
    }
    if config.paper is not None:
        paper = {f"paper/{name}": getattr(config.paper, name) for name in ("params", "metric", "value")}
        if has_papers_count(facts | paper, config.paper.part, changed_words(command)):
            facts |= paper
    return facts


def announce(
    console: Console,
    config: Config,
    task: Task,
    facts: dict[str, Any],
    precision: Precision,
    folder: RunFolder,
    warning: str | None,
) -> None:
    """Say what is about to be trained, and why so."""
    console.say(f"run      {folder.path}")
    console.say(
        f"model    {config.model}: {facts['params/trainable']:,} trainable parameters for a target of "
        f"{facts['params/target']:,} ({facts['params/generated']:,} generated)"
    )
    if config.params is not None:
        off = facts["params/trainable"] / config.params - 1
        console.say(f"params   {config.params:,} asked for: target.{width_of(config.target)} is {off:+.1%} off")
    console.say(f"data     {task.describe_data()}")
    console.say(f"device   {facts['device']}; {precision.name}: {precision.reason}")
    memory = task.memory()
    if memory is not None:
        console.say(f"memory   about {memory / 2**30:,.2g} GiB for the longest batch, parameters and optimizer")
    for note in task.warnings():
        console.warn(note)
    if not facts.get("data/verified", True):
        console.warn("data.verify=false: the data's checksums were not confirmed; summary.json says so")
    if task.name == "classification" and facts["params/trainable"] > facts["params/target"]:
        console.warn("the hypernet has more parameters than the network it generates")
    if getattr(config.data, "order", None) == "continual" and facts["params/generated"] and facts["params/free"]:
        console.warn(
            f"{facts['params/free']:,} parameters are not generated: all tasks share them, and data.beta does not keep "
            "them from forgetting (hypernet.generate=everything leaves none)"
        )
    if warning:
        console.warn(warning)


def select_and_test(
    task: Task, folder: RunFolder, precision: Precision, world: World, state: LoopState, config: Config
) -> dict[str, Any]:
    """Load the selected checkpoint, read the test data for the only time, and return the rest of summary.json.

    Of data without a test split it says so: null is the test figure.
    """
    best = checkpoint.load(folder.checkpoints / "best.pt", world.device)
    task.model.load_state_dict(best["model"])
    test = task.evaluate("test", precision) if "test" in task.splits else {task.metric: None}
    return {
        "status": "finished",
        **state.made_with,
        **{f"val/{name}": value for name, value in best["val"].items()},
        **{f"test/{name}": value for name, value in test.items()},
        "best/step": best["step"],
        "steps": state.step,
        **times(state, task, config),
        **throughput(state, task, config),
        "fp16/skipped_steps": state.skipped,
    }


def write_unfinished(folder: RunFolder, facts: dict[str, Any], error: BaseException, console: Console) -> None:
    """Leave word of how the run ended, its traceback included, where the next reader looks for it."""
    status = "preempted" if isinstance(error, Preempted | KeyboardInterrupt) else "failed"
    if status == "failed":
        console.record_exception()
        error.add_note(f"{RECORDED}{folder.log}")
    with suppress(OSError):  # a full disk: the first error is the one to report
        folder.write_summary(facts | {"status": status, "error": first_line(error)})
