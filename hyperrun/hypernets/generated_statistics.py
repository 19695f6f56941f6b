"""Norm and standard deviation of every generated tensor: a hypernet that dies or explodes shows in them at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hyperrun.hypernets.apply import HyperModel
from hyperrun.hypernets.conditional import ConditionalModel
from hyperrun.hypernets.embedded_generator import EmbeddedGenerator

PREFIX = "generated/"
"""How the keys of a logged row begin: generated/<name>/norm, generated/<name>/std."""

MOST_CONDITIONS = 16
"""Tasks, or training images, whose weights are looked at; of more, so many spread over all."""


@torch.no_grad()
def generated_statistics(model: nn.Module) -> dict[str, float]:
    """Return {"generated/<name>/norm": ..., "generated/<name>/std": ...} of what a hypernet makes at the moment.

    norm is the Euclidean one (of a matrix: Frobenius), std the population's; both to six digits, in the order in which
    the target holds its parameters. Of weights for each task or image, their root mean square over at most 16 of these.
    Nothing for a model that generates no weights from embeddings: a plain or a dynamic one. Costs one generation (of as
    many sets as there are conditions); changes nothing in the model.
    """
    if not generates_from_embeddings(model):
        return {}
    hypernet = model.hypernet
    assert isinstance(hypernet, nn.Module)
    was_training = hypernet.training
    hypernet.eval()  # so that one with dropout draws no random numbers
    if isinstance(hypernet, EmbeddedGenerator):
        made = hypernet(evenly(hypernet.embedding.num_embeddings, MOST_CONDITIONS).to(hypernet.embedding.weight.device))
    else:
        made = {name: value.unsqueeze(0) for name, value in hypernet().items()}
    hypernet.train(was_training)
    names = model.names if isinstance(model, HyperModel) else made
    return {
        f"{PREFIX}{name}/{key}": value
        for name, pair in mean_statistics({name: made[name] for name in names}).items()
        for key, value in pair.items()
    }


def generates_from_embeddings(model: nn.Module) -> bool:
    """Whether a model's weights are made from embeddings alone: for all inputs, for each task or for each image."""
    conditional = isinstance(model, ConditionalModel) and isinstance(model.hypernet, EmbeddedGenerator)
    return isinstance(model, HyperModel) or conditional


def evenly(count: int, most: int) -> Tensor:
    """Return the numbers below `count`; of more than `most`, as many spread over all, int64."""
    return torch.arange(min(count, most)) * count // min(count, most)


def tensor_statistics(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return name -> {"norm", "std"} of tensors on one device, to six digits; waits for the device once."""
    return mean_statistics({name: value.unsqueeze(0) for name, value in tensors.items()})


def mean_statistics(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return the same of tensors [conditions, *shape]: the root mean square over the conditions.

    Reckoned in float64: in float32 the squares overflow from 1.8e19 on, long before the weights do.
    """
    rows = (value.double().unsqueeze(-1).flatten(1) for value in tensors.values())  # of single numbers, too
    pairs = [
        torch.stack([value.norm() / len(value) ** 0.5, value.var(1, correction=0).mean().sqrt()]) for value in rows
    ]
    if not pairs:
        return {}
    return {
        name: {"norm": six_digits(norm), "std": six_digits(std)}
        for name, (norm, std) in zip(tensors, torch.stack(pairs).tolist(), strict=True)
    }


def six_digits(value: float) -> float:
    return float(f"{value:.6g}")
