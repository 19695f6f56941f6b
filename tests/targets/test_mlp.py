"""The MLP target."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hyperrun.errors import UserError
from hyperrun.inputs import Images
from hyperrun.targets.mlp import ACTIVATIONS, MLP, MLPTarget, build_mlp


def test_it_is_linear_layers_with_activations_between():
    torch.manual_seed(0)
    mlp = build_mlp(MLPTarget("mlp", [7, 5], "tanh"), Images(3, 2, 4, train=0))
    x = torch.randn(6, 3, 2, 2)
    first, second, third = (layer for layer in mlp.layers if isinstance(layer, nn.Linear))
    torch.testing.assert_close(mlp(x), third(second(first(x.reshape(6, 12)).tanh()).tanh()))
    assert sum(p.numel() for p in mlp.parameters()) == 12 * 7 + 7 + 7 * 5 + 5 + 5 * 4 + 4


def test_without_hidden_layers_it_is_one_linear_layer():
    mlp = build_mlp(MLPTarget("mlp", [], "relu"), Images(1, 8, 10, train=0))
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(mlp(x), F.linear(x.flatten(1), mlp.layers[0].weight, mlp.layers[0].bias))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_the_one_torch_names_so(activation):
    module = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU}
    x = torch.randn(100)
    torch.testing.assert_close(ACTIVATIONS[activation](x), module.get(activation, nn.Tanh)()(x))
    assert MLPTarget("mlp", [8], activation).activation == activation, "the config allows it"


def test_it_learns():
    torch.manual_seed(0)
    mlp = MLP([2, 16, 2])
    x = torch.randn(64, 2)
    y = (x[:, 0] * x[:, 1] > 0).long()  # no linear layer separates these
    optimizer = torch.optim.Adam(mlp.parameters(), lr=0.02)
    for _ in range(200):
        loss = F.cross_entropy(mlp(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (mlp(x).argmax(1) == y).float().mean() > 0.95


def test_mistakes_are_told():
    with pytest.raises(UserError, match="unknown activation 'rellu'; did you mean 'relu'"):
        MLP([64, 8, 10], "rellu")
    with pytest.raises(UserError, match="at least one unit"):
        MLP([64, 8, 0, 10])
    with pytest.raises(UserError, match="unknown target.activation 'rellu'; did you mean 'relu'"):
        MLPTarget("mlp", [8], "rellu")
    with pytest.raises(ValueError, match="hidden must be positive numbers"):
        MLPTarget("mlp", [8, 0], "relu")
