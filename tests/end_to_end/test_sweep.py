"""hyperrun train -m: many jobs, some of which fail; stopped, killed and typed again; looked at before anything runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import FAST, QUIET, Running, assert_same_run, checkpoint, only_run, rows, summary

Start = Callable[..., Running]
Here = Callable[..., Any]


def runs(cwd: Path) -> list[dict[str, Any]]:
    return [summary(path.parent) for path in sorted(cwd.glob("outputs/digits/*/summary.json"))]


def test_sweep_over_models_and_seeds(start: Start, tmp_path: Path) -> None:
    line = ("train", "-m", *FAST, "model=cnn,hypercnn", "seed=0,1")
    first = start(*line)
    assert first.wait() == 0, first.err
    found = [summary(path.parent) for path in tmp_path.glob("outputs/digits/*/summary.json")]
    assert sorted((run["model"], run["seed"]) for run in found) == [
        ("cnn", 0), ("cnn", 1), ("hypercnn", 0), ("hypercnn", 1)
    ]  # fmt: skip
    assert len({run["test/loss"] for run in found}) == 4
    again = start(*line)
    assert again.wait() == 0
    assert again.out.count("this run is finished already") == 4


def test_sweep_over_models_with_keys_that_only_they_have(here: Here, tmp_path: Path) -> None:
    """The default model has no target.depth."""
    here("train", "-m", *FAST, "model=resnet,hyperresnet", "target.depth=10", "target.width=1", "seed=range(1,2)")
    found = [summary(path.parent) for path in tmp_path.glob("outputs/digits/*/summary.json")]
    assert sorted((run["model"], run["seed"]) for run in found) == [("hyperresnet", 1), ("resnet", 1)]
    assert {run["params/target"] for run in found} == {77_562}
    wrong = here("train", "-m", *FAST, "model=resnet,hyperresnet", "target.dept=10", status=2)
    assert wrong.err.count("\n") == 1 and "did you mean 'target.depth'?" in wrong.err


def test_a_job_of_a_sweep_is_the_run_typed_alone(start: Start, tmp_path: Path) -> None:
    sweep = start("train", "-m", *FAST, "seed=0,1", cwd=tmp_path / "sweep")
    alone = start("train", *FAST, "seed=1", cwd=tmp_path / "alone")
    assert sweep.wait() == alone.wait() == 0
    folder = next((tmp_path / "sweep").glob("outputs/digits/*-s1-*"))
    assert_same_run(folder, alone.folder)
    assert summary(folder)["command"] == summary(alone.folder)["command"], "it can be typed alone again"


# ---------------------------------------------------------------- failing jobs


@pytest.mark.parametrize(
    ("sweep", "said", "has_folder"),
    [
        ("optim.lr=1e-3,1e20,2e-3", "the loss is not finite at step", True),
        ("data.val_size=180,5000,100", "data.val_size=5000 leaves nothing", True),
        ("optim.lr=1e-3,-1,2e-3", "lr must be positive, not -1.0", False),
    ],
    ids=["while training", "before training", "no config"],
)
def test_a_failing_job_does_not_stop_the_others(
    start: Start, tmp_path: Path, sweep: str, said: str, has_folder: bool
) -> None:
    running = start("train", "-m", *FAST, "optim=sgd", sweep)
    assert running.wait() == 1, running.err
    first, last = running.err.splitlines()
    assert first.startswith(f"hyperrun: error: job 1 ({sweep.partition('=')[0]}=") and said in first
    assert last == "hyperrun: error: 1 of 3 jobs failed"
    table = running.out.index("digits: test accuracy, higher is better")
    assert "Traceback" not in running.out and said not in running.out[:table], "on stderr, and in the table at the end"
    assert "●  hypercnn" in running.out[table:] and "next    hyperrun compare outputs/digits" in running.out[table:]
    found = runs(tmp_path)
    assert [run["status"] for run in found].count("finished") == 2
    failed = [path.parent for path in tmp_path.glob("outputs/digits/*/summary.json") if is_failed(path.parent)]
    assert len(failed) == has_folder and running.out.count(" failed ") == has_folder, "in the table at the end"
    for folder in failed:
        assert str(folder.relative_to(tmp_path)) in first and (folder / "config.yaml").exists()
        assert said in summary(folder)["error"] and summary(folder)["model"] == "hypercnn"
        log = (folder / "train.log").read_text()
        assert log.count("Traceback (most recent call last)") == 1 and said in log
    with_traceback = [path.parent for path in tmp_path.glob("outputs/*/*/train.log") if "Traceback" in path.read_text()]
    assert with_traceback == failed, "its own log, and no other"

    again = start("train", "-m", *FAST, "optim=sgd", sweep)
    assert again.wait() == 1 and again.out.count("this run is finished already") == 2
    assert again.err == running.err, "the same line, the same end"


def is_failed(folder: Path) -> bool:
    return summary(folder)["status"] == "failed"


def test_the_log_of_a_failed_job_is_there_before_the_next_one_begins(start: Start, tmp_path: Path) -> None:
    hook = """
