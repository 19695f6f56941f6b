"""One optimizer step: what it does, that the loop and bench do the same, and its part of a checkpoint."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperrun.commands import bench
from hyperrun.tasks import build_task
from hyperrun.training.meter import Meter
from hyperrun.training.precision import Precision
from hyperrun.training.schedules import MultiStepSchedule
from hyperrun.training.seeds import seed_everything
from hyperrun.training.step import StepDone, TrainingStep
from hyperrun.training.task import Task
from tests.composed import compose_config
from tests.training.regression import FLOAT32, WORLD, Regression, Run, config, regression, trained, weights

FP16 = Precision("fp16", "", "cpu")
MANY = {"accumulate": 3, "ema": 0.9, "clip_norm": 0.5}


def steps(task: Task, count: int, cfg: Any, start: int = 0, step: TrainingStep | None = None) -> list[StepDone]:
    """Do steps `start` to `start + count - 1`."""
    step = step or TrainingStep(task, cfg, FLOAT32, WORLD)
    batches, meter = task.batches(start * cfg.trainer.accumulate), Meter(WORLD)
    task.model.train()
    return [step(number, batches, meter) for number in range(start, start + count)]


def by_hand(task: Regression, count: int, cfg: Any) -> list[list[Tensor]]:
    """Take steps of SGD written out, and return the averages after each."""
    parameters = list(task.model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=cfg.optim.lr, momentum=cfg.optim.momentum, nesterov=cfg.optim.nesterov)
    shadow, averages = [p.detach().clone() for p in parameters], []
    batches = task.batches(0)
    for t in range(1, count + 1):
        for x, y in itertools.islice(batches, cfg.trainer.accumulate):
            ((task.model(x) - y).square().mean() / cfg.trainer.accumulate).backward()
        norm = torch.stack([p.grad.square().sum() for p in parameters]).sum().sqrt()
        for p in parameters:
            p.grad *= min(1.0, cfg.trainer.clip_norm / (norm + 1e-6).item())
        optimizer.step()
        optimizer.zero_grad()
        decay = min(cfg.trainer.ema, (1 + t) / (10 + t))
        shadow = [decay * s + (1 - decay) * p.detach() for s, p in zip(shadow, parameters, strict=True)]
        averages.append(shadow)
    return averages


def test_steps_equal_those_written_out() -> None:
    cfg = config(**MANY)
    task, bare = regression(), regression()
    step = TrainingStep(task, cfg, FLOAT32, WORLD)
    assert step.ema is not None
    for number, average in enumerate(by_hand(bare, 5, cfg)):
        steps(task, 1, cfg, number, step)
        torch.testing.assert_close(step.ema.shadow, average, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(weights(task), weights(bare), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("keys", [{}, {"clip_norm": 0.1}, {"ema": 0.5}], ids=str)
def test_batch_1_times_accumulate_8_equals_batch_8(keys: dict[str, float]) -> None:
    many, one = regression(batch_size=1), regression(batch_size=8)
    small, large = (TrainingStep(t, config(accumulate=n, **keys), FLOAT32, WORLD) for t, n in ((many, 8), (one, 1)))
    assert [d.examples for d in steps(many, 4, small.config, 0, small)] == [8] * 4
    assert [d.examples for d in steps(one, 4, large.config, 0, large)] == [8] * 4
    torch.testing.assert_close(weights(many), weights(one), rtol=1e-12, atol=1e-12)
    if small.ema is not None and large.ema is not None:
        torch.testing.assert_close(small.ema.shadow, large.ema.shadow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("keys", [{}, MANY], ids=["plain", "accumulation, average, clipping"])
def test_bench_and_the_loop_do_the_same_steps(tmp_path, keys: dict[str, Any]) -> None:
    """With dropout and a warm-up of the learning rate: the same bits."""
    schedule = MultiStepSchedule("multi_step", 2, [4], [0.5])
    cfg = config(schedule=schedule, max_steps=6, eval_every=100, log_every=100, **keys)
    looped, benched = regression(dropout=0.3), regression(dropout=0.3)
    run = Run(tmp_path, cfg)
    seed_everything(1)
    run.go(looped)
    seed_everything(1)
    one = bench.training_step(benched, cfg, FLOAT32, WORLD)
    for _ in range(6):
        one()
    assert torch.equal(weights(looped), weights(benched))


LINE = ["model=hypercnn", "trainer.max_steps=4", "trainer.batch_size=32", "trainer.accumulate=2", "trainer.ema=0.9"]


@pytest.mark.parametrize("precision", [FLOAT32, Precision("bf16", "", "cpu")], ids=lambda p: p.name)
def test_bench_and_the_loop_do_the_same_steps_of_a_hypernet(tmp_path, precision: Precision) -> None:
    cfg = compose_config([*LINE, "trainer.clip_norm=1.0", "data.crop_padding=1", "trainer.eval_every=4"])
    seed_everything(0)
    looped = build_task(cfg, WORLD)
    benched = build_task(cfg, WORLD)
    benched.model.load_state_dict(looped.model.state_dict())
    Run(tmp_path, cfg).go(looped, precision=precision)
    one = bench.training_step(benched, cfg, precision, WORLD)
    for _ in range(4):
        one()
    assert torch.equal(weights(looped), weights(benched))


def test_the_average_belongs_to_the_step_of_bench(monkeypatch) -> None:
    """What bench times is all that trains."""
    made: list[TrainingStep] = []

    class Seen(TrainingStep):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(bench, "TrainingStep", Seen)
    cfg, task = config(**MANY), regression()
    one = bench.training_step(task, cfg, FLOAT32, WORLD)
    one()
    one()
    (step,) = made
    assert step.ema is not None and step.ema.updates == 2


def test_what_it_says_of_itself() -> None:
    schedule = MultiStepSchedule("multi_step", 1, [3], [0.5])
    cfg = config(schedule=schedule, accumulate=2)
    done = steps(regression(), 4, cfg)
    assert [d.lr for d in done] == pytest.approx([0.025, 0.05, 0.05, 0.025])
    assert {(d.skipped, d.examples, d.tokens) for d in done} == {(False, 8, 0)}


def test_the_meter_gets_every_batch() -> None:
    task, cfg = regression(), config(accumulate=3)
    step, meter, batches = TrainingStep(task, cfg, FLOAT32, WORLD), Meter(WORLD), task.batches(0)
    step(0, batches, meter)
    losses = [(regression().model(x) - y).square().mean().item() for x, y in itertools.islice(task.batches(0), 3)]
    assert meter.means() == {"loss": pytest.approx(sum(losses) / 3, rel=1e-12)}
    assert meter.count == 3 and meter.first_not_finite() is None


class Overflowing(Regression):
    def __init__(self) -> None:
        super().__init__()
        self.model.float()
        self.x, self.y, self.number = self.x.float(), self.y.float(), -1
        self.model[0].weight.register_hook(lambda g: g * torch.inf if self.number == 1 else g)

    def batch(self, number: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.number = number
        return x * 0.01, y * 0.01


def test_an_fp16_step_that_overflows_is_skipped_and_said_so() -> None:
    task, cfg = regression(cls=Overflowing), config(clip_norm=1.0)
    step = TrainingStep(task, cfg, FP16, WORLD)
    (first,) = steps(task, 1, cfg, 0, step)
    before = weights(task)
    (second,) = steps(task, 1, cfg, 1, step)
    assert (first.skipped, second.skipped) == (False, True)
    assert torch.equal(weights(task), before) and step.scaler.get_scale() == 32768


def test_a_loaded_step_goes_on_with_the_same_bits() -> None:
    cfg = config({"momentum": 0.9}, **MANY)
    whole, first, second = regression(), regression(), regression(seed=7)
    reference = TrainingStep(whole, cfg, FLOAT32, WORLD)
    steps(whole, 6, cfg, 0, reference)
    before = TrainingStep(first, cfg, FLOAT32, WORLD)
    steps(first, 3, cfg, 0, before)
    after = TrainingStep(second, cfg, FLOAT32, WORLD)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    steps(second, 3, cfg, 3, after)
    assert torch.equal(weights(second), weights(whole))
    assert after.ema is not None and reference.ema is not None and after.ema.updates == reference.ema.updates == 6
    assert all(torch.equal(a, b) for a, b in zip(after.ema.shadow, reference.ema.shadow, strict=True))
    assert list(after.state_dict()) == ["model", "optimizers", "scaler", "ema"]


def test_the_state_of_another_model_is_refused() -> None:
    cfg = config()
    state = TrainingStep(regression(), cfg, FLOAT32, WORLD).state_dict()
    other = regression()
    other.model = nn.Linear(5, 2).double()
    with pytest.raises(RuntimeError):
        TrainingStep(other, cfg, FLOAT32, WORLD).load_state_dict(state)
    with pytest.raises(ValueError, match="zip"):
        TrainingStep(regression(), cfg, FLOAT32, WORLD).load_state_dict({**state, "optimizers": []})


# ---------------------------------------------------------------- batches of differing sizes


class Ragged(Regression):
    """Batch number n has 1 + n % 3 sequences of 10 symbols each."""

    def batch(self, number: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x[: 1 + number % 3], y[: 1 + number % 3]

    def examples_in(self, batch: tuple[Any, ...]) -> int:
        return len(batch[0])

    def tokens_in(self, batch: tuple[Any, ...]) -> int:
        return 10 * len(batch[0])


def test_what_is_in_a_batch_is_counted_and_reaches_throughput(tmp_path) -> None:
    cfg = config(accumulate=2, log_every=2, max_steps=9)
    done = steps(regression(cls=Ragged), 3, cfg)
    assert [(d.examples, d.tokens) for d in done] == [(3, 30), (4, 40), (5, 50)]
    run = trained(tmp_path, regression(cls=Ragged), cfg)
    assert run.state is not None
    assert run.state.timed_examples == 2 * (3 + 4 + 5), "steps 4 to 9: three of warming up are left out"
    assert run.state.timed_tokens == 10 * run.state.timed_examples
    assert run.saved()["loop"]["timed_tokens"] == run.state.timed_tokens
    run.go(regression(cls=Ragged), resume=True)
    assert run.state.timed_tokens == 240, "counted on from the checkpoint"
