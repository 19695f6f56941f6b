"""Norm and standard deviation of every generated tensor: a hypernet that dies or explodes shows in them at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hyperrun.hypernets.embedded_generator import EmbeddedGenerator
from hyperrun.hypernets.hypernetized import as_hypernetized

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
    hyper = as_hypernetized(model)
    return {} if hyper is None else hyper.statistics()


def statistics_of_one_set(hypernet: nn.Module, names: Sequence[str]) -> dict[str, float]:
    """Return the statistics of what a hypernet without a condition makes, in the order of the names."""
    with evaluating(hypernet):
        made = hypernet()
    return flat(mean_statistics({name: made[name].unsqueeze(0) for name in names}))


def statistics_of_conditions(hypernet: EmbeddedGenerator) -> dict[str, float]:
    """Return the statistics of what a hypernet makes for the conditions that it has an embedding of."""
    table = hypernet.embedding
    with evaluating(hypernet):
        made = hypernet(evenly(table.num_embeddings, MOST_CONDITIONS).to(table.weight.device))
    return flat(mean_statistics(made))


@contextmanager
def evaluating(hypernet: nn.Module) -> Iterator[None]:
    """Within the block a hypernet with dropout draws no random numbers."""
    was_training = hypernet.training
    hypernet.eval()
    yield
    hypernet.train(was_training)


def flat(statistics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{PREFIX}{name}/{key}": value for name, pair in statistics.items() for key, value in pair.items()}


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
