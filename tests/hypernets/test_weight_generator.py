"""Generators of conditional hypernets: the scale that generated weights, and activations under them, start with."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperrun.hypernets.conditional import build_weight_generator, split_weights
from hyperrun.hypernets.scale import hyperfan_stds, mean_square_after
from hyperrun.hypernets.weight_generator import (
    ParameterGenerator,
    WeightGenerator,
    encode_unit_interval,
)
from hyperrun.targets.mlp import ACTIVATIONS


def activation_scales(generator: nn.Module, sizes, activation: str, conditioning: Tensor) -> list[float]:
    """Root mean square of each layer's inputs, for inputs of 1 to the first."""
    x = torch.randn(len(conditioning), sizes[0][0])
    scales = []
    with torch.no_grad():
        for weight, bias in split_weights(generator(conditioning), sizes):
            scales.append(x.square().mean().sqrt().item())
            x = ACTIVATIONS[activation](torch.baddbmm(bias.unsqueeze(2), weight, x.unsqueeze(2)).squeeze(2))
    return scales


def unit_conditioning(batch: int, size: int) -> Tensor:
    conditioning = torch.randn(batch, size)
    return conditioning / conditioning.square().mean(1, keepdim=True).sqrt()


DEEP = [(32, 32)] * 10


def deep_scales(initialize=lambda layer: None, conditioning_variance: float = 1.0, **options) -> list[float]:
    """Scales in a deep target, as geometric means over draws: one generator of finite width is off by some percent."""
    logs = []
    for seed in range(5):
        torch.manual_seed(seed)
        generator = build_weight_generator(32, DEEP, conditioning_variance=conditioning_variance, **options)
        generator.mlp.layers.apply(initialize)
        conditioning = unit_conditioning(32, 32) * math.sqrt(conditioning_variance)
        logs.append(torch.tensor(activation_scales(generator, DEEP, "relu", conditioning)).log())
    return torch.stack(logs).mean(0).exp().tolist()


@pytest.mark.parametrize("init", ["hyperfan", "hyperfan_out"])
@pytest.mark.parametrize(("activation", "variance"), [("relu", 1.0), ("relu", 0.01), ("leaky_relu", 4.0)])
def test_activations_keep_their_variance_through_a_deep_target(init, activation, variance):
    scales = deep_scales(init=init, activation=activation, conditioning_variance=variance)
    assert 0.6 < min(scales) and max(scales) < 1.6, scales


def test_plain_initializations_do_not_keep_it():
    def default(layer: nn.Module) -> None:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()

    def kaiming(layer: nn.Module) -> None:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    assert deep_scales(default)[-1] < 0.2
    assert deep_scales(kaiming)[-1] > 1000


def test_tanh_targets_stay_between_the_extremes():
    torch.manual_seed(0)
    generator = build_weight_generator(8, DEEP, [64, 64], "tanh")
    scales = activation_scales(generator, DEEP, "tanh", unit_conditioning(32, 8))
    assert 0.4 < min(scales[1:]) and max(scales[1:]) < 0.95, scales


def test_variances_are_those_of_the_formulas():
    """Of the generator's last layer, against the numbers of hypernet width 512, fan 30 -> 60 and Var(e) = 0.25."""
    torch.manual_seed(0)
    for init, weight_variance, bias_variance in [
        ("hyperfan", 2 / (2 * 30 * 512 * 0.25), 2 / (2 * 512 * 0.25)),
        ("hyperfan_out", 2 / (60 * 512 * 0.25), 2 * (1 - 30 / 60) / (512 * 0.25)),
    ]:
        last = build_weight_generator(4, [(30, 60)], [64, 512], init=init, conditioning_variance=0.25).mlp.layers[-1]
        weight, bias = last.weight.detach().split([1800, 60])
        assert weight.var().item() == pytest.approx(weight_variance, rel=0.02)
        assert bias.var().item() == pytest.approx(bias_variance, rel=0.05)
        assert not last.bias.any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_generated_weights_have_their_variance_whatever_the_generators_activation(activation):
    torch.manual_seed(0)
    shapes = {"weight": torch.Size([40, 50])}
    generator = WeightGenerator(shapes, 256, [512, 512], activation, 4.0, stds=hyperfan_stds(shapes, "hyperfan"))
    weights = generator(2 * unit_conditioning(64, 256))
    assert weights.var().item() == pytest.approx(2 / 50, rel=0.15)


