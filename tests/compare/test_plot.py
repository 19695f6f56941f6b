"""The pictures: what is drawn where, and that nothing covers anything. What they look like was looked at."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Picture
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from hyperrun.compare import Comparison, compare, read_runs
from hyperrun.compare.learning_curves import curve, draw_curves
from hyperrun.compare.plot import count_text, draw, parameter_ticks
from hyperrun.pictures.style import picture, spread
from tests.made_up_runs import made_up_run


def labels_of(panel: Axes) -> dict[str, Text]:
    return {text.get_text(): text for text in panel.texts if text.get_gid() != "below-title"}


def lines_named(panel: Axes, label: str) -> list[list[tuple[float, float]]]:
    """Return the points of the lines whose style is that of the line with this legend entry."""
    first = next(line for line in panel.lines if line.get_label() == label)
    alike = [x for x in panel.lines if (x.get_linestyle(), x.get_color()) == (first.get_linestyle(), first.get_color())]
    return [[(float(x), float(y)) for x, y in line.get_xydata()] for line in alike]  # type: ignore[union-attr]


def box(text: Text) -> Bbox:
    """Return where the words stand, the line to their point left out."""
    return Text.get_window_extent(text)


def test_points_bars_front_and_twins_stand_where_they_belong(comparisons: list[Comparison]) -> None:
    panel = draw(comparisons).axes[0]
    assert panel.get_xscale() == "log" and panel.get_ylabel() == "test accuracy % (higher is better)"
    bars = {}
    for container in panel.containers:
        [[x, y]] = container.lines[0].get_xydata()  # type: ignore[attr-defined]
        segments = [s for bar in container.lines[2] for s in bar.get_segments()]  # type: ignore[attr-defined]
        bars[x, round(y, 6)] = [round(float(value), 6) for segment in segments for value in segment[:, 1]]
    assert bars == {(21210, 98): [97, 99], (23000, 96): [], (8000, 95): [93.585786, 96.414214]}
    [front] = lines_named(panel, "Pareto front (filled)")
    assert [(x, pytest.approx(y)) for x, y in front] == [(8000, 95), (21210, 95), (21210, 98)]
    twins = lines_named(panel, "to its direct twin")
    assert sorted(line[0][0] for line in twins) == [8000, 23000] and {line[1][0] for line in twins} == {21210}


def test_filled_markers_are_on_the_front(comparisons: list[Comparison]) -> None:
    panel = draw(comparisons).axes[0]
    hollow = [c.lines[0].get_xdata()[0] for c in panel.containers if c.lines[0].get_markerfacecolor() == "white"]  # type: ignore[attr-defined]
    assert hollow == [23000]


def test_the_papers_figure_stands_beside_ours(comparisons: list[Comparison]) -> None:
    panel = draw(comparisons).axes[1]
    [cross] = [line for line in panel.lines if line.get_marker() == "x"]
    [[x, y]] = cross.get_xydata()  # type: ignore[misc]
    assert x == 12910, "the paper counts one layer only"
    assert y == pytest.approx(99.24) and cross.get_label() == "the paper's figure"


def test_the_papers_cross_goes_where_its_count_is_not_ours(tmp_path: Path) -> None:
    """The figure of another network says nothing about this one, and its cross would squash the runs' points."""
    made_up_run(tmp_path, "experiment=ha2016/cifar10_hyperresnet40_2", "target.width=1", test=0.5, trainable=1000)
    made_up_run(tmp_path, "experiment=ha2016/cifar10_hyperresnet40_2", "seed=1", test=0.5, trainable=147_610)
    [comparison] = compare(read_runs([tmp_path]))
    names = {group.trainable: group.name for group in comparison.groups}
    assert names == {1000: "hyperresnet", 147_610: "cifar10_hyperresnet40_2"}
    panel = draw([comparison]).axes[0]
    [cross] = [line for line in panel.lines if line.get_marker() == "x"]
    assert cross.get_xdata()[0] == 148_000  # type: ignore[index]
    assert panel.get_ylim()[1] > cross.get_ydata()[0]  # type: ignore[index]


def test_several_of_the_papers_figures_say_whose_they_are(tmp_path: Path) -> None:
    for name, trainable in (("lstm1000", 4_254_050), ("lnlstm1000", 4_260_050), ("hyperlstm1000", 4_911_874)):
        words = f"experiment=ha2016/ptb_{name}", "trainer.epochs=4"
        command = f"hyperrun train {' '.join(words)}"
        made_up_run(tmp_path, *words, test=1.6, trainable=trainable, command=command)
    panel = draw(compare(read_runs([tmp_path]))).axes[0]
    named = [text for text in labels_of(panel) if text.startswith("paper: ")]
    assert sorted(named) == ["paper: ptb_hyperlstm1000", "paper: ptb_lnlstm1000", "paper: ptb_lstm1000"]
    [cross, *_] = [line for line in panel.lines if line.get_marker() == "x"]
    assert cross.get_label() == "paper, other training"


