"""Asked to stop, a run saves, says so, leaves `preempted` behind, and goes on when the line is typed again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import EVERYTHING, FAST, QUIET, TINY, Running, assert_same_run, checkpoint, rows, summary

Start = Callable[..., Running]
LINE = ("train", *EVERYTHING)

STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_signal_saves_and_the_same_line_goes_on(start: Start, uninterrupted: Path, number: signal.Signals) -> None:
    running = start(*LINE)
    running.until(running.has_trained)
    running.send(number)
    assert running.wait() == 128 + number, running.err
    left = summary(running.folder)
    step = checkpoint(running.folder / "checkpoints" / "last.pt")["loop"]["step"]
    assert 0 < step < 36
    assert running.err == f"hyperrun: stopped by {number.name} at step {step}, saved; the same command goes on\n"
    said = f"{number.name}: finishing this step, then saving (Ctrl-C again stops at once)"
    assert said in running.out and said in (running.folder / "train.log").read_text()
    assert left["status"] == "preempted" and left["error"] == f"stopped by {number.name} at step {step}, saved"
    assert left["command"].startswith("hyperrun train model=hyperresnet") and left["params/generated"] > 0
    assert not any(key.startswith("test/") for key in left)

    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert f"resume   from step {step}\n" in done.out
    assert_same_run(done.folder, uninterrupted)
    assert "error" not in summary(done.folder)


SLOW_STEPS = """
import time
import hyperrun.tasks.classification as c
real, steps = c.ClassificationLoss.forward, [0]
def forward(self, x, y):
    steps[0] += 1
    if steps[0] > 20:
        time.sleep(20)
    return real(self, x, y)
c.ClassificationLoss.forward = forward
"""


def test_second_interrupt_stops_at_once(start: Start, uninterrupted: Path) -> None:
    running = start(*LINE, before=SLOW_STEPS)
    running.until(lambda: running.has_trained(10))
    time.sleep(0.1)  # now it hangs in step 11
    running.send(signal.SIGINT)
    running.until(lambda: "SIGINT: finishing this step" in running.out)
    time.sleep(0.2)
    assert running.poll() is None, "the first one lets the step end"
    began = time.monotonic()
    running.send(signal.SIGINT)
    assert running.wait() == 130
    assert time.monotonic() - began < 5
    assert running.err == "hyperrun: interrupted\n"
    assert summary(running.folder)["status"] == "preempted"

    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert_same_run(done.folder, uninterrupted)


def test_second_interrupt_after_sigterm_stops_at_once(start: Start) -> None:
    running = start(*LINE, before=SLOW_STEPS)
    running.until(lambda: running.has_trained(10))
    time.sleep(0.1)
    running.send(signal.SIGTERM)
    running.until(lambda: "SIGTERM: finishing" in running.out)
    running.send(signal.SIGINT)
    assert running.wait(10) == 130


def test_interrupt_before_training_leaves_nothing(start: Start, tmp_path: Path) -> None:
    running = start(
        "train",
        *FAST,
        before="""
import hyperrun.commands.train as train, time
def choose(*args):
    open("here", "w").close()
    time.sleep(300)
train.choose_precision = choose
""",
    )
    running.until((tmp_path / "here").exists)
    running.send(signal.SIGINT)
    assert running.wait(60) == 130
    assert running.err == "hyperrun: interrupted\n" and running.out == ""
    assert [path for path in tmp_path.glob("outputs/**/*") if path.name != ".hydra"] == []


@pytest.mark.parametrize("when", ["val", "test"])
def test_signal_during_an_evaluation(start: Start, uninterrupted: Path, when: str) -> None:
    running = start(
        *LINE,
        before=f"""
import os, signal
import hyperrun.tasks.classification as c
real, seen = c.Classification.evaluate, []
def evaluate(self, split, precision):
    seen.append(split)
    if split == {when!r} and seen.count(split) == {2 if when == "val" else 1}:
        os.kill(os.getpid(), signal.SIGTERM)
    return real(self, split, precision)
