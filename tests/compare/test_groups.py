"""Seeds become a group; which group is best, on the front, and whose twin; what may stand in one table."""

from __future__ import annotations

import random
import shlex
import shutil
import statistics
from pathlib import Path

import pytest

from hyperrun.compare import Comparison, Group, compare, read_runs
from hyperrun.compare.groups import Figure, mark_front
from hyperrun.compare.table import paper_text
from tests.made_up_runs import made_up_run


def labels(comparison: Comparison) -> list[str]:
    return [group.label for group in comparison.groups]


def compared(outputs: Path) -> Comparison:
    [comparison] = compare(read_runs([outputs]))
    return comparison


def rounded(figure: Figure) -> tuple[float, float, int]:
    assert figure.std is not None
    return round(figure.mean, 9), round(figure.std, 9), figure.n


def test_the_mixed_folder(comparisons: list[Comparison]) -> None:
    found = {c.data: [(g.label, g.test.n, g.on_front, g.twin and g.twin.label) for g in c.groups] for c in comparisons}
    assert found == {
        "digits": [
            ("cnn", 3, True, None),
            ("hypercnn z_dim=16", 1, False, "cnn"),
            ("hypercnn z_dim=4", 2, True, "cnn"),
        ],
        "mnist": [("cnn", 1, True, None), ("mnist_hypercnn", 1, True, "cnn")],
        "pydocs": [
            ("lnhyperlstm", 1, True, "lnlstm"),
            ("lnlstm", 1, True, None),
            ("hyperlstm", 1, False, "lstm"),
            ("lstm", 1, True, None),
        ],
    }


def test_mean_and_sample_standard_deviation_over_seeds(comparisons: list[Comparison]) -> None:
    cnn, one, two = comparisons[0].groups
    assert rounded(cnn.test) == (0.98, 0.01, 3) and cnn.seeds == [0, 1, 2]
    assert rounded(cnn.val) == (0.97, 0.01, 3), "made up 0.01 lower than test"
    assert rounded(two.test) == (0.95, round(statistics.stdev([0.94, 0.96]), 9), 2)
    assert one.test == Figure(0.96, None, 1), "one run has no deviation"
    assert cnn.mean("time/train_s") == 20 and cnn.mean("throughput/tokens_per_s") is None


def test_a_seed_makes_no_group_and_every_other_setting_does(tmp_path: Path) -> None:
    for seed in (0, 11):
        made_up_run(tmp_path, "model=cnn", f"seed={seed}")
        made_up_run(tmp_path, "model=cnn", "optim.lr=0.1", f"seed={seed}")
        made_up_run(tmp_path, "model=cnn", "trainer.ema=0.9", f"seed={seed}")
    found = compared(tmp_path)
    assert {group.label: group.seeds for group in found.groups} == {
        "cnn": [0, 11],
        "cnn lr=0.1": [0, 11],
        "cnn ema=0.9": [0, 11],
    }