@pytest.mark.parametrize("magnitude", [0.0, 0.01, 1.0])
def test_encoded_conditioning_makes_weights_of_one_scale_whatever_its_magnitude(magnitude):
    torch.manual_seed(0)
    reference = {"weight": torch.zeros(40, 50)}
    hypernet = ParameterGenerator(reference, 64, [512, 512], conditioning_variance=100.0, encode=True)
    weight = hypernet(magnitude * torch.rand(64, 64))["weight"]
    assert weight.var().item() == pytest.approx(2 / 50, rel=0.15)


def test_which_tensors_have_a_fan():
    shapes = {
        "conv.weight": torch.Size([8, 4, 3, 3]),
        "norm.weight": torch.Size([8]),
        "norm.bias": torch.Size([8]),
        "fc.weight": torch.Size([10, 20]),
        "fc.bias": torch.Size([10]),
        "attention.in_proj_weight": torch.Size([6, 2]),
        "attention.in_proj_bias": torch.Size([6]),
        "free.bias": torch.Size([5]),
    }

    def variances(init: str) -> dict[str, Any]:
        return {name: pytest.approx(std**2 / 2) for name, std in hyperfan_stds(shapes, init).items()}

    assert variances("hyperfan") == {
        "conv.weight": 1 / 36,  # without a bias
        "fc.weight": 1 / 40,
        "fc.bias": 1 / 2,
        "attention.in_proj_weight": 1 / 4,
        "attention.in_proj_bias": 1 / 2,
    }
    assert variances("hyperfan_out") == {
        "conv.weight": 1 / 72,
        "fc.weight": 1 / 10,
        "fc.bias": 0.0,  # fan_in > fan_out
        "attention.in_proj_weight": 1 / 6,
        "attention.in_proj_bias": 1 - 2 / 6,
    }


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mean_squares_are_those_of_samples(activation):
    samples = ACTIVATIONS[activation](torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)) * 1.5)
    assert mean_square_after(activation, 2.25) == pytest.approx(samples.square().mean().item(), rel=0.01)


def test_the_encoding_has_one_magnitude_and_keeps_the_order():
    g = torch.tensor([[0.0, 0.5, 1.0], [0.3, 0.1, 0.9]])
    encoded = encode_unit_interval(g)
    torch.testing.assert_close(encoded.norm(dim=1), torch.full((2,), math.sqrt(3)))
    torch.testing.assert_close(encoded[0], torch.tensor([1, 0.5**0.5, 0, 0, 0.5**0.5, 1]))


def reference_values() -> dict[str, Tensor]:
    torch.manual_seed(0)
    target = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 3))
    return {name: p.detach() for name, p in target.named_parameters()}


def test_norm_scales_start_at_their_own_values_and_weights_at_hyperfans_variance():
    own = reference_values()
    weights = ParameterGenerator(own, 64)(unit_conditioning(64, 64))
    for name in ("1.weight", "1.bias"):
        torch.testing.assert_close(weights[name], own[name].expand(64, 4), atol=0.06, rtol=0)
    assert weights["0.weight"].var().item() == pytest.approx(2 / (2 * 18), rel=0.35)
    assert weights["0.bias"].var() > 0.1


def test_the_residual_form_starts_close_to_the_targets_own_initialization():
    own = reference_values()
    weights = ParameterGenerator(own, 64, residual=True)(unit_conditioning(64, 64))
    for name in ("1.weight", "1.bias"):
        torch.testing.assert_close(weights[name], own[name].expand(64, 4), atol=0.006, rtol=0)
    spread = (weights["0.weight"] - own["0.weight"]).square().mean().item()
    assert spread == pytest.approx(0.01 * 2 / (2 * 18), rel=0.35)


def test_theta_0_is_learned_and_reached_by_the_state_dict():
    own = reference_values()
    hypernet = ParameterGenerator(own, 64, residual=True)
    name, theta_0 = list(hypernet.named_parameters())[-1]
    assert torch.equal(theta_0, torch.cat([value.flatten() for value in own.values()]))
    assert theta_0.requires_grad and name in hypernet.state_dict()


def test_generators_are_built_without_memory_for_counting():
    with torch.device("meta"):
        hypernet = ParameterGenerator({"weight": torch.zeros(1000, 1000)}, 8, [16], residual=True)
    assert sum(p.numel() for p in hypernet.parameters()) == 8 * 16 + 16 + 17 * 10**6