def crowd(outputs: Path, seed: int) -> Picture:
    """Return the picture of 13 groups of two seeds, close to each other."""
    draw_one = random.Random(seed)
    for i in range(12):
        near, count = 0.9 + 0.004 * i, int(9000 * 1.03**i) + draw_one.randint(0, 400)
        for s in range(2):
            test = near + draw_one.gauss(0, 0.004)
            made_up_run(outputs, "model=hypercnn", f"hypernet.z_dim={i + 1}", f"seed={s}", test=test, trainable=count)
    made_up_run(outputs, "model=cnn", test=0.93, trainable=9900)
    return draw(compare(read_runs([outputs])))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_cover_nothing(tmp_path: Path, seed: int) -> None:
    figure = crowd(tmp_path, seed)
    figure.canvas.draw()
    panel = figure.axes[0]
    texts = labels_of(panel)
    assert len(texts) >= 11 and "cnn" in texts, "nearly every group has a place for its label"
    boxes = list(map(box, texts.values()))
    for i, one in enumerate(boxes):
        for two in boxes[i + 1 :]:
            assert not one.overlaps(two)
    markers = [panel.transData.transform(c.lines[0].get_xydata()[0]) for c in panel.containers]  # type: ignore[attr-defined]
    assert len(markers) == 13
    inside = panel.get_window_extent()
    for one in boxes:
        assert not any(one.contains(*marker) for marker in markers)
        assert inside.x0 <= one.x0 and one.x1 <= inside.x1 and inside.y0 <= one.y0 and one.y1 <= inside.y1


def test_a_label_stands_at_its_own_point(comparisons: list[Comparison]) -> None:
    panel = draw(comparisons).axes[0]
    for text in labels_of(panel).values():
        assert isinstance(text, Annotation)
        group = next(g for g in comparisons[0].groups if g.label == text.get_text())
        assert text.xy == (group.trainable, comparisons[0].metric.shown(group.test.mean))
    assert set(labels_of(panel)) == {"cnn", "hypercnn z_dim=4", "hypercnn z_dim=16"}


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-"), ("svg", b"<?xml")])
def test_every_format_and_the_same_bytes_again(comparisons: list[Comparison], kind: str, magic: bytes) -> None:
    first = picture(draw(comparisons), kind)
    assert first.startswith(magic) and first == picture(draw(comparisons), kind)


def test_svg_text_is_text(comparisons: list[Comparison]) -> None:
    svg = picture(draw(comparisons), "svg").decode()
    for words in ("hypercnn z_dim=4", "lnhyperlstm", "Pareto front", "trainable parameters", "500k"):
        assert words in svg


def test_odd_names_neither_fail_nor_become_formulas(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", model="$x^2$ 漢字 _{")
    made_up_run(tmp_path, "model=hypercnn", hypernet="$own$", model="a\\b")
    comparisons = compare(read_runs([tmp_path]))
    assert "$x^2$ 漢字 _{" in picture(draw(comparisons), "svg").decode()
    assert draw_curves(comparisons[0]) is not None
    assert picture(draw(comparisons), "png")


def test_no_accuracy_beyond_100(tmp_path: Path) -> None:
    for seed, test in enumerate((0.99, 1.0, 1.0)):
        made_up_run(tmp_path, "model=cnn", f"seed={seed}", test=test, trainable=9900)
    made_up_run(tmp_path, "model=hypercnn", test=1.0, trainable=12000)
    comparisons = compare(read_runs([tmp_path]))
    curves = draw_curves(comparisons[0])
    assert curves is not None
    for panel in (draw(comparisons).axes[0], curves.axes[0]):
        assert panel.get_ylim()[1] == 100
    bars = [bar for c in draw(comparisons).axes[0].containers for bar in c.lines[2]]  # type: ignore[attr-defined]
    assert max(segment[:, 1].max() for bar in bars for segment in bar.get_segments()) == pytest.approx(100)


def test_markers_that_coincide_are_rings(tmp_path: Path) -> None:
    for model, count in (("hypercnn", 12_910), ("hypermlp", 12_915), ("cnn", 12_920), ("mlp", 30_000)):
        made_up_run(tmp_path, f"model={model}", trainable=count, test=0.9)
    panel = draw(compare(read_runs([tmp_path]))).axes[0]
    markers = [container.lines[0] for container in panel.containers]  # type: ignore[attr-defined]
    sizes = [line.get_markersize() for line in sorted(markers, key=lambda line: line.get_zorder())]
    assert sizes == [15.5, 11, 6.5, 6.5], "the larger ones below"
    [filled] = [line for line in markers if line.get_markerfacecolor() != "white"]  # the smallest is on the front
    assert filled.get_markersize() == 15.5 or filled.get_markeredgecolor() == "white"


def test_negative_figures_of_which_less_is_better(tmp_path: Path) -> None:
    for name, nats, count in (("iam_lstm900", -900.25, 3_363_421), ("iam_hyperlstm900", -1000.75, 3_941_181)):
        made_up_run(tmp_path, f"experiment=ha2016/{name}", test=nats, trainable=count, test__nats=None)
    panel = draw(compare(read_runs([tmp_path]))).axes[0]
    low, high = panel.get_ylim()
    assert low < -1162 and high > -900, "the paper's figures are in it"
    assert {"iam_lstm900", "paper: iam_hyperlstm900"} <= set(labels_of(panel))


# ---------------------------------------------------------------- ticks


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (4_000, 60_000, "5k 10k 20k 50k"),
        (7_300, 15_200, "8k 9k 10k 12k 15k"),
        (250_000, 630_000, "250k 300k 400k 500k 600k"),
        (900, 1.2e8, "1k 10k 100k 1M 10M 100M"),
        (155_000 / 1.25, 155_000 * 2, "150k 200k 250k 300k"),
    ],
)
def test_ticks_are_few_and_round(low: float, high: float, texts: str) -> None:
    assert " ".join(map(count_text, parameter_ticks(low, high, most=8))) == texts


