"""Norm and standard deviation of every generated tensor over training, from the rows that training logged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator

from hyperrun.analysis.picture_parts import (
    MOST_NAMED,
    explain_colours,
    layer_colours,
    panels,
    short_names,
    styled,
    title,
)
from hyperrun.hypernets.generated_statistics import PREFIX
from hyperrun.tracking.metrics import read_metrics

KEYS = {"norm": "Euclidean norm", "std": "standard deviation"}

Curves = dict[str, dict[str, list[float]]]
"""Name of a tensor -> {"step": ..., "norm": ..., "std": ...}, equally long."""


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
                    curve[what].append(row.get(f"{PREFIX}{name}/{what}", math.nan))
    return curves


@styled
def draw_generated(curves: Mapping[str, Curves]) -> Picture:
    """Return norm and standard deviation of the generated tensors over the steps: a row of panels for each run.

    One line for each layer; more than eight are coloured by depth. The axis is logarithmic where the values differ by
    more than a factor of 20: a hypernet that dies or explodes does that.
    """
    figure, places = panels(len(curves), len(KEYS), 5.2, 4.0)
    for row, (label, found) in zip(places, curves.items(), strict=True):
        names = short_names(list(found))
        colours = layer_colours(len(found))
        for panel, (key, what) in zip(row, KEYS.items(), strict=True):
            for curve, name, colour in zip(found.values(), names, colours, strict=True):
                single = "o" if len(curve["step"]) == 1 else ""
                panel.plot(
                    curve["step"], curve[key], f"-{single}", color=colour, linewidth=1.3, label=name.replace("$", r"\$")
                )
            values = [v for curve in found.values() for v in curve[key] if math.isfinite(v)]
            if values and min(values) > 0 and max(values) > 20 * min(values):
                panel.set_yscale("log")
            else:
                panel.set_ylim(bottom=0)
            panel.set_xlabel("optimizer step")
            panel.set_ylabel(what)
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            title(panel, f"{label}\n{what} of the generated tensors")
        if len(found) <= MOST_NAMED:
            for panel in row:
                explain_colours(panel, names)
        else:
            explain_colours(row[-1], names)
    return figure
