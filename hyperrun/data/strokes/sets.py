"""Sets of pen strokes: what every one of them is read into.

`RawStrokes` is a split as its file has it, in the file's unit. `make_strokes` checks three of them (or two: a set may
have no test split), drops what the config says, normalizes over the training set and gives a `StrokeSet`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperrun.data.kinds import StrokeData
from hyperrun.errors import UserError, printable
from hyperrun.inputs import Strokes

SPLITS = ("train", "val", "test")

FAR, MOST_MOVES = 10.0, 0.999
"""A move so many times as far as this part of the training set's moves go at most is odd, and said to be. In Omniglot
and IAM-OnDB, lifts of the pen from line to line included, no move is more than 6 times as far."""

FARTHEST = 1e9
"""Standard deviations: with a larger offset the density of a point (in float32) is no number for every output."""


@dataclass(frozen=True)
class RawStrokes:
    """A split as a file has it: sequence i is points[offsets[i] : offsets[i + 1]]."""

    points: np.ndarray
    """dx, dy, pen up: any numbers [N, 3]. The pen moves by (dx, dy), y downwards, and is lifted after the point where
    the third is 1. The offset of a sequence's first point is not used."""
    offsets: np.ndarray
    """int64 [S + 1]: from 0 to N, never falling."""
    where: str
    """How errors name it: the file, and the array within it."""
    names: Sequence[str] = ()
    """How errors name each sequence, beside its number; may be empty."""
    texts: Sequence[str] = ()
    """What is written in each; empty where that is not known."""
    numbers: np.ndarray | None = None
    """int64 [S]: the number of each in the file, for errors; None: 0, 1, ..."""


@dataclass(frozen=True)
class StrokeSplit:
    """Sequences of pen positions, one after the other: sequence i is points[offsets[i] : offsets[i + 1]]."""

    points: Tensor
    """float32 [N, 3]: dx and dy, normalized (0 for the first point of a sequence), and pen up, 0 or 1."""
    offsets: Tensor
    """int64 [S + 1]. Every sequence has 2 points at least."""
    texts: Sequence[str] = ()
    """What is written in each sequence; empty where that is not known."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Tensor:
        """Return sequence i, float32 [n, 3]."""
        return self.points[int(self.offsets[i]) : int(self.offsets[i + 1])]

    @property
    def lengths(self) -> Tensor:
        """Points of each sequence, int64 [S]."""
        return self.offsets.diff()

    @property
    def predicted(self) -> int:
        """Points that a model predicts: all but the first of each sequence."""
        return len(self.points) - len(self)


@dataclass(frozen=True)
class StrokeSet:
    """A set of pen strokes. Shared between the jobs of a sweep: read it, do not write to it."""

    name: str
    """Its name, as it was registered."""
    train: StrokeSplit
    """What is learned from."""
    val: StrokeSplit
    """What selects the checkpoint."""
    test: StrokeSplit | None
    """What is read once, for the selected checkpoint; None where the set has no such split."""
    mean: Tensor
    """float64 [2]: what was subtracted from dx and dy, in the file's unit."""
    std: Tensor
    """float64 [2]: what they were divided by then."""
    verified: bool
    """False if data.verify=false made us accept a file whose checksum differs."""
    fingerprint: str
    """Eight hexadecimal digits that differ where the sequences or their split do."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What was done to sequences of the file -> how often, over all splits: see facts."""
    edition: str | None = None
    """Which edition it is, where there are several ("matplotlib 3.10.0")."""
    notes: Sequence[str] = ()
    """What is odd about it, and its user should hear before training."""

    @property
    def inputs(self) -> Strokes:
        """What the strokes look like to a model."""
        return Strokes()

    @property
    def splits(self) -> dict[str, StrokeSplit]:
        """The splits that there are, by name."""
        return {name: split for name in SPLITS if (split := getattr(self, name)) is not None}

    @property
    def mean_predicted(self) -> float:
        """Predicted points of a training sequence, in the mean."""
        return self.train.predicted / len(self.train)

    def raw(self, points: Tensor) -> Tensor:
        """Return normalized points [..., 3] in the file's unit, float64."""
        return in_unit_of_file(points, self.mean, self.std)

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data: sequences of each split (0: there is no such split), points
        that are predicted in each, the normalization, and how many sequences were dropped and points clipped."""
        facts: dict[str, Any] = {"data/verified": self.verified}
        facts |= {f"data/{name}": len(self.splits.get(name, ())) for name in SPLITS}
        facts |= {f"data/{name}_points": split.predicted for name, split in self.splits.items()}
        for axis, mean, std in zip(("dx", "dy"), self.mean.tolist(), self.std.tolist(), strict=True):
            facts |= {f"data/mean_{axis}": mean, f"data/std_{axis}": std}
        facts |= {f"data/{what}": count for what, count in self.left_out.items()}
        return facts | {"data/fingerprint": self.fingerprint} | ({"data/edition": self.edition} if self.edition else {})

    def describe(self) -> str:
        """Return in a few words what there is: "font_strokes: 2,400 / 300 / 300 sequences, 95 points each"."""
        counts = " / ".join(f"{len(split):,}" for split in self.splits.values())
        no_test = "" if self.test is not None else " (no test split)"
        out = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in self.left_out.items() if count)
        return f"{self.name}: {counts} sequences{no_test}, {self.mean_predicted + 1:,.0f} points each" + (
            f"; {out}" if out else ""
        )


def in_unit_of_file(points: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return points [..., 3] that were normalized by mean and deviation [2] as they were before, float64 on the CPU."""
    points = points.double().cpu()
    return torch.cat([points[..., :2] * std + mean, points[..., 2:]], -1)


