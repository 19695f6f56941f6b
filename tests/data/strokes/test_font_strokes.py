"""The embedded set: the same for everybody, and a pen's way."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from hyperrun.data import StrokeData, load_strokes
from hyperrun.data.strokes.font_strokes import FONTS, STEP, TIMES, WORDS, even
from tests.data.strokes.conftest import STROKE_DEFAULTS


@pytest.fixture(scope="module")
def fonts():
    return load_strokes(StrokeData(**{**STROKE_DEFAULTS, "name": "font_strokes"}))


def test_counts(fonts):
    assert [len(split) for split in fonts.splits.values()] == [2448, 300, 300]
    assert sum(map(len, fonts.splits.values())) == len(WORDS) * len(FONTS) * TIMES
    lengths = torch.cat([split.lengths for split in fonts.splits.values()])
    assert int(lengths.min()) >= 25 and int(lengths.max()) <= 170 and 85 < lengths.double().mean() < 105
    assert len(set(WORDS)) == len(WORDS) and all(2 <= len(word) <= 5 for word in WORDS)


def test_words_and_points_are_the_same_everywhere(fonts):
    """Of places, which may differ in the last digit from machine to machine, only how many there are."""
    said = [f"{name} {split.texts} {split.lengths.tolist()}" for name, split in fonts.splits.items()]
    assert hashlib.sha256("\n".join(said).encode()).hexdigest()[:16] == "e7218115c985808b"
    assert fonts.std.tolist() == pytest.approx([12.32, 10.60], abs=0.02)
    assert fonts.edition.startswith("matplotlib ")


def test_no_word_is_in_two_splits(fonts):
    train, val, test = (set(split.texts) for split in fonts.splits.values())
    assert not (train & val or train & test or val & test) and len(train | val | test) == len(WORDS)


def test_the_pen_is_lifted_after_every_outline(fonts):
    """o has an outline outside and one inside, l has one, i has two."""
    outlines = {"a": 2, "b": 2, "c": 1, "d": 2, "e": 2, "h": 1, "i": 2, "k": 1, "l": 1, "m": 1, "n": 1, "o": 2, "p": 2}
    outlines |= {"r": 1, "s": 1, "t": 1, "u": 1, "v": 1, "w": 1, "x": 1, "y": 1, "z": 1, "q": 2, "f": 1, "j": 2}
    checked = 0
    for i, word in enumerate(fonts.train.texts):
        if "g" not in word:  # three in some fonts
            assert int(fonts.train[i][:, 2].sum()) == sum(outlines[letter] for letter in word), word
            assert fonts.train[i][-1, 2] == 1
            checked += 1
    assert checked > 2000


def test_outlines_are_closed_and_steps_are_even(fonts):
    steps = []
    for i in range(0, len(fonts.train), 50):
        points = fonts.raw(fonts.train[i]).numpy()
        places, begin = points[:, :2].cumsum(0), 0
        for end in np.flatnonzero(points[:, 2]) + 1:
            assert np.hypot(*(places[begin] - places[end - 1])) < 4, "the pen comes back to where it began"
            steps.extend(np.hypot(*points[begin + 1 : end, :2].T))
            begin = end
    assert np.quantile(steps, 0.95) < 1.7 * STEP and 0.7 * STEP < np.median(steps) < 1.2 * STEP


def test_corners_stay_and_the_parts_between_them_have_equal_steps():
    square = np.array([[0, 0], [3 * STEP, 0], [3 * STEP, 2 * STEP], [0, 2 * STEP], [0, 0]], float)
    places = even(square)
    assert len(places) == 11 and np.allclose(np.hypot(*np.diff(places, axis=0).T), STEP)
    assert all((np.abs(places - corner).sum(1) < 1e-9).any() for corner in square)
    angle = np.linspace(0, 2 * np.pi, 100)
    dot = even(np.column_stack([np.cos(angle), np.sin(angle)]))
    assert len(dot) == 5, "a small dot is a square, not a line"
