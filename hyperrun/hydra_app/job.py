"""One job of `hyperrun train -m`, in whichever process Hydra's launcher runs it: begun, ended, its end handed back."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hyperrun.config import Config
from hyperrun.errors import Held, Preempted, RunFailed, UserError
from hyperrun.hydra_app.overrides import typed_overrides
from hyperrun.hydra_app.plugins import import_plugins
from hyperrun.runs.folder import RECORDED, RunFolder, named
from hyperrun.tracking.console import Console
from hyperrun.tracking.wandb_run import first_line
from hyperrun.training.stop import SIGNALS


@dataclass
class JobEnd:
    """How a job of a sweep ended. Travels between processes."""

    number: int
    status: str
    """finished, failed, preempted, elsewhere (another process is training it), or skipped (by fail_fast, or because the
    sweep was asked to stop)."""
    folder: str | None = None
    """Its run folder, unless its config was so wrong that it names none."""
    value: float | None = None
    """The validation metric, which is what a search optimizes."""
    error: str | None = None
    trace: str | None = None
    """The traceback, where no train.log holds it."""
    signal: int = 0
    """What asked it to stop."""


class FirstFailure(BaseException):
    """Ends a sweep with fail_fast=true. Not an Exception: Hydra would go on with the next job."""


tell_leader: Callable[[JobEnd], None] | None = None
"""Notes a job's end, in the process that leads the sweep; None in one that a launcher has started for some jobs."""
stopped_by = 0
"""In such a process: the signal that asked it to stop, between two jobs too."""
at_work = False
"""In such a process: whether it has a job."""

HELD_S = 10
"""Seconds for which a job waits for a folder that another process holds: one that was left behind by a sweep that was
killed, and is saving, takes no longer."""


def failure_marker(context: Any) -> Path:
    """Return the file by which jobs in other processes know that fail_fast has ended their sweep."""
    return Path(str(context.sweep.dir)) / f"{context.job.env_set.HYPERRUN_SWEEP}.failed"


def run_job(cfg: DictConfig, configure: Callable[[], Config], train: Callable[[Config], float]) -> JobEnd:
    """Run one job of a sweep to its end, whatever that is.

    Raises:
        Preempted: in the leading process, where it ends the sweep.
        FirstFailure: there too.
        SystemExit: in a job that Slurm is to put back into its queue.
    """
    if tell_leader is not None:
        end = attempt_job(cfg, configure, train)
        tell_leader(end)
        if end.status == "failed" and cfg.get("fail_fast") is True:
            raise FirstFailure
        return end
    global at_work
    context = HydraConfig.get()
    marker = failure_marker(context)
    at_work = True
    try:
        settle(context)
        if stopped_by or marker.exists():
            return JobEnd(int(context.job.num), "skipped")
        with in_short(int(context.job.num)) as say:
            end = attempt_job(cfg, configure, train, say)
    finally:
        at_work = False
    if end.status == "failed" and cfg.get("fail_fast") is True:
        marker.touch()
    return end


def attempt_job(
    cfg: DictConfig,
    configure: Callable[[], Config],
    train: Callable[[Config], float],
    say: Callable[[str], None] = lambda text: None,
) -> JobEnd:
    """Return how the job ended: an error, too, is an end. Only in the leading process a request to stop is raised."""
    global stopped_by
    end = JobEnd(int(HydraConfig.get().job.num), "failed")
    config = None
    try:
        config = configure()
        end.folder = str(RunFolder.of(config).path)
        say(f"begins  {end.folder}")
        end.value = when_free(lambda: train(config))  # pyright: ignore[reportArgumentType]
        end.status = "finished"
        say(f"finished  {end.folder}: validation metric {end.value:.4f}")
    except Preempted as error:
        if tell_leader is not None:
            raise
        end.status, end.error, end.signal = "preempted", str(error), error.exit_status - 128
        say(f"{end.error}  {end.folder}")
        stopped_by = end.signal
        back_into_the_queue(end)
    except Held as error:
        end.status, end.error = "elsewhere", str(error)
        say(f"{end.error}")
    except Exception as error:
        end.error = first_line(error)
        expected = isinstance(error, UserError | RunFailed)
        if not expected:
            end.error = f"{type(error).__name__}: {end.error}"
        say(f"failed  {end.folder or end.error}")
        if config is None or not leave_word(config, error):
            end.trace = None if expected else traceback.format_exc()
            end.folder = None
    return end


def when_free(train: Callable[[], float]) -> float:
    """Train, and try for HELD_S to, while another process holds the folder."""
    until = time.monotonic() + HELD_S
    while True:
        try:
            return train()
        except Held:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


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


# ---------------------------------------------------------------- in a process that a launcher has started


def settle(context: Any) -> None:
    """Make a launcher's process like the leading one: its folder, the user's modules, signals, a GPU of its own."""
    with suppress(OSError):  # outputs=outputs is meant from where the line was typed
        os.chdir(str(context.runtime.cwd))
    import_plugins(typed_overrides(context))
    if not in_slurm():
        heed_signals()
        follow_parent()
    if torch.cuda.device_count() > 1:  # Slurm and Ray show a job its own GPUs alone; joblib shows each job all of them
        torch.cuda.set_device(int(context.job.num) % torch.cuda.device_count())


def in_slurm() -> bool:
    """Return whether this process is a job that submitit has given to Slurm."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def heed_signals() -> None:
    """In a process with several jobs, one after the other: a request to stop is for all of them."""

    def handle(number: int, frame: FrameType | None) -> None:
        global stopped_by
        stopped_by = number

    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, handle)


def follow_parent() -> None:
    """In a process of joblib's: go when the leading one is gone, which a kill -9 does not tell its children."""
    parent = os.getppid()
    if os.environ.get("SUBMITIT_EXECUTOR") or any(thread.name == FOLLOWS for thread in threading.enumerate()):
        return

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)  # a job that trains saves
        while at_work:
            time.sleep(0.1)
        os._exit(1)  # nobody waits for what it could return

    threading.Thread(target=follow, name=FOLLOWS, daemon=True).start()


def back_into_the_queue(end: JobEnd) -> None:
    """In a Slurm job that has saved: do not end as if it were done. When Slurm starts it again, it resumes.

    SIGUSR2, which Slurm sends before the time is up (and, if the cluster is set up so, before it preempts), has a
    handler of submitit's that puts the job back into the queue and exits. SIGTERM is what Slurm sends when it has put
    the job back itself, or cancels it; SIGKILL follows.
    """
    if not in_slurm() or end.signal not in (signal.SIGTERM, signal.SIGUSR2):
        return
    try:
        signal.raise_signal(end.signal)
    except Exception as refused:  # too often already (hydra.launcher.max_num_timeout)
        end.error = f"{end.error}; {first_line(refused)}"
        return
    print("saved; waiting for Slurm to end this job", flush=True)
    while True:
        signal.pause()


FOLLOWS = "hyperrun follows the leading process"


@contextmanager
def in_short(number: int) -> Iterator[Callable[[str], None]]:
    """Within the block, a job whose terminal is everybody's says but a line or two; its train.log has the rest."""
    if in_slurm():  # which gives each job a file
        yield lambda text: None
        return
    shared = sys.stdout

    def say(text: str) -> None:
        with suppress(BrokenPipeError):  # nobody reads any more
            print(f"job {number} {text}", file=shared, flush=True)

    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield say
