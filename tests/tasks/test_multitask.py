"""Several tasks by one hypernet: what a batch holds, the regularizer, forgetting, an exact resume."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hyperrun import cli
from hyperrun.errors import UserError
from hyperrun.hypernets import ConditionalModel, count_parameters, materialize
from hyperrun.inputs import Images, Tasks
from hyperrun.models import build_model
from hyperrun.tasks import build_task
from hyperrun.tasks.multitask import MultiTask, MultiTaskLoss, logits_of_tasks, weights_of
from hyperrun.training.distributed import join_world
from hyperrun.training.precision import choose_precision
from tests.composed import compose_config

SMALL = ["target.hidden=[8]", "hypernet.hidden=[8]", "hypernet.z_dim=4", "hypernet.chunk_size=32"]


def task_of(*words: str, small: bool = True) -> MultiTask:
    torch.manual_seed(0)
    with join_world() as world:
        task = build_task(
            compose_config(["model=hypermlp", "data=split_digits", *(SMALL if small else []), *words]), world
        )
    assert isinstance(task, MultiTask)
    return task


def precision() -> Any:
    return choose_precision("float32", torch.device("cpu"))


def train(task: MultiTask, start: int, stop: int, optimizer: torch.optim.Optimizer) -> None:
    for batch in itertools.islice(task.batches(start), stop - start):
        optimizer.zero_grad()
        loss, _ = task.loss(*batch)
        loss.backward()
        optimizer.step()


def test_joint_batches_hold_all_tasks_with_their_own_labels():
    task = task_of("trainer.batch_size=100")
    x, y, numbers = next(task.batches(0))
    assert x.shape == (5, 20, 1, 8, 8) and y.shape == (5, 20) and numbers.tolist() == [0, 1, 2, 3, 4]
    assert set(y.unique().tolist()) == {0, 1}
    assert task.examples_per_batch == 100


def test_continual_batches_come_one_task_after_the_other():
    task = task_of("data.order=continual", "trainer.max_steps=12", "trainer.batch_size=16")
    batches = list(itertools.islice(task.batches(0), 14))
    assert [batch[2].item() for batch in batches] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4], (
        "the rest is the last's"
    )
    for start in range(13):
        x, y, number = next(task.batches(start))
        assert torch.equal(x, batches[start][0]) and torch.equal(y, batches[start][1]), start
        assert number.equal(batches[start][2])


def test_each_task_has_the_weights_of_its_embedding():
    task = task_of()
    model = task.model.eval()
    assert isinstance(model, ConditionalModel)
    x = torch.randn(5, 3, 1, 8, 8)
    logits = logits_of_tasks(model, x, torch.arange(5))
    for t in range(5):
        plain = materialize(model, torch.tensor(t))
        torch.testing.assert_close(plain(x[t]), logits[t])
        torch.testing.assert_close(model(x[t], torch.tensor([t])), logits[t])
    assert not torch.allclose(materialize(model, torch.tensor(0))(x[1]), logits[1])


def test_counts_are_those_of_embeddings_and_hypernet():
    counts = count_parameters(task_of(small=False).model)
    target = 64 * 100 + 100 + 100 * 100 + 100 + 100 * 2 + 2
    chunks = 40  # of the largest layer, 10,000 numbers in chunks of 256
    expected = 5 * 16 + 6 * 16 + chunks * 16 + (48 * 32 + 32) + (32 * 256 + 256)
    assert (counts.trainable, counts.generated, counts.free) == (expected, target, 0)


@pytest.mark.parametrize("hypernet", ["chunked", "mlp"])
def test_the_regularizer_is_the_squared_distance_of_earlier_tasks_weights(hypernet):
    own = ["hypernet=mlp", "hypernet.generate=everything"] if hypernet == "mlp" else []
    task = task_of(*own, "target.hidden=[8]", "data.order=continual", "data.beta=0.5", small=False)
    batches = task.batches(0)
    next(batches)
    task.begin(2)
    earlier = task.loss.earlier
    assert earlier is not None
    for name, value in weights_of(task.model, torch.tensor([0, 1])).items():
        assert torch.equal(earlier[name], value)
    x, y, numbers = next(batches)
    loss, stats = task.loss(x, y, numbers)
    assert stats["output_regularizer"] == 0
    with torch.no_grad():
        next(task.model.hypernet.generator.parameters()).add_(0.1)  # type: ignore[union-attr]
    total, stats = task.loss(x, y, numbers)
    now = weights_of(task.model, torch.tensor([0, 1]))
    moved = sum((now[name] - value).square().sum() for name, value in earlier.items())
    penalty = 0.5 * torch.as_tensor(moved) / 2
    torch.testing.assert_close(stats["output_regularizer"], penalty.detach())
    torch.testing.assert_close(total, stats["loss"] + penalty)
    total.backward()
    assert all(p.grad is not None for p in task.model.parameters())


def test_a_continual_run_that_is_resumed_equals_one_that_was_not():
    words = ["data.order=continual", "trainer.max_steps=20", "trainer.batch_size=32", "data.beta=0.1"]
    whole = task_of(*words)
    train(whole, 0, 20, torch.optim.SGD(whole.model.parameters(), lr=0.1))
    for stop in (5, 8, 12):  # within a task, at the end of one, at the start of one
        first, second = task_of(*words), task_of(*words)
        train(first, 0, stop, torch.optim.SGD(first.model.parameters(), lr=0.1))
        second.model.load_state_dict(first.model.state_dict())
        second.load_state_dict(first.state_dict())
        train(second, stop, 20, torch.optim.SGD(second.model.parameters(), lr=0.1))
        for name, value in whole.model.state_dict().items():
            assert torch.equal(second.model.state_dict()[name], value), (stop, name)


@pytest.mark.slow
def test_the_regularizer_prevents_forgetting():
    """Four tasks later, the first is still known with the regularizer, and was not without."""
    first_task, forgotten = {}, {}
    for beta in (0.0, 1.0):
        task = task_of(f"data.beta={beta}", "data.order=continual", "trainer.max_steps=200", small=False)
        optimizer = torch.optim.Adam(task.model.parameters(), lr=2e-3)
        for part in range(5):
            train(task, 40 * part, 40 * (part + 1), optimizer)
            results = task.evaluate("val", precision())
        first_task[beta], forgotten[beta] = results["accuracy/task0"], results["forgetting"]
    assert forgotten[1.0] < forgotten[0.0] - 0.05, forgotten
    assert first_task[1.0] >= 0.95, first_task


def test_evaluation_gives_the_mean_over_tasks_and_the_fall_since_each_was_learned():
    task = task_of("data.order=continual", "trainer.max_steps=50")
    assert "forgetting" not in task.evaluate("val", precision()), "nothing has been learned yet"
    task.learned = [1.0, 0.2]
    results = task.evaluate("val", precision())
    figures = [results[f"accuracy/task{t}"] for t in range(5)]
    assert results["accuracy"] == pytest.approx(sum(figures) / 5)
    assert results["forgetting"] == pytest.approx((1.0 - figures[0] + 0.2 - figures[1]) / 2)
    assert "forgetting" not in task.evaluate("test", precision())


def test_what_was_learned_is_measured_when_a_task_ends_however_rarely_the_run_is_evaluated():
    task = task_of("data.order=continual", "trainer.max_steps=50", "precision=float32")
    train(task, 0, 10, torch.optim.Adam(task.model.parameters(), lr=0.01))
    expected = task.evaluate("val", precision())["accuracy/task0"]
    next(task.batches(10))
    assert task.learned == [expected]


def test_what_is_selected_after_continual_training_is_the_last_model(tmp_path: Path):
    words = ["model=hypermlp", "data=split_digits", "schedule=constant", "data.beta=0", "trainer.max_steps=100"]
    assert cli.main(["train", *words, "data.order=continual", f"outputs={tmp_path}", "trainer.eval_every=20"]) == 0
    (folder,) = (tmp_path / "split_digits").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert summary["best/step"] == 100
    assert summary["val/accuracy"] < max(row.get("val/accuracy", 0) for row in rows), "something was forgotten"
    assert summary["val/forgetting"] > 0


@pytest.mark.slow
def test_the_compiled_penalty_equals_the_eager_one():
    for tasks in (1, 3):
        task = task_of("data.order=continual", "data.beta=0.5", small=False)
        batch = next(task.batches(0))
        task.begin(tasks)
        with torch.no_grad():
            next(task.model.hypernet.generator.parameters()).add_(0.1)  # type: ignore[union-attr]
        expected, stats = task.loss(*batch)
        found, compiled = torch.compile(task.loss)(*batch)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(compiled["output_regularizer"], stats["output_regularizer"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["target=wide_resnet", "target.depth=10", "target.width=1"], "batch norms .* running statistics all tasks"),
        (["trainer.batch_size=3"], "no example for each of the 5 tasks"),
        (["data.order=continual", "trainer.max_steps=3"], "so few steps leave none for some of the 5 tasks"),
    ],
)
def test_what_cannot_be_learned_well_is_refused(words: list[str], said: str):
    with pytest.raises(UserError, match=said):
        task_of(*words, small=False)


def test_batches_larger_than_a_task_are_as_large_as_the_smallest():
    task = task_of("trainer.batch_size=2000")
    x, _, _ = next(task.batches(0))
    assert x.shape[:2] == (5, min(len(one.train) for one in task.data.tasks))


def test_without_a_hypernet_one_network_serves_all_tasks():
    task = task_of("model=mlp", small=False)
    assert count_parameters(task.model).trainable == 16_802
    loss, stats = task.loss(*next(task.batches(0)))
    assert isinstance(task.loss, MultiTaskLoss) and set(stats) == {"loss", "accuracy"} and loss.requires_grad


@pytest.mark.parametrize("hypernet", ["static"])
def test_a_hypernet_that_takes_no_condition_is_refused(hypernet):
    with pytest.raises(UserError, match=r"hypernet=static makes weights from no condition \(hypernets that do: "):
        task_of(f"hypernet={hypernet}", small=False)


def test_the_model_is_built_alike_for_a_saved_run():
    config = compose_config(["model=hypermlp", "data=split_digits"])
    model = build_model(config, Tasks(Images(1, 8, 2, train=0), 5))
    assert {n: p.shape for n, p in model.named_parameters()} == {
        n: p.shape for n, p in task_of(small=False).model.named_parameters()
    }
    assert isinstance(model, nn.Module)
