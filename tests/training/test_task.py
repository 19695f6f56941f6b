"""The base of all tasks: what a task has without saying so."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from hyperrun.errors import UserError
from hyperrun.training.recorder import LoopState, throughput
from hyperrun.training.task import Task
from tests.training.regression import FLOAT32, config


class Plain(Task):
    """Only what must be said; a batch is its epoch and its place in it."""

    name, metric, unit = "plain", "accuracy", "things"
    batches_per_epoch, examples_per_batch = 3, 4

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Any, ...]]:
        for i in range(start, self.batches_per_epoch):
            yield epoch, i

    def describe_data(self) -> str:
        return "things"

    def evaluate(self, split: str, precision: Any) -> dict[str, float]:
        return {"accuracy": 0.5}


def test_defaults() -> None:
    task = Plain()
    assert task.closing_words(FLOAT32) is None and task.facts() == {} and task.state_dict() == {}
    assert task.load_state_dict({}) is None and task.check_fits({"of": "anything"}) is None
    assert task.selects_last is False and task.tokens_per_example is None
    assert task.examples_in((0, 0)) == 4 and task.tokens_in((0, 0)) == 0


@pytest.mark.parametrize(("metric", "higher"), [("accuracy", True), ("psnr", True), ("bpc", False)])
def test_which_way_is_better_follows_from_the_metric(metric: str, higher: bool) -> None:
    task = Plain()
    task.metric = metric
    assert task.higher_is_better is higher


def test_an_unknown_metric_is_refused() -> None:
    task = Plain()
    task.metric = "acuracy"
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        _ = task.higher_is_better


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7])
def test_batches_go_on_from_any_number_through_epoch_after_epoch(start: int) -> None:
    found = list(itertools.islice(Plain().batches(start), 8))
    assert found == [divmod(number, 3) for number in range(start, start + 8)]


def test_what_must_be_said_is_asked_for() -> None:
    class Mute(Task):
        pass

    with pytest.raises(TypeError, match=r"describe_data.*evaluate"):
        Mute()  # type: ignore[abstract]

    class Unfed(Plain):
        epoch = Task.epoch

    with pytest.raises(NotImplementedError, match="Unfed defines neither epoch nor batches"):
        next(Unfed().batches(0))


@pytest.mark.parametrize(
    ("state", "length", "speed"),
    [
        (LoopState(timed_s=2.0, timed_examples=100), None, {"examples": 50.0}),
        (LoopState(timed_s=2.0, timed_examples=100), 16, {"examples": 50.0, "tokens": 800.0}),
        (LoopState(timed_s=2.0, timed_examples=100, timed_tokens=700), None, {"examples": 50.0, "tokens": 350.0}),
        (LoopState(step=3, train_s=2.0), 16, {"examples": 12.0, "tokens": 192.0}),  # 3 steps of 2 batches of 4
    ],
    ids=["examples", "sequences of one length", "of differing lengths", "all of it warm-up"],
)
def test_throughput(state: LoopState, length: int | None, speed: dict[str, float]) -> None:
    task = Plain()
    task.tokens_per_example = length
    assert throughput(state, task, config(accumulate=2)) == {
        f"throughput/{what}_per_s": value for what, value in speed.items()
    }


def test_a_checkpoint_says_of_tokens_only_where_there_are_some() -> None:
    """So the checkpoints of tasks without them are as they always were."""
    assert "timed_tokens" not in LoopState(step=4).as_dict()
    assert LoopState(**LoopState(step=4, timed_tokens=9).as_dict()) == LoopState(step=4, timed_tokens=9)
