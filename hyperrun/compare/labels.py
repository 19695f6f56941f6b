"""Labels beside points, none on another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Label = tuple[float, float, str, str]
"""x and y of the point that it belongs to, its text, its colour."""

POINT = 6.0
"""Half the side, in pixels at 100 dpi, of what a marker keeps free of labels."""

GAP = 5.0
"""Pixels at 100 dpi between two labels beside each other."""

ANGLES = (0, 180, 60, -60, 120, -120, 90, -90, 30, -30, 150, -150)
"""Directions in degrees in which a label may lie from its point, the best first."""

ON_A_LINE = 80
"""How many pixels farther away a label goes so as not to lie on a line."""

DISTANCES = (8, 14, 24, 36, 50, 68, 90, 120)
"""And how far from it, in pixels at 100 dpi."""


def place_labels(panel: Axes, labels: Sequence[Label]) -> None:
    """Write labels into a panel whose layout is final, with a thin line where one lies far off.

    Each takes the nearest place in the panel where it covers no point, no error bar and no other label, and no line
    either if there is such a place within reach; one for which there is no place is left out.
    """
    figure = panel.figure
    scale = figure.dpi / 100
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    inside = panel.get_window_extent(renderer)
    taken = [_around(panel.transData.transform(place), half * scale) for place, half in _points(panel)]
    taken += [box for box in _bars(panel) if box.height > 0]
    lines = [panel.transData.transform_path(line.get_path()) for line in panel.lines if line.get_linestyle() != "None"]
    for x, y, words, colour in labels:
        text = panel.text(0, 0, words, color=colour, fontsize=7.5, transform=None, parse_math=False, zorder=4)
        size = text.get_window_extent(renderer)
        at_x, at_y = panel.transData.transform((x, y))
        text.remove()
        near = [
            (distance, _beside(at_x, at_y, size.width, size.height, distance * scale, angle))
            for distance in DISTANCES
            for angle in ANGLES
        ]
        free = [
            (distance, box)
            for distance, box in near
            if inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if not any(box.overlaps(other) for other in taken)
        ]
        clear = [(d, box) for d, box in free if not any(line.intersects_bbox(box, filled=False) for line in lines)]
        if not free:
            continue
        distance, box = min([*clear[:1], *free[:1]], key=lambda place: place[0] + (place not in clear) * ON_A_LINE)
        taken.append(box.padded(GAP * scale, 0))
        # an offset from the data's place in points, so that it stays there whatever resolution the file is saved with
        to_points = 72 / figure.dpi
        offset = ((box.x0 - at_x) * to_points, (box.y0 - at_y) * to_points)
        # from the label's nearest side, or the line would run through the label and perhaps through others
        side = (min(max((at_x - box.x0) / box.width, 0), 1), min(max((at_y - box.y0) / box.height, 0), 1))
        look = {
            "arrowstyle": "-",
            "color": colour,
            "linewidth": 0.6,
            "alpha": 0.6,
            "shrinkA": 0,
            "shrinkB": 4,
            "relpos": side,
        }
        panel.annotate(
            words, (x, y), offset, textcoords="offset points", color=colour, fontsize=7.5, parse_math=False,
            arrowprops=look if distance > DISTANCES[1] else None, zorder=4, annotation_clip=False,
            ha="left", va="bottom",
        )  # fmt: skip


def _beside(x: float, y: float, width: float, height: float, distance: float, angle: float) -> Bbox:
    """Return where a label lies: the point of its box that is nearest to (x, y) is `distance` away at `angle`."""
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    left = x + distance * dx + width * (dx - 1) / 2
    bottom = y + distance * dy + height * (dy - 1) / 2
    return Bbox.from_bounds(left, bottom, width, height)


def _around(place: Any, half: float) -> Bbox:
    """Return the square around a place (x, y) in pixels."""
    x, y = place
    return Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half)


def _points(panel: Axes) -> list[tuple[tuple[float, float], float]]:
    """Return the places of all markers, and half the side of what each keeps free: larger ones keep more."""
    return [
        ((float(x), float(y)), max(POINT, line.get_markersize() * 100 / 72 / 2 + 1))
        for line in panel.lines
        if line.get_marker() not in ("None", "", " ", None)
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)  # type: ignore[arg-type]
    ]


def _bars(panel: Axes) -> list[Bbox]:
    """Return the error bars' boxes in pixels."""
    bars = []
    for container in panel.containers:
        for collection in getattr(container, "lines", (None, (), ()))[2]:
            for (x, low), (_, high) in collection.get_segments():
                (left, bottom), (_, top) = panel.transData.transform([(x, low), (x, high)])
                bars.append(Bbox.from_extents(left - 4, bottom, left + 4, top))
    return bars
