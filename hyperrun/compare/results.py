"""A page of results: every experiment, trained or not, beside the paper's figure, and how it was measured."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hyperrun.compare.groups import Comparison, Group
from hyperrun.compare.table import figure_text, md_cell, md_row
from hyperrun.config import PaperConfig
from hyperrun.errors import printable
from hyperrun.metrics import METRICS, Metric, compression_text, from_paper
from hyperrun.runs.naming import setting
from hyperrun.runs.reading import Run, Runs

NOT_RUN = "not run"

HEAD = """# Results

Written by `hyperrun compare FOLDER --results FILE` out of run folders: what is changed by hand is lost the next time.

Test figures are of the checkpoint that was best on the validation data (of continual training: the last one), mean ±
sample standard deviation (n seeds).

The first column is the name of a file under `conf/experiment/`, and settings that were changed in its runs. Where these
are not the file's, the paper's figure stands in (parentheses): it comes from the training that the file describes, as a
rule a much longer one. Time is that of training one seed, evaluations left out, and of several seeds the shortest: what
else the machine does makes it longer. A commit with a + had changes that were not committed.
"""

PRIVATE = ("outputs=", "tracking.", "data.root=", "sweep=", "seed=")
"""Words of a command that say where files are, or in whose place those of all seeds stand."""

LENGTH = ("trainer.epochs", "trainer.max_steps")


@dataclass(frozen=True)
class Experiment:
    """A file under conf/experiment."""

    name: str
    """ha2016/mnist_cnn"""
    data: str
    trainable: int
    target: int
    """Parameters of the target on its own."""
    paper: PaperConfig | None
    """What was published; None where nothing was."""
    computed: dict[str, Any]
    """Its config with dotted keys, as Run.computed."""

    @property
    def paper_figure(self) -> tuple[Metric, float] | None:
        """The published figure as we measure it."""
        ours = from_paper(self.paper.metric, self.paper.value) if self.paper is not None else None
        return (METRICS[ours[0]], ours[1]) if ours is not None else None


@dataclass
class Section:
    """One table: the experiments of a folder of conf/experiment on one data set."""

    title: str
    metric: Metric | None
    """None where nothing was run and nothing published."""
    rows: list[tuple[Experiment, Group | None]] = field(default_factory=list)


def results_page(
    runs: Runs, comparisons: Sequence[Comparison], experiments: Iterable[Experiment], picture: str | None = None
) -> str:
    """Return the page as Markdown.

    comparisons: compare(runs). picture: a link to their plot.
    """
    found = sections(comparisons, experiments)
    lines = [HEAD]
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


def sections(comparisons: Sequence[Comparison], experiments: Iterable[Experiment]) -> list[Section]:
    """Return a section for each folder of experiments and data set; what nobody finished has a row, too."""
    known = {experiment.name: experiment for experiment in experiments}
    placed = [
        (known[name], comparison, group)
        for comparison in comparisons
        for group in comparison.groups
        if (name := group.runs[0].summary.get("experiment")) in known
    ]
    run = {experiment.name for experiment, comparison, _ in placed if comparison.data == experiment.data}
    found: dict[str, Section] = {}
    for experiment, comparison, group in placed:
        title = f"{experiment.name.partition('/')[0]}: {comparison.data}"
        section = found.setdefault(title, Section(title, comparison.metric))
        section.rows.append((experiment, group))
    for experiment in known.values():
        if experiment.name in run:
            continue
        title = f"{experiment.name.partition('/')[0]}: {experiment.data}"
        metric = experiment.paper_figure
        section = found.setdefault(title, Section(title, metric[0] if metric else None))
        section.rows.append((experiment, None))
    order = sorted(
        known, key=lambda name: (known[name].paper is None, name)
    )  # what can be held against the paper first
    for section in found.values():
        section.rows.sort(key=in_section)
    return sorted(found.values(), key=lambda section: min(order.index(row[0].name) for row in section.rows))


def in_section(row: tuple[Experiment, Group | None]) -> tuple[int, bool, str, int]:
    """Return a key that puts experiments of one target together, the one that trains it directly first."""
    experiment, group = row
    hyper = experiment.trainable != experiment.target
    return experiment.target, hyper, experiment.name, group.trainable if group is not None else 0


def for_picture(comparisons: Iterable[Comparison], experiments: Iterable[Experiment]) -> list[Comparison]:
    """Return the comparisons with lengths that are not the experiments' in their titles, or labels if they differ."""
    known = {experiment.name: experiment for experiment in experiments}
    shown = []
    for comparison in comparisons:
        lengths: list[str] = []
        for group in comparison.groups:
            experiment = known.get(group.runs[0].summary.get("experiment") or "")
            changed = changes(experiment, group) if experiment is not None else {}
            lengths.append(" ".join(f"{key.rpartition('.')[2]}={changed[key]}" for key in LENGTH if key in changed))
        if len(set(lengths)) == 1 and lengths[0]:
            comparison = replace(comparison, data=f"{comparison.data}, {lengths[0]}")
        else:
            for group, length in zip(comparison.groups, lengths, strict=True):
                group.label += f" {length}" if length and length not in group.label else ""
        shown.append(comparison)
    return shown


