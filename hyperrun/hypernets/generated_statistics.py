"""Norm and standard deviation of every generated tensor: a hypernet that dies or explodes shows in them at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hyperrun.hypernets.apply import HyperModel

PREFIX = "generated/"
"""How the keys of a logged row begin: generated/<name>/norm, generated/<name>/std."""


@torch.no_grad()
def generated_statistics(model: nn.Module) -> dict[str, float]:
    """Return {"generated/<name>/norm": ..., "generated/<name>/std": ...} of what a hypernet makes at the moment.

    norm is the Euclidean one (of a matrix: Frobenius), std the population's; both to six digits, in the order in which
    the target holds its parameters. Nothing for a model whose weights are not the same for every input: a plain, a
    dynamic or a conditional one. Costs one generation; changes nothing in the model.
    """
    if not isinstance(model, HyperModel):
        return {}
    was_training = model.hypernet.training
    model.hypernet.eval()  # so that one with dropout draws no random numbers
    made = model.hypernet()
    model.hypernet.train(was_training)
    return {
        f"{PREFIX}{name}/{key}": value
        for name, pair in tensor_statistics({name: made[name] for name in model.names}).items()
        for key, value in pair.items()
    }


def tensor_statistics(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return name -> {"norm", "std"} of tensors on one device, to six digits; waits for the device once.

    Reckoned in float64: in float32 the squares overflow from 1.8e19 on, long before the weights do.
    """
    doubles = (value.double() for value in tensors.values())
    pairs = [torch.stack([value.norm(), value.std(correction=0)]) for value in doubles]
    if not pairs:
        return {}
    return {
        name: {"norm": six_digits(norm), "std": six_digits(std)}
        for name, (norm, std) in zip(tensors, torch.stack(pairs).tolist(), strict=True)
    }


def six_digits(value: float) -> float:
    return float(f"{value:.6g}")
