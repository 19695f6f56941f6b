"""Generated kernels as images beside those learned directly (figures 2, 12 and 13 of Ha et al.)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import torch
from matplotlib.figure import Figure as Picture
from torch import Tensor

from hyperrun.analysis.picture_parts import SIGNED_MAP, grid_of, panels, styled, title
from hyperrun.analysis.plot import spread

MOST_LAYERS = 4
"""Layers drawn of a deep network, evenly chosen."""

MOST_CHANNELS = 32
"""Of each kind that are drawn of a kernel, as many as the paper's largest picture has."""

MOST_NUMBERS = 256
"""Rows and columns that are drawn of a matrix."""

FULL = 0.995
"""Quantile of the absolute values at which a colour is full."""


@dataclass(frozen=True)
class Kernel:
    """A weight to draw."""

    label: str
    """Whose it is: the run."""
    name: str
    weight: Tensor
    """[out, in, *spatial], [out, in], or any other shape, which is drawn as a matrix."""
    generated: bool


def chosen_layers(names: Sequence[str]) -> list[str]:
    """Return at most MOST_LAYERS of the names, the first and the last among them."""
    return spread(list(names), MOST_LAYERS)


@styled
def draw_kernels(rows: Sequence[Sequence[Kernel | None]]) -> Picture:
    """Return a picture of kernels: a row for each layer, a column for each run; None leaves a place empty.

    Where there is one column, the panels stand side by side. Each panel has a scale of its own, since kernels of equal
    structure may differ in size; it ends at the 99.5th percentile of the absolute values, or a few outliers would leave
    the rest pale. Every kernel stands in the row of its output channel and the column of its input
    channel; of more than 32 channels the first 32 are drawn.
    """
    single = len(rows[0]) == 1
    count_rows, columns = grid_of(len(rows)) if single else (len(rows), len(rows[0]))
    figure, places = panels(count_rows, columns, 4.2, 4.2)
    cells = [place for row in places for place in row]
    kernels = [kernel for row in rows for kernel in row]
    for panel in cells:
        panel.set_axis_off()
    colours = matplotlib.colormaps[SIGNED_MAP].with_extremes(bad="#ffffff")
    for panel, kernel in zip(cells, kernels, strict=False):
        if kernel is None:
            continue
        panel.set_axis_on()
        panel.set_anchor("W")  # a tall kernel begins where its title begins
        panel.grid(False)
        for side in panel.spines.values():
            side.set_visible(False)
        image, across, down, cell = tiled(kernel.weight.detach().float().cpu())
        largest = float(image[~image.isnan()].abs().quantile(FULL)) or 1.0
        drawn = panel.imshow(image.numpy(), cmap=colours, vmin=-largest, vmax=largest, interpolation="nearest")
        bar = figure.colorbar(drawn, ax=panel, shrink=0.8, pad=0.02, extend="both", panchor=False)
        bar.ax.tick_params(labelsize=7)
        bar.set_label("weight", fontsize=8)
        bar.outline.set_visible(False)  # type: ignore[operator]
        for axis, (what, numbers) in ((panel.xaxis, across), (panel.yaxis, down)):
            axis.set_label_text(what, fontsize=8)
            if not numbers:
                axis.set_ticks([])
                continue
            every = 2 ** math.ceil(math.log2(max(1, numbers / 8)))
            axis.set_ticks([cell * n + (cell - 2) / 2 if cell > 1 else n for n in range(0, numbers, every)])
            axis.set_ticklabels([str(n) for n in range(0, numbers, every)], fontsize=7)
            axis.set_tick_params(length=0)
        shape = " x ".join(str(n) for n in kernel.weight.shape)
        how = "generated" if kernel.generated else "learned directly"
        most = MOST_CHANNELS if kernel.weight.ndim > 2 else MOST_NUMBERS
        if max(kernel.weight.shape[:2]) > most:
            shape += f" (of each the first {most})"
        title(panel, f"{kernel.label}\n{kernel.name}, {how}\n{shape}")
    return figure


def tiled(weight: Tensor) -> tuple[Tensor, tuple[str, int], tuple[str, int], int]:
    """Return the image of a weight, what and how many stand across and down in it, and the pixels from one to the next.

    The image is float [height, width], NaN between kernels. How many is 0 where a number would say nothing.
    """
    if weight.ndim < 3:
        matrix = weight if weight.ndim == 2 else weight.reshape(1, -1)
        matrix = matrix[:MOST_NUMBERS, :MOST_NUMBERS]
        return matrix, ("column", matrix.shape[1]), ("row", matrix.shape[0]), 1
    kernels = weight.flatten(4)[..., 0] if weight.ndim > 4 else weight  # of a volume the first layer
    kernels = kernels if kernels.ndim == 4 else kernels.unsqueeze(-1)
    kernels = kernels[:MOST_CHANNELS, :MOST_CHANNELS]
    across, down = "input channel", "output channel"
    if kernels.shape[1] == 1:  # one column of many kernels: they go into a square
        out = len(kernels)
        columns = math.ceil(math.sqrt(out))
        lacking = -out % columns
        empty = kernels.new_full((lacking, *kernels.shape[1:]), torch.nan)
        kernels = torch.cat([kernels, empty]).view(-1, columns, *kernels.shape[2:])
        across, down = f"{out} output channels, line by line", ""
    elif kernels.shape[1] < len(kernels) / 2:  # a few columns: they lie down
        kernels = kernels.transpose(0, 1)
        across, down = down, across
    rows, columns, height, width = kernels.shape
    gap = 1 if max(height, width) > 1 else 0
    framed = torch.nn.functional.pad(kernels, (0, gap, 0, gap), value=math.nan)
    image = framed.transpose(1, 2).reshape(rows * (height + gap), columns * (width + gap))
    image = image[: image.shape[0] - gap, : image.shape[1] - gap]
    count = (0, 0) if not down else (columns, rows)
    return image, (across, count[0]), (down, count[1]), max(height, width) + gap
