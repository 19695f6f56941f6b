"""The page of results, out of made-up runs: what was run, what was not, and how that of other lengths is marked."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path

import pytest

from hyperrun.compare import compare, read_runs
from hyperrun.compare.experiments import Experiment
from hyperrun.compare.results import duration, results_page
from hyperrun.config import to_dict
from hyperrun.runs.reading import computed_keys
from tests.composed import compose_config
from tests.made_up_runs import made_up_run

COUNTS = {
    "ha2016/mnist_cnn": (21210, 21210),
    "ha2016/mnist_hypercnn": (12910, 21210),
    "ha2016/cifar10_wrn40_2": (2235530, 2235530),
    "ha2016/ptb_lstm1000": (4254050, 4254050),
    "compression/static": (108746, 691386),
}
"""Experiment -> parameters, trainable and of the target."""
MACHINE = {"device": "Some CPU (1 thread)", "precision": "bf16", "torch": "2.11.0", "git": "abc123", "processes": 1}


@functools.cache
def experiments() -> tuple[Experiment, ...]:
    found: list[Experiment] = []
    for name, counts in COUNTS.items():
        config = compose_config([f"experiment={name}"])
        found.append(Experiment(name, config.data.name, *counts, config.paper, computed_keys(to_dict(config))))
    return tuple(found)


def trained(outputs: Path, *overrides: str, **facts: object) -> None:
    command = shlex.join(["hyperrun", "train", *overrides, f"outputs={outputs}", "tracking.wandb.mode=offline"])
    made_up_run(outputs, *overrides, **{"command": command, **MACHINE, **facts})  # type: ignore[arg-type]


def page(outputs: Path, picture: str | None = None) -> str:
    runs = read_runs([outputs])
    return results_page(runs, compare(runs), experiments(), picture)


def cells(text: str, name: str) -> list[list[str]]:
    """Return the cells of the rows whose first one begins with this name, the short table's left out."""
    rows = [line for line in text.partition("\n## ")[2].splitlines() if line.startswith(f"| `{name}`")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    facts = {"trainable": 21210, "params__target": 21210, "time__train_s": 240.0}
    for seed, test in enumerate((0.9930, 0.9940, 0.9950)):
        trained(
            tmp_path,
            "experiment=ha2016/mnist_cnn",
            f"seed={seed}",
            test=test,
            trainable=21210,
            params__target=21210,
            time__train_s=240.0,
        )
    short = ["experiment=ha2016/cifar10_wrn40_2", "trainer.max_steps=100", "schedule=one_cycle", "seed=0"]
    facts = {"trainable": 2235530, "params__target": 2235530, "git": "abc123+", "time__train_s": 5400.0}
    trained(tmp_path, *short, test=0.8, **facts)
    for z_dim in (4, 64, 256):
        trained(tmp_path, "experiment=compression/static", f"hypernet.z_dim={z_dim}", "seed=0", trainable=z_dim * 1000)
    return tmp_path


def test_a_row_for_each_experiment(outputs: Path) -> None:
    text = page(outputs)
    assert cells(text, "mnist_cnn") == [
        ["`mnist_cnn`", "21,210", "", "99.40 ± 0.10 (3)", "99.28", "12,544 (`conv2.weight`)", "≤ 4.0 min"]
    ]
    not_run = ["`mnist_hypercnn`", "12,910", "1.64", "not run", "99.24", "4,244 (`conv2.weight`)", ""]
    assert cells(text, "mnist_hypercnn") == [not_run]
    assert cells(text, "ptb_lstm1000") == [["`ptb_lstm1000`", "4,254,050", "not run", "1.3120", "4,250,000"]]
    names = [row[0] for row in cells(text, "static")]
    assert names == [f"`static` `hypernet.z_dim={z_dim}`" for z_dim in (4, 64, 256)], "64 is the file's own value"
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## ha2016: cifar10", "## ha2016: mnist", "## ha2016: ptb_char", "## compression: digits"]


def test_another_length_than_the_papers_is_said_beside_the_name(outputs: Path) -> None:
    [row] = cells(page(outputs), "cifar10_wrn40_2")
    assert row[0] == "`cifar10_wrn40_2` `schedule=one_cycle` `trainer.max_steps=100`"
    assert row[1:] == ["2,235,530", "80.00 (1)", "(94.34)", "2,236,000", "≤ 1.5 h"]


def test_how_it_was_measured_is_a_line_that_can_be_typed(outputs: Path) -> None:
    text = page(outputs)
    assert "\nSome CPU (1 thread), bf16; torch 2.11.0; commit abc123:\n" in text
    assert "\n    hyperrun train -m experiment=ha2016/mnist_cnn seed=0,1,2\n" in text
    assert "commit abc123+:" in text
    assert (
        "    hyperrun train experiment=ha2016/cifar10_wrn40_2 trainer.max_steps=100 schedule=one_cycle seed=0\n" in text
    )
    assert str(outputs) not in text and "wandb" not in text


def test_the_short_table_has_what_the_paper_has_and_was_run(outputs: Path) -> None:
    short = page(outputs, "r.png").partition("\n## ")[0].splitlines()
    assert "![trainable parameters against the test metric](r.png)" in short
    rows = [line for line in short if line.startswith("| `")]
    short = "`schedule=one_cycle` `trainer.max_steps=100`"
    assert rows == [
        f"| `cifar10_wrn40_2` {short} | 2,235,530 | accuracy % | 80.00 (1) | (94.34) |",
        "| `mnist_cnn` | 21,210 | accuracy % | 99.40 ± 0.10 (3) | 99.28 |",
    ]


def test_a_figure_behind_the_papers_has_a_reason(outputs: Path) -> None:
    trained(outputs, "experiment=ha2016/mnist_hypercnn", "seed=0", trainable=12910, test=0.9900)
    trained(outputs, "experiment=ha2016/ptb_lstm1000", "trainer.max_steps=100", "seed=0", test=2.0, trainable=4254050)
    lines = [line for line in page(outputs).splitlines() if " behind the published figure" in line]
    open_there = "what the paper leaves open: the length"
    assert lines == [
        "- `cifar10_wrn40_2`: 14.34 points behind the published figure; trained 100 of 140,000 steps, "
        "`schedule=one_cycle`; what the paper leaves open: momentum and the L2.",
        "- `mnist_hypercnn`: 0.24 points behind the published figure; "
        f"{open_there} (the file says 50 epochs) and initial values.",
        "- `ptb_lstm1000`: 0.6880 bpc behind the published figure; trained 100 steps instead of 100 epochs; "
        f"{open_there} (the file says 100 epochs).",
    ]
    assert "`mnist_cnn`" not in "".join(lines), "ours is better"


def test_a_figure_behind_by_less_than_the_seeds_spread_says_so(tmp_path: Path) -> None:
    for seed, test in enumerate((0.9915, 0.9925, 0.9935)):
        trained(tmp_path, "experiment=ha2016/mnist_cnn", f"seed={seed}", test=test, trainable=21210)
    assert "- `mnist_cnn`: 0.03 points behind the published figure, 0.3 standard deviations of our seeds;" in page(
        tmp_path
    )


def test_the_papers_figure_is_not_held_against_other_data(tmp_path: Path) -> None:
    trained(tmp_path, "experiment=ha2016/mnist_cnn", "data=digits", "seed=0", test=0.25, trainable=14010)
    row, own = sorted(cells(page(tmp_path), "mnist_cnn"), key=len)
    assert "not run" in own and "99.28" in own, "what was trained on other data is no run of the experiment's"
    assert "25.00 (1)" in row and not any("99.28" in cell or "12,544" in cell for cell in row)
    assert " behind " not in page(tmp_path) and "| experiment" not in page(tmp_path).partition("\n## ")[0]


def test_the_time_is_that_of_the_fastest_seed(tmp_path: Path) -> None:
    for seed, seconds in enumerate((90.0, 45.0, 300.0)):
        trained(tmp_path, "experiment=compression/static", f"seed={seed}", time__train_s=seconds)
    [row] = cells(page(tmp_path), "static")
    assert row[-1] == "≤ 45.0 s", "of an older version"


def test_what_was_begun_is_not_called_not_run(outputs: Path) -> None:
    trained(outputs, "experiment=ha2016/mnist_hypercnn", "seed=0", status="preempted", error="stopped by SIGTERM")
    assert cells(page(outputs), "mnist_hypercnn")[0][3] == "not finished (1 begun)"


def test_seeds_that_did_not_finish_are_counted_beside_those_that_did(outputs: Path) -> None:
    for seed in ("seed=2", "seed=3"):  # the first of these has finished
        trained(outputs, "experiment=ha2016/mnist_cnn", seed, name=f"lost-{seed}", status="failed", error="not finite")
    assert cells(page(outputs), "mnist_cnn")[0][3] == "99.40 ± 0.10 (3), 1 more not finished"


def test_data_that_were_not_verified_are_marked(tmp_path: Path) -> None:
    trained(tmp_path, "experiment=ha2016/cifar10_wrn40_2", "seed=0", trainable=2235530, data__verified=False)
    [row] = cells(page(tmp_path), "cifar10_wrn40_2")
    assert row[0] == "`cifar10_wrn40_2` `data.verify=false`" and "(94.34)" in row


def test_what_stands_in_a_run_folder_cannot_break_the_table(tmp_path: Path) -> None:
    trained(tmp_path, "experiment=ha2016/mnist_cnn", "seed=0", trainable=21210, device="a | b `c`\nd", git="<x>")
    text = page(tmp_path)
    assert "a \\| b \\`c\\`�d, bf16" in text and "\\<x\\>" in text


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (5.04, "5.0 s"), (60, "1.0 min"), (5400, "1.5 h")])
def test_times_are_read_easily(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
