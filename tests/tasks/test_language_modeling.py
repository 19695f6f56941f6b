"""Language modelling: the carried state, the figure of an evaluation, and how a text is drawn."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hyperrun.errors import UserError, printable
from hyperrun.hypernets import hypernetize
from hyperrun.tasks.carried import example_dims, on_tensors, parted
from hyperrun.tasks.language_modeling import LanguageLoss, LanguageModeling, sample
from hyperrun.training.distributed import World
from hyperrun.training.precision import Precision
from tests.composed import compose_config

WORLD = World(0, 1, torch.device("cpu"))
FLOAT = Precision("float32", "", "cpu")
TEXT = "the cat sat on the mat and the rat sat on the cat. " * 60


@pytest.fixture
def task_of(tmp_path, monkeypatch):
    """Return a function of overrides that makes a task on TEXT, its model always with the same weights."""
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    (tmp_path / "text.txt").write_text(TEXT)

    def make(*overrides: str) -> LanguageModeling:
        line = ["data=text", f"data.path={tmp_path / 'text.txt'}", "target.hidden_size=8", "data.sequence_length=16"]
        line += ["trainer.batch_size=4", "hypernet.hyper_size=4"]
        torch.manual_seed(0)
        return LanguageModeling(compose_config(["model=lnhyperlstm", *line, *overrides]), WORLD)

    return make


def test_the_figure_depends_on_neither_batch_size_nor_chunk_length(task_of):
    figures = [
        task_of("data.eval_streams=3", "data.eval_burn_in=7", *way).evaluate("val", FLOAT)
        for way in (
            [],
            ["trainer.eval_batch_size=1"],
            ["trainer.eval_batch_size=2", "data.sequence_length=5"],
            ["data.sequence_length=300", "trainer.batch_size=2"],
        )
    ]
    for other in figures[1:]:
        assert other == pytest.approx(figures[0], rel=1e-5)


def test_label_smoothing_is_in_the_loss_that_is_minimized(task_of):
    plain, smoothed = task_of(), task_of("trainer.label_smoothing=0.3")
    for task in (plain, smoothed):
        task.model.eval()
    batch = next(plain.batches(0))
    logits = plain.model(batch[0])[0].flatten(0, 1)
    wanted = F.cross_entropy(logits, batch[1].flatten(), label_smoothing=0.3)
    assert smoothed.loss(*batch)[0].item() == pytest.approx(wanted.item(), rel=1e-6)
    assert plain.loss(*batch)[0].item() != pytest.approx(wanted.item(), rel=1e-3)


def test_what_has_no_meaning_for_a_text_is_refused(task_of):
    with pytest.raises(UserError, match="generated_l2"):
        task_of("optim.generated_l2=0.1")


def test_a_text_too_short_for_the_batch_says_so(task_of):
    assert "4 streams of 16;" in task_of().describe_data()
    assert "(too short for trainer.batch_size=999)" in task_of("trainer.batch_size=999").describe_data()


def test_with_one_stream_the_state_is_carried_over_every_symbol(task_of):
    """Against the model run over the whole split at once."""
    task = task_of("data.eval_streams=1", "trainer.eval_batch_size=1")
    ids = task.text.test.long()
    task.model.eval()
    with torch.no_grad():
        logits, _ = task.model(ids[None, :-1])
    nats = F.cross_entropy(logits[0], ids[1:]).item()
    found = task.evaluate("test", FLOAT)
    assert found["loss"] == pytest.approx(nats, rel=1e-5)
    assert found["bpc"] == pytest.approx(nats / math.log(2), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(nats), rel=1e-5)


def test_evaluation_leaves_training_as_it_is(task_of):
    task = task_of()
    inputs, targets, first = next(task.batches(0))
    task.loss(inputs, targets, first)
    before = task.loss.state
    task.evaluate("val", FLOAT)
    assert task.loss.state is before and task.model.training


def test_the_state_is_carried_and_begins_anew_where_told(task_of):
    task = task_of("target.dropout_in=0", "target.dropout_out=0", "target.recurrent_dropout=0")
    batches = [next(task.batches(n)) for n in range(2)]
    assert [first for _, _, first in batches] == [True, False]
    (x0, y0, _), (x1, y1, _) = batches
    alone, _ = LanguageLoss(task.model)(x1, y1, True)
    task.loss(x0, y0, True)
    carried, _ = task.loss(x1, y1, False)
    whole, _ = LanguageLoss(task.model)(torch.cat([x0, x1], 1), torch.cat([y0, y1], 1), True)
    both = (LanguageLoss(task.model)(x0, y0, True)[0] + carried) / 2
    assert carried.item() != pytest.approx(alone.item(), rel=1e-6)
    assert both.item() == pytest.approx(whole.item(), rel=1e-5)
    assert all(not part.requires_grad for layer in task.loss.state for part in layer), "truncated"


def test_a_restored_task_goes_on_with_the_same_losses(task_of):
    keys = ["target.dropout_in=0", "target.dropout_out=0", "target.recurrent_dropout=0"]
    task, batches = task_of(*keys), None
    batches = task.batches(0)
    for _ in range(3):
        task.loss(*next(batches))
    saved = task.state_dict()
    other = task_of(*keys)
    other.load_state_dict(saved)
    expected, found = task.loss(*next(batches))[0], other.loss(*next(other.batches(3)))[0]
    assert torch.equal(found, expected)


class OfTorch(nn.Module):
    """Its state is torch.nn.LSTM's, [layers, B, H], with as many layers as examples, and numbers that are of none."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(50, 3), nn.LSTM(3, 4, num_layers=2, batch_first=True)

    def forward(self, tokens, state=None):
        x, last = self.lstm(self.embedding(tokens), state and state[:2])
        return x, (*last, torch.ones(2))


