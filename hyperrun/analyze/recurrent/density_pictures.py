"""What a model expected of each next point of held-out pen strokes: where it lies, and whether the pen is lifted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure as Picture

from hyperrun.analyze.recurrent.density_map import DensityMap
from hyperrun.pictures.parts import COLOURS, TITLE_SIZE, panels, styled, wrapped
from hyperrun.pictures.pen import positions, strokes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 10.0
"""Inches of the picture."""

ASPECTS = (3.0, 1.2)
"""Width over height down to which sequences have the whole width, and half of it; narrower ones have a quarter."""

PEN_HEIGHT, AROUND = 0.6, 0.35
"""Inches of a panel of the pen, and of what stands around the panels of a sequence."""

FULL, STEEPNESS = 0.995, 0.5
"""Quantile of the pixels that are not empty at which the colour is full, and the exponent of the scale of colours."""

HEAT_MAP, LIFTED = "gist_heat_r", "#bdbdbd"

ABOUT = (
    "From above: what was written; the probability that the next point lies there, summed over the points (square "
    f"root, full at the {FULL:.1%} quantile); the probability that the pen is lifted after the next point."
)


@dataclass(frozen=True)
class Expected:
    """A sequence, and what was expected of each of its points but the first."""

    label: str
    points: np.ndarray
    """float [n, 3]: dx, dy, pen up; in units of the page."""
    density: DensityMap
    """Where each next point was expected."""
    pen: np.ndarray
    """float [n - 1]: probability that the pen is lifted after the point."""


@styled
def draw_expected(name: str, sequences: Sequence[Expected]) -> Picture:
    """Return a picture of sequences: of each the line, where its points were expected, and where a lift of the pen was.

    name: of the model and what it read.
    """
    aspect = float(np.median([one.density.mass.shape[1] / one.density.mass.shape[0] for one in sequences]))
    columns = min(len(sequences), 1 if aspect > ASPECTS[0] else 2 if aspect > ASPECTS[1] else 4)
    rows, width = math.ceil(len(sequences) / columns), WIDTH / columns
    high = (width - 0.5) / aspect
    figure, places = panels(
        3 * rows, columns, width, (2 * high + PEN_HEIGHT + AROUND) / 3 + 0.2,
        gridspec_kw={"height_ratios": [high, high, PEN_HEIGHT] * rows},
    )  # fmt: skip
    cells = [column for row in range(rows) for column in zip(*places[3 * row : 3 * row + 3], strict=True)]
    for panel in (panel for cell in cells[len(sequences) :] for panel in cell):
        panel.set_axis_off()
    for (line, heat, pen), one in zip(cells, sequences, strict=False):
        line.set_title(wrapped(one.label, width), loc="left", parse_math=False, fontsize=8, fontweight="normal")
        draw_line(line, one)
        draw_heat(heat, one.density)
        draw_lifts(pen, one)
    for panel in places[-1]:
        panel.set_xlabel("point", fontsize=7)
    figure.legend(*cells[0][2].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=7)
    figure.suptitle(f"{name}\n{wrapped(ABOUT, WIDTH)}", fontsize=TITLE_SIZE, x=0.01, ha="left", parse_math=False)
    return figure


def draw_line(panel: Axes, one: Expected) -> None:
    """Draw what was written, where the heat map below has it."""
    places = positions(one.points)
    for stroke in strokes(one.points):
        panel.plot(*places[stroke].T, "-" if len(stroke) > 1 else ".", color="black", linewidth=0.9, markersize=2)
    left, right, bottom, top = one.density.extent
    panel.set_xlim(left, right)
    panel.set_ylim(bottom, top)
    panel.set_aspect("equal")
    panel.set_axis_off()


def draw_heat(panel: Axes, density: DensityMap) -> None:
    """Draw the densities, dark where they are large."""
    some = density.mass[density.mass > 0]
    scale = PowerNorm(STEEPNESS, 0, float(np.quantile(some, FULL)) if len(some) else 1.0, clip=True)
    panel.imshow(density.mass, HEAT_MAP, norm=scale, extent=density.extent, interpolation="nearest")
    panel.set_axis_off()


def draw_lifts(panel: Axes, one: Expected) -> None:
    """Draw how likely a lift of the pen was held to be after each point, and where there was one."""
    points = np.arange(2, len(one.points) + 1)
    lifted = one.points[1:, 2] > 0.5
    panel.vlines(points[lifted], 0, 1, colors=LIFTED, linewidths=1.2, label="pen lifted")
    panel.plot(points, one.pen, color=COLOURS[0], linewidth=0.9, label="expected")
    panel.set_xlim(1, len(one.points))
    panel.set_ylim(0, 1.04)
    panel.set_yticks([0, 1])
    panel.set_ylabel("pen up", fontsize=7)
    panel.tick_params(labelsize=7)
