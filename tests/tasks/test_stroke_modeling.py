"""Modelling pen strokes: what the loss and the figure depend on and what not, the carried state, what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hyperrun.errors import UserError
from hyperrun.hypernets import hyper_layers
from hyperrun.tasks.mixture_density import negative_log_density
from hyperrun.tasks.stroke_modeling import StrokeLoss, StrokeModeling, StrokeScale, nats_of_points, sample_strokes
from hyperrun.training.distributed import World
from hyperrun.training.precision import Precision
from tests.composed import compose_config

WORLD = World(0, 1, torch.device("cpu"))
FLOAT = Precision("float32", "", "cpu")
BFLOAT = Precision("bf16", "", "cpu")
NO_DROPOUT = ("target.dropout_in=0", "target.dropout_out=0", "target.recurrent_dropout=0")
TaskOf = Callable[..., StrokeModeling]


@pytest.fixture
def task_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskOf:
    """Return a function of overrides that makes a task on 40 short walks, its model always with the same weights."""
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    numbers = np.random.default_rng(0)
    lengths = numbers.integers(2, 30, 40)
    points = numbers.normal(size=(lengths.sum(), 3)) * [3, 1, 1]
    points[:, 2] = points[:, 2] > 1
    np.savez(tmp_path / "walks.npz", points=points, offsets=np.append(0, lengths.cumsum()))

    def make(*overrides: str, model: str = "lnhyperlstm", world: World = WORLD) -> StrokeModeling:
        line = [f"model={model}", "data=strokes", f"data.path={tmp_path / 'walks.npz'}", "target.hidden_size=8"]
        line += ["target.mixtures=2", "trainer.batch_size=4", "trainer.eval_batch_size=3"]
        line += ["hypernet.hyper_size=4"] if "hyper" in model else []
        torch.manual_seed(0)
        return StrokeModeling(compose_config([*line, *NO_DROPOUT, *overrides]), world)

    return make


def gradient(task: StrokeModeling, *batch: Any) -> tuple[float, Tensor]:
    """Return the loss and its gradient, all parameters in a row."""
    loss, _ = StrokeLoss(task.model, task.loss.points_per_sequence, carries=False)(*batch, True)
    return loss.item(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(task.model.parameters()))])


def one_by_one(task: StrokeModeling, split: str) -> list[float]:
    """Return the nats of each sequence of a split, each read alone."""
    task.model.eval()
    found = []
    with torch.no_grad():
        for i in range(len(of := task.strokes.splits[split])):
            outputs, _ = task.model(of[i][None, :-1])
            found.append(float(negative_log_density(outputs, of[i][None, 1:]).double().sum()))
    task.model.train()
    return found


# ---------------------------------------------------------------- loss and figure


def test_the_figure_is_the_mean_over_sequences_read_alone(task_of: TaskOf) -> None:
    task = task_of()
    nats = one_by_one(task, "test")
    found = task.evaluate("test", FLOAT)
    assert found["nats"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    assert found["nats_per_point"] == pytest.approx(sum(nats) / task.strokes.splits["test"].predicted, rel=1e-5)


@pytest.mark.parametrize(
    "way", [["trainer.eval_batch_size=1"], ["data.buckets=1", "trainer.eval_batch_size=50"], ["data.sequence_length=4"]]
)
def test_the_figure_depends_on_neither_batches_nor_buckets_nor_chunks(task_of: TaskOf, way: list[str]) -> None:
    assert task_of(*way).evaluate("val", FLOAT) == pytest.approx(task_of().evaluate("val", FLOAT), rel=1e-5)


def test_loss_and_gradient_do_not_depend_on_what_is_in_the_padding_or_how_much_there_is(task_of: TaskOf) -> None:
    task = task_of("data.buckets=1")
    points, lengths, _ = next(task.batches(0))
    wanted = gradient(task, points, lengths)
    longer = torch.nn.functional.pad(points, (0, 0, 0, 9))
    beyond = torch.arange(longer.shape[1]) > lengths[:, None]
    for filling in (0.0, 7.0, float("nan")):
        loss, found = gradient(task, longer.masked_fill(beyond[..., None], filling), lengths)
        assert loss == pytest.approx(wanted[0], rel=1e-6)
        torch.testing.assert_close(found, wanted[1], rtol=1e-4, atol=1e-6)


def test_loss_and_gradient_of_an_epoch_depend_on_neither_buckets_nor_batches(task_of: TaskOf) -> None:
    """Summed up over an epoch, in parts of the size of the batch: every sequence counts once, whatever it is beside."""

    def epoch(*way: str) -> tuple[float, Tensor]:
        task = task_of(*way, model="lnlstm")
        size = task.loader.batch_size
        parts = [gradient(task, points, lengths) for points, lengths, _ in task.epoch(0, 0)]
        return sum(size * loss for loss, _ in parts), torch.stack([size * g for _, g in parts]).sum(0)

    wanted = epoch()
    for way in (["data.buckets=1"], ["trainer.batch_size=7"], ["seed=3"]):
        loss, found = epoch(*way)
        assert loss == pytest.approx(wanted[0], rel=1e-5)
        torch.testing.assert_close(found, wanted[1], rtol=1e-3, atol=1e-4)


def test_the_order_of_a_batch_does_not_change_its_loss(task_of: TaskOf) -> None:
    task = task_of()
    points, lengths, _ = next(task.batches(0))
    loss, found = gradient(task, points, lengths)
    other, turned = gradient(task, points.flip(0), lengths.flip(0))
    assert other == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(turned, found, rtol=1e-4, atol=1e-6)


def test_two_processes_have_the_gradient_of_one(task_of: TaskOf) -> None:
    """The mean over both, as DistributedDataParallel takes it."""
    whole = task_of()
    wanted = gradient(whole, *next(whole.batches(0))[:2])
    shares = [task_of(world=World(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
    parts = [gradient(task, *next(task.batches(0))[:2]) for task in shares]
    assert sum(loss for loss, _ in parts) / 2 == pytest.approx(wanted[0], rel=1e-6)
    torch.testing.assert_close((parts[0][1] + parts[1][1]) / 2, wanted[1], rtol=1e-4, atol=1e-6)


def test_what_a_batch_says_of_itself(task_of: TaskOf) -> None:
    task = task_of()
    task.model.eval()
    batch = next(task.batches(0))
    loss, stats = task.loss(*batch)
    nats, _ = nats_of_points(task.model, *batch[:2], None)
    sums = nats.detach().sum(1)
    assert loss.item() == pytest.approx(float(sums.sum()) / (4 * task.strokes.mean_predicted), rel=1e-5)
    assert stats["nats"].item() == pytest.approx(float(sums.mean()), rel=1e-5)
    assert stats["nats_per_point"].item() == pytest.approx(float(sums.sum() / batch[1].sum()), rel=1e-5)
    assert task.tokens_in(batch) == int(batch[1].sum())


def test_the_loss_is_in_float32_whatever_the_precision(task_of: TaskOf) -> None:
    task = task_of()
    batch = next(task.batches(0))
    with BFLOAT.autocast():
        loss, _ = task.loss(*batch)
    assert loss.dtype == torch.float32
    exact, _ = task.loss(*batch)
    assert loss.item() == pytest.approx(exact.item(), rel=0.02) and loss.item() != exact.item()


def test_padded_batches_take_the_fast_form(task_of: TaskOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a HyperLSTM, with gradients: every layer, every batch, masks or not; and it is what step by step gives."""
    calls = []
    real = hyper_layers.run_sequence
    monkeypatch.setattr(hyper_layers, "run_sequence", lambda call, *rest: (calls.append(call), real(call, *rest))[1])
    task = task_of("target.layers=2")
    readable = task_of("target.layers=2", "hypernet.fast=never")
    for number, ((points, lengths, _), _) in enumerate(zip(task.epoch(0, 0), range(4), strict=False), 1):
        loss, found = gradient(task, points, lengths)
        assert len(calls) == 2 * number and all(call.lengths is not None for call in calls)
        other, wanted = gradient(readable, points, lengths)
        assert loss == pytest.approx(other, rel=1e-5)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    dropping = task_of("target.recurrent_dropout=0.1", "hypernet.recurrent_dropout=0.1")
    calls.clear()
    dropping.loss(*next(dropping.batches(0)))
    assert len(calls) == 1 and calls[0].kept is not None and calls[0].hyper_kept is not None


