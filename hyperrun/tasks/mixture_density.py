"""The density of the next point of a pen stroke: a mixture of bivariate Gaussians and a Bernoulli (Graves 2013, 4.2).

Of a network's 6M + 1 outputs for a step (M mixtures), in this order,

    e                        the pen's logit           p = 1 / (1 + exp(-e))
    w_1 .. w_M               weights                   pi = softmax(w)                       (eq. 19)
    m_x (M), m_y (M)         means                     mu = m                                (eq. 20)
    s_x (M), s_y (M)         log sigma                 sigma = exp(s)                        (eq. 21)
    r (M)                    atanh rho                 rho = tanh(r)                         (eq. 22)

the density of a point (x, y, pen) is that of eqs. 23 to 25, and minus its logarithm the loss of eq. 26,

    sum_j pi_j N(x, y | mu_j, sigma_j, rho_j)  *  (p if pen else 1 - p).

Graves prints p = 1 / (1 + exp(e)) (eq. 18): his e is our -e. What can be learned does not depend on the sign; with
ours, a larger output makes a pen lift likelier.

All is computed in float32 at least, whatever the precision of the network, and so that no rounding error grows and
nothing overflows. With u = (x - mu_x) / sigma_x and v the same of y, eq. 25 over 1 - rho^2 is

    (u^2 + v^2 - 2 rho u v) / (1 - rho^2)  =  ((u + v)^2 (1 + exp(-2 r)) + (u - v)^2 (1 + exp(2 r))) / 4,

and -log sqrt(1 - rho^2) = log cosh r = |r| + log((1 + exp(-2 |r|)) / 2): rho itself, which float32 rounds to 1 from
r = 9 on, is not needed. The mixture is summed up by log-sum-exp.

What a training visits is the density above to the letter. But the exact one of an output like s = -10,000 is no number
that a float can hold. So an output far beyond all use goes on growing slowly: s beyond +-10, r beyond +-5 and m beyond
+-10,000 become `eased(output, that limit)`, which has no jump, no kink, no end and no place where its gradient is zero.
With that, loss and gradient are finite for every finite output.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

STRAIGHT_MEAN, STRAIGHT_LOG_SIGMA, STRAIGHT_ATANH_RHO = 1e4, 10.0, 5.0
"""Up to these an output is what its name says: sigma from 0.000045 to 22,000 standard deviations of the offsets, rho up
to 0.99991."""


LIMITS = torch.tensor([STRAIGHT_MEAN] * 2 + [STRAIGHT_LOG_SIGMA] * 2 + [STRAIGHT_ATANH_RHO])
"""Of mean, log sigma and atanh rho of a Gaussian, in the order of the outputs."""


class Mixture(NamedTuple):
    """The density's parameters, float32 (float64 of float64)."""

    pen: Tensor
    """Logit of the pen being lifted after the point, [...]."""
    log_weight: Tensor
    """[..., M], as all that follow."""
    mean_x: Tensor
    mean_y: Tensor
    log_sigma_x: Tensor
    log_sigma_y: Tensor
    atanh_rho: Tensor


def mixture(outputs: Tensor) -> Mixture:
    """Return the parameters of the density that a network's outputs [..., 6M + 1] stand for."""
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    weight, mean_x, mean_y, log_sigma_x, log_sigma_y, atanh_rho = outputs[..., 1:].chunk(6, -1)
    return Mixture(
        outputs[..., 0],
        F.log_softmax(weight, -1),
        eased(mean_x, STRAIGHT_MEAN),
        eased(mean_y, STRAIGHT_MEAN),
        eased(log_sigma_x, STRAIGHT_LOG_SIGMA),
        eased(log_sigma_y, STRAIGHT_LOG_SIGMA),
        eased(atanh_rho, STRAIGHT_ATANH_RHO),
    )


