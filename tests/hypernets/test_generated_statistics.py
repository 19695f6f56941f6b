"""Norm and deviation of generated tensors: right, without a trace in the model or the random state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from hyperrun import hypernetize
from hyperrun.hypernets import HyperModel, generated_statistics, with_latents
from hyperrun.hypernets.generated_statistics import tensor_statistics
from hyperrun.targets.cnn import CNN
from hyperrun.targets.siren import Siren
from tests.composed import compose_config
from tests.hypernets.test_dynamic import model_of


def test_they_are_those_of_the_generated_weights() -> None:
    model = hypernetize(CNN(1, 10, 8), "chunked", generate="everything", z_dim=4, hidden=[8], chunk_size=64)
    found = generated_statistics(model)
    weights = model.weights()
    assert list(found) == [f"generated/{name}/{key}" for name in model.names for key in ("norm", "std")]
    for name in model.names:
        numbers = weights[name].detach().double()
        assert found[f"generated/{name}/norm"] == pytest.approx(numbers.square().sum().sqrt().item(), rel=1e-5)
        mean_square = (numbers - numbers.mean()).square().mean()
        assert found[f"generated/{name}/std"] == pytest.approx(mean_square.sqrt().item(), rel=1e-5)
    assert all(len(f"{value:.10g}") < 14 for value in found.values()), "a row of many layers stays short"


@pytest.mark.parametrize("model", [lambda: CNN(1, 10, 8), lambda: model_of("model=hyperlstm", "target.hidden_size=4")])
def test_models_without_one_set_of_generated_weights_have_none(model) -> None:
    assert generated_statistics(model()) == {}


def test_of_weights_for_each_image_it_is_their_root_mean_square() -> None:
    model = with_latents(compose_config(["model=hypersiren"]).hypernet, Siren(1, 8, 2, 6.0, 6.0), 33)
    found = generated_statistics(model)
    with torch.no_grad():
        made = model.weights(torch.arange(33)[[n * 33 // 16 for n in range(16)]])
    for name, numbers in made.items():
        rows = numbers.flatten(1)
        norms, stds = rows.norm(dim=1), rows.std(dim=1, correction=0)
        assert found[f"generated/{name}/norm"] == pytest.approx(norms.square().mean().sqrt().item(), rel=1e-5)
        assert found[f"generated/{name}/std"] == pytest.approx(stds.square().mean().sqrt().item(), rel=1e-5, abs=1e-9)


def test_large_weights_have_a_norm_as_long_as_they_are_finite() -> None:
    found = tensor_statistics({"large": torch.tensor([3e30, 4e30]), "broken": torch.tensor([1.0, float("nan")])})
    assert found["large"] == {"norm": 5e30, "std": 5e29}
    assert math.isnan(found["broken"]["norm"]) and math.isnan(found["broken"]["std"])


class Noisy(nn.Module):
    """A hypernet with dropout."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.dropout = nn.Dropout(0.5)

    def forward(self) -> dict[str, Tensor]:
        return {"weight": self.dropout(self.weight)}


def test_nothing_is_drawn_and_the_mode_stays() -> None:
    target = nn.Linear(8, 8)
    model = HyperModel(target, Noisy(target.weight.shape), ["weight"]).train()
    before = torch.get_rng_state()
    assert generated_statistics(model) == {"generated/weight/norm": 8.0, "generated/weight/std": 0.0}
    assert torch.equal(torch.get_rng_state(), before)
    assert model.hypernet.training and model.hypernet.dropout.training  # type: ignore[union-attr]
    assert model.hypernet.weight.grad is None
