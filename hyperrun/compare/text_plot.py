"""The scatter as text: every group is the number of its row in the table."""

from __future__ import annotations

import math

from rich.console import Console
from rich.text import Text

from hyperrun.compare.groups import Comparison
from hyperrun.compare.plot import count_text, parameter_ticks
from hyperrun.compare.table import for_terminal, marked_label, say, shared_line
from hyperrun.errors import printable

HEIGHT, WIDEST = 16, 100
"""Lines of the plot; characters it takes at most."""


def print_plot(comparison: Comparison, console: Console) -> None:
    """Print trainable parameters (log axis) against the mean test metric, and what the numbers stand for."""
    for line in text_plot(comparison, min(console.width, WIDEST)):
        line.plain = for_terminal(line.plain, console.options.ascii_only)
        console.print(line, no_wrap=True, overflow="crop")
    for number, group in enumerate(comparison.groups, 1):
        mark = "●" if group.on_front else " "
        say(console, f"{number:>3}{mark} {marked_label(group)}: {comparison.metric.text(group.test.mean)}")
    for line in filter(None, (shared_line(comparison), comparison.alike.note)):
        say(console, printable(line))


def text_plot(comparison: Comparison, width: int) -> list[Text]:
    """Return the lines of the plot, each of at most `width` characters.

    A group whose place is taken moves to the nearest free one; where all near ones are taken it shows as "+".
    """
    groups, metric = comparison.groups, comparison.metric
    values = [metric.shown(group.test.mean) for group in groups]
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or max(abs(high) * 0.01, 1e-3)
    low, high = low - margin, high + margin
    if metric.percent:
        high = min(high, max(100.0, *values))
    left, right = math.log10(min(g.trainable for g in groups)), math.log10(max(g.trainable for g in groups))
    left, right = left - 0.1, right + 0.1

    digits = 2 if metric.percent else 3
    labels = {row: f"{high - (high - low) * row / (HEIGHT - 1):.{digits}f}" for row in range(0, HEIGHT, 5)}
    gutter = max(map(len, labels.values())) + 2
    columns = max(width - gutter, 10)
    grid: list[list[tuple[str, str | None]]] = [[(" ", None)] * columns for _ in range(HEIGHT)]
    number_width = len(str(len(groups)))

    def place(group_x: float, value: float, mark: str, style: str | None) -> None:
        x = round((group_x - left) / (right - left) * (columns - number_width))
        y = round((high - value) / (high - low) * (HEIGHT - 1))
        near = sorted(((dx, dy) for dx in range(-4, 5) for dy in (-1, 0, 1)), key=lambda d: abs(d[0]) + 2.5 * abs(d[1]))
        for dx, dy in near:
            row, first = y + dy, x + dx
            if not (0 <= row < HEIGHT and 0 <= first <= columns - len(mark)):
                continue
            around = grid[row][max(0, first - 1) : first + len(mark) + 1]  # a gap, or 1 and 2 would read 12
            if all(character == " " for character, _ in around):
                grid[row][first : first + len(mark)] = [(character, style) for character in mark]
                return
        grid[y][min(max(x, 0), columns - 1)] = ("+", style)

    for number, (group, value) in enumerate(zip(groups, values, strict=True), 1):
        place(math.log10(group.trainable), value, str(number), "bold green" if group.on_front else None)

    lines = [
        Text(f"{comparison.split} {metric.heading} ({comparison.better}), {comparison.data}"[:width], style="bold")
    ]
    for row in range(HEIGHT):
        line = Text(f"{labels.get(row, ''):>{gutter - 2}} {'┤' if row in labels else '│'}")
        for character, style in grid[row]:
            line.append(character, style=style)
        line.rstrip()
        lines.append(line)
    axis, ticks = ["─"] * columns, [" "] * columns
    end = -2
    for tick in parameter_ticks(10**left, 10**right, most=max(2, columns // 10)):
        x = round((math.log10(tick) - left) / (right - left) * (columns - 1))
        text = count_text(tick)
        start = min(max(0, x - len(text) // 2), columns - len(text))
        if start > end + 1:
            axis[x] = "┬"
            ticks[start : start + len(text)] = text
            end = start + len(text)
    lines.append(Text(" " * (gutter - 1) + "└" + "".join(axis)))
    lines.append(Text(" " * gutter + "".join(ticks).rstrip()))
    lines.append(Text("trainable parameters".rjust(width)))
    return lines
