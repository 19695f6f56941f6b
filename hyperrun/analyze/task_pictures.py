"""Pictures of what a hypernet makes of tasks; a row, or a block of rows, for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeGuard

from matplotlib.figure import Figure as Picture
from matplotlib.ticker import PercentFormatter

from hyperrun.analyze.embedding_pictures import explain_heat, heat_map, said_of_broken
from hyperrun.analyze.task_weights import Spread, TaskWeights, positions
from hyperrun.pictures.parts import COLOURS, fill, grid_of, panels, short_names, styled, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_WITH_FIGURES = 10
"""Tasks up to which a heat map has its numbers in it."""

MOST_NAMED_TASKS = 40
"""Of more, only every second, third, ... is named beside a heat map."""

LONGEST_NAME = 20
"""Characters of a task's name that are drawn."""

MOST_BARS = 24
"""Generated tensors up to which each has a bar; more are a line."""

MOST_COLUMNS = 5

MATRICES, VECTORS = "weights (two dimensions or more)", "biases and scales"

RATIO = "standard deviation over the {} / within the tensor"
SAME_AS_DRAWS = "1: as different as independent draws"

Found = Mapping[str, TaskWeights]
"""Title of a run -> what was seen in it."""


class Compared(Protocol):
    """What was made for several tasks, or for several images."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    @property
    def spread(self) -> dict[str, Spread]: ...

    @property
    def shapes(self) -> dict[str, list[int]]: ...


Ratios = Sequence[float | None]
"""Of each tensor; None where there is none."""


def shortened(name: str) -> str:
    """Return a task's name, of a long one (many classes) the beginning."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


@styled
def draw_task_similarity(found: Found) -> Picture:
    """Return heat maps, for each run one of the embeddings and one of all generated weights, centred."""
    most = max(len(seen.names) for seen in found.values())
    side = min(9.0, max(3.6, 1.8 + 0.17 * most, 1.0 + 0.36 * most if most <= MOST_WITH_FIGURES else 0.0))
    figure, places = panels(len(found), 2, side + 1.0, side + 0.9, square=True)
    drawn = None
    for row, (label, seen) in zip(places, found.items(), strict=True):
        count = len(seen.names)
        said = (
            f"{label}\nembeddings of {seen.embedding_size} numbers,\nas they are",
            f"{label}\nall {seen.weight_count:,} generated weights,\nminus their mean over the tasks",
        )
        every = math.ceil(count / MOST_NAMED_TASKS)
        names = [shortened(name) if n % every == 0 else "" for n, name in enumerate(seen.names)]
        for panel, similarity, text in zip(row, (seen.embeddings, seen.weights), said, strict=True):
            drawn = heat_map(panel, similarity, names, names, count <= MOST_WITH_FIGURES)
            if count > MOST_WITH_FIGURES or max(map(len, names)) > 5:
                panel.tick_params(axis="x", labelrotation=90)
            panel.set_xlabel("task")
            title(panel, text + said_of_broken(similarity))
        unrelated = f"tasks that differ in unrelated ways: {-1 / (count - 1):.2f}" if count > 2 else "of two always -1"
        row[1].set_xlabel(f"task ({unrelated})")
        row[0].set_ylabel("task")
    if drawn is not None:
        explain_heat(figure, drawn, [panel for row in places for panel in row])
    return figure


