"""How large generated weights are at the start, whatever generates them."""

from __future__ import annotations

import math

from torch import Tensor


def rms(values: Tensor) -> float:
    """Return the root of the mean square: the standard deviation of weights drawn around zero, and defined for one."""
    return values.detach().double().square().mean().sqrt().item()


def initial_std(value: Tensor, init: str) -> float:
    """Return the standard deviation that a generated parameter is to start with.

    value: the target's own initial value, [out, in, *spatial] or of one dimension.
    init: "variance_matched", that of `value`; "hyperfan", sqrt(2 / fan_in), and "hyperfan_out", sqrt(2 / fan_out): what
        hyperfan-in and hyperfan-out (Chang et al. 2020) give the weights of a layer with ReLU. Parameters of one
        dimension have no fans; they always start as the target's own.
    """
    if init == "variance_matched" or value.ndim < 2:
        return rms(value)
    fan_in = value[0].numel()
    fan = fan_in if init == "hyperfan" else fan_in // value.shape[1] * value.shape[0]
    return math.sqrt(2 / fan)


def centre_and_std(value: Tensor, init: str) -> tuple[float, float]:
    """Return the constant that is added to a generated parameter, and the standard deviation of the rest.

    Matrices and kernels are centred at zero. Biases and norm scales keep the mean that they had (0 or 1), around which
    they have to be able to move: one that starts constant gets a hundredth.
    """
    if value.ndim >= 2:
        return 0.0, initial_std(value, init)
    centre = value.detach().double().mean().item()
    return centre, rms(value - centre) or 0.01
