"""Translation: what loss and figures depend on and what not, what is kept for a resumed or moved run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor
from torch.nn import functional as F

from hyperrun.data.pairs.pieces import BOS, EOS
from hyperrun.errors import UserError
from hyperrun.hydra_app.compose import compose_config
from hyperrun.targets.attention import CHUNK_BYTES, Attention, in_chunks, room_bytes
from hyperrun.tasks.recurrent_memory import attention_memory
from hyperrun.tasks.translation import LearnedPieces, Translation, TranslationLoss, network_of
from hyperrun.tasks.translation_figures import figures_of, signatures
from hyperrun.training.distributed import World
from hyperrun.training.precision import Precision
from tests.data.pairs.conftest import mirrored, sentences

WORLD = World(0, 1, torch.device("cpu"))
FLOAT = Precision("float32", "", "cpu")
TaskOf = Callable[..., Translation]


@pytest.fixture
def task_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskOf:
    """Return a function of overrides that makes a task on 60 short pairs, its model always with the same weights."""
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    texts = sentences(60, seed=0)
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "b.txt").write_text("\n".join(mirrored(texts)) + "\n")

    def make(*overrides: str, model: str = "lnhyperseq2seq", world: World = WORLD) -> Translation:
        line = [f"model={model}", "data=parallel", "data.val_fraction=0.2", "data.test_fraction=0.1"]
        line += [f"data.source={tmp_path / 'a.txt'}", f"data.target={tmp_path / 'b.txt'}", f"data.root={tmp_path}"]
        line += ["data.pieces=60", "data.byte_fallback=false", "data.tokens_per_batch=100", "data.buckets=3"]
        line += ["target.hidden_size=8", "target.dropout=0"] + ["hypernet.hyper_size=4"] * ("hyper" in model)
        torch.manual_seed(0)
        return Translation(compose_config([*line, *overrides]), world)

    return make


def gradient(task: Translation, batch: Any, pieces: float = 0.0, smoothing: float = 0.0) -> tuple[float, Tensor]:
    """Return the loss and its gradient, all parameters in a row. pieces: 0 takes the task's own."""
    loss, _ = TranslationLoss(task.model, pieces or task.loss.pieces_per_batch, smoothing)(*batch)
    return loss.item(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(task.model.parameters()))])


# ---------------------------------------------------------------- the loss


