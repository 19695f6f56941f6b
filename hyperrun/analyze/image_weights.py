"""What a hypernet makes of images (model=hypersiren): which layers differ, and what lies between two latents.

seen = read_images(load_run("outputs/digits/hypersiren-s0-..."))
seen.spread["layers.0.weight"].ratio
seen.lines[0].psnr  # dB against the two images, along the line between their latents
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure as Picture
from torch import Tensor, nn

from hyperrun.analyze.task_weights import Line, Spread, positions, spread_over_tasks
from hyperrun.data import load_images
from hyperrun.data.kinds import ImageData
from hyperrun.hypernets.generated_statistics import evenly
from hyperrun.load import LoadedRun
from hyperrun.pictures.parts import COLOURS, panels, styled, title
from hyperrun.tasks.image_fitting import all_pixels, colours_of, hypernet_of, psnr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
        UserError: the data set is missing or damaged.
    """
    assert isinstance(run.config.data, ImageData)
    hypernet = hypernet_of(run.model)
    latents = hypernet.embedding.weight.detach()
    train = load_images(run.config.data).train
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


@styled
def draw_image_lines(found: Mapping[str, ImageWeights]) -> Picture:
    """Return for each pair of each run the images between the two, these beside them, and the PSNR against both."""
    rows = sum(len(seen.lines) for seen in found.values())
    figure, places = panels(rows, 2, 5.6, 1.9, width_ratios=[2.6, 1])
    lines = [(label, n, line) for label, seen in found.items() for n, line in enumerate(seen.lines)]
    for (strip, curve), (label, n, line) in zip(places, lines, strict=True):
        first, second = line.images
        draw_strip_of_images(strip, line)
        title(strip, (f"{label}\n" if n == 0 else "") + f"from training image {first} to {second}")
        at = positions(POINTS).numpy()
        for values, number, colour, style in (
            (line.psnr[0], "on the left", COLOURS[0], "-o"),
            (line.psnr[1], "on the right", COLOURS[1], "--^"),
        ):
            curve.plot(at, values.numpy(), style, color=colour, markersize=3, label=f"against the image {number}")
        curve.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        curve.set_ylabel("PSNR (dB)")
    for panel in places[-1]:
        panel.set_xlabel("position on the line between the two latents")
    artists, texts = places[0][1].get_legend_handles_labels()
    figure.legend(artists, texts, loc="outside lower right", ncols=2)
    return figure


def draw_strip_of_images(panel: Axes, line: ImageLine) -> None:
    """Draw the first image, what is made along the line, and the second image, side by side."""
    side, gap = line.drawn.shape[1], max(1, line.drawn.shape[1] // 8)
    pieces = [line.wanted[0], *line.drawn, line.wanted[1]]
    # a wider gap sets the images themselves apart
    starts = [0, *(side + 3 * gap + n * (side + gap) for n in range(len(line.drawn)))]
    starts.append(starts[-1] + side + 3 * gap)
    canvas = torch.ones(side, starts[-1] + side, 3)
    for start, piece in zip(starts, pieces, strict=True):
        canvas[:, start : start + side] = piece.expand(-1, -1, 3)
    panel.imshow(canvas.nan_to_num(0).numpy(), interpolation="nearest")
    panel.grid(False)
    for spine in panel.spines.values():
        spine.set_visible(False)
    names = ["image", *(f"{at:.2g}" for at in positions(POINTS).tolist()), "image"]
    panel.set_xticks([start + (side - 1) / 2 for start in starts], names, fontsize=7)
    panel.set_yticks([])
    panel.tick_params(length=0)