def make_strokes(
    name: str,
    cfg: StrokeData,
    *,
    train: RawStrokes,
    val: RawStrokes,
    test: RawStrokes | None = None,
    verified: bool = True,
    edition: str | None = None,
) -> StrokeSet:
    """Return the set, checked, without what the config drops, and normalized.

    dx and dy have mean 0 and standard deviation 1 over the training set's points that are left (Graves 2013, section
    4), the first of each sequence excepted: its offset, which may be anything in the file, becomes (0, 0).

    Raises:
        UserError: arrays that do not fit; a sequence that the config refuses; a split of which nothing is left; dx or
            dy that never changes.
    """
    left_out: Counter[str] = Counter()
    raw = {"train": train, "val": val} | ({"test": test} if test is not None else {})
    kept = {split: keep(check_arrays(found), cfg, left_out) for split, found in raw.items()}
    for split, found in kept.items():
        if len(found.offsets) < 2:
            raise UserError(
                f"{found.where}: nothing is left of {split}: data.min_points={cfg.min_points}, data.max_points, "
                "data.max_jump or data.bad_sequences drop every sequence"
            )
    digest = hashlib.sha256()
    for found in kept.values():
        digest.update(found.offsets.data)
        digest.update(found.points.data)
    inner = moves(kept["train"])
    columns = [kept["train"].points[inner, axis].astype(np.float64) for axis in (0, 1)]
    mean, std = (np.array([measure(column) for column in columns]) for measure in (np.mean, np.std))
    for axis, spread in zip(("dx", "dy"), std, strict=True):
        if not spread > 0:
            raise UserError(
                f"{train.where}: {axis} is the same for every point, so that nothing is to be learned of it"
            )
    for found in kept.values():
        refuse_too_far(found, mean, std)
    notes = far_moves(kept) if cfg.max_jump is None else []
    splits = {split: normalized(found, mean, std) for split, found in kept.items()}
    return StrokeSet(
        name,
        train=splits["train"],
        val=splits["val"],
        test=splits.get("test"),
        mean=torch.from_numpy(mean),
        std=torch.from_numpy(std),
        verified=verified,
        fingerprint=digest.hexdigest()[:8],
        left_out={what: count for what, count in left_out.items() if count},
        edition=edition,
        notes=notes,
    )


def normalized(raw: RawStrokes, mean: np.ndarray, std: np.ndarray) -> StrokeSplit:
    points = raw.points
    for axis in (0, 1):  # in float64; the array is our own copy
        points[:, axis] = (points[:, axis] - mean[axis]) / std[axis]
    points[raw.offsets[:-1], :2] = 0
    return StrokeSplit(torch.from_numpy(points), torch.from_numpy(raw.offsets), raw.texts)


