"""The tables: what stands in them, in a wide and a narrow terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from hyperrun.compare import Comparison, Runs, compare, print_comparison, read_runs
from hyperrun.compare.records import as_csv, as_json
from hyperrun.compare.table import MOST_UNFINISHED, markdown, short_number
from tests.made_up_runs import made_up_run


def printed(runs: Runs, width: int = 200, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_comparison(runs, Console(file=file, width=width, color_system=None))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(encoding)


def test_a_wide_terminal_shows_everything(mixed: Runs) -> None:
    lines = [line.split() for line in printed(mixed).splitlines()]
    assert lines[1] == ["all:", "60", "epochs"]
    head = "# model trainable target compr. val accuracy % test accuracy % trained s/epoch examples/s"
    assert lines[2] == head.split()
    assert lines[4] == "1● cnn 21,210 4,000 0.19 97.00 ± 1.00 (3) 98.00 ± 1.00 (3) 60 epochs ≤2 5,000".split()
    assert lines[5] == "2 hypercnn z_dim=16 23,000 4,000 0.17 95.00 (1) 96.00 (1) 60 epochs ≤2 5,000".split()
    text = printed(mixed)
    assert "no room" not in text
    digits, mnist, pydocs = (text.index(f"{name}: test") for name in ("digits", "mnist", "pydocs"))
    assert digits < mnist < pydocs < text.index("not finished")
    assert "99.24  4,244 (conv2.weight)" in text[mnist:pydocs], "the paper's figures beside ours"
    assert "symbols/s" in text[pydocs:] and "paper" not in text[pydocs:]


def test_unfinished_runs_stand_apart_with_the_reason(mixed: Runs) -> None:
    text = printed(mixed)
    rows = [line.split() for line in text[text.index("not finished") :].splitlines()[3:]]
    assert rows == [
        "digits/f failed 40 the loss is not finite".split(),
        "digits/k interrupted 80 stopped without a word (killed, or the machine went down)".split(),
        "digits/p preempted 60 stopped by SIGTERM".split(),
    ]


def test_of_many_unfinished_runs_the_number_is_said(tmp_path: Path) -> None:
    for i in range(MOST_UNFINISHED + 5):
        made_up_run(tmp_path, "model=cnn", f"seed={i}", status="failed", error="no", name=f"run{i}")
    text = printed(read_runs([tmp_path]))
    assert text.count("failed") == MOST_UNFINISHED and text.endswith("and 5 more\n")
    assert "Pareto" not in text, "nothing is compared"


@pytest.mark.parametrize("width", [100, 80, 60, 52, 30])
def test_a_narrow_terminal_loses_columns_and_no_figures(mixed: Runs, width: int) -> None:
    text = printed(mixed, width)
    assert max(map(len, text.splitlines())) <= max(width, 52), "label, count and figure are not cut"
    for figure in ("98.00 ± 1.00 (3)", "21,210", "95.00 ± 1.41 (2)", "1.8000 (1)", "440,530", "lnhyperlstm"):
        assert figure in text, "label, count and test figure stay, unbroken"
    shown = all(name in " ".join(text.split()) for name in ("examples/s", "s/epoch", "target", "val accuracy %"))
    assert "no room for: " in text and shown, "what is left out is named"


def test_a_terminal_without_unicode(mixed: Runs) -> None:
    text = printed(mixed, encoding="ascii")
    assert "1* |cnn" in text and "98.00 +- 1.00 (3)" in text and "* on the Pareto front" in text


def test_markup_in_names_is_text(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", model="[red]x[/red]|<b>", data="[bold]:smile:[/bold]")
    runs = read_runs([tmp_path])
    assert "[red]x[/red]|<b>" in printed(runs) and printed(runs).startswith("[bold]:smile:[/bold]: test accuracy")
    assert r"\[red\]x\[/red\]\|\<b\>" in markdown(runs, compare(runs))


def test_data_that_was_not_verified_is_said(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", data__verified=False)
    made_up_run(tmp_path, "model=hypercnn", data__verified=True)
    text = printed(read_runs([tmp_path]))
    assert "† unlike most of these in data check: checked, † not checked\n" in text
    row = next(line for line in text.splitlines() if " cnn " in line)
    assert " cnn † " in row and "not checked †" in row


def test_markdown(mixed: Runs, comparisons: list[Comparison]) -> None:
    lines = markdown(mixed, comparisons).splitlines()
    assert lines[0] == "**digits: test accuracy, higher is better**"
    table = [line for line in lines[2:] if line.startswith("|")][:5]
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| ● | **cnn** | 21,210 | 4,000 | 0.19 | 97.00 ± 1.00 (3) | 98.00 ± 1.00 (3) |")
    assert table[3].startswith(r"|  | hypercnn z\_dim=16 | 23,000 |")
    assert any(line.endswith("| failed | 40 | the loss is not finite |") for line in lines)


def test_csv_of_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", model="lone \ud800 surrogate")
    text = as_csv(compare(read_runs([tmp_path])))
    assert "lone \ufffd surrogate" in text and text.encode()


def test_csv_holds_unrounded_figures(comparisons: list[Comparison]) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(comparisons))))
    assert len(rows) == 9 and len({tuple(row) for row in rows}) == 1
    first = rows[0]
    assert (first["data"], first["label"], first["seeds"], first["n"], first["pareto"]) == (
        "digits",
        "cnn",
        "0 1 2",
        "3",
        "True",
    )
    assert float(first["test/mean"]) == pytest.approx(0.98, abs=1e-12) and float(first["test/std"]) == pytest.approx(
        0.01
    )
    assert len(first["runs"].split(";")) == 3 and rows[1]["test/std"] == "" and rows[1]["twin"] == "cnn"
    assert as_csv([]) == ""


def test_json_holds_all_of_it(mixed: Runs, comparisons: list[Comparison]) -> None:
    found = json.loads(json.dumps(as_json(mixed, comparisons)))
    assert [c["data"] for c in found["comparisons"]] == ["digits", "mnist", "pydocs"]
    assert [c["higher_is_better"] for c in found["comparisons"]] == [True, True, False]
    hyper = found["comparisons"][1]["groups"][1]
    assert hyper["experiment"] == "ha2016/mnist_hypercnn" and hyper["paper/value"] == pytest.approx(0.9924)
    assert (
        hyper["params/trainable"] == 12910 and hyper["n"] == 1 and hyper["test/std"] is None and hyper["twin"] == "cnn"
    )
    assert [(run["status"], run["step"], run["seed"]) for run in found["unfinished"]] == [
        ("failed", 40, 7),
        ("interrupted", 80, 9),
        ("preempted", 60, 8),
    ]
    assert len(found["warnings"]) == 1 and "damaged" in found["warnings"][0]


def test_short_numbers() -> None:
    assert [short_number(x) for x in (None, 0.01234, 2.0, 80.71, 126.4, 31349.6)] == [
        "",
        "0.0123",
        "2",
        "80.7",
        "126",
        "31,350",
    ]
