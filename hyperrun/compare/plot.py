"""Parameters on a log axis against the metric, and learning curves: matplotlib figures, drawn without a display."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from hyperrun.compare.curves import Curve, find_curves
from hyperrun.compare.groups import Comparison, Group
from hyperrun.compare.labels import Label, place_labels
from hyperrun.errors import printable
from hyperrun.metrics import Metric
from hyperrun.pictures.style import DPI, STYLE, quiet, spread
from hyperrun.runs.folder import METRICS as ROWS
from hyperrun.runs.metrics_file import read_metrics
from hyperrun.runs.reading import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = (7.2, 4.8)
"""Width and height of one panel in inches."""

MOST_LABELS = 14
"""Groups in a panel that all get a label; of more, only half as many on the Pareto front do."""

KINDS = {
    "none": ("s", "#5f6368"),
    "static": ("o", "#1668b8"),
    "chunked": ("v", "#7a5230"),
    "dynamic": ("^", "#c2570c"),
    "conditional": ("D", "#8a3ffc"),
}
"""Kind of hypernet -> marker and colour; a kind of one's own is OTHER."""
OTHER = ("P", "#0b7a4b")

NEAR = 1.02
"""Ratio of parameter counts that look like one."""

TICKS = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 4, 5, 7),
    (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
    tuple(i / 10 for i in range(10, 100)),
)
"""What of every power of ten gets a tick; the first row that gives enough of them is taken."""

FRONT_COLOUR, PAPER_COLOUR, TWIN_COLOUR = "#2e8540", "#a61e4d", "#6b7078"