# ---------------------------------------------------------------- the carried state


def test_chunks_with_a_carried_state_are_the_whole_sequences(task_of: TaskOf) -> None:
    task, whole = task_of("data.sequence_length=6"), task_of()
    every = [batch for batch, _ in zip(task.batches(0), range(task.batches_per_epoch), strict=False)]
    starts = [n for n, (_, _, first) in enumerate(every) if first]
    ends = [*starts[1:], len(every)]
    start, end = max(zip(starts, ends, strict=True), key=lambda pair: pair[1] - pair[0])
    chunks = every[start:end]
    assert len(chunks) > 2
    losses = [task.loss(*chunk)[0].item() * task.loss.points_per_sequence for chunk in chunks]
    points = torch.cat([chunks[0][0], *(chunk[0][:, 1:] for chunk in chunks[1:])], 1)
    lengths = torch.stack([chunk[1] for chunk in chunks]).sum(0)
    assert sum(losses) == pytest.approx(gradient(whole, points, lengths)[0] * whole.loss.points_per_sequence, rel=1e-5)
    assert all(not part.requires_grad for layer in task.loss.state for part in layer), "truncated"
    alone = [gradient(task, *chunk[:2])[0] * task.loss.points_per_sequence for chunk in chunks]
    assert sum(alone) != pytest.approx(sum(losses), rel=1e-4), "the state means something"


