"""How much weights change, as strips show it: what the strips below texts and pen strokes have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from torch import Tensor

from hyperrun.pictures.html import html_page

FULL = 0.99
"""Quantile of a row's changes at which its colour is full."""

CHANGE = "||d<sub>h</sub>(t) &minus; d<sub>h</sub>(t&minus;1)||<sub>2</sub>"


def numbers_of(changes: Tensor) -> dict[str, float]:
    """Return what is said of a gate with these changes [N]: "mean", "max", and "full", the change at which the colour
    of its row is full; over those that are finite, NaN if none of them is."""
    finite = changes[changes.isfinite()]
    if not len(finite):
        return dict.fromkeys(("mean", "max", "full"), math.nan)
    return {"mean": float(finite.mean()), "max": float(finite.max()), "full": float(finite.quantile(FULL))}


def strength_of(changes: Tensor, full: float) -> Tensor:
    """Return how strong the colour is at each of the changes [N], 0 to 1; 0 where a change is not finite."""
    return (changes / (full or 1.0)).nan_to_num(0, 0, 0).clamp(0, 1)


def row_name(gate: str) -> str:
    """Return the name of a gate's matrix (of "h" that of an RNN)."""
    return "W_h" if gate == "h" else f"W_h of {gate}"


def full_text(numbers: Mapping[str, float]) -> str:
    """Return from where on the colour of a row with these numbers is full."""
    return "not finite" if math.isnan(numbers["full"]) else f"full colour from {numbers['full']:.3g}"


def legend_item(gate: str, colour: str, numbers: Mapping[str, float]) -> str:
    """Return the line of an HTML list that says what a row is. colour: as CSS has it."""
    return (
        f'<li><b style="background:{colour}"></b>{escape(row_name(gate))}: {full_text(numbers)}'
        f" (mean {numbers['mean']:.3g}, maximum {numbers['max']:.3g})</li>"
    )


STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1rem 2rem 3rem; max-width: 60rem; background: #fff; color: #202124;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.2rem; }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; font-size: .85rem; }
li b { display: inline-block; width: 1em; height: .7em; margin-right: .4em; }
"""


def page(title: str, style: str, body: str) -> str:
    """Return an HTML page that needs no network. title: text; style, body: further CSS and what stands below the title,
    with a newline at the end."""
    return html_page(title, STYLE + style, f"<h1>{escape(title)}</h1>\n{body}")
