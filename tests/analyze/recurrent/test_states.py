"""What is recorded of a recurrent model is what the model computes, and counted right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun import hypernetize
from hyperrun.analyze.recurrent.state_pictures import draw_gates, draw_hidden
from hyperrun.analyze.recurrent.states import GATES, SATURATED, Histogram, read_text, recorded_steps, recurrent_target
from hyperrun.pictures.style import picture
from hyperrun.targets.cnn import CNN
from hyperrun.targets.recurrent import RecurrentLM
from tests import reference_cells
from tests.hypernets.test_dynamic import model_of, randomize
from tests.pictures import texts_outside

SIZE = ("target.hidden_size=6",)
HYPER = (*SIZE, "hypernet.hyper_size=5", "hypernet.z_dim=2", "hypernet.fast=never")
MODELS = {
    "rnn": ("model=rnn", *SIZE),
    "lstm": ("model=lstm", *SIZE),
    "lnlstm": ("model=lnlstm", *SIZE, "target.embedding=4"),
    "lstm, 2 layers": ("model=lstm", *SIZE, "target.layers=2"),
    "hyperrnn": ("model=hyperrnn", *HYPER),
    "hyperrnn full": ("model=hyperrnn", *HYPER, "hypernet.form=full"),
    "hyperlstm": ("model=hyperlstm", *HYPER),
    "hyperlstm previous": ("model=hyperlstm", *HYPER, "hypernet.z_from=previous"),
    "lnhyperlstm, 2 layers": ("model=lnhyperlstm", *HYPER, "target.layers=2"),
}


def model_and_text(name: str, length: int = 23) -> tuple[nn.Module, RecurrentLM, Tensor]:
    torch.manual_seed(0)
    model = model_of(*MODELS[name]).double().eval()
    randomize(model)
    target = recurrent_target(model)
    assert isinstance(target, RecurrentLM)
    return model, target, torch.randint(7, (length,))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [5, 128])
def test_the_logits_are_the_models_own(name: str, chunk: int) -> None:
    model, target, ids = model_and_text(name)
    with torch.no_grad():
        logits, _ = model(ids[None])
    mine = torch.cat([part for part, _ in recorded_steps(target, ids, chunk)])
    torch.testing.assert_close(mine, logits[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "lnlstm", "hyperlstm"])
def test_gates_and_cells_are_those_of_the_equations(name: str) -> None:
    """h_t = o hidden, c_t = f c_{t-1} + i g, and in a layer-norm LSTM hidden = tanh(LN(c_t)), cell = tanh(c_t)."""
    _, target, ids = model_and_text(name)
    ((_, (steps,)),) = recorded_steps(target, ids)
    values = steps.values
    c, cells = torch.zeros(6, dtype=torch.float64), []
    for t in range(len(ids)):
        c = values["f"][t] * c + values["i"][t] * values["g"][t]
        cells.append(c)
    cells = torch.stack(cells)
    norm = target.layers[0].norm
    assert ("cell" in values) == (norm is not None)
    shown = values.get("cell", values["hidden"])
    torch.testing.assert_close(shown, cells.tanh())
    if norm is not None:
        normed = [reference_cells.layer_norm(c, norm.cell_gain, norm.cell_shift) for c in cells]
        torch.testing.assert_close(values["hidden"], torch.stack(normed).tanh())
    x = target.embed(ids[:, None])
    with torch.no_grad():
        outputs, _ = target.layers[0](x)
    torch.testing.assert_close(values["o"] * values["hidden"], outputs[:, 0])
    assert all(((0 < values[gate]) & (values[gate] < 1)).all() for gate in "ifo") and (values["g"] < 0).any()


def test_the_changes_are_those_of_the_scaling_vectors() -> None:
    model, target, ids = model_and_text("lnhyperlstm, 2 layers")
    reading = read_text(target, ids)
    assert len(reading.changes) == 2 and list(reading.changes[0]) == list(GATES)
    layer = target.layers[0]
    x, state, d = target.embed(ids[:, None]), None, []
    state = layer.zero_state(x)
    with torch.no_grad():
        for x_t in x:
            state = layer.step(x_t, state, None, None)
            d.append(layer.hypernet.scales(state[2])[0, 0])  # z_from=new: from the hyper cell's output after the step
    d = torch.stack(d).view(len(ids), 4, 6)
    for n, gate in enumerate(GATES):
        wanted = [0.0, *((d[t, n] - d[t - 1, n]).norm().item() for t in range(1, len(ids)))]
        assert reading.changes[0][gate].tolist() == pytest.approx(wanted, abs=1e-12)


def test_the_changes_go_on_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    _, target, ids = model_and_text("hyperrnn")
    whole = read_text(target, ids)
    monkeypatch.setattr("hyperrun.analyze.recurrent.states.recorded_steps", lambda m, i: recorded_steps(m, i, 4))
    parts = read_text(target, ids)
    torch.testing.assert_close(parts.changes, whole.changes)
    assert parts.bits == pytest.approx(whole.bits)
    assert torch.equal(parts.layers[0]["hidden"].counts, whole.layers[0]["hidden"].counts)
    assert list(whole.changes[0]) == ["h"]


def test_bits_are_those_of_the_models_predictions() -> None:
    model, target, ids = model_and_text("lstm")
    with torch.no_grad():
        nats = F.cross_entropy(model(ids[None])[0][0, :-1], ids[1:])
    assert read_text(target, ids).bits == pytest.approx(nats.item() / math.log(2), rel=1e-6)


def test_models_whose_weights_never_change_have_no_changes() -> None:
    _, target, ids = model_and_text("lstm, 2 layers")
    assert read_text(target, ids).changes == [{}, {}]


def test_a_histogram_counts_and_its_area_is_one() -> None:
    tanh = Histogram(-1, 1)
    tanh.add(torch.tensor([-1.0, -0.951, -0.949, 0.0, 0.3, 0.949, 0.951, 1.0]))
    assert (tanh.total, tanh.below, tanh.above) == (8, 2, 2) and tanh.saturated == 0.5
    edges, density = tanh.density()
    assert float((density * edges.diff()).sum()) == pytest.approx(1.0)
    assert edges.sub(SATURATED).abs().min() < 1e-6, "no bin is half saturated"
    gate = Histogram(0, 1)
    gate.add(torch.tensor([0.01, 0.049, 0.051, 0.5, 0.96]))
    assert gate.numbers() == {"saturated": 0.6, "below": 0.4, "above": 0.2}


def test_values_that_are_not_finite_are_counted_and_in_no_bin() -> None:
    found = Histogram(-1, 1)
    found.add(torch.tensor([math.nan, 0.0, 0.96, math.nan, math.inf]))
    assert found.counts.sum() == 2 and found.broken == 3
    assert found.numbers() == {"saturated": 0.5, "below": 0.0, "above": 0.5, "not_finite": 0.6}
    edges, density = found.density()
    assert float((density * edges.diff()).sum()) == pytest.approx(1.0)


def histograms(value: float, count: int = 4) -> dict[str, Histogram]:
    made = {name: Histogram(-1 if name in ("hidden", "g") else 0, 1) for name in ("hidden", *GATES)}
    for histogram in made.values():
        histogram.add(torch.tensor([0.3, -0.99 if histogram.low < 0 else 0.01, *[value] * count]))
    return made


def test_the_gates_hatching_is_explained() -> None:
    figure = draw_gates({"a model with settings=0.001 other=value, layer 1": histograms(0.97), "b": histograms(0.5)})
    assert figure is not None
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "saturated: below 0.05 or above 0.95, of the candidate beyond ±0.95"
    ]
    titles = [panel.get_title("left").split("\n")[-1] for panel in figure.axes]
    assert titles[:2] == ["83.3% below 0.05 or above 0.95", "83.3% beyond ±0.95"]
    assert texts_outside(figure) == []


def test_a_cell_that_is_more_saturated_than_what_is_let_through_fits_in() -> None:
    values = histograms(0.0, 30)
    values["cell"] = Histogram(-1, 1)
    values["cell"].add(torch.full((9,), 0.99))
    (panel,) = draw_hidden({"lnlstm": values}).axes
    highest = max(values["cell"].density()[1])
    assert panel.get_ylim()[0] == 0 and panel.get_ylim()[1] > 1.1 * highest


def test_pictures_of_states_that_are_not_finite_say_so() -> None:
    broken = {"half": histograms(math.nan, 2), "all": {n: Histogram(0, 1) for n in ("hidden", *GATES)}}
    for histogram in broken["all"].values():
        histogram.add(torch.full((3,), math.nan))
    for figure in (draw_hidden(broken), draw_gates(broken)):
        assert figure is not None
        said = [panel.get_title("left") for panel in figure.axes]
        assert said[0].endswith("\n50.0% not finite") and said[-1].endswith("not finite") and "nan" not in said[-1]
        assert picture(figure, "png").startswith(b"\x89PNG")


def test_a_recurrent_target_with_generated_weights_is_read_as_a_plain_one() -> None:
    torch.manual_seed(0)
    plain = model_of("model=lstm", *SIZE)
    model = hypernetize(plain, "chunked", generate="layers.*", z_dim=2, hidden=[4], chunk_size=16).eval()
    target, ids = recurrent_target(model), torch.randint(7, (9,))
    assert isinstance(target, RecurrentLM)
    with torch.no_grad():
        logits, _ = model(ids[None])
    torch.testing.assert_close(torch.cat([part for part, _ in recorded_steps(target, ids)]), logits[0])
    assert recurrent_target(CNN(1, 10, 8)) is None