# ---------------------------------------------------------------- checks


def check_arrays(raw: RawStrokes) -> RawStrokes:
    """Return the split as float32 points and int64 offsets, in arrays of their own.

    Raises:
        UserError: another shape or type, or offsets that do not fit the points.
    """
    points, offsets = raw.points, raw.offsets
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iufb":
        raise UserError(
            f"{raw.where}: must be numbers [N, 3] (dx, dy, pen up), not {points.dtype} {list(points.shape)}"
        )
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 1:
        raise UserError(f"{raw.where}: offsets must be integers [S + 1], not {offsets.dtype} {list(offsets.shape)}")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(points):
        raise UserError(
            f"{raw.where}: offsets run from {offsets[0]:,} to {offsets[-1]:,}, and must run from 0 to the "
            f"{len(points):,} points"
        )
    if (falling := np.flatnonzero(np.diff(offsets) < 0)).size:
        i = falling[0]
        raise UserError(f"{raw.where}: offsets fall from {offsets[i]:,} to {offsets[i + 1]:,} at sequence {i:,}")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes Inf, which is then found
        points = points.astype(np.float32, order="C")
    return replace(raw, points=points, offsets=offsets)


def keep(raw: RawStrokes, cfg: StrokeData, left_out: Counter[str]) -> RawStrokes:
    """Return the sequences that the config keeps, jumps clipped if it says so; count the others.

    Raises:
        UserError: a sequence that the config refuses; names the first.
    """
    lengths = np.diff(raw.offsets)
    dx, dy, pen = raw.points.T
    bad = having(raw, ~(np.isfinite(dx) & np.isfinite(dy)) | ((pen != 0) & (pen != 1))) | (lengths < 2)
    if bad.any() and cfg.bad_sequences == "refuse":
        raise UserError(f"{what_is_bad(raw, int(bad.argmax()))}; data.bad_sequences=drop leaves such sequences out")
    left_out["dropped_bad"] += int(bad.sum())
    gone = bad
    if cfg.max_jump is not None:
        gone = gone | handle_jumps(raw, cfg.max_jump, cfg.bad_jumps, bad, left_out)
    short = ~gone & (lengths < cfg.min_points)
    long = ~gone & (lengths > (cfg.max_points or lengths.max(initial=0)))
    left_out["dropped_short"] += int(short.sum())
    left_out["dropped_long"] += int(long.sum())
    stays = ~(gone | short | long)
    if stays.all():
        return raw
    names, texts = (
        [one for one, stay in zip(all_of_them, stays, strict=True) if stay] if len(all_of_them) else ()
        for all_of_them in (raw.names, raw.texts)
    )
    numbers = (np.arange(len(lengths)) if raw.numbers is None else raw.numbers)[stays]
    offsets = np.concatenate([[0], lengths[stays].cumsum()]).astype(np.int64)
    return RawStrokes(raw.points[np.repeat(stays, lengths)], offsets, raw.where, names, texts, numbers)


def refuse_too_far(raw: RawStrokes, mean: np.ndarray, std: np.ndarray) -> None:
    """Refuse offsets, first ones excepted, that are too many of the training set's standard deviations.

    Raises:
        UserError: there is one; names the first.
    """
    far = moves(raw) & np.any(np.abs(raw.points[:, :2] - mean) > FARTHEST * std, axis=1)
    if far.any():
        raise UserError(
            f"{move_at(raw, int(far.argmax()))}, over {FARTHEST:g} standard deviations of the training set; "
            "data.max_jump=N with data.bad_jumps=drop or clip leaves such moves out"
        )


