"""Pen strokes, below each line how much the recurrent matrices changed where the pen was (figure 7 of Ha et al.).

The change of W_h of gate y at a point is ||d_h^y(t) - d_h^y(t-1)||_2, of the scaling vectors: see states.Counted. As
below a text, each row of a strip has a scale of its own: its colour is full at the 99th percentile of its changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hyperrun.analyze.recurrent.changes import CHANGE, full_text, legend_item, numbers_of, page, row_name, strength_of
from hyperrun.pictures.pen import Drawing, draw_pen, row_colour
from hyperrun.pictures.sheet import Sheet

COLD = 25
"""Points at the beginning of a sequence, of a short one a quarter, that the numbers of changes leave out: the state
there is still on its way from that of an empty page."""


@dataclass(frozen=True)
class PenStrip:
    """Sequences and what changed at each of their points."""

    title: str
    points: Sequence[np.ndarray]
    """Of each sequence float [n, 3]: dx, dy, pen up; in units of the page."""
    labels: Sequence[str]
    changes: Mapping[str, Sequence[Tensor]]
    """Gate (i, g, f, o; h of an RNN) -> of each of these sequences ||d_h(t) - d_h(t-1)||_2 [n]."""
    numbers: Mapping[str, Mapping[str, float]]
    """Gate -> mean and maximum ("mean", "max") of its changes, and the change at which its colour is full ("full"),
    over all points of all sequences but the first ones of each, see COLD."""
    count: int
    """Points that these numbers are over."""

    def sheet(self) -> Sheet:
        """Return the sequences with their strips, drawn below the title and what explains them."""
        legend = [f"{row_name(gate)}: {full_text(numbers)}" for gate, numbers in self.numbers.items()]
        return draw_pen(self.drawings(), self.title, self.explained(), legend)

    def drawings(self) -> list[Drawing]:
        """Return the sequences with their strips."""
        return [
            Drawing(points, label, *self.strip(n))
            for n, (points, label) in enumerate(zip(self.points, self.labels, strict=True))
        ]

    def strip(self, number: int) -> tuple[dict[str, np.ndarray], list[str]]:
        """Return the rows of a sequence's strip, and what is said of each point."""
        rows = {gate: strength_of(each[number], self.full(gate)).numpy() for gate, each in self.changes.items()}
        values = {gate: each[number].tolist() for gate, each in self.changes.items()}
        count = len(next(iter(values.values()))) if values else 0
        said = [
            f"point {n + 1}: " + ", ".join(f"{gate} {found[n]:.3g}" for gate, found in values.items())
            for n in range(count)
        ]
        return rows, said

    def full(self, gate: str) -> float:
        return self.numbers[gate]["full"]

    def explained(self) -> list[str]:
        """Return what the strips show."""
        if not self.changes:
            return []
        return [
            "Below each line, where the pen was: how much the recurrent weights changed as the point was read, "
            "||d_h(t) - d_h(t-1)||.",
            self.scales_explained(),
        ]

    def scales_explained(self) -> str:
        """Return what the colours of the strips mean."""
        return (
            "Each row has a scale of its own: its colour is full from the 99th percentile of its changes at "
            f"{self.count:,} points, the first {COLD} of each line left out (of a short one the first quarter). Where "
            "points share a place, the largest of their changes is shown."
        )


def make_pen_strip(
    title: str,
    points: Sequence[np.ndarray],
    labels: Sequence[str],
    changes: Mapping[str, Sequence[Tensor]],
    shown: Sequence[int] | None = None,
) -> PenStrip:
    """Return what is shown of sequences float [n, 3] with the changes [n] of each gate at their points.

    shown: which of the sequences in `changes` those in `points` are; None: they are the same. The scale is that of all.
    """
    later = {gate: torch.cat([values[cold(len(values)) :] for values in each]) for gate, each in changes.items()}
    numbers = {gate: numbers_of(values.double()) for gate, values in later.items()}
    count = max((len(values) for values in later.values()), default=0)
    if shown is not None:
        changes = {gate: [each[n] for n in shown] for gate, each in changes.items()}
    return PenStrip(title, points, labels, changes, numbers, count)


def cold(points: int) -> int:
    """Return how many of the first points of a sequence the numbers leave out: at the first nothing has changed yet."""
    return max(1, min(COLD, points // 4))


def pen_page(strip: PenStrip) -> str:
    """Return the sequences as one HTML page that needs no network; the strip under the pointer shows its numbers."""
    legend = "".join(
        legend_item(gate, row_colour(row), numbers) for row, (gate, numbers) in enumerate(strip.numbers.items())
    )
    body = f"""\
<p>Below each line, where the pen was, a bar for each recurrent weight matrix, from top to bottom as in the legend: the
stronger its colour, the more the matrix changed as the point was read, {CHANGE}.
{strip.scales_explained()} The pointer on a strip shows the numbers of a point. Means and maxima are over the same
{strip.count:,} points, of all sequences that were read.</p>
<ul>{legend}</ul>
{draw_pen(strip.drawings()).svg(strip.title)}"""
    return page(strip.title, "svg { max-width: 100%; height: auto; }\n", body)
