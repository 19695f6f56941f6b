"""A text, under each character how much the four recurrent matrices changed at that step (figure 4 of Ha et al.).

The change of W_h of gate y at step t is ||d_h^y(t) - d_h^y(t-1)||_2, of the scaling vectors: see
states.Counted. A row's colour is full at the row's own 99th percentile, because the changes of different
gates differ in size by a factor of ten; the legend has that value. It, the mean and the maximum are those of all
symbols that were read but the first ones, which are left out everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Picture
from matplotlib.patches import Patch
from torch import Tensor

from hyperrun.analyze.recurrent.changes import CHANGE, full_text, legend_item, numbers_of, page, row_name, strength_of
from hyperrun.data import Vocabulary
from hyperrun.data.vocabulary import EOS
from hyperrun.errors import printable
from hyperrun.pictures.parts import COLOURS
from hyperrun.pictures.style import DPI, STYLE, quiet

CELLS = 80
"""Characters in a line of the picture."""

COLD = 100
"""Symbols at the beginning that the pictures leave out: the state is still that of an empty text."""

MOST_LINES = 8
"""Of the picture."""

MOST_IN_PAGE = 2000
"""Symbols in the page."""

SHOWN = {"\n": "↵", "\t": "→", EOS: "↵"}


@dataclass(frozen=True)
class Strip:
    """A passage and what changed at each of its symbols."""

    title: str
    symbols: list[str]
    """As they are printed, one for each step: the symbol that was read at that step."""
    changes: dict[str, Tensor]
    """Gate (i, g, f, o; h of an RNN) -> ||d_h(t) - d_h(t-1)||_2 at each symbol."""
    numbers: dict[str, dict[str, float]]
    """Gate -> mean and maximum ("mean", "max") of its changes, and the change at which its colour is full ("full": the
    99th percentile), all of them over `count` symbols and those of them that are finite."""
    left_out: int
    """Symbols of the text before these."""
    count: int
    """Symbols after them, whether they are in `symbols` or not."""

    def full(self, gate: str) -> float:
        return self.numbers[gate]["full"]

    def strength(self, gate: str) -> Tensor:
        """Return how strong the colour is at each symbol, 0 to 1; 0 where the change is not finite."""
        return strength_of(self.changes[gate], self.full(gate))

    def first(self, count: int) -> Strip:
        """Return the strip of the first symbols alone."""
        changes = {gate: values[:count] for gate, values in self.changes.items()}
        return replace(self, symbols=self.symbols[:count], changes=changes)

    def explained(self) -> str:
        """Return what is left out, and what the colours mean."""
        first = f"first {self.left_out} symbols are" if self.left_out > 1 else "first symbol is"
        return (
            f"Each row has a scale of its own: its colour is full from the 99th percentile of its changes at "
            f"{self.count:,} symbol{'s' if self.count > 1 else ''}. The {first} left out."
        )

    def said_of_broken(self) -> str:
        """Return a sentence on changes that are not finite, if there are any among those here."""
        values = torch.stack(list(self.changes.values()))
        broken = int((~values.isfinite()).any(0).sum())
        return f" Not finite, and white, at {broken:,} of the symbols here." if broken else ""


def make_strip(title: str, ids: Tensor, vocabulary: Vocabulary, changes: Mapping[str, Tensor]) -> Strip:
    """Return what is shown of a text int64 [N] with the changes [N] of each gate, without its cold beginning."""
    start = COLD if len(ids) > 2 * COLD else 1  # at the first symbol nothing has changed yet
    end = " " if vocabulary.unit == "word" else ""
    symbols = [printable_symbol(vocabulary.symbols[i]) + end for i in ids[start:].tolist()]
    later = {gate: values[start:].double() for gate, values in changes.items()}
    numbers = {gate: numbers_of(values) for gate, values in later.items()}
    return Strip(title, symbols, later, numbers, start, len(symbols))


def printable_symbol(symbol: str) -> str:
    return SHOWN.get(symbol) or printable(symbol)


def colour_of(row: int) -> str:
    return COLOURS[row]


# ---------------------------------------------------------------- PNG


def broken_into_lines(symbols: Sequence[str], width: int = CELLS) -> list[list[int]]:
    """Return the numbers of the symbols in each line of at most `width` characters; a longer one has its own line."""
    lines: list[list[int]] = [[]]
    used = 0
    for n, symbol in enumerate(symbols):
        if used + len(symbol) > width and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append(n)
        used += len(symbol)
    return lines


def draw_strip(strip: Strip) -> Picture:
    """Return the passage as a picture: eight lines of at most 80 characters, under each a row for each gate."""
    lines, gates = broken_into_lines(strip.symbols)[:MOST_LINES], list(strip.changes)
    text, row, gap = 0.23, 0.105, 0.10  # heights in inches
    high, top, left, cell = text + len(gates) * row + gap, 0.94, 0.35, 0.115
    width, height = left + CELLS * cell + 0.2, top + len(lines) * high + 0.1
    with matplotlib.rc_context(STYLE), quiet():
        figure = Picture(figsize=(width, height), dpi=DPI)
        FigureCanvasAgg(figure)
        panel = figure.add_axes((0, 0, 1, 1))
        panel.set_axis_off()
        for n, line in enumerate(lines):
            y = top + n * high
            cells = [len(strip.symbols[k]) for k in line]
            starts = np.concatenate([[0], np.cumsum(cells)])
            for k, start in zip(line, starts, strict=False):
                for shift, character in enumerate(strip.symbols[k]):
                    if character != " ":
                        panel.text(
                            left + (start + shift + 0.5) * cell, y + text - 0.05, character, ha="center", va="baseline",
                            family="monospace", fontsize=9, parse_math=False,
                        )  # fmt: skip
            for g, gate in enumerate(gates):
                strengths = np.repeat(strip.strength(gate)[line].numpy(), cells)
                strengths[[at - 1 for at, cell_count in zip(starts[1:], cells, strict=True) if cell_count > 1]] = 0
                colours = 1 - strengths[:, None] * (1 - np.array(to_rgb(colour_of(g))))
                bottom = y + text + (g + 1) * row
                place = (left, left + len(strengths) * cell, bottom, bottom - row * 0.9)
                panel.imshow(colours[None], extent=place, aspect="auto", interpolation="nearest")
                panel.text(
                    left - 0.06, bottom - row / 2, gate, ha="right", va="center", fontsize=6.5, color=colour_of(g)
                )
        panel.set_xlim(0, width)
        panel.set_ylim(height, 0)
        panel.text(left, 0.24, strip.title, fontsize=10, fontweight="bold", parse_math=False)
        drawn = strip.first(1 + lines[-1][-1])
        said = "Under each symbol: how much the recurrent weights changed as it was read, $||d_h(t) - d_h(t-1)||_2$."
        said += drawn.said_of_broken()
        panel.text(left, 0.46, said, fontsize=8)
        panel.text(left, 0.66, drawn.explained(), fontsize=8)
        handles = [
            Patch(color=colour_of(g), label=f"{row_name(gate)}: {full_text(strip.numbers[gate])}")
            for g, gate in enumerate(gates)
        ]
        panel.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(left / width, 1 - 0.74 / height), ncols=4, fontsize=7.5,
            bbox_transform=figure.transFigure, borderaxespad=0, handlelength=1.2, columnspacing=1.4,
        )  # fmt: skip
    return figure


# ---------------------------------------------------------------- HTML


def strip_page(strip: Strip) -> str:
    """Return the passage as one HTML page that needs no network; a symbol under the pointer shows its numbers."""
    strip = strip.first(MOST_IN_PAGE)
    gates = list(strip.changes)
    strengths = [strip.strength(gate).tolist() for gate in gates]
    changes = [strip.changes[gate].tolist() for gate in gates]
    rgb = [" ".join(str(round(255 * part)) for part in to_rgb(colour_of(g))) for g in range(len(gates))]
    rows = ", ".join(
        f"linear-gradient(rgb({colour} / var(--{gate})) 0 0) 0 {1.35 + 0.38 * g:.2f}em / 100% .34em no-repeat"
        for g, (gate, colour) in enumerate(zip(gates, rgb, strict=True))
    )
    spans = []
    for n, symbol in enumerate(strip.symbols):
        said = ", ".join(f"{gate} {values[n]:.3g}" for gate, values in zip(gates, changes, strict=True))
        style = ";".join(f"--{gate}:{values[n]:.2f}" for gate, values in zip(gates, strengths, strict=True))
        spans.append(f'<span title="{_text(repr(symbol))}: {said}" style="{style}">{_text(symbol)}</span>')
    legend = "".join(
        legend_item(gate, f"rgb({colour})", strip.numbers[gate]) for gate, colour in zip(gates, rgb, strict=True)
    )
    shown = f"; the first {len(strip.symbols):,} of them are shown" if len(strip.symbols) < strip.count else ""
    style = f""".text {{ font-family: "DejaVu Sans Mono", ui-monospace, monospace; overflow-wrap: anywhere; }}
.text span {{ display: inline-block; white-space: pre; line-height: 1.3em;
  padding-bottom: {0.38 * len(gates) + 0.35:.2f}em; print-color-adjust: exact; background: {rows}; }}
.text span:hover {{ outline: 1px solid #202124; }}
"""
    body = f"""\
<p>Under each symbol a bar for each recurrent weight matrix, from top to bottom as in the legend: the stronger its
colour, the more the matrix changed as the symbol was read, {CHANGE}. The
numbers stand in each symbol's title. {strip.explained()}{strip.said_of_broken()}
Means and maxima are over the same {strip.count:,} symbols{shown}.</p>
<ul>{legend}</ul>
<p class="text">{"".join(spans)}</p>
"""
    return page(strip.title, style, body)


def _text(text: str) -> str:
    return escape(text, quote=True)
