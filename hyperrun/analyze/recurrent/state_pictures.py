"""The saturation study (figure 5 of Ha et al.): histograms of hidden activations and gates, a model in each panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Picture
from matplotlib.patches import Patch

from hyperrun.analyze.recurrent.states import GATES, SATURATED, Histogram
from hyperrun.pictures.parts import COLOURS, TITLE_SIZE, grid_of, panels, styled, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GATE_NAMES = {"i": "input gate i", "g": "candidate g", "f": "forget gate f", "o": "output gate o"}

GATE_ENDS, TANH_ENDS = f"below {1 - SATURATED:.2f} or above {SATURATED}", f"beyond ±{SATURATED}"

FILL, SHADE, LINE, HATCH = COLOURS[0], COLOURS[1], "#000000", "////"

Layers = Mapping[str, Mapping[str, Histogram]]
"""Title of a panel (model, and layer where there are several) -> name of a value -> histogram."""


@styled
def draw_hidden(layers: Layers, text: str = "") -> Picture:
    """Return the histograms of what the output gate lets through: tanh(c_t), with layer norm tanh(LN(c_t)).

    The paper does not say whether layer norm stands inside its phi(c_t). Here the bars are what the output gate lets
    through, and a line is tanh(c_t) of the cell itself where layer norm makes it another. text: what was read.
    """
    rows, columns = grid_of(len(layers), 2)
    figure, places = panels(rows, columns, 5.0, 3.4, sharex=True)
    cells = [place for row in places for place in row]
    for panel in cells[len(layers) :]:
        panel.set_axis_off()
    for panel, (label, values) in zip(cells, layers.items(), strict=False):
        hidden = values["hidden"]
        cell = values.get("cell")
        what = "tanh(LN(c))" if cell else "tanh(c)" if "i" in values else "h"
        draw_histogram(panel, hidden, what)
        said = f"{label}\n{what}: {share_text(hidden)}"
        if cell:
            edges, density = cell.density()
            panel.stairs(density.numpy(), edges.numpy(), color=LINE, linewidth=1.0, label="tanh(c)")
            said += f"; tanh(c): {cell.saturated:.1%}" if cell.broken < cell.total else ""
        title(panel, said)
        panel.set_xlabel("hidden activation")
        panel.set_ylabel("probability density")
        panel.tick_params(labelbottom=True)
        panel.legend(loc="upper center", ncols=3, fontsize=7)
        panel.set_ylim(top=panel.get_ylim()[1] * 1.18)  # the legend lies above the bars
    say_what_was_read(figure, text)
    return figure


@styled
def draw_gates(layers: Layers, text: str = "") -> Picture | None:
    """Return the histograms of the gates after their nonlinearities, a row for each model; None without gates.

    text: what was read.
    """
    gated = {label: values for label, values in layers.items() if "i" in values}
    if not gated:
        return None
    figure, places = panels(len(gated), len(GATES), 3.4, 2.7)
    for row, (label, values) in zip(places, gated.items(), strict=True):
        for panel, gate in zip(row, GATES, strict=True):
            found = values[gate]
            draw_histogram(panel, found, "")
            title(panel, f"{label}\n{share_text(found)}")
            panel.set_xlabel(f"{GATE_NAMES[gate]} ({'tanh' if gate == 'g' else 'sigmoid'})")
        row[0].set_ylabel("probability density")
    ends = Patch(facecolor=SHADE, hatch=HATCH, edgecolor="white", linewidth=0)
    said = f"saturated: {GATE_ENDS}, of the candidate {TANH_ENDS}"
    figure.legend([ends], [said], loc="outside lower center")
    say_what_was_read(figure, text)
    return figure


def say_what_was_read(figure: Picture, text: str) -> None:
    """Write the text that was read over all panels."""
    if text:
        figure.suptitle(text, fontsize=TITLE_SIZE, x=0.01, ha="left", parse_math=False)


def share_text(found: Histogram) -> str:
    """Return which part of the values is saturated, and which is in no bar because it is not finite."""
    if found.broken == found.total:
        return "not finite"
    said = f"{found.saturated:.1%} {TANH_ENDS if found.low < 0 else GATE_ENDS}"
    return said + (f"\n{found.broken / found.total:.1%} not finite" if found.broken else "")


def draw_histogram(panel: Axes, found: Histogram, label: str) -> None:
    """Draw a normalized histogram, its saturated ends in another colour and hatched."""
    edges, density = found.density()
    middles, width = (edges[1:] + edges[:-1]) / 2, float(edges[1] - edges[0])
    low = -SATURATED if found.low < 0 else 1 - SATURATED
    ends = (middles < low) | (middles > SATURATED)
    for part, colour, hatch, name in ((~ends, FILL, None, label), (ends, SHADE, HATCH, "saturated")):
        panel.bar(
            middles[part].numpy(), density[part].numpy(), width, color=colour, hatch=hatch,
            edgecolor="white" if hatch else colour, linewidth=0, label=name or None,
        )  # fmt: skip
    panel.set_xlim(found.low, found.high)
    if found.broken == found.total:
        panel.set_ylim(0, 1)  # else an empty panel has zero in its middle
