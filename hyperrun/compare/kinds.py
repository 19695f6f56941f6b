"""How a kind of hypernet looks, the same in every picture of a comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matplotlib.colors import to_hex, to_rgb

KINDS = {
    "none": ("s", "#5f6368"),
    "static": ("o", "#1668b8"),
    "chunked": ("v", "#7a5230"),
    "dynamic": ("^", "#c2570c"),
    "conditional": ("D", "#8a3ffc"),
    "mlp": ("D", "#b8348f"),
    "auto_decoder": ("p", "#0a8a94"),
}
"""Kind of hypernet -> marker and colour; a kind of one's own is OTHER."""
OTHER = ("P", "#111111")

DARKEST, LIGHTEST = 0.35, 0.5
"""Parts of black and white in the first and last of several shades of a colour."""

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
"""Of curves whose colours are shades of one."""

Look = tuple[str, str | tuple[int, tuple[float, ...]]]
"""A colour, and how a line is dashed."""


def kind_style(hypernet: str) -> tuple[str, str]:
    return KINDS.get(hypernet, OTHER)


def line_looks(hypernets: Sequence[str]) -> list[Look]:
    """Return the look of each one's line: the colour of its kind; of several of a kind, shades of it and dashes."""
    counts, seen = Counter(hypernets), Counter()
    looks: list[Look] = []
    for hypernet in hypernets:
        place, count = seen[hypernet], counts[hypernet]
        seen[hypernet] += 1
        colour = kind_style(hypernet)[1]
        looks.append((shade(colour, place / (count - 1)) if count > 1 else colour, DASHES[place % len(DASHES)]))
    return looks


def shade(colour: str, place: float) -> str:
    """Return a shade of a colour: at 0 the darkest, at 1 the lightest."""
    part = place * (DARKEST + LIGHTEST) - DARKEST
    towards = 1.0 if part > 0 else 0.0
    red, green, blue = (channel + abs(part) * (towards - channel) for channel in to_rgb(colour))
    return to_hex((red, green, blue))