def test_settings_that_change_no_result_make_no_group(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", "seed=0", "tracking.wandb.mode=offline")
    made_up_run(tmp_path, "model=cnn", "seed=1", "outputs=elsewhere")
    assert [group.seeds for group in compared(tmp_path).groups] == [[0, 1]]


def test_a_copied_run_counts_once_and_is_said(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, "model=cnn", test=0.5, name="run")
    shutil.copytree(run, tmp_path / "copy")
    runs = read_runs([tmp_path])
    [comparison] = compare(runs)
    assert comparison.groups[0].test.n == 1
    assert runs.warnings == [f"{run}: the same run as {tmp_path / 'copy'}, counted once"]


# ---------------------------------------------------------------- order and front


def test_less_is_better_of_bits_and_more_of_accuracy(tmp_path: Path) -> None:
    for data, model in (("digits", "cnn"), ("pydocs", "lstm")):
        for i, lr in enumerate(("0.1", "0.2", "0.3")):
            made_up_run(tmp_path, f"model={model}", f"data={data}", f"optim.lr={lr}", test=0.5 + i / 10)
    digits, pydocs = compare(read_runs([tmp_path]))
    assert labels(digits) == ["cnn lr=0.3", "cnn lr=0.2", "cnn lr=0.1"] and digits.better == "higher is better"
    assert labels(pydocs) == ["lstm lr=0.1", "lstm lr=0.2", "lstm lr=0.3"] and pydocs.better == "lower is better"


def test_the_front_is_what_its_definition_says(tmp_path: Path) -> None:
    """Against every pair, on random points with many ties."""
    made_up_run(tmp_path, "model=cnn")
    made_up_run(tmp_path, "model=lstm", "data=pydocs")
    runs = read_runs([tmp_path]).finished
    draw = random.Random(0)
    for run in runs:
        key = f"test/{run.metric.name}"
        for _ in range(50):
            groups = [Group([_like(run, draw.randint(1, 6), key, draw.randint(1, 6))]) for _ in range(10)]
            comparison = Comparison("made up", run.metric, groups)
            mark_front(comparison)
            for group in groups:
                beaten = any(
                    other.trainable <= group.trainable
                    and not run.metric.better(group.test.mean, other.test.mean)
                    and (other.trainable, other.test.mean) != (group.trainable, group.test.mean)
                    for other in groups
                )
                assert group.on_front is not beaten
            counts = [group.trainable for group in comparison.front]
            assert counts == sorted(counts)


def _like(run, trainable: int, key: str, value: float):
    """Return the run with another count and figure."""
    return type(run)(run.path, run.status, run.summary | {"params/trainable": trainable, key: value}, {}, {})


# ---------------------------------------------------------------- twins, the paper, names


def test_a_twin_has_the_same_target_and_is_the_most_alike(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", "optim.lr=0.1", test=0.7, name="other-lr")
    made_up_run(tmp_path, "model=cnn", "optim.lr=0.3", test=0.6, name="same-lr")
    made_up_run(tmp_path, "model=cnn", "optim.lr=0.3", "target.channels=[8,8]", test=0.8, name="other-target")
    made_up_run(tmp_path, "model=hypercnn", "optim.lr=0.3", test=0.5, name="hyper")
    made_up_run(tmp_path, "model=hypercnn", "target.channels=[4,4]", test=0.4, name="alone")
    groups = {group.runs[0].path.name: group for group in compared(tmp_path).groups}
    assert groups["hyper"].twin is groups["same-lr"]
    assert groups["alone"].twin is None and groups["same-lr"].twin is None


def test_the_papers_figures_stand_in_our_unit(comparisons: list[Comparison]) -> None:
    cnn, hyper = comparisons[1].groups
    assert hyper.paper == pytest.approx(0.9924), "the paper prints an error of 0.76%"
    assert hyper.paper_params == 4244 and hyper.paper_part == "conv2.weight"
    assert cnn.paper is None and cnn.paper_params is None and cnn.paper_part is None


def test_words_beside_the_experiment_make_it_another_training(tmp_path: Path) -> None:
    line = ["experiment=ha2016/mnist_cnn", "seed=0", "outputs=x", "tracking.wandb.mode=offline", "data.root=/data"]
    for words in (line, [*line, "trainer.epochs=1"]):
        made_up_run(tmp_path, *words, name=str(len(words)), command=shlex.join(["hyperrun", "train", *words]))
    groups = {group.runs[0].path.name: group for group in compared(tmp_path).groups}
    assert groups["5"].changed == [] and paper_text(groups["5"]) == "99.28"
    assert groups["6"].changed == ["trainer.epochs=1"] and paper_text(groups["6"]) == "(99.28)"


def test_a_figure_of_the_paper_that_is_another_metric_is_not_shown(tmp_path: Path) -> None:
    for lr, metric in (("0.1", "test_bpc"), ("0.2", "log_likelihood"), ("0.3", 3)):
        made_up_run(tmp_path, "model=cnn", f"optim.lr={lr}", paper__metric=metric, paper__value=1.2)
    assert [group.paper for group in compared(tmp_path).groups] == [None] * 3


def test_labels_are_unique_short_and_printable(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=hypercnn", "hypernet.z_dim=4", name="a")
    made_up_run(tmp_path, "model=hypercnn", "hypernet.z_dim=8", name="b")
    made_up_run(tmp_path, "model=hypercnn", f"hypernet.exclude=[{'x' * 60}]", name="c-0000abcd")
    found = labels(compared(tmp_path))
    assert len(set(found)) == 3 and all(label.isprintable() and len(label) < 70 for label in found)
    assert sorted(label.split()[-1][:12] for label in found) == ["exclude=[xxx", "hypercnn", "z_dim=8"]
    assert [label for label in found if "x…" in label] != []


def test_other_text_under_the_same_name_is_another_table(tmp_path: Path) -> None:
    """Two texts, a text by character and by word, and two figures are never compared with each other."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(name)
        made_up_run(tmp_path / name, "model=lstm", "data=text", f"data.path={tmp_path / name}.txt", test=1.5)
    made_up_run(tmp_path / "words", "model=lstm", "data=text", f"data.path={tmp_path}/one.txt", "data.unit=word")
    made_up_run(
        tmp_path / "three", "model=lstm", "data=pydocs", metric="perplexity", test__perplexity=9, val__perplexity=9
    )
    found = compare(read_runs([tmp_path]))
    assert len(found) == 4 and len({comparison.title for comparison in found}) == 4
    assert all(len(comparison.groups) == 1 for comparison in found)
    assert any("two.txt" in comparison.data for comparison in found)
    assert any("by word" in comparison.data for comparison in found)


def test_nothing_finished_gives_no_comparison(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", status="failed", error="no")
    assert compare(read_runs([tmp_path])) == []
