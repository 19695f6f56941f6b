"""Latents: a table before a generator, and the Gaussian fitted to them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hyperrun.errors import UserError
from hyperrun.hypernets import (
    EmbeddedGenerator,
    count_parameters,
    hypernetize,
    materialize,
    with_hypernet,
    with_latents,
)
from hyperrun.targets.cnn import CNN
from hyperrun.targets.siren import Siren, pixel_centres
from tests.composed import compose_config


def model_of(*overrides: str, count: int = 5):
    torch.manual_seed(0)
    return with_latents(compose_config(["model=hypersiren", *overrides]).hypernet, Siren(1, 8, 2, 6.0, 6.0), count)


@pytest.mark.parametrize("generator", ["mlp", "chunked"])
def test_numbers_of_examples_stand_for_their_latents(generator):
    model = model_of(f"hypernet.generator={generator}")
    numbers, x = torch.tensor([3, 0, 3]), pixel_centres(4).expand(3, -1, -1)
    latents = model.hypernet.embedding(numbers)
    torch.testing.assert_close(model(x, numbers), model(x, latents))
    assert torch.equal(model(x, numbers)[0], model(x, numbers)[2])
    plain = materialize(model, latents[1])
    torch.testing.assert_close(plain(x[1]), model(x, numbers)[1])


@pytest.mark.parametrize("generator", ["mlp", "chunked"])
def test_every_image_starts_near_the_sirens_own_initialization(generator):
    own = Siren(1, 8, 2, 6.0, 6.0)
    config = compose_config(["model=hypersiren", f"hypernet.generator={generator}"]).hypernet
    before = {name: value.detach().clone() for name, value in own.named_parameters()}
    weights = with_latents(config, own, 4).weights(torch.arange(4))
    assert weights.keys() == before.keys()
    for name, value in before.items():
        difference = (weights[name] - value).square().mean().sqrt()
        assert difference < 0.2 * value.square().mean().sqrt(), name


def test_latents_are_counted_as_trainable_and_theta_0_as_well():
    few, many = (count_parameters(model_of(count=count)) for count in (5, 25))
    assert many.trainable - few.trainable == 20 * 32
    assert many.generated == many.target == sum(p.numel() for p in Siren(1, 8, 2, 6.0, 6.0).parameters())


def test_draws_have_the_latents_mean_and_covariance():
    torch.manual_seed(0)
    table = EmbeddedGenerator(nn.Identity(), 400, 3, std=1.0)
    mixing = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.5, 2.0]])
    with torch.no_grad():
        table.embedding.weight.copy_(table.embedding.weight @ mixing.T + torch.tensor([3.0, -1.0, 0.0]))
    drawn = table.draw(40_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.mean(0), table.mean_embedding(), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), table.embedding.weight.detach().T.cov(), atol=0.1, rtol=0.05)
    assert torch.equal(drawn, table.draw(40_000, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_latents_than_numbers_in_one_can_be_drawn_from(count):
    table = EmbeddedGenerator(nn.Identity(), count, 8, std=0.01)
    drawn = table.draw(10, torch.Generator().manual_seed(0))
    assert drawn.isfinite().all()
    assert (drawn - table.mean_embedding()).abs().max() < 0.1


def test_what_has_no_latents_is_refused():
    siren = Siren(1, 8, 2, 6.0, 6.0)
    for hypernet in ("none", "static", "chunked", "mlp", "dynamic"):
        config = compose_config([f"hypernet={hypernet}"]).hypernet
        with pytest.raises(UserError, match=f"hypernet={hypernet} has no latent.*model=hypersiren"):
            with_latents(config, siren, 3)
    with pytest.raises(UserError, match=r"hypernet=auto_decoder is for images that are networks"):
        with_hypernet(compose_config(["hypernet=auto_decoder"]).hypernet, CNN(1, 10, 8))
    with pytest.raises(UserError, match="unknown hypernet 'auto_decoder'"):
        hypernetize(CNN(1, 10, 8), "auto_decoder")
