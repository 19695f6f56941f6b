"""How every picture looks, and how it becomes a file. Drawn without a display."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import matplotlib
from matplotlib.figure import Figure as Picture

T = TypeVar("T")

DPI = 160
"""Of png files, and of the layout: text is not exactly as wide at another resolution."""

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,  # the grid lies below every line
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.hinting": "none",  # labels are as wide in every format as where they were placed
    "svg.fonttype": "none",  # text stays text: it can be found and copied
    "svg.hashsalt": "hyperrun",  # the same runs give the same bytes
    "pdf.fonttype": 42,
}


def picture(figure: Picture, kind: str) -> bytes:
    """Return the picture as the bytes of a png, svg or pdf file."""
    file = io.BytesIO()
    undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with matplotlib.rc_context(STYLE), quiet():
        figure.savefig(file, format=kind, dpi=DPI, metadata=undated)
    return file.getvalue()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence matplotlib's warnings about characters that its font lacks: a box stands in their place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def spread(items: list[T], most: int) -> list[T]:
    """Return all items; of more than `most`, as many evenly chosen ones, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
