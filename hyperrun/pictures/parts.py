"""What the pictures of runs share: panels, colours that colour-blind people can tell apart, colours of layers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Picture

from hyperrun.pictures.style import DPI, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a8a8a")
"""Of Okabe and Ito, the strongest first."""

MARKERS = "os^Dv<>P"

MOST_NAMED = len(COLOURS)
"""Layers that each get a colour and a line in the legend; more of them are coloured by depth."""

DEPTH_MAP = "viridis"
"""Colours of layers by depth, from the first, dark, to the last."""

SIGNED_MAP = "PuOr"
"""Of values on both sides of zero: orange below, white at zero, purple above."""


TITLE_SIZE = 9
"""Points."""

LETTERS_PER_INCH = 11
"""Of a title: as many as there are digits, which are wider than most letters."""

styled = matplotlib.rc_context(STYLE)
"""Decorates what draws: in hyperrun's style."""


def panels(
    rows: int, columns: int, width: float, height: float, square: bool = False, **options: Any
) -> tuple[Picture, list[list[Axes]]]:
    """Return a picture with rows x columns panels of this size in inches.

    square: the panels show pixels of a fixed aspect, which do not fill their places.
    """
    layout: Any = "compressed" if square else "constrained"  # the latter cuts off titles above panels of fixed aspect
    figure = Picture(figsize=(width * columns, height * rows), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False, **options)]


def title(panel: Axes, text: str) -> None:
    """Write above a panel, lines that are wider than it broken into several; names from files are no mathematics,
    whatever dollar signs they have."""
    inches = panel.figure.get_figwidth() / panel.get_gridspec().ncols  # type: ignore[union-attr]
    panel.set_title(wrapped(text, inches), loc="left", parse_math=False, fontsize=TITLE_SIZE)


def wrapped(text: str, inches: float) -> str:
    """Return the title of a panel, which takes so much room with all that stands around it, broken into lines."""
    letters = int(LETTERS_PER_INCH * (inches - 0.5))
    return "\n".join(textwrap.fill(line, letters, break_on_hyphens=False) for line in text.split("\n"))


def short_names(names: Sequence[str]) -> list[str]:
    """Return the names of parameters without what all of them end in (".weight")."""
    endings = {name.rpartition(".")[2] for name in names}
    return [name.rpartition(".")[0] or name for name in names] if len(endings) == 1 else list(names)


def layer_colours(count: int) -> list[Any]:
    """Return a colour for each layer, in order of depth."""
    if count <= MOST_NAMED:
        return list(COLOURS[:count])
    return [matplotlib.colormaps[DEPTH_MAP](n / (count - 1)) for n in range(count)]


def explain_colours(panel: Axes, names: Sequence[str]) -> None:
    """Say which layer has which colour: a legend for few of them (of labelled artists), for many a bar by depth."""
    count = len(names)
    if count <= MOST_NAMED:
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2 if count > 1 else 1)
        return
    ticks = sorted({round(n * (count - 1) / 4) for n in range(5)})
    shades = ScalarMappable(cmap=ListedColormap(layer_colours(count)))
    shades.set_clim(-0.5, count - 0.5)
    bar = panel.figure.colorbar(shades, ax=panel, ticks=ticks)  # type: ignore[union-attr]
    bar.set_ticklabels([f"{n + 1} {names[n]}" for n in ticks], fontsize=7)
    bar.set_label("layer, from the first to the last")
    bar.outline.set_visible(False)  # type: ignore[operator]


def grid_of(count: int, most_columns: int = 3) -> tuple[int, int]:
    """Return rows and columns that hold so many panels."""
    columns = min(count, most_columns)
    return math.ceil(count / columns), columns


def fill(places: Sequence[Sequence[Axes]], items: Collection[T]) -> Iterator[tuple[Axes, T]]:
    """Yield each item with its panel, row by row; panels that are left over show nothing."""
    flat = [panel for row in places for panel in row]
    for panel in flat[len(items) :]:
        panel.set_axis_off()
    yield from zip(flat, items, strict=False)
