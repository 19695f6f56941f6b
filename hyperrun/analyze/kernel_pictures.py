"""Generated kernels as images beside those learned directly (figures 2, 12 and 13 of Ha et al.)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Picture
from torch import Tensor

from hyperrun.pictures.parts import SIGNED_MAP, fill, panels, styled, title, wrapped
from hyperrun.pictures.style import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LAYERS = 4
"""Layers drawn of a deep network, evenly chosen."""

MOST_BESIDE = 4
"""Runs whose kernels stand beside each other; those of more stand in several rows, about equally long."""

MOST_CHANNELS = 32
"""Of each kind that are drawn of a kernel, as many as the paper's largest picture has."""

MOST_NUMBERS = 256
"""Rows and columns that are drawn of a matrix."""

FULL = 0.995
"""Quantile of the absolute values at which a colour is full."""


WIDTH = 4.4
"""Of a panel, in inches."""

BAR = 0.9
"""Least height of a bar of colours, in inches."""

Numbered = tuple[str, int]
"""What stands along an axis, and how many of them."""


@dataclass(frozen=True)
class Kernel:
    """A weight to draw."""

    label: str
    """Whose it is: the run."""
    name: str
    weight: Tensor
    """[out, in, *spatial], [out, in], or any other shape, which is drawn as a matrix."""
    generated: bool


Blocks = Sequence[Sequence[Sequence[Kernel]]]
"""Groups of runs with the same tensors -> layers -> kernels, one for each run of the group."""


def chosen_layers(names: Sequence[str]) -> list[str]:
    """Return at most MOST_LAYERS of the names, the first and the last among them."""
    return spread(list(names), MOST_LAYERS)


