"""Rows of images with a label each, as a PNG in which every pixel of an image is a whole number of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from hyperrun.errors import UserError
from hyperrun.pictures.style import DPI, picture

SMALLEST = 48
"""Pixels an image's side has at least in the picture: two lines of a label fit beside it."""
LABELS = 210
"""Pixels that the labels take on the left."""
GAP, GROUP_GAP = 4, 16
"""Pixels between images, and between rows that show different things."""
MOST_PIXELS = 100_000_000
"""Of a whole picture."""


@dataclass(frozen=True)
class Row:
    """Images side by side."""

    label: str
    """One line or two."""
    images: np.ndarray
    """uint8 [n, side, side, 3]."""
    new_group: bool = True
    """Whether it shows something else than the row above."""


def zoom_of(side: int) -> int:
    """Return how many pixels of the picture each pixel of an image takes along an axis."""
    return -(-SMALLEST // side)


def size_of(side: int, columns: int, starts_group: Sequence[bool]) -> tuple[int, int]:
    """Return (width, height) in pixels of a picture with rows of `columns` images of this side.

    Raises:
        UserError: it would be too large.
    """
    cell = side * zoom_of(side) + GAP
    width, height = LABELS + columns * cell, GAP + len(starts_group) * cell + GROUP_GAP * sum(starts_group[1:])
    if width * height > MOST_PIXELS:
        raise UserError(
            f"a picture of {width} x {height} pixels is too large: a lower --resolution or fewer --columns "
            f"(at most {MOST_PIXELS:,} pixels)"
        )
    return width, height


def draw_rows(rows: Sequence[Row]) -> bytes:
    """Return the picture as the bytes of a png file. All images have the same side."""
    side = rows[0].images.shape[1]
    zoom = zoom_of(side)
    columns = max(len(row.images) for row in rows)
    width, height = size_of(side, columns, [row.new_group for row in rows])
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    figure = Picture(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    top = GAP
    for number, row in enumerate(rows):
        top += GROUP_GAP if number and row.new_group else 0
        large = row.images.repeat(zoom, 1).repeat(zoom, 2)
        for column, image in enumerate(large):
            left = LABELS + column * (side * zoom + GAP)
            canvas[top : top + side * zoom, left : left + side * zoom] = image
        middle = 1 - (top + side * zoom / 2) / height
        figure.text((LABELS - 12) / width, middle, row.label, ha="right", va="center", fontsize=8, linespacing=1.1)
        top += side * zoom + GAP
    figure.figimage(canvas, origin="upper")
    return picture(figure, "png")
