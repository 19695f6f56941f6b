"""Padded batches: values and gradients of every kind of layer are those of each sequence alone, in both forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperrun.hypernets import hyper_layers
from hyperrun.hypernets.hyper_layers import HyperRNNLayer
from hyperrun.hypernets.hyperlstm_fast import blocks
from hyperrun.hypernets.hyperlstm_fast.sequence import ends_by_step
from hyperrun.targets import recurrent
from hyperrun.targets.recurrent import LSTMLayer, RNNLayer
from tests.hypernets.test_dynamic import hyper_lstm, random_state, randomize, settings

LENGTHS = torch.tensor([4, 7, 1, 0, 7, 6])
HYPER = 5
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: RNNLayer(3, 4),
    "lstm": lambda: LSTMLayer(3, 4),
    "lnlstm dropout": lambda: LSTMLayer(3, 4, norm=True, dropout=0.4),
    "hyperrnn": lambda: HyperRNNLayer(RNNLayer(3, 4), settings()),
    "hyperrnn full, previous": lambda: HyperRNNLayer(RNNLayer(3, 4), settings(form="full", z_from="previous")),
    "hyperlstm": lambda: hyper_lstm(),
    "hyperlstm fast": lambda: hyper_lstm(fast="auto"),
    "hyperlstm fast, previous": lambda: hyper_lstm(fast="auto", z_from="previous"),
    "hyperlstm fast, long z": lambda: hyper_lstm(fast="auto", z_dim=9),
    "lnhyperlstm dropout": lambda: hyper_lstm(norm=True, dropout=0.4, recurrent_dropout=0.3),
    "lnhyperlstm dropout fast": lambda: hyper_lstm(norm=True, dropout=0.4, recurrent_dropout=0.3, fast="auto"),
}


@pytest.fixture(autouse=True)
def eager_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phases operator by operator; compiled ones have a test below."""
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Dropout masks by number of units; "sequence" chooses those of one, for when it runs alone."""
    torch.manual_seed(5)
    drawn: dict[str, Any] = {"sequence": slice(None)}
    drawn |= {str(units): torch.rand(20, len(LENGTHS), units) >= 0.4 for units in (4, HYPER)}

    def draw(x: Tensor, units: int, dropout: float) -> Tensor | None:
        return drawn[str(units)][: len(x), drawn["sequence"]] if dropout else None

    for module in (recurrent, hyper_layers):
        monkeypatch.setattr(module, "draw_kept", draw)
    return drawn


def layer_of(name: str) -> Any:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    randomize(layer)
    return layer


def one_by_one(layer: Any, x: Tensor, state: tuple[Tensor, ...], masks: dict[str, Any]) -> list[Tensor]:
    """Return outputs and last states of the sequences, each run alone without padding."""
    outputs, lasts = [], []
    for n, length in enumerate(LENGTHS.tolist()):
        masks["sequence"] = slice(n, n + 1)
        own = tuple(s[n : n + 1] for s in state)
        out, last = layer(x[:length, n : n + 1], own) if length else (x.new_zeros(0, 1, 4), own)
        outputs.append(nn.functional.pad(out[:, 0], (0, 0, 0, len(x) - length)))
        lasts.append(last)
    masks["sequence"] = slice(None)
    return [torch.stack(outputs, 1), *(torch.cat(parts) for parts in zip(*lasts, strict=True))]


def values_and_gradients(layer: Any, results: list[Tensor], x: Tensor, state: tuple[Tensor, ...]) -> dict[str, Tensor]:
    inputs = {"x": x, **{f"state {n}": s for n, s in enumerate(state)}, **dict(layer.named_parameters())}
    torch.manual_seed(3)
    directions = [torch.randn_like(results[0][:7]), *map(torch.randn_like, results[1:])]
    gradients = torch.autograd.grad([results[0][:7], *results[1:]], list(inputs.values()), directions)
    named = {f"d {name}": g for name, g in zip(inputs, gradients, strict=True)}
    return {"out": results[0][:7], **{f"last {n}": s for n, s in enumerate(results[1:])}, **named}


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_a_padded_batch_equals_its_sequences_one_by_one(name: str, padding: int, masks: dict[str, Any]):
    layer = layer_of(name)
    x = torch.randn(7, len(LENGTHS), 3, dtype=torch.double, requires_grad=True)
    state = random_state(layer, x)
    expected = values_and_gradients(layer, one_by_one(layer, x, state, masks), x, state)
    padded = torch.arange(7 + padding)[:, None, None] >= LENGTHS[None, :, None]
    longer = nn.functional.pad(x, (0, 0, 0, 0, 0, padding)).masked_fill(padded, torch.nan)
    out, last = layer(longer, state, LENGTHS)
    assert out.shape == (7 + padding, len(LENGTHS), 4) and out.masked_select(padded).eq(0).all()
    found = values_and_gradients(layer, [out, *last], x, state)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=lambda m, key=key: f"{key}: {m}")
    assert all(value.abs().max() > 0 for value in expected.values())


@pytest.mark.parametrize("norm", [False, True])
def test_gradients_agree_with_finite_differences_in_the_fast_form(norm: bool):
    torch.manual_seed(0)
    layer = hyper_lstm(norm, units=3, hyper_size=2, fast="auto").double()
    randomize(layer)
    x = torch.randn(3, 3, 3, dtype=torch.double, requires_grad=True)
    state = random_state(layer, x)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x: Tensor, *rest: Tensor) -> Any:
        given = dict(zip(names, rest[4:], strict=True))
        out, last = torch.func.functional_call(layer, given, (x, rest[:4], torch.tensor([1, 3, 2])))
        return out, *last

    assert torch.autograd.gradcheck(run, (x, *state, *values), fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_compiled_phases_equal_step_by_step(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HYPERRUN_COMPILE_PHASES")
    torch.manual_seed(0)
    layer: Any = hyper_lstm(norm=True, units=20, hyper_size=10, dropout=0.4, recurrent_dropout=0.3).to(dtype)
    randomize(layer)
    x = torch.randn(7, len(LENGTHS), 3, dtype=dtype, requires_grad=True)
    state = random_state(layer, x)
    both = []
    for layer.fast in (False, True):
        torch.manual_seed(1)
        out, last = layer(x, state, LENGTHS)
        both.append(values_and_gradients(layer, [out, *last], x, state))
    near = {"rtol": 1e-4, "atol": 3e-5} if dtype == torch.float else {}
    torch.testing.assert_close(both[1], both[0], **near)


@pytest.mark.parametrize("z_from", ["new", "previous"])
def test_a_sum_of_last_states_alone_reaches_all_weights(z_from: str):
    torch.manual_seed(0)
    layer: Any = hyper_lstm(norm=True, z_from=z_from).double()
    randomize(layer)
    x = torch.randn(7, len(LENGTHS), 3, dtype=torch.double)
    gradients = []
    for layer.fast in (False, True):
        _, last = layer(x, None, LENGTHS)
        total = sum(s.sum() for s in last)
        gradients.append(torch.autograd.grad(total, list(layer.parameters()), retain_graph=True))
        torch.testing.assert_close(torch.autograd.grad(total, list(layer.parameters())), gradients[-1])
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("name", ["hyperlstm fast", "hyperlstm", "lstm"])
def test_without_gradients_last_states_are_the_same(name: str):
    layer = layer_of(name)
    x = torch.randn(90, len(LENGTHS), 3, dtype=torch.double)
    lengths = LENGTHS * 12
    out, last = layer(x, None, lengths)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, None, lengths), (out, last))


@pytest.mark.parametrize("name", LAYERS)
def test_lengths_that_are_all_alike_change_nothing(name: str, masks: dict[str, Any]):
    layer = layer_of(name)
    x = torch.randn(7, len(LENGTHS), 3, dtype=torch.double)
    state = random_state(layer, x)
    results = []
    for lengths in (None, torch.full_like(LENGTHS, 7)):
        out, last = layer(x, state, lengths)
        results.append(torch.autograd.grad(out.sum() + last[1 if len(last) > 1 else 0].sum(), [*state]))
        torch.testing.assert_close(layer(x, state)[0], out)
    torch.testing.assert_close(results[1], results[0])


def test_under_bf16_autocast_a_padded_batch_stays_close_to_float32():
    torch.manual_seed(0)
    layer = hyper_lstm(True, units=32, hyper_size=16, fast="auto")
    x, lengths = torch.randn(20, 4, 3), torch.tensor([20, 3, 11, 0])
    results = []
    for bf16 in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out, last = layer(x, None, lengths)
        assert out.dtype == (torch.bfloat16 if bf16 else torch.float32)
        assert all(s.dtype == torch.float32 for s in last)
        ((out.float() ** 2).sum() + last[1].sum()).backward()
        assert out[3:, 1].eq(0).all() and last[0][3].eq(0).all()
        torch.testing.assert_close(last[0][1], out[2, 1].float())
        results.append((out.float().detach(), last[1].detach(), layer.w_h.grad, layer.w_x.grad, layer.bias.grad))
    for exact, rough in zip(*results, strict=True):
        assert (rough - exact).norm() < 0.05 * exact.norm()


def test_blocks_serve_padded_and_full_batches_in_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "CHUNK_BYTES", 3 * 12 * 4 * 6 * 8)  # three steps at a time
    layer = layer_of("hyperlstm fast, previous")
    x = torch.randn(7, len(LENGTHS), 3, dtype=torch.double)
    results = []
    for layer.fast in (False, True):
        found = []
        for lengths in (None, LENGTHS, None, LENGTHS.flip(0)):
            layer.zero_grad()
            out, last = layer(x, None, lengths)
            (out.sum() + last[3].sum()).backward()
            found.append([p.grad.clone() for p in layer.parameters()])
        results.append(found)
    torch.testing.assert_close(results[1], results[0])


def test_rows_of_ends_are_aligned():
    ends = ends_by_step(torch.tensor([2, 0, 1]), 2)
    assert ends.shape == (3, 16) and ends.stride() == (16, 1)
    assert torch.equal(ends[:, :3], torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).bool()) and not ends[:, 3:].any()


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 8], r"0 to 7.*\[1, 8\]"),
        ([-1, 2], "0 to 7"),
        ([1, 2, 3], r"\[2\], not torch.int64 \[3\]"),
        ([1.0, 2.0], "whole numbers"),
        ([True, False], "whole numbers"),
    ],
)
@pytest.mark.parametrize("name", ["rnn", "lstm", "hyperrnn", "hyperlstm fast"])
def test_lengths_that_cannot_be_are_refused(name: str, lengths: list[Any], message: str):
    with pytest.raises(ValueError, match=message):
        layer_of(name)(torch.randn(7, 2, 3, dtype=torch.double), None, torch.tensor(lengths))