@styled
def draw_spread(found: Mapping[str, Compared], what: str) -> Picture:
    """Return how much every generated tensor differs between tasks or images (what), the first layer first."""
    most = max(len(seen.spread) for seen in found.values())
    height = 3.2 if most > MOST_BARS else 1.4 + 0.24 * most
    largest = max([1.0, *(one.ratio for seen in found.values() for one in seen.spread.values() if finite(one.ratio))])
    figure, places = panels(len(found), 1, 7.0, height + 0.2)
    for (panel,), (label, seen) in zip(places, found.items(), strict=True):
        names = short_names(list(seen.spread))
        ratios = [one.ratio for one in seen.spread.values()]
        matrices = [len(shape) > 1 for shape in seen.shapes.values()]
        if most <= MOST_BARS:
            draw_bars(panel, names, ratios, matrices, largest)
            panel.set_xlabel(RATIO.format(what))
        else:
            draw_lines(panel, names, ratios, matrices, largest)
            panel.set_ylabel(RATIO.format(what).replace(" / ", "\n/ "))
        title(panel, f"{label}\nhow much the generated weights differ between {seen.count} {what}")
    explained = {
        text: artist for row in places for artist, text in zip(*row[0].get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(explained.values()), list(explained), loc="outside lower center", ncols=3)
    return figure


def finite(ratio: float | None) -> TypeGuard[float]:
    return ratio is not None and math.isfinite(ratio)


def ratio_text(ratio: float | None) -> str:
    if ratio is None:
        return "none"
    return "not finite" if not math.isfinite(ratio) else f"{ratio:.2f}" if ratio < 1000 else f"{ratio:.3g}"


def draw_bars(panel: Axes, names: list[str], ratios: Ratios, matrices: list[bool], largest: float) -> None:
    """Draw a bar for each tensor, the first on top. largest: ratio in any of the panels, which share their scale."""
    drawn = [ratio if finite(ratio) else 0.0 for ratio in ratios]
    for kind, text, colour, hatch in ((True, MATRICES, COLOURS[0], None), (False, VECTORS, COLOURS[1], "////")):
        mine = [n for n, is_matrix in enumerate(matrices) if is_matrix == kind]
        if mine:
            panel.barh(
                mine, [drawn[n] for n in mine], 0.7, color=colour, hatch=hatch, edgecolor="white", linewidth=0,
                label=text,
            )  # fmt: skip
    for n, ratio in enumerate(ratios):
        panel.text(drawn[n], n, f" {ratio_text(ratio)}", va="center", fontsize=8)
    panel.axvline(1, color="black", linewidth=1, linestyle=":", label=SAME_AS_DRAWS)
    panel.set_yticks(range(len(names)), names, fontsize=8)
    for text in panel.get_yticklabels():
        text.set_parse_math(False)
    panel.invert_yaxis()
    panel.grid(False, axis="y")
    panel.set_xlim(0, 1.12 * largest)  # room for the number at the end of the longest bar


def draw_lines(panel: Axes, names: list[str], ratios: Ratios, matrices: list[bool], largest: float) -> None:
    """Draw a line over the tensors for the weights, and one for the biases and scales; largest: as for draw_bars."""
    for kind, text, colour, style in ((True, MATRICES, COLOURS[0], "-o"), (False, VECTORS, COLOURS[1], "--^")):
        mine = [n for n, is_matrix in enumerate(matrices) if is_matrix == kind]
        if mine:
            drawn = [one if finite(one := ratios[n]) else math.nan for n in mine]
            panel.plot(mine, drawn, style, color=colour, markersize=3, linewidth=1.2, label=text)
    panel.axhline(1, color="black", linewidth=1, linestyle=":", label=SAME_AS_DRAWS)
    shown = sorted({round(n * (len(names) - 1) / 7) for n in range(8)})
    panel.set_xticks(shown, [names[n] for n in shown], fontsize=7, rotation=25, ha="right")
    for text in panel.get_xticklabels():
        text.set_parse_math(False)
    panel.set_ylim(0, 1.06 * largest)
    panel.set_xlabel("generated tensor, from the first to the last")


@styled
def draw_interpolation(found: Found, split: str) -> Picture:
    """Return the accuracies along the lines between the embeddings of two tasks, a panel for each pair.

    split: which images these are, for the legend.
    """
    columns = max(grid_of(len(seen.lines), MOST_COLUMNS)[1] for seen in found.values())
    blocks = {label: math.ceil(len(seen.lines) / columns) for label, seen in found.items()}
    width, height = (2.5, 2.5) if columns > 1 else (4.6, 3.6)
    figure, places = panels(sum(blocks.values()), columns, width, height, sharey=True)
    rows = iter(places)
    for label, seen in found.items():
        cells = [panel for _ in range(blocks[label]) for panel in next(rows)]
        for n, (panel, line) in enumerate(fill([cells], seen.lines)):
            at, (first, second) = positions().numpy(), (shortened(seen.names[task]) for task in line.tasks)
            for accuracy, text, colour, style in (
                (line.accuracy[0], f"{split} images of the task on the left", COLOURS[0], "-o"),
                (line.accuracy[1], f"{split} images of the task on the right", COLOURS[1], "--^"),
            ):
                panel.plot(at, accuracy.numpy(), style, color=colour, markersize=3, linewidth=1.3, label=text)
            panel.axhline(1 / seen.classes, color="black", linewidth=1, linestyle=":", label="chance")
            panel.set_ylim(0, 1.04)
            panel.set_xticks([0, 0.5, 1], ["0", "½", "1"])
            panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            between = "\n" if len(first) + len(second) > 12 else " "
            panel.set_xlabel(f"from task {first}{between}to task {second}", parse_math=False)
            panel.tick_params(labelleft=True)
            if n % columns == 0:
                panel.set_ylabel("accuracy")
            title(panel, label if n == 0 else "")
    artists, texts = places[0][0].get_legend_handles_labels()
    figure.legend(artists, texts, loc="outside lower center", ncols=3 if columns > 1 else 1)
    return figure
