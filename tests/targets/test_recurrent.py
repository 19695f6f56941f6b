"""Recurrent targets: equality with a literal reference and with torch, dropout, state, tying."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hyperrun.inputs import Symbols
from hyperrun.targets import build_target
from hyperrun.targets.recurrent import LSTMLayer, RecurrentLM, RecurrentTarget, RNNLayer, draw_kept
from tests import reference_cells

LAYERS = {
    "rnn": lambda: RNNLayer(3, 4),
    "lstm": lambda: LSTMLayer(3, 4),
    "lnlstm": lambda: LSTMLayer(3, 4, norm=True),
    "lstm dropout": lambda: LSTMLayer(3, 4, dropout=0.4),
    "lnlstm dropout": lambda: LSTMLayer(3, 4, norm=True, dropout=0.4),
}


def lm(vocabulary: int = 7, **keys: Any) -> RecurrentLM:
    values: dict[str, Any] = {
        "kind": "recurrent",
        "cell": "lstm",
        "hidden_size": 6,
        "layers": 1,
        "embedding": None,
        "tied": False,
        "dropout_in": 0.0,
        "dropout_out": 0.0,
        "recurrent_dropout": 0.0,
        "forget_bias": 1.0,
    }
    model = build_target(RecurrentTarget(**{**values, **keys}), Symbols(vocabulary))
    assert isinstance(model, RecurrentLM)
    return model


def randomize(module: nn.Module) -> None:
    """Move every parameter away from its special initial value."""
    for p in module.parameters():
        p.data += 0.3 * torch.randn_like(p)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_the_reference_in_value_and_gradient(name):
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    randomize(layer)
    x = torch.randn(5, 2, 3, dtype=torch.double, requires_grad=True)
    state = tuple(torch.randn(2, 4, dtype=torch.double, requires_grad=True) for _ in layer.zero_state(x))
    torch.manual_seed(1)
    out, last = layer(x, state)
    torch.manual_seed(1)
    kept = draw_kept(x, 4, getattr(layer, "dropout", 0.0))
    expected, expected_last = reference_cells.run(layer, x, state, (kept, None))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(list(last), expected_last)
    inputs = [x, *state, *layer.parameters()]
    directions = [torch.randn_like(v) for v in (out, *last)]
    ours = torch.autograd.grad([out, *last], inputs, directions)
    theirs = torch.autograd.grad([expected, *expected_last], inputs, directions)
    torch.testing.assert_close(ours, theirs)


def test_lstm_equals_torchs_with_the_forget_bias_folded_in():
    torch.manual_seed(0)
    ours, theirs = LSTMLayer(3, 4, forget_bias=1.5).double(), nn.LSTM(3, 4).double()
    randomize(ours)
    order = [0, 2, 1, 3]  # torch has i, f, g, o
    with torch.no_grad():
        for mine, name in ((ours.w_x, "weight_ih_l0"), (ours.w_h, "weight_hh_l0"), (ours.bias, "bias_hh_l0")):
            assert mine is not None
            blocks = mine.chunk(4, -1)
            weight = torch.cat([blocks[n] for n in order], -1)
            theirs.get_parameter(name).copy_(weight.T if weight.ndim == 2 else weight)
        theirs.bias_ih_l0.zero_()
        theirs.bias_ih_l0[4:8] = 1.5
    x = torch.randn(6, 2, 3, dtype=torch.double)
    state = torch.randn(2, 4, dtype=torch.double), torch.randn(2, 4, dtype=torch.double)
    out, last = ours(x, state)
    expected, expected_last = theirs(x, (state[0][None], state[1][None]))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(last, (expected_last[0][0], expected_last[1][0]))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "lnlstm"])
def test_state_carried_over_chunks_equals_one_long_sequence(cell):
    torch.manual_seed(0)
    model = lm(cell=cell, layers=2).double()
    tokens = torch.randint(7, (3, 11))
    whole, last = model(tokens)
    state, parts = None, []
    for chunk in tokens.split(4, 1):
        logits, state = model(chunk, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(state, last)


def test_logits_come_from_tokens_batch_first():
    model = lm(cell="rnn")
    tokens = torch.randint(7, (3, 5))
    logits, state = model(tokens)
    assert logits.shape == (3, 5, 7) and state[0][0].shape == (3, 6)
    hidden, _ = model.layers[0](F.one_hot(tokens.T, 7).float())
    torch.testing.assert_close(logits[1, 2], model.output(hidden[2, 1]))


def test_weights_start_orthogonal_gate_by_gate_and_norms_neutral():
    layer = LSTMLayer(3, 5, norm=True)
    for block in layer.w_h.chunk(4, 1):
        torch.testing.assert_close(block @ block.T, torch.eye(5))
    for block in layer.w_x.chunk(4, 1):
        torch.testing.assert_close(block @ block.T, torch.eye(3))
    assert layer.bias is None and layer.norm is not None
    assert layer.norm.gate_gain.eq(1).all() and layer.norm.cell_shift.eq(0).all()


def test_recurrent_dropout_keeps_the_mean_and_changes_its_mask_at_every_step():
    torch.manual_seed(0)
    kept = draw_kept(torch.empty(50, 20, 1), 100, 0.1)
    assert kept is not None
    assert abs(kept.float().mean().item() - 0.9) < 0.005
    assert abs((kept[0] & kept[1]).float().mean().item() - 0.81) < 0.03  # independent from step to step
    layer = LSTMLayer(3, 400, dropout=0.5).double()
    x = torch.randn(1, 50, 3, dtype=torch.double)
    dropped = layer(x)[1][1]
    exact = layer.eval()(x)[1][1]
    ratio = (dropped / exact).flatten()  # after one step from zero, c = sigmoid(i) * candidate
    assert torch.all(torch.isclose(ratio, ratio.new_zeros(())) | torch.isclose(ratio, ratio.new_tensor(2.0)))
    assert abs(ratio.mean().item() - 1) < 0.03
    torch.testing.assert_close(layer(x)[0], layer(x)[0])


def test_tied_output_is_the_embedding():
    model = lm(embedding=6, tied=True)
    assert model.embedding is not None and model.output.weight is model.embedding.weight
    assert sum(p.numel() for p in model.parameters()) == 7 * 6 + 4 * 6 * (6 + 6 + 1) + 7
    logits, _ = model(torch.randint(7, (2, 3)))
    assert logits.shape == (2, 3, 7)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tied": True}, "tied needs embedding"),
        ({"cell": "rnn", "recurrent_dropout": 0.1}, "recurrent_dropout acts"),
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
        ({"dropout_in": 1.0}, "dropout_in must lie"),
    ],
)
def test_impossible_targets_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        lm(**keys)
