"""What `hyperrun train -m` adds to Hydra's sweeps: each job's end recorded, failures one line each, a table at the end.

Hydra's sweepers choose the jobs and its launchers run them, in this process one after the other or in others
(hydra/launcher=processes, ray_cluster, slurm). Wherever a job runs it returns a JobEnd, which the launcher brings back.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper

from hyperrun.compare import compare, print_comparison, read_runs
from hyperrun.errors import Preempted, SweepFailed, UserError
from hyperrun.hydra_app import job as sweep_job
from hyperrun.hydra_app.compose import as_a_job_sees, check_jobs, configured
from hyperrun.hydra_app.job import FirstFailure, JobEnd, failure_marker
from hyperrun.hydra_app.launchers import ENGINES, passing_signals_on
from hyperrun.hydra_app.replaced import replaced
from hyperrun.runs.folder import CONFIG, RunFolder
from hyperrun.tracking.console import Console
from hyperrun.tracking.wandb_run import first_line


@dataclass
class Sweep:
    """The sweep that this process leads."""

    jobs: dict[int, list[str]] = field(default_factory=dict)
    """Number of a job -> its overrides."""
    ends: list[JobEnd] = field(default_factory=list)

    def name_of(self, number: int) -> str:
        """Return what sets a job apart from the others: the overrides that not all of them have."""
        common = set.intersection(*map(set, self.jobs.values()))
        return " ".join(o for o in self.jobs[number] if o not in common) or "the only one"

    def ended(self, status: str) -> list[JobEnd]:
        return [end for end in self.ends if end.status == status]

    def add(self, end: JobEnd) -> None:
        """Note a job's end, and say so if it failed."""
        self.ends.append(end)
        if end.status == "failed":
            more = f"; more in {end.folder}/train.log" if end.folder else f"\n{end.trace}" if end.trace else ""
            print(f"hyperrun: error: job {end.number} ({self.name_of(end.number)}): {end.error}{more}", file=sys.stderr)


@contextmanager
def leading_sweeps() -> Iterator[None]:
    """Within the block, whatever Hydra launches is recorded; at its end the table is shown.

    Raises:
        SweepFailed: a job failed, or the launcher has lost some.
        Preempted: a job in another process was asked to stop.
    """
    sweep = Sweep()
    instantiate = Plugins.instantiate_launcher

    def instantiate_launcher(self: Plugins, *args: Any, **kwargs: Any) -> Any:
        return Recorder(instantiate(self, *args, **kwargs), sweep)

    lost = None
    try:
        with (
            replaced(Plugins, "instantiate_launcher", instantiate_launcher),
            replaced(Sweeper, "validate_batch_is_legal", check_jobs),
            replaced(sweep_job, "tell_leader", sweep.add),
            suppress(FirstFailure),
        ):
            yield
    except JobsLost as error:
        lost = error
    if not sweep.jobs:
        return
    if os.environ.get("RANK", "0") == "0":
        after_sweep([Path(end.folder) for end in sorted(sweep.ends, key=lambda e: e.number) if end.folder is not None])
    if lost is not None:
        raise lost
    failed, stopped, elsewhere = (sweep.ended(status) for status in ("failed", "preempted", "elsewhere"))
    if failed:
        skipped = len(sweep.jobs) - len(failed) - len(sweep.ended("finished")) - len(stopped) - len(elsewhere)
        begun = f", {skipped} were not begun (fail_fast=true)" if skipped else ""
        raise SweepFailed(f"{len(failed)} of {len(sweep.jobs)} jobs failed{begun}")
    if elsewhere:
        many = f"{len(elsewhere)} of {len(sweep.jobs)} jobs"
        raise SweepFailed(f"{many} are being trained by other processes; the same line again takes up what they leave")
    if stopped:
        raise Preempted(f"{len(stopped)} of {len(sweep.jobs)} jobs: {stopped[0].error}", stopped[0].signal)


class JobsLost(SweepFailed):
    """A launcher gave up: a process of its was killed, or its cluster is gone."""


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
        try:
            with passing_signals_on(self.launcher) as asked:
                returned = self.launcher.launch(job_overrides, initial_job_idx=first)
        except Exception as error:
            if type(error).__name__ == "FailedJobError":  # submitit's, for what sbatch said
                reason = str(error).strip().splitlines()[0].removeprefix("sbatch: error: ")
                raise UserError(f"Slurm refused the jobs: {reason}") from None
            if not type(error).__module__.startswith(ENGINES):
                raise
            self.look_for_what_is_left()
            said = f"{type(error).__name__}: {first_line(error)}"
            raise JobsLost(f"jobs were lost; the same line goes on with them ({said})") from error
        for job in returned:
            end = job.return_value
            if isinstance(end, JobEnd):
                if not any(end is known for known in self.sweep.ends):  # those of this process have been added
                    self.sweep.add(end)
                job.return_value = end.value
        marker.unlink(missing_ok=True)
        if self.launcher.config.get("fail_fast") is True and self.sweep.ended("failed"):
            raise FirstFailure  # which a job in another process could not raise here: there may be more batches
        if asked:
            saved = len(self.sweep.ended("preempted"))
            raise Preempted(f"stopped by {signal.Signals(asked[0]).name}, {saved} jobs saved", asked[0])
        return returned

    def look_for_what_is_left(self) -> None:
        """Note the folders of jobs whose ends nobody brought back."""
        known = {end.number for end in self.sweep.ends}
        for number, overrides in self.sweep.jobs.items():
            if number not in known:
                cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
                with suppress(UserError):  # no config, no run
                    folder = RunFolder.of(configured(as_a_job_sees(cfg), overrides)).path
                    self.sweep.ends.append(JobEnd(number, "lost", str(folder)))


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
