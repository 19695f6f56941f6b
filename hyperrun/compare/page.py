"""The comparison as one HTML page that needs no network: sortable tables, plots, curves, differences of the configs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from hyperrun import __version__
from hyperrun.compare.alike import MARK
from hyperrun.compare.groups import Comparison, Group
from hyperrun.compare.learning_curves import draw_curves
from hyperrun.compare.page_parts import SCRIPT, STYLE
from hyperrun.compare.plot import draw
from hyperrun.compare.table import (
    FOOTNOTE,
    WITH_WARM_UP,
    aspect_text,
    columns,
    figure_text,
    notes,
    shared_line,
    step_text,
)
from hyperrun.errors import printable
from hyperrun.pictures.html import POLICY, html_page
from hyperrun.pictures.style import picture
from hyperrun.runs.naming import differing_keys, setting
from hyperrun.runs.reading import Run, Runs

LOADED = f"{POLICY}; script-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing but what is in it."""


def page(runs: Runs, comparisons: list[Comparison]) -> str:
    """Return the whole page. All that comes from files is escaped."""
    sections = [section(number, comparison) for number, comparison in enumerate(comparisons)]
    if runs.unfinished:
        sections.append(unfinished(runs.unfinished))
    if runs.warnings:
        sections.append(f"<section><h2>Could not be read</h2><ul>{_items(runs.warnings)}</ul></section>")
    names = [c.data for c in comparisons]  # the digits as classes, and as images to be drawn
    named = [f"{c.data}, {c.metric.name}" if names.count(c.data) > 1 else c.data for c in comparisons]
    links = "".join(f'<a href="#data-{i}">{_text(name)}</a>' for i, name in enumerate(named))
    what = f"{len(runs.finished)} finished runs in {sum(len(c.groups) for c in comparisons)} groups of seeds"
    body = f"""\
<header><h1>Parameters against accuracy</h1><p>{what}, hyperrun {__version__}.</p><nav>{links}</nav></header>
<main>
{"".join(sections)}
</main>
<script>{SCRIPT}</script>
"""
    icon = '<link rel="icon" href="data:,">\n'
    return html_page("hyperrun compare", STYLE, body, policy=LOADED, head=icon)


def section(number: int, comparison: Comparison) -> str:
    """Return one data set's part: table, plot, curves, differences."""
    curves, tips = draw_curves(comparison), tooltips(comparison)
    what = "Scatter plot of " + comparison.title
    plots = [inline_svg(picture(draw([comparison], explained=False), "svg"), f"p{number}-", what, tips)]
    if curves is not None:
        what = "Learning curves on " + comparison.data
        plots.append(inline_svg(picture(curves, "svg"), f"c{number}-", what, tips))
    figures = "".join(f"<figure>{plot}</figure>" for plot in plots)
    shared = shared_line(comparison)
    said = [*notes(comparison), f"{FOOTNOTE}. Click a heading to sort."]
    remarks = "".join(f"<p class=note>{_text(note)}</p>" for note in said)
    return (
        f'<section id="data-{number}" data-number="{number}"><h2>{_text(comparison.title)}</h2>'
        f"{f'<p class=note>{_text(shared)}</p>' if shared else ''}{group_table(comparison)}{remarks}"
        f'<div class="figures">{figures}</div>{differences(comparison.groups)}</section>\n'
    )


def group_table(comparison: Comparison) -> str:
    """Return the table of groups; each cell says what it is sorted by."""
    shown = columns(comparison)
    heads = [("#", "num"), *((c.heading, "num" if c.justify == "right" else "") for c in shown)]
    rows = []
    for i, group in enumerate(comparison.groups):
        mark = ' <span title="on the Pareto front">●</span>' if group.on_front else ""
        cells = [f'<td class="num" data-key="{i}">{i + 1}{mark}</td>']
        for column in shown:
            text = column.text(group)
            number = column.justify == "right"
            kind = ' class="num"' if number else ' class="short"' if column.heading not in ("model", "hardware") else ""
            cells.append(f'<td{kind} data-key="{_text(sort_key(text) if number else text)}">{_text(text)}</td>')
        front = " front" if group.on_front else ""
        rows.append(f'<tr class="group{front}" data-group="{i}">{"".join(cells)}</tr>')
    return _table(heads, rows)


