"""Norm and standard deviation of every generated tensor over training, from the rows that training logged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator

from hyperrun.hypernets.generated_statistics import PREFIX
from hyperrun.pictures.parts import (
    MOST_NAMED,
    explain_colours,
    layer_colours,
    panels,
    short_names,
    styled,
    title,
)
from hyperrun.runs.metrics_file import read_metrics
from hyperrun.runs.reading import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEYS = {"norm": "Euclidean norm", "std": "standard deviation"}

Curves = dict[str, dict[str, list[float]]]
"""Name of a tensor -> {"step": ..., "norm": ..., "std": ...}, equally long; NaN is a value that is not finite."""


def generated_curves(metrics: Path) -> Curves:
    """Return what a metrics.jsonl says of the generated tensors; nothing of a run without, or older than these rows."""
    curves: Curves = {}
    for row in read_metrics(metrics):
        for key in row:
            if key.startswith(PREFIX) and key.endswith("/norm"):
                name = key.removeprefix(PREFIX).removesuffix("/norm")
                curve = curves.setdefault(name, {"step": [], "norm": [], "std": []})
                curve["step"].append(row["step"])
                for what in KEYS:
                    curve[what].append(finite_or_nan(row.get(f"{PREFIX}{name}/{what}")))
    return curves


def finite_or_nan(value: Any) -> float:
    return value if is_number(value) else math.nan


@styled
def draw_generated(curves: Mapping[str, Curves], marks: Mapping[str, tuple[str, int]] | None = None) -> Picture:
    """Return norm and standard deviation of the generated tensors over the steps: a row of panels for each run.

    marks: label of a run -> what stands at which step ("selected checkpoint"), as a dotted line.

    One line for each layer; more than eight are coloured by depth. All runs have one scale, so that they can be
    compared. It is logarithmic where the values differ by more than a factor of 20: a hypernet that dies or explodes
    does that. A cross at the top stands at each step at which a value is not finite.
    """
    figure, places = panels(len(curves), len(KEYS), 5.2, 4.0, sharex="row", sharey="col")
    for column, (key, what) in enumerate(KEYS.items()):
        everything = [v for found in curves.values() for curve in found.values() for v in curve[key]]
        values = [v for v in everything if math.isfinite(v)]
        logarithmic = bool(values) and min(values) > 0 and max(values) > 20 * min(values)
        for row, (run, found) in zip(places, curves.items(), strict=True):
            panel = row[column]
            if logarithmic:
                panel.set_yscale("log")
            draw_layers(panel, found, key)
            if marks is not None and run in marks:
                text, step = marks[run]
                label = f"{text}, step {step:,}"
                panel.axvline(step, color="black", linestyle=":", linewidth=1, label=label)
            panel.set_xlabel("optimizer step")
            panel.set_ylabel(what)
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            panel.tick_params(labelleft=True)
            title(panel, f"{run}\n{what} of the generated tensors")
        if not logarithmic:
            places[0][column].set_ylim(bottom=0)
    for row, found in zip(places, curves.values(), strict=True):
        names = short_names(list(found))
        for panel in row if len(found) <= MOST_NAMED else row[-1:]:
            explain_colours(panel, names)
        if len(found) > MOST_NAMED:
            for panel in row:
                explain_marks(panel, len(found))
    return figure


def draw_layers(panel: Axes, found: Curves, key: str) -> None:
    """Draw a line for each layer, and a cross at the top at each step at which one of them is not finite."""
    for curve, name, colour in zip(found.values(), short_names(list(found)), layer_colours(len(found)), strict=True):
        alone = "o" if len(curve["step"]) == 1 else ""
        panel.plot(curve["step"], curve[key], f"-{alone}", color=colour, linewidth=1.3, label=name.replace("$", r"\$"))
    pairs = [pair for curve in found.values() for pair in zip(curve["step"], curve[key], strict=True)]
    broken = sorted({step for step, value in pairs if not math.isfinite(value)})
    if broken:
        panel.plot(
            broken, [0.98] * len(broken), "x", color="black", markersize=6, label="not finite",
            transform=panel.get_xaxis_transform(),
        )  # fmt: skip


def explain_marks(panel: Axes, layers: int) -> None:
    """Put a legend of what is no layer, whose lines were drawn first, below a panel."""
    artists, texts = panel.get_legend_handles_labels()
    if texts[layers:]:
        panel.legend(artists[layers:], texts[layers:], loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
