"""The fast path of HyperLSTMs: equal to the step-by-step path in value and gradient, whatever is asked of it."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperrun.hypernets.hyper_layers import HyperLSTMLayer
from hyperrun.hypernets.hyperlstm_fast import blocks, compiled_phases
from hyperrun.hypernets.hyperlstm_fast.sequence import small_products
from tests.hypernets.test_dynamic import hyper_lstm, model_of, random_state, randomize

eager_phases = pytest.fixture(lambda monkeypatch: monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0"))
"""Phases operator by operator: the loop and its derivative are the same, and nothing is compiled."""


def layer_of(dtype: torch.dtype = torch.double, **keys: Any) -> HyperLSTMLayer:
    torch.manual_seed(0)
    layer = hyper_lstm(**{"units": 12, "hyper_size": 6, **keys}).to(dtype)
    randomize(layer)
    return layer


def both_ways(layer: HyperLSTMLayer, x: Tensor, state: tuple[Tensor, ...]) -> list[dict[str, Tensor]]:
    """Return the outputs, the last state and all gradients, step by step and fast, with the same dropout masks."""
    results = []
    for layer.fast in (False, True):
        torch.manual_seed(1)
        out, last = layer(x, state)
        torch.manual_seed(2)
        directions = [torch.randn_like(v) for v in (out, *last)]
        inputs = {**dict(layer.named_parameters()), "x": x, **{f"state {n}": s for n, s in enumerate(state)}}
        gradients = torch.autograd.grad([out, *last], list(inputs.values()), directions)
        values = {"out": out, **{f"last {n}": s for n, s in enumerate(last)}}
        results.append({**values, **{f"d {n}": g for n, g in zip(inputs, gradients, strict=True)}})
    return results


def check(layer: HyperLSTMLayer, steps: int = 7, **tolerance: float) -> None:
    x = torch.randn(steps, 4, len(layer.w_x), dtype=layer.w_x.dtype, requires_grad=True)
    slow, fast = both_ways(layer, x, random_state(layer, x))
    for name, value in slow.items():
        torch.testing.assert_close(fast[name], value, msg=lambda m, name=name: f"{name}: {m}", **tolerance)


@pytest.mark.parametrize("z_from", ["new", "previous"])
@pytest.mark.parametrize("z_dim", [1, 3, 9])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("dropout", "hyper_dropout"), [(0.0, 0.0), (0.4, 0.0), (0.4, 0.3)])
@pytest.mark.usefixtures("eager_phases")
def test_fast_equals_step_by_step(norm, z_dim, z_from, dropout, hyper_dropout):
    check(layer_of(norm=norm, z_dim=z_dim, z_from=z_from, dropout=dropout, recurrent_dropout=hyper_dropout))


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.usefixtures("eager_phases")
def test_fast_equals_step_by_step_for_any_length_and_for_chunks_of_any_size(monkeypatch, steps):
    monkeypatch.setattr(blocks, "CHUNK_BYTES", 3 * 12 * 4 * 12 * 8)  # three steps at a time
    check(layer_of(norm=True), steps)
    check(layer_of(z_from="previous"), steps)


# Any two settings meet in each combination of theirs. Each row compiles anew, for up to a minute.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "z_dim", "z_from", "dropout"),
    [
        (False, 3, "new", 0.0),
        (False, 9, "previous", 0.4),
        (True, 3, "previous", 0.4),
        (True, 9, "new", 0.4),
        (True, 9, "previous", 0.0),
    ],
)
def test_compiled_phases_equal_step_by_step(norm, z_dim, z_from, dropout):
    keys = {"norm": norm, "z_dim": z_dim, "z_from": z_from, "dropout": dropout, "recurrent_dropout": dropout}
    check(layer_of(units=40, hyper_size=20, **keys))
    check(layer_of(torch.float, units=40, hyper_size=20, **keys), rtol=1e-4, atol=2e-5)
    assert compiled_phases.why_not_compiled() is None


@pytest.mark.slow
@pytest.mark.usefixtures("eager_phases")
def test_gradients_agree_with_finite_differences():
    for norm in (False, True):
        layer = layer_of(norm=norm, units=3, hyper_size=2)
        layer.fast = True
        x = torch.randn(3, 2, 3, dtype=torch.double, requires_grad=True)
        names, values = zip(*layer.named_parameters(), strict=True)

        def run(x: Tensor, *parameters: Tensor, layer=layer, names=names) -> Any:
            out, last = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))
            return out, *last

        assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize("preset", ["hyperlstm", "lnhyperlstm"])
@pytest.mark.usefixtures("eager_phases")
def test_two_layers_with_all_dropouts_train_alike(preset):
    tokens = torch.randint(7, (4, 9))
    gradients = []
    for fast in ("never", "auto"):
        torch.manual_seed(0)
        keys = ["target.layers=2", "target.hidden_size=12", "hypernet.recurrent_dropout=0.1", f"hypernet.fast={fast}"]
        model = model_of(f"model={preset}", *keys).double()
        logits, state = model(tokens)
        logits, _ = model(tokens, state)
        logits.square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.usefixtures("eager_phases")
def test_without_gradients_it_equals_and_keeps_nothing():
    for z_from in ("new", "previous"):
        layer = layer_of(norm=True, z_from=z_from).eval()
        x = torch.randn(65, 8, 3, dtype=torch.double)
        with torch.no_grad():
            layer.fast = False
            expected = layer(x)
            layer.fast = True
            torch.testing.assert_close(layer(x), expected)
        assert layer.pool.free is None


@pytest.mark.usefixtures("eager_phases")
def test_bf16_autocast_stays_close_to_float32():
    for norm in (False, True):
        layer = hyper_lstm(norm, units=32, hyper_size=16)
        x = torch.randn(20, 4, 3)
        layer.fast = True
        grads = []
        for bf16 in (False, True):
            layer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out, state = layer(x)
            assert out.dtype == (torch.bfloat16 if bf16 else torch.float32)
            assert all(s.dtype == torch.float32 for s in state)
            (out.float() ** 2).sum().backward()
            grads.append((out.float().detach(), layer.w_h.grad, layer.w_x.grad, layer.bias.grad))
        for exact, rough in zip(*grads, strict=True):
            assert (rough - exact).norm() < 0.03 * exact.norm()


# ---------------------------------------------------------------- the blocks that are kept


@pytest.mark.usefixtures("eager_phases")
def test_two_forward_passes_may_live_at_once():
    layer = layer_of()
    x, y = torch.randn(2, 5, 4, 3, dtype=torch.double)

    def gradients(fast: bool) -> list[Tensor]:
        layer.fast = fast
        layer(x)[0].sum().backward()  # leaves a workspace behind
        layer.zero_grad()
        first, second = layer(x)[0], layer(y)[0]
        second.square().sum().backward()
        first.sum().backward()
        return [p.grad.clone() for p in layer.parameters() if p.grad is not None]

    torch.testing.assert_close(gradients(True), gradients(False))


@pytest.mark.usefixtures("eager_phases")
def test_outputs_are_not_overwritten_by_the_next_step():
    layer = layer_of()
    layer.fast = True
    x = torch.randn(5, 4, 3, dtype=torch.double)
    out, state = layer(x)
    before = [v.detach().clone() for v in (out, *state)]
    out.sum().backward()
    layer(2 * x)[0].sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, (out, *state), strict=True))


@pytest.mark.usefixtures("eager_phases")
def test_blocks_are_used_again_and_lengths_share_the_memory_of_the_longest():
    layer = layer_of()
    layer.fast = True

    def workspace(length: int, batch: int = 4) -> blocks.Workspace:
        layer(torch.randn(length, batch, 3, dtype=torch.double))[0].sum().backward()
        assert layer.pool.free is not None
        return layer.pool.free.workspaces[next(reversed(layer.pool.free.workspaces))]

    longest = workspace(9)
    places = [row.data_ptr() for row in longest.memory.rows]
    made = {length: workspace(length) for length in (9, 5, 7)}
    assert made[9] is longest
    assert [row.data_ptr() for row in longest.memory.rows] == places
    for length in (5, 9, 7):  # each is kept
        assert made[length].memory is longest.memory
        workspace(length)
        assert made[length] in longest.memory.workspaces.values() and len(longest.memory.workspaces) == 3
    assert workspace(9, batch=3).memory is longest.memory, "smaller blocks lie in the same memory"
    workspace(12)
    assert len(longest.memory.workspaces) == 1, "what lay in the memory that was too small is gone with it"


@pytest.mark.usefixtures("eager_phases")
def test_batches_of_changing_lengths_have_the_gradients_of_each_alone():
    lengths = (6, 9, 4, 9, 6, 11, 4)
    batches = [torch.randn(length, 4, 3, dtype=torch.double) for length in lengths]

    def gradients(layer: Any, x: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(layer(x)[0].square().sum(), list(layer.parameters())))

    layer = layer_of()
    layer.fast = True
    one_after_the_other = [gradients(layer, x) for x in batches]
    alone = [gradients(copy.deepcopy(layer), x) for x in batches]  # with a pool of its own
    for found, wanted in zip(one_after_the_other, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.usefixtures("eager_phases")
def test_a_second_backward_gives_the_same_gradients():
    layer = layer_of(norm=True, dropout=0.3)
    layer.fast = True
    out = layer(torch.randn(5, 4, 3, dtype=torch.double))[0].sum()
    first = torch.autograd.grad(out, list(layer.parameters()), retain_graph=True)
    layer(torch.randn(5, 4, 3, dtype=torch.double))[0].sum().backward()  # takes the workspace
    torch.testing.assert_close(torch.autograd.grad(out, list(layer.parameters())), first)


@pytest.mark.usefixtures("eager_phases")
def test_layers_with_kept_blocks_are_copied_and_saved_without_them():
    layer = layer_of()
    layer.fast = True
    layer(torch.randn(5, 4, 3, dtype=torch.double))[0].sum().backward()
    assert copy.deepcopy(layer).pool.free is None
    assert pickle.loads(pickle.dumps(layer)).pool.free is None
    assert not any("pool" in name for name in layer.state_dict())


@pytest.mark.usefixtures("eager_phases")
def test_onednn_is_left_as_it_was_found():
    layer = layer_of()
    layer.fast = True
    try:
        for enabled in (False, True):
            torch._C._set_mkldnn_enabled(enabled)
            layer(torch.randn(5, 4, 3, dtype=torch.double))[0].sum().backward()
            assert torch._C._get_mkldnn_enabled() is enabled
    finally:
        torch._C._set_mkldnn_enabled(True)
    with pytest.raises(ZeroDivisionError), small_products():
        raise ZeroDivisionError
    assert torch._C._get_mkldnn_enabled()


# ---------------------------------------------------------------- when it cannot


def test_where_nothing_can_be_compiled_it_says_why_and_stays_right(monkeypatch, caplog):
    def broken(*_: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(compiled_phases, "_by_inductor", broken)
    monkeypatch.setattr(compiled_phases, "_compiled", {})
    monkeypatch.setattr(compiled_phases, "_failed", [])
    monkeypatch.setattr(compiled_phases, "_said", set())
    with caplog.at_level(logging.WARNING):
        check(layer_of(units=13))
    assert [r.getMessage() for r in caplog.records if not r.getMessage().startswith("compiling")] == [
        "recurrent steps run operator by operator, several times slower: RuntimeError: no C++ compiler"
    ]
    assert compiled_phases.why_not_compiled() == "RuntimeError: no C++ compiler"


def test_a_compiler_that_a_signal_ended_is_started_again(monkeypatch, caplog):
    calls = []

    def killed_once(function: Any, args: Any) -> Any:
        calls.append(function)
        if len(calls) == 1:
            raise RuntimeError("the compiler was killed by SIGTERM")
        return function

    monkeypatch.setattr(compiled_phases, "_by_inductor", killed_once)
    monkeypatch.setattr(compiled_phases, "_compiled", {})
    monkeypatch.setattr(compiled_phases, "_failed", [])
    with caplog.at_level(logging.WARNING):
        check(layer_of(units=13))
    assert calls[0] is calls[1] and compiled_phases.why_not_compiled() is None
    assert not any("operator by operator" in record.getMessage() for record in caplog.records)
