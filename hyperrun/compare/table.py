"""The comparison as tables: for the terminal, as Markdown, as CSV, as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hyperrun.compare.groups import Comparison, Figure, Group, compare
from hyperrun.errors import printable
from hyperrun.metrics import Metric, compression_text
from hyperrun.runs.reading import Run, Runs

NARROWEST_LABEL = 18
"""Characters below which a column of labels is not squeezed; other columns go first."""

GAP = 2
"""Characters between columns: the box's empty divider, and padding."""

FOOTNOTE = "● on the Pareto front: none is both smaller and better; mean ± sample standard deviation (n seeds)"

MOST_UNFINISHED = 20
"""Unfinished runs that are listed; of more, these and the number."""


AS_ASCII = str.maketrans({"●": "*", "±": "+-", "…": "...", "│": "|", "┤": "|", "─": "-", "┬": "+", "└": "+"})
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
    symbols = "points" if comparison.groups[0].runs[0].summary.get("task") == "stroke_modeling" else "symbols"
    found = [
        Column("model", lambda g: g.label, justify="left"),
        Column("trainable", lambda g: f"{g.trainable:,}"),
        Column("target", lambda g: f"{g.target:,}", goes=4),
        Column("compr.", lambda g: compression_text(g.target / g.trainable), goes=2),
        Column(f"val {metric.heading}", lambda g: figure_text(metric, g.val) if g.tested else "", goes=3),
        Column(f"{comparison.split} {metric.heading}", lambda g: figure_text(metric, g.test)),
        Column("paper", paper_text, goes=1),
        Column("paper's parameters", paper_params_text, goes=7),
        Column("s/epoch", lambda g: short_number(g.mean("time/epoch_s")), goes=5),
        Column(f"{symbols}/s" if words else "examples/s", lambda g: short_number(g.mean(speed)), goes=6),
    ]
    return [column for column in found if any(column.text(group) for group in comparison.groups)]


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
        unverified = sum(_unverified(group) for group in comparison.groups)
        if unverified:
            say(console, f"data.verify=false in {unverified} of {len(comparison.groups)} rows")
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


def _unverified(group: Group) -> bool:
    return any(run.summary.get("data/verified") is False for run in group.runs)


# ---------------------------------------------------------------- files


def markdown(runs: Runs, comparisons: list[Comparison]) -> str:
    """Return GitHub's kind of tables, every column, the Pareto front in bold."""
    lines = []
    for comparison in comparisons:
        shown = columns(comparison)
        lines += [f"**{md_cell(comparison.title)}**", "", md_row(["", *(column.heading for column in shown)])]
        lines.append(md_row([":-", *("-:" if column.justify == "right" else ":-" for column in shown)]))
        for group in comparison.groups:
            texts = [md_cell(column.text(group)) for column in shown]
            if group.on_front:
                texts[0] = f"**{texts[0]}**"
            lines.append(md_row(["●" if group.on_front else "", *texts]))
        lines += ["", FOOTNOTE, ""]
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


def record(comparison: Comparison, group: Group) -> dict[str, Any]:
    """Return all that is known of a group under the names of summary.json; figures unrounded, accuracy a fraction."""
    metric = comparison.metric.name
    first = group.runs[0].summary
    return {
        "data": comparison.data,
        "metric": metric,
        "label": group.label,
        "model": first["model"],
        "experiment": first.get("experiment"),
        "target": first.get("target"),
        "hypernet": group.hypernet,
        "params/trainable": group.trainable,
        "params/generated": first.get("params/generated"),
        "params/free": first.get("params/free"),
        "params/target": group.target,
        "params/compression": group.target / group.trainable,
        "n": group.test.n,
        "seeds": group.seeds,
        "val/mean": group.val.mean,
        "val/std": group.val.std,
        "test/mean": group.test.mean if group.tested else None,
        "test/std": group.test.std if group.tested else None,
        "pareto": group.on_front,
        "twin": group.twin.label if group.twin else None,
        "paper/value": group.paper,
        "paper/params": group.paper_params,
        "paper/part": group.paper_part,
        "paper/changed": " ".join(group.changed) if group.paper is not None else None,
        "time/train_s": group.mean("time/train_s"),
        "time/epoch_s": group.mean("time/epoch_s"),
        "throughput/examples_per_s": group.mean("throughput/examples_per_s"),
        "throughput/tokens_per_s": group.mean("throughput/tokens_per_s"),
        "runs": [str(run.path) for run in group.runs],
    }


def as_json(runs: Runs, comparisons: list[Comparison]) -> dict[str, Any]:
    """Return the whole comparison as plain values, best groups first."""
    return {
        "comparisons": [
            {
                "data": comparison.data,
                "metric": comparison.metric.name,
                "higher_is_better": comparison.metric.higher_is_better,
                "groups": [record(comparison, group) for group in comparison.groups],
            }
            for comparison in comparisons
        ],
        "unfinished": [
            {
                "run": str(run.path),
                "status": run.status,
                "reason": run.reason,
                "step": run.step,
                **{key: run.summary[key] for key in ("model", "data", "seed")},
            }
            for run in runs.unfinished
        ],
        "warnings": runs.warnings,
    }


def as_csv(comparisons: list[Comparison]) -> str:
    """Return one line for each group; lists (seeds, runs) are joined by spaces and semicolons."""
    rows = [record(comparison, group) for comparison in comparisons for group in comparison.groups]
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        joined = {"seeds": " ".join(map(str, row["seeds"])), "runs": ";".join(row["runs"])}
        cells = row | joined
        writer.writerow({key: printable(value) if isinstance(value, str) else value for key, value in cells.items()})
    return text.getvalue()