import pathlib
import hyperrun.commands.train as train
real = train.run
def run(config, *args, **kwargs):
    logs = [path.read_text() for path in pathlib.Path("outputs").glob("*/*/train.log")]
    print(f"seed {config.seed} sees {sum('Traceback' in log for log in logs)} tracebacks", flush=True)
    return real(config, *args, **kwargs)
train.run = run
"""
    running = start("train", "-m", *FAST, "data.val_size=5000,180", before=hook)
    assert running.wait() == 1
    assert "seed 0 sees 0 tracebacks" in running.out and "seed 0 sees 1 tracebacks" in running.out


DEFECT = """
from hyperrun.training import step as training_step
real = training_step.lr_factor
def broken(schedule, step, total):
    if total == 4:
        raise AttributeError("a defect")
    return real(schedule, step, total)
training_step.lr_factor = broken
"""


def test_a_defect_of_ours_in_a_job_is_one_line_and_its_traceback_in_the_log(start: Start, tmp_path: Path) -> None:
    running = start("train", "-m", *FAST, "trainer.max_steps=4,5", before=DEFECT)
    assert running.wait() == 1
    line = running.err.splitlines()[0]
    assert line.startswith("hyperrun: error: job 0 (trainer.max_steps=4): AttributeError: a defect; more in outputs/")
    log = tmp_path / line.rpartition(" ")[2]
    assert log.read_text().count("AttributeError: a defect") == 1 and "in broken" in log.read_text()
    assert sorted(run["status"] for run in runs(tmp_path)) == ["failed", "finished"]


def test_fail_fast_stops_at_the_first_failure(start: Start, tmp_path: Path) -> None:
    line = ["train", "-m", *FAST, "optim=sgd", "seed=0,1", "optim.lr=1e20,1e-3", "fail_fast=true"]
    running = start(*line)
    assert running.wait() == 1
    assert [run["status"] for run in runs(tmp_path)] == ["failed"]
    assert running.err.splitlines()[-1] == "hyperrun: error: 1 of 4 jobs failed, 3 were not begun (fail_fast=true)"
    line[-1] = "fail_fast=false"
    assert start(*line).wait() == 1
    assert sorted(run["status"] for run in runs(tmp_path)) == ["failed", "failed", "finished", "finished"]
    assert len(list(tmp_path.glob("outputs/digits/*"))) == 4, "fail_fast makes no other run of it"


def test_fail_fast_with_a_config_that_is_none(here: Here, tmp_path: Path) -> None:
    here("train", "-m", *FAST, "optim.lr=-1,1e-3", "fail_fast=true", status=1)
    assert runs(tmp_path) == []


def test_a_failed_job_leaves_finished_runs_and_those_of_others_alone(start: Start, tmp_path: Path) -> None:
    """Typed again with a mistake that the hash does not see, a finished run stays finished."""
    line = ("train", *FAST)
    assert start(*line).wait() == 0
    broken = start("train", "-m", *FAST, "seed=0,1", "resume=never", "data.root=nowhere", before=NO_DATA)
    assert broken.wait() == 1, broken.err
    assert {run["seed"]: run["status"] for run in runs(tmp_path)} == {0: "finished", 1: "failed"}


NO_DATA = """
import hyperrun.tasks as tasks, hyperrun.commands.train as train
from hyperrun.errors import UserError
def build_task(config, world):
    raise UserError("no data")
train.build_task = build_task
"""


def test_a_job_that_occurs_twice_is_trained_once(start: Start, tmp_path: Path) -> None:
    running = start("train", "-m", *FAST, "seed=0,0,1,0")
    assert running.wait() == 0, running.err
    assert running.out.count("this run is finished already") == 2 and len(runs(tmp_path)) == 2


# ---------------------------------------------------------------- two at once

IMPATIENT = "import hyperrun.hydra_app.job as sweep_job; sweep_job.HELD_S = 0.2"


def test_a_job_that_another_process_is_training_has_not_failed(start: Start, tmp_path: Path) -> None:
    other = start("train", *QUIET, "trainer.max_steps=100000", "seed=1")
    other.until(other.has_trained)
    running = start("train", "-m", *QUIET, "trainer.max_steps=100000,4", "seed=1", before=IMPATIENT)
    assert running.wait() == 1, running.err
    said = "1 of 2 jobs are being trained by other processes; the same line again takes up what they leave"
    assert running.err == f"hyperrun: error: {said}\n"
    assert f"process {other.pid} is training it" in running.out and "●  hypercnn" in running.out, "in the table"
    assert other.poll() is None and [run["status"] for run in runs(tmp_path)] == ["finished"]


def test_a_job_waits_for_what_another_process_is_about_to_finish(start: Start, tmp_path: Path) -> None:
    other = start("train", *QUIET, "trainer.max_steps=100000", "trainer.log_every=1")
    other.until(other.has_trained)
    running = start("train", "-m", *QUIET, "trainer.max_steps=100000", "trainer.log_every=1")
    time.sleep(2)
    other.send(signal.SIGTERM)
    assert other.wait() == 143
    step = checkpoint(only_run(tmp_path) / "checkpoints" / "last.pt")["loop"]["step"]
    running.until(lambda: f"resume   from step {step}" in running.out)


# ---------------------------------------------------------------- stopped, killed, typed again

SIX = ("train", "-m", *FAST, "trainer.max_steps=30", "trainer.save_every_s=0", "model=cnn,hypercnn", "seed=0,1,2")

THIRD = """
import os, signal
import hyperrun.runs.metrics_file as metrics
opened, real_init, real_write = [0], metrics.MetricsFile.__init__, metrics.MetricsFile.write
def init(self, *args):
    opened[0] += 1
    real_init(self, *args)
