"""What is checked, dropped and normalized."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
import yaml

from hyperrun.conf_dir import CONF_DIR
from hyperrun.data import RawStrokes, StrokeData, inputs_of, load_strokes, looks_of, make_strokes, names_of
from hyperrun.errors import UserError
from hyperrun.inputs import Strokes


def raw(*sequences, where="FILE"):
    """Sequences given as lists of points."""
    points = np.array([point for one in sequences for point in one], np.float64).reshape(-1, 3)
    return RawStrokes(points, np.cumsum([0, *map(len, sequences)]), where)


GOOD = [[100, 200, 0], [1, 2, 0], [3, -4, 1]]
OTHER = [[7, 7, 0], [5, 6, 1]]


@pytest.fixture
def make(stroke_cfg):
    def make(train, val=None, test=None, **keys):
        return make_strokes("drawn", stroke_cfg(**keys), train=train, val=raw(GOOD) if val is None else val, test=test)

    return make


# ---------------------------------------------------------------- normalization


def test_moves_have_mean_0_and_deviation_1_over_the_training_set(stroke_set):
    data = stroke_set()
    inner = torch.ones(len(data.train.points), dtype=torch.bool)
    inner[data.train.offsets[:-1]] = False
    moves = data.train.points[inner, :2].double()
    torch.testing.assert_close(moves.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(moves.std(0, correction=0), torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)
    assert not data.train.points[~inner, :2].any() and not data.val.points[data.val.offsets[:-1], :2].any()
    assert set(data.train.points[:, 2].tolist()) == {0, 1}


def test_normalization_is_that_of_the_training_set_and_is_undone(make):
    data = make(raw(GOOD, OTHER), val=raw([[0, 0, 0], [9, 9, 1]]))
    assert data.mean.tolist() == pytest.approx([3, 4 / 3])
    assert data.std.tolist() == pytest.approx(np.array([[1, 2], [3, -4], [5, 6]]).std(0).tolist())
    assert data.raw(data.val[0])[1].tolist() == pytest.approx([9, 9, 1], abs=1e-5)
    assert data.raw(data.train[0])[1:].tolist() == pytest.approx(np.array([[1, 2, 0], [3, -4, 1]]), abs=1e-5)
    assert data.train[0][0].tolist() == [0, 0, 0]


def test_where_a_sequence_begins_changes_nothing(make):
    elsewhere = [[-5000, 3, 0], *GOOD[1:]]
    one, other = make(raw(GOOD, OTHER)), make(raw(elsewhere, OTHER))
    assert torch.equal(one.train.points, other.train.points) and torch.equal(one.std, other.std)


def test_a_set_says_what_it_has(make):
    data = make(raw(GOOD, OTHER), test=raw(OTHER))
    assert data.inputs == Strokes() and data.mean_predicted == 1.5 and data.train.predicted == 3
    assert (
        data.train.lengths.tolist() == [3, 2] and len(data.train) == 2 and list(data.splits) == ["train", "val", "test"]
    )
    facts = data.facts()
    assert [facts[f"data/{split}"] for split in ("train", "val", "test")] == [2, 1, 1]
    assert [facts[f"data/{split}_points"] for split in ("train", "val", "test")] == [3, 2, 1]
    assert facts["data/mean_dx"] == 3 and facts["data/verified"] is True and "data/dropped_bad" not in facts
    assert data.describe() == "drawn: 2 / 1 / 1 sequences, 2 points each"


def test_a_set_without_a_test_split(make):
    data = make(raw(GOOD, OTHER))
    assert data.test is None and list(data.splits) == ["train", "val"] and data.facts()["data/test"] == 0
    assert "2 / 1 sequences (no test split)" in data.describe()


def test_fingerprints_tell_sets_apart(make):
    one = make(raw(GOOD, OTHER), test=raw(OTHER)).fingerprint
    assert one == make(raw(GOOD, OTHER), test=raw(OTHER)).fingerprint
    moved = [GOOD[0], [1, 3, 0], GOOD[2]]
    others = [make(raw(GOOD, OTHER)), make(raw(OTHER, GOOD), test=raw(OTHER)), make(raw(moved, OTHER), test=raw(OTHER))]
    assert one not in [other.fingerprint for other in others]


# ---------------------------------------------------------------- dropped


def test_short_and_long_sequences_are_dropped_from_every_split(make):
    longer = [*GOOD, [2, 2, 1]]
    keys = {"val": raw(OTHER, GOOD), "test": raw(longer, GOOD)}
    data = make(raw(GOOD, OTHER, longer, GOOD), **keys, min_points=3, max_points=3)
    assert [len(split) for split in data.splits.values()] == [2, 1, 1]
    assert data.left_out == {"dropped_short": 2, "dropped_long": 2}
    assert data.facts()["data/dropped_short"] == 2
    assert data.describe() == "drawn: 2 / 1 / 1 sequences, 3 points each; 2 dropped short, 2 dropped long"
    assert data.mean.tolist() == [2, -1], "only what is left counts"


def test_texts_stay_with_their_sequences(make):
    train = raw(GOOD, OTHER, GOOD)
    train = RawStrokes(train.points, train.offsets, "FILE", texts=["a", "b", "c"])
    assert make(train).train.texts == ["a", "b", "c"]
    assert make(train, min_points=3).train.texts == ["a", "c"]


def test_nothing_left_is_said(make):
    with pytest.raises(UserError, match="^FILE: nothing is left of train: data.min_points=9, .* drop every sequence$"):
        make(raw(GOOD), min_points=9)
    with pytest.raises(UserError, match="^V: nothing is left of val: "):
        make(raw(GOOD, OTHER), val=raw(where="V"))


def test_a_direction_in_which_nothing_moves(make):
    with pytest.raises(UserError, match="^FILE: dy is the same for every point"):
        make(raw([[0, 0, 0], [1, 0, 0], [2, 0, 1]]))


# ---------------------------------------------------------------- bad input

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([GOOD[0], [1, NAN, 0], GOOD[2]], r"sequence 1: point 1: dy is nan"),
        ([GOOD[0], GOOD[1], [-INF, 0, 1]], r"sequence 1: point 2: dx is -inf"),
        ([GOOD[0], [1e39, 0, 0], GOOD[2]], r"sequence 1: point 1: dx is inf"),  # beyond float32
        ([GOOD[0], [1, 2, NAN], GOOD[2]], r"sequence 1: point 1: pen up is nan"),
        ([GOOD[0], [1, 2, 2], GOOD[2]], r"sequence 1: point 1: pen up is 2, and must be 0 or 1"),
        ([GOOD[0], [1, 2, 0.5], GOOD[2]], r"sequence 1: point 1: pen up is 0.5, and must be 0 or 1"),
        ([GOOD[0]], r"sequence 1 has 1 point, and it takes two to predict one from the other"),
        ([], r"sequence 1 has 0 points, and it takes two to predict one from the other"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_bad_sequences_are_refused_or_dropped(make, bad, message, split):
    parts = {"train": raw(GOOD, OTHER), "val": raw(GOOD)} | {split: raw(GOOD, bad, OTHER)}
    with pytest.raises(UserError, match=f"^FILE: {message}; data.bad_sequences=drop leaves such sequences out$"):
        make(**parts)
    data = make(**parts, bad_sequences="drop")
    assert data.left_out == {"dropped_bad": 1} and len(data.splits[split]) == 2
    good = make(**(parts | {split: raw(GOOD, OTHER)}))
    assert torch.equal(data.splits[split].points, good.splits[split].points)


def test_a_bad_sequence_is_called_by_its_name(make):
    train = raw(GOOD, OTHER[:1])
    train = RawStrokes(train.points, train.offsets, "FILE", names=["a01-000u-01", "a01-000u\x1b-02"])
    with pytest.raises(UserError, match="^FILE: sequence 1 \\(a01-000u\N{REPLACEMENT CHARACTER}-02\\) has 1 point,"):
        make(train)


JUMPS = [[9999, 0, 0], [1, 2, 0], [60, -70, 0], [1, 1, 1]]


def test_jumps_are_refused(make):
    make(raw(GOOD, JUMPS)), make(raw(GOOD, JUMPS), max_jump=70)
    with pytest.raises(
        UserError,
        match=r"^FILE: sequence 1: point 2 is \(60, -70\) away from the one before it, over data.max_jump=69.5; "
        "data.bad_jumps=drop leaves such sequences out, clip cuts the move$",
    ):
        make(raw(GOOD, JUMPS), max_jump=69.5)


def test_jumps_are_dropped_or_clipped(make):
    dropped = make(raw(GOOD, JUMPS, OTHER), max_jump=50, bad_jumps="drop")
    assert len(dropped.train) == 2 and dropped.left_out == {"dropped_jumps": 1}
    clipped = make(raw(GOOD, JUMPS, OTHER), max_jump=65, bad_jumps="clip")
    assert len(clipped.train) == 3 and clipped.facts()["data/clipped_jumps"] == 1
    assert clipped.raw(clipped.train[1])[2].tolist() == pytest.approx([60, -65, 0], abs=1e-4)


def test_an_offset_that_no_density_is_a_number_for_is_named(make):
    """Of which the figure of the whole validation split would be infinite; as in the file, by what is before a drop."""
    far = [[1e30, 0, 0], [1, 1, 0], [1e20, 0, 1]]
    with pytest.raises(
        UserError,
        match=r"^OTHERS: sequence 1: point 2 is \(1e\+20, 0\) away from the one before it, over 1e\+09 standard "
        r"deviations of the training set; data.max_jump=N with data.bad_jumps=drop or clip leaves such moves out$",
    ):
        make(raw(GOOD), val=raw(OTHER, far, where="OTHERS"), min_points=3)
    make(raw(GOOD), val=raw(OTHER, far), max_jump=50, bad_jumps="clip")


def test_a_move_much_longer_than_nearly_all_is_said(make):
    """Nothing is refused for it: of some drawings it is a part. Where a sequence begins is no move."""
    usual = [[9999, 9999, 0], *([n % 7, -n % 5, 0] for n in range(3000))]
    assert make(raw(usual)).notes == []
    assert make(raw(usual, [[0, 0, 0], [-60, 0, 1]])).notes == [], "ten times the longest"
    far = raw(usual, [[0, 0, 0], [61, 0, 0], [2, 900, 1]], where="FILE")
    (said,) = make(far, val=raw(GOOD, [[0, 0, 0], [0, -61, 1]], where="V")).notes
    assert said == (
        "FILE: sequence 1: point 2 is (2, 900) away from the one before it, 150 times as far as 99.9% of the moves go "
        "at most (3 moves over 10 times): a mistake? data.max_jump=N with data.bad_jumps=drop or clip leaves such "
        "moves out"
    )
    (said,) = make(raw(usual), val=raw(GOOD, [[0, 0, 0], [0, -61, 1]], where="V")).notes
    assert said.startswith("V: sequence 1: point 1 is (0, -61) away") and "(1 move over 10 times)" in said
    assert make(far, max_jump=1000).notes == [], "who sets it has looked"


def test_a_sequence_that_is_bad_in_two_ways_is_counted_once(make):
    both = [*JUMPS, [NAN, 0, 1]]
    data = make(
        raw(GOOD, both, OTHER),
        max_jump=5,
        bad_jumps="drop",
        bad_sequences="drop",
        val=raw(OTHER[:1], [[0, 0, 0], [1, 1, 1]]),
    )
    assert data.left_out == {"dropped_bad": 2, "dropped_jumps": 1} and len(data.train) == 1


@pytest.mark.parametrize(
    ("points", "offsets", "message"),
    [
        (np.zeros((4, 2)), [0, 4], r"must be numbers \[N, 3\] \(dx, dy, pen up\), not float64 \[4, 2\]"),
        (np.zeros(12), [0, 4], r"must be numbers \[N, 3\] .*, not float64 \[12\]"),
        (np.full((4, 3), "a"), [0, 4], r"must be numbers \[N, 3\] .*, not <U1 \[4, 3\]"),
        (np.zeros((4, 3)), [0, 5], r"offsets run from 0 to 5, and must run from 0 to the 4 points"),
        (np.zeros((4, 3)), [1, 4], r"offsets run from 1 to 4, and must"),
        (np.zeros((4, 3)), [0, 3, 2, 4], r"offsets fall from 3 to 2 at sequence 1"),
        (np.zeros((4, 3)), [0.0, 4.0], r"offsets must be integers \[S \+ 1\], not float64 \[2\]"),
        (np.zeros((4, 3)), [[0, 4]], r"offsets must be integers"),
        (np.zeros((4, 3)), np.zeros(0, int), r"offsets must be integers"),
    ],
)
def test_arrays_that_do_not_fit(make, points, offsets, message):
    with pytest.raises(UserError, match=f"^FILE: {message}"):
        make(RawStrokes(points, np.array(offsets), "FILE"))


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize("name", names_of("strokes"))
def test_every_set_is_known_beforehand(stroke_cfg, name):
    assert looks_of(name) == inputs_of(stroke_cfg(name=name)) == Strokes()
    values = yaml.safe_load((CONF_DIR / "data" / f"{name}.yaml").read_text())
    assert values["name"] == name and values["defaults"] == ["_strokes", "_self_"]


def test_all_keys_have_values():
    values = [yaml.safe_load((CONF_DIR / "data" / f"{name}.yaml").read_text()) for name in ("_set", "_strokes")]
    assert {*values[0], *values[1]} - {"defaults"} == {field.name for field in fields(StrokeData)}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"min_points": 1}, "min_points must be at least 2"),
        ({"min_points": 9, "max_points": 8}, "max_points=8 is below min_points=9"),
        ({"scale": 1.0}, r"scale must lie in \[0, 1\)"),
        ({"max_jump": 0.0}, "max_jump must be positive"),
        ({"buckets": 0}, "buckets must be at least 1"),
        ({"sequence_length": 0}, "sequence_length must be at least 1"),
        ({"val_fraction": 0.1}, "must both be numbers, or both null"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "with a sum below 1"),
        ({"val_fraction": 0.0, "test_fraction": 0.5}, "val_fraction must be positive"),
    ],
)
def test_settings_that_mean_nothing(stroke_cfg, keys, message):
    with pytest.raises(ValueError, match=message):
        stroke_cfg(**keys)


@pytest.mark.parametrize(("key", "word"), [("bad_jumps", "clip"), ("bad_sequences", "drop")])
def test_words_that_are_not_known(stroke_cfg, key, word):
    stroke_cfg(**{key: word})
    with pytest.raises(UserError, match=f"unknown data.{key} '{word}s'; did you mean '{word}'"):
        stroke_cfg(**{key: word + "s"})


@pytest.mark.parametrize("name", [name for name in names_of("strokes") if name != "strokes"])
def test_sets_with_a_split_of_their_own_take_no_path_and_no_fractions(stroke_cfg, name):
    with pytest.raises(UserError, match=f"^data.path=x.npz: {name} reads no such file"):
        load_strokes(stroke_cfg(name=name, path="x.npz"))
    with pytest.raises(UserError, match=f"^{name} brings its own split"):
        load_strokes(stroke_cfg(name=name, val_fraction=0.1, test_fraction=0.1))
