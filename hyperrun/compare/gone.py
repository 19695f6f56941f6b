"""Rows of a page of results whose run folders no longer exist: what the page printed of them, kept in a small file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperrun.compare.groups import Comparison, Figure, Group, arranged
from hyperrun.config import Config, to_dict
from hyperrun.errors import UserError
from hyperrun.metrics import METRICS
from hyperrun.paths import expanded
from hyperrun.runs.folder import named
from hyperrun.runs.reading import Run, computed_keys, dotted

GONE = "gone.json"
"""Beside run folders: {"page": which page, "rows": [a row as GoneRow has it, {"command": ..., ...}, ...]}."""


@dataclass(frozen=True)
class GoneRow:
    """What a page printed of the runs of one config."""

    command: str
    """hyperrun train experiment=ha2016/mnist_cnn, without the seed: the config is composed from it again."""
    seeds: list[int]
    metric: str
    test: Figure
    """Of metric over the seeds, as exact as it was printed."""
    trainable: int
    """Trainable parameters."""
    facts: dict[str, Any]
    """What else was printed, under the names of summary.json: device, precision, torch, git, time/train_s, ..."""

    @property
    def overrides(self) -> list[str]:
        """What is typed behind hyperrun train, with the first seed."""
        return [*shlex.split(self.command)[2:], f"seed={self.seeds[0]}"]


def read_gone(folders: Iterable[str | Path]) -> tuple[str | None, list[GoneRow]]:
    """Return which page it was, and its rows, of the files named GONE in these folders; (None, []) where none has one.

    Raises:
        UserError: a file that cannot be read.
    """
    page, rows = None, []
    for folder in folders:
        path = expanded(folder) / GONE
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            page = str(content["page"])
            rows += [_row(dict(row)) for row in content["rows"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    return page, rows


def _row(row: dict[str, Any]) -> GoneRow:
    command, metric, seeds = row.pop("command"), row.pop("metric"), row.pop("seeds")
    if metric not in METRICS:
        raise ValueError(f"the metric {metric} is not known")
    test = Figure(row.pop("test/mean"), row.pop("test/std"), len(seeds))
    return GoneRow(command, seeds, metric, test, row.pop("params/trainable"), row)


def gone_group(row: GoneRow, config: Config, target: int) -> Group:
    """Return the group that a row was. Its runs have no folder, and of the figures only what was printed.

    config: composed from row.overrides. target: parameters of its target on its own.
    """
    plain = to_dict(config)
    printed = ("params", "metric", "value") if config.paper is not None else ()
    known = {
        **named(config),
        "metric": row.metric,
        "params/trainable": row.trainable,
        "params/target": target,
        "command": row.command,
        "status": "finished",
        **{f"paper/{key}": getattr(config.paper, key) for key in printed},
        **row.facts,
    }
    config_of, computed = dotted(plain), computed_keys(plain)
    runs = [Run(Path(GONE), "finished", known | {"seed": seed}, config_of, computed) for seed in row.seeds]
    group = Group(runs, gone=True)
    group.test = row.test  # in place of the mean over runs, whose own figures nobody knows
    return group


def with_gone(comparisons: Sequence[Comparison], gone: Iterable[Group]) -> list[Comparison]:
    """Return the comparisons with the groups that are gone, but for those whose every seed was trained again."""
    found = list(comparisons)
    for group in gone:
        data = group.runs[0].summary["data"]
        mine = [c for c in found if c.metric == group.metric and c.groups[0].runs[0].summary["data"] == data]
        if any(_same(group, other) and set(group.seeds) <= set(other.seeds) for c in mine for other in c.groups):
            continue
        if not mine:
            mine = [Comparison(data, group.metric)]
            found += mine
        mine[0].groups.append(group)
        arranged(mine[0])
    return sorted(found, key=lambda c: (c.data, c.metric.name))


def _same(group: Group, other: Group) -> bool:
    """Return whether two groups are of one config, as far as both have its keys: a later version has more of them."""
    a, b = group.computed, other.computed
    return all(a[key] == b[key] for key in a if key in b)
