"""Pen strokes as pictures: each segment once, none where the pen is lifted, nothing cut off, in PNG and SVG alike."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import numpy as np
import pytest

from hyperrun.pictures.pen import (
    COLUMN,
    PAGE,
    TALLEST,
    Drawing,
    draw_pen,
    finite_part,
    mixed,
    positions,
    row_colour,
    strokes,
    time_colour,
)
from hyperrun.pictures.sheet import PIXELS, Sheet
from hyperrun.pictures.style import picture
from tests.pictures import texts_outside

SQUARE = [(0, 0, 0), (4, 0, 0), (0, 3, 0), (-4, 0, 0), (0, -3, 1)]
CROSS = [(1, 1, 0), (2, 1, 1), (0, -1, 0), (-2, 1, 1)]
DOT = [(5, 2, 1)]


def sequence(*parts: Sequence[tuple[float, float, int]]) -> np.ndarray:
    return np.array([row for part in parts for row in part], dtype=np.float32)


def walk(length: int, seed: int = 0, wide: float = 1.0) -> np.ndarray:
    """Return a line that wanders to the right, with the pen lifted at about every eighth point."""
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.normal(wide, 2, length), rng.normal(0, 2, length), rng.random(length) < 1 / 8])
    points[0, :2] = 0
    return points


def sheet_of(*points: np.ndarray, **more: object) -> Sheet:
    return draw_pen([Drawing(one, f"{n}", **more) for n, one in enumerate(points)], "a title")  # type: ignore[arg-type]


def segments(sheet: Sheet) -> int:
    return sum(len(line) - 1 for _, line in sheet.lines)


def corners(sheet: Sheet) -> np.ndarray:
    return np.concatenate([line for _, line in sheet.lines] + [[(x, y)] for _, x, y in sheet.dots])


def test_a_segment_is_drawn_if_the_pen_was_down_before_it() -> None:
    points = sequence(SQUARE, CROSS, DOT)
    assert [stroke.tolist() for stroke in strokes(points)] == [[0, 1, 2, 3, 4], [5, 6], [7, 8], [9]]
    sheet = sheet_of(points)
    assert segments(sheet) == 4 + 1 + 1 and len(sheet.dots) == 1
    many = walk(500)
    drawn = int((many[:-1, 2] == 0).sum())
    assert segments(sheet_of(many)) == drawn, "whatever the colours, each segment once"
    assert len(sheet_of(many).dots) == sum(len(stroke) == 1 for stroke in strokes(many)) > 0


def test_a_pen_up_at_the_end_makes_no_further_stroke() -> None:
    up, down = sequence(SQUARE), sequence(SQUARE)
    down[-1, 2] = 0
    assert len(strokes(up)) == len(strokes(down)) == 1


def test_lines_have_the_shape_of_the_data_and_y_grows_downwards() -> None:
    points = sequence(SQUARE, CROSS)
    (_, first), *_ = (sheet := sheet_of(points)).lines
    where = positions(points)
    drawn = np.concatenate([line for _, line in sheet.lines])
    scale = np.ptp(drawn[:, 0]) / np.ptp(where[:, 0])
    assert np.ptp(drawn[:, 1]) == pytest.approx(scale * np.ptp(where[:, 1])), "one scale for both axes"
    assert first[1, 0] > first[0, 0] and first[1, 1] == first[0, 1], "dx > 0: to the right"
    sides = np.concatenate([line for _, line in sheet.lines[:4]])
    assert sides[:, 1].max() > first[0, 1], "dy > 0: down the page"


@pytest.mark.parametrize("lengths", [(40,), (700, 650, 500), (9,) * 8, (600, 3, 1, 2)])
def test_nothing_lies_beyond_the_edges(lengths: tuple[int, ...]) -> None:
    sheet = sheet_of(*(walk(length, seed) for seed, length in enumerate(lengths)))
    found = corners(sheet)
    edge = sheet.line_width / 72
    assert found.min() > edge and (found.max(axis=0) < (PAGE - edge, sheet.height - edge)).all()
    assert texts_outside(sheet.figure()) == []


def test_a_line_that_runs_away_does_not_shrink_the_others() -> None:
    calm = [walk(60, seed) for seed in range(3)]
    together = draw_pen([Drawing(one) for one in [*calm, walk(60, 9) * (1e4, 1e4, 1)]], "a title")
    high = np.ptp(np.concatenate([line for _, line in together.lines[:20]])[:, 1])
    assert high > 0.1 and corners(together).max() < PAGE
    tall = np.array([(0, 0, 0), (0, 50, 0), (1, 900, 0)])
    assert np.ptp(corners(sheet_of(tall))[:, 1]) == pytest.approx(TALLEST)


def test_long_lines_stand_below_each_other_and_characters_side_by_side() -> None:
    def tops(sheet: Sheet) -> set[float]:
        return {word.y for word in sheet.words if word.text in "012345"}

    line = np.column_stack([np.full(400, 3.0), np.tile([2.0, -2.0], 200), np.zeros(400)])
    assert len(tops(sheet_of(*[line] * 6))) == 6
    assert len(tops(sheet_of(*[sequence(SQUARE)] * 6))) == 2


def test_colours_run_through_the_time() -> None:
    sheet = sheet_of(sequence([(1, 0, 0)] * 200))
    colours = [colour for colour, _ in sheet.lines]
    assert len(set(colours)) == len(colours) >= 31 and colours[-1] == time_colour(1.0)
    for (_, before), (_, after) in zip(sheet.lines, sheet.lines[1:], strict=False):
        assert (before[-1] == after[0]).all(), "no gap where the colour changes"


@pytest.mark.parametrize("points", [sequence(DOT), np.zeros((5, 3)), sequence([(0, 0, 0), (0, 0, 0), (7, 0, 0)])])
def test_sequences_without_width_or_height_are_drawn(points: np.ndarray) -> None:
    sheet = sheet_of(points)
    assert np.isfinite(corners(sheet)).all() and segments(sheet) + len(sheet.dots) > 0


def test_what_is_not_finite_is_left_out() -> None:
    points = walk(10)
    assert finite_part(points) is points
    points[6, 1] = math.nan
    assert len(finite_part(points)) == 6


# ---------------------------------------------------------------- strips


def test_a_strip_shows_each_value_where_the_pen_was() -> None:
    points = sequence([(0, 0, 0), (10, 1, 0), (10, -1, 0), (-10, 0, 1)])
    values = np.array([0.0, 0.4, math.nan, 1.0])
    plain, striped = sheet_of(points), sheet_of(points, rows={"i": values})
    x = [line[-1, 0] for _, line in striped.lines]
    strip = striped.bars[len(plain.bars) :]
    shown = {colour: (left, right) for colour, left, _, right, _ in strip}
    assert set(shown) == {mixed(row_colour(0), part) for part in (0.0, 1.0)}, "of points in one column the largest"
    left, right = shown[mixed(row_colour(0), 1.0)]
    assert left <= x[0] < right and right - left == pytest.approx(COLUMN)
    ends = [strip[0][1], *(bar[3] for bar in strip)]
    assert [bar[1] for bar in strip] == pytest.approx(ends[:-1]), "without gap or overlap"
    assert ends[-1] == pytest.approx(x[1], abs=COLUMN)


def test_rows_of_a_strip_are_named_and_lie_below_the_line() -> None:
    rows = {name: np.linspace(0, 1, 80) for name in "igfo"}
    sheet = draw_pen([Drawing(walk(80), "one", rows)], "a title", ["what it is"], [f"W_h of {name}" for name in "igfo"])
    names = [word.y for word in sheet.words if word.text in tuple("igfo")]
    assert len(names) == 4 and names == sorted(names) and names[0] > corners(sheet)[:, 1].max()
    assert {"W_h of i", "what it is", "one", "a title"} <= {word.text for word in sheet.words}
    assert texts_outside(sheet.figure()) == []


# ---------------------------------------------------------------- files


def test_png_and_svg_have_the_same_lines() -> None:
    sheet = sheet_of(walk(300), sequence(SQUARE, CROSS, DOT), rows={})
    assert picture(sheet.figure(), "png").startswith(b"\x89PNG")
    (lines,) = [c for c in sheet.figure().axes[0].collections if len(c.get_paths()) == len(sheet.lines)]
    assert sum(len(path) - 1 for path in lines.get_paths()) == segments(sheet)
    root = ET.fromstring(sheet.svg("<&>"))
    name = "{http://www.w3.org/2000/svg}"
    paths = [path for group in root.iter(f"{name}g") for path in group.iter(f"{name}path")]
    found = [np.cumsum(points, axis=0) for path in paths for points in subpaths(path.attrib["d"])]
    assert sum(len(points) - 1 for points in found) == segments(sheet)
    for points, (_, line) in zip(found, sheet.lines, strict=True):
        np.testing.assert_allclose(points, line * PIXELS, atol=0.051)
    box = [float(number) for number in root.attrib["viewBox"].split()]
    assert box == [0, 0, pytest.approx(sheet.width * PIXELS), pytest.approx(sheet.height * PIXELS, abs=0.06)]
    assert len(list(root.iter(f"{name}circle"))) == len(sheet.dots) > 0
    assert root.find(f"{name}title").text == "<&>"  # type: ignore[union-attr]


def subpaths(d: str) -> list[np.ndarray]:
    """Return the first corner and the steps from corner to corner of each subpath."""
    return [
        np.array([float(number) for number in re.findall(r"-?[\d.]+", part)]).reshape(-1, 2)
        for part in d.split("M")[1:]
    ]


def test_an_svg_is_small_and_needs_no_other_file() -> None:
    svg = sheet_of(*(walk(700, seed) for seed in range(8))).svg("samples")
    assert len(svg) < 8 * 700 * 14
    assert not re.search(r"href|url\(|<script|<style", svg)


def test_what_the_pointer_shows_is_escaped() -> None:
    points = sequence(SQUARE)
    sheet = draw_pen([Drawing(points, "a<b", {"i": np.ones(5)}, [f"{n} < &" for n in range(5)])], "a title")
    root = ET.fromstring(sheet.svg("t"))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["t", *(f"{n} < &" for n in range(5))]
