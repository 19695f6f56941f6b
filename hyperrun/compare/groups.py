"""Runs that differ only in their seed become one group; groups of the same data and metric are compared."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hyperrun.compare.alike import LENGTHS, Alike, alike, shared_settings
from hyperrun.errors import printable
from hyperrun.metrics import Metric, from_paper
from hyperrun.runs.naming import labels
from hyperrun.runs.presets import published
from hyperrun.runs.reading import Run, Runs, is_number
from hyperrun.runs.typed import has_papers_count, own_settings, that_count

IN_COLUMNS = ("precision", "data.verify")
"""Settings that a label does not name: where they differ, they have a column."""


@dataclass(frozen=True)
class Figure:
    """A figure over seeds."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1); None for one run."""
    n: int


@dataclass(eq=False)
class Group:
    """Runs of one config, each with a seed of its own, and how the group stands among the others."""

    runs: list[Run]
    label: str = ""
    """The model (or experiment) and the values that tell it from the others of that name."""
    on_front: bool = False
    """On the Pareto front: no other group is as small and as good, and better in one of the two."""
    twin: Group | None = None
    """The same target on the same data, trained directly; None for a direct group or where nobody trained it."""
    gone: bool = False
    """The run folders no longer exist: known only from what a page of results printed (hyperrun.compare.gone)."""
    differs_in: tuple[str, ...] = ()
    """In what it was trained unlike most of the others: length, data check, precision, hardware."""

    @property
    def metric(self) -> Metric:
        return self.runs[0].metric

    @property
    def hypernet(self) -> str:
        return self.runs[0].summary["hypernet"]

    @property
    def computed(self) -> dict[str, Any]:
        return self.runs[0].computed

    @cached_property
    def in_use(self) -> dict[str, Any]:
        """Its settings without those that others override, and with the parameter count that was asked for."""
        asked = self.runs[0].config.get("params")
        return that_count(self.computed) | ({"params": asked} if asked is not None else {})

    @property
    def name(self) -> str:
        """The experiment without its folder, else the model."""
        return self.summary["model"] if self.experiment is None else self.experiment.rpartition("/")[2]

    @property
    def experiment(self) -> str | None:
        """The experiment that it is called by: of a published one only with its parameter count and on its data."""
        name = self.summary.get("experiment")
        if not isinstance(name, str) or not name:
            return None
        of_a_paper = self.runs[0].config.get("paper.value") is not None or published(name)
        return None if of_a_paper and not self.of_paper else name

    @property
    def summary(self) -> dict[str, Any]:
        return self.runs[0].summary

    @property
    def trainable(self) -> int:
        return self.runs[0].summary["params/trainable"]

    @property
    def target(self) -> int:
        return self.runs[0].summary["params/target"]

    @property
    def seeds(self) -> list[Any]:
        return [run.summary["seed"] for run in self.runs]

    @property
    def tested(self) -> bool:
        """Whether the data have a test split; without one the summaries say null for its figure."""
        return all(run.summary.get(f"test/{self.metric.name}", 0) is not None for run in self.runs)

    @cached_property
    def test(self) -> Figure:
        """The figure that groups are compared by: on the test split, or on the validation split if that is all."""
        return self._figure(f"{'test' if self.tested else 'val'}/{self.metric.name}")

    @cached_property
    def val(self) -> Figure:
        return self._figure(f"val/{self.metric.name}")

    @property
    def paper(self) -> float | None:
        """The paper's figure in the unit of the metric; None where it prints no such figure."""
        summary = self.runs[0].summary
        name, value = summary.get("paper/metric"), summary.get("paper/value")
        if not isinstance(name, str) or not isinstance(value, int | float) or not self.of_paper:
            return None
        ours = from_paper(name, value)
        return ours[1] if ours is not None and ours[0] == self.metric.name else None

    @cached_property
    def changed(self) -> list[str]:
        """Settings in which it is not the experiment that its summary names: its training then is not the paper's."""
        settings = self._own_settings(self.summary.get("experiment"))
        unchecked = any(run.summary.get("data/verified") is False for run in self.runs)
        settings |= {"data.verify": "false"} if unchecked else {}
        return [f"{key.removesuffix('.kind')}={text}" for key, text in settings.items()]

    @cached_property
    def settings(self) -> dict[str, str]:
        """Settings in which it is not what its name says: what a label names unless all rows share it."""
        found = self._own_settings(self.experiment)
        return {key: text for key, text in found.items() if key not in IN_COLUMNS}

    def _own_settings(self, experiment: object) -> dict[str, str]:
        run, name = self.runs[0], experiment if isinstance(experiment, str) else None
        return own_settings(run.summary, run.config, run.computed, name)

    @property
    def of_paper(self) -> bool:
        """Whether the paper's figure may stand beside ours: it is of as many parameters, and of the same data."""
        data = self.runs[0].config.get("paper.data")
        return data in (None, self.summary["data"]) and has_papers_count(self.summary, self.paper_part, self.changed)

    @property
    def paper_params(self) -> int | None:
        """The parameter count the paper prints, if any: of the whole model, or of paper_part."""
        return self.runs[0].summary["paper/params"] if self.of_paper else None

    @property
    def paper_part(self) -> str | None:
        value = self.runs[0].config.get("paper.part")
        return value if isinstance(value, str) else None

    def mean(self, key: str) -> float | None:
        """Return the mean of a number in the summaries; None where no run has it."""
        numbers = self._numbers(key)
        return statistics.fmean(numbers) if numbers else None

    @property
    def with_warm_up(self) -> bool:
        """Whether its times count warm-up and compilation: an older version trained one of its runs."""
        times = [run.summary for run in self.runs if "time/train_s" in run.summary]
        return any("time/warm_up_s" not in summary for summary in times)

    @property
    def shortest_s(self) -> float | None:
        """The shortest training in seconds, without warm-up and compilation (unless with_warm_up)."""
        times = self._numbers("time/train_s" if self.with_warm_up else "time/steady_s")
        return min(times, default=None)

    def _numbers(self, key: str) -> list[float]:
        values = [run.summary.get(key) for run in self.runs]
        return [float(value) for value in values if is_number(value)]  # pyright: ignore[reportArgumentType]

    def figure(self, key: str) -> Figure | None:
        """Return mean and deviation of a number in the summaries; None where no run has it."""
        numbers = self._numbers(key)
        return _over_seeds(numbers) if numbers else None

    def _figure(self, key: str) -> Figure:
        return _over_seeds([float(run.summary[key]) for run in self.runs])


