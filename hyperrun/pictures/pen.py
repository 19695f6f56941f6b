"""Pen strokes as pictures: coloured by time, nothing drawn where the pen is lifted, and strips of values below.

A sequence is float [n, 3]: dx and dy from the point before, and pen up, 1 where the pen is lifted after the point. The
first offset leads to where the pen is put down first, so it is not drawn. y grows downwards, as in the data of
handwriting and of sketches.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import matplotlib
import numpy as np
from matplotlib.colors import to_hex, to_rgb

from hyperrun.pictures.parts import COLOURS, wrapped
from hyperrun.pictures.sheet import Hit, Sheet, Word

PAGE = 10.0
"""Inches of a picture's width."""

MARGIN = 0.3

LETTERS = 155
"""Of a line of the explanations, as wide as the page."""

TALLEST, LOWEST = 1.6, 0.25
"""Inches that a sequence is high at most, and that are kept for one at least."""

NARROWEST, SMALLER = 2.2, 0.7
"""Inches of a column, with the space beside it: narrow sequences stand side by side; and how much smaller than TALLEST
makes them they may become for that."""

LABEL, ROW, GAP = 0.24, 0.1, 0.16
"""Inches of height: of a sequence's label, of a row of its strip, between sequences."""

COLUMN = 0.02
"""Inches of a strip's x axis that have one value: the largest of those of the points there."""

LEVELS = 10
"""Shades of a strip."""

SHADES = 32
"""Colours of time in a sequence."""

TIME_MAP, LATEST = "viridis", 0.88
"""The end of the map, yellow, is hard to see on white."""

EMPTY = "#f2f2f2"
"""Of a strip where nothing is, or 0."""


@dataclass(frozen=True)
class Drawing:
    """A sequence and what is shown with it."""

    points: np.ndarray
    """float [n, 3]: dx, dy, pen up; in the units of the page, so not normalized. n >= 1."""
    label: str = ""
    rows: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name of a row of the strip -> values from 0 to 1 [n], one for each point; NaN counts as 0."""
    said: Sequence[str] = ()
    """What the pointer shows on each point's column of the strip, n texts; in SVG only."""


def positions(points: np.ndarray) -> np.ndarray:
    """Return where the pen is at each point of a sequence [n, 3]: float64 [n, 2]."""
    return np.cumsum(np.asarray(points, dtype=np.float64)[:, :2], axis=0)


def strokes(points: np.ndarray) -> list[np.ndarray]:
    """Return the numbers of the points of each stroke, in order: int [k] with k >= 1; a stroke of one is a dot."""
    lifts = np.flatnonzero(np.asarray(points)[:-1, 2] > 0.5)
    return np.split(np.arange(len(points)), lifts + 1)


def finite_part(points: np.ndarray) -> np.ndarray:
    """Return the points [n, 3] before the first that is not finite."""
    broken = np.flatnonzero(~np.isfinite(points).all(axis=1))
    return points[: broken[0]] if len(broken) else points


def time_colour(part: float) -> str:
    """Return the colour of a time from 0, the first point, to 1, the last one."""
    return to_hex(matplotlib.colormaps[TIME_MAP](part * LATEST))


def row_colour(row: int) -> str:
    return COLOURS[row]


# ---------------------------------------------------------------- layout


def draw_pen(
    drawings: Sequence[Drawing], title: str = "", about: Sequence[str] = (), legend: Sequence[str] = ()
) -> Sheet:
    """Return a sheet with the sequences below each other, narrow ones side by side, each with its strip below it.

    All have one scale, at which at least half of them fit their places; one that is larger, because it ran away
    perhaps, has a smaller scale of its own. All of a sequence lies inside the sheet.

    drawings: at least one. about: sentences below the title. legend: what the rows of the strips are, in their order.
    """
    places = [positions(drawing.points) for drawing in drawings]
    extents = np.array([np.ptp(place, axis=0) for place in places])
    columns = columns_for(extents)
    width = (PAGE - MARGIN) / columns - MARGIN
    scales = scales_for(extents, width)
    sheet = Sheet(PAGE, 0.0, line_width=1.2 if columns == 1 else 1.5)
    bottom = write_head(sheet, title, about, legend)
    for first in range(0, len(drawings), columns):
        bottom = max(
            place_drawing(sheet, drawings[n], places[n], scales[n], MARGIN + (n - first) * (width + MARGIN), bottom)
            for n in range(first, min(first + columns, len(drawings)))
        )
    sheet.height = bottom
    return sheet


def columns_for(extents: np.ndarray) -> int:
    """Return how many sequences of these widths and heights [n, 2] stand side by side."""
    aspect = np.median(extents[:, 0] / np.maximum(extents[:, 1], 1e-9 + extents.max() * 1e-3))
    wanted = max(NARROWEST, SMALLER * aspect * TALLEST + MARGIN)
    return max(1, min(len(extents), math.floor((PAGE - MARGIN) / wanted)))


