"""Rows of a page whose run folders no longer exist: marked, and left out when they were trained again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperrun.compare import Comparison, Group, compare, read_runs
from hyperrun.compare.gone import GONE, gone_group, read_gone, with_gone
from hyperrun.compare.results import results_page
from hyperrun.errors import UserError
from tests.compare.test_results import cells, experiments, trained
from tests.composed import compose_config

SHORT = "experiment=ha2016/cifar10_wrn40_2 trainer.max_steps=100 schedule=one_cycle"
ROW: dict[str, Any] = {
    "command": "hyperrun train experiment=ha2016/mnist_cnn",
    "seeds": [0, 1, 2],
    "metric": "accuracy",
    "test/mean": 0.9926,
    "test/std": 0.001,
    "params/trainable": 21210,
    "time/train_s": 648.0,
    "device": "Old CPU (1 thread)",
    "precision": "bf16",
    "torch": "2.10.0",
    "git": "0ld",
}


def kept(folder: Path, *rows: dict[str, Any]) -> list[Group]:
    (folder / GONE).write_text(json.dumps({"page": "results.md of commit 0ld", "rows": rows}))
    page, found = read_gone([folder])
    assert page == "results.md of commit 0ld"
    return [gone_group(row, compose_config(row.overrides), 21210) for row in found]


def beside(folder: Path, *rows: dict[str, Any]) -> list[Comparison]:
    return with_gone(compare(read_runs([folder])), kept(folder, *rows))


def test_a_row_stands_in_the_page_as_it_was_printed_and_is_marked(tmp_path: Path) -> None:
    trained(tmp_path, "experiment=ha2016/mnist_hypercnn", "seed=0", trainable=12910, test=0.9950)
    short = ROW | {
        "command": f"hyperrun train {SHORT}",
        "seeds": [0],
        "test/mean": 0.8,
        "test/std": None,
        "params/trainable": 2_235_530,
    }
    comparisons = beside(tmp_path, ROW, short | {"data/verified": False})
    text = results_page(read_runs([tmp_path]), comparisons, experiments(), gone_from="results.md of commit 0ld")
    assert cells(text, "mnist_cnn") == [
        ["`mnist_cnn`", "21,210", "", "99.26 ± 0.10 (3), folder gone", "99.28", "12,544 (`conv2.weight`)", "≤ 10.8 min"]
    ]
    [wrn] = cells(text, "cifar10_wrn40_2")
    assert wrn[0] == "`cifar10_wrn40_2` `data.verify=false` `schedule=one_cycle` `trainer.max_steps=100`"
    assert "80.00 (1), folder gone" in wrn and "(94.34)" in wrn
    assert "folder gone" not in cells(text, "mnist_hypercnn")[0][3]
    assert "Rows marked *folder gone* are kept from results.md of commit 0ld: " in text
    assert "\nOld CPU (1 thread), bf16; torch 2.10.0; commit 0ld:\n" in text
    assert "\n    hyperrun train -m experiment=ha2016/mnist_cnn seed=0,1,2\n" in text
    assert f"\n    hyperrun train {SHORT} seed=0\n" in text


def test_a_row_takes_part_in_what_is_compared(tmp_path: Path) -> None:
    trained(tmp_path, "experiment=ha2016/mnist_hypercnn", "seed=0", trainable=12910, test=0.9900)
    [mnist] = beside(tmp_path, ROW)
    cnn, hyper = mnist.groups
    assert (cnn.gone, hyper.gone) == (True, False) and cnn.test.mean == 0.9926
    assert hyper.twin is cnn and cnn.on_front and cnn.paper == 0.9928


def test_a_row_is_left_out_once_all_its_seeds_are_there_again(tmp_path: Path) -> None:
    for seed in range(3):
        trained(tmp_path, "experiment=ha2016/mnist_cnn", f"seed={seed}", trainable=21210, test=0.99)
        [mnist] = beside(tmp_path, ROW)
        assert sum(group.gone for group in mnist.groups) == (seed < 2)


def test_a_page_without_such_rows_says_nothing_of_them(tmp_path: Path) -> None:
    trained(tmp_path, "experiment=ha2016/mnist_cnn", "seed=0", trainable=21210)
    assert read_gone([tmp_path, tmp_path / "nowhere"]) == (None, [])
    runs = read_runs([tmp_path])
    assert "gone" not in results_page(runs, compare(runs), experiments())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"page": "p", "rows": [{"command": "hyperrun train"}]}', "KeyError: 'metric'"),
        (json.dumps({"page": "p", "rows": [ROW | {"metric": "luck"}]}), "the metric luck is not known"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / GONE).write_text(content)
    with pytest.raises(UserError, match="gone.json cannot be read: ") as error:
        read_gone([tmp_path])
    assert reason in str(error.value)
