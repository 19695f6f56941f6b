"""Pictures of the layers' embeddings: cosine similarity as a heat map, and a projection onto two axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure as Picture
from torch import Tensor

from hyperrun.analyze.embeddings import Embeddings
from hyperrun.pictures.parts import (
    MARKERS,
    MOST_NAMED,
    SIGNED_MAP,
    explain_colours,
    fill,
    grid_of,
    layer_colours,
    panels,
    short_names,
    styled,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_WITH_FIGURES = 8
"""Layers up to which the heat map has its numbers in it."""

BROKEN = "#9e9e9e"
"""Colour of a similarity that is not finite."""


@styled
def draw_similarity(embeddings: Mapping[str, Embeddings]) -> Picture:
    """Return heat maps of title -> embeddings, side by side: 1 is the same direction, 0 none in common."""
    most = max(len(found.layers) for found in embeddings.values())
    side = min(9.0, max(3.6, 1.8 + 0.17 * most))
    figure, places = panels(*grid_of(len(embeddings)), side + 1.6, side, square=True)
    drawn = None
    for panel, (label, found) in fill(places, embeddings.items()):
        similarity, names = found.similarity(), short_names(list(found.layers))
        count = len(names)
        rows = [f"{name}  {n + 1}" for n, name in enumerate(names)]
        drawn = heat_map(panel, similarity, rows, [str(n + 1) for n in range(count)], count <= MOST_WITH_FIGURES)
        panel.set_xlabel("layer")
        title(panel, f"{label}\ncosine similarity of mean embeddings{said_of_broken(similarity)}")
    if drawn is not None:
        explain_heat(figure, drawn, [panel for row in places for panel in row])
    return figure


def heat_map(
    panel: Axes, similarity: Tensor, rows: Sequence[str], columns: Sequence[str], figures: bool
) -> ScalarMappable:
    """Draw similarities from -1 to 1, [n, n], with a label for each row and column, and with or without figures."""
    panel.grid(False)
    colours = matplotlib.colormaps[SIGNED_MAP].with_extremes(bad=BROKEN)
    drawn = panel.imshow(similarity.numpy(), cmap=colours, vmin=-1, vmax=1)
    count = len(similarity)
    size = 8 if count <= 16 else 6
    panel.set_yticks(range(count), rows, fontsize=size)
    panel.set_xticks(range(count), columns, fontsize=size)
    panel.tick_params(length=0)
    for text in (*panel.get_yticklabels(), *panel.get_xticklabels()):
        text.set_parse_math(False)
    for row in range(count if figures else 0):
        for column in range(count):
            value = float(similarity[row, column])
            if math.isnan(value):
                continue
            ink = "white" if abs(value) > 0.6 else "black"
            panel.text(column, row, f"{value:z.2f}", ha="center", va="center", fontsize=7, color=ink)
    return drawn


def said_of_broken(similarity: Tensor) -> str:
    """Return a line that says what is grey in a heat map, if anything is."""
    return "" if similarity.isfinite().all() else "\ngrey: not finite"


def explain_heat(figure: Picture, drawn: ScalarMappable, places: Sequence[Axes]) -> None:
    """Put the bar of colours beside panels with heat maps, beside the first row of several."""
    rows = places[0].get_gridspec().nrows  # type: ignore[union-attr]
    bar = figure.colorbar(drawn, ax=places, shrink=0.7 / rows, pad=0.02, anchor=(0.0, 1.0 if rows > 1 else 0.5))
    bar.set_label("cosine similarity")
    bar.outline.set_visible(False)  # type: ignore[operator]


@styled
def draw_projection(embeddings: Mapping[str, Embeddings]) -> Picture:
    """Return the first two principal components of all tiles' embeddings, coloured by layer; title -> embeddings."""
    figure, places = panels(*grid_of(len(embeddings)), 5.6, 4.8)
    for panel, (label, found) in fill(places, embeddings.items()):
        sound = found.finite()
        points, parts = sound.projected()
        names = short_names(list(points))
        few, count = len(points) <= MOST_NAMED, sum(map(len, points.values()))
        size = 4 if count > 50 else 7
        for n, (place, colour) in enumerate(zip(points.values(), layer_colours(len(points)), strict=True)):
            tiles = f" ({len(place)} tiles)" if len(place) > 1 else ""
            panel.plot(
                place[:, 0].numpy(), place[:, 1].numpy(), MARKERS[n] if few else "o", color=colour, markersize=size,
                markeredgewidth=0, alpha=0.75, label=f"{n + 1} {names[n]}{tiles}".replace("$", r"\$"),
            )  # fmt: skip
        percent = [f"{part:.0%} of the variance" for part in [*parts, 0.0][:2]]
        panel.set_xlabel(f"first principal component ({percent[0]})")
        panel.set_ylabel(f"second principal component ({percent[1]})")
        each = "tile" if count > len(points) else "layer"
        lost = sum(map(len, found.layers.values())) - count
        left_out = f"\nnot finite and left out: {lost}" if lost else ""
        title(panel, f"{label}\na point for each {each}'s embedding{left_out}")
        explain_colours(panel, names)
    return figure