def test_loss_and_gradient_do_not_depend_on_how_much_padding_there_is(task_of: TaskOf) -> None:
    task = task_of()
    source, source_lengths, target, target_lengths = next(task.batches(0))
    wanted, found = gradient(task, (source, source_lengths, target, target_lengths))
    beyond = torch.arange(target.shape[1]) > target_lengths[:, None]  # other pieces there
    longer = F.pad(source, (0, 4), value=7), F.pad(target.masked_fill(beyond, 5), (0, 3))
    loss, other = gradient(task, (longer[0], source_lengths, longer[1], target_lengths))
    assert loss == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close(other, found, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_gradient_of_an_epoch_do_not_depend_on_the_batches(task_of: TaskOf, smoothing: float) -> None:
    """Summed up over an epoch each piece counts once, whatever it is beside."""

    def epoch(*way: str) -> tuple[float, Tensor]:
        task = task_of(*way, model="lnseq2seq")
        parts = [gradient(task, batch, pieces=1.0, smoothing=smoothing) for batch in task.epoch(0, 0)]
        return sum(loss for loss, _ in parts), torch.stack([g for _, g in parts]).sum(0)

    wanted, found = epoch()
    for way in (["data.buckets=1"], ["data.tokens_per_batch=57"], ["seed=3"]):
        loss, other = epoch(*way)
        assert loss == pytest.approx(wanted, rel=1e-5)
        torch.testing.assert_close(other, found, rtol=1e-3, atol=1e-4)


def test_two_processes_have_the_gradient_of_one(task_of: TaskOf) -> None:
    """The mean over both, as DistributedDataParallel takes it."""
    whole = task_of()
    shares = [task_of(world=World(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
    batches = [next(task.batches(0)) for task in shares]
    together = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    wanted, found = gradient(whole, together, pieces=2 * shares[0].loss.pieces_per_batch)
    parts = [gradient(task, batch) for task, batch in zip(shares, batches, strict=True)]
    assert sum(loss for loss, _ in parts) / 2 == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close((parts[0][1] + parts[1][1]) / 2, found, rtol=1e-3, atol=1e-6)


def test_label_smoothing_is_in_what_is_minimized_and_not_in_what_is_said(task_of: TaskOf) -> None:
    task = task_of()
    batch = next(task.batches(0))
    plain, said = TranslationLoss(task.model, 10.0)(*batch)
    smoothed, also_said = TranslationLoss(task.model, 10.0, 0.3)(*batch)
    pieces = int(batch[3].sum())
    assert said["loss"].item() == pytest.approx(plain.item() * 10 / pieces, rel=1e-5)
    assert also_said["loss"].item() == pytest.approx(said["loss"].item(), rel=1e-5)
    assert smoothed.item() != pytest.approx(plain.item(), rel=1e-3)
    assert task.tokens_in(batch) == pieces and task.examples_in(batch) == len(batch[0])
    logits = task.model(batch[0], batch[1], batch[2][:, :-1], batch[3])
    there = torch.arange(logits.shape[1]) < batch[3][:, None]
    wanted = F.cross_entropy(logits[there], batch[2][:, 1:][there], label_smoothing=0.3, reduction="sum")
    assert smoothed.item() == pytest.approx(wanted.item() / 10, rel=1e-5)


# ---------------------------------------------------------------- the figures


@pytest.mark.parametrize("model", ["seq2seq", "hyperseq2seq"])
def test_the_loss_is_the_mean_over_the_pieces_of_pairs_read_alone(task_of: TaskOf, model: str) -> None:
    task = task_of(model=model)
    task.model.eval()
    split, total = task.pairs.splits["val"], 0.0
    for i in range(len(split)):
        source = torch.tensor([[*split.source[i].tolist(), EOS]])
        target = torch.tensor([[BOS, *split.target[i].tolist(), EOS]])
        length = torch.tensor([target.shape[1] - 1])
        logits = task.model(source, torch.tensor([source.shape[1]]), target[:, :-1], length)
        total += F.cross_entropy(logits[0], target[0, 1:], reduction="sum").item()
    assert task.evaluate("val", FLOAT)["loss"] == pytest.approx(total / split.predicted, rel=1e-5)


def test_figures_are_of_greedy_translations_in_validation_and_of_a_beams_in_the_test(
    task_of: TaskOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of("data.beam=3")
    said: list[list[str]] = []
    monkeypatch.setattr("hyperrun.tasks.translation.figures_of", lambda ours, theirs: said.extend([ours, theirs]) or {})
    task.evaluate("val", FLOAT)
    task.evaluate("test", FLOAT)
    network = network_of(task.model).eval()
    for split, ours, references in (("val", *said[:2]), ("test", *said[2:])):
        texts = task.pairs.splits[split].source.texts
        assert references == list(task.pairs.splits[split].target.texts)
        task.config.beam = 1 if split == "val" else 3
        assert ours == task.translated(network, list(texts), FLOAT)


def test_the_figures_are_sacrebleus(task_of: TaskOf) -> None:
    ours, theirs = ["a dog runs over the hill", "the ball"], ["a dog runs over a hill", "the ball"]
    found = figures_of(ours, theirs)
    assert found["bleu"] == BLEU().corpus_score(ours, [theirs]).score and 40 < found["bleu"] < 99
    assert found["exact"] == 0.5 and 70 < found["chrf"] < 100
    assert signatures()["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    facts = task_of().facts()
    assert facts["chrf_signature"] == signatures()["chrf_signature"] and facts["data/val"] == 12


def test_what_selects_the_checkpoint_is_what_the_config_says(task_of: TaskOf) -> None:
    assert task_of().metric == "loss" and not task_of().higher_is_better
    assert task_of("data.select=bleu").metric == "bleu" and task_of("data.select=bleu").higher_is_better


def test_it_learns_and_shows_translations(task_of: TaskOf) -> None:
    task = task_of("target.hidden_size=24", model="seq2seq")
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.02)
    batches = task.batches(0)
    before = task.evaluate("train", FLOAT)
    for _ in range(40):
        loss, _ = task.loss(*next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = task.evaluate("train", FLOAT)
    assert list(after) == ["loss"] and after["loss"] < before["loss"] / 1.5
    words = (task.closing_words(FLOAT) or "").splitlines()
    assert words[0] == "5 translations from the validation split:"
    assert words[1].strip() == task.pairs.splits["val"].source.texts[0]
    assert task.model.training


# ---------------------------------------------------------------- checkpoints


def test_pieces_travel_in_the_checkpoint(task_of: TaskOf, tmp_path: Path) -> None:
    for way in (["data.shared_vocabulary=true"], ["data.shared_vocabulary=false", "data.pieces=40"]):
        task = task_of(*way)
        torch.save(task.state_dict(), tmp_path / "state.pt")
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        again = LearnedPieces.from_state_dict(state, "there")
        assert again == task.pieces and again.inputs == task.pairs.inputs
        text = "a dog runs"
        assert again.target.decode(again.source.encode([text])[0]) == text or not again.inputs.shared


def test_a_checkpoint_of_other_data_is_refused(task_of: TaskOf) -> None:
    task = task_of()
    state = task.state_dict()
    task.load_state_dict(state)
    with pytest.raises(UserError, match="have changed since this run began"):
        task.load_state_dict({**state, "pairs": "other"})
    assert task.changes({**state, "pairs": "other"}) == ["its sentences or their split"] and not task.changes(state)
    with pytest.raises(UserError, match="other pieces of words than data=parallel"):
        task_of("data.pieces=50").check_fits(state)
    with pytest.raises(UserError, match="not of a run on translation"):
        task.check_fits({"vocabulary": {}})


def test_memory_is_foreseen_and_grows_with_the_batch(task_of: TaskOf) -> None:
    small, large = (task_of(f"data.tokens_per_batch={n}").memory() for n in (50, 800))
    assert small is not None and large is not None and large > small > 0
    assert task_of("hypernet.fast=never").memory() is None


def test_the_memory_of_attention_is_what_is_kept_for_backward_and_one_chunk() -> None:
    """Counted tensor by tensor: what autograd has saved, each storage once, and the room of a chunk."""
    rows, source, target, units, values = 2, 40, 30, 16, 24
    attention = Attention(units, values, units)
    lengths = torch.full((rows,), source)
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoded = torch.randn(rows, source, values, requires_grad=True)
        queries = torch.randn(rows, target, units, requires_grad=True)
        attention(queries, attention.memory(encoded, lengths))[0].sum().backward()
    own = {p.untyped_storage().data_ptr() for p in attention.parameters()}
    kept = sum(size for place, size in saved.items() if place not in own)
    room = 4 * rows * source * target * units  # all queries at once: it is less than CHUNK_BYTES
    found = attention_memory(attention, rows, source, target)
    assert kept + room < found < 4 * kept + room


def test_the_room_of_attention_is_a_chunk_and_one_query_of_each_source_at_least() -> None:
    cpu = torch.device("cpu")
    assert room_bytes(cpu, 2, 10, 5, 8) == 4 * 2 * 10 * 5 * 8
    assert room_bytes(cpu, 16, 100, 100, 64) == CHUNK_BYTES["cpu"]
    assert room_bytes(cpu, 64, 400, 400, 256) == 4 * 64 * 400 * 256 > CHUNK_BYTES["cpu"]
    queries, keys = torch.zeros(64, 4, 8), torch.zeros(64, 2000, 8)
    *_, room = in_chunks(queries, keys)
    assert len({place.data_ptr() for place in room}) == 1 and len(room) == 4
    assert room[0].untyped_storage().nbytes() == room_bytes(cpu, 64, 2000, 4, 8)
