"""Strokes of one's own (data=strokes data.path=FILE.npz), and the three ways in which an npz file holds strokes.

points [N, 3], offsets [S + 1]                  one split: sequence i is points[offsets[i] : offsets[i + 1]]
{train,valid,test}_{strokes,offsets}            the same for each split
train, valid, test                              an array of arrays [n, 3] each: sketch-rnn's form

The three columns are dx, dy (y downwards) and pen up: 1 where the pen is lifted after the point. `test` may be missing;
with `train` alone there is one split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hyperrun.data.images import seeded
from hyperrun.data.kinds import StrokeData
from hyperrun.data.strokes.npz import read_npz
from hyperrun.data.strokes.sets import RawStrokes, StrokeSet, check_arrays, make_strokes
from hyperrun.errors import UserError, printable
from hyperrun.inputs import Strokes
from hyperrun.paths import expanded
from hyperrun.registry import register

SPLIT_NAMES = {"train": "train", "valid": "val", "val": "val", "test": "test"}
"""How files call the splits -> how hyperrun does."""
ALLOWED = "an npz of strokes has points and offsets, or {train,valid,test}_{strokes,offsets}, or train, valid and test"


@register("data", "strokes", StrokeData, looks=Strokes())
def load_own_file(cfg: StrokeData) -> StrokeSet:
    """Return the file cfg.path; if it has one split, shuffled once and for all and cut by the config's fractions.

    Raises:
        UserError: no path; a file that is missing, damaged or no npz of strokes; one split and no fractions; as
            make_strokes.
    """
    if cfg.path is None:
        raise UserError(
            "data=strokes needs data.path=FILE.npz, a file of your own: hyperrun data strokes says of what form"
        )
    path = expanded(cfg.path)
    splits = read_splits(path)
    if set(splits) == {"train"}:
        splits = cut(splits["train"], cfg)
    return make_strokes("strokes", cfg, train=splits["train"], val=splits["val"], test=splits.get("test"))


def read_splits(path: Path) -> dict[str, RawStrokes]:
    """Return the splits that an npz file holds: train alone, train and val, or all three.

    Raises:
        UserError: the file is missing, damaged or no npz of strokes.
    """
    arrays = read_npz(path)
    splits: dict[str, RawStrokes] = {}
    unknown = dict.fromkeys(arrays)
    for theirs, ours in SPLIT_NAMES.items():
        keys = (
            ("points", "offsets")
            if ours == "train" and "points" in arrays
            else (f"{theirs}_strokes", f"{theirs}_offsets")
        )
        if keys[0] in arrays and keys[1] in arrays:
            points, offsets = (arrays[key] for key in keys)
            if isinstance(points, list) or isinstance(offsets, list):
                raise UserError(f"{path}: {keys[0]} and {keys[1]} must be arrays of numbers, not of arrays")
            found = RawStrokes(points, offsets, f"{path}: {keys[0]}")
        elif theirs in arrays:
            keys, found = (theirs,), joined(list(arrays[theirs]), f"{path}: {theirs}")
        else:
            continue
        if ours in splits:
            raise UserError(f"{path} has {ours} twice; {ALLOWED}")
        splits[ours] = found
        for key in keys:
            unknown.pop(key, None)
    if unknown or not splits:
        held = ", ".join(map(printable, unknown)) or "no array"
        raise UserError(f"{path} holds {held}; {ALLOWED}")
    if set(splits) not in ({"train"}, {"train", "val"}, {"train", "val", "test"}):
        raise UserError(f"{path} has {' and '.join(splits)} alone; {ALLOWED}, of which only test may be missing")
    return splits


def joined(sequences: list[np.ndarray], where: str) -> RawStrokes:
    """Return sequences [n, 3] one after the other.

    Raises:
        UserError: one of another shape or type; says which.
    """
    for i, one in enumerate(sequences):
        if one.ndim != 2 or one.shape[1] != 3 or one.dtype.kind not in "iufb":
            raise UserError(f"{where}: sequence {i:,} must be numbers [n, 3], not {one.dtype} {list(one.shape)}")
    points = np.concatenate(sequences) if sequences else np.zeros((0, 3), np.float32)
    return RawStrokes(points, np.cumsum([0, *map(len, sequences)]), where)


def cut(whole: RawStrokes, cfg: StrokeData) -> dict[str, RawStrokes]:
    """Return the sequences in three splits (two where test_fraction is 0), drawn once and for all.

    Raises:
        UserError: no fractions, or so few sequences that a split has none.
    """
    if cfg.val_fraction is None or cfg.test_fraction is None:
        raise UserError(f"{whole.where} brings no split: set data.val_fraction and data.test_fraction (0.1 each)")
    whole = check_arrays(whole)
    count = len(whole.offsets) - 1
    val, test = (int(count * part) for part in (cfg.val_fraction, cfg.test_fraction))
    if val < 1 or count - val - test < 1 or (cfg.test_fraction > 0 and test < 1):
        raise UserError(
            f"{whole.where}: of its {count:,} sequences {count - val - test:,} / {val:,} / {test:,} are left to train "
            "/ validate / test, and each part needs one (data.val_fraction and data.test_fraction move them)"
        )
    order = torch.randperm(count, generator=seeded("strokes", "split")).numpy()
    parts = {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
    return {split: selected(whole, np.sort(index)) for split, index in parts.items() if len(index)}


def selected(raw: RawStrokes, index: np.ndarray) -> RawStrokes:
    """Return the sequences with these numbers; errors still name them by their numbers in the file."""
    lengths = np.diff(raw.offsets)[index]
    offsets = np.concatenate([[0], lengths.cumsum()])
    place = np.arange(offsets[-1]) + np.repeat(raw.offsets[:-1][index] - offsets[:-1], lengths)
    names = [raw.names[i] for i in index] if len(raw.names) else ()
    texts = [raw.texts[i] for i in index] if len(raw.texts) else ()
    numbers = (raw.numbers if raw.numbers is not None else np.arange(len(raw.offsets) - 1))[index]
    return replace(raw, points=raw.points[place], offsets=offsets, names=names, texts=texts, numbers=numbers)


def refuse_path(cfg: StrokeData) -> None:
    """Refuse data.path and fractions for a set that has its own file and split.

    Raises:
        UserError: one of them was given.
    """
    if cfg.path is not None:
        raise UserError(
            f"data.path={cfg.path}: {cfg.name} reads no such file; leave it at null, or choose data=strokes"
        )
    if cfg.val_fraction is not None:
        raise UserError(f"{cfg.name} brings its own split: leave data.val_fraction and data.test_fraction at null")
