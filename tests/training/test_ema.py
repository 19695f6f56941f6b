"""The moving average of the parameters."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from hyperrun.training.ema import EMA


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def move(net: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_equals_a_naive_loop(decay):
    net = model().double()
    ema = EMA(net, decay)
    expected = [p.detach().clone() for p in net.parameters()]
    for t in range(1, 40):
        move(net, t)
        ema.update()
        d = min(decay, (1 + t) / (10 + t))
        expected = [d * shadow + (1 - d) * p.detach() for shadow, p in zip(expected, net.parameters(), strict=True)]
    torch.testing.assert_close(ema.shadow, expected, rtol=1e-12, atol=1e-12)


def test_applied_gives_the_average_and_then_the_models_own_bits():
    net = model()
    ema = EMA(net, 0.9)
    move(net, 1)
    ema.update()
    own = [p.detach().clone() for p in net.parameters()]
    identities = [id(p) for p in net.parameters()]
    with ema.applied():
        assert all(torch.equal(p, s) for p, s in zip(net.parameters(), ema.shadow, strict=True))
        assert not any(torch.equal(p, o) for p, o in zip(net.parameters(), own, strict=True))
    assert all(torch.equal(p, o) for p, o in zip(net.parameters(), own, strict=True))
    assert [id(p) for p in net.parameters()] == identities  # the optimizer holds these


def test_applied_puts_the_model_back_after_an_error():
    net = model()
    ema = EMA(net, 0.9)
    move(net, 1)
    own = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(ZeroDivisionError), ema.applied():
        raise ZeroDivisionError
    assert all(torch.equal(p, o) for p, o in zip(net.parameters(), own, strict=True))


def test_the_average_is_of_trainable_parameters_only():
    net = model()
    net[0].requires_grad_(False)
    ema = EMA(net, 0.9)
    assert len(ema.shadow) == 4
    frozen = net[0].weight.clone()
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    move(net[2], 1)
    ema.update()
    with ema.applied():
        assert torch.equal(net[0].weight, frozen)
        for name, value in net.named_buffers():
            assert torch.equal(value, buffers[name])


def test_the_average_is_apart_from_the_model():
    net = model()
    ema = EMA(net, 0.9)
    start = copy.deepcopy(ema.shadow)
    move(net, 1)
    assert all(torch.equal(a, b) for a, b in zip(ema.shadow, start, strict=True))


def test_a_resumed_average_goes_on_as_the_first_would_have():
    net = model()
    ema = EMA(net, 0.9)
    for t in range(3):
        move(net, t)
        ema.update()
    file = io.BytesIO()
    torch.save(ema.state_dict(), file)
    file.seek(0)

    twin = copy.deepcopy(net)
    resumed = EMA(twin, 0.9)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for t in range(3, 6):
        move(net, t), move(twin, t)
        ema.update(), resumed.update()
    assert resumed.updates == ema.updates == 6
    assert all(torch.equal(a, b) for a, b in zip(resumed.shadow, ema.shadow, strict=True))