def test_ticks_at_any_range() -> None:
    draw_one = random.Random(0)
    for _ in range(500):
        low = 10 ** draw_one.uniform(0, 8)
        high = low * 1.25 * 10 ** draw_one.uniform(0, 6)
        for most in (3, 8):
            ticks = parameter_ticks(low, high, most)
            assert 2 <= len(ticks) <= most and all(low <= tick <= high for tick in ticks)
            assert ticks == sorted(ticks) and len({count_text(tick) for tick in ticks}) == len(ticks)


def test_count_text() -> None:
    assert list(map(count_text, (1, 999, 1000, 21210, 999_999, 2_243_546, 7e9))) == "1 999 1k 21.2k 1M 2.24M 7G".split()


def test_labels_of_ticks_do_not_collide(tmp_path: Path) -> None:
    for i in range(3):
        made_up_run(tmp_path, "model=cnn", f"optim.lr=0.{i + 1}", trainable=999_000 + 400 * i)
    panel = draw(compare(read_runs([tmp_path]))).axes[0]
    boxes = [tick.label1.get_window_extent() for tick in panel.xaxis.get_major_ticks()]
    assert len(boxes) >= 2 and all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


# ---------------------------------------------------------------- curves


def test_curves_of_every_seed_in_one_colour(comparisons: list[Comparison]) -> None:
    figure = draw_curves(comparisons[0])
    assert figure is not None
    lines = figure.axes[0].lines
    assert [line.get_gid() for line in lines] == [
        "curve-0-0",
        "curve-0-1",
        "curve-0-2",
        "curve-1-0",
        "curve-2-0",
        "curve-2-1",
    ]
    assert len({line.get_color() for line in lines}) == 3
    scatter = {c.lines[0].get_color() for c in draw(comparisons).axes[0].containers}  # type: ignore[attr-defined]
    assert lines[0].get_color() in scatter, "the only direct one"
    assert {line.get_color() for line in lines[3:]}.isdisjoint(scatter), "shades, of the static hypernets' blue"
    red, _, blue = zip(*(to_rgb(line.get_color()) for line in lines[3:]), strict=True)
    assert all(b > r for r, b in zip(red, blue, strict=True))
    assert np.array_equal(lines[0].get_xdata(), [20, 40, 60, 80, 100])
    assert lines[0].get_ydata()[-1] == pytest.approx(97)  # type: ignore[index]


def test_curves_have_whole_steps(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", steps=20)  # one evaluation
    [comparison] = compare(read_runs([tmp_path]))
    figure = draw_curves(comparison)
    assert figure is not None and all(tick == round(tick) for tick in figure.axes[0].get_xticks())


def test_no_curves_where_nothing_was_logged(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, "model=cnn")
    (run / "metrics.jsonl").unlink()
    assert draw_curves(compare(read_runs([tmp_path]))[0]) is None


def test_a_long_curve_keeps_its_ends_and_drops_what_is_no_number(tmp_path: Path) -> None:
    rows = tmp_path / "metrics.jsonl"
    rows.write_text(
        "".join(f'{{"step": {i}, "val/bpc": {"NaN" if i == 7 else i / 10}}}\n' for i in range(1, 1001)) + '{"st'
    )
    steps, values = curve(rows, "val/bpc")
    assert len(steps) == 300 and (steps[0], steps[-1]) == (1, 1000) and 7 not in steps and values[-1] == 100
    assert spread([1, 2, 3], 3) == [1, 2, 3] and spread(list(range(10)), 4) == [0, 3, 6, 9]
