"""Groups that differ in one number of the hypernet become a curve, in the order of that number."""

from __future__ import annotations

from pathlib import Path

from hyperrun.compare import Comparison, compare, read_runs
from hyperrun.compare.curves import find_curves
from hyperrun.compare.plot import draw
from tests.compare.test_plot import labels_of, lines_named
from tests.made_up_runs import made_up_run


def compression(outputs: Path, sizes: tuple[int, ...] = (4, 16, 64)) -> Comparison:
    """Return a static and a chunked curve, two seeds a point, and the direct twin of both."""
    for seed in (0, 1):
        direct, static, chunked = (f"experiment=compression/{name}" for name in ("direct", "static", "chunked"))
        made_up_run(outputs, direct, f"seed={seed}", test=0.98, trainable=691386)
        for i, size in enumerate(sizes):
            word = f"hypernet.z_dim={size}"
            made_up_run(outputs, static, word, f"seed={seed}", test=0.9 + 0.03 * i, trainable=4000 * size)
            word = f"hypernet.chunk_size={72 * size}"
            made_up_run(outputs, chunked, word, f"seed={seed}", test=0.88 + 0.03 * i, trainable=5000 * size)
    [comparison] = compare(read_runs([outputs]))
    return comparison


def test_a_curve_is_what_differs_in_one_number(tmp_path: Path) -> None:
    curves = find_curves(compression(tmp_path).groups)
    found = {curve.key: [(g.computed[curve.key], g.test.n) for g in curve.groups] for curve in curves}
    assert found == {
        "hypernet.z_dim": [(4, 2), (16, 2), (64, 2)],
        "hypernet.chunk_size": [(288, 2), (1152, 2), (4608, 2)],
    }


def test_what_differs_in_something_else_too_is_on_none(tmp_path: Path) -> None:
    for i, z_dim in enumerate((4, 8, 16)):
        made_up_run(tmp_path, "model=hypercnn", f"hypernet.z_dim={z_dim}", f"optim.lr={1e-3 * (i + 1)}")
    assert find_curves(compare(read_runs([tmp_path]))[0].groups) == []


def test_two_points_are_no_curve(tmp_path: Path) -> None:
    assert find_curves(compression(tmp_path, sizes=(4, 64)).groups) == []


def test_a_grid_has_a_curve_for_each_row_and_column(tmp_path: Path) -> None:
    for z_dim in (4, 8, 16):
        for hidden in (3, 5, 7):
            made_up_run(tmp_path, "model=hypercnn", f"hypernet.z_dim={z_dim}", f"hypernet.hidden_dim={hidden}")
    curves = find_curves(compare(read_runs([tmp_path]))[0].groups)
    assert sorted(curve.key for curve in curves) == ["hypernet.hidden_dim"] * 3 + ["hypernet.z_dim"] * 3
    assert all(len(curve.groups) == 3 for curve in curves)


def test_the_plot_joins_the_points_and_shows_the_twin_as_a_level(tmp_path: Path) -> None:
    panel = draw([compression(tmp_path)]).axes[0]
    joined = [[float(x) for x in line.get_xdata()] for line in panel.lines if len(line.get_xdata()) == 3]  # type: ignore[arg-type]
    assert [16000.0, 64000.0, 256000.0] in joined and [20000.0, 80000.0, 320000.0] in joined
    [level] = lines_named(panel, "level of the direct twin")
    assert [round(y, 6) for _, y in level] == [98, 98] and [x for x, _ in level] == list(panel.get_xlim())
    assert "to its direct twin" not in [line.get_label() for line in panel.lines]
    assert {"z_dim=4", "z_dim=64", "chunk_size=288", "chunk_size=4608", "direct"} <= labels_of(panel).keys()


def test_two_curves_of_one_kind_keep_their_whole_labels(tmp_path: Path) -> None:
    for depth in (10, 16):
        for z_dim in (4, 8, 16):
            made_up_run(tmp_path, "model=hyperresnet", f"target.depth={depth}", f"hypernet.z_dim={z_dim}")
    panel = draw(compare(read_runs([tmp_path]))).axes[0]
    assert any("depth=10" in label and "z_dim=4" in label for label in labels_of(panel))