def _over_seeds(values: list[float]) -> Figure:
    return Figure(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(eq=False)
class Comparison:
    """The groups of one data set and metric, best first."""

    data: str
    """The data set's name, and what else is needed to tell it from the others."""
    metric: Metric
    groups: list[Group] = field(default_factory=list)
    alike: Alike = field(default_factory=Alike)
    """What the groups have in common, and in what they are not trained alike."""

    @property
    def front(self) -> list[Group]:
        """The groups on the Pareto front, smallest first."""
        return sorted((group for group in self.groups if group.on_front), key=lambda group: group.trainable)

    @property
    def better(self) -> str:
        return "higher is better" if self.metric.higher_is_better else "lower is better"

    @property
    def split(self) -> str:
        """Where the figures come from that are compared: test, or validation if the data have no test split."""
        return "test" if all(group.tested for group in self.groups) else "validation"

    @property
    def title(self) -> str:
        alone = "" if self.split == "test" else " (no test split)"
        return f"{self.data}: {self.split} {self.metric.name}{alone}, {self.better}"


def compare(runs: Runs) -> list[Comparison]:
    """Return one comparison for each data set and metric of the finished runs, in order of the names.

    A run that stands there twice (same config and seed, a copied folder) counts once; runs.warnings gets a line for it.
    """
    data = defaultdict(lambda: defaultdict(list))
    seen: dict[tuple, Run] = {}
    for run in runs.finished:
        same_but_seed = json.dumps(run.computed, sort_keys=True, default=str)
        key = (_data_key(run), same_but_seed)
        first = seen.setdefault((*key, str(run.summary["seed"])), run)
        if first is not run:
            runs.warnings.append(printable(f"{run.path}: the same run as {first.path}, counted once"))
            continue
        data[key[0]][key[1]].append(run)
    names = _data_names([next(iter(groups.values()))[0] for groups in data.values()])
    comparisons = []
    for name, groups in zip(names, data.values(), strict=True):
        found = [Group(runs) for runs in groups.values()]
        comparisons.append(arranged(Comparison(name, found[0].metric, found)))
    return sorted(comparisons, key=lambda c: (c.data, c.metric.name))


def arranged(comparison: Comparison) -> Comparison:
    """Sort the groups of a comparison, set which are on the front, their twins, labels and marks; return it."""
    sign = -1 if comparison.metric.higher_is_better else 1
    comparison.groups.sort(key=lambda g: (sign * g.test.mean, g.trainable, str(g.runs[0].path)))
    mark_front(comparison)
    find_twins(comparison)
    comparison.alike = alike(*zip(*((group.runs, group.settings) for group in comparison.groups), strict=True))
    for group, marks in zip(comparison.groups, comparison.alike.marks, strict=True):
        group.differs_in = marks
    give_labels(comparison.groups)
    return comparison


# ---------------------------------------------------------------- what belongs in one table


def _data_key(run: Run) -> tuple:
    """Return what must be the same for two figures to be comparable."""
    keys = ("data.name", "data.path", "data.unit", "data.root")  # root is left out of computed unless it is the data
    fingerprint = run.summary.get("data/fingerprint")
    return (run.summary["metric"], fingerprint, *(str(run.computed.get(key)) for key in keys))


def _data_names(runs: list[Run]) -> list[str]:
    """Return the names of the runs' data: short, and longer where two of the same metric would be alike."""
    versions: list[list[str]] = []
    for run in runs:
        folder = run.computed.get("data.path") or run.computed.get("data.root")
        name = f"{run.summary['data']} {Path(str(folder)).name}" if folder else str(run.summary["data"])
        edition = run.summary.get("data/edition") or run.summary.get("data/fingerprint") or ""
        longer = f"{name} ({edition})" if edition else name
        unit = run.computed.get("data.unit")
        longest = f"{longer} {run.summary.get('data/fingerprint')} {folder}"
        versions.append([name, longer, f"{longer} by {unit}", longest])
    chosen = []
    for run, names in zip(runs, versions, strict=True):
        rivals = [other for other, its in zip(versions, runs, strict=True) if its.metric == run.metric]
        distinct = [name for i, name in enumerate(names) if sum(rival[i] == name for rival in rivals) == 1]
        chosen.append(printable((distinct or names[-1:])[0]))
    return chosen


# ---------------------------------------------------------------- the front, the twins


def mark_front(comparison: Comparison) -> None:
    """Set on_front of each group."""
    sign = -1 if comparison.metric.higher_is_better else 1
    best = last = None
    for group in sorted(comparison.groups, key=lambda g: (g.trainable, sign * g.test.mean)):
        point = (group.trainable, group.test.mean)
        group.on_front = best is None or comparison.metric.better(group.test.mean, best) or point == last
        if group.on_front:
            best, last = group.test.mean, point


def find_twins(comparison: Comparison) -> None:
    """Set the twin of each group with a hypernet: of several, the one whose other settings are most alike."""
    direct = defaultdict(list)
    for group in comparison.groups:
        if group.hypernet == "none":
            direct[_part(group, "target.")].append(group)
    for group in comparison.groups:
        candidates = direct[_part(group, "target.")] if group.hypernet != "none" else []
        group.twin = min(candidates, key=lambda other: _differences(group, other), default=None)


def _part(group: Group, prefix: str) -> str:
    part = {key: value for key, value in group.computed.items() if key.startswith(prefix)}
    return json.dumps(part, sort_keys=True, default=str)


def _differences(a: Group, b: Group) -> int:
    """Return in how many settings two groups differ, apart from the hypernet and the names."""
    left_out = ("hypernet.", "model", "experiment")
    keys = {key for key in (*a.computed, *b.computed) if not key.startswith(left_out)}
    return sum(a.computed.get(key) != b.computed.get(key) for key in keys)


def give_labels(groups: list[Group]) -> None:
    """Set the label of each group, no two alike. It says how long the group was trained if that is unlike most."""
    shared = shared_settings([group.settings for group in groups])
    own = [
        {
            key: text
            for key, text in group.settings.items()
            if key not in shared and (key not in LENGTHS or "length" in group.differs_in)
        }
        for group in groups
    ]
    found = labels([(group.name, group.in_use) for group in groups], own)
    for group, label in zip(groups, found, strict=True):
        group.label = label
        if found.count(label) > 1:  # the end of the folder's name is a hash of the config
            group.label += f" {printable(group.runs[0].path.name.rpartition('-')[2])}"
