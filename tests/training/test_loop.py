"""The training loop, on a task of a few numbers: what it computes, what it writes, and when it stops."""

from __future__ import annotations

import itertools
import signal
from dataclasses import replace

import pytest
import torch

from hyperrun.errors import RunFailed
from hyperrun.hypernets import HyperModel, MLPHypernet
from hyperrun.runs.metrics_file import read_metrics
from hyperrun.tracking.console import describe
from hyperrun.training import checkpoint, recorder
from hyperrun.training.optim import total_steps
from hyperrun.training.precision import Precision
from hyperrun.training.schedules import MultiStepSchedule
from tests.training.regression import (
    FLOAT32,
    WALL_CLOCK,
    Regression,
    Run,
    Squares,
    Stopped,
    config,
    regression,
    trained,
    weights,
)

# ---------------------------------------------------------------- what a step computes


def test_the_loop_equals_a_bare_one(tmp_path):
    task, bare = regression(), regression()
    trained(tmp_path, task, config())
    optimizer = torch.optim.SGD(bare.model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for number in range(12):
        at = number % 6 * 4
        optimizer.zero_grad()
        (bare.model(bare.x[at : at + 4]) - bare.y[at : at + 4]).square().mean().backward()
        optimizer.step()
    assert torch.equal(weights(task), weights(bare))


class Generating(Regression):
    """The same with dropout and a generated matrix."""

    def __init__(self) -> None:
        super().__init__(dropout=0.2)
        self.model = HyperModel(
            self.model, MLPHypernet({"0.weight": self.model[0].weight}, 3, (5,), "variance_matched"), ["0.weight"]
        )
        self.model.double()
        self.loss = Squares(self.model)


def test_what_the_hypernet_makes_is_logged_and_training_does_not_notice(tmp_path, monkeypatch):
    logging = regression(cls=Generating)
    logged = trained(tmp_path / "logged", logging, config())
    monkeypatch.setattr(recorder, "generated_statistics", lambda model: {})
    silent = regression(cls=Generating)
    plain = trained(tmp_path / "plain", silent, config())
    assert torch.equal(weights(logging), weights(silent))
    keys = ("generated/0.weight/norm", "generated/0.weight/std")
    assert plain.rows(*WALL_CLOCK) == logged.rows(*WALL_CLOCK, *keys)
    evaluated = [row for row in logged.rows() if "val/loss" in row]
    assert [row["step"] for row in evaluated if all(key in row for key in keys)] == [6, 12]
    made = logging.model.hypernet()["0.weight"]
    assert evaluated[-1][keys[0]] == pytest.approx(made.norm().item(), rel=1e-5)
    assert "generated" not in describe(evaluated[-1], "") and "val loss" in describe(evaluated[-1], "")


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_batch_1_times_accumulate_8_equals_batch_8(tmp_path, clip_norm):
    many, one = regression(batch_size=1), regression(batch_size=8)
    small = trained(tmp_path / "1x8", many, config(accumulate=8, clip_norm=clip_norm))
    large = trained(tmp_path / "8x1", one, config(accumulate=1, clip_norm=clip_norm))
    torch.testing.assert_close(weights(many), weights(one), rtol=1e-12, atol=1e-12)
    for a, b in zip(small.rows(*WALL_CLOCK), large.rows(*WALL_CLOCK), strict=True):
        assert a == pytest.approx(b, rel=1e-10)


def test_the_gradient_is_clipped_to_the_norm(tmp_path):
    """One step of plain SGD moves by lr times the gradient, so by lr times clip_norm at most."""
    optim = {"momentum": 0.0, "nesterov": False, "lr": 1.0}
    for clip_norm, moved in [(0.01, 0.01), (None, None), (1e6, None)]:
        task = regression()
        start = weights(task)
        loss, _ = task.loss(*next(task.batches(0)))
        gradients = torch.autograd.grad(loss, list(task.model.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm().item()
        assert norm > 0.1
        trained(tmp_path / str(clip_norm), task, config(optim, max_steps=1, clip_norm=clip_norm))
        assert (weights(task) - start).norm().item() == pytest.approx(moved or norm, rel=1e-4)


def test_the_learning_rate_follows_the_schedule(tmp_path):
    schedule = MultiStepSchedule("multi_step", 2, [4, 8], [0.5, 0.0])
    task = regression()
    run = trained(tmp_path, task, config(schedule=schedule, log_every=1))
    rates = [row["lr"] for row in run.rows() if "lr" in row]
    assert rates == pytest.approx([0.05 / 3, 0.1 / 3, 0.05, 0.05, *[0.025] * 4, *[0.0] * 4])
    short = regression()
    trained(tmp_path / "short", short, config(schedule=schedule, max_steps=8))
    assert torch.equal(weights(task), weights(short))  # a learning rate of zero moves nothing


def test_what_is_evaluated_with_an_average_is_the_average(tmp_path):
    task = regression()
    run = trained(tmp_path, task, config(ema=0.5))
    saved, best = run.saved(), run.saved("best")
    own = torch.cat([v.flatten() for v in saved["model"].values()])
    averaged = torch.cat([v.flatten() for v in saved["ema"]["shadow"]])
    assert torch.equal(own, weights(task))
    assert not torch.equal(own, averaged)
    assert best["step"] == 12
    assert torch.equal(torch.cat([v.flatten() for v in best["model"].values()]), averaged)
    task.model.load_state_dict(best["model"])
    assert task.evaluate("val", FLOAT32) == best["val"]


# ---------------------------------------------------------------- how long, and what is written


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({"epochs": 2, "max_steps": None}, 12),
        ({"epochs": 2, "max_steps": 5}, 5),
        ({"epochs": None, "max_steps": 7}, 7),
        ({"epochs": 2, "max_steps": None, "accumulate": 3}, 4),
        ({"epochs": 1, "max_steps": None, "accumulate": 4}, 1),
        ({"epochs": 1, "max_steps": None, "accumulate": 100}, 1),
        ({"epochs": None, "max_steps": None}, 60 * 6),  # data=digits suggests 60 epochs
    ],
    ids=str,
)
def test_length_of_training(trainer, steps):
    assert total_steps(config(**trainer), regression().batches_per_epoch) == steps


@pytest.mark.parametrize(
    ("trainer", "train_rows", "val_rows"),
    [
        ({"log_every": 5, "eval_every": 4}, [5, 10, 12], [4, 8, 12]),
        ({"log_every": 100, "eval_every": 100}, [12], [12]),
        ({"log_every": 12, "eval_every": None}, [12], [6, 12]),  # once per epoch
        ({"log_every": 12, "eval_every": None, "accumulate": 2}, [12], [3, 6, 9, 12]),
        ({"log_every": 6, "eval_every": 5, "max_steps": 7}, [6, 7], [5, 7]),
    ],
    ids=str,
)
def test_rows_are_written_when_asked_for_and_at_the_end(tmp_path, trainer, train_rows, val_rows):
    task = regression()
    rows = trained(tmp_path, task, config(**trainer)).rows()
    assert [row["step"] for row in rows if "train/loss" in row] == train_rows
    assert [row["step"] for row in rows if "val/loss" in row] == val_rows
    assert task.evaluations == len(val_rows)
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_a_row_holds_the_means_since_the_row_before(tmp_path):
    every = trained(tmp_path / "every", regression(), config(log_every=1)).rows()
    fourth = trained(tmp_path / "fourth", regression(), config(log_every=4)).rows()
    losses = [row["train/loss"] for row in every if "train/loss" in row]
    means = [row["train/loss"] for row in fourth if "train/loss" in row]
    assert means == pytest.approx([sum(losses[i : i + 4]) / 4 for i in (0, 4, 8)])
    epochs = [row["epoch"] for row in fourth if "epoch" in row]
    assert epochs == pytest.approx([4 / 6, 8 / 6, 2.0])


def test_the_best_checkpoint_is_the_one_with_the_best_evaluation(tmp_path):
    class Scripted(Regression):
        metric, higher_is_better = "score", True

        def evaluate(self, split, precision):
            super().evaluate(split, precision)
            return {"score": [0.1, 0.5, 0.3, 0.5][self.evaluations - 1]}

    run = trained(tmp_path, regression(cls=Scripted), config(eval_every=3))
    best = run.saved("best")
    assert (best["step"], best["val"]) == (6, {"score": 0.5})  # the first of two equal ones
    at_6 = trained(tmp_path / "short", regression(), config(max_steps=6)).saved()
    for name, value in best["model"].items():
        assert torch.equal(value, at_6["model"][name])
    assert run.state == replace(run.state, step=12, best=0.5, best_step=6, stale=2)


# ---------------------------------------------------------------- stopping


class Wavering(Regression):
    """Worse at the second evaluation, best at the third, then worse each time."""

    def evaluate(self, split, precision):
        super().evaluate(split, precision)
        return {"loss": [2.0, 3.0, 1.0, 2.0, 3.0, 4.0][self.evaluations - 1]}


@pytest.mark.parametrize(("patience", "steps", "best"), [(1, 4, 2), (2, 10, 6), (3, 12, 6), (4, 12, 6), (None, 12, 6)])
def test_patience_counts_evaluations_in_a_row_without_improvement(tmp_path, patience, steps, best):
    run = trained(tmp_path, regression(cls=Wavering), config(eval_every=2, patience=patience))
    assert run.state.step == steps
    assert run.saved()["loop"]["step"] == steps
    assert run.saved("best")["step"] == best


def test_a_run_that_lost_patience_trains_no_further_when_resumed(tmp_path):
    run = trained(tmp_path, regression(cls=Wavering), config(eval_every=2, patience=1))
    rows = run.rows()
    run.go(regression(cls=Wavering), resume=True)
    assert run.state.step == 4
    assert run.rows() == rows


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda n: n.name)
def test_a_signal_ends_the_step_saves_and_returns(tmp_path, monkeypatch, number):
    monkeypatch.setattr(Stopped, "signal", number)
    run = trained(tmp_path, regression(cls=Stopped), config())
    assert run.state.step == 6
    assert run.saved()["loop"]["step"] == 6