def scales_for(extents: np.ndarray, width: float) -> np.ndarray:
    """Return inches per unit of each sequence: what fits, and not more than what fits the median one. [n]."""
    with np.errstate(divide="ignore"):
        fitting = np.minimum(width / extents[:, 0], TALLEST / extents[:, 1])
    some = fitting[np.isfinite(fitting)]
    return np.minimum(fitting, np.median(some)) if len(some) else np.ones(len(fitting))  # else: nothing but dots


def write_head(sheet: Sheet, title: str, about: Sequence[str], legend: Sequence[str]) -> float:
    """Write title, explanations and legends; return where the sequences begin."""
    y = 0.28
    for line in wrapped(title, PAGE - MARGIN).splitlines():
        sheet.words.append(Word(MARGIN, y, line, 10, bold=True))
        y += 0.19
    for line in (line for text in about for line in textwrap.wrap(text, LETTERS)):
        sheet.words.append(Word(MARGIN, y, line))
        y += 0.165
    step = 0.03
    for shade in range(SHADES):
        left = MARGIN + shade * step
        sheet.bars.append((time_colour(shade / (SHADES - 1)), left, y - 0.08, left + step, y))
    sheet.words.append(Word(MARGIN + SHADES * step + 0.08, y, "from the first point to the last", 7.5))
    x = PAGE
    for row, text in enumerate(legend):
        needed = 0.25 + 0.063 * len(text)
        if x + needed > PAGE - MARGIN:
            x, y = MARGIN, y + 0.17
        sheet.bars.append((row_colour(row), x, y - 0.08, x + 0.12, y))
        sheet.words.append(Word(x + 0.17, y, text, 7.5))
        x += needed
    return y + GAP


def place_drawing(sheet: Sheet, drawing: Drawing, place: np.ndarray, scale: float, left: float, top: float) -> float:
    """Put a sequence with its label and strip on the sheet; return where it ends, with the gap below it."""
    if drawing.label:
        sheet.words.append(Word(left, top + 0.12, drawing.label, 7.5))
        top += LABEL
    low, extent = place.min(axis=0), np.ptp(place, axis=0) * scale
    inches = (place - low) * scale + (left, top + max(0.0, LOWEST - extent[1]) / 2)
    add_strokes(sheet, drawing.points, inches)
    bottom = top + max(LOWEST, extent[1]) + 0.08
    for row, (name, values) in enumerate(drawing.rows.items()):
        sheet.words.append(Word(left - 0.05, bottom + ROW * 0.75, name, 6.5, colour=row_colour(row), align="right"))
        add_row(sheet, row_colour(row), inches[:, 0], values, bottom, bottom + ROW * 0.85)
        bottom += ROW
    for n, text in enumerate(drawing.said):
        height = ROW * max(1, len(drawing.rows))
        sheet.hits.append(Hit(inches[n, 0] - COLUMN / 2, bottom - height, COLUMN, height, text))
    return bottom + GAP


def add_strokes(sheet: Sheet, points: np.ndarray, inches: np.ndarray) -> None:
    """Draw each stroke of a sequence, its segments in the colours of their times. inches: of each point, [n, 2]."""
    shade = np.arange(len(points)) * (SHADES - 1) // max(1, len(points) - 1)
    colours = [time_colour(number / (SHADES - 1)) for number in range(SHADES)]
    for stroke in strokes(points):
        if len(stroke) == 1:
            x, y = inches[stroke[0]].tolist()
            sheet.dots.append((colours[shade[stroke[0]]], x, y))
        for part in parts_of_one_shade(shade[stroke[1:]]):
            colour = colours[shade[stroke[1 + part[0]]]]
            sheet.lines.append((colour, inches[stroke[part[0] : part[-1] + 2]]))


def parts_of_one_shade(shades: np.ndarray) -> list[np.ndarray]:
    """Return the numbers of the segments of a stroke in runs of one shade [segments]."""
    runs = np.split(np.arange(len(shades)), np.flatnonzero(np.diff(shades)) + 1)
    return [run for run in runs if len(run)]


def add_row(sheet: Sheet, colour: str, x: np.ndarray, values: np.ndarray, top: float, bottom: float) -> None:
    """Draw a row of a strip: at each place along x, in columns, the largest of the values of the points there."""
    start = float(x.min())
    column = ((x - start) / COLUMN).astype(int)
    level = np.zeros(column.max() + 1)
    np.maximum.at(level, column, np.nan_to_num(values).clip(0, 1))
    level = np.rint(level * LEVELS).astype(int)
    borders = [0, *(np.flatnonzero(np.diff(level)) + 1).tolist(), len(level)]
    for begin, end in pairwise(borders):
        shade = mixed(colour, level[begin] / LEVELS)
        sheet.bars.append((shade, start + COLUMN * begin, top, start + COLUMN * end, bottom))


def mixed(colour: str, part: float) -> str:
    """Return so much of a colour on EMPTY."""
    red, green, blue = (part * own + (1 - part) * bare for own, bare in zip(to_rgb(colour), to_rgb(EMPTY), strict=True))
    return to_hex((red, green, blue))
