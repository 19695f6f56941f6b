"""Pictures of static hypernets: every number stands where it belongs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from hyperrun import hypernetize
from hyperrun.analyze.embedding_pictures import draw_projection, draw_similarity
from hyperrun.analyze.embeddings import Embeddings, cosines, layer_embeddings
from hyperrun.analyze.generated_curves import draw_generated, generated_curves
from hyperrun.analyze.kernel_pictures import Kernel, arranged, chosen_layers, draw_kernels, tiled
from hyperrun.analyze.static_study import kernels_side_by_side, made_by_hypernet
from hyperrun.hypernets import HyperModel, count_parameters, materialize
from hyperrun.pictures.parts import layer_colours, short_names
from hyperrun.pictures.style import picture
from hyperrun.targets.cnn import CNN
from tests.hypernets.test_dynamic import model_of
from tests.pictures import texts_outside


def resnet(*overrides: str) -> HyperModel:
    torch.manual_seed(0)
    from hyperrun.hydra_app.compose import compose_config
    from hyperrun.inputs import Images
    from hyperrun.models import build_model

    config = compose_config(["model=hyperresnet", "target.depth=10", "target.width=1", "hypernet.z_dim=4", *overrides])
    model = build_model(config, Images(1, 8, 10, train=1437))
    assert isinstance(model, HyperModel)
    return model


# ---------------------------------------------------------------- kernels


def test_a_kernel_stands_in_its_output_channels_row_and_input_channels_column() -> None:
    weight = torch.arange(3 * 4 * 2 * 2.0).view(3, 4, 2, 2)
    image, (across, columns), (down, rows), cell = tiled(weight)
    assert (across, columns, down, rows, cell) == ("input channel", 4, "output channel", 3, 3)
    assert image.shape == (3 * 3 - 1, 4 * 3 - 1)
    for out in range(3):
        for into in range(4):
            there = image[3 * out : 3 * out + 2, 3 * into : 3 * into + 2]
            assert torch.equal(there, weight[out, into])
    assert image.isnan().sum() == image.numel() - weight.numel(), "the gaps"


def test_a_first_layer_of_one_input_channel_is_a_square_in_reading_order() -> None:
    image, (across, count), (down, _), cell = tiled(torch.arange(5.0).view(5, 1, 1, 1))
    assert across == "5 output channels, line by line" and (count, down, cell) == (0, "", 1)
    assert image.nan_to_num(-1).tolist() == [[0, 1, 2], [3, 4, -1]]


def test_few_input_channels_lie_down_and_many_are_cut() -> None:
    image, (across, columns), (down, rows), _ = tiled(torch.randn(16, 3, 3, 3))
    assert (across, columns, down, rows) == ("output channel", 16, "input channel", 3)
    assert image.shape == (11, 63)
    assert tiled(torch.randn(64, 40, 3, 3))[0].shape == (127, 127)
    assert tiled(torch.randn(300, 7))[0].shape == (256, 7) and tiled(torch.randn(5))[0].shape == (1, 5)


@pytest.mark.parametrize("shape", [(1, 1, 768), (1, 768), (768, 1), (768,)], ids=str)
def test_a_vector_is_no_strip_of_one_pixel(shape: tuple[int, ...]) -> None:
    """A class token, for one."""
    numbers = torch.arange(768.0).view(shape)
    image, (across, _), _, _ = tiled(numbers)
    assert image.shape == (28, 28) and across == "768 numbers, line by line"
    assert torch.equal(image.flatten()[:768], torch.arange(768.0)) and image.flatten()[768:].isnan().all()
    assert tiled(torch.randn(1, 197, 768))[0].shape == (197, 256), "a position embedding is a matrix"


def test_kernels_of_one_layer_have_one_scale() -> None:
    small, large = torch.rand(4, 4, 3, 3) - 0.5, 10 * (torch.rand(4, 4, 3, 3) - 0.5)
    layers = [[Kernel(run, name, weight, True) for run, weight in (("a", small), ("b", large))] for name in ("x", "y")]
    layers[1][1] = Kernel("b", "y", small, True)
    figure = draw_kernels([layers])
    ends = [panel.images[0].get_clim()[1] for panel in figure.axes if panel.images]
    assert ends[0] == ends[1] > 4 and ends[2] == ends[3] < 0.6


def test_of_a_deep_network_four_layers_are_drawn() -> None:
    assert chosen_layers([str(n) for n in range(36)]) == ["0", "12", "23", "35"]
    assert chosen_layers(["a", "b"]) == ["a", "b"]


def shown(figure: Picture) -> list[list[str]]:
    """Return the lines above each panel."""
    return [panel.get_title("left").split("\n") for panel in figure.axes if panel.get_title("left")]


def test_generated_stand_beside_learned() -> None:
    weight = torch.randn(4, 4, 3, 3)
    figure = draw_kernels([[[Kernel("cnn", "conv2", weight, False), Kernel("$hyper", "conv2", weight * 0, True)]]])
    assert shown(figure) == [
        ["cnn", "conv2, learned directly", "4 x 4 x 3 x 3"], ["$hyper", "conv2, generated", "4 x 4 x 3 x 3"],
    ]  # fmt: skip
    assert picture(figure, "png").startswith(b"\x89PNG")


def kernel(label: str, name: str = "conv", *shape: int) -> Kernel:
    return Kernel(label, name, torch.randn(shape or (4, 4, 3, 3)), True)


def test_every_group_has_rows_of_its_own_and_few_places_stay_empty() -> None:
    pairs = [[kernel("a", name), kernel("b", name)] for name in ("1", "2", "3")]
    alone = [[kernel("c", name)] for name in ("4", "5", "6", "7")]
    rows = [[one.name for one in row] for row in arranged([pairs, alone])]
    assert rows == [["1", "1"], ["2", "2"], ["3", "3"], ["4", "5"], ["6", "7"]]
    assert [len(row) for row in arranged([alone])] == [2, 2]
    assert [len(row) for row in arranged([alone[:3]])] == [3] and [len(row) for row in arranged([alone[:1]])] == [1]
    assert [len(row) for row in arranged([alone + alone[:1]])] == [3, 2]
    four = [[kernel(label, "8") for label in "defg"]]
    assert [len(row) for row in arranged([pairs, four])] == [4, 2, 4], "two layers of a pair beside each other"
    many = [[kernel(label, name) for label in "abcdef"] for name in ("1", "2")]
    rows = [[one.label + one.name for one in row] for row in arranged([many])]
    assert rows == [["a1", "b1", "c1"], ["d1", "e1", "f1"], ["a2", "b2", "c2"], ["d2", "e2", "f2"]]


def test_runs_with_other_tensors_are_drawn_below_and_none_vanishes() -> None:
    torch.manual_seed(0)
    plain, wide, deep = CNN(1, 10, 8), CNN(3, 10, 8), resnet()
    twin = hypernetize(CNN(1, 10, 8), "static", z_dim=4)
    models = {"plain": plain, "wide": wide, "deep": deep, "twin": twin}
    weights = {label: dict(materialize(model).named_parameters()) for label, model in models.items()}
    made = {label: made_by_hypernet(model) for label, model in models.items()}
    blocks = kernels_side_by_side(weights, made)
    assert [{one.label for layer in block for one in layer} for block in blocks] == [
        {"plain", "twin"}, {"wide"}, {"deep"},
    ]  # fmt: skip
    assert [[one.label for one in layer] for layer in blocks[0]] == [["plain", "twin"]], "conv2, which twin generates"
    assert blocks[1][0][0].weight.shape[1] == 3 and all(len(layer) == 1 for layer in blocks[1])
    figure = draw_kernels(blocks)
    assert {lines[0] for lines in shown(figure)} == set(models)
    assert texts_outside(figure) == []


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (40, 2, 3, 3), (32, 9, 3, 3), (16, 1, 7, 7), (300, 5), (2, 200), (9,)])
@pytest.mark.parametrize("label", ["short", "hyperresnet a_setting=0.001 another_setting=value"])
def test_nothing_of_a_kernel_is_cut_off_and_its_bar_is_near(shape: tuple[int, ...], label: str) -> None:
    row = [kernel(label, "groups.0.0.conv1.weight", *shape), kernel(label, "groups.0.0.conv1.weight", 8, 8, 3, 3)]
    figure = draw_kernels([[row]])
    assert texts_outside(figure) == []
    panel, second = figure.axes
    bar = panel.child_axes[0].get_window_extent()
    assert bar.height > 0.7 * figure.dpi, "its numbers find room"
    for labels in (panel.get_xticklabels(), panel.get_yticklabels()):
        boxes = [one.get_window_extent() for one in labels]
        assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    box, inch = panel.get_window_extent(), figure.dpi
    assert 0 < bar.x0 - box.x1 < 0.2 * inch and bar.x1 < second.get_window_extent().x0
    titles = [one._left_title.get_window_extent() for one in (panel, second)]  # type: ignore[attr-defined]
    assert not titles[0].overlaps(titles[1])


def test_weights_that_are_not_finite_are_black_and_said() -> None:
    some = torch.ones(2, 2, 3, 3)
    some[0, 1, 2, 2], some[1, 0, 0, 0] = math.nan, math.inf
    kernels = [Kernel("a", "w", weight, True) for weight in (some, torch.full((4, 4), math.nan), some.new_ones(2, 2))]
    figure = draw_kernels([[kernels]])
    part, whole, sound = (panel for panel in figure.axes)
    assert [lines[3:] for lines in shown(figure)] == [
        ["not finite: 2 of 36 weights (black)"],
        ["not finite (black)"],
        [],
    ]
    black = part.images[1].get_array()
    assert black is not None and [*zip(*np.nonzero(np.nan_to_num(black)), strict=True)] == [(2, 6), (4, 0)]
    assert part.images[0].get_clim() == (-1, 1) and part.child_axes and not whole.child_axes
    assert len(sound.images) == 1
    assert picture(figure, "png").startswith(b"\x89PNG")
    large = torch.ones(40, 40, 3, 3)
    large[35, 35] = math.nan
    said = shown(draw_kernels([[[Kernel("a", "w", large, True)]]]))[0]
    assert " ".join(said).endswith("not finite: 9 of 14,400 weights (not drawn)")


# ---------------------------------------------------------------- embeddings


def test_each_layer_has_the_embeddings_that_make_it() -> None:
    model = resnet()
    (found,) = layer_embeddings(model)
    assert list(found.layers) == list(model.names) and found.what == "3x3"
    before = {name: w.detach().clone() for name, w in model.weights().items()}
    name = model.names[3]
    generator = model.hypernet.generators["3x3"]  # type: ignore[union-attr, index]
    rows = [n for n, z in enumerate(generator.z) if any(torch.equal(z, mine) for mine in found.layers[name])]
    assert len(rows) == len(found.layers[name])
    with torch.no_grad():
        generator.z[rows] += 1.0
    changed = [n for n, w in model.weights().items() if not torch.equal(w, before[n])]
    assert changed == [name], "these rows of z make this layer and no other"


def test_similarity_is_of_the_mean_embeddings() -> None:
    layers = {"a": torch.tensor([[1.0, 0], [3, 0]]), "b": torch.tensor([[0.0, 2]]), "c": torch.tensor([[-1.0, 1]])}
    found = Embeddings("3x3", layers).similarity()
    root = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[1, 0, -root], [0, 1, root], [-root, root, 1]]).double())
    assert cosines(torch.zeros(2, 3)).isfinite().all(), "an embedding that is still zero"


def test_the_projection_keeps_distances_in_a_plane_and_says_how_much_it_shows() -> None:
    torch.manual_seed(0)
    flat = torch.randn(6, 2) * torch.tensor([3.0, 1.0])
    turned = flat @ torch.linalg.qr(torch.randn(5, 5))[0][:2]
    points, shares = Embeddings("3x3", {"a": turned[:4], "b": turned[4:]}).projected()
    placed = torch.cat([points["a"], points["b"]]).float()
    torch.testing.assert_close(torch.cdist(placed, placed), torch.cdist(flat, flat), rtol=1e-4, atol=1e-4)
    assert sum(shares) == pytest.approx(1.0) and shares[0] > shares[1]


def test_chunked_has_one_embedding_for_each_layer_and_others_none() -> None:
    model = hypernetize(CNN(1, 10, 8), "chunked", generate="everything", z_dim=3, hidden=[8], chunk_size=64)
    (found,) = layer_embeddings(model)
    assert list(found.layers) == list(model.names) and {tuple(z.shape) for z in found.layers.values()} == {(1, 3)}
    with pytest.warns(UserWarning, match="more than it has"):
        assert layer_embeddings(hypernetize(CNN(1, 10, 8), "mlp")) == []
    assert layer_embeddings(CNN(1, 10, 8)) == []
    assert layer_embeddings(model_of("model=hyperlstm", "target.hidden_size=4")) == []


def test_embeddings_that_are_not_finite_are_grey_and_left_out() -> None:
    torch.manual_seed(0)
    layers = {"a": torch.randn(2, 4), "b": torch.randn(2, 4), "c": torch.full((1, 4), math.nan)}
    layers["b"][1, 2] = math.inf
    found = Embeddings("3x3", layers)
    assert found.broken() == ["b", "c"] and [len(z) for z in found.finite().layers.values()] == [2, 1, 0]
    points, shares = found.finite().projected()
    assert [len(place) for place in points.values()] == [2, 1, 0] and sum(shares) == pytest.approx(1.0)
    heat, spread = draw_similarity({"run": found}), draw_projection({"run": found})
    assert heat.axes[0].get_title("left").endswith("grey: not finite") and len(heat.axes[0].texts) == 1
    assert spread.axes[0].get_title("left").endswith("not finite and left out: 2")
    assert all(picture(figure, "png").startswith(b"\x89PNG") for figure in (heat, spread))


def test_names_of_36_layers_do_not_overlap() -> None:
    model = resnet("target.depth=40")
    (found,) = layer_embeddings(model)
    assert len(found.layers) == 36 and count_parameters(model).generated > 0
    figure = draw_similarity({"hyperresnet: 3x3": found})
    figure.canvas.draw()
    panel = figure.axes[0]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for labels in (panel.get_yticklabels(), panel.get_xticklabels()):
        boxes = [label.get_window_extent(renderer) for label in labels]
        assert len(boxes) == 36
        assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    draw_projection({"hyperresnet: 3x3": found})
    assert len({str(colour) for colour in layer_colours(36)}) == 36


# ---------------------------------------------------------------- over training


def test_curves_are_read_from_the_rows_of_training(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "train/loss": 1.0},
        {"step": 2, "val/accuracy": 0.5, "generated/a.weight/norm": 3.0, "generated/a.weight/std": 0.5},
        {"step": 4, "val/accuracy": 0.6, "generated/a.weight/norm": 90.0, "generated/a.weight/std": 0.25},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = generated_curves(path)
    assert curves == {"a.weight": {"step": [2, 4], "norm": [3.0, 90.0], "std": [0.5, 0.25]}}
    figure = draw_generated({"run": curves})
    assert [panel.get_yscale() for panel in figure.axes] == ["log", "linear"], "30 times as large, half as large"
    assert [panel.get_ylabel() for panel in figure.axes] == ["Euclidean norm", "standard deviation"]
    assert generated_curves(tmp_path / "none.jsonl") == {}


def curve(steps: list[int], norms: list[float]) -> dict[str, list[float]]:
    return {"step": [*map(float, steps)], "norm": norms, "std": [norm / 10 for norm in norms]}


def line_of(panel: Axes, label: str) -> Any:
    (found,) = [line for line in panel.lines if str(line.get_label()).startswith(label)]
    return found


def test_values_that_are_not_finite_are_read_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = ['"norm": 1.0', '"norm": null', '"norm": Infinity', '"norm": NaN', '"norm": 2.0']
    path.write_text(
        "".join(
            f'{{"step": {n}, {row.replace("norm", "generated/a/norm")}, "generated/a/std": 0.5}}\n'
            for n, row in enumerate(rows)
        )
    )
    curves = generated_curves(path)
    assert [math.isnan(value) for value in curves["a"]["norm"]] == [False, True, True, True, False]
    norm, std = draw_generated({"run": curves}).axes
    crosses = line_of(norm, "not finite")
    assert list(crosses.get_xdata()) == [1, 2, 3] and set(crosses.get_ydata()) == {0.98}
    assert "not finite" in [text.get_text() for text in norm.get_legend().get_texts()]  # type: ignore[union-attr]
    assert not [line for line in std.lines if line.get_label() == "not finite"]
    assert norm.get_xlim() == std.get_xlim()


def test_where_all_is_broken_from_the_start_there_is_a_picture() -> None:
    figure = draw_generated({"run": {"a": curve([4, 8], [math.nan, math.nan])}})
    assert list(line_of(figure.axes[0], "not finite").get_xdata()) == [4, 8]
    assert picture(figure, "png").startswith(b"\x89PNG")


def test_runs_have_one_scale() -> None:
    figure = draw_generated({"a": {"w": curve([1, 2], [1.0, 2.0])}, "b": {"w": curve([1, 90], [50.0, 60.0])}})
    norm, std, other_norm, other_std = figure.axes
    assert norm.get_yscale() == other_norm.get_yscale() == "log", "together they differ by more than a factor of 20"
    assert norm.get_ylim() == other_norm.get_ylim() and std.get_ylim() == other_std.get_ylim()
    assert norm.get_ylim()[0] <= 1 and norm.get_ylim()[1] >= 60
    assert norm.get_xlim() == std.get_xlim() != other_norm.get_xlim() == other_std.get_xlim()


def test_one_evaluation_has_whole_steps() -> None:
    figure = draw_generated({"run": {"w": curve([4], [1.0])}})
    figure.canvas.draw()
    low, high = figure.axes[0].get_xlim()
    assert [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high] == [4]


@pytest.mark.parametrize("layers", [2, 12])
def test_the_selected_checkpoint_is_marked_and_explained(layers: int) -> None:
    found = {f"layer{n}": curve([10, 20], [1.0, math.nan]) for n in range(layers)}
    figure = draw_generated({"run": found, "unfinished": found}, {"run": ("selected checkpoint", 20)})
    for panel in figure.axes[:2]:
        assert list(line_of(panel, "selected checkpoint, step 20").get_xdata()) == [20, 20]
        assert "selected checkpoint, step 20" in [text.get_text() for text in panel.get_legend().get_texts()]  # type: ignore[union-attr]
    assert not [line for line in figure.axes[2].lines if str(line.get_label()).startswith("selected")]
    assert texts_outside(figure) == []


def test_many_runs_stand_in_several_rows() -> None:
    (found,) = layer_embeddings(resnet())
    for draw in (draw_similarity, draw_projection):
        figure = draw({f"run {n}": found for n in range(4)})
        width, height = figure.get_size_inches()
        shown_panels = [panel for panel in figure.axes if panel.get_title("left")]
        assert len(shown_panels) == 4 and width < 3.5 * height
        assert texts_outside(figure) == []


def test_short_names() -> None:
    assert short_names(["conv1.weight", "conv2.weight"]) == ["conv1", "conv2"]
    assert short_names(["conv1.weight", "conv1.bias"]) == ["conv1.weight", "conv1.bias"]
    assert short_names(["weight"]) == ["weight"]