def draw(comparisons: Sequence[Comparison]) -> Picture:
    """Return one picture with a panel for each comparison, two side by side where there are more than one."""
    columns = min(2, len(comparisons))
    rows = math.ceil(len(comparisons) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(PANEL[0] * columns, PANEL[1] * rows), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel in panels[len(comparisons) :]:
            panel.set_axis_off()
        labels = [draw_panel(panel, comparison) for panel, comparison in zip(panels, comparisons, strict=False)]
        with quiet():
            figure.canvas.draw()  # the layout is known only now, and the labels depend on it
            figure.set_layout_engine("none")
            for panel, texts in zip(panels, labels, strict=False):
                place_labels(panel, texts)
    return figure


def kind_style(hypernet: str) -> tuple[str, str]:
    return KINDS.get(hypernet, OTHER)


def draw_panel(panel: Axes, comparison: Comparison) -> list[Label]:
    """Draw a comparison; return the labels that are to be placed."""
    metric, groups, front = comparison.metric, comparison.groups, comparison.front
    curves = find_curves(groups)
    on_curves = [group for curve in curves for group in curve.groups]
    panel.set_xscale("log")
    draw_twins(panel, metric, [group for group in groups if group not in on_curves])
    draw_front(panel, metric, front)
    for points in (curve.groups for curve in curves):
        x, y = [group.trainable for group in points], [value(metric, group) for group in points]
        panel.plot(x, y, "-", color=kind_style(points[0].hypernet)[1], linewidth=1.2, alpha=0.5, zorder=2)
    draw_groups(panel, metric, groups)
    crosses = draw_crosses(panel, metric, groups)
    set_axes(panel, comparison, [*(group.trainable for group in groups), *(cross[0] for cross in crosses)])
    draw_levels(panel, metric, on_curves)
    # below the axis: above it the legend would cover points
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5, handletextpad=0.4, columnspacing=1.2)
    labelled = groups if len(groups) <= MOST_LABELS else spread(front, MOST_LABELS // 2)
    short = short_labels(curves)
    texts = [(group, short.get(group, group.label)) for group in labelled]
    placed = [(group.trainable, value(metric, group), text, kind_style(group.hypernet)[1]) for group, text in texts]
    return placed + [cross for cross in crosses if any(one_above_the_other(cross, other) for other in crosses)]


def value(metric: Metric, group: Group) -> float:
    return metric.shown(group.test.mean)


def draw_twins(panel: Axes, metric: Metric, groups: Sequence[Group]) -> None:
    """Draw a line from each group to its direct twin."""
    label: str | None = "to its direct twin"
    for group in groups:
        if group.twin is not None:
            x, y = [group.trainable, group.twin.trainable], [value(metric, group), value(metric, group.twin)]
            panel.plot(x, y, ":", color=TWIN_COLOUR, linewidth=1.1, zorder=1, label=label)
            label = None


def draw_front(panel: Axes, metric: Metric, front: Sequence[Group]) -> None:
    """Draw a staircase: between two groups of the front, the smaller one is the best that is as small."""
    if len(front) < 2:
        return
    corners = [(b.trainable, value(metric, a)) for a, b in itertools.pairwise(front)]
    steps = [(group.trainable, value(metric, group)) for group in front]
    x, y = zip(*[place for pair in itertools.zip_longest(steps, corners) for place in pair if place], strict=True)
    panel.plot(x, y, "-", color=FRONT_COLOUR, linewidth=1.4, alpha=0.65, zorder=2, label="Pareto front (filled)")


def draw_groups(panel: Axes, metric: Metric, groups: Sequence[Group]) -> None:
    """Draw each group at its mean with its standard deviation, its number as SVG id: point-0, point-1, ..."""
    for hypernet in sorted({group.hypernet for group in groups}, key=lambda kind: (kind != "none", kind)):
        marker, colour = kind_style(hypernet)
        for number, group in enumerate(groups):
            if group.hypernet != hypernet:
                continue
            std = metric.shown(group.test.std) if group.test.std else None
            face = colour if group.on_front else "white"
            drawn = panel.errorbar(
                group.trainable, value(metric, group), yerr=std, fmt=marker, color=colour, markerfacecolor=face,
                markersize=6.5, markeredgewidth=1.4, elinewidth=1, capsize=3, zorder=3,
            )  # fmt: skip
            drawn.lines[0].set_gid(f"point-{number}")
        label = "direct" if hypernet == "none" else f"{hypernet} hypernet".replace("$", r"\$")
        panel.plot([], [], marker, color=colour, markersize=6.5, markeredgewidth=1.4, label=label)


def draw_crosses(panel: Axes, metric: Metric, groups: Sequence[Group]) -> list[Label]:
    """Draw a cross for each figure of the paper, joined to our group; return the crosses' labels."""
    crosses: list[Label] = []
    published = [(group, group.paper) for group in groups if group.paper is not None]
    what = "paper, other training" if all(group.changed for group, _ in published) else "the paper's figure"
    for group, figure in published:
        # where the paper's count is of one parameter only, its figure stands at our count
        x = group.paper_params if group.paper_params and group.paper_part is None else group.trainable
        y = metric.shown(figure)
        panel.plot([group.trainable, x], [value(metric, group), y], "-", color=PAPER_COLOUR, linewidth=0.7, zorder=1)
        label = None if crosses else what
        panel.plot(x, y, "x", color=PAPER_COLOUR, markersize=7, mew=1.6, zorder=3, label=label)
        crosses.append((x, y, f"paper: {group.label}", PAPER_COLOUR))
    return crosses


def draw_levels(panel: Axes, metric: Metric, on_curves: Sequence[Group]) -> None:
    """Draw one line for the twin of a whole curve: one from each of its points would be a fan."""
    levels = {value(metric, group.twin) for group in on_curves if group.twin is not None}
    for i, level in enumerate(sorted(levels)):
        label = "level of the direct twin" if i == 0 else None
        panel.plot(panel.get_xlim(), [level, level], ":", color=TWIN_COLOUR, linewidth=1.1, zorder=1, label=label)


def set_axes(panel: Axes, comparison: Comparison, counts: Sequence[float]) -> None:
    """Set limits that have room for all counts, round ticks, and what the axes show."""
    low, high = min(counts), max(counts)
    room = max(1.25, (high / low) ** 0.09)
    panel.set_xlim(low / room, high * room**1.6)  # labels stand to the right of their points, as a rule
    panel.xaxis.set_major_locator(FixedLocator(parameter_ticks(low / room, high * room**1.6, most=8)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: count_text(tick)))
    panel.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    panel.margins(y=0.12)
    panel.set_xlabel("trainable parameters")
    panel.set_ylabel(f"{comparison.split} {comparison.metric.heading} ({comparison.better})")
    panel.set_title(comparison.data, loc="left", parse_math=False)


def one_above_the_other(cross: Label, other: Label) -> bool:
    """Whether two crosses stand so nearly at one count that it cannot be seen whose they are."""
    return cross is not other and 1 / NEAR < cross[0] / other[0] < NEAR


def short_labels(curves: Sequence[Curve]) -> dict[Group, str]:
    """Return the labels of groups on a curve whose colour says the rest: the only curve of its kind of hypernet."""
    kinds = [curve.groups[0].hypernet for curve in curves]
    only = [curve for curve, kind in zip(curves, kinds, strict=True) if kinds.count(kind) == 1]
    return {group: printable(curve.label(group)) for curve in only for group in curve.groups}


def draw_curves(comparison: Comparison) -> Picture | None:
    """Return the validation metric of every run against the step; None where no run logged it.

    One colour for each group; seeds share it. Lines carry the group's number as SVG id: curve-0, curve-0-1, ...
    """
    metric = comparison.metric
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=PANEL, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        panel = figure.subplots()
        colours = matplotlib.colormaps["tab20" if len(comparison.groups) > 10 else "tab10"]
        some = False
        for number, group in enumerate(comparison.groups):
            label: str | None = group.label.replace("$", r"\$")
            for which, run in enumerate(group.runs):
                steps, values = curve(run.path / ROWS, f"val/{metric.name}")
                if not steps:
                    continue
                shown = [metric.shown(value) for value in values]
                look = {"color": colours(number % colours.N), "linewidth": 1.3, "alpha": 0.85, "markersize": 3}
                line = panel.plot(steps, shown, "o-" if len(steps) == 1 else "-", label=label, **look)
                line[0].set_gid(f"curve-{number}-{which}")
                some, label = True, None
        panel.set_xlabel("step")
        panel.set_ylabel(f"validation {metric.heading} ({comparison.better})")
        if 0 < len(comparison.groups) <= MOST_LABELS and some:
            panel.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2, columnspacing=1.4)
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


def count_text(value: float) -> str:
    """Return a parameter count in a few characters: 500, 20k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def parameter_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` round numbers between low and high for a log axis, at least two where there are any."""
    ticks: list[float] = []
    for factors in TICKS:
        finer = [
            factor * 10**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for factor in factors
            if low <= factor * 10**power <= high
        ]
        if len(finer) > most and len(ticks) >= 2:
            break
        ticks = finer
        if len(ticks) >= max(3, most // 2):
            break
    return ticks[:: max(1, math.ceil(len(ticks) / most))]
