"""What a hypernet makes of images (model=hypersiren): which layers differ, and what lies between two latents.

seen = read_images(load_run("outputs/digits/hypersiren-s0-..."))
seen.spread["layers.0.weight"].ratio
seen.lines[0].psnr  # dB against the two images, along the line between their latents
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperrun.analyze.task_weights import Line, Spread, spread_over_tasks
from hyperrun.data import load_images
from hyperrun.data.images import Split
from hyperrun.data.kinds import ImageData
from hyperrun.errors import UserError
from hyperrun.hypernets.generated_statistics import evenly
from hyperrun.load import LoadedRun
from hyperrun.tasks.image_fitting import all_pixels, colours_of, hypernet_of, psnr

MOST_IMAGES = 200
"""Training images whose weights are compared; of more, so many spread over all."""

PAIRS = 4
"""Pairs of training images between whose latents there is a line."""

POINTS = 9
"""Of such a line, both ends among them."""


@dataclass(frozen=True)
class ImageLine(Line):
    """What is drawn along the straight line between the latents of two training images."""

    images: tuple[int, int]
    """Their numbers in the training split."""
    wanted: Tensor
    """The images themselves, float32 [2, side, side, C] in [0, 1]."""
    drawn: Tensor
    """float32 [POINTS, side, side, C], clipped to [0, 1]."""
    psnr: Tensor
    """Of what is drawn against the first image and against the second, in dB, float64 [2, POINTS]."""

    @property
    def figures(self) -> Tensor:
        return self.psnr


@dataclass(frozen=True)
class ImageWeights:
    """All that is seen in one run."""

    count: int
    """Training images whose weights were compared."""
    known: int
    """Training images."""
    latent_size: int
    weight_count: int
    """Numbers that the hypernet makes for one image."""
    spread: dict[str, Spread]
    """Over the images, of each generated tensor."""
    shapes: dict[str, list[int]]
    lines: list[ImageLine]


@torch.no_grad()
def read_images(run: LoadedRun) -> ImageWeights:
    """Return all that is seen in a run with two training images or more, whose model `with_latents` made.

    In float32, as its evaluation is.

    Raises:
        UserError: the data set is missing, damaged or no longer the one that the run learned from.
    """
    hypernet = hypernet_of(run.model)
    latents = hypernet.embedding.weight.detach()
    train = training_images(run)
    weights = hypernet(latents[evenly(len(latents), MOST_IMAGES).to(latents.device)])
    chosen = evenly(len(latents), 2 * PAIRS)
    chosen = chosen[: len(chosen) // 2 * 2].view(-1, 2)
    lines = []
    for pair in chosen:
        wanted = colours_of(train.fetch(pair).to(latents.device))
        lines.append(line_between(run.model, (int(pair[0]), int(pair[1])), wanted))
    return ImageWeights(
        min(len(latents), MOST_IMAGES),
        len(latents),
        latents.shape[1],
        sum(value[0].numel() for value in weights.values()),
        spread_over_tasks(weights),
        {name: list(value.shape[1:]) for name, value in weights.items()},
        lines,
    )


def training_images(run: LoadedRun) -> Split:
    """Return the images that a run's latents are of.

    Raises:
        UserError: the data set is missing, damaged or no longer the one that the run learned from.
    """
    assert isinstance(run.config.data, ImageData)
    data = load_images(run.config.data, run.images)
    if run.images is not None and not run.images.same(data, "train"):
        raise UserError(f"the training images of data={data.name} have changed: the run's latents are of those before")
    return data.train


@torch.no_grad()
def line_between(model: nn.Module, images: tuple[int, int], wanted: Tensor) -> ImageLine:
    """Return what a model draws between the latents of two training images; wanted: these, [2, side * side, C]."""
    latents = hypernet_of(model).embedding.weight
    at = torch.linspace(0, 1, POINTS, device=latents.device).unsqueeze(1)
    line = torch.lerp(latents[images[0]], latents[images[1]], at)
    drawn = model(all_pixels(wanted[:1]).expand(POINTS, -1, -1), line).float()
    decibels = torch.stack([psnr(drawn, one.expand_as(drawn)) for one in wanted])
    side = math.isqrt(wanted.shape[1])
    squares = [part.clamp(0, 1).unflatten(1, (side, side)).cpu() for part in (wanted, drawn)]
    return ImageLine(images, squares[0], squares[1], decibels.double().cpu())