class Diverging(Regression):
    """Batch 7 (step 8) has an infinite example."""

    def batch(self, number, x, y):
        return (x * torch.inf, y) if number == 7 else (x, y)


def test_a_loss_that_is_not_finite_names_the_step_the_checkpoint_and_what_to_try(tmp_path):
    run = Run(tmp_path, config(log_every=3, save_every_s=0))
    with pytest.raises(RunFailed) as error:
        run.go(regression(cls=Diverging))
    message = str(error.value)
    assert "step 8" in message
    assert str(run.folder.checkpoints / "last.pt") in message
    assert "optim.lr" in message and "clip_norm" in message
    assert "\n" not in message
    assert run.saved()["loop"]["step"] == 7


@pytest.mark.parametrize("log_every", [1, 3, 5, 100])
def test_a_loss_that_is_not_finite_leaves_no_broken_checkpoint(tmp_path, log_every):
    run = Run(tmp_path, config(log_every=log_every, eval_every=6))
    with pytest.raises(RunFailed, match=r"step 8;.*the best model before it is .*best\.pt"):
        run.go(regression(cls=Diverging))
    assert [path.name for path in run.folder.checkpoints.iterdir()] == ["best.pt"]
    best = run.saved("best")
    assert best["step"] == 6 and all(value.isfinite().all() for value in best["model"].values())
    assert all(row["step"] < 8 for row in read_metrics(run.folder.metrics))
    assert all(torch.tensor(row.get("train/loss", 0.0)).isfinite() for row in run.rows())