def test_a_restored_task_goes_on_with_the_same_losses(task_of: TaskOf) -> None:
    task = task_of("data.sequence_length=6")
    batches = task.batches(0)
    start = next(n for n, (_, _, first) in enumerate(task.batches(0)) if not first)  # in the middle of sequences
    for _ in range(start):
        task.loss(*next(batches))
    saved = task.state_dict()
    other = task_of("data.sequence_length=6")
    other.load_state_dict(saved)
    batch = next(other.batches(start))
    assert batch[2] is False
    assert torch.equal(task.loss(*next(batches))[0], other.loss(*batch)[0])
    halves = [task_of("data.sequence_length=6", world=World(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
    for half in halves:
        half.load_state_dict(saved)
    for n, part in enumerate(saved["state"][0]):
        joined = torch.cat([half.loss.state[0][n] for half in halves])
        assert torch.equal(joined, part), "each process goes on with its own rows"


def test_of_whole_sequences_nothing_is_carried(task_of: TaskOf) -> None:
    task = task_of()
    task.loss(*next(task.batches(0)))
    assert task.loss.state is None and task.state_dict()["state"] is None


def test_a_checkpoint_of_other_strokes_is_refused(task_of: TaskOf) -> None:
    saved = task_of("data.min_points=5").state_dict()
    with pytest.raises(UserError, match="have changed since this run began"):
        task_of().load_state_dict(saved)
    with pytest.raises(UserError, match="not of a run on pen strokes"):
        task_of().check_fits({"vocabulary": {}})
    with pytest.raises(UserError, match=r"last\.pt is not of a run on pen strokes"):
        StrokeScale.from_state_dict({"vocabulary": {}}, Path("last.pt"))


def test_the_scale_of_the_points_is_in_the_checkpoint(task_of: TaskOf) -> None:
    task = task_of()
    scale = StrokeScale.from_state_dict(task.state_dict()["scale"] and task.state_dict(), Path("last.pt"))
    assert scale.predicted == task.strokes.mean_predicted
    points = task.strokes.train.points[:50]
    assert torch.equal(scale.raw(points), task.strokes.raw(points))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["target.embedding=4"], "target.embedding is for the symbols of a text"),
        (["target.embedding=8", "target.tied=true"], "target.embedding is for the symbols of a text"),
        (["trainer.label_smoothing=0.1"], "label_smoothing is for classes and symbols"),
        (["optim.generated_l2=0.1"], "generated_l2"),
        (["target=mlp", "hypernet=none"], "target=mlp does not take strokes (targets that do: recurrent; model=lstm"),
    ],
)
def test_what_has_no_meaning_for_strokes_is_refused(task_of: TaskOf, keys: list[str], said: str) -> None:
    if keys[0].startswith("target="):
        config = compose_config(["data=font_strokes", *keys])
        from hyperrun.models import counted

        with pytest.raises(UserError) as refused:
            counted(config)
    else:
        with pytest.raises(UserError) as refused:
            task_of(*keys)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_mixtures_are_not_for_text() -> None:
    from hyperrun.models import counted

    with pytest.raises(UserError, match="target.mixtures is for pen strokes"):
        counted(compose_config(["model=lstm", "data=ptb_char", "target.mixtures=5"]))


