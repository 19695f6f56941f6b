"""Pictures of what a hypernet makes of images: what lies between the latents of two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure as Picture

from hyperrun.analyze.image_weights import POINTS, ImageLine, ImageWeights
from hyperrun.analyze.task_weights import positions
from hyperrun.pictures.parts import COLOURS, panels, styled, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
