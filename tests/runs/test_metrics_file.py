"""metrics.jsonl: whole rows only, and no row twice after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hyperrun.runs.metrics_file import MetricsFile, plain, read_metrics


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def write(path: Path, *steps: int, position: int = 0) -> list[int]:
    """Write a row for each step; return the position after each."""
    file = MetricsFile(path, position)
    positions = []
    for step in steps:
        file.write({"step": step, "train/loss": 1 / step})
        positions.append(file.position)
    file.close()
    return positions


def steps(path: Path) -> list[int]:
    return [row["step"] for row in read_metrics(path)]


def test_rows_come_back_as_they_were_written(path):
    write(path, 1, 2, 3)
    assert read_metrics(path) == [{"step": n, "train/loss": 1 / n} for n in (1, 2, 3)]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_row_can_be_read_at_once(path):
    file = MetricsFile(path)
    file.write({"step": 1})
    assert steps(path) == [1]
    assert file.position == path.stat().st_size
    file.close()


def test_without_a_file_there_are_no_rows(path):
    assert read_metrics(path) == []
    file = MetricsFile(path)
    assert (file.last_step_before, file.position) == (-1, 0)
    file.close()


def test_a_fresh_run_leaves_no_rows_of_an_earlier_one(path):
    write(path, 1, 2, 3)
    write(path, 1)
    assert steps(path) == [1]


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_resumed_run_cuts_back_to_its_checkpoint(path, kept):
    positions = [0, *write(path, 1, 2, 3)]
    write(path, 10, 11, position=positions[kept])
    assert steps(path) == [*range(1, kept + 1), 10, 11]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_last_line_cut_short_is_left_out_and_then_cut_off(path, cut):
    positions = write(path, 1, 2)
    path.write_bytes(path.read_bytes()[: positions[1] - cut])
    assert steps(path) == ([1, 2] if cut == 1 else [1])  # cut by 1 only the line's end is missing
    write(path, 2, 3, position=positions[0])
    assert steps(path) == [1, 2, 3]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_file_shorter_than_the_checkpoint_says_is_continued(path):
    """The disk lost rows that the checkpoint knows of; no gap of zero bytes may take their place."""
    positions = write(path, 1, 2, 3)
    path.write_bytes(path.read_bytes()[: positions[0]])
    write(path, 4, position=positions[2])
    assert steps(path) == [1, 4]
    assert b"\0" not in path.read_bytes()


def test_it_knows_the_last_step_that_stood_there_before_it_was_cut(path):
    positions = write(path, 1, 2, 3)
    file = MetricsFile(path, positions[0])
    file.close()
    assert file.last_step_before == 3


@pytest.mark.parametrize("line", [b"not json", b"[1, 2]", b'{"loss": 1}', b"\xff\xfe", b""])
def test_lines_that_are_no_rows_are_left_out(path, line):
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    assert steps(path) == [1, 2]


def refused(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_are_not_finite_are_null(path, value):
    file = MetricsFile(path)
    file.write({"step": 1, "val/loss": value, "lr": 0.5})
    file.close()
    assert json.loads(path.read_text(), parse_constant=refused) == {"step": 1, "val/loss": None, "lr": 0.5}
    assert read_metrics(path) == [{"step": 1, "val/loss": None, "lr": 0.5}]


def test_rows_of_earlier_versions_with_infinity_are_read(path):
    path.write_text('{"step": 1, "val/loss": Infinity}\n')
    assert read_metrics(path) == [{"step": 1, "val/loss": float("inf")}]


def test_plain_leaves_all_but_what_is_not_finite():
    nested = {"a": [1, 2.5, math.nan, {"b": (math.inf, -math.inf, True, None, "nan")}], "c": {}}
    assert plain(nested) == {"a": [1, 2.5, None, {"b": [None, None, True, None, "nan"]}], "c": {}}
    json.dumps(plain(nested), allow_nan=False)
