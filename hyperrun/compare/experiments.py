"""The files under conf/experiment, and which of the groups of runs are theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperrun.compare.groups import Comparison, Group
from hyperrun.config import PaperConfig
from hyperrun.metrics import METRICS, Metric, from_paper
from hyperrun.runs.naming import setting

LENGTH = ("trainer.epochs", "trainer.max_steps")
"""Keys that say how long is trained."""


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
    split: str = "test"
    """Where the figures come from: test, or validation of data without a test split."""
    rows: list[tuple[Experiment, Group | None]] = field(default_factory=list)


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
        section = found.setdefault(title, Section(title, comparison.metric, comparison.split))
        section.rows.append((experiment, group))
    for experiment in known.values():
        if experiment.name in run:
            continue
        title = f"{experiment.name.partition('/')[0]}: {experiment.data}"
        metric = experiment.paper_figure
        alone = experiment.paper is not None and experiment.paper.metric.startswith("val_")
        split = "validation" if alone else "test"
        section = found.setdefault(title, Section(title, metric[0] if metric else None, split))
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


def published(experiment: Experiment, group: Group | None) -> tuple[Metric, float] | None:
    """Return the published figure of an experiment; None beside a group on other data, or of another parameter count,
    of which it says nothing."""
    others = group is not None and (
        group.computed.get("data.name") != experiment.data or group.trainable != experiment.trainable
    )
    return None if others else experiment.paper_figure


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


def length(experiment: Experiment, group: Group) -> str:
    """Return how long a group was trained of what its experiment asks for: "4 of 100 epochs"."""
    (ours, unit), (theirs, other) = how_long(group.computed), how_long(experiment.computed)
    return f"{ours:,} of {theirs:,} {unit}" if unit == other else f"{ours:,} {unit} instead of {theirs:,} {other}"


def how_long(computed: dict[str, Any]) -> tuple[int, str]:
    steps = computed.get("trainer.max_steps")
    return (computed["trainer.epochs"], "epochs") if steps is None else (steps, "steps")