def eased(value: Tensor, limit: Any) -> Tensor:
    """Return the value up to +-limit, and beyond it +-(limit + log(1 + log(1 + |value| - limit))).

    limit: a number, or a tensor of one for each. Strictly increasing, with a continuous derivative, which is 1 up to
    the limit.
    """
    beyond = torch.log1p(torch.log1p(F.relu(value.abs() - limit)))
    return value.clamp(-limit, limit) + beyond.copysign(value)


def negative_log_density(outputs: Tensor, points: Tensor) -> Tensor:
    """Return the nats of each point, [...] in float32 (float64 of float64); negative where the density is above 1.

    outputs: [..., 6M + 1], of any precision; points: [..., 3]: dx, dy (in units of the density), pen (0 or 1).
    Finite, with a finite gradient, for every finite output and offsets up to 1e10.
    """
    with torch.autocast(outputs.device.type, enabled=False):
        found = mixture(outputs)
        points = points.to(found.pen.dtype)
        x, y, pen = points.unbind(-1)
        return -log_mixture(found, x, y) + F.binary_cross_entropy_with_logits(found.pen, pen, reduction="none")


def log_mixture(of: Mixture, x: Tensor, y: Tensor) -> Tensor:
    """Return log sum_j pi_j N(x, y | ...) (eqs. 23 to 25) for offsets [...]."""
    return torch.logsumexp(of.log_weight + log_gaussians(of, x, y), -1)


def log_gaussians(of: Mixture, x: Tensor, y: Tensor) -> Tensor:
    """Return log N(x, y | mu_j, sigma_j, rho_j) of each Gaussian (eqs. 24 and 25), [..., M]."""
    u = (x[..., None] - of.mean_x) * torch.exp(-of.log_sigma_x)
    v = (y[..., None] - of.mean_y) * torch.exp(-of.log_sigma_y)
    grown = torch.exp(2 * of.atanh_rho)
    distance = ((u + v).square() * (1 + 1 / grown) + (u - v).square() * (1 + grown)) / 4
    size = of.atanh_rho.abs()
    log_cosh = size + torch.log1p(torch.exp(-2 * size)) - math.log(2)
    return log_cosh - of.log_sigma_x - of.log_sigma_y - math.log(2 * math.pi) - distance / 2


def draw(outputs: Tensor, uniform: Tensor, normal: Tensor, temperature: float) -> Tensor:
    """Return a point for each row of outputs: float [B, 3], dx, dy and pen, 0 or 1.

    As the author draws them (sketch-rnn): the logits of weights and pen over the temperature, the variances times it.
    Temperature 0 gives the mean of the Gaussian with the largest weight, and the likelier of pen up and down.

    outputs: [B, 6M + 1]; uniform, normal: [B, 2] each, the random numbers to draw with.
    """
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    pen, parts = outputs[:, 0], outputs[:, 1:].unflatten(1, (6, -1))
    logits, others = parts[:, 0], parts[:, 1:]
    if temperature > 0:
        weights = torch.softmax(logits / temperature, -1).cumsum(-1)
        chosen = (weights < uniform[:, :1] * weights[:, -1:]).sum(-1, keepdim=True).clamp(max=weights.shape[-1] - 1)
        lifted = torch.sigmoid(pen / temperature) > uniform[:, 1]
    else:
        chosen = logits.argmax(-1, keepdim=True)
        lifted = pen > 0
    # of one Gaussian of each row only, and all at once: for a few rows, each operation costs its call
    rows = others.gather(2, chosen[:, None].expand(-1, 5, 1))[..., 0]
    mean, log_sigma, r = eased(rows, LIMITS.to(rows)).split([2, 2, 1], 1)
    first, second = (normal * math.sqrt(temperature)).split(1, 1)
    turned = torch.cat([first, torch.tanh(r) * first + second / torch.cosh(r)], 1)
    return torch.cat([mean + torch.exp(log_sigma) * turned, lifted[:, None].to(mean.dtype)], 1)