# ---------------------------------------------------------------- tables


def in_short(found: Iterable[Section]) -> list[str]:
    """Return the table of what was run and has a published figure to stand beside: lines for a page's opening."""
    rows = []
    for section in found:
        for experiment, group in section.rows:
            if group is not None and paper_cell(experiment, group):
                cells = [group.metric.heading, figure_text(group.metric, group.test), paper_cell(experiment, group)]
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
            ours = figure_text(group.metric, group.test) + also_begun(group, unfinished)
            cells = [f"{group.trainable:,}", size, ours, *printed, duration(group.least("time/train_s"))]
        rows.append([name_cell(experiment, group, section), *cells])
    figure = f"test {section.metric.heading}" if section.metric else "test"
    return markdown_table(
        ["experiment", "parameters", "compression", figure, "paper", "the paper's parameters", "time"], rows
    )


def is_of(run: Run, experiment: Experiment) -> bool:
    return run.summary.get("experiment") == experiment.name and run.summary.get("data") == experiment.data


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
            commits = f"commit {', '.join(values(group.runs, 'git')) or 'unknown'}"
            where = [*hardware(group.runs), f"torch {', '.join(values(group.runs, 'torch')) or 'unknown'}", commits]
            commands.setdefault(md_cell("; ".join(where)), []).append(command(group.runs))
    lines = []
    for where, typed in commands.items():
        known = [f"    {printable(line)}" for line in dict.fromkeys(typed) if line]
        lines += [f"{where}:" if known else where, "", *known, *[""] * bool(known)]
    return lines


def name_cell(experiment: Experiment, group: Group | None, section: Section) -> str:
    """Return the experiment's name and, where any of its groups changed something of it, what this group has there."""
    shown = [experiment.name.partition("/")[2]]
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
    if paper is None or published(experiment, group) is None:
        return ""
    return f"{paper.params:,}" + (f" ({code(paper.part)})" if paper.part else "")


def published(experiment: Experiment, group: Group | None) -> tuple[Metric, float] | None:
    """Return the published figure of an experiment; None beside a group on other data, of which it says nothing."""
    other = group is not None and group.computed.get("data.name") != experiment.data
    return None if other else experiment.paper_figure


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


def length(experiment: Experiment, group: Group) -> str:
    """Return how long a group was trained of what its experiment asks for: "4 of 100 epochs"."""
    (ours, unit), (theirs, other) = how_long(group.computed), how_long(experiment.computed)
    return f"{ours:,} of {theirs:,} {unit}" if unit == other else f"{ours:,} {unit} instead of {theirs:,} {other}"


def how_long(computed: dict[str, Any]) -> tuple[int, str]:
    steps = computed.get("trainer.max_steps")
    return (computed["trainer.epochs"], "epochs") if steps is None else (steps, "steps")


def changes(experiment: Experiment, group: Group) -> dict[str, str]:
    """Return key -> value of the settings in which a group differs from its experiment; no seeds, no places.

    Of a part that was exchanged (schedule=cosine) that is said, of the others the keys that both have.
    """
    theirs, ours = experiment.computed, group.computed
    keys = [key for key in ours if key in theirs and key != "model" and not key.startswith("paper.")]
    differing = [key for key in keys if ours[key] != theirs[key]]
    exchanged = [key.removesuffix(".kind") for key in differing if key.endswith(".kind")]
    found = {part: str(ours[f"{part}.kind"]) for part in exchanged}
    found |= {key: setting(ours[key]) for key in differing if key.partition(".")[0] not in exchanged}
    if ours.get("trainer.max_steps") is not None:
        found.pop("trainer.epochs", None)  # it says nothing then
    if any(run.summary.get("data/verified") is False for run in group.runs):
        found["data.verify"] = "false"
    return found


def code(text: str) -> str:
    """Return text as code in a cell of a Markdown table."""
    return f"`{printable(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def compression(target: int, trainable: int) -> str:
    return compression_text(target / trainable) if target != trainable else ""


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
