"""Runs on data without a test split, whose figures are negative: compared by validation, and marked as such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hyperrun.compare import Comparison, Runs, compare, read_runs
from hyperrun.compare.experiments import Experiment, sections
from hyperrun.compare.page import page
from hyperrun.compare.plot import draw
from hyperrun.compare.records import as_csv, as_json
from hyperrun.compare.results import results_page
from hyperrun.compare.table import columns, markdown, print_comparison
from hyperrun.compare.text_plot import text_plot
from hyperrun.config import PaperConfig
from tests.made_up_runs import made_up_run

NATS = {"ha2016/iam_lstm900": (-900.25, 3_363_421), "ha2016/iam_hyperlstm900": (-1000.75, 3_941_181)}
"""Experiment -> what it reached on the validation split, and its parameters."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    outputs = tmp_path_factory.mktemp("strokes") / "outputs"
    for name, (value, trainable) in NATS.items():
        # a made-up run has val = test - 0.01; null says that there is no test split
        made_up_run(outputs, f"experiment={name}", test=value + 0.01, trainable=trainable, test__nats=None)
    made_up_run(outputs, "model=lstm", "data=font_strokes", test=-40.5, trainable=1000)
    return read_runs([outputs])


@pytest.fixture(scope="module")
def iam(runs: Runs) -> Comparison:
    (found,) = [one for one in compare(runs) if one.data == "iam_online"]
    return found


def test_the_lower_figure_is_the_better_one_also_below_zero(iam: Comparison) -> None:
    assert [group.name for group in iam.groups] == ["iam_hyperlstm900", "iam_lstm900"]
    assert [group.on_front for group in iam.groups] == [True, True]
    assert [group.test.mean for group in iam.groups] == pytest.approx([-1000.75, -900.25])
    assert not any(group.tested for group in iam.groups)


def test_tables_say_that_there_is_no_test_split(runs: Runs, iam: Comparison, capsys: Any) -> None:
    assert iam.title == "iam_online: validation nats (no test split), lower is better"
    assert [c.heading for c in columns(iam) if "nats" in c.heading] == ["validation nats"]
    (fonts,) = [one for one in compare(runs) if one.data == "font_strokes"]
    assert [c.heading for c in columns(fonts) if "nats" in c.heading] == ["val nats", "test nats"]
    for width in (60, 200):
        print_comparison(runs, Console(width=width), [iam])
        out = capsys.readouterr().out
        assert "-1000.75 (1)" in out and "no test split" in out and "None" not in out
    text = markdown(runs, [iam])
    assert "| -1000.75 (1) |" in text and "-1162.00" in text


def test_what_strokes_are_made_of_is_called_points(iam: Comparison) -> None:
    headings = [c.heading for c in columns(iam)]
    assert "points/s" in headings and "symbols/s" not in headings


def test_files_have_no_test_figure(runs: Runs, iam: Comparison) -> None:
    (found,) = as_json(runs, [iam])["comparisons"]
    assert json.loads(json.dumps(found))["higher_is_better"] is False
    for group in found["groups"]:
        assert group["test/mean"] is None and group["test/std"] is None and group["val/mean"] < -900
    assert "-1000.75,,,," in as_csv([iam])


def test_pictures_have_the_better_below(runs: Runs, iam: Comparison) -> None:
    lines = [line.plain for line in text_plot(iam, 80)]
    assert lines[0].startswith("validation nats (lower is better)")
    rows = {number: next(i for i, line in enumerate(lines[1:]) if number in line.partition("│")[2]) for number in "12"}
    assert rows["1"] > rows["2"], "-1000 is below -900"
    figure = draw([iam])
    (panel,) = figure.axes
    assert panel.get_ylabel() == "validation nats (lower is better)"
    low, high = panel.get_ylim()
    assert low < -1162 < -900.25 < high, "the paper's figures, too"
    html = page(runs, compare(runs))
    assert 'data-key="-1000.75"' in html, "sorted by value"
    assert "iam_online: validation nats (no test split), lower is better" in html


def test_the_page_of_results_marks_what_is_of_validation(runs: Runs) -> None:
    experiments = [
        Experiment(name, "iam_online", count, count, PaperConfig(count, None, "val_nats", value, "table 5"), {})
        for name, count, value in (
            ("ha2016/iam_lstm900", 3_363_421, -1055.0),
            ("ha2016/iam_hyperlstm900", 3_941_181, -1162.0),
            ("ha2016/iam_lstm1000", 4_137_121, -1048.0),
        )
    ]
    theirs = Runs([run for run in runs.finished if run.summary["data"] == "iam_online"])
    found = results_page(theirs, compare(theirs), experiments)
    assert "| validation nats |" in found and "data that have no test split" in found
    assert "-1000.75 (1), validation" in found and "161.25 nats behind the published figure" in found
    (section,) = sections(compare(theirs), experiments)
    assert section.split == "validation"
    (alone,) = sections([], experiments)
    assert alone.split == "validation", "also where nothing was run"


def test_a_finished_run_needs_its_test_figure_or_the_word_that_there_is_none(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=lstm", "data=font_strokes", test=-40.5)
    made_up_run(tmp_path, "model=lstm", "data=font_strokes", "seed=1", test=-40.5, test__nats=...)
    read = read_runs([tmp_path])
    assert len(read.finished) == 1 and "has no usable test/nats" in read.warnings[0]
