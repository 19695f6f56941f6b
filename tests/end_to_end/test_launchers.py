"""Sweeps in other processes: Hydra's launchers for joblib, Ray and Slurm, each with the engine it is for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from hyperrun.hydra_app import job as sweep_job
from hyperrun.hydra_app.launchers import jobs_at_once
from tests.running import FAST, REPO, Running, assert_same_run, checkpoint, summary

Start = Callable[..., Running]
Here = Callable[..., Any]

ON = {
    "processes": ("hydra/launcher=processes", "hydra.launcher.n_jobs=2"),
    "ray_cluster": ("hydra/launcher=ray_cluster", "hydra.launcher.ray.init.num_cpus=2"),
    "slurm": ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.partition=low"),
}
ENV = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
PATIENCE = 600
"""Seconds: each process imports torch, and a busy machine takes its time."""

LONG = (
    "trainer.max_steps=2000",
    "trainer.eval_every=1000",
    "trainer.save_every_s=0.2",
    "trainer.log_every=10",
    *FAST[2:],
)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a Slurm of this machine alone; return the environment in which its commands find it."""
    script, folder = REPO / "scripts" / "one_machine_slurm", tmp_path_factory.mktemp("slurm")
    started = subprocess.run([script, "start", folder], capture_output=True, text=True, timeout=120)
    if started.returncode:
        pytest.skip(started.stderr.strip())
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([script, "stop", folder], timeout=120)


@pytest.fixture(params=ON)
def engine(request: pytest.FixtureRequest) -> tuple[tuple[str, ...], dict[str, str]]:
    """The launcher's overrides and what its engine needs in the environment."""
    needs = request.getfixturevalue("slurm") if request.param == "slurm" else {}
    return ON[request.param], ENV | needs


def statuses(cwd: Path) -> dict[int, str]:
    """Return how the runs of a sweep over seeds stand."""
    found = [summary(path.parent) for path in cwd.glob("outputs/digits/*/summary.json")]
    return {run["seed"]: run["status"] for run in sorted(found, key=lambda run: run["seed"])}


def folder_of(cwd: Path, seed: int) -> Path:
    (folder,) = cwd.glob(f"outputs/digits/*-s{seed}-*")
    return folder


def trained(cwd: Path, seeds: tuple[int, ...], name: str = "checkpoints/last.pt") -> bool:
    return all(list(cwd.glob(f"outputs/digits/*-s{seed}-*/{name}")) for seed in seeds)


def wait_until(running: Running, condition: Callable[[], object]) -> None:
    """Wait for what a line brings about while it runs."""
    running.until(lambda: condition() or running.poll() is not None, PATIENCE)
    assert condition(), f"ended with status {running.status}\n{running.out}\n{running.err}"


# ---------------------------------------------------------------- what is the same on all of them


def test_the_jobs_are_those_of_a_sweep_in_one_process(
    start: Start, tmp_path: Path, engine: tuple[tuple[str, ...], dict[str, str]]
) -> None:
    """One of them fails; each run is what it would have been; the table, the errors and the status are the same."""
    line = ("train", "-m", *FAST, "optim=sgd", "optim.lr=1e-2,1e20", "seed=0,1")
    on, env = engine
    alone = start(*line, cwd=tmp_path / "alone")
    there = start(*line, *on, cwd=tmp_path / "there", env=env)
    assert alone.wait() == 1 and there.wait(PATIENCE) == 1, there.err
    names = sorted(path.name for path in (tmp_path / "alone").glob("outputs/digits/*"))
    assert sorted(path.name for path in (tmp_path / "there").glob("outputs/digits/*")) == names and len(names) == 4
    for name in names:
        ours, theirs = (tmp_path / cwd / "outputs" / "digits" / name for cwd in ("there", "alone"))
        if summary(theirs)["status"] == "finished":
            assert_same_run(ours, theirs)
        else:
            assert summary(ours)["error"] == summary(theirs)["error"]
            assert "Traceback" in (ours / "train.log").read_text()
    said = [line for line in there.err.splitlines() if line.startswith("hyperrun: error: ")]
    assert said == [line for line in alone.err.splitlines() if line.startswith("hyperrun: error: ")] and len(said) == 3
    assert "digits: test accuracy, higher is better" in there.out and there.out.count(" failed ") >= 2
    assert not list((tmp_path / "there").glob("outputs/.hydra/*.failed"))

    again = start(*line, *on, cwd=tmp_path / "there", env=env)
    assert again.wait(PATIENCE) == 1
    assert "step 8/8" not in again.out and len(list((tmp_path / "there").glob("outputs/digits/*"))) == 4


