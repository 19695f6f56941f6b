"""What `hyperrun train -m` adds to Hydra's sweeps: each job's end recorded, failures one line each, a table at the end.

Hydra's sweepers choose the jobs and its launchers run them, in this process one after the other or in others
(hydra/launcher=joblib, ray, submitit_slurm). Wherever a job runs it returns a JobEnd, which the launcher brings back.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from hyperrun.analysis import compare, print_comparison, read_runs
from hyperrun.config import Config
from hyperrun.errors import Preempted, RunFailed, SweepFailed, UserError
from hyperrun.tracking.console import Console
from hyperrun.tracking.run_folder import CONFIG, RECORDED, RunFolder, named
from hyperrun.tracking.wandb_run import first_line
from hyperrun.training.stop import SIGNALS


@dataclass
class JobEnd:
    """How a job of a sweep ended. Travels between processes."""

    number: int
    status: str
    """finished, failed, preempted, or skipped (by fail_fast, or because the sweep was asked to stop)."""
    folder: str | None = None
    """Its run folder, unless its config was so wrong that it names none."""
    value: float | None = None
    """The validation metric, which is what a search optimizes."""
    error: str | None = None
    trace: str | None = None
    """The traceback, where no train.log holds it."""
    signal: int = 0
    pid: int = field(default_factory=os.getpid)


@dataclass
class Sweep:
    """The sweep that this process leads."""

    jobs: dict[int, list[str]] = field(default_factory=dict)
    """Number of a job -> its overrides."""
    ends: list[JobEnd] = field(default_factory=list)
    pid: int = field(default_factory=os.getpid)

    def name_of(self, number: int) -> str:
        """Return what sets a job apart from the others: the overrides that not all of them have."""
        common = set.intersection(*map(set, self.jobs.values()))
        return " ".join(o for o in self.jobs[number] if o not in common) or "the only one"

    def add(self, end: JobEnd) -> None:
        """Note a job's end, and say so if it failed."""
        self.ends.append(end)
        if end.status == "failed":
            more = f"; more in {end.folder}/train.log" if end.folder else f"\n{end.trace}" if end.trace else ""
            print(f"hyperrun: error: job {end.number} ({self.name_of(end.number)}): {end.error}{more}", file=sys.stderr)


leading: Sweep | None = None
"""The sweep led by this process; None in a process that a launcher has started for some jobs."""
stopped_by = 0
"""In such a process: the signal that asked it to stop, between two jobs too."""


class FirstFailure(BaseException):
    """Ends a sweep with fail_fast=true. Not an Exception: Hydra would go on with the next job."""


# ---------------------------------------------------------------- the process that leads


@contextmanager
def leading_sweeps() -> Iterator[None]:
    """Within the block, whatever Hydra launches is recorded; at its end the table is shown.

    Raises:
        SweepFailed: a job failed.
        Preempted: a job in another process was asked to stop.
    """
    global leading
    sweep = leading = Sweep()
    instantiate = Plugins.instantiate_launcher

    def instantiate_launcher(self: Plugins, *args: Any, **kwargs: Any) -> Any:
        return Recorder(instantiate(self, *args, **kwargs), sweep)

    Plugins.instantiate_launcher = instantiate_launcher
    try:
        with suppress(FirstFailure):
            yield
    finally:
        Plugins.instantiate_launcher = instantiate
        leading = None
    if not sweep.jobs:
        return
    if os.environ.get("RANK", "0") == "0":
        after_sweep([Path(end.folder) for end in sorted(sweep.ends, key=lambda e: e.number) if end.folder is not None])
    failed = sum(end.status == "failed" for end in sweep.ends)
    if failed:
        skipped = len(sweep.jobs) - sum(end.status in ("failed", "finished") for end in sweep.ends)
        begun = f", {skipped} were not begun (fail_fast=true)" if skipped else ""
        raise SweepFailed(f"{failed} of {len(sweep.jobs)} jobs failed{begun}")


class Recorder:
    """A launcher that notes how its jobs ended, and gives the sweeper the numbers that it expects."""

    def __init__(self, launcher: Any, sweep: Sweep) -> None:
        self.launcher = launcher
        self.sweep = sweep

    def __getattr__(self, name: str) -> Any:
        return getattr(self.launcher, name)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        first = initial_job_idx
        self.sweep.jobs |= {first + i: list(overrides) for i, overrides in enumerate(job_overrides)}
        marker = failure_marker(self.launcher.config.hydra)
        marker.unlink(missing_ok=True)
        with passing_signals_on() as asked:
            returned = self.launcher.launch(job_overrides, initial_job_idx=first)
        for job in returned:
            end = job.return_value
            if isinstance(end, JobEnd):
                if end.pid != self.sweep.pid:  # those of this process have been added
                    self.sweep.add(end)
                job.return_value = end.value
        marker.unlink(missing_ok=True)
        if asked:
            saved = sum(end.status == "preempted" for end in self.sweep.ends)
            raise Preempted(f"stopped by {signal.Signals(asked[0]).name}, {saved} jobs saved", asked[0])
        return returned


