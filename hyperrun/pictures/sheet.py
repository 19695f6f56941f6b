"""Lines, dots, bars and texts at places in inches, as a matplotlib figure or as a small SVG file of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from itertools import groupby

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure as Picture

from hyperrun.pictures.style import DPI, STYLE, quiet

PIXELS = 96
"""Of SVG, in an inch."""

INK = "#202124"
"""Of texts."""

BASELINES = {"left": "start", "center": "middle", "right": "end"}
"""matplotlib's word for how a text lies to its place -> SVG's."""


@dataclass(frozen=True)
class Word:
    """A line of text."""

    x: float
    y: float
    """Of its baseline."""
    text: str
    size: float = 8
    """Points."""
    bold: bool = False
    colour: str = INK
    align: str = "left"
    """left, center or right of its place."""


@dataclass(frozen=True)
class Hit:
    """A place that shows a text while the pointer is on it; in SVG only."""

    left: float
    top: float
    width: float
    height: float
    text: str


@dataclass
class Sheet:
    """What stands on a white sheet, drawn in this order: bars, lines, dots, texts. x and y are in inches from its upper
    left corner, y grows downwards; colours are #rrggbb. Bars do not overlap."""

    width: float
    height: float
    line_width: float = 1.2
    """Points; the ends of lines are round. A dot is 1.8 times as wide."""
    bars: list[tuple[str, float, float, float, float]] = field(default_factory=list)
    """Colour, left, top, right, bottom."""
    lines: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """Colour, and the corners of a line, float [n, 2], n >= 2."""
    dots: list[tuple[str, float, float]] = field(default_factory=list)
    """Colour, x, y of the centre."""
    words: list[Word] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)

    def figure(self) -> Picture:
        """Return the sheet as a matplotlib figure."""
        with matplotlib.rc_context(STYLE), quiet():
            figure = Picture(figsize=(self.width, self.height), dpi=DPI)
            FigureCanvasAgg(figure)
            panel = figure.add_axes((0, 0, 1, 1))
            panel.set_axis_off()
            corners = [[(a, b), (c, b), (c, d), (a, d)] for _, a, b, c, d in self.bars]
            panel.add_collection(PolyCollection(corners, facecolors=[c for c, *_ in self.bars], linewidths=0))
            lines, colours = [line for _, line in self.lines], [colour for colour, _ in self.lines]
            panel.add_collection(
                LineCollection(lines, colors=colours, linewidths=self.line_width, capstyle="round", joinstyle="round")
            )
            if self.dots:
                found, x, y = zip(*self.dots, strict=True)
                panel.scatter(x, y, s=(1.8 * self.line_width) ** 2, c=found, linewidths=0, zorder=2.5)
            for word in self.words:
                weight = "bold" if word.bold else "normal"
                panel.text(
                    word.x, word.y, word.text, fontsize=word.size, fontweight=weight, color=word.colour, ha=word.align,
                    va="baseline", parse_math=False,
                )  # fmt: skip
            panel.set_xlim(0, self.width)
            panel.set_ylim(self.height, 0)
        return figure

    def svg(self, title: str, tag: str = "") -> str:
        """Return the sheet as SVG text that needs no other file.

        title: what a reader of the file is told, in its <title>. tag: further attributes of the <svg> element.
        """
        width, height, stroke = _pixels(self.width), _pixels(self.height), self.line_width * PIXELS / 72
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
            f' font-family="DejaVu Sans, Verdana, sans-serif"{f" {tag}" if tag else ""}>',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *_bars(self.bars),
            f'<g fill="none" stroke-width="{stroke:.2f}" stroke-linecap="round" stroke-linejoin="round">',
        ]
        for colour, group in groupby(self.lines, lambda line: line[0]):
            parts.append(f'<path stroke="{colour}" d="{"".join(_path(line) for _, line in group)}"/>')
        parts.append("</g>")
        for colour, x, y in self.dots:
            parts.append(f'<circle cx="{_pixels(x)}" cy="{_pixels(y)}" r="{0.9 * stroke:.2f}" fill="{colour}"/>')
        for word in self.words:
            parts.append(
                f'<text x="{_pixels(word.x)}" y="{_pixels(word.y)}" font-size="{_pixels(word.size / 72)}"'
                f' fill="{word.colour}"{_if(word.bold, "font-weight", "bold")}'
                f"{_if(word.align != 'left', 'text-anchor', BASELINES[word.align])}>{escape(word.text)}</text>"
            )
        if self.hits:
            parts += ['<g fill="none" pointer-events="all">', *map(_hit, self.hits), "</g>"]
        return "\n".join([*parts, "</svg>", ""])


def _if(there: bool, name: str, value: str) -> str:
    return f' {name}="{value}"' if there else ""


def _pixels(inches: float) -> str:
    """Return a length in pixels, to a tenth of one."""
    return f"{inches * PIXELS:.1f}".removesuffix(".0")


def _hit(hit: Hit) -> str:
    x, y, wide, high = (_pixels(value) for value in (hit.left, hit.top, hit.width, hit.height))
    return f'<rect x="{x}" y="{y}" width="{wide}" height="{high}"><title>{escape(hit.text)}</title></rect>'


def _path(corners: np.ndarray) -> str:
    """Return the SVG path of a line: relative steps between corners that lie on tenths of pixels."""
    tenths = np.rint(corners * PIXELS * 10).astype(int)
    steps = "".join(f"{_tenth(dx)}{_tenth(dy, True)}" for dx, dy in np.diff(tenths, axis=0))
    return f"M{_tenth(tenths[0, 0])}{_tenth(tenths[0, 1], True)}l{steps}" if len(corners) > 1 else ""


def _tenth(number: int, follows: bool = False) -> str:
    """Return number / 10; all but a first number are set off from the one before."""
    return f"{' ' if follows or number >= 0 else ''}{number / 10:g}"


def _bars(bars: Iterable[tuple[str, float, float, float, float]]) -> list[str]:
    """Return the bars, those of one colour in one path; where two meet there is no gap."""
    found: dict[str, list[str]] = {}
    for colour, *corners in bars:
        left, top, right, bottom = (round(10 * PIXELS * inches) for inches in corners)
        wide, high = f"{(right - left) / 10:g}", f"{(bottom - top) / 10:g}"
        found.setdefault(colour, []).append(f"M{left / 10:g} {top / 10:g}h{wide}v{high}h-{wide}z")
    crisp = 'shape-rendering="crispEdges"'  # else a light line shows where two bars meet
    return [f'<path fill="{colour}" {crisp} d="{"".join(places)}"/>' for colour, places in found.items()]
