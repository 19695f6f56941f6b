"""The validation metric of every run against the step, as a matplotlib figure."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator

from hyperrun.compare.groups import Comparison
from hyperrun.compare.kinds import line_looks
from hyperrun.compare.plot import MOST_LABELS, PANEL, within_percent
from hyperrun.compare.table import marked_label
from hyperrun.pictures.style import DPI, STYLE, spread
from hyperrun.runs.folder import METRICS as ROWS
from hyperrun.runs.metrics_file import read_metrics
from hyperrun.runs.reading import is_number

LETTERS = 48
"""Of a label in one of two columns of the legend."""


def draw_curves(comparison: Comparison) -> Picture | None:
    """Return the validation metric of every run against the step; None where no run logged it.

    One look for each group, in its kind of hypernet's colour as in the scatter; seeds share it. Lines have SVG ids:
    curve-GROUP-SEED, counted from 0.
    """
    metric = comparison.metric
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=PANEL, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        panel = figure.subplots()
        looks = line_looks([group.hypernet for group in comparison.groups])
        some = False
        for number, group in enumerate(comparison.groups):
            label: str | None = textwrap.fill(marked_label(group), 2 * LETTERS).replace("$", r"\$")
            for which, run in enumerate(group.runs):
                steps, values = curve(run.path / ROWS, f"val/{metric.name}")
                if not steps:
                    continue
                shown = [metric.shown(value) for value in values]
                colour, dashes = looks[number]
                look = {"color": colour, "linestyle": dashes, "linewidth": 1.3, "alpha": 0.85, "markersize": 3}
                line = panel.plot(steps, shown, marker="o" if len(steps) == 1 else "", label=label, **look)
                line[0].set_gid(f"curve-{number}-{which}")
                some, label = True, None
        within_percent(panel, metric)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        panel.set_xlabel("step")
        panel.set_ylabel(f"validation {metric.heading} ({comparison.better})")
        if 0 < len(comparison.groups) <= MOST_LABELS and some:
            long = max(len(marked_label(group)) for group in comparison.groups) > LETTERS
            columns = 1 if long or len(comparison.groups) == 1 else 2
            panel.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=columns, columnspacing=1.4, handlelength=3)
    return figure if some else None


def curve(path: Path, key: str, most: int = 300) -> tuple[list[int], list[float]]:
    """Return steps and values of a key in a metrics.jsonl; of more than `most` rows, as many evenly chosen ones."""
    try:
        rows = read_metrics(path)
    except (OSError, RecursionError):
        return [], []
    found = [(row["step"], row[key]) for row in rows if is_number(row.get(key)) and is_number(row["step"])]
    found = spread(found, most)
    return [step for step, _ in found], [value for _, value in found]
