"""SIREN: the paper's formula and initialization, and the coordinates it takes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hyperrun.errors import UserError
from hyperrun.inputs import Images, Tasks
from hyperrun.targets import build_target, takes_coordinates
from hyperrun.targets.siren import Siren, pixel_centres
from tests.composed import compose_config


def made(out_channels: int = 3, hidden_size: int = 256, layers: int = 5, hidden: float = 30.0) -> Siren:
    torch.manual_seed(0)
    return Siren(out_channels, hidden_size, layers, 30.0, hidden)


def test_it_is_the_papers_formula():
    siren = made(hidden_size=7, layers=2, hidden=5.0)
    x = torch.rand(4, 9, 2) * 2 - 1
    first, second, last = (layer for layer in siren.layers if isinstance(layer, nn.Linear))
    h = torch.sin(30.0 * (x @ first.weight.T + first.bias))
    h = torch.sin(5.0 * (h @ second.weight.T + second.bias))
    torch.testing.assert_close(2 * siren(x) - 1, h @ last.weight.T + last.bias)
    assert sum(p.numel() for p in siren.parameters()) == 2 * 7 + 7 + 7 * 7 + 7 + 7 * 3 + 3


def test_every_layer_starts_as_the_one_before():
    """Section 3.2: near N(0, 1) inside each sine but the first, however deep; the sines' mean square near 1/2."""
    siren = made(layers=8, hidden_size=512)
    x, variance = torch.rand(2000, 2) * 2 - 1, math.inf
    for i, layer in enumerate(siren.layers[:-1]):
        assert isinstance(layer, nn.Linear)
        nn.init.zeros_(layer.bias)
        inside = 30.0 * layer(x)
        if i:
            variance = 1 - math.exp(-2 * variance)  # 2 E sin(n)^2 of n ~ N(0, variance): 1, 0.86, ... 0.80 in the end
            assert inside.square().mean().item() == pytest.approx(variance, abs=0.1), i
            within = inside.abs().lt(inside.square().mean().sqrt()).float().mean().item()
            assert within == pytest.approx(0.6827, abs=0.05), "as of a normal"
        x = inside.sin()
        assert x.square().mean().item() == pytest.approx(0.5, abs=0.15), i


def test_bounds_of_the_initial_weights():
    siren = made(hidden=5.0)
    for i, layer in enumerate(siren.layers):
        assert isinstance(layer, nn.Linear)
        n = layer.in_features
        bound = 1 / 2 if i == 0 else math.sqrt(6 / n) / 5
        assert 0.97 * bound < layer.weight.abs().max().item() <= bound
        assert layer.bias.abs().max().item() <= 1 / math.sqrt(n)


def test_pixels_are_squares_that_cover_the_image():
    wanted = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
    assert torch.equal(pixel_centres(2), wanted), "x to the right, y downwards, row by row"
    fine = pixel_centres(8).view(4, 2, 4, 2, 2).mean((1, 3)).view(-1, 2)
    torch.testing.assert_close(fine, pixel_centres(4))


def test_omega_0_follows_the_resolution_unless_it_is_given():
    config = compose_config(["target=siren"])
    sirens = [build_target(config.target, Images(1, size, 10, train=0)) for size in (8, 32)]
    assert [siren.omega_0 for siren in sirens] == pytest.approx([2 * math.pi, 8 * math.pi])
    assert [siren.hidden_omega_0 for siren in sirens] == [6, 6]
    config = compose_config(["target=siren", "target.omega_0=30", "target.hidden_omega_0=20"])
    siren = build_target(config.target, Images(1, 8, 10, train=0))
    assert (siren.omega_0, siren.hidden_omega_0) == (30, 20)


def test_it_fits_an_image():
    siren = made(out_channels=1, hidden_size=32, layers=2, hidden=10.0)
    wanted = torch.rand(64, 1)
    adam = torch.optim.Adam(siren.parameters(), lr=3e-3)
    for _ in range(300):
        adam.zero_grad()
        (siren(pixel_centres(8)) - wanted).square().mean().backward()
        adam.step()
    assert (siren(pixel_centres(8)) - wanted).square().mean().item() < 1e-3


def test_targets_that_are_no_images_and_images_that_are_no_classifiers():
    siren, cnn = (compose_config([f"target={name}"]).target for name in ("siren", "cnn"))
    assert takes_coordinates(siren) and not takes_coordinates(cnn)
    with pytest.raises(UserError, match="it has no classes"):
        build_target(siren, Tasks(Images(1, 8, 10, train=0), 2))