def sort_key(text: str) -> str:
    """Return the number that a cell begins with ("1,234 (3)", "≤12"), as JavaScript reads it; nothing for none."""
    found = re.match(r"-?[\d,]+(\.\d+)?(e[+-]?\d+)?", text.removeprefix(WITH_WARM_UP))
    return found.group().replace(",", "") if found else ""


def differences(groups: list[Group]) -> str:
    """Return a table of the config keys in which the groups differ: one line for each group."""
    keys = differing_keys(group.in_use for group in groups)
    if not keys:
        return ""
    rows = []
    for i, group in enumerate(groups):
        values = [setting(group.in_use[key]) if key in group.in_use else "" for key in keys]
        rows.append(f'<tr data-group="{i}">{_cells([group.label, *values])}</tr>')
    heads = [("model", ""), *((key, "") for key in keys)]
    return f"<details open><summary>In which settings they differ</summary>{_table(heads, rows)}</details>"


def unfinished(runs: list[Run]) -> str:
    rows = []
    for run in runs:
        cells = [str(run.path), run.summary["model"], run.summary["data"], run.status, step_text(run), run.reason]
        rows.append(f"<tr>{_cells(cells)}</tr>")
    heads = [(name, "") for name in ("run", "model", "data", "status", "step", "reason")]
    return f"<section><h2>Not finished</h2>{_table(heads, rows)}</section>"


def tooltips(comparison: Comparison) -> dict[str, str]:
    """Return id of a point, a cross or a curve -> what is said of it under the pointer."""
    metric = comparison.metric
    found = {}
    for number, group in enumerate(comparison.groups):
        lines = [group.label, f"{comparison.split} {metric.heading} {figure_text(metric, group.test)}"]
        lines.append(f"{group.trainable:,} trainable parameters")
        lines += [aspect_text(group, "length")] if aspect_text(group, "length") else []
        lines += [f"{MARK} unlike the others: {', '.join(group.differs_in)}"] if group.differs_in else []
        found[f"point-{number}"] = "\n".join(lines)
        if group.paper is not None:
            found[f"paper-{number}"] = f"the paper's figure for {group.name}: {metric.text(group.paper)}"
        for which, run in enumerate(group.runs):
            found[f"curve-{number}-{which}"] = f"{group.label}\nseed {run.summary['seed']}"
    return found


def inline_svg(picture: bytes, prefix: str, title: str, tips: Mapping[str, str] | None = None) -> str:
    """Return an SVG file as an element of a page, its ids made unlike those of the page's other pictures.

    tips: id -> what a browser shows while the pointer is on the part of that id.
    """
    text = picture.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    for name, said in (tips or {}).items():
        lines = "\n".join(map(_text, said.split("\n")))
        text = text.replace(f'<g id="{name}">', f'<g id="{name}"><title>{lines}</title>', 1)
    for before in (' id="', "url(#", 'href="#'):
        text = text.replace(before, before + prefix)
    return text.replace("<svg ", f'<svg role="img" aria-label="{_text(title)}" ', 1)


def _table(heads: list[tuple[str, str]], rows: list[str]) -> str:
    cells = "".join(
        f'<th scope="col" class="{kind}"><button type="button">{_text(name)}</button></th>' for name, kind in heads
    )
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _cells(texts: list[str]) -> str:
    return "".join(f'<td data-key="{_text(text)}">{_text(text)}</td>' for text in texts)


def _items(lines: list[str]) -> str:
    return "".join(f"<li>{_text(line)}</li>" for line in lines)


def _text(text: object) -> str:
    return escape(printable(text), quote=True).replace(f" {MARK}", f"&nbsp;{MARK}")
