"""Parameters on a log axis against the metric, as a matplotlib figure, drawn without a display."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from hyperrun.compare.alike import MARK
from hyperrun.compare.curves import Curve, find_curves
from hyperrun.compare.groups import Comparison, Group
from hyperrun.compare.kinds import kind_style
from hyperrun.compare.labels import Label, place_labels
from hyperrun.compare.table import shared_line
from hyperrun.errors import printable
from hyperrun.metrics import Metric
from hyperrun.pictures.style import DPI, STYLE, quiet, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

PANEL = (7.2, 4.8)
"""Width and height of one panel in inches."""

MOST_LABELS = 14
"""Groups in a panel that all get a label; of more, only half as many on the Pareto front do."""

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


MARKER, RING = 6.5, 4.5
"""Size of a marker in points, and by how much each is larger that stands around another one."""

COINCIDE = 5.0
"""Pixels at 100 dpi between two markers that cover each other."""

LETTERS = 104
"""Of a line below a panel's title."""


def draw(comparisons: Sequence[Comparison], explained: bool = True) -> Picture:
    """Return one picture with a panel for each comparison, two side by side where there are more than one.

    explained: whether each says below its title what all groups share, and in what they are not trained alike.
    """
    columns = min(2, len(comparisons))
    rows = math.ceil(len(comparisons) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(PANEL[0] * columns, PANEL[1] * rows), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel in panels[len(comparisons) :]:
            panel.set_axis_off()
        labels = [
            draw_panel(panel, comparison, explained) for panel, comparison in zip(panels, comparisons, strict=False)
        ]
        with quiet():
            figure.canvas.draw()  # the layout is known only now, and the labels depend on it
            figure.set_layout_engine("none")
            for panel, texts in zip(panels, labels, strict=False):
                thin_ticks(panel)
                enlarge_covered_markers(panel)
                place_labels(panel, texts)
    return figure


def draw_panel(panel: Axes, comparison: Comparison, explained: bool = True) -> list[Label]:
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
    set_title(panel, comparison, explained)
    set_axes(panel, comparison, [*(group.trainable for group in groups), *(cross[0] for cross in crosses)])
    draw_levels(panel, metric, on_curves)
    # below the axis: above it the legend would cover points
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=5, handletextpad=0.4, columnspacing=1.2)
    labelled = groups if len(groups) <= MOST_LABELS else spread(front, MOST_LABELS // 2)
    short = short_labels(curves)
    texts = [(group, short.get(group, group.label) + f" {MARK}" * bool(group.differs_in)) for group in labelled]
    texts += [(group, MARK) for group in groups if group.differs_in and group not in labelled]
    placed = [(group.trainable, value(metric, group), text, kind_style(group.hypernet)[1]) for group, text in texts]
    # of one cross its line says whose it is; of several it does not, where lines lie close or cross
    return placed + (crosses if 1 < len(crosses) <= MOST_LABELS else [])


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
            mean, std = value(metric, group), metric.shown(group.test.std) if group.test.std else None
            if std is not None and metric.percent:  # no accuracy is above 100%, nor below 0
                std = [[min(std, mean)], [min(std, 100 - mean)]]
            face = colour if group.on_front else "white"
            drawn = panel.errorbar(
                group.trainable, mean, yerr=std, fmt=marker, color=colour, markerfacecolor=face,
                markersize=MARKER, markeredgewidth=1.4, elinewidth=1, capsize=3, zorder=3, clip_on=False,
            )  # fmt: skip
            drawn.lines[0].set_gid(f"point-{number}")
        label = "direct" if hypernet == "none" else f"{hypernet} hypernet".replace("$", r"\$")
        panel.plot([], [], marker, color=colour, markersize=MARKER, markeredgewidth=1.4, label=label)


def draw_crosses(panel: Axes, metric: Metric, groups: Sequence[Group]) -> list[Label]:
    """Draw a cross for each figure of the paper, joined to our group; return the crosses' labels."""
    crosses: list[Label] = []
    what = (
        "paper, other training"
        if all(group.changed for group in groups if group.paper is not None)
        else "the paper's figure"
    )
    for number, group in enumerate(groups):
        figure = group.paper
        if figure is None:
            continue
        # where the paper's count is of one parameter only, its figure stands at our count
        x = group.paper_params if group.paper_params and group.paper_part is None else group.trainable
        y = metric.shown(figure)
        panel.plot([group.trainable, x], [value(metric, group), y], "-", color=PAPER_COLOUR, linewidth=0.7, zorder=1)
        label = None if crosses else what
        look = {"color": PAPER_COLOUR, "markersize": 7, "mew": 1.6, "zorder": 3, "clip_on": False}
        [cross] = panel.plot(x, y, "x", label=label, **look)
        cross.set_gid(f"paper-{number}")
        crosses.append((x, y, f"paper: {group.name}", PAPER_COLOUR))
    return list(dict.fromkeys(crosses))  # one of several groups of an experiment


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
    within_percent(panel, comparison.metric)
    panel.set_xlabel("trainable parameters")
    panel.set_ylabel(f"{comparison.split} {comparison.metric.heading} ({comparison.better})")


def within_percent(panel: Axes, metric: Metric) -> None:
    """End the y axis where percents end."""
    if metric.percent:
        low, high = panel.get_ylim()
        panel.set_ylim(max(low, 0.0), min(high, 100.0))


def set_title(panel: Axes, comparison: Comparison, explained: bool) -> None:
    """Write the name of the data above the panel and, in small letters, what is to be known of all groups."""
    said = [shared_line(comparison), comparison.alike.note] if explained else []
    lines = [line for text in said if text for line in textwrap.wrap(printable(text), LETTERS)]
    panel.set_title(comparison.data, loc="left", parse_math=False, pad=6 + 9.5 * len(lines))
    if lines:
        panel.annotate(
            "\n".join(lines), (0, 1), (0, 5), "axes fraction", "offset points", fontsize=7, color="#5f6368",
            va="bottom", linespacing=1.15, parse_math=False,
        ).set_gid("below-title")  # fmt: skip


def thin_ticks(panel: Axes) -> None:
    """Leave out ticks of the x axis whose labels would lie on another's. The layout must be final."""
    renderer = panel.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    kept: list[float] = []
    end = -math.inf
    for tick in panel.xaxis.get_major_ticks():
        box = tick.label1.get_window_extent(renderer)
        if box.x0 > end + 3 * panel.figure.dpi / 100:
            kept.append(float(tick.get_loc()))
            end = box.x1
    panel.xaxis.set_major_locator(FixedLocator(kept))


def enlarge_covered_markers(panel: Axes) -> None:
    """Make markers that lie on each other unequal, so that each is seen around the one before. The layout is final."""
    near = COINCIDE * panel.figure.dpi / 100
    placed: list[tuple[float, float, Line2D]] = []
    for container in panel.containers:
        line = container.lines[0]  # type: ignore[attr-defined]
        x, y = map(float, panel.transData.transform(line.get_xydata()[0]))
        covered = [other for other_x, other_y, other in placed if math.hypot(x - other_x, y - other_y) < near]
        placed.append((x, y, line))
        if covered:
            line.set_markersize(MARKER + RING * len(covered))
            line.set_zorder(line.get_zorder() - 0.01 * len(covered))
        for other in covered:
            if other.get_markerfacecolor() != "white":  # filled ones of one colour would be one
                other.set_markeredgecolor("white")


def short_labels(curves: Sequence[Curve]) -> dict[Group, str]:
    """Return the labels of groups on a curve whose colour says the rest: the only curve of its kind of hypernet."""
    kinds = [curve.groups[0].hypernet for curve in curves]
    only = [curve for curve, kind in zip(curves, kinds, strict=True) if kinds.count(kind) == 1]
    return {group: printable(curve.label(group)) for curve in only for group in curve.groups}


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