class BrokenGradient(Regression):
    """A finite loss at step 8 with a gradient that is not: the weights break in that step, the loss one step later."""

    def __init__(self, **keys) -> None:
        super().__init__(**keys)
        self.number = -1
        self.model[0].weight.register_hook(lambda g: g * torch.nan if self.number == 7 else g)

    def batch(self, number, x, y):
        self.number = number
        return x, y


@pytest.mark.parametrize(
    "trainer", [{"save_every_s": 0}, {"max_steps": 8}], ids=["saved by the clock", "the last step"]
)
def test_weights_that_are_not_finite_are_never_saved(tmp_path, trainer):
    run = Run(tmp_path, config(**trainer))
    with pytest.raises(RunFailed):
        run.go(regression(cls=BrokenGradient))
    last = run.folder.checkpoints / "last.pt"
    if last.exists():
        assert all(value.isfinite().all() for value in run.saved()["model"].values())


def test_the_first_checkpoints_come_sooner(tmp_path, monkeypatch):
    """Of a short run that is killed something is left; of a long one no time is lost."""
    seconds = itertools.count()
    monkeypatch.setattr("hyperrun.training.recorder.time.monotonic", lambda: next(seconds) / 4)
    saved: list[int] = []
    real = checkpoint.save

    def save(path, state, **options):
        if path.name == "last.pt":
            saved.append(state["loop"]["step"])
        real(path, state, **options)

    monkeypatch.setattr(checkpoint, "save", save)
    trained(tmp_path, regression(), config(max_steps=120, log_every=1000, eval_every=1000, save_every_s=8))
    gaps = [b - a for a, b in itertools.pairwise([0, *saved[:-1]])]
    assert saved[-1] == 120 and gaps[0] <= 5 and gaps == sorted(gaps) and len(set(gaps)) >= 3
    assert gaps[-1] == gaps[-2] <= 33, "every eight seconds in the end"