def write(self, row):
    real_write(self, row)
    if opened[0] == 3 and row["step"] == 16:
        os.kill(os.getpid(), signal.{name})
metrics.MetricsFile.__init__, metrics.MetricsFile.write = init, write
"""


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the sweep was run at one go."""
    running = Running(*SIX, cwd=tmp_path_factory.mktemp("six"))
    assert running.wait() == 0, running.err
    assert running.err == "" and len(runs(running.cwd)) == 6
    return running.cwd


def test_killed_in_its_third_job_and_typed_again(start: Start, six: Path, tmp_path: Path) -> None:
    killed = start(*SIX, before=THIRD.format(name="SIGKILL"))
    assert killed.wait() == -signal.SIGKILL
    assert [run["status"] for run in runs(tmp_path)] == ["finished"] * 2
    done = start(*SIX)
    assert done.wait() == 0, done.err
    assert done.out.count("this run is finished already") == 2
    assert done.out.count("resume   from step ") == 1
    assert_same_sweep(tmp_path, six)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_stopped_in_its_third_job_and_typed_again(start: Start, six: Path, tmp_path: Path, name: str) -> None:
    stopped = start(*SIX, before=THIRD.format(name=name))
    assert stopped.wait() == 128 + signal.Signals[name]
    assert sorted(run["status"] for run in runs(tmp_path)) == ["finished", "finished", "preempted"]
    assert stopped.err == f"hyperrun: stopped by {name} at step 17, saved; the same command goes on\n"
    done = start(*SIX)
    assert done.wait() == 0, done.err
    assert done.out.count("this run is finished already") == 2 and done.out.count("resume   from step 17") == 1
    assert_same_sweep(tmp_path, six)


def assert_same_sweep(cwd: Path, reference: Path) -> None:
    names = sorted(path.name for path in reference.glob("outputs/digits/*"))
    assert sorted(path.name for path in cwd.glob("outputs/digits/*")) == names and len(names) == 6
    for name in names:
        assert_same_run(cwd / "outputs" / "digits" / name, reference / "outputs" / "digits" / name)
        steps = [row["step"] for row in rows(cwd / "outputs" / "digits" / name) if "train/loss" in row]
        assert steps == sorted(set(steps)), "nothing is trained twice"


def test_asked_to_stop_between_two_jobs(start: Start, tmp_path: Path) -> None:
    hook = """
import os, signal
import hyperrun.commands.train as train
real, seen = train.configured, []
def configured(*args):
    seen.append(1)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return real(*args)
train.configured = configured
"""
    running = start("train", "-m", *FAST, "seed=0,1,2", before=hook)
    assert running.wait() == 143, running.err
    assert running.err == "hyperrun: stopped by SIGTERM between two jobs; the same command goes on\n"
    assert [run["status"] for run in runs(tmp_path)] == ["finished"]


LATE = """
import os, signal
import hyperrun.commands.train as train
real = train.select_and_test
def select_and_test(*args):
    os.kill(os.getpid(), signal.{name})
    return real(*args)
train.select_and_test = select_and_test
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_asked_to_stop_when_a_run_is_as_good_as_finished(start: Start, tmp_path: Path, name: str) -> None:
    """It is finished; a sweep begins no other."""
    alone = start("train", *FAST, before=LATE.format(name=name))
    assert alone.wait() == 0, alone.err
    sweep = start("train", "-m", *FAST, "seed=1,2,3", before=LATE.format(name=name))
    assert sweep.wait() == 128 + signal.Signals[name], sweep.err
    assert {run["seed"]: run["status"] for run in runs(tmp_path)} == {0: "finished", 1: "finished"}


def test_a_sweep_is_one_group_in_wandb(start: Start, tmp_path: Path) -> None:
    """Typed again, the same one; another line, another one."""
    hook = """
import hyperrun.commands.train as train
real = train.run
def run(config, command, group):
    print("group", group, flush=True)
    return real(config, command, group)
train.run = run
"""
    both = [start("train", "-m", *FAST, seeds, before=hook) for seeds in ("seed=0,1", "seed=0,1", "seed=0,1,2")]
    said = []
    for running in both:
        running.wait()
        said.append({line for line in running.out.splitlines() if line.startswith("group ")})
    assert [len(groups) for groups in said] == [1, 1, 1] and said[0] == said[1] != said[2]
