"""What is recorded of a model of pen strokes is what it computes, of each sequence alone, however they are batched."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hyperrun.analyze.recurrent import stroke_states
from hyperrun.analyze.recurrent.density_map import WIDEST, density_map
from hyperrun.analyze.recurrent.states import recurrent_target
from hyperrun.analyze.recurrent.stroke_states import StrokeReading, read_strokes
from hyperrun.inputs import Strokes
from hyperrun.models import build_model
from hyperrun.pictures.pen import positions
from hyperrun.targets.recurrent import RecurrentStrokes
from hyperrun.tasks.mixture_density import log_mixture, mixture, negative_log_density
from tests.composed import compose_config
from tests.hypernets.test_dynamic import randomize

SIZE = ("data=font_strokes", "target.hidden_size=6", "target.mixtures=3")
HYPER = (*SIZE, "hypernet.hyper_size=5", "hypernet.z_dim=2", "hypernet.fast=never")
MODELS = {
    "rnn": ("model=rnn", *SIZE),
    "lnlstm": ("model=lnlstm", *SIZE),
    "lstm, 2 layers": ("model=lstm", *SIZE, "target.layers=2"),
    "hyperrnn": ("model=hyperrnn", *HYPER),
    "hyperrnn full": ("model=hyperrnn", *HYPER, "hypernet.form=full"),
    "lnhyperlstm, 2 layers": ("model=lnhyperlstm", *HYPER, "target.layers=2"),
}


def model_of(name: str) -> tuple[torch.nn.Module, RecurrentStrokes]:
    torch.manual_seed(0)
    model = build_model(compose_config(list(MODELS[name])), Strokes()).double().eval()
    randomize(model)
    target = recurrent_target(model)
    assert isinstance(target, RecurrentStrokes)
    return model, target


def sequences(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for length in lengths:
        points = torch.randn(length, 3, generator=generator, dtype=torch.float64)
        points[:, 2] = (points[:, 2] > 1).double()
        points[0] = 0
        found.append(points)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_nats_are_the_models_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stroke_states, "CHUNK", 7)
    monkeypatch.setattr(stroke_states, "TOGETHER", 3)
    model, target = model_of(name)
    some = sequences(20, 2, 9, 14)
    reading = read_strokes(target, some, keep=[0, 1, 3])
    assert reading.points == 45 and reading.predicted == 41 and list(reading.outputs) == [0, 1, 3]
    for n, points in enumerate(some):
        with torch.no_grad():
            outputs, _ = model(points[None])
        nats = negative_log_density(outputs[0, :-1], points[1:]).sum()
        assert reading.nats[n] == pytest.approx(nats.item(), rel=1e-9)
        if n in reading.outputs:
            torch.testing.assert_close(reading.outputs[n], outputs[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["lnlstm", "hyperrnn", "lnhyperlstm, 2 layers"])
def test_nothing_of_the_padding_is_counted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, target = model_of(name)
    some = sequences(20, 2, 9, 14)
    together = read_strokes(target, some)
    monkeypatch.setattr(stroke_states, "TOGETHER", 1)
    alone = read_strokes(target, some)
    for one, other in zip(together.layers, alone.layers, strict=True):
        assert list(one) == list(other)
        for value in one:
            assert one[value].total == 45 * 6 and torch.equal(one[value].counts, other[value].counts)
    torch.testing.assert_close(together.changes, alone.changes)


def changes_of(reading: StrokeReading) -> list[set[str]]:
    return [set(layer) for layer in reading.changes]


def test_changes_are_those_of_each_sequence_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stroke_states, "CHUNK", 4)
    model, target = model_of("lnhyperlstm, 2 layers")
    some = sequences(11, 6)
    reading = read_strokes(target, some)
    assert changes_of(reading) == [set("igfo")] * 2
    layer = target.layers[0]
    for n, points in enumerate(some):
        state, scales = layer.zero_state(points[:, None]), []  # type: ignore[operator]
        with torch.no_grad():
            for x in points[:, None]:
                _, d_h, *_ = layer.gate_sums(x, state, None)  # type: ignore[operator]
                state = layer.step(x, state, None, None)  # type: ignore[operator]
                scales.append(d_h[0].view(4, 6)[2])
        wanted = [0.0, *((after - before).norm().item() for before, after in zip(scales, scales[1:], strict=False))]
        assert reading.changes[0]["f"][n].tolist() == pytest.approx(wanted, abs=1e-12)
    assert model.training is False


def test_models_whose_weights_never_change_have_no_changes() -> None:
    for name in ("lstm, 2 layers", "hyperrnn full"):
        assert not any(changes_of(read_strokes(model_of(name)[1], sequences(5))))


# ---------------------------------------------------------------- densities


MEAN, STD = np.array([0.3, -0.1]), np.array([4.0, 2.5])


def raw(points: Tensor) -> np.ndarray:
    return np.column_stack([points[:, :2].numpy() * STD + MEAN, points[:, 2].numpy()])


def test_every_pixel_has_the_integral_of_the_density_over_it() -> None:
    _, target = model_of("lnlstm")
    (points,) = sequences(12)
    outputs = read_strokes(target, [points], keep=[0]).outputs[0][:-1]
    places = positions(raw(points))
    found = density_map(outputs, places, MEAN, STD)
    rows, columns = found.mass.shape
    left, right, bottom, top = found.extent
    assert left < places[:, 0].min() and right > places[:, 0].max() and max(rows, columns) <= WIDEST
    assert top < places[:, 1].min() and bottom > places[:, 1].max(), "y grows downwards"
    x = torch.from_numpy(left + (np.arange(columns) + 0.5) * found.pixel)
    y = torch.from_numpy(top + (np.arange(rows) + 0.5) * found.pixel)
    wanted = np.zeros_like(found.mass)
    for output, (px, py) in zip(outputs, places[:-1], strict=True):
        across = (x[None, :] - px - MEAN[0]) / STD[0]
        down = (y[:, None] - py - MEAN[1]) / STD[1]
        wanted += torch.exp(log_mixture(mixture(output), *torch.broadcast_tensors(across, down))).numpy()
    wanted *= found.pixel**2 / STD.prod()
    assert np.abs(found.mass - wanted).max() < 0.02 * wanted.max()


def test_a_certain_model_shows_the_writing_itself() -> None:
    (points,) = sequences(30)
    outputs = torch.zeros(29, 7, dtype=torch.float64)
    outputs[:, 2], outputs[:, 3] = points[1:, 0], points[1:, 1]  # one Gaussian, its mean the next point
    outputs[:, 4:6] = -8.0
    places = positions(raw(points))
    found = density_map(outputs, places, MEAN, STD)
    assert found.mass.sum() == pytest.approx(29, rel=0.05)
    row, column = np.floor((places[1:] - (found.left, found.top)) / found.pixel).astype(int).T[::-1]
    assert (found.mass[row, column] > 0.2).all() and (found.mass > 0.01).mean() < 0.02


def test_a_broken_model_has_an_empty_map() -> None:
    outputs = torch.full((4, 7), math.nan)
    assert density_map(outputs, positions(raw(sequences(5)[0])), MEAN, STD).mass.sum() == 0


def test_points_that_do_not_move_have_a_map() -> None:
    assert np.isfinite(density_map(torch.zeros(3, 7), np.zeros((4, 2)), MEAN, STD).mass).all()