def test_modules_of_the_users_are_known_where_jobs_run(
    start: Start, tmp_path: Path, engine: tuple[tuple[str, ...], dict[str, str]]
) -> None:
    (tmp_path / "mine.py").write_text('import os; open("imported-" + str(os.getpid()), "w").close()')
    on, env = engine
    running = start("train", "-m", *FAST, "plugins=[mine]", "seed=0", *on, env=env)
    assert running.wait(PATIENCE) == 0, running.err
    assert len(list(tmp_path.glob("imported-*"))) >= 2, "in the leading process and in the job's"
    assert statuses(tmp_path) == {0: "finished"}


# ---------------------------------------------------------------- stopped, killed


@pytest.mark.parametrize(("on", "number"), [("processes", signal.SIGINT), ("ray_cluster", signal.SIGTERM)])
def test_asked_to_stop_the_jobs_save(start: Start, tmp_path: Path, on: str, number: signal.Signals) -> None:
    line = ("train", "-m", *LONG, "trainer.save_every_s=1000", "seed=0,1,2", *ON[on])
    running = start(*line, env=ENV)
    wait_until(running, lambda: trained(tmp_path, (0, 1), "metrics.jsonl"))
    running.send(number)
    assert running.wait(PATIENCE) == 128 + number, running.err
    assert "the jobs finish their step, then save" in running.err
    assert f"hyperrun: stopped by {number.name}" in running.err and "Traceback" not in running.err
    assert statuses(tmp_path) == {0: "preempted", 1: "preempted"}
    steps = [checkpoint(folder_of(tmp_path, seed) / "checkpoints" / "last.pt")["loop"]["step"] for seed in (0, 1)]
    assert all(0 < step < 2000 for step in steps)
    done = start(*line, env=ENV)
    assert done.wait(PATIENCE) == 0, done.err
    assert statuses(tmp_path) == {0: "finished", 1: "finished", 2: "finished"}
    for seed, step in enumerate(steps):
        assert f"resume   from step {step}\n" in (folder_of(tmp_path, seed) / "train.log").read_text()


def test_a_killed_process_of_joblib(start: Start, tmp_path: Path) -> None:
    line = ("train", "-m", *LONG, "seed=0,1", *ON["processes"])
    running = start(*line)
    wait_until(running, lambda: trained(tmp_path, (0, 1)))
    os.kill(int((folder_of(tmp_path, 0) / ".lock").read_text()), signal.SIGKILL)
    assert running.wait(PATIENCE) == 1, running.err
    assert "hyperrun: error: jobs were lost; the same line goes on with them (TerminatedWorkerError: " in running.err
    assert "Traceback" not in running.err and running.out.count(" interrupted ") >= 1, "the table says so"
    done = start(*line)
    assert done.wait(PATIENCE) == 0, done.err
    assert statuses(tmp_path) == {0: "finished", 1: "finished"}


def test_a_killed_process_of_ray_is_replaced(start: Start, tmp_path: Path) -> None:
    running = start("train", "-m", *LONG, "seed=0,1", *ON["ray_cluster"], env=ENV)
    wait_until(running, lambda: trained(tmp_path, (0, 1)))
    os.kill(int((folder_of(tmp_path, 0) / ".lock").read_text()), signal.SIGKILL)
    assert running.wait(PATIENCE) == 0, running.err
    assert statuses(tmp_path) == {0: "finished", 1: "finished"}
    assert "resume   from step " in (folder_of(tmp_path, 0) / "train.log").read_text()


def test_fail_fast_is_known_in_other_processes(start: Start, tmp_path: Path) -> None:
    line = ("optim=sgd", "optim.lr=1e20,1e-3", "seed=0,1", "fail_fast=true", "hydra.launcher.n_jobs=1")
    running = start("train", "-m", *FAST, "hydra/launcher=processes", *line)
    assert running.wait(PATIENCE) == 1
    assert statuses(tmp_path) == {0: "failed"}
    assert running.err.splitlines()[-1] == "hyperrun: error: 1 of 4 jobs failed, 3 were not begun (fail_fast=true)"
    batches = start("train", "-m", *FAST, "hydra/launcher=processes", *line, "hydra.sweeper.max_batch_size=1")
    assert batches.wait(PATIENCE) == 1
    assert statuses(tmp_path) == {0: "failed"}, "nor is the next batch begun"