@pytest.mark.parametrize("kind", ["torch", "hyper", "own"])
def test_two_processes_save_and_take_up_their_own_examples_wherever_they_stand(task_of, monkeypatch, kind):
    """Each process's part of the saved state is what it had; the saved state is that of one process with all."""
    torch.manual_seed(0)
    model = task_of().model.double() if kind == "own" else OfTorch().double()
    if kind == "hyper":
        model = hypernetize(model, "dynamic", hyper_size=5, z_dim=2)
    model.eval()
    tokens = torch.randint(13, (4, 6))
    expected, states = model(tokens)[1], [model(half)[1] for half in tokens.chunk(2)]
    tasks = [task_of() for _ in states]
    for rank, task in enumerate(tasks):
        task.world = World(rank, 2, torch.device("cpu"))
        task.example_dims = example_dims(model, tokens[:1, :1], task.world)
    rows: list[list[torch.Tensor]] = [[], []]  # of each process, what it sends, in order

    def send(parts, part):
        assert type(part) is torch.Tensor and part.is_contiguous()
        rows[sending].append(part)
        for rank, received in enumerate(parts):
            received.copy_(rows[rank][len(rows[sending]) - 1] if sending else part)

    monkeypatch.setattr(torch.distributed, "all_gather", send)
    for sending, task in enumerate(tasks):
        task.loss.state = on_tensors(torch.Tensor.detach, states[sending])
        saved = task.state_dict()  # the last process's is complete
    alone = on_tensors(torch.Tensor.detach, expected)
    torch.testing.assert_close(saved["state"], on_tensors(parted, alone), rtol=0, atol=1e-12)
    for task, had in zip(tasks, states, strict=True):
        task.load_state_dict(saved)
        torch.testing.assert_close(on_tensors(parted, task.loss.state), on_tensors(parted, had), rtol=0, atol=1e-12)


# ---------------------------------------------------------------- drawing


class Fixed(nn.Module):
    """Gives every symbol the same logits, and counts the calls in its state."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.states: list[Any] = []
        self.inputs: list[list[int]] = []

    def forward(self, tokens, state=None):
        self.states.append(state)
        self.inputs.append(tokens[0].tolist())
        return self.logits.expand(*tokens.shape, -1), (state or 0) + 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_symbols_come_as_often_as_the_temperature_says(task_of, temperature):
    vocabulary = task_of().text.vocabulary
    logits = torch.linspace(-2, 2, len(vocabulary))
    text = sample(Fixed(logits), vocabulary, 4000, precision=FLOAT, temperature=temperature, seed=1)
    wanted = torch.softmax(logits / temperature, 0)
    counts = Counter(text)
    for symbol, p in zip(vocabulary.symbols, wanted.tolist(), strict=True):
        assert counts[symbol] == pytest.approx(4000 * p, abs=5 * math.sqrt(4000 * p * (1 - p)) + 1)


def test_the_prompt_is_read_once_and_then_each_symbol_that_was_drawn(task_of):
    vocabulary = task_of().text.vocabulary
    model = Fixed(torch.zeros(len(vocabulary)))
    text = sample(model, vocabulary, 5, precision=FLOAT, prompt="cat", seed=2)
    assert text.startswith("cat") and len(text) == 8
    assert model.inputs[0] == vocabulary.encode("cat").tolist()
    assert model.inputs[1:] == [[n] for n in vocabulary.encode(text[3:-1]).tolist()]
    assert model.states == [None, 1, 2, 3, 4]


def test_what_would_steer_a_terminal_is_not_shown():
    assert printable("a\x1b[2Jb\r\n\tc\x07é\u202e", keep="\n\t") == "a\ufffd[2Jb\ufffd\n\tc\ufffdé\ufffd"
