"""The training loop killed or stopped and started again: the same bits as at one go."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from hyperrun.training.task import Task
from tests.training.regression import WALL_CLOCK, Regression, Run, Stopped, config, regression, trained, weights


class Killed(Exception):
    pass


class Mortal(Regression):
    """Dies while the batch of its number is fed; with dropout, so that generators count."""

    def __init__(self, dies_at: int | None = None, **keys) -> None:
        super().__init__(dropout=0.3, **keys)
        self.dies_at = dies_at

    def batch(self, number, x, y):
        if number == self.dies_at:
            raise Killed
        return x, y


EVERYTHING = {"accumulate": 2, "ema": 0.9, "clip_norm": 0.5, "eval_every": 5, "log_every": 4, "max_steps": 14}


def assert_equal_ends(run: Run, task: Task, whole: Run, expected: Task) -> None:
    assert torch.equal(weights(task), weights(expected))
    assert run.rows(*WALL_CLOCK) == whole.rows(*WALL_CLOCK)
    for name in ("last", "best"):
        a, b = run.saved(name), whole.saved(name)
        assert a.keys() == b.keys()
        for key, value in a["model"].items():
            assert torch.equal(value, b["model"][key])
    assert run.saved()["loop"]["best_step"] == whole.saved()["loop"]["best_step"]


@pytest.mark.parametrize("dies_at", [3, 9, 10, 15, 27])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, dies_at):
    """Saving at every step; the kill comes in the first or the second half of an accumulated step, at any phase of
    logging and evaluating."""
    cfg = config({"momentum": 0.9}, **EVERYTHING, save_every_s=0)
    expected = regression(cls=Mortal)
    whole = trained(tmp_path / "whole", expected, cfg)

    run = Run(tmp_path / "killed", cfg)
    with pytest.raises(Killed):
        run.go(regression(cls=Mortal, dies_at=dies_at))
    assert run.saved()["loop"]["step"] == dies_at // 2
    task = run.go(regression(seed=5, cls=Mortal), resume=True)  # a seed that would show if anything were drawn anew
    assert_equal_ends(run, task, whole, expected)


def test_rows_after_the_checkpoint_are_not_doubled(tmp_path):
    """Saved in the middle of a logging window (step 6), killed after two more rows: those are written once."""

    class StoppedMortal(Mortal):
        def batch(self, number, x, y):
            if number == 11:
                os.kill(os.getpid(), signal.SIGTERM)
            return x, y

    cfg = config(**EVERYTHING)
    expected = regression(cls=Mortal)
    whole = trained(tmp_path / "whole", expected, cfg)

    run = trained(tmp_path / "stopped", regression(cls=StoppedMortal), cfg)
    assert run.state.step == 6
    with pytest.raises(Killed):
        run.go(regression(cls=Mortal, dies_at=25), resume=True)
    assert run.rows()[-1]["step"] == 12
    assert run.saved()["loop"]["step"] == 6
    task = run.go(regression(cls=Mortal), resume=True)
    assert_equal_ends(run, task, whole, expected)
    steps = [(row["step"], "val/loss" in row) for row in run.rows()]
    assert len(steps) == len(set(steps))


def test_a_finished_run_resumed_stays_as_it_is(tmp_path):
    first = regression(cls=Mortal)
    run = trained(tmp_path, first, config(**EVERYTHING))
    before = run.rows()
    again = run.go(regression(seed=3, cls=Mortal), resume=True)
    assert torch.equal(weights(again), weights(first))
    assert run.rows() == before


def test_training_time_and_throughput_are_counted_on(tmp_path):
    run = trained(tmp_path, regression(cls=Stopped), config(log_every=1))
    first = run.state
    assert first.train_s == pytest.approx(first.warm_up_s + first.timed_s) and first.warm_up_s > 0
    assert first.eval_s > 0 and first.save_s > 0
    assert first.timed_examples == 4 * (6 - 3)  # three steps of warming up
    run.go(regression(), resume=True)
    assert run.state.train_s > first.train_s and run.state.warm_up_s > first.warm_up_s
    assert run.state.timed_examples == 4 * (6 - 3) * 2 and run.state.timed_steps == 6