def test_an_evaluation_that_is_not_a_number_is_not_the_best_for_ever(tmp_path):
    class LateNumber(Regression):
        def evaluate(self, split, precision):
            super().evaluate(split, precision)
            return {"loss": [float("nan"), 2.0, 1.0, 3.0][self.evaluations - 1]}

    run = trained(tmp_path, regression(cls=LateNumber), config(eval_every=3))
    assert run.saved("best")["val"] == {"loss": 1.0}


class Overflowing(Regression):
    """In float32, of small numbers; at the batches named the gradient is infinite, as when the scale was too bold."""

    def __init__(self, at: tuple[int, ...] = (), **keys) -> None:
        super().__init__(**keys)
        self.at, self.number = at, -1
        self.model.float()
        self.model.load_state_dict({name: value * 0.01 for name, value in self.model.state_dict().items()})
        self.x, self.y = self.x.float(), self.y.float() * 0.01
        self.model[0].weight.register_hook(lambda g: g * torch.inf if self.number in self.at else g)

    def batch(self, number, x, y):
        self.number = number
        return x, y


def test_fp16_skips_a_step_that_overflows_and_counts_it(tmp_path):
    fp16 = Precision("fp16", "", "cpu")
    run = Run(tmp_path, config(max_steps=3, log_every=1))
    task = regression(cls=Overflowing, at=(2,))
    run.go(task, precision=fp16)
    two = Run(tmp_path / "two", config(max_steps=2, log_every=1))
    shorter = regression(cls=Overflowing)
    two.go(shorter, precision=fp16)
    assert torch.equal(weights(task), weights(shorter))
    assert run.state.skipped == 1
    rows = [row for row in run.rows() if "lr" in row]
    assert [row["fp16/skipped_steps"] for row in rows] == [0, 0, 1]
    assert [row["fp16/scale"] for row in rows] == [65536, 65536, 32768]

    run.config = config(max_steps=5, log_every=1)
    run.go(regression(cls=Overflowing), resume=True, precision=fp16)
    assert run.state.skipped == 1
    assert [row["fp16/scale"] for row in run.rows() if "lr" in row][-2:] == [32768, 32768]


def test_fp16_clips_the_gradient_itself_and_not_the_scaled_one(tmp_path):
    tasks = []
    for clip_norm in (None, 1.0):  # larger than any gradient here, and far smaller than 65536 times that
        run = Run(tmp_path / str(clip_norm), config(max_steps=3, clip_norm=clip_norm))
        tasks.append(run.go(regression(cls=Overflowing), precision=Precision("fp16", "", "cpu")))
        assert run.state.skipped == 0
    assert torch.equal(weights(tasks[0]), weights(tasks[1]))
