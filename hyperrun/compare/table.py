"""The comparison as tables: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hyperrun.compare.alike import ASPECTS, MARK
from hyperrun.compare.groups import Comparison, Figure, Group, compare
from hyperrun.errors import printable
from hyperrun.metrics import Metric, compression_text, symbols_word
from hyperrun.runs.reading import Run, Runs

NARROWEST_LABEL = 18
"""Characters below which a column of labels is not squeezed; other columns go first."""

GAP = 2
"""Characters between columns: the box's empty divider, and padding."""

FOOTNOTE = "● on the Pareto front: none is both smaller and better; mean ± sample standard deviation (n seeds)"

WITH_WARM_UP = "≤"
"""Stands before a time that counts warm-up and compilation: an older version did not measure them apart."""

ABOUT_TIMES = f"{WITH_WARM_UP} with warm-up and compilation, which the run's older version did not measure apart"

MOST_UNFINISHED = 20
"""Unfinished runs that are listed; of more, these and the number."""

AS_ASCII = str.maketrans(
    {"●": "*", "±": "+-", "…": "...", "│": "|", "┤": "|", "─": "-", "┬": "+", "└": "+", "†": "+", "≤": "<="}
)
"""What is put in place of the tables' and plots' characters beyond ASCII."""


@dataclass(frozen=True)
class Column:
    """A column of the table, and which are the first to go when the terminal is narrow (the highest)."""

    heading: str
    text: Callable[[Group], str]
    goes: int = 0
    justify: Literal["left", "right"] = "right"


def columns(comparison: Comparison) -> list[Column]:
    """Return the columns that have something to show, the label first."""
    metric = comparison.metric
    words = any(group.mean("throughput/tokens_per_s") is not None for group in comparison.groups)
    speed = "throughput/tokens_per_s" if words else "throughput/examples_per_s"
    symbols = symbols_word(comparison.groups[0].runs[0].summary)
    unequal = {one.what for one in comparison.alike.unequal}

    def where_unequal(what: str) -> Callable[[Group], str]:
        return lambda group: aspect_text(group, what) if what in unequal else ""

    found = [
        Column("model", marked_label, justify="left"),
        Column("trainable", lambda g: f"{g.trainable:,}"),
        Column("target", lambda g: f"{g.target:,}", goes=5),
        Column("compr.", lambda g: compression_text(g.target / g.trainable), goes=3),
        Column(f"val {metric.heading}", lambda g: figure_text(metric, g.val) if g.tested else "", goes=4),
        Column(f"{comparison.split} {metric.heading}", lambda g: figure_text(metric, g.test)),
        Column("paper", paper_text, goes=1),
        Column("paper's parameters", paper_params_text, goes=8),
        Column("trained", lambda g: aspect_text(g, "length"), goes=2, justify="left"),
        Column("data", where_unequal("data check"), goes=3, justify="left"),
        Column("precision", where_unequal("precision"), goes=3, justify="left"),
        Column("hardware", where_unequal("hardware"), goes=10, justify="left"),
        Column("s/epoch", epoch_text, goes=6),
        Column(f"{symbols}/s" if words else "examples/s", lambda g: short_number(g.mean(speed)), goes=7),
        Column("warm-up s", lambda g: short_number(g.mean("time/warm_up_s")), goes=11),
        Column("evaluation s", lambda g: short_number(g.mean("time/eval_s")), goes=12),
        Column("checkpoint s", lambda g: short_number(g.mean("time/save_s")), goes=13),
    ]
    return [column for column in found if any(column.text(group) for group in comparison.groups)]


def marked_label(group: Group) -> str:
    """Return the label, with a mark where it was trained unlike most of the others."""
    return f"{group.label} {MARK}" if group.differs_in else group.label


def aspect_text(group: Group, what: str) -> str:
    """Return what a group has of a key of ASPECTS, with a mark if that is unlike the others; empty if unknown."""
    found = ASPECTS[what](group.runs)
    mark = f" {MARK}" if what in group.differs_in else ""
    return printable(found[1]) + mark if found is not None else ""


def epoch_text(group: Group) -> str:
    """Return the seconds of an epoch, with a mark where they count warm-up and compilation."""
    text = short_number(group.mean("time/epoch_s"))
    return f"{WITH_WARM_UP}{text}" if text and group.with_warm_up else text


def notes(comparison: Comparison) -> list[str]:
    """Return what is said below a table: in what its rows are not alike, and how its times were taken."""
    said = [comparison.alike.note]
    said += [ABOUT_TIMES] * any(epoch_text(group).startswith(WITH_WARM_UP) for group in comparison.groups)
    return [printable(line) for line in said if line]


def shared_line(comparison: Comparison) -> str:
    """Return the line below a title: what is the same for all rows; empty where nothing is known to be."""
    shared = comparison.alike.shared
    return printable(f"{'all' if len(comparison.groups) > 1 else 'it'}: {', '.join(shared)}") if shared else ""


def figure_text(metric: Metric, figure: Figure) -> str:
    """Return "98.61 ± 0.28 (3)", or "98.61 (1)" for one run."""
    if figure.std is None:
        return f"{metric.text(figure.mean)} ({figure.n})"
    return f"{metric.text(figure.mean)} ± {metric.text(figure.std)} ({figure.n})"


def paper_text(group: Group) -> str:
    """Return the paper's figure, in parentheses if it is that of another training."""
    if group.paper is None:
        return ""
    text = group.metric.text(group.paper)
    return f"({text})" if group.changed else text


def paper_params_text(group: Group) -> str:
    if group.paper_params is None:
        return ""
    return f"{group.paper_params:,}" + (f" ({printable(group.paper_part)})" if group.paper_part else "")


