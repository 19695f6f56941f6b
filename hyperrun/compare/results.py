"""A page of results: every experiment, trained or not, beside the paper's figure, and how it was measured."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from hyperrun.compare.experiments import LENGTH, Experiment, Section, changes, length, published, sections
from hyperrun.compare.gone import GONE
from hyperrun.compare.groups import Comparison, Group
from hyperrun.compare.table import WITH_WARM_UP, figure_text, md_cell, md_row
from hyperrun.errors import printable
from hyperrun.metrics import compression_text
from hyperrun.runs.naming import setting
from hyperrun.runs.reading import Run, Runs

NOT_RUN = "not run"

HEAD = """# Results

Written out of the small files of run folders (config.yaml, summary.json, metrics.jsonl); what is changed by hand is
lost the next time:

    {typed}

Test figures are of the checkpoint that was best on the validation data (of continual training: the last one), mean ±
sample standard deviation (n seeds).

The first column is the name of a file under `conf/experiment/`, and settings that were changed in its runs. Where these
are not the file's, the paper's figure stands in (parentheses): it comes from the training that the file describes, as a
rule a much longer one; of another parameter count than the file's it says nothing, and is left out. Time is that of
training one seed without evaluations, checkpoints, warm-up and compilation (an older version did not measure the last
two apart: with a ≤ the time has them in it), and of several seeds the shortest: what else the machine does makes it
longer. A commit with a + had changes that were not committed.
"""

TYPED = "hyperrun compare FOLDER --results FILE"

FOLDER_GONE = "folder gone"
ABOUT_GONE = f"""Rows marked *{FOLDER_GONE}* are kept from {{page}}: the folders of their runs no longer exist.
What that page printed of them stands in `{GONE}`, beside the run folders. Nothing else is known of these runs: only
training them again can check their figures.
"""

ABOUT_VALIDATION = """Figures marked *validation* are of data that have no test split: they are the best that was seen
on the split that chose the checkpoint, as is the published figure beside them.
"""

PRIVATE = ("outputs=", "tracking.", "data.root=", "sweep=", "seed=")
"""Words of a command that say where files are, or in whose place those of all seeds stand."""


def results_page(
    runs: Runs,
    comparisons: Sequence[Comparison],
    experiments: Iterable[Experiment],
    picture: str | None = None,
    *,
    typed: str = TYPED,
    gone_from: str | None = None,
) -> str:
    """Return the page as Markdown.

    comparisons: compare(runs), and what is added from a page that was printed earlier (hyperrun.compare.gone).
    picture: a link to their plot. typed: the command that writes the page. gone_from: which page that was.
    """
    found = sections(comparisons, experiments)
    lines = [HEAD.format(typed=typed)]
    if any(group.gone for comparison in comparisons for group in comparison.groups):
        lines.append(ABOUT_GONE.format(page=md_cell(gone_from or "an earlier page")))
    if any(not group.tested for comparison in comparisons for group in comparison.groups):
        lines.append(ABOUT_VALIDATION)
    if picture is not None:
        lines += [f"![trainable parameters against the test metric]({picture})", ""]
    lines += in_short(found)
    for section in found:
        lines += [
            f"## {section.title}",
            "",
            *table(section, runs.unfinished),
            "",
            *reasons(section),
            *how_measured(section),
        ]
    return "\n".join(lines).rstrip("\n") + "\n"


# ---------------------------------------------------------------- tables


def in_short(found: Iterable[Section]) -> list[str]:
    """Return the table of what was run and has a published figure to stand beside: lines for a page's opening."""
    rows = []
    for section in found:
        for experiment, group in section.rows:
            if group is not None and paper_cell(experiment, group):
                cells = [group.metric.heading, test_cell(group), paper_cell(experiment, group)]
                size = compression(group.target, group.trainable)
                rows.append([name_cell(experiment, group, section), f"{group.trainable:,}", size, *cells])
    heading = ["experiment", "parameters", "compression", "metric", "test", "paper"]
    return [*markdown_table(heading, rows), ""] if rows else []


def table(section: Section, unfinished: Sequence[Run]) -> list[str]:
    """Return the lines of a section's table."""
    rows = []
    for experiment, group in section.rows:
        printed = [paper_cell(experiment, group), printed_params(experiment, group)]
        if group is None:
            begun = sum(is_of(run, experiment) for run in unfinished)
            state = f"not finished ({begun} begun)" if begun else NOT_RUN
            size = compression(experiment.target, experiment.trainable)
            cells = [f"{experiment.trainable:,}", size, state, *printed, ""]
        else:
            size = compression(group.target, group.trainable)
            ours = test_cell(group, unfinished)
            cells = [f"{group.trainable:,}", size, ours, *printed, time_cell(group)]
        rows.append([name_cell(experiment, group, section), *cells])
    figure = f"{section.split} {section.metric.heading}" if section.metric else section.split
    return markdown_table(
        ["experiment", "parameters", "compression", figure, "paper", "the paper's parameters", "time"], rows
    )


def is_of(run: Run, experiment: Experiment) -> bool:
    return run.summary.get("experiment") == experiment.name and run.summary.get("data") == experiment.data


def test_cell(group: Group, unfinished: Sequence[Run] = ()) -> str:
    """Return the test figure, and what has to be known beside it."""
    gone = f", {FOLDER_GONE}" if group.gone else ""
    split = "" if group.tested else ", validation"
    return figure_text(group.metric, group.test) + split + gone + also_begun(group, unfinished)


