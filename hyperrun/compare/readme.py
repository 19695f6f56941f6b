"""Tables of results within a Markdown file that is otherwise written by hand: regions between two comments.

    <!-- results: begin ha2016/mnist_* compression/direct +val/forgetting -->
    ... is written again ...
    <!-- results: end -->

The words behind `begin` are names of experiments (* stands for anything); those with a + are further columns, figures
of summary.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from hyperrun.compare.experiments import Experiment, Section
from hyperrun.compare.groups import Group
from hyperrun.compare.results import commits, markdown_table, measured_with, name_cell, paper_cell, test_cell
from hyperrun.compare.table import figure_text
from hyperrun.errors import UserError

REGION = re.compile(
    r"(?P<begin>^<!-- results: begin (?P<words>[^\n]*?) *-->\n)(?P<body>.*?)(?P<end>^<!-- results: end -->$)",
    re.DOTALL | re.MULTILINE,
)
MARK = re.compile(r"^<!-- results: (?:begin .*|end) *-->$", re.MULTILINE)

COLUMN = re.compile(r"\+(?:val|test)/(?P<name>[\w/]+)")


def filled_in(text: str, found: Sequence[Section]) -> str:
    """Return a Markdown file's text with its marked regions written again. found: sections(...).

    Raises:
        UserError: no region, one that does not end, or words that name nothing that was run.
    """
    regions = list(REGION.finditer(text))
    if not regions or 2 * len(regions) != len(MARK.findall(text)):
        marks = "<!-- results: begin EXPERIMENT ... --> and <!-- results: end -->"
        raise UserError(f"it needs regions, each between {marks}, one after the other")
    return REGION.sub(lambda region: f"{region['begin']}{_table(region['words'], found)}{region['end']}", text)


def _table(words: str, found: Sequence[Section]) -> str:
    """Return the table of the experiments that were run, in the order of the words, and on what they were run."""
    names, columns = [], []
    for word in words.split():
        column = COLUMN.fullmatch(word)
        if word.startswith("+") and column is None:
            raise UserError(f"the region {words}: a column is +val/NAME or +test/NAME, not {word}")
        (columns if column else names).append(word.removeprefix("+"))
    chosen = _chosen(names, found)
    metrics = {group.metric.heading for _, group, _ in chosen}
    heading = ["experiment", "trainable / target parameters", "metric" if len(metrics) > 1 else ""]
    heading += ["test" if len(metrics) > 1 else f"test {next(iter(metrics))}", "paper"]
    percent = " %" if all(group.metric.percent for _, group, _ in chosen) else ""
    heading += [column.replace("/", " ") + percent for column in columns]
    rows = []
    for experiment, group, section in chosen:
        cells = [name_cell(experiment, group, section, folder=True), f"{group.trainable:,} / {group.target:,}"]
        cells += [group.metric.heading if len(metrics) > 1 else "", test_cell(group), paper_cell(experiment, group)]
        figures = [group.figure(column) for column in columns]
        rows.append([*cells, *("" if figure is None else figure_text(group.metric, figure) for figure in figures)])
    where: dict[str, dict[str, None]] = {}
    for _, group, _ in chosen:
        where.setdefault(measured_with(group), {})[commits(group)] = None
    measured = " ".join(f"{machine}; commit {', '.join(these)}." for machine, these in where.items())
    return "\n".join(["", *markdown_table(heading, rows), "", measured, "", ""])


def _chosen(names: Iterable[str], found: Sequence[Section]) -> list[tuple[Experiment, Group, Section]]:
    """Return what was run of the experiments that these names, or patterns of names, mean."""
    run = [(who, group, section) for section in found for who, group in section.rows if group is not None]
    chosen = []
    for name in names:
        these = [row for row in run if fnmatchcase(row[0].name, name)]
        if not these:
            raise UserError(f"no experiment of the name {name} was run")
        chosen += [row for row in these if row not in chosen]
    if not chosen:
        raise UserError("a region names no experiment")
    return chosen
