"""Do two run folders hold the same numbers? To the bit, without what a clock measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

KEPT_LATER = ("task/images",)
"""Entries of best.pt that say what the data were (classes, normalization, a fingerprint) and that older code does not
write. Nothing that training made, so where only the new code has one it is passed over."""


@dataclass
class Comparison:
    """What two run folders have in common, up to the first difference."""

    rows: int = 0
    """Rows of metrics.jsonl that are equal."""
    tensors: int = 0
    """Tensors of best.pt, and of the model and the optimizers in last.pt, that are equal."""
    difference: str | None = None
    """The first one, in words, old / new; None where everything is equal."""


def compare_runs(old: Path, new: Path) -> Comparison:
    """Compare two finished run folders."""
    result = Comparison()
    result.difference = next(differences(old, new, result), None)
    return result


def differences(old: Path, new: Path, count: Comparison) -> Iterator[str]:
    """Yield what differs between two run folders, counting in `count` what is equal before it."""
    names = ["/".join(folder.parts[-2:]) for folder in (old, new)]
    if names[0] != names[1]:
        yield f"folder {names[0]} / {names[1]}"
    rows = [[without_clock(row) for row in read_rows(folder / "metrics.jsonl")] for folder in (old, new)]
    for left, right in zip(*rows, strict=False):
        found = unequal(left, right)
        if found:
            yield f"step {left.get('step')}: {found}"
        count.rows += 1
    if len(rows[0]) != len(rows[1]):
        yield f"{len(rows[0])} / {len(rows[1])} rows in metrics.jsonl"
    if not rows[0]:
        yield "no rows in metrics.jsonl"
    found = unequal(*(figures(json.loads((folder / "summary.json").read_text())) for folder in (old, new)))
    if found:
        yield f"summary.json: {found}"
    for name, keys in (("best.pt", None), ("last.pt", ("model", "optimizers"))):
        left, right = (torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (old, new))
        if keys is not None:
            left, right = ({key: state[key] for key in keys} for state in (left, right))
        for found in unequal_states(left, right, "", count):
            yield f"{name}: {found}"


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what depends on how fast it was computed."""
    return {key: value for key, value in row.items() if not key.startswith(("time/", "throughput/"))}


def figures(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what a summary says about the model: its size and what it reached."""
    whole = ("status", "metric", "steps", "best/step")
    return {
        key: value for key, value in summary.items() if key.startswith(("val/", "test/", "params/")) or key in whole
    }


def unequal(left: dict[str, Any], right: dict[str, Any]) -> str | None:
    """Return the first key, in the order of `left`, that only one of two dicts has or whose values differ in a bit."""
    for key in [*left, *right]:
        if key not in left or key not in right:
            return f"only {'old' if key in left else 'new'} has {key}"
        texts = [json.dumps(side[key]) for side in (left, right)]  # as text: 0.0 is not -0.0, and 1 not 1.0
        if texts[0] != texts[1]:
            return f"{key} {texts[0]} / {texts[1]}"
    return None


def unequal_states(left: Any, right: Any, where: str, count: Comparison) -> Iterator[str]:
    """Yield what differs between two states as torch.save keeps them: tensors in dicts and lists, and plain values."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        found = unequal_tensors(left, right)
        if found:
            yield f"{where}: {found}"
        count.tensors += 1
    elif isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            inner = f"{where}/{key}" if where else str(key)
            if key not in left and inner in KEPT_LATER:
                continue
            if key not in left or key not in right:
                yield f"only {'old' if key in left else 'new'} has {inner}"
            else:
                yield from unequal_states(left[key], right[key], inner, count)
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) != len(right):
            yield f"{where}: {len(left)} / {len(right)} entries"
        for index, (a, b) in enumerate(zip(left, right, strict=False)):
            yield from unequal_states(a, b, f"{where}/{index}", count)
    elif type(left) is not type(right) or repr(left) != repr(right):
        yield f"{where}: {left!r:.60} / {right!r:.60}"


def unequal_tensors(left: torch.Tensor, right: torch.Tensor) -> str | None:
    """Return how two tensors differ, None if they are equal to the bit."""
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        return f"{left.dtype} {list(left.shape)} / {right.dtype} {list(right.shape)}"
    size = left.element_size()
    bits = [tensor.contiguous().view(-1).view(torch.uint8).view(-1, size) for tensor in (left, right)]
    wrong = int((bits[0] != bits[1]).any(1).sum())
    if not wrong:
        return None
    return f"{wrong} of {left.numel()} numbers differ, by {(left.double() - right.double()).abs().max():.2g} at most"
