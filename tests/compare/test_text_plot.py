"""The scatter as text: every group once, where it belongs, whatever the width."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from hyperrun.compare import Comparison, compare, read_runs
from hyperrun.compare.text_plot import HEIGHT, print_plot, text_plot
from tests.made_up_runs import made_up_run


def places(comparison: Comparison, width: int) -> dict[str, tuple[int, int]]:
    """Return the (line, column) of each number in the plot."""
    body = [line.plain for line in text_plot(comparison, width)][1 : HEIGHT + 1]
    starts = [re.search("[┤│]", line) for line in body]
    found = {}
    for row, (line, start) in enumerate(zip(body, starts, strict=True)):
        assert start is not None
        for match in re.finditer(r"\d+|\+", line[start.end() :]):
            assert match.group() not in found
            found[match.group()] = (row, match.start())
    return found


@pytest.mark.parametrize("width", [24, 40, 60, 100])
def test_every_group_stands_where_it_belongs(comparisons: list[Comparison], width: int) -> None:
    for comparison in comparisons:
        lines = text_plot(comparison, width)
        assert max(len(line.plain) for line in lines) <= width
        at = places(comparison, width)
        assert sorted(at) == [str(i + 1) for i in range(len(comparison.groups))]
        if width >= 40:
            for one, a in enumerate(comparison.groups, 1):
                for two, b in enumerate(comparison.groups, 1):
                    if a.trainable > 1.3 * b.trainable:
                        assert at[str(one)][1] > at[str(two)][1], "more parameters are farther right"
                    higher = comparison.metric.shown(a.test.mean) - comparison.metric.shown(b.test.mean)
                    if higher > (1 if comparison.metric.percent else 0.2):
                        assert at[str(one)][0] < at[str(two)][0], "more of the metric is higher up"


def test_a_terminal_of_no_width_is_no_error(comparisons: list[Comparison]) -> None:
    assert all(text_plot(comparison, 1) for comparison in comparisons)


def test_the_front_is_bold(comparisons: list[Comparison]) -> None:
    bold = "".join(
        line.plain[span.start : span.end]
        for line in text_plot(comparisons[0], 80)[1:]
        for span in line.spans
        if span.style == "bold green"
    )
    assert sorted(bold) == ["1", "3"]


def test_groups_in_one_place_make_room_for_each_other(tmp_path: Path) -> None:
    for i in range(12):
        made_up_run(tmp_path, "model=cnn", f"optim.lr={(i + 1) / 100}", test=0.5, trainable=1000, name=f"run{i:02}")
    [comparison] = compare(read_runs([tmp_path]))
    found = places(comparison, 80)
    numbers = {name for name in found if name != "+"}
    assert len(numbers) >= 8 and (len(numbers) == 12 or "+" in found), "none is lost unsaid"


def test_one_run_and_a_perfect_run(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", test=1.0, trainable=1)
    [comparison] = compare(read_runs([tmp_path]))
    assert list(places(comparison, 60)) == ["1"]


def test_the_names_stand_below_it(comparisons: list[Comparison]) -> None:
    file = io.StringIO()
    print_plot(comparisons[0], Console(file=file, width=50, color_system=None))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 50
    names = ["  1● cnn: 98.00", "  2  hypercnn z_dim=16: 96.00", "  3● hypercnn z_dim=4: 95.00"]
    assert lines[-len(names) - 1 : -1] == names, lines
    ticks = next(line for line in lines if "10k" in line)
    assert ticks.split() == sorted(ticks.split(), key=lambda tick: float(tick.rstrip("k")))


def test_a_terminal_without_unicode(comparisons: list[Comparison]) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_plot(comparisons[0], Console(file=file, width=50, color_system=None))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    text = file.buffer.getvalue().decode()
    assert "?" not in text and "  1* cnn" in text
