"""Images as networks: a latent per image -> a hypernet -> the weights of a SIREN from coordinates to colour.

Training learns the latents of the training images beside the hypernet. What is measured is how well images that were
not trained on can be had by choosing a latent, with the hypernet as it is: their PSNR.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import Config
from hyperrun.data import LearnedImages, load_images
from hyperrun.data.images import Split, seeded
from hyperrun.data.kinds import ImageData
from hyperrun.data.loader import read, refuse_uneven
from hyperrun.errors import UserError
from hyperrun.hypernets import AutoDecoderConfig, EmbeddedGenerator, as_hypernetized
from hyperrun.hypernets.generated_statistics import evenly
from hyperrun.models import build_model
from hyperrun.registry import register
from hyperrun.targets.siren import pixel_centres
from hyperrun.tasks.image_task import ImageTask
from hyperrun.training.distributed import World, sum_over_ranks
from hyperrun.training.precision import Precision


def psnr(colours: Tensor, wanted: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB: 10 log10(1 / MSE) of colours in [0, 1], [B].

    colours, wanted: float [B, P, C]; colours outside [0, 1] are clipped, as a screen does. An exact image has 100 dB.
    """
    mse = (colours.clamp(0, 1) - wanted).square().flatten(1).mean(1)
    return -10 * torch.log10(mse.clamp_min(1e-10))


