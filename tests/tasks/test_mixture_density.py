"""The density of a stroke's next point: beside a transcription of Graves 2013 in float64, and at its extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hyperrun.tasks.mixture_density import (
    STRAIGHT_ATANH_RHO,
    STRAIGHT_LOG_SIGMA,
    STRAIGHT_MEAN,
    draw,
    eased,
    mixture,
    negative_log_density,
)

LARGEST = torch.finfo(torch.float32).max


def graves(outputs: np.ndarray, point: np.ndarray) -> float:
    """Return the loss of one point, eqs. 18 to 26 as they are printed, in float64. outputs: [6M + 1]."""
    e_hat = -outputs[0]  # ours has the other sign
    pi_hat, mu_x, mu_y, sigma_x_hat, sigma_y_hat, rho_hat = outputs[1:].reshape(6, -1)
    e = 1 / (1 + np.exp(e_hat))  # eq. 18
    pi = np.exp(pi_hat) / np.exp(pi_hat).sum()  # eq. 19
    sigma_x, sigma_y, rho = np.exp(sigma_x_hat), np.exp(sigma_y_hat), np.tanh(rho_hat)  # eqs. 21 and 22
    x, y, pen = point
    dx, dy = x - mu_x, y - mu_y
    z = (dx / sigma_x) ** 2 + (dy / sigma_y) ** 2 - 2 * rho * dx * dy / (sigma_x * sigma_y)  # eq. 25
    normal = np.exp(-z / (2 * (1 - rho**2))) / (2 * np.pi * sigma_x * sigma_y * np.sqrt(1 - rho**2))  # eq. 24
    return float(-np.log((pi * normal).sum()) - np.log(e if pen == 1 else 1 - e))  # eq. 26


def outputs_and_points(count: int, mixtures: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(count, 6 * mixtures + 1, generator=generator, dtype=torch.float64) * spread
    points = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    points[:, 2] = (points[:, 2] > 0).double()
    return outputs, points


@pytest.mark.parametrize("mixtures", [1, 3, 20])
@pytest.mark.parametrize("spread", [0.3, 0.8])
def test_it_is_the_loss_that_graves_prints(mixtures: int, spread: float) -> None:
    outputs, points = outputs_and_points(200, mixtures, spread)
    wanted = [graves(o, p) for o, p in zip(outputs.numpy(), points.numpy(), strict=True)]
    found = negative_log_density(outputs, points)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(wanted, rel=1e-9)
    in_float = negative_log_density(outputs.float(), points.float())
    assert in_float.tolist() == pytest.approx(wanted, rel=2e-4, abs=1e-4)


def test_it_is_computed_in_float32_whatever_the_precision() -> None:
    outputs, points = outputs_and_points(50, 20, 1.0)
    halved = outputs.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = negative_log_density(halved, points.float())
    assert found.dtype == torch.float32
    assert torch.equal(found, negative_log_density(halved.float(), points.float()))


def test_it_is_a_density() -> None:
    """Over a grid that holds all of it, and both states of the pen, it sums up to 1."""
    outputs, _ = outputs_and_points(1, 4, 0.5)
    axis = torch.linspace(-12, 12, 481, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    total = 0.0
    for pen in (0.0, 1.0):
        points = torch.stack([x, y, torch.full_like(x, pen)], -1)
        nats = negative_log_density(outputs.expand(*x.shape, -1), points)
        total += float(torch.exp(-nats).sum()) * float(axis[1] - axis[0]) ** 2
    assert total == pytest.approx(1, abs=1e-6)


def test_a_larger_output_lifts_the_pen() -> None:
    outputs = torch.zeros(2, 7)
    outputs[:, 0] = torch.tensor([-3.0, 3.0])
    down, up = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    nats = [negative_log_density(outputs, pen.expand(2, 3)) for pen in (down, up)]
    assert nats[0][0] < nats[1][0] and nats[0][1] > nats[1][1]


@pytest.mark.parametrize("largest", [1e2, 1e4, 1e8, float(LARGEST)])
def test_loss_and_gradient_are_finite_for_every_finite_output(largest: float) -> None:
    generator = torch.Generator().manual_seed(1)
    spread = (torch.rand(3000, 121, generator=generator) * 2 - 1) * largest
    kind = torch.randint(6, spread.shape, generator=generator)
    ends = torch.where(kind % 2 == 0, torch.tensor(largest), torch.tensor(-largest))
    mixed = torch.where(kind < 2, ends, torch.where(kind < 4, spread, spread / largest))
    points = torch.randn(3000, 3, generator=generator) * 30
    points[:, 2] = (points[:, 2] > 0).float()
    for outputs in (spread, ends, mixed):
        outputs.requires_grad_()
        nats = negative_log_density(outputs, points)
        (gradient,) = torch.autograd.grad((nats / len(nats)).sum(), outputs)
        assert torch.isfinite(nats).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("which", range(7))
def test_each_output_alone_may_be_anything(which: int) -> None:
    values = torch.tensor([-LARGEST, -1e30, -1e4, -100.0, -1e-30, 0.0, 1e-30, 100.0, 1e4, 1e30, LARGEST])
    outputs = torch.zeros(len(values), 7)
    outputs[:, which] = values
    outputs.requires_grad_()
    points = torch.tensor([0.3, -0.2, 1.0]).expand(len(values), 3)
    nats = negative_log_density(outputs, points)
    (gradient,) = torch.autograd.grad(nats.sum() / 1e10, outputs)
    assert torch.isfinite(nats).all() and torch.isfinite(gradient).all()


def test_gradients_are_those_of_the_transcription() -> None:
    outputs, points = outputs_and_points(20, 2, 1.0)
    outputs.requires_grad_()
    (gradient,) = torch.autograd.grad(negative_log_density(outputs, points).sum(), outputs)
    step = 1e-6
    for row, column in [(0, 0), (3, 1), (5, 3), (7, 6), (9, 8), (11, 10), (13, 12)]:
        moved = [outputs.detach().numpy()[row].copy() for _ in range(2)]
        moved[0][column] += step
        moved[1][column] -= step
        slope = (graves(moved[0], points.numpy()[row]) - graves(moved[1], points.numpy()[row])) / (2 * step)
        assert float(gradient[row, column]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_what_training_visits_is_not_changed_and_beyond_it_nothing_is_cut() -> None:
    for limit in (STRAIGHT_LOG_SIGMA, STRAIGHT_ATANH_RHO, STRAIGHT_MEAN):
        inside = torch.linspace(-limit, limit, 1001)
        assert torch.equal(eased(inside, limit), inside)
        beyond = (limit + torch.logspace(-3, 5, 400, dtype=torch.float64)).requires_grad_()
        values = eased(beyond, limit)
        (slope,) = torch.autograd.grad(values.sum(), beyond)
        assert (values.diff() > 0).all() and (slope > 0).all() and (slope.diff() <= 0).all()
        assert float(slope[0]) == pytest.approx(1, abs=0.003), "no kink at the limit"
        assert torch.equal(eased(-beyond, limit), -values)


def test_what_is_drawn_has_the_densitys_moments() -> None:
    """Of one Gaussian: mean, deviation, correlation, and how often the pen is lifted; sigma^2 is times temperature."""
    outputs = torch.tensor([[math.log(3), 0.0, 0.5, -1.0, math.log(2), math.log(0.5), math.atanh(0.8)]])
    generator = torch.Generator().manual_seed(2)
    uniform, normal = torch.rand(40_000, 2, generator=generator), torch.randn(40_000, 2, generator=generator)
    for temperature in (1.0, 0.25):
        drawn = draw(outputs.expand(40_000, 7), uniform, normal, temperature).double()
        scale = math.sqrt(temperature)
        assert drawn[:, :2].mean(0).tolist() == pytest.approx([0.5, -1.0], abs=0.03)
        assert drawn[:, :2].std(0).tolist() == pytest.approx([2 * scale, 0.5 * scale], rel=0.02)
        assert float(torch.corrcoef(drawn[:, :2].T)[0, 1]) == pytest.approx(0.8, abs=0.01)
        lifted = 1 / (1 + 3 ** (-1 / temperature))
        assert float(drawn[:, 2].mean()) == pytest.approx(lifted, abs=0.01)


def test_components_are_drawn_by_their_weights_and_temperature_zero_takes_the_likeliest() -> None:
    outputs = torch.zeros(30_000, 13)
    outputs[:, 1:3] = torch.tensor([math.log(1.0), math.log(3.0)])  # 1/4 and 3/4
    outputs[:, 3:5] = torch.tensor([-50.0, 50.0])
    generator = torch.Generator().manual_seed(3)
    uniform, normal = torch.rand(30_000, 2, generator=generator), torch.randn(30_000, 2, generator=generator)
    share = {t: float((draw(outputs, uniform, normal, t)[:, 0] > 0).double().mean()) for t in (1.0, 0.5, 0.0)}
    assert share == pytest.approx({1.0: 0.75, 0.5: 0.9, 0.0: 1.0}, abs=0.01)  # weights to the power of 1 / temperature
    assert torch.equal(draw(outputs[:1], uniform[:1], normal[:1], 0.0), torch.tensor([[50.0, 0.0, 0.0]]))


def test_weights_are_a_distribution() -> None:
    outputs, _ = outputs_and_points(5, 20, 3.0)
    assert torch.exp(mixture(outputs).log_weight).sum(-1).tolist() == pytest.approx([1.0] * 5)
