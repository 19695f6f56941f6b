"""Images as networks: the figure, the batches, and the latents that are fitted to held-out images."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from hyperrun.data import inputs_of, load_images, looks_of, names_of
from hyperrun.errors import UserError
from hyperrun.hypernets import count_parameters
from hyperrun.models import build_model
from hyperrun.tasks import build_task
from hyperrun.tasks.image_fitting import ImageFitting, all_pixels, batch_sizes, colours_of, psnr
from hyperrun.training.distributed import World
from hyperrun.training.precision import Precision
from tests.composed import compose_config

WORLD = World(0, 1, torch.device("cpu"))
FLOAT = Precision("float32", "", "cpu")
TINY = ("model=hypersiren", "target.hidden_size=8", "target.layers=1", "hypernet.hidden=[16]", "hypernet.z_dim=8")


def task_of(*overrides: str, world: World = WORLD) -> ImageFitting:
    torch.manual_seed(0)
    task = build_task(compose_config([*TINY, *overrides]), world)
    assert isinstance(task, ImageFitting)
    return task


def trained(task: ImageFitting, steps: int) -> ImageFitting:
    adam = torch.optim.Adam(task.model.parameters(), lr=1e-2)
    for batch in itertools.islice(task.batches(0), steps):
        adam.zero_grad()
        task.loss(*batch)[0].backward()
        adam.step()
    adam.zero_grad()
    return task


# ---------------------------------------------------------------- the figure


def test_psnr_of_each_image():
    wanted = torch.full((3, 4, 2), 0.5)
    off = torch.tensor([0.1, 0.01, 0.0]).view(3, 1, 1)
    torch.testing.assert_close(psnr(wanted + off, wanted), torch.tensor([20.0, 40.0, 100.0]), atol=1e-3, rtol=0)


def test_colours_that_no_screen_shows_are_clipped():
    assert psnr(torch.tensor([[[1.7], [-3.0]]]), torch.tensor([[[1.0], [0.0]]])).item() == 100


def test_the_figure_is_the_mean_over_images_and_does_not_depend_on_the_batch():
    task = trained(task_of("hypernet.test_images=7", "hypernet.fit_steps=5"), 30)
    found = task.evaluate("test", FLOAT)
    wanted = torch.cat(list(task.held_out("test")))
    colours = task.model(all_pixels(wanted), task.fit(wanted)).detach().clamp(0, 1)
    mse = (colours - wanted).square().mean((1, 2))
    assert found == {
        "loss": pytest.approx(mse.mean().item(), rel=1e-4),
        "psnr": pytest.approx(sum(-10 * math.log10(value) for value in mse) / 7, rel=1e-4),
    }
    task.eval_batch_size = 2
    assert task.evaluate("test", FLOAT) == pytest.approx(found, rel=1e-3)


def test_images_that_are_measured_are_spread_over_the_split():
    task = task_of("hypernet.test_images=3", "hypernet.val_images=1000")
    test = task.data.test
    assert torch.equal(torch.cat(list(task.held_out("test"))), colours_of(test.fetch(torch.tensor([0, 120, 240]))))
    assert (task.facts()["fit/test_images"], task.facts()["fit/val_images"]) == (3, len(task.data.val))


def test_colours_stand_in_the_order_of_the_coordinates():
    image = torch.tensor([[[[0, 51], [102, 255]]]], dtype=torch.uint8)
    torch.testing.assert_close(colours_of(image), torch.tensor([[[0.0], [0.2], [0.4], [1.0]]]))


# ---------------------------------------------------------------- training


def test_a_batch_follows_from_its_number():
    task = task_of("hypernet.points=20")
    batches = list(itertools.islice(task.batches(0), 25))
    for start in (0, 7, 19, 24):  # 19 batches an epoch
        for ours, theirs in zip(next(task_of("hypernet.points=20").batches(start)), batches[start], strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(batches[0][0], batches[1][0]), "other pixels"


def test_an_epoch_has_every_image_once_and_its_own_pixels():
    task = task_of("hypernet.points=20")
    batches = list(itertools.islice(task.batches(0), task.batches_per_epoch))
    numbers = torch.cat([numbers for _, numbers, _ in batches])
    assert len(numbers.unique()) == len(numbers) == 19 * 64
    coordinates, numbers, wanted = batches[3]
    assert coordinates.shape == (64, 20, 2) and wanted.shape == (64, 20, 1)
    column, row = ((coordinates[0] + 1) * 4).long().unbind(1)
    images = load_images(compose_config([*TINY]).data).train.fetch(numbers)
    torch.testing.assert_close(wanted[..., 0], images[:, 0, row, column].float() / 255)


def test_processes_share_a_batch():
    whole = next(task_of().batches(2))
    parts = [next(task_of(world=World(rank, 2, torch.device("cpu"))).batches(2)) for rank in range(2)]
    for index in range(3):
        assert torch.equal(torch.cat([part[index] for part in parts]), whole[index])
    with pytest.raises(UserError, match="must be a multiple of the 2 processes"):
        batch_sizes(5, 100, World(0, 2, torch.device("cpu")))
    assert batch_sizes(64, 31, World(0, 2, torch.device("cpu"))) == (30, 15)


def test_the_loss_is_the_squared_error_and_the_latents_prior():
    task = task_of("hypernet.latent_l2=0.3", "hypernet.latent_std=1")
    coordinates, numbers, wanted = next(task.batches(0))
    loss, stats = task.loss(coordinates, numbers, wanted)
    latents = task.model.hypernet.embedding.weight[numbers]
    mse = (task.model(coordinates, latents) - wanted).square().mean()
    torch.testing.assert_close(stats["loss"], mse.detach())
    torch.testing.assert_close(loss, mse + 0.3 * latents.norm(dim=1).square().mean())
    loss.backward()
    moved = task.model.hypernet.embedding.weight.grad.abs().sum(1) > 0
    assert set(moved.nonzero().flatten().tolist()) == set(numbers.tolist()), "only the batch's latents"


def test_training_lowers_the_loss_and_spreads_the_latents():
    task = task_of()
    before = task.loss(*next(task.batches(500)))[1]["psnr"]
    trained(task, 150)
    assert task.loss(*next(task.batches(500)))[1]["psnr"] > before + 3
    assert task.model.hypernet.embedding.weight.std() > 0.015


# ---------------------------------------------------------------- fitting


def test_fitted_latents_are_better_than_the_mean_and_more_steps_than_fewer():
    task = trained(task_of(), 150)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    wanted = colours_of(task.data.test.fetch(torch.arange(40)))
    mean = task.model.hypernet.mean_embedding().expand(40, -1)
    found = [mean, task.fit(wanted, 10), task.fit(wanted, 60)]
    figures = [psnr(task.model(all_pixels(wanted), latents), wanted).mean().item() for latents in found]
    assert figures[0] + 1 < figures[1] < figures[2]
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert all(p.grad is None for p in task.model.parameters()), "the next training step would take it up"


def test_fitting_draws_nothing_and_takes_each_image_alone():
    task = trained(task_of(), 60)
    wanted = colours_of(task.data.test.fetch(torch.arange(5)))
    together = task.fit(wanted, 20)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(task.fit(wanted, 20), together)
    assert torch.equal(torch.get_rng_state(), state)
    scale = task.model.hypernet.embedding.weight.std()
    alone = torch.cat([task.fit(wanted[i : i + 1], 20) for i in range(5)])
    torch.testing.assert_close(alone / scale, together / scale, atol=1e-2, rtol=1e-2)


def test_the_prior_holds_fitted_latents_back():
    task = trained(task_of(), 60)
    wanted = colours_of(task.data.test.fetch(torch.arange(5)))
    free = task.fit(wanted, 30)
    task.cfg.latent_l2 = 1e3
    assert task.fit(wanted, 30).norm() < 0.5 * free.norm()


# ---------------------------------------------------------------- what the config says


def test_models_are_counted_without_the_data_as_they_are_with_it():
    config = compose_config([*TINY])
    with torch.device("meta"):
        counted = count_parameters(build_model(config, inputs_of(config.data)))
    assert counted == count_parameters(task_of().model)
    assert task_of().facts()["params/latents"] == len(load_images(config.data).train) * 8


@pytest.mark.parametrize("val_size", [1, 180, 1436])
def test_the_number_of_training_images_is_known_beforehand(val_size):
    data = compose_config(["data=digits", f"data.val_size={val_size}"]).data
    assert inputs_of(data) == load_images(data).inputs


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name in names_of("images") if looks_of(name)])
def test_the_published_numbers_of_training_images(name):
    config = compose_config([f"data={name}", "data.verify=false"])
    try:
        found = load_images(config.data)
    except UserError:
        pytest.skip("not there")
    assert inputs_of(config.data) == found.inputs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hypernet=none"], "hypernet=none has no latent for each image; hypernet=auto_decoder does"),
        (["hypernet=static"], "hypernet=static has no latent"),
        (["optim.generated_l2=1e-4"], "for classifiers"),
        (["trainer.label_smoothing=0.1"], "for classifiers"),
        (["data=pydocs"], "target=siren does not take text"),
        (["target=cnn"], "hypernet=auto_decoder is for images that are networks"),
        (["data.val_size=5000"], "leaves nothing to train on"),
    ],
)
def test_what_does_not_go_together(words, message):
    with pytest.raises(UserError, match=message):
        build_task(compose_config(["model=hypersiren", *words]), WORLD)
