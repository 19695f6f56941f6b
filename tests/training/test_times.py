"""Where the seconds of training go: steps, warming up, evaluations, checkpoints."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hyperrun.training import recorder
from hyperrun.training.recorder import LoopState, times
from hyperrun.training.step import StepDone
from tests.training.regression import Stopped, config, regression, trained


def test_a_run_that_an_older_version_began_says_nothing_of_what_that_did_not_measure(tmp_path):
    run = trained(tmp_path, regression(cls=Stopped), config(log_every=1))
    saved = run.saved()
    for name in ("timed_steps", "warm_up_s", "eval_s", "save_s"):
        del saved["loop"][name]
    torch.save(saved, run.folder.checkpoints / "last.pt")
    run.go(regression(), resume=True)
    assert set(times(run.state, regression(), config())) == {"time/train_s"}


def test_the_time_of_an_epoch_is_that_of_its_steps_without_compilation():
    """One epoch is 6 steps of 2 batches."""
    state = LoopState(step=13, train_s=100.0, timed_s=20.0, timed_steps=10, warm_up_s=80.0, eval_s=3.0, save_s=0.001234)
    assert times(state, regression(batch_size=2), config(accumulate=2)) == {
        "time/train_s": 100.0,
        "time/warm_up_s": 80.0,
        "time/eval_s": 3.0,
        "time/save_s": 0.00123,
        "time/epoch_s": 12.0,
    }
    assert "time/epoch_s" not in times(LoopState(step=3), regression(), config()), "all of it was warm-up"


def test_a_step_that_compiles_is_warm_up(tmp_path, monkeypatch):
    compiled = iter([0, *[0] * 5, 1, 1, *[1] * 100])
    monkeypatch.setattr(recorder, "compilations", lambda: next(compiled))
    state = LoopState()
    watch = recorder.Stopwatch(state)
    for _ in range(8):
        watch.step(StepDone(0.1, False, 4, 0))
    watch.examples_per_s()
    assert state.timed_steps == 8 - 3 - 1 and state.timed_examples == 4 * 4


@pytest.mark.slow
def test_compilations_are_counted():
    """In a process of its own, where nothing has been compiled; 'eager' needs no C++ compiler."""
    code = """
import torch
from hyperrun.training.timing import compilations
before = compilations()
double = torch.compile(lambda x: 2 * x, backend="eager")
double(torch.ones(3))
first = compilations()
double(torch.ones(3))
print(before, first > 0, compilations() == first)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "True", "True"], done.stderr
