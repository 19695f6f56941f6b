"""What differs between Hydra's launchers: how many jobs at once, how those that run are asked to stop, and save.

conf/hydra/launcher has a config for each. Without one of these, jobs run in the leading process, one after the other.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch
from omegaconf import OmegaConf

from hyperrun.data.images import cores
from hyperrun.errors import Preempted, UserError
from hyperrun.hydra_app.replaced import check_names, replaced
from hyperrun.training.stop import SIGNALS

ENGINES = ("joblib.", "submitit.", "ray.")
"""Modules whose errors say that a job's process is gone, and nothing of the job itself."""


def jobs_at_once() -> int:
    """Return how many jobs this machine can run side by side: one for each GPU, or for each CPU if it has none."""
    return torch.cuda.device_count() or cores()


OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)
OmegaConf.register_new_resolver("gpus_per_job", lambda: min(torch.cuda.device_count(), 1), replace=True)


def engine_of(launcher: Any) -> str:
    """Return joblib, ray, submitit, or basic (Hydra's own)."""
    return type(launcher).__module__.partition("hydra_plugins.hydra_")[2].partition("_")[0] or "basic"


@contextmanager
def passing_signals_on(launcher: Any) -> Iterator[list[int]]:
    """Within the block, a request to stop reaches the jobs in other processes, which save.

    A job in this process has its own handler while it trains; between two jobs the request ends the sweep.

    Yields:
        the signals received so far.

    Raises:
        Preempted, KeyboardInterrupt: there was no job to ask.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    engine = engine_of(launcher)
    reach = {"ray": ray_jobs, "submitit": slurm_jobs}.get(engine, child_processes)

    def handle(number: int, frame: FrameType | None) -> None:
        again = number in asked
        asked.append(number)
        if (again and number == signal.SIGINT) or not ask_jobs():
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            where = "between two jobs" if engine == "basic" else "without its jobs"
            raise Preempted(f"stopped by {signal.Signals(number).name} {where}", number)
        print("hyperrun: the jobs finish their step, then save (Ctrl-C again stops at once)", file=sys.stderr)

    with reach(launcher) as ask_jobs:
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


@contextmanager
def child_processes(launcher: Any) -> Iterator[Callable[[], bool]]:
    """Yield what asks the processes of joblib to stop, and says whether there are any.

    Ctrl-C on a terminal reaches them by itself; that they get a SIGTERM besides does no harm, while a second SIGINT
    would stop them before they have saved.
    """

    def ask() -> bool:
        children = multiprocessing.active_children()
        for child in children:
            with suppress(OSError):
                os.kill(child.pid or 0, signal.SIGTERM)
        return bool(children)

    yield ask


@contextmanager
def ray_jobs(launcher: Any) -> Iterator[Callable[[], bool]]:
    """Start Ray, before our signal handlers are set (it sets some, too); yield what asks its jobs to stop."""
    check_names("hydra-ray-launcher")
    ray = importlib.import_module("ray")
    core = importlib.import_module("hydra_plugins.hydra_ray_launcher._core")
    launcher.ray_cfg.init.setdefault("object_store_memory", 78643200)  # as the launcher does; little travels
    try:
        core.start_ray(launcher.ray_cfg.init)
    except ConnectionError as error:
        raise UserError(f"no Ray cluster at {launcher.ray_cfg.init.address}: {str(error).splitlines()[0]}") from None
    jobs: list[Any] = []
    launch = core.launch_job_on_ray

    def launch_job_on_ray(*args: Any) -> Any:
        jobs.append(launch(*args))
        return jobs[-1]

    def ask() -> bool:
        for job in jobs:
            ray.cancel(job)  # a KeyboardInterrupt where it trains, which is a request to stop
        ray.wait(jobs, num_returns=len(jobs), timeout=60)
        return bool(jobs)

    with replaced(core, "launch_job_on_ray", launch_job_on_ray):
        yield ask


@contextmanager
def slurm_jobs(launcher: Any) -> Iterator[Callable[[], bool]]:
    """Yield what says that jobs in Slurm's queue are nobody's children: people log out, and look in tomorrow.

    Raises:
        UserError: the warning that a job's time is up would come while it starts, and kill it.
    """
    check_names("hydra-submitit-launcher", "submitit")
    local = type(launcher).__name__ == "LocalLauncher"  # hydra/launcher=submitit_local
    if not local:
        delay, minutes = launcher.params["signal_delay_s"], launcher.params["timeout_min"]
        if delay >= 60 * minutes:
            raise UserError(
                f"hydra.launcher.timeout_min={minutes} is no more than hydra.launcher.signal_delay_s={delay} seconds: "
                "the jobs would be asked to stop as they start"
            )

    def ask() -> bool:
        where = "in processes of their own" if local else "in Slurm's queue (squeue shows them, scancel ends them)"
        print(f"hyperrun: the jobs go on {where}", file=sys.stderr)
        return False

    yield ask