def arranged(blocks: Blocks) -> list[list[Kernel]]:
    """Return the rows in which the kernels stand: all of one layer beside each other, as many layers as find room.

    There are as many columns as the block of most runs needs (but no more than MOST_BESIDE), or two or three of fewer
    runs: whatever leaves the fewest places empty.
    """
    most = max(len(layer) for block in blocks for layer in block)
    widest = math.ceil(most / math.ceil(most / MOST_BESIDE))
    count = sum(len(layer) for block in blocks for layer in block)
    choices = []
    for columns in range(max(widest, min(count, 2)), max(widest, min(count, 3)) + 1):
        rows = []
        for block in blocks:
            at_once = max(1, columns // len(block[0]))
            for n in range(0, len(block), at_once):
                line = [kernel for layer in block[n : n + at_once] for kernel in layer]
                rows += [line[start : start + columns] for start in range(0, len(line), columns)]
        empty = sum(max(map(len, rows)) - len(row) for row in rows)
        choices.append((empty, len(rows), rows))
    return min(choices, key=lambda choice: choice[:2])[2]


@styled
def draw_kernels(blocks: Blocks) -> Picture:
    """Return a picture of kernels, for each group of runs a block of rows, in which a layer's kernels stand together.

    The kernels of one layer have one scale, so that equal colours are equal weights; it ends at the 99.5th percentile
    of the absolute values, of the run where that is largest, or a few outliers would leave the rest pale. Every kernel
    stands in the row of its output channel and the column of its input channel; of more than 32 channels the first 32
    are drawn. What is not finite is black.
    """
    rows = arranged(blocks)
    scales = {
        id(kernel): max(full_at(one.weight) for one in layer) or 1.0
        for block in blocks
        for layer in block
        for kernel in layer
    }
    images = [[tiled(kernel.weight.detach().float().cpu()) for kernel in row] for row in rows]
    heights = [
        max(panel_height(kernel, image) for kernel, (image, *_) in zip(row, found, strict=True))
        for row, found in zip(rows, images, strict=True)
    ]
    figure, places = panels(
        len(rows), max(map(len, rows)), WIDTH, sum(heights) / len(rows), height_ratios=heights
    )  # fmt: skip
    for cells, row, pictures in zip(places, rows, images, strict=True):
        for panel, (kernel, image) in fill([cells], list(zip(row, pictures, strict=True))):
            draw_kernel(panel, kernel, scales[id(kernel)], *image)
    return figure


def full_at(weight: Tensor) -> float:
    """Return the absolute value at which a colour would be full for what is drawn of this weight alone."""
    image = tiled(weight.detach().float().cpu())[0]
    finite = image[image.isfinite()]
    return float(finite.double().abs().quantile(FULL)) if len(finite) else 0.0


def panel_height(kernel: Kernel, image: Tensor) -> float:
    """Return how high a panel is in inches, with its title and what stands below."""
    lines = wrapped(title_of(kernel), WIDTH).count("\n") + 1
    return 0.9 + 0.17 * lines + max(BAR, drawn_size(image)[1])


def drawn_size(image: Tensor) -> tuple[float, float]:
    """Return the width and the height of an image in inches, about as it will be drawn."""
    height, width = image.shape
    largest = WIDTH - 1.3  # beside it are numbers and the bar of colours
    return largest * min(1.0, width / height), largest * min(1.0, height / width)


def title_of(kernel: Kernel) -> str:
    """Return whose a kernel is, how it was made, its shape, and how much of it is not finite."""
    shape = " x ".join(str(n) for n in kernel.weight.shape)
    drawn = without_single(kernel.weight)
    most = MOST_CHANNELS if drawn.ndim > 2 else MOST_NUMBERS
    if is_long_vector(drawn):
        shape += f" (the first {MOST_NUMBERS**2:,})" if drawn.numel() > MOST_NUMBERS**2 else ""
    elif max(drawn.shape[:2]) > most:
        shape += f" (of each the first {most})"
    how = "generated" if kernel.generated else "learned directly"
    text = f"{kernel.label}\n{kernel.name}, {how}\n{shape}"
    count, bad = kernel.weight.numel(), int((~kernel.weight.isfinite()).sum())
    if bad:
        where = "black" if broken_pixels(kernel).any() else "not drawn"
        text += f"\nnot finite{f': {bad:,} of {count:,} weights' if bad < count else ''} ({where})"
    return text


def broken_pixels(kernel: Kernel) -> np.ndarray:
    """Return which pixels of a kernel's image stand for weights that are not finite, bool [height, width]."""
    return tiled((~kernel.weight.detach().cpu().isfinite()).float())[0].numpy() == 1


def draw_kernel(
    panel: Axes, kernel: Kernel, largest: float, image: Tensor, across: Numbered, down: Numbered, cell: int
) -> None:
    """Draw what `tiled` made of one kernel, with a bar of colours from -largest to largest beside it."""
    panel.set_anchor("NW")  # a tall kernel begins where its title begins
    panel.grid(False)
    for side in panel.spines.values():
        side.set_visible(False)
    inches = drawn_size(image)
    for axis, (what, numbers), length in zip((panel.xaxis, panel.yaxis), (across, down), inches, strict=True):
        axis.set_label_text(what, fontsize=8)
        if not numbers:
            axis.set_ticks([])
            continue
        most = min(8, max(1, length / 0.25))
        every = 2 ** math.ceil(math.log2(max(1, numbers / most)))
        axis.set_ticks([cell * n + (cell - 2) / 2 if cell > 1 else n for n in range(0, numbers, every)])
        axis.set_ticklabels([str(n) for n in range(0, numbers, every)], fontsize=7)
        axis.set_tick_params(length=0)
    finite, broken = image[image.isfinite()], broken_pixels(kernel)
    colours = matplotlib.colormaps[SIGNED_MAP].with_extremes(bad="#ffffff")
    drawn = panel.imshow(image.numpy(), cmap=colours, vmin=-largest, vmax=largest, interpolation="nearest")
    if broken.any():
        shown = np.where(broken, 1.0, np.nan)
        panel.imshow(shown, cmap=ListedColormap(["#000000"]), interpolation="nearest")
    if len(finite):
        aside, high = (WIDTH - 1.3) / inches[0], max(0.8, BAR / inches[1])  # what is an inch of a small image
        place = (1 + 0.03 * aside, min(0.1, 1 - high), 0.035 * aside, high)
        bar = panel.figure.colorbar(drawn, cax=panel.inset_axes(place), extend="both")  # type: ignore[union-attr]
        bar.ax.tick_params(labelsize=7)
        bar.set_label("weight", fontsize=8)
        bar.outline.set_visible(False)  # type: ignore[operator]
    title(panel, title_of(kernel))


def without_single(weight: Tensor) -> Tensor:
    """Return a weight of three dimensions without the first of them if that has one entry: it is a matrix then."""
    return weight[0] if weight.ndim == 3 and len(weight) == 1 else weight


def is_long_vector(weight: Tensor) -> bool:
    """Return whether a weight of at most two dimensions is a single row or column that is longer than a picture's."""
    return weight.ndim < 3 and max(weight.shape, default=1) == weight.numel() > MOST_CHANNELS


def tiled(weight: Tensor) -> tuple[Tensor, Numbered, Numbered, int]:
    """Return the image of a weight, what and how many stand across and down in it, and the pixels from one to the next.

    The image is float [height, width], NaN between kernels. How many is 0 where a number would say nothing. A long
    vector (a class token, [1, 1, 768]) is broken into lines: a strip of one pixel would not be seen.
    """
    weight = without_single(weight)
    if is_long_vector(weight):
        numbers = weight.flatten()[: MOST_NUMBERS**2]
        columns = math.ceil(math.sqrt(len(numbers)))
        lines = torch.cat([numbers, numbers.new_full((-len(numbers) % columns,), torch.nan)]).view(-1, columns)
        return lines, (f"{len(numbers):,} numbers, line by line", 0), ("", 0), 1
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