def test_what_a_killed_sweep_leaves_behind_saves_and_goes(start: Start, tmp_path: Path) -> None:
    line = ("train", "-m", *LONG, "trainer.save_every_s=1000", "seed=0,1", *ON["processes"])
    running = start(*line)
    running.until(lambda: trained(tmp_path, (0, 1), "metrics.jsonl"), PATIENCE)
    workers = [int((folder_of(tmp_path, seed) / ".lock").read_text()) for seed in (0, 1)]
    running.send(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    again = start(*line)
    assert again.wait(PATIENCE) == 0, again.err
    assert statuses(tmp_path) == {0: "finished", 1: "finished"}
    for seed in (0, 1):
        assert "resume   from step " in (folder_of(tmp_path, seed) / "train.log").read_text()
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


# ---------------------------------------------------------------- Slurm


class Cluster:
    """Slurm's commands."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = {**os.environ, **env}

    def __call__(self, *words: str) -> str:
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    def state(self) -> str:
        """Return the state of the one job in the queue."""
        return self("squeue", "--noheader", "--partition=low", "--format=%T")

    def start_now(self) -> None:
        """Let a job that was put back begin now, not in two minutes.

        Not in the second in which it was put back: Slurm would take it for the one that it has just ended.
        """
        job = self("squeue", "--noheader", "--partition=low", "--format=%i")
        self("scontrol", "update", f"jobid={job}", "starttime=now+2")


def test_a_job_that_slurm_preempts_resumes(start: Start, tmp_path: Path, slurm: dict[str, str]) -> None:
    """A job of a better partition takes the machine; Slurm puts ours back into its queue."""
    cluster = Cluster(slurm)
    running = start("train", "-m", *LONG, "trainer.save_every_s=1000", "seed=0", *ON["slurm"], env=ENV | slurm)
    wait_until(running, lambda: trained(tmp_path, (0,), "metrics.jsonl"))
    cluster("srun", "--partition=high", "--exclusive", "true")
    assert statuses(tmp_path) == {0: "preempted"}
    step = checkpoint(folder_of(tmp_path, 0) / "checkpoints" / "last.pt")["loop"]["step"]
    assert 0 < step < 2000 and running.poll() is None, "the line waits for its job"
    wait_until(running, lambda: cluster.state() == "PENDING")
    cluster.start_now()
    assert running.wait(PATIENCE) == 0, running.err
    assert statuses(tmp_path) == {0: "finished"}
    assert f"resume   from step {step}\n" in (folder_of(tmp_path, 0) / "train.log").read_text()
    alone = start("train", *LONG, "trainer.save_every_s=1000", "seed=0", cwd=tmp_path / "alone")
    assert alone.wait(PATIENCE) == 0
    assert_same_run(folder_of(tmp_path, 0), alone.folder)


def test_a_job_whose_time_is_up_goes_back_into_the_queue(start: Start, tmp_path: Path, slurm: dict[str, str]) -> None:
    """SIGUSR2 is what Slurm sends signal_delay_s before that. The second time is one too many.

    (submitit takes it for a preemption in all but the last ten minutes.)
    """
    cluster = Cluster(slurm)
    times = ("hydra.launcher.timeout_min=10", "hydra.launcher.max_num_timeout=1")
    running = start("train", "-m", *LONG, "trainer.max_steps=100000", "seed=0", *ON["slurm"], *times, env=ENV | slurm)
    warn = ("scancel", "--signal=USR2", "--name=hyperrun")
    wait_until(running, lambda: trained(tmp_path, (0,)))
    cluster(*warn)
    wait_until(running, lambda: cluster.state() == "PENDING")
    step = checkpoint(folder_of(tmp_path, 0) / "checkpoints" / "last.pt")["loop"]["step"]
    cluster.start_now()
    log = folder_of(tmp_path, 0) / "train.log"
    wait_until(running, lambda: f"resume   from step {step}\n" in log.read_text())
    cluster(*warn)
    assert running.wait(PATIENCE) == 128 + signal.SIGUSR2, running.err
    assert "timed-out too many times" in running.err and "the same command goes on" in running.err
    assert statuses(tmp_path) == {0: "preempted"}


def test_slurm_jobs_outlive_the_line(start: Start, tmp_path: Path, slurm: dict[str, str]) -> None:
    cluster = Cluster(slurm)
    line = ("train", "-m", *LONG, "seed=0", *ON["slurm"])
    running = start(*line, env=ENV | slurm)
    wait_until(running, lambda: trained(tmp_path, (0,), "metrics.jsonl"))
    running.send(signal.SIGINT)
    assert running.wait(PATIENCE) == 130
    assert "hyperrun: the jobs go on in Slurm's queue" in running.err and "Traceback" not in running.err
    running.until(lambda: cluster.state() == "", PATIENCE)
    assert statuses(tmp_path) == {0: "finished"}


def test_jobs_that_slurm_refuses(start: Start, tmp_path: Path, slurm: dict[str, str]) -> None:
    running = start("train", "-m", *FAST, "hydra/launcher=slurm", "hydra.launcher.partition=gpu", env=ENV | slurm)
    assert running.wait(PATIENCE) == 2
    assert running.err.endswith("\nhyperrun: error: Slurm refused the jobs: invalid partition specified: gpu\n")
    assert "Traceback" not in running.err


def test_a_warning_that_would_come_at_the_start(start: Start, tmp_path: Path) -> None:
    running = start("train", "-m", *FAST, "hydra/launcher=slurm", "hydra.launcher.timeout_min=2", env=ENV)
    assert running.wait() == 2
    assert running.err.endswith(
        "hyperrun: error: hydra.launcher.timeout_min=2 is no more than hydra.launcher.signal_delay_s=120 seconds: "
        "the jobs would be asked to stop as they start\n"
    )
    assert not list(tmp_path.glob("outputs/digits/*"))


def test_no_ray_cluster_at_the_address(start: Start, tmp_path: Path) -> None:
    line = ("hydra/launcher=ray_cluster", "hydra.launcher.ray.init.address=auto")
    running = start("train", "-m", *FAST, *line, env=ENV)
    assert running.wait(PATIENCE) == 2
    assert "hyperrun: error: no Ray cluster at auto: " in running.err and "Traceback" not in running.err


def test_the_script_for_slurm_says_what_is_missing(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "mkdir", "readlink", "basename"):
        (tools / name).symlink_to(shutil.which(name) or "")
    script = (REPO / "scripts" / "one_machine_slurm").read_text().replace("PATH=$PATH:/usr/sbin:/sbin", "")
    (tmp_path / "one_machine_slurm").write_text(script)
    line = [tools / "bash", tmp_path / "one_machine_slurm", "start", tmp_path / "d"]
    done = subprocess.run(line, env={"PATH": str(tools)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "one_machine_slurm: no munged (Debian, Ubuntu: apt-get install slurm-wlm munge)\n"


# ---------------------------------------------------------------- configs


WITHOUT = "import hydra_plugins; hydra_plugins.__path__ = []"
"""An environment in which no plugin of Hydra's is installed."""


@pytest.mark.parametrize(
    ("choice", "config", "extra"),
    [
        ("sweep=search", "hydra/sweeper/optuna", "search (pip install hydra-optuna-sweeper)"),
        ("hydra/sweeper=optuna", "hydra/sweeper/optuna", "search (pip install hydra-optuna-sweeper)"),
        ("hydra/launcher=processes", "hydra/launcher/joblib", "joblib (pip install hydra-joblib-launcher)"),
        ("hydra/launcher=slurm", "hydra/launcher/submitit_slurm", "slurm (pip install hydra-submitit-launcher)"),
        ("hydra/launcher=ray_cluster", "hydra/launcher/ray", "ray (pip install hydra-ray-launcher)"),
    ],
)
def test_without_the_extra_its_name_is_said(start: Start, tmp_path: Path, choice: str, config: str, extra: str) -> None:
    running = start("train", "-m", choice, before=WITHOUT)
    assert running.wait() == 2
    assert running.err == f"hyperrun: error: {config} needs the extra {extra}\n"
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", ON)
def test_configs_compose_with_the_keys_of_the_launchers(here: Here, name: str) -> None:
    done = here("train", f"hydra/launcher={name}", "--cfg", "hydra", "-p", "hydra.launcher")
    assert done.err == "", "no deprecated way to give a schema"
    config: Any = OmegaConf.create(done.out)
    if name == "processes":
        assert config.n_jobs == jobs_at_once() and config.batch_size == "1"
    elif name == "ray_cluster":
        assert config.ray.remote.num_gpus == min(torch.cuda.device_count(), 1)
    else:
        assert config.additional_parameters == {"requeue": True} and config.max_num_timeout > 0
    wrong = here("train", "-m", f"hydra/launcher={name}", "hydra.launcher.n_job=2", status=2)
    assert wrong.err.count("\n") == 1 and "n_job" in wrong.err


@pytest.mark.parametrize(("number", "gpus", "chosen"), [(0, 2, [0]), (3, 2, [1]), (5, 4, [1]), (3, 1, []), (3, 0, [])])
def test_gpus_are_dealt_out_by_job_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, gpus: int, chosen: list[int]
) -> None:
    """Where a process sees one GPU or none (Ray and Slurm have dealt already) there is nothing to choose."""
    dealt: list[int] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", dealt.append)
    monkeypatch.setattr(sweep_job, "heed_signals", lambda: None)
    context = {"job": {"num": number}, "runtime": {"cwd": str(tmp_path)}, "overrides": {"task": []}}
    sweep_job.settle(OmegaConf.create(context))
    assert dealt == chosen
