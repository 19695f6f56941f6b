"""Tables within a README: what stands between two comments is written again, and nothing else."""

from __future__ import annotations

import pytest

from hyperrun.compare import compare, read_runs
from hyperrun.compare.experiments import Section, sections
from hyperrun.compare.readme import filled_in
from hyperrun.errors import UserError
from tests.compare.test_results import experiments, trained


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Section]:
    tmp_path = tmp_path_factory.mktemp("runs")
    for seed, test in enumerate((0.9930, 0.9940, 0.9950)):
        count = {"trainable": 21210, "params__target": 21210}
        trained(tmp_path, "experiment=ha2016/mnist_cnn", f"seed={seed}", test=test, **count, val__forgetting=seed / 100)
    trained(tmp_path, "experiment=ha2016/mnist_hypercnn", "seed=0", test=0.99, trainable=12910, git="other")
    trained(tmp_path, "experiment=ha2016/ptb_lstm1000", "seed=0", test=1.5, trainable=4254050)
    for z_dim in (4, 64):
        trained(tmp_path, "experiment=compression/static", f"hypernet.z_dim={z_dim}", "seed=0", trainable=z_dim * 1000)
    return sections(compare(read_runs([tmp_path])), experiments())


def region(words: str, body: str = "") -> str:
    return f"<!-- results: begin {words} -->\n{body}<!-- results: end -->"


def test_a_region_has_the_experiments_that_it_names_in_that_order(found: list[Section]) -> None:
    around = "# Title\n\n{}\n\nEnd, without a last newline"
    old = around.format(region("compression/static ha2016/mnist_*", "| an old | table |\n"))
    table = """
| experiment | trainable / target parameters | test accuracy % | paper |
| :- | -: | -: | -: |
| `compression/static` `hypernet.z_dim=4` | 4,000 / 4,000 | 90.00 (1) |  |
| `compression/static` `hypernet.z_dim=64` | 64,000 / 4,000 | 90.00 (1) |  |
| `ha2016/mnist_cnn` | 21,210 / 21,210 | 99.40 ± 0.10 (3) | 99.28 |
| `ha2016/mnist_hypercnn` | 12,910 / 4,000 | 99.00 (1) | 99.24 |

Some CPU (1 thread), bf16; torch 2.11.0; commit abc123, other.

"""
    new = filled_in(old, found)
    assert new == around.format(region("compression/static ha2016/mnist_*", table))
    assert filled_in(new, found) == new, "the second time nothing changes"


def test_two_metrics_have_a_column_that_says_which(found: list[Section]) -> None:
    rows = filled_in(region("ha2016/*"), found).splitlines()
    assert rows[2] == "| experiment | trainable / target parameters | metric | test | paper |"
    assert rows[4].startswith("| `ha2016/mnist_cnn` | 21,210 / 21,210 | accuracy % | 99.40 ± 0.10 (3) |")
    assert rows[6].startswith("| `ha2016/ptb_lstm1000` | 4,254,050 / 4,000 | bpc | 1.5000 (1) |")


def test_a_further_column_of_the_summaries(found: list[Section]) -> None:
    rows = filled_in(region("ha2016/mnist_* +val/forgetting"), found).splitlines()
    assert rows[2].endswith("| paper | val forgetting % |")
    assert rows[4].endswith("| 99.28 | 1.00 ± 1.00 (3) |") and rows[5].endswith("| 99.24 |  |")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no region\n", "it needs regions"),
        (region("ha2016/mnist_cnn") + "\n<!-- results: begin compression/static -->\n", "it needs regions"),
        ("<!-- results: begin a -->\n" + region("ha2016/mnist_cnn"), "it needs regions"),
        (region("ha2016/mnist_cn"), "no experiment of the name ha2016/mnist_cn was run"),
        (region("ha2016/cifar10_wrn40_2"), "was run"),
        (region("+val/forgetting"), "a region names no experiment"),
        (region("ha2016/mnist_cnn +seed"), r"a column is \+val/NAME or \+test/NAME, not \+seed"),
    ],
)
def test_a_region_that_cannot_be_filled_is_one_line(found: list[Section], text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        filled_in(text, found)