@contextmanager
def passing_signals_on() -> Iterator[list[int]]:
    """Within the block, a request to stop reaches jobs in child processes, which save; without any it ends the sweep.

    A job in this process has its own handler while it trains. Ctrl-C on a terminal reaches the children by itself; that
    they get a SIGTERM besides does no harm, while a second SIGINT would stop them before they have saved.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(number: int, frame: FrameType | None) -> None:
        children = multiprocessing.active_children()
        again = number in asked
        asked.append(number)
        if not children or (again and number == signal.SIGINT):
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise Preempted(f"stopped by {signal.Signals(number).name} between two jobs", number)
        print("hyperrun: the jobs finish their step, then save (Ctrl-C again stops at once)", file=sys.stderr)
        for child in children:
            with suppress(OSError):
                os.kill(child.pid or 0, signal.SIGTERM)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield asked
    except Exception:
        if asked:  # a process that had nothing to save is gone
            raise Preempted(f"stopped by {signal.Signals(asked[0]).name}", asked[0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def after_sweep(folders: Sequence[Path]) -> None:
    """Print what `hyperrun compare` says of the jobs that have a folder."""
    here = [folder for folder in dict.fromkeys(folders) if (folder / CONFIG).is_file()]
    if not here:
        return
    runs = read_runs(here)
    comparisons = compare(runs)
    for warning in runs.warnings:
        print(f"hyperrun: warning: {warning}", file=sys.stderr)
    console = Console()
    console.rich.print()
    print_comparison(runs, console.rich, comparisons)
    parents = dict.fromkeys(str(folder.parent) for folder in here)
    console.say(f"next    hyperrun compare {shlex.join(parents)} --html sweep.html")


def failure_marker(context: Any) -> Path:
    """Return the file by which jobs in other processes know that fail_fast has ended their sweep."""
    return Path(str(context.sweep.dir)) / f"{context.job.env_set.HYPERRUN_SWEEP}.failed"


# ---------------------------------------------------------------- the process that runs a job


def run_job(cfg: DictConfig, configure: Callable[[], Config], train: Callable[[Config], float]) -> JobEnd:
    """Run one job of a sweep to its end, whatever that is.

    Raises:
        Preempted: in the leading process, where it ends the sweep.
        FirstFailure: there too.
    """
    global stopped_by
    context = HydraConfig.get()
    end = JobEnd(int(context.job.num), "skipped")
    marker = failure_marker(context)
    if leading is None:
        heed_signals()
        if stopped_by or marker.exists():
            return end
    config = None
    try:
        config = configure()
        end.folder = str(RunFolder.of(config).path)
        end.value = train(config)
        end.status = "finished"
    except Preempted as error:
        if leading is not None:
            raise
        end.status, end.error, end.signal = "preempted", str(error), error.exit_status - 128
        stopped_by = end.signal
    except Exception as error:
        end.status, end.error = "failed", first_line(error)
        expected = isinstance(error, UserError | RunFailed)
        if not expected:
            end.error = f"{type(error).__name__}: {end.error}"
        if config is None or not leave_word(config, error):
            end.trace = None if expected else traceback.format_exc()
            end.folder = None
        if cfg.get("fail_fast") is True:
            if leading is not None:
                leading.add(end)
                raise FirstFailure from None
            marker.touch()
    if leading is not None:
        leading.add(end)
    return end


def heed_signals() -> None:
    """In a process with several jobs, one after the other: a request to stop is for all of them."""

    def handle(number: int, frame: FrameType | None) -> None:
        global stopped_by
        stopped_by = number

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, handle)


def leave_word(config: Config, error: Exception) -> bool:
    """Mark the run `failed` where its training did not get so far as to do that; return whether its folder says so."""
    if any(note.startswith(RECORDED) for note in getattr(error, "__notes__", ())):
        return True
    folder = RunFolder.of(config)
    try:
        with folder:
            if (folder.read_summary() or {}).get("status") == "finished":
                return False
            folder.write_config(config)
            console = Console(silent=True)
            console.write_to(folder.log)
            console.record_exception()
            console.close_log()
            folder.write_summary({**named(config), "status": "failed", "error": first_line(error)})
            return True
    except (UserError, OSError):  # held by another process, or not to be written to: that was the error
        return False