class ImageLoss(nn.Module):
    """The loss of one batch of training images: mean squared error of the colours, and the prior of the latents."""

    def __init__(self, model: nn.Module, latent_l2: float) -> None:
        super().__init__()
        self.model, self.latent_l2 = model, latent_l2

    def forward(self, coordinates: Tensor, numbers: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize (scalar) and {"loss", "psnr", "latent_l2"}: means over the batch, detached.

        coordinates: float [B, P, 2]; numbers: of the training images, int64 [B]; wanted: colours in [0, 1], [B, P, C].
        "loss" is the mean squared error alone, "psnr" that of the P pixels, "latent_l2" the penalty.
        """
        latents = hypernet_of(self.model).embedding(numbers)
        colours = self.model(coordinates, latents).float()
        mse = F.mse_loss(colours, wanted)
        penalty = self.latent_l2 * latents.float().square().sum(1).mean()
        stats = {"loss": mse, "psnr": psnr(colours.detach(), wanted).mean(), "latent_l2": penalty}
        return mse + penalty, {name: value.detach() for name, value in stats.items()}


def hypernet_of(model: nn.Module) -> EmbeddedGenerator:
    """Return the hypernet of a model that `with_latents` made."""
    hyper = as_hypernetized(model)
    assert hyper is not None and hyper.embedded is not None
    return hyper.embedded


def fit_latents(model: nn.Module, wanted: Tensor, *, steps: int, lr: float, latent_l2: float) -> Tensor:
    """Return the latents [B, z_dim] that bring the model nearest to whole images, without changing the model.

    Each starts from the mean of the training images' latents and descends its own image's loss by `steps` of Adam, the
    learning rate falling to zero along half a cosine. Nothing is drawn, and no image depends on another.

    lr: at first, in units of the training latents' standard deviation: how small these stay depends on much else.
    wanted: colours in [0, 1], row by row, float [B, side * side, C].
    """
    hypernet = hypernet_of(model)
    coordinates = all_pixels(wanted)
    latents = hypernet.mean_embedding().repeat(len(wanted), 1).requires_grad_()
    lr *= (hypernet.embedding.weight.detach() - hypernet.mean_embedding()).square().mean().sqrt().item()
    adam = torch.optim.Adam([latents], lr=lr)
    with torch.enable_grad():
        for step in range(steps):
            adam.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            errors = (model(coordinates, latents).float() - wanted).square().flatten(1).mean(1)
            loss = (errors + latent_l2 * latents.square().sum(1)).sum()  # a sum: the batch size does not matter
            adam.zero_grad()
            loss.backward(inputs=[latents])
            adam.step()
    return latents.detach()


def all_pixels(images: Tensor) -> Tensor:
    """Return the coordinates of all pixels of square images [B, P, C]: [B, P, 2], without copies."""
    return pixel_centres(math.isqrt(images.shape[1]), images.device).expand(len(images), -1, -1)


def colours_of(images: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> float32 [B, H * W, C] in [0, 1], row by row."""
    return images.flatten(2).mT.float() / 255


@register("task", "image_fitting", data="images", takes="coordinates")
class ImageFitting(ImageTask):
    """What the training loop needs to know about images as networks."""

    name = "image_fitting"
    metric = "psnr"
    unit = "images"

    def __init__(self, config: Config, world: World, learned: LearnedImages | None = None) -> None:
        """Build the model and put the training images on the device, as uint8.

        learned: what a run that is to be evaluated keeps of its images.

        Raises:
            UserError: a hypernet without latents; settings that mean nothing here; a batch size that does not divide
                among the processes.
        """
        assert isinstance(config.data, ImageData)
        self.data = load_images(config.data, learned)
        inputs = self.data.inputs
        if learned is not None:  # a latent for each image that it learned from, however many there are now
            inputs = replace(inputs, train=learned.counts["train"])
        self.model = build_model(config, inputs).to(world.device)
        assert isinstance(config.hypernet, AutoDecoderConfig)
        self.cfg, self.seed, self.world = config.hypernet, config.seed, world
        self.eval_batch_size = config.trainer.eval_batch_size
        self.loss = ImageLoss(self.model, self.cfg.latent_l2)
        self.pixels = pixel_centres(self.data.image_size, world.device)
        self.points = min(self.cfg.points or len(self.pixels), len(self.pixels))
        self.examples_per_batch, self.share = batch_sizes(config.trainer.batch_size, len(self.data.train), world)
        self.batches_per_epoch = len(self.data.train) // self.examples_per_batch
        self.images = read(self.data.train).to(world.device)

    def describe_data(self) -> str:
        """Return in a few words what is learned from and how it is fed."""
        sizes = f"{len(self.data.train):,} / {self.count('val'):,} / {self.count('test'):,}"
        points = f"{self.points:,} of {len(self.pixels):,} pixels a step, not augmented"
        return f"{self.data.name}: {sizes} images to train / validate / test; {points}"

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data, the latents, and how many images the figures are of."""
        return {
            **super().facts(),
            "params/latents": len(self.data.train) * self.cfg.z_dim,
            "fit/val_images": self.count("val"),
            "fit/test_images": self.count("test"),
            "fit/val_steps": self.cfg.val_fit_steps,
            "fit/test_steps": self.cfg.fit_steps,
        }

    # ---------------------------------------------------------------- training

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the batches of an epoch from its batch `start` on: what ImageLoss.forward takes.

        A batch follows from its number and the seed alone. Where not all pixels are used, all images of a batch have
        the same ones.
        """
        device = self.world.device
        order = torch.randperm(len(self.images), generator=seeded(self.seed, epoch, "order"))
        for batch in range(start, self.batches_per_epoch):
            first = batch * self.examples_per_batch + self.world.rank * self.share
            numbers = order[first : first + self.share].to(device)
            pixels, wanted = self.pixels, colours_of(self.images[numbers])
            if self.points < len(pixels):
                drawn = torch.randperm(len(pixels), generator=seeded(self.seed, epoch, "points", batch))
                chosen = drawn[: self.points].to(device)
                pixels, wanted = pixels[chosen], wanted[:, chosen]
            yield pixels.expand(len(numbers), -1, -1), numbers, wanted

    # ---------------------------------------------------------------- evaluation

    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        """Fit the latents of a split's images; return the means over images of their MSE ("loss", of colours
        clipped to [0, 1]) and PSNR in dB.

        Of "test" hypernet.test_images are fitted in fit_steps, of any other split val_images in val_fit_steps. In
        float32 whatever the precision is: with weights for each example training is, too (ConditionalModel).
        """
        self.model.eval()
        sums = torch.zeros(3, device=self.world.device, dtype=torch.float64)
        for wanted in self.held_out(split):
            latents = self.fit(wanted, self.cfg.fit_steps if split == "test" else self.cfg.val_fit_steps)
            with torch.no_grad():
                colours = self.model(all_pixels(wanted), latents)
            mse = (colours.clamp(0, 1) - wanted).square().mean((1, 2))
            each = psnr(colours, wanted)
            sums += torch.stack([mse.double().sum(), each.double().sum(), torch.tensor(len(each), device=each.device)])
        loss, decibels, count = sum_over_ranks(sums, self.world).tolist()
        self.model.train()
        return {"loss": loss / count, "psnr": decibels / count}

    def fit(self, wanted: Tensor, steps: int | None = None) -> Tensor:
        """Return latents fitted to images [B, side * side, C], by as many steps as in a test unless said otherwise."""
        cfg = self.cfg
        return fit_latents(self.model, wanted, steps=steps or cfg.fit_steps, lr=cfg.fit_lr, latent_l2=cfg.latent_l2)

    def held_out(self, split: str) -> Iterator[Tensor]:
        """Yield the images of a split that are evaluated, float32 [B, side * side, C]: this process's batches."""
        part = self.split(split)
        chosen = evenly(len(part), self.count(split))
        for index in chosen.split(self.eval_batch_size)[self.world.rank :: self.world.size]:
            yield colours_of(part.fetch(index).to(self.world.device))

    def split(self, name: str) -> Split:
        return {"train": self.data.train, "val": self.data.val, "test": self.data.test}[name]

    def count(self, split: str) -> int:
        """Return how many images of a split are fitted when it is evaluated."""
        most = self.cfg.test_images if split == "test" else self.cfg.val_images
        return min(most or math.inf, len(self.split(split)))  # pyright: ignore[reportReturnType]


def batch_sizes(wanted: int, images: int, world: World) -> tuple[int, int]:
    """Return the images of a batch, over all processes and of this one; no more than there are.

    Raises:
        UserError: they do not divide among the processes.
    """
    refuse_uneven(wanted, world.size)
    whole = min(wanted, images - images % world.size)
    if not whole:
        raise UserError(f"{images} training images for {world.size} processes")
    return whole, whole // world.size
