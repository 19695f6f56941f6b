"""How alike the layers' embeddings are: cosine similarity as a heat map, and a projection onto two axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure as Picture
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.hypernets import as_hypernetized
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


@dataclass(frozen=True)
class Embeddings:
    """The learned embeddings of the layers that one generator makes."""

    what: str
    """Which generator: the size of its kernels ("3x3"), or "all layers"."""
    layers: dict[str, Tensor]
    """name -> [tiles, Nz], in the target's order; of a chunked hypernet one row."""

    def finite(self) -> Embeddings:
        """Return the embeddings without the tiles that hold a number that is not finite; a layer may be left with
        none."""
        return Embeddings(self.what, {name: z[z.isfinite().all(1)] for name, z in self.layers.items()})

    def broken(self) -> list[str]:
        """Return the layers in whose embeddings a number is not finite."""
        return [name for name, z in self.layers.items() if not z.isfinite().all()]

    def similarity(self) -> Tensor:
        """Return the cosine similarity of the layers' mean embeddings, [layers, layers].

        Layers have different numbers of tiles, so there is no tile of one that belongs to a tile of another: each layer
        is taken as the mean of its tiles' embeddings.
        """
        return cosines(torch.stack([z.mean(0) for z in self.layers.values()]))

    def projected(self) -> tuple[dict[str, Tensor], list[float]]:
        """Return name -> [tiles, 2] on the first two principal components of all tiles, and how much of the variance
        each of the two has.

        The sign of a component is chosen so that its largest number is positive: else the picture might turn over.
        """
        table = torch.cat(list(self.layers.values())).double()
        centred = table - table.mean(0)
        _, values, axes = torch.linalg.svd(centred, full_matrices=False)
        axes = axes[:2]
        signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        places = (centred @ (axes * signs).T).split([len(z) for z in self.layers.values()])
        shares = values.square() / values.square().sum().clamp_min(1e-300)
        return dict(zip(self.layers, places, strict=True)), shares[:2].tolist()


def cosines(rows: Tensor) -> Tensor:
    """Return the cosine similarity of every two rows of [n, size], [n, n]."""
    unit = F.normalize(rows.double(), dim=1)
    return unit @ unit.T


def layer_embeddings(model: nn.Module) -> list[Embeddings]:
    """Return the embeddings of a model's hypernet that may be compared with each other; none of other models.

    A static or chunked hypernet has one for each layer; the mlp hypernet has one for all: nothing to compare.
    """
    hyper = as_hypernetized(model)
    found = {} if hyper is None else hyper.layer_embeddings()
    return [
        Embeddings(what, {name: z.detach().float().cpu() for name, z in layers.items()})
        for what, layers in found.items()
    ]


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