def test_what_is_odd_about_the_strokes_is_said_before_training(task_of: TaskOf, tmp_path: Path) -> None:
    assert task_of().warnings() == []
    with np.load(tmp_path / "walks.npz") as file:
        points, offsets = file["points"], file["offsets"]
    points[offsets[30] + 1, 0] = 1e5
    np.savez(tmp_path / "walks.npz", points=points, offsets=offsets)
    (said,) = task_of().warnings()
    assert "walks.npz: points: sequence 30: point 1 is (100000, " in said and "a mistake? data.max_jump=N" in said


def test_a_set_without_a_test_split_says_so(task_of: TaskOf) -> None:
    assert task_of().splits == ("val", "test")
    task = task_of("data.test_fraction=0")
    assert task.splits == ("val",) and "no test split" in task.describe_data()
    assert task.facts()["data/test"] == 0


# ---------------------------------------------------------------- drawing


class Fixed(nn.Module):
    """Gives every point the same outputs, and keeps what it was called with."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)
        self.calls: list[tuple[Tensor, Any]] = []

    def forward(self, points: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        self.calls.append((points, state))
        return self.outputs.expand(*points.shape[:2], -1), (state or 0) + 1


def drawn_by(model: nn.Module, n: int = 3, seed: int = 0, temperature: float = 1.0, points: int = 5) -> list[Tensor]:
    return sample_strokes(model, n, temperature=temperature, seed=seed, max_points=points, precision=FLOAT)


def test_each_point_that_was_drawn_is_read_next(task_of: TaskOf) -> None:
    model = Fixed(torch.randn(13))
    sequences = drawn_by(model)
    assert [list(one.shape) for one in sequences] == [[6, 3]] * 3
    assert [state for _, state in model.calls] == [None, 1, 2, 3, 4]
    read = torch.cat([points for points, _ in model.calls], 1)
    assert torch.equal(read, torch.stack(sequences)[:, :-1]) and read[:, 0].eq(0).all()


def test_a_sequence_is_the_same_whatever_is_drawn_beside_it(task_of: TaskOf) -> None:
    model = task_of().model
    few, many = drawn_by(model, 2, points=30), drawn_by(model, 5, points=30)
    for a, b in zip(few, many, strict=False):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(many[0], many[1])
    assert all(torch.equal(a, b) for a, b in zip(few, drawn_by(model, 2, points=30), strict=True))
    assert not torch.equal(few[0], drawn_by(model, 2, seed=1, points=30)[0])
    assert model.training


def test_what_a_trained_model_draws_is_as_likely_to_it_as_what_it_learned(task_of: TaskOf) -> None:
    """At temperature 1 the nats of its own points are, in the mean, the entropy that it predicts for them."""
    model = task_of().model.eval()
    sequences = torch.stack(drawn_by(model, 64, points=40))
    with torch.no_grad():
        outputs, _ = model(sequences[:, :-1])
        own = negative_log_density(outputs, sequences[:, 1:]).mean()
        others = negative_log_density(outputs, sequences[:, 1:] * torch.tensor([3.0, 3.0, 1.0])).mean()
    cold = torch.stack(drawn_by(model, 64, temperature=0.1, points=40))
    assert own < others
    assert cold[:, 1:, :2].std() < 0.5 * sequences[:, 1:, :2].std()
