"""Single steps with weights that are held: the same numbers as the readable steps, and when they are taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperrun.hypernets.hyper_layers import HyperLSTMLayer, weights_held
from hyperrun.hypernets.hyperlstm_fast.held_weights import HeldWeights
from tests.hypernets.test_dynamic import hyper_lstm, randomize

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "norm": {"norm": True},
    "previous": {"z_from": "previous"},
    "norm, previous, long z": {"norm": True, "z_from": "previous", "z_dim": 9},
}


@pytest.fixture(autouse=True)
def eager_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")


def layer_of(**keys: Any) -> HyperLSTMLayer:
    torch.manual_seed(0)
    layer = hyper_lstm(fast="auto", **keys).eval()
    randomize(layer)
    return layer


def steps(layer: HyperLSTMLayer, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return outputs and last state of x [T, B, I], read one step after the other as drawing does."""
    state, outputs = None, []
    for x_t in x:
        out, state = layer(x_t[None], state)
        outputs.append(out)
    assert state is not None
    return torch.cat(outputs), state


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[HeldWeights]:
    """Return a list that gets, for each step with held weights, these."""
    found: list[HeldWeights] = []
    real = HeldWeights.step
    monkeypatch.setattr(HeldWeights, "step", lambda self, *args: (found.append(self), real(self, *args))[1])
    return found


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_steps_are_those_of_the_readable_form(name: str, used: list[HeldWeights]) -> None:
    layer = layer_of(**KINDS[name]).double()
    x = torch.randn(7, 3, 3, dtype=torch.float64)
    wanted, wanted_state = steps(layer, x)
    assert used == []
    with weights_held(nn.Sequential(layer)):
        found, state = steps(layer, x)
    assert len(used) == 7 and len(set(map(id, used))) == 1, "put together once"
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, wanted_state, rtol=1e-12, atol=1e-12)
    assert layer.held is None and not layer.hold


@torch.no_grad()
def test_several_steps_and_other_numbers_of_rows(used: list[HeldWeights]) -> None:
    layer = layer_of()
    x, other = torch.randn(5, 2, 3), torch.randn(4, 6, 3)
    wanted = [layer(x), layer(other), layer(x)]
    with weights_held(layer):
        found = [layer(x), layer(other), layer(x)]
    assert [held.rows for held in used] == [2] * 5 + [6] * 4 + [2] * 5
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_gradients_and_dropout_have_the_readable_form(used: list[HeldWeights]) -> None:
    layer, x = layer_of(dropout=0.5), torch.randn(1, 2, 3)
    with weights_held(layer):
        out, _ = layer(x)
        out.sum().backward()
        with torch.no_grad():
            layer.train()(x)
    assert used == [] and layer.w_h.grad is not None
    with torch.no_grad(), weights_held(never := layer_of()):
        never.fast = False
        never(x)
    assert used == []


@torch.no_grad()
def test_weights_that_have_changed_since_are_read_again() -> None:
    layer, x = layer_of(), torch.randn(2, 2, 3)
    with weights_held(layer):
        before, _ = steps(layer, x)
    layer.w_h.mul_(-1)
    with weights_held(layer):
        after, _ = steps(layer, x)
    torch.testing.assert_close(after, steps(layer, x)[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(before, after)


@torch.no_grad()
def test_under_autocast_the_large_product_alone_is_in_bfloat16(used: list[HeldWeights]) -> None:
    layer, x = layer_of(), torch.randn(6, 2, 3)
    exact, _ = steps(layer, x)
    with torch.autocast("cpu", torch.bfloat16), weights_held(layer):
        found, state = steps(layer, x)
    assert {held.product for held in used} == {torch.bfloat16} and {part.dtype for part in state} == {torch.float32}
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.02)
    assert not torch.equal(found.float(), exact)