c.Classification.evaluate = evaluate
""",
    )
    assert running.wait() in ((143,) if when == "val" else (0, 143)), running.err
    if running.status == 143:
        assert summary(running.folder)["status"] == "preempted"
    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert_same_run(done.folder, uninterrupted)


def test_signal_at_the_last_step(start: Start, uninterrupted: Path) -> None:
    running = start(
        *LINE,
        before="""
import os, signal
import hyperrun.training.ema as ema
real, steps = ema.EMA.update, [0]
def update(self):
    real(self)
    steps[0] += 1
    if steps[0] == 36:
        os.kill(os.getpid(), signal.SIGTERM)
ema.EMA.update = update
""",
    )
    assert running.wait() in (0, 143), running.err
    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert_same_run(done.folder, uninterrupted)


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_stopped_again_and_again(start: Start, uninterrupted: Path, number: signal.Signals) -> None:
    stopped = 0
    while True:
        running = start(*LINE)
        stop_after_a_row(running, number)
        if running.wait() == 0:
            break
        assert running.status == 128 + number, running.err
        stopped += 1
    assert stopped > 2
    assert_same_run(running.folder, uninterrupted)


def stop_after_a_row(running: Running, number: signal.Signals) -> None:
    """Send a signal when the process has logged something."""
    log = running.cwd / "outputs"
    known = {file: len(rows(file)) for file in log.glob("*/*/metrics.jsonl")}
    running.until(lambda: running.poll() is not None or "W&B" in running.out)
    running.until(
        lambda: (
            running.poll() is not None
            or any(len(rows(file)) > known.get(file, 0) for file in log.glob("*/*/metrics.jsonl"))
        )
    )
    running.send(number)


# ---------------------------------------------------------------- more than one process, more than one job


def test_interrupt_of_the_whole_group_is_said_once(start: Start) -> None:
    """A terminal sends Ctrl-C to every process of the command, the loader's workers among them."""
    line = [
        "train",
        *TINY,
        *QUIET,
        "data.loader=dataloader",
        "data.workers=2",
        "trainer.epochs=200",
        "trainer.log_every=2",
    ]
    running = start(*line)
    running.until(lambda: running.has_trained(4))
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait() == 130
    said = (running.out + running.err).splitlines()
    assert sum("SIGINT: finishing this step" in line for line in said) == 1, running.out
    assert running.err.count("\n") == 1, running.err
    log = (running.folder / "train.log").read_text()
    assert log.count("SIGINT: finishing this step") == 1
    assert summary(running.folder)["status"] == "preempted"


def test_signal_stops_the_whole_sweep_and_the_same_line_ends_it(start: Start, tmp_path: Path) -> None:
    line = ["train", "-m", *FAST, "trainer.max_steps=30", "model=cnn,hypercnn", "seed=0,1"]
    running = start(*line, before=SLOW_STEPS.replace("> 20", "== 50"))  # the second job hangs in its step 20
    running.until(lambda: len(list(tmp_path.glob("outputs/digits/*/metrics.jsonl"))) == 2)
    second = next(path for path in tmp_path.glob("outputs/digits/*") if not (path / "summary.json").exists())
    running.until(lambda: any(row["step"] >= 18 for row in rows(second)))
    running.send(signal.SIGTERM)
    running.until(lambda: "SIGTERM" in running.out)
    assert running.wait() == 143, running.err
    states = {
        path.parent.name: summary(path.parent)["status"] for path in tmp_path.glob("outputs/digits/*/summary.json")
    }
    assert sorted(states.values()) == ["finished", "preempted"], "jobs that had not begun do not begin"
    assert running.err.splitlines()[-1].endswith("; the same command goes on")
    assert "Traceback" not in running.err

    done = start(*line)
    assert done.wait() == 0, done.err
    ends = [summary(path.parent) for path in tmp_path.glob("outputs/digits/*/summary.json")]
    assert [end["status"] for end in ends] == ["finished"] * 4
    assert done.out.count("this run is finished already") == 1 and done.out.count("resume   from step") == 1
