"""The comparison as values for other programs: CSV, JSON, and rows for W&B."""

from __future__ import annotations

import csv
import io
from typing import Any

from hyperrun.compare.alike import MARK, device
from hyperrun.compare.groups import Comparison, Group
from hyperrun.compare.table import aspect_text
from hyperrun.errors import printable
from hyperrun.runs.naming import differing_keys, setting
from hyperrun.runs.reading import Runs

TIMES = ("train", "steady", "warm_up", "eval", "save", "epoch")
"""Of time/..._s in a record."""


def records(comparison: Comparison) -> list[dict[str, Any]]:
    """Return all that is known of each group under the names of summary.json; figures unrounded, accuracy a fraction.

    time/steady_s is time/train_s without time/warm_up_s; both are missing where with_warm_up says that the times count
    warm-up. Each setting in which the groups differ, or are not what their names say, has its own key, hypernet.z_dim.
    """
    own = {key for group in comparison.groups for key in group.settings}
    settings = sorted({*differing_keys(group.in_use for group in comparison.groups), *own})
    rows = [record(comparison, group) for group in comparison.groups]
    return [
        row | {key: group.in_use.get(key) for key in settings if key not in row}
        for row, group in zip(rows, comparison.groups, strict=True)
    ]


def record(comparison: Comparison, group: Group) -> dict[str, Any]:
    """Return what is known of a group, its settings left out."""
    metric = comparison.metric.name
    first = group.runs[0].summary
    return {
        "data": comparison.data,
        "metric": metric,
        "label": group.label,
        "model": first["model"],
        "experiment": group.experiment,
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
        "trained": aspect_text(group, "length").removesuffix(f" {MARK}"),
        "epochs": group.mean("epochs"),
        "steps": group.mean("steps"),
        "data/verified": first.get("data/verified"),
        "precision": first.get("precision"),
        "device": device(group.runs[0]),
        "differs_in": "; ".join(group.differs_in),
        "time/with_warm_up": group.with_warm_up,
        **{f"time/{name}_s": group.mean(f"time/{name}_s") for name in TIMES},
        "throughput/examples_per_s": group.mean("throughput/examples_per_s"),
        "throughput/tokens_per_s": group.mean("throughput/tokens_per_s"),
        "runs": [str(run.path) for run in group.runs],
    }


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose lists are texts, for tables whose cells hold no lists."""
    joined = {"seeds": " ".join(map(str, row["seeds"])), "runs": ";".join(row["runs"])}
    return {key: joined.get(key, setting(value) if isinstance(value, list) else value) for key, value in row.items()}


def as_json(runs: Runs, comparisons: list[Comparison]) -> dict[str, Any]:
    """Return the whole comparison as plain values, best groups first."""
    return {
        "comparisons": [
            {
                "data": comparison.data,
                "metric": comparison.metric.name,
                "higher_is_better": comparison.metric.higher_is_better,
                "shared": comparison.alike.shared,
                "unequal": {one.what: {"most": one.most, "others": one.others} for one in comparison.alike.unequal},
                "groups": records(comparison),
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
    rows = [row for comparison in comparisons for row in records(comparison)]
    if not rows:
        return ""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))  # of several tables: each has settings of its own
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in map(flat, rows):
        writer.writerow({key: printable(value) if isinstance(value, str) else value for key, value in row.items()})
    return text.getvalue()