def short_number(value: float | None) -> str:
    """Return three digits of a number, thousands parted; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# ---------------------------------------------------------------- the terminal


def print_comparison(runs: Runs, console: Console, comparisons: list[Comparison] | None = None) -> None:
    """Print one table for each data set and metric, then the runs that are not finished.

    comparisons: compare(runs), where the caller has it already.
    """
    comparisons = compare(runs) if comparisons is None else comparisons
    for comparison in comparisons:
        table, left_out = rich_table(comparison, console.width, console.options.ascii_only)
        console.print(table, crop=False)
        if left_out:
            say(console, f"no room for: {', '.join(left_out)}")
        for note in notes(comparison):
            say(console, note)
        console.print()
    if comparisons:
        say(console, FOOTNOTE)
    if runs.unfinished:
        if comparisons:
            console.print()
        console.print(unfinished_table(runs.unfinished))
        if len(runs.unfinished) > MOST_UNFINISHED:
            say(console, f"and {len(runs.unfinished) - MOST_UNFINISHED} more")


def rich_table(comparison: Comparison, width: int, ascii_only: bool = False) -> tuple[Table, list[str]]:
    """Return the table in at most `width` characters, as far as that goes, and the headings it has no room for."""
    rows = comparison.groups
    shown = columns(comparison)
    left_out: list[Column] = []

    def needed(column: Column) -> int:
        texts = [column.heading, *map(column.text, rows)]
        widest = max(map(cell_len, texts))
        if column.heading == "model":  # may be broken, but not within a word
            widest = min(widest, max(NARROWEST_LABEL, *(cell_len(word) for text in texts for word in text.split())))
        return widest + GAP

    number_width = len(str(len(rows))) + 1 + GAP
    while (narrowest := number_width + sum(map(needed, shown)) - GAP) > width and any(column.goes for column in shown):
        left_out.append(max(shown, key=lambda column: column.goes))
        shown.remove(left_out[-1])
    table = plain_table(for_terminal(comparison.title, ascii_only))
    if shared_line(comparison):
        below = Text(for_terminal(f"\n{shared_line(comparison)}", ascii_only), style="not bold dim")
        assert isinstance(table.title, Text)
        table.title.append_text(below)
    if narrowest > width:  # better broken by the terminal than cut off
        table.width = narrowest
    table.add_column("#", justify="right", no_wrap=True)
    for column in shown:
        table.add_column(column.heading, justify=column.justify, no_wrap=column.heading != "model", overflow="fold")
    for number, group in enumerate(rows, 1):
        texts = [f"{number}{'●' if group.on_front else ' '}", *(column.text(group) for column in shown)]
        style = "bold green" if group.on_front else None
        table.add_row(*(Text(for_terminal(text, ascii_only)) for text in texts), style=style)
    return table, [column.heading for column in reversed(left_out)]


def plain_table(title: str) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    table.padding, table.pad_edge, table.show_edge = (0, GAP - 1, 0, 0), False, False
    return table


def for_terminal(text: str, ascii_only: bool) -> str:
    """Return text with ASCII in place of what the terminal's encoding lacks."""
    return text.translate(AS_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def say(console: Console, text: str) -> None:
    """Print a remark below a table."""
    console.print(Text(for_terminal(text, console.options.ascii_only), style="dim"))


def unfinished_table(runs: list[Run]) -> Table:
    """Return the table of runs that are still going, failed or were stopped, with the reason."""
    table = plain_table("not finished")
    table.add_column("run", overflow="fold", ratio=3)
    table.add_column("status", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold", ratio=4)
    for run in runs[:MOST_UNFINISHED]:
        style = {"failed": "red", "running": "cyan"}.get(run.status, "yellow")
        name = printable(f"{run.summary['data']}/{run.path.name}")
        table.add_row(Text(name), Text(run.status, style=style), step_text(run), Text(run.reason))
    return table


def step_text(run: Run) -> str:
    """Return the last step that was logged, and of how many where the config says it."""
    total = run.config.get("trainer.max_steps")
    of = f"/{total:,}" if isinstance(total, int) else ""
    return f"{run.step:,}{of}" if run.step is not None else ""


# ---------------------------------------------------------------- files


def markdown(runs: Runs, comparisons: list[Comparison]) -> str:
    """Return GitHub's kind of tables, every column, the Pareto front in bold."""
    lines = []
    for comparison in comparisons:
        shown = columns(comparison)
        lines += [f"**{md_cell(comparison.title)}**", ""]
        lines += [md_cell(shared_line(comparison)), ""] if shared_line(comparison) else []
        lines.append(md_row(["", *(column.heading for column in shown)]))
        lines.append(md_row([":-", *("-:" if column.justify == "right" else ":-" for column in shown)]))
        for group in comparison.groups:
            texts = [md_cell(column.text(group)) for column in shown]
            if group.on_front:
                texts[0] = f"**{texts[0]}**"
            lines.append(md_row(["●" if group.on_front else "", *texts]))
        for note in (*notes(comparison), FOOTNOTE):
            lines += ["", md_cell(note)]
        lines.append("")
    if runs.unfinished:
        lines += ["**not finished**", "", md_row(["run", "status", "step", "reason"]), md_row([":-", ":-", "-:", ":-"])]
        for run in runs.unfinished:
            lines.append(md_row([md_cell(str(run.path)), run.status, step_text(run), md_cell(run.reason)]))
        lines.append("")
    return "\n".join(lines)


def md_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def md_cell(text: str) -> str:
    """Return text that Markdown shows as it is."""
    escaped = "".join(f"\\{c}" if c in "\\|*_`[]<>#" else c for c in printable(text))
    return escaped.replace("&", "&amp;")
