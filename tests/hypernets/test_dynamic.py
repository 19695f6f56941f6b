"""Dynamic hypernets: equality with a literal reference, initial values, counts, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.errors import UserError
from hyperrun.hypernets import DynamicConfig, DynamicModel, count_parameters, with_hypernet
from hyperrun.hypernets.hyper_layers import HyperLSTMLayer, HyperRNNLayer
from hyperrun.inputs import Symbols
from hyperrun.targets import build_target
from hyperrun.targets.cnn import CNN
from hyperrun.targets.recurrent import LSTMLayer, RNNLayer, draw_kept
from tests import reference_cells
from tests.composed import compose_config


def settings(**keys: Any) -> DynamicConfig:
    values: dict[str, Any] = {
        "kind": "dynamic",
        "hyper_size": 5,
        "z_dim": 2,
        "form": "scaled",
        "z_from": "new",
        "init": "symmetry_broken",
        "recurrent_dropout": 0.0,
        "forget_bias": 1.0,
        "fast": "never",
    }
    return DynamicConfig(**{**values, **keys})


def hyper_lstm(
    norm: bool = False, inputs: int = 3, units: int = 4, dropout: float = 0.0, **keys: Any
) -> HyperLSTMLayer:
    return HyperLSTMLayer(LSTMLayer(inputs, units, norm, dropout), settings(**keys))


def model_of(*overrides: str, vocabulary: int = 7) -> nn.Module:
    config = compose_config(["data=digits", *overrides])
    return with_hypernet(config.hypernet, build_target(config.target, Symbols(vocabulary)))


LAYERS = {
    "hyperrnn": lambda **k: HyperRNNLayer(RNNLayer(3, 4), settings(**k)),
    "hyperrnn full": lambda **k: HyperRNNLayer(RNNLayer(3, 4), settings(form="full", **k)),
    "hyperlstm": lambda **k: hyper_lstm(**k),
    "lnhyperlstm": lambda **k: hyper_lstm(norm=True, **k),
    "lnhyperlstm dropout": lambda **k: hyper_lstm(norm=True, dropout=0.4, recurrent_dropout=0.3, **k),
}


def randomize(module: nn.Module, by: float = 0.3) -> None:
    for p in module.parameters():
        p.data += by * torch.randn_like(p)


def random_state(layer: Any, x: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.randn_like(s, requires_grad=True) for s in layer.zero_state(x))


# ---------------------------------------------------------------- what they compute


@pytest.mark.parametrize("z_from", ["new", "previous"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_the_reference_in_value_and_gradient(name, z_from):
    torch.manual_seed(0)
    layer = LAYERS[name](z_from=z_from).double()
    randomize(layer)
    x = torch.randn(5, 2, 3, dtype=torch.double, requires_grad=True)
    state = random_state(layer, x)
    torch.manual_seed(1)
    out, last = layer(x, state)
    torch.manual_seed(1)
    masks = [draw_kept(x, 4, layer.dropout), draw_kept(x, 5, 0.3)] if "dropout" in name else (None, None)
    expected, expected_last = reference_cells.run(layer, x, state, masks)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(list(last), expected_last)
    inputs = [x, *state, *layer.parameters()]
    directions = [torch.randn_like(v) for v in (out, *last)]
    ours = torch.autograd.grad([out, *last], inputs, directions)
    theirs = torch.autograd.grad([expected, *expected_last], inputs, directions)
    torch.testing.assert_close(ours, theirs)
    assert all(g.abs().max() > 0 for g in ours)


@pytest.mark.parametrize("name", [n for n in LAYERS if "dropout" not in n])
def test_gradients_agree_with_finite_differences(name):
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    randomize(layer)
    x = torch.randn(3, 2, 3, dtype=torch.double, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        out, _ = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))
        return out

    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)


@pytest.mark.parametrize("norm", [False, True])
def test_with_the_output_projections_zeroed_a_hyper_lstm_is_an_lstm(norm):
    """z = 0 gives d = 0; so d_h = d_x = 1 comes from b_z = 1 and W_d = 1 / Nz, and d_b = 0 from W_zb = 0."""
    torch.manual_seed(0)
    plain = LSTMLayer(3, 4, norm).double()
    randomize(plain)
    bias = None if plain.bias is None else plain.bias.detach().clone()
    layer = HyperLSTMLayer(plain, settings()).double()
    with torch.no_grad():
        layer.hypernet.embed.w_z.zero_()
        layer.hypernet.w_d.fill_(1 / 2)
    x = torch.randn(6, 2, 3, dtype=torch.double)
    torch.testing.assert_close(layer(x)[0], plain(x)[0])
    assert bias is None or torch.equal(layer.bias, bias)


def test_state_carried_over_chunks_equals_one_long_sequence():
    torch.manual_seed(0)
    for preset in ("hyperrnn", "hyperlstm", "lnhyperlstm"):
        model = model_of(f"model={preset}", "target.hidden_size=6", "target.layers=2").double().eval()
        randomize(model, 0.1)
        tokens = torch.randint(7, (3, 11))
        whole, last = model(tokens)
        state, parts = None, []
        for chunk in tokens.split(4, 1):
            logits, state = model(chunk, state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        torch.testing.assert_close(state, last)


@pytest.mark.parametrize("preset", ["hyperrnn", "lnlstm", "hyperlstm", "lnhyperlstm"])
def test_bf16_autocast_stays_close_to_float32(preset):
    torch.manual_seed(0)
    model = model_of(
        f"model={preset}", "target.hidden_size=32", "hypernet.fast=never" if "hyper" in preset else "seed=0"
    )
    model.eval()
    tokens = torch.randint(7, (4, 12))
    exact, _ = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rough, state = model(tokens)
    assert (rough.float() - exact).abs().max() < 0.03 * exact.abs().max()
    assert all(s.dtype == torch.float32 for layer in state for s in layer)


# ---------------------------------------------------------------- initial values


@pytest.mark.parametrize("init", ["paper", "symmetry_broken"])
def test_every_scale_is_a_tenth_at_the_start(init):
    layer = hyper_lstm(init=init, z_dim=3)
    d = layer.hypernet.scales(torch.zeros(2, 5))
    torch.testing.assert_close(d[:2], torch.full((2, 2, 16), 0.1))
    torch.testing.assert_close(d[2], torch.zeros(2, 16))
    d = layer.hypernet.scales(torch.randn(2, 5))  # and whatever the hyper cell says, until it is trained
    torch.testing.assert_close(d[:2], torch.full((2, 2, 16), 0.1))


def test_initial_values_are_the_papers():
    layer = hyper_lstm(init="paper", z_dim=4, units=20, hyper_size=40)
    embed = layer.hypernet.embed
    assert embed.w_z[:, :32].eq(0).all() and embed.b_z.eq(1).all() and len(embed.b_z) == 8 * 4
    assert abs(embed.w_z[:, 32:].std().item() - 0.01) < 0.002
    assert layer.hypernet.w_d[:8].eq(0.1 / 4).all() and layer.hypernet.w_d[8:].eq(0).all()
    cell = layer.hypernet.cell
    for block in cell.w_x.chunk(4, 1):  # [h; x] -> 40 units
        torch.testing.assert_close(block @ block.T, torch.eye(23))
    assert layer.bias.eq(0).all() and cell.bias is not None and cell.bias.eq(0).all()


@pytest.mark.parametrize(("init", "rank"), [("paper", 1), ("symmetry_broken", 4)])
@pytest.mark.parametrize("norm", [False, True])
def test_the_papers_initial_values_keep_the_scaling_path_at_rank_one(init, rank, norm):
    """The map from the hyper cell's state to one gate's d_h, W_z W_d, after 60 steps of Adam (paper_facts 2.6)."""
    torch.manual_seed(0)
    layer = hyper_lstm(norm, units=8, hyper_size=6, z_dim=4, init=init).double()
    readout = nn.Linear(8, 1).double()
    optimizer = torch.optim.Adam([*layer.parameters(), *readout.parameters()], lr=0.01)
    x, y = torch.randn(8, 5, 3, dtype=torch.double), torch.randn(8, 5, 1, dtype=torch.double)
    before = layer.hypernet.w_d.detach().clone()
    for _ in range(60):
        optimizer.zero_grad()
        F.mse_loss(readout(layer(x)[0]), y).backward()
        optimizer.step()
    assert (layer.hypernet.w_d - before).abs().max() > 0.01
    for gate in range(8):  # four of d_h, four of d_x
        w_z = layer.hypernet.embed.w_z[:, gate * 4 : gate * 4 + 4].detach()
        w_d = layer.hypernet.w_d[gate].detach()
        singular = torch.linalg.svdvals(w_z @ w_d)
        assert int((singular > 1e-9 * singular[0]).sum()) == rank
        if init == "paper":
            assert torch.equal(w_z, w_z[:, :1].expand(-1, 4)) or (w_z - w_z[:, :1]).abs().max() < 1e-14
    w_zb, w_db = layer.hypernet.embed.w_z[:, 32:36], layer.hypernet.w_d[8]
    assert torch.linalg.matrix_rank(w_zb @ w_db) == 4  # the bias path has all of its rank either way


# ---------------------------------------------------------------- counts

PTB, ENWIK8 = 50, 205
COUNTS = {
    "ptb_lstm1000": ("lstm", PTB, 1000, None, None, 1, 4_254_050),
    "ptb_lstm1250": ("lstm", PTB, 1250, None, None, 1, 6_567_550),
    "ptb_lstm1000x2": ("lstm", PTB, 1000, None, None, 2, 12_258_050),
    "ptb_lnlstm1000": ("lnlstm", PTB, 1000, None, None, 1, 4_260_050),
    "ptb_hyperlstm1000": ("hyperlstm", PTB, 1000, 128, 4, 1, 4_911_874),
    "ptb_lnhyperlstm1000": ("lnhyperlstm", PTB, 1000, 128, 4, 1, 4_922_642),
    "ptb_lnhyperlstm1000_z16": ("lnhyperlstm", PTB, 1000, 128, 16, 1, 5_085_170),  # printed: 5.06 M
    "ptb_lnhyperlstm1000x2": ("lnhyperlstm", PTB, 1000, 128, 16, 2, 14_406_690),
    "enwik8_lstm1800": ("lstm", ENWIK8, 1800, None, None, 1, 14_812_405),
    "enwik8_lstm2000": ("lstm", ENWIK8, 2000, None, None, 1, 18_058_205),
    "enwik8_lnlstm1800": ("lnlstm", ENWIK8, 1800, None, None, 1, 14_823_205),
    "enwik8_hyperlstm1800": ("hyperlstm", ENWIK8, 1800, 256, 64, 1, 18_708_213),
    "enwik8_lnhyperlstm1800": ("lnhyperlstm", ENWIK8, 1800, 256, 64, 1, 18_727_749),  # printed: 18.78 M
    "enwik8_lnhyperlstm2048": ("lnhyperlstm", ENWIK8, 2048, 512, 64, 1, 26_539_725),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_of_the_papers_language_models(name):
    preset, vocabulary, units, hyper_size, z_dim, layers, expected = COUNTS[name]
    overrides = [f"model={preset}", f"target.hidden_size={units}", f"target.layers={layers}"]
    if hyper_size:
        overrides += [f"hypernet.hyper_size={hyper_size}", f"hypernet.z_dim={z_dim}"]
    with torch.device("meta"):
        model = model_of(*overrides, vocabulary=vocabulary)
    assert count_parameters(model).trainable == expected


def test_generated_is_what_changes_at_every_step_and_free_the_rest():
    model = model_of("model=hyperlstm", "target.hidden_size=6", "target.layers=2")
    counts = count_parameters(model)
    assert isinstance(model, DynamicModel)
    assert counts.generated == 4 * 6 * (7 + 6 + 1) + 4 * 6 * (6 + 6 + 1)
    assert counts.free == 6 * 7 + 7
    assert (
        counts.target == count_parameters(model_of("model=lstm", "target.hidden_size=6", "target.layers=2")).trainable
    )
    assert counts.trainable == sum(p.numel() for p in model.parameters()) > counts.target
    normed = count_parameters(model_of("model=lnhyperlstm", "target.hidden_size=6"))
    assert normed.target == count_parameters(model_of("model=lnlstm", "target.hidden_size=6")).trainable


def test_weights_of_the_hyper_part_decay_as_hypernet():
    from hyperrun.training.optim import decay_kind

    model = model_of("model=lnhyperlstm", "target.hidden_size=6")
    kinds = {n: decay_kind(model, n, p, model.get_submodule(n.rpartition(".")[0])) for n, p in model.named_parameters()}
    layer = "target.layers.0."
    assert kinds[layer + "w_h"] == kinds["target.output.weight"] == "weights"
    assert kinds[layer + "hypernet.w_d"] == kinds[layer + "hypernet.cell.w_h"] == "hypernet"
    assert kinds[layer + "hypernet.embed.b_z"] == kinds[layer + "bias"] == "biases"
    assert kinds[layer + "norm.gate_gain"] == kinds[layer + "hypernet.cell.norm.cell_shift"] == "norms"


# ---------------------------------------------------------------- what is refused


def test_what_dynamic_hypernets_cannot_do_is_said():
    with pytest.raises(UserError, match="needs target=recurrent"):
        with_hypernet(settings(), CNN(1, 10, 8))
    with pytest.raises(UserError, match="target.cell=rnn only"):
        model_of("model=hyperlstm", "hypernet.form=full")
    with pytest.raises(UserError, match="must be 0"):
        model_of("model=hyperrnn", "hypernet.recurrent_dropout=0.1")
    with pytest.raises(UserError, match="z_from"):
        settings(z_from="other")