def also_begun(group: Group, unfinished: Sequence[Run]) -> str:
    """Return words on the seeds of a group that did not finish: a mean over those that did may flatter."""
    finished = {str(run.summary.get("seed")) for run in group.runs}
    lost = {str(run.summary.get("seed")) for run in unfinished if run.computed == group.computed} - finished
    return f", {len(lost)} more not finished" if lost else ""


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, without the columns that have nothing to show."""
    shown = [i for i in range(len(heading)) if any(row[i] for row in rows)]
    head, *lines = [md_row([cells[i] for i in shown]) for cells in (heading, *rows)]
    return [head, md_row([":-", *["-:"] * (len(shown) - 1)]), *lines]


def how_measured(section: Section) -> list[str]:
    """Return, for each machine, torch and commit, the commands of its rows: lines that can be typed."""
    commands: dict[str, list[str]] = {}
    for _, group in section.rows:
        if group is not None:
            where = f"{measured_with(group)}; commit {commits(group)}"
            commands.setdefault(where, []).append(command(group.runs))
    lines = []
    for where, typed in commands.items():
        known = [f"    {printable(line)}" for line in dict.fromkeys(typed) if line]
        lines += [f"{where}:" if known else where, "", *known, *[""] * bool(known)]
    return lines


def measured_with(group: Group) -> str:
    """Return on what a group was trained: machine, precision, torch."""
    return md_cell("; ".join([*hardware(group.runs), f"torch {', '.join(values(group.runs, 'torch')) or 'unknown'}"]))


def commits(group: Group) -> str:
    return md_cell(", ".join(values(group.runs, "git")) or "unknown")


def name_cell(experiment: Experiment, group: Group | None, section: Section, folder: bool = False) -> str:
    """Return the experiment's name and, where any of its groups changed something of it, what this group has there.

    folder: whether the experiment's folder (ha2016/) stands before the name.
    """
    shown = [experiment.name if folder else experiment.name.partition("/")[2]]
    if group is not None:
        mine = changes(experiment, group)
        groups = [other for whose, other in section.rows if whose is experiment and other is not None]
        for key in sorted({key for other in groups for key in changes(experiment, other)}):
            value = group.computed.get(key, group.computed.get(f"{key}.kind"))
            if key in mine or value is not None:
                shown.append(f"{key}={mine.get(key) or setting(value)}")
    return " ".join(map(code, shown))


def paper_cell(experiment: Experiment, group: Group | None = None) -> str:
    figure = published(experiment, group)
    if figure is None:
        return ""
    text = figure[0].text(figure[1])
    return f"({text})" if group is not None and changes(experiment, group) else text


def printed_params(experiment: Experiment, group: Group | None = None) -> str:
    paper = experiment.paper
    if paper is None or paper.params is None or published(experiment, group) is None:
        return ""
    return f"{paper.params:,}" + (f" ({code(paper.part)})" if paper.part else "")


def reasons(section: Section) -> list[str]:
    """Return a line for each figure that is behind the published one: by how much, and what was otherwise."""
    lines = []
    for experiment, group in section.rows:
        figure = published(experiment, group)
        if group is None or figure is None or not figure[0].better(figure[1], group.test.mean):
            continue
        metric, value = figure
        gap = abs(group.test.mean - value)
        unit = "points" if metric.percent else metric.name
        said = f"{metric.text(gap)} {unit} behind the published figure"
        if group.test.std:
            said += f", {gap / group.test.std:.1f} standard deviations of our seeds"
        changed = changes(experiment, group)
        otherwise = [length(experiment, group)] if any(key in changed for key in LENGTH) else []
        otherwise += [code(f"{key}={text}") for key, text in changed.items() if key not in LENGTH]
        if otherwise:
            said += f"; trained {', '.join(otherwise)}"
        if experiment.paper is not None and experiment.paper.left_open:
            said += f"; what the paper leaves open: {experiment.paper.left_open}"
        lines.append(f"- {name_cell(experiment, None, section)}: {said}.")
    return ["Why these are behind:", "", *lines, ""] if lines else []


def code(text: str) -> str:
    """Return text as code in a cell of a Markdown table."""
    return f"`{printable(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def compression(target: int, trainable: int) -> str:
    return compression_text(target / trainable) if target != trainable else ""


def time_cell(group: Group) -> str:
    text = duration(group.shortest_s)
    return f"{WITH_WARM_UP} {text}" if text and group.with_warm_up else text


def duration(seconds: float | None) -> str:
    """Return a time in the unit in which it is read easily."""
    if seconds is None:
        return ""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def values(runs: Iterable[Run], key: str) -> list[str]:
    """Return the different values of a key of the summaries, in their order."""
    return list(dict.fromkeys(str(run.summary[key]) for run in runs if run.summary.get(key) is not None))


def hardware(runs: Iterable[Run]) -> list[str]:
    """Return the different devices and precisions."""
    found = []
    for run in runs:
        processes, device = run.summary.get("processes", 1), run.summary.get("device", "unknown hardware")
        several = f"{processes} x " if processes != 1 else ""
        found.append(f"{several}{device}, {run.summary.get('precision', 'unknown precision')}")
    return list(dict.fromkeys(found))


def command(runs: Sequence[Run]) -> str:
    """Return the line that trains these runs, one for each seed, without what is about the places of files."""
    words = shlex.split(str(runs[0].summary.get("command", "")))
    if not words:
        return ""
    typed = [word for word in words[2:] if not word.startswith(PRIVATE)]
    seeds = sorted(run.summary["seed"] for run in runs)
    several = ["-m"] if len(seeds) > 1 else []
    return shlex.join([*words[:2], *several, *typed, f"seed={','.join(map(str, seeds))}"])
