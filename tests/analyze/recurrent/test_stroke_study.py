"""Pictures, pages and numbers of models of pen strokes: what stands in them, and that nothing of it is cut off."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperrun.analyze.findings import Findings, Reader
from hyperrun.analyze.recurrent import stroke_study
from hyperrun.analyze.recurrent.pen_strip import COLD, cold, make_pen_strip, pen_page
from hyperrun.analyze.recurrent.stroke_samples import last_changes, write_samples
from hyperrun.analyze.recurrent.stroke_study import held_out, reads_strokes, study_strokes
from hyperrun.analyze.recurrent.text_study import is_recurrent
from hyperrun.data.strokes.sets import RawStrokes, StrokeSet, make_strokes
from hyperrun.errors import UserError
from hyperrun.inputs import Strokes
from hyperrun.load import LoadedRun
from hyperrun.models import build_model
from hyperrun.runs.folder import RunFolder
from hyperrun.tasks.stroke_modeling import StrokeScale
from tests.composed import compose_config
from tests.hypernets.test_dynamic import randomize
from tests.pictures import texts_outside

SMALL = ("data=font_strokes", "target.hidden_size=6", "target.mixtures=3")
HYPER = (*SMALL, "hypernet.hyper_size=5", "hypernet.z_dim=2", "hypernet.fast=never")


def made_up_set(test: bool = True, wide: float = 1.0) -> StrokeSet:
    config = compose_config(["data=font_strokes"]).data
    rng = np.random.default_rng(0)

    def split(name: str, count: int) -> RawStrokes:
        lengths = rng.integers(12, 30, count)
        points = rng.normal(size=(lengths.sum(), 3)) * [3, 2, 1] + [wide, 0, 0]
        points[:, 2] = rng.random(len(points)) < 0.2
        texts = ["$a_{0}$ <b> " * 8, *(f"word {n}" for n in range(1, count))]
        return RawStrokes(points, np.concatenate([[0], lengths.cumsum()]), name, texts, texts)

    splits = {"train": split("train", 8), "val": split("val", 20)} | ({"test": split("test", 3)} if test else {})
    return make_strokes("font_strokes", config, **splits)  # type: ignore[arg-type]


def loaded(strokes: StrokeSet, *line: str) -> LoadedRun:
    config = compose_config(list(line))
    torch.manual_seed(0)
    model = build_model(config, Strokes()).eval()
    randomize(model)
    scale = StrokeScale(strokes.mean, strokes.std, strokes.mean_predicted)
    said = {"data/fingerprint": strokes.fingerprint}
    return LoadedRun(model, config, said, None, RunFolder(Path("nowhere")), "best", None, Strokes(), 1, scale)


@pytest.fixture
def strokes(monkeypatch: pytest.MonkeyPatch) -> StrokeSet:
    found = made_up_set()
    monkeypatch.setattr(stroke_study, "load_strokes", lambda config: found)
    monkeypatch.setattr(stroke_study, "EXPECTED", 2)  # drawing takes most of the time
    return found


def test_models_side_by_side(strokes: StrokeSet) -> None:
    runs = {
        "lstm": loaded(strokes, "model=lstm", *SMALL),
        "lnhyperlstm": loaded(strokes, "model=lnhyperlstm", *HYPER, "target.layers=2"),
    }
    assert all(reads_strokes(run) and not is_recurrent(run) for run in runs.values())
    findings = Findings()
    study_strokes(runs, Reader("val", 150), findings)
    strips = {f"weight_changes-lnhyperlstm__layer_{n}" for n in (1, 2)}
    densities = {f"next_point-{label}" for label in runs}
    assert set(findings.pictures) == {"hidden_activations", "gates", *strips, *densities}
    assert set(findings.pages) == strips
    assert texts_outside(findings.pictures["next_point-lstm"]) == []
    assert texts_outside(findings.pictures["weight_changes-lnhyperlstm__layer_1"]) == []
    found = findings.numbers["strokes"]
    assert list(found) == list(runs)
    read = found["lstm"]["strokes"]
    lengths = strokes.val.lengths.tolist()
    count = read["sequences"]
    assert read == {"data": "font_strokes", "split": "val", "sequences": count, "points": sum(lengths[:count])}
    assert sum(lengths[: count - 1]) < 150 <= read["points"], "whole sequences"
    for one in found.values():
        predicted = read["points"] - count
        assert one["nats"] * count == pytest.approx(one["nats_per_point"] * predicted) and math.isfinite(one["nats"])
    assert found["lstm"]["weight_changes"] == [{}]
    first, second = found["lnhyperlstm"]["weight_changes"]
    assert set(first) == set(second) == set("igfo")
    assert all(0 < gate["mean"] <= gate["full"] <= gate["max"] for gate in first.values())
    assert findings.notes == []


def test_a_form_without_strips_is_said(strokes: StrokeSet) -> None:
    findings = Findings()
    study_strokes({"rnn": loaded(strokes, "model=hyperrnn", *HYPER, "hypernet.form=full")}, Reader("val", 2), findings)
    assert [note.partition(": hyper")[0] for note in findings.notes] == ["rnn: no strip of weight changes"]
    assert findings.numbers["strokes"]["rnn"]["weight_changes"] == [{}] and findings.pages == {}


def test_pictures_of_texts_are_not_replaced(strokes: StrokeSet) -> None:
    findings = Findings(pictures={"hidden_activations": None, "gates": None})  # type: ignore[dict-item]
    study_strokes({"lstm": loaded(strokes, "model=lstm", *SMALL)}, Reader("val", 20), findings)
    assert findings.pictures["hidden_activations"] is None and "hidden_activations_strokes" in findings.pictures


def test_a_model_whose_outputs_are_not_finite_is_said(strokes: StrokeSet) -> None:
    run = loaded(strokes, "model=hyperlstm", *HYPER)
    for parameter in run.model.parameters():
        parameter.data.fill_(math.nan)
    findings = Findings()
    study_strokes({"hyperlstm": run}, Reader("val", 40), findings)
    assert any("not finite" in note for note in findings.notes)
    assert "W_h of i: not finite" in findings.pages["weight_changes-hyperlstm"]


def test_what_is_read(strokes: StrokeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    run, findings = loaded(strokes, "model=lstm", *SMALL), Findings()
    sequences, texts = held_out("lstm", run, Reader("val", 2), findings)
    assert len(sequences) == 1 and torch.equal(sequences[0], strokes.val[0])
    assert texts[0].endswith("...") and len(texts[0]) == stroke_study.LONGEST_TEXT
    assert len(held_out("lstm", run, Reader("test", 10**9), findings)[0]) == 3
    assert findings.notes == []
    other = made_up_set(test=False, wide=2.0)
    monkeypatch.setattr(stroke_study, "load_strokes", lambda config: other)
    held_out("lstm", run, Reader("val", 2), findings)
    assert findings.notes == ["lstm: data=font_strokes has changed since this run was trained"]
    with pytest.raises(UserError, match="data=font_strokes has no test split"):
        held_out("lstm", run, Reader("test", 2), findings)


# ---------------------------------------------------------------- samples


@pytest.mark.parametrize(
    ("layers", "only", "said"),
    [(1, "", None), (2, "", "layer 2 of 2"), (3, "hypernet.include=[layers.1]", "layer 2 of 3")],
)
def test_a_sample_says_which_layer_its_strips_are_of(
    strokes: StrokeSet, tmp_path: Path, layers: int, only: str, said: str | None
) -> None:
    run = loaded(strokes, "model=hyperlstm", *HYPER, f"target.layers={layers}", *filter(None, [only]))
    drawn = [torch.randn(5, 3), torch.randn(5, 3)]
    write_samples(run, drawn, "drawn", tmp_path / "a.png", svg=True)
    title = f"drawn; strips of {said}" if said else "drawn"
    assert f"<title>{title}</title>" in (tmp_path / "a.svg").read_text()
    _, changes = last_changes(run, drawn)
    assert [len(values) for values in changes["i"]] == [5, 5]


# ---------------------------------------------------------------- strips


def lines(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.column_stack([rng.normal(1, 2, n), rng.normal(0, 2, n), rng.random(n) < 0.2]) for n in lengths]


def test_the_numbers_of_a_strip_leave_out_the_cold_beginning() -> None:
    assert [cold(n) for n in (1, 5, 40, 1000)] == [1, 1, 10, COLD]
    changes = {"h": [torch.arange(40.0), torch.arange(200.0)]}
    strip = make_pen_strip("a model", lines(200), ["one"], changes, shown=[1])
    counted = torch.cat([torch.arange(10.0, 40), torch.arange(COLD, 200.0)])
    assert strip.count == len(counted)
    assert strip.numbers["h"]["mean"] == pytest.approx(counted.mean().item())
    assert strip.numbers["h"]["full"] == pytest.approx(counted.quantile(0.99).item())
    ((rows, said),) = [strip.strip(n) for n in range(len(strip.points))]
    assert rows["h"][-1] == 1 and rows["h"][100] == pytest.approx(100 / strip.numbers["h"]["full"])
    assert said[100] == "point 101: h 100" and len(said) == 200


def test_the_page_is_escaped_complete_and_needs_no_network() -> None:
    changes = {gate: [torch.rand(60), torch.rand(30)] for gate in "igfo"}
    strip = make_pen_strip("a <model>", lines(60, 30), ["<1> & ", "2"], changes)
    page = pen_page(strip)
    assert "<h1>a &lt;model&gt;</h1>" in page and "&lt;1&gt; &amp; " in page
    assert "default-src 'none'" in page and not re.search(r"<script|src=|url\(|href", page)
    shown = [html.unescape(title) for title in re.findall(r"<title>(point[^<]*)</title>", page)]
    assert len(shown) == 90 and shown[61].startswith(f"point 2: i {changes['i'][1][1]:.3g}, g ")
    for gate, found in strip.numbers.items():
        assert f"W_h of {gate}: full colour from {found['full']:.3g} (mean {found['mean']:.3g}" in page
    assert strip.scales_explained() in page


def test_lines_without_changes_have_no_strip_and_no_word_of_one() -> None:
    strip = make_pen_strip("a model", lines(30), ["1"], {})
    sheet = strip.sheet()
    assert not sheet.hits and [word.text for word in sheet.words] == [
        "a model",
        "from the first point to the last",
        "1",
    ]