def far_moves(splits: Mapping[str, RawStrokes]) -> list[str]:
    """Return in a line or none that there are moves, in any split, that are FAR times as far as nearly all of the
    training set's, and which is the farthest: a mistake in the data, perhaps."""
    sizes = {name: np.abs(raw.points[:, :2]).max(1, initial=0) * moves(raw) for name, raw in splits.items()}
    usual = float(np.quantile(sizes["train"][moves(splits["train"])], MOST_MOVES, method="lower"))
    counts = {name: int((size > FAR * usual).sum()) for name, size in sizes.items()}
    if not usual or not any(counts.values()):
        return []
    split = max(sizes, key=lambda name: sizes[name].max())
    at = int(sizes[split].argmax())
    many, times = sum(counts.values()), sizes[split][at] / usual
    said = f"{times:,.0f}" if times < 1e6 else f"{times:.0e}"
    return [
        f"{move_at(splits[split], at)}, {said} times as far as {MOST_MOVES:.1%} of the moves go at most "
        f"({many:,} move{'s' * (many > 1)} over {FAR:g} times): a mistake? data.max_jump=N with data.bad_jumps=drop or "
        "clip leaves such moves out"
    ]


def moves(raw: RawStrokes) -> np.ndarray:
    """Return which points are moves from another: all but the first of each sequence, bool [N]."""
    found = np.ones(len(raw.points), bool)
    found[raw.offsets[:-1][np.diff(raw.offsets) > 0]] = False
    return found


def move_at(raw: RawStrokes, at: int) -> str:
    """Say where point `at` of a split is: the sequence, its number there, and how far it is from the one before it."""
    i = int(np.searchsorted(raw.offsets, at, side="right")) - 1
    dx, dy = raw.points[at, :2].tolist()
    return f"{called(raw, i)}: point {at - int(raw.offsets[i]):,} is ({dx:g}, {dy:g}) away from the one before it"


def having(raw: RawStrokes, wrong: np.ndarray) -> np.ndarray:
    """Return which sequences (bool [S]) have a point that is wrong (bool [N])."""
    found = np.zeros(len(raw.offsets) - 1, bool)
    found[np.searchsorted(raw.offsets, np.flatnonzero(wrong), side="right") - 1] = True
    return found


def handle_jumps(raw: RawStrokes, most: float, what: str, bad: np.ndarray, left_out: Counter[str]) -> np.ndarray:
    """Clip jumps in place, or return which sequences (bool [S]) are dropped for them; count either.

    Raises:
        UserError: the config refuses them.
    """
    none = np.zeros(len(bad), bool)
    jumps = moves(raw) & (np.abs(raw.points[:, :2]).max(1, initial=0) > most)
    jumps &= ~np.repeat(bad, np.diff(raw.offsets))
    with_jumps = having(raw, jumps)
    if not with_jumps.any():
        return none
    if what == "clip":
        left_out["clipped_jumps"] += int(jumps.sum())
        raw.points[jumps, :2] = raw.points[jumps, :2].clip(-most, most)
        return none
    if what == "drop":
        left_out["dropped_jumps"] += int(with_jumps.sum())
        return with_jumps
    raise UserError(
        f"{move_at(raw, int(jumps.argmax()))}, over data.max_jump={most:g}; data.bad_jumps=drop leaves such sequences "
        "out, clip cuts the move"
    )


def what_is_bad(raw: RawStrokes, i: int) -> str:
    """Say what is wrong with sequence i, by its file, number and point."""
    begin, end = int(raw.offsets[i]), int(raw.offsets[i + 1])
    if end - begin < 2:
        count = "1 point" if end - begin == 1 else f"{end - begin} points"
        return f"{called(raw, i)} has {count}, and it takes two to predict one from the other"
    for at, point in enumerate(raw.points[begin:end]):
        for what, value in zip(("dx", "dy", "pen up"), point.tolist(), strict=True):
            if not np.isfinite(value):
                return f"{called(raw, i)}: point {at:,}: {what} is {value}"
        if point[2] not in (0, 1):
            return f"{called(raw, i)}: point {at:,}: pen up is {point[2]:g}, and must be 0 or 1"
    raise AssertionError(f"nothing is wrong with {called(raw, i)}")


def called(raw: RawStrokes, i: int) -> str:
    name = f" ({printable(raw.names[i])})" if len(raw.names) else ""
    return f"{raw.where}: sequence {i if raw.numbers is None else raw.numbers[i]:,}{name}"
