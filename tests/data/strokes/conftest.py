"""Configs, and small sets of random strokes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hyperrun.data import RawStrokes, StrokeData, StrokeSet, make_strokes

STROKE_DEFAULTS: dict[str, Any] = {
    "kind": "strokes",
    "name": "strokes",
    "root": None,
    "verify": True,
    "epochs": 1,
    "path": None,
    "val_fraction": None,
    "test_fraction": None,
    "min_points": 2,
    "max_points": None,
    "scale": 0.0,
    "max_jump": None,
    "bad_jumps": "refuse",
    "bad_sequences": "refuse",
    "sequence_length": None,
    "buckets": 4,
}


@pytest.fixture
def stroke_cfg() -> Callable[..., StrokeData]:
    """Return a function from some keys of StrokeData to the whole."""
    return lambda **keys: StrokeData(**{**STROKE_DEFAULTS, **keys})


def random_strokes(lengths: list[int], seed: int = 0, where: str = "made up") -> RawStrokes:
    """Sequences of these lengths, in whole numbers; the pen is lifted after the last point of each."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths])
    points = rng.integers(-9, 10, (offsets[-1], 3))
    points[:, 2] = rng.random(len(points)) < 0.2
    points[offsets[1:][np.array(lengths) > 0] - 1, 2] = 1
    return RawStrokes(points, offsets, where)


@pytest.fixture
def stroke_set(stroke_cfg: Callable[..., StrokeData]) -> Callable[..., StrokeSet]:
    """Return a function that makes a set: 37 training sequences of 2 to 30 points unless said."""

    def make(train: list[int] | None = None, val: list[int] | None = None, **keys: Any) -> StrokeSet:
        rng = np.random.default_rng(5)
        some = rng.integers(2, 31, 37).tolist() if train is None else train
        other = rng.integers(2, 41, 23).tolist() if val is None else val
        parts = {"train": random_strokes(some), "val": random_strokes(other, 1), "test": random_strokes([5, 6], 2)}
        return make_strokes("random", stroke_cfg(**keys), **parts)

    return make
