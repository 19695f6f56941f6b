"""Runs that read text: hidden activations and gates, and how much the weights change from symbol to symbol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hyperrun.analyze.findings import Findings, Reader, Runs
from hyperrun.analyze.recurrent.character_strip import draw_strip, make_strip, strip_page
from hyperrun.analyze.recurrent.state_pictures import draw_gates, draw_hidden
from hyperrun.analyze.recurrent.states import Histogram, Reading, read_text, recurrent_target
from hyperrun.analyze.recurrent.stroke_states import StrokeReading
from hyperrun.data import load_text
from hyperrun.data.kinds import TextData
from hyperrun.hypernets import as_hypernetized
from hyperrun.load import LoadedRun
from hyperrun.targets.recurrent import RecurrentLM


def is_recurrent(run: LoadedRun) -> bool:
    """Whether the model reads text with layers that can be watched."""
    return isinstance(recurrent_target(run.model), RecurrentLM)


def study_recurrent(runs: Runs, reader: Reader, findings: Findings) -> None:
    """Hidden activations and gates over a held-out text, and how much the weights change at each of its symbols."""
    readings: dict[str, Reading] = {}
    numbers: dict[str, Any] = {}
    for label, run in runs.items():
        target = recurrent_target(run.model)
        assert isinstance(target, RecurrentLM)
        assert run.vocabulary is not None
        ids = held_out(run, reader)
        reading = readings[label] = read_text(target, ids)
        numbers[label] = {
            "text": {"data": run.config.data.name, "split": reader.split, "symbols": reading.symbols},
            "bits_per_symbol": reading.bits,
            "layers": layer_numbers(reading),
            **study_changes(label, run, reading, ids, reader, findings),
        }
    findings.numbers["recurrent"] = numbers
    texts = [found["text"] for found in numbers.values()]
    read = dict.fromkeys(f"{text['data']}, {text['split']} split, {text['symbols']:,} symbols" for text in texts)
    draw_states(readings, "; ".join(read), findings)


def layer_numbers(reading: Reading | StrokeReading) -> list[dict[str, Any]]:
    """Return what analysis.json says of the values in each layer."""
    return [{name: found.numbers() for name, found in layer.items()} for layer in reading.layers]


def draw_states(readings: Mapping[str, Reading | StrokeReading], read: str, findings: Findings) -> None:
    """Add the histograms of hidden activations and gates of models by label, and notes of what is not finite.

    read: what was read. The pictures of texts and of strokes have names of their own where there are both.
    """
    panels: dict[str, dict[str, Histogram]] = {}
    for label, reading in readings.items():
        panels |= {layer_label(label, n, reading): layer for n, layer in enumerate(reading.layers)}
        if any(found.broken for layer in reading.layers for found in layer.values()):
            findings.notes.append(f"{label}: hidden activations or gates that are not finite, which are in no bar")
    ending = "" if "hidden_activations" not in findings.pictures else "_strokes"
    findings.pictures[f"hidden_activations{ending}"] = draw_hidden(panels, read)
    gates = draw_gates(panels, read)
    if gates is not None:
        findings.pictures[f"gates{ending}"] = gates


def study_changes(
    label: str, run: LoadedRun, reading: Reading, ids: Tensor, reader: Reader, findings: Findings
) -> dict[str, Any]:
    """Add the strips of how much one run's weights change; return what analysis.json says of that."""
    assert run.vocabulary is not None
    numbers: dict[str, Any] = {"weight_changes": []}
    for n, changes in enumerate(reading.changes):
        if not changes:
            numbers["weight_changes"].append({})
            continue
        name = layer_label(label, n, reading)
        strip = make_strip(f"{name} reads {run.config.data.name}, {reader.split}", ids, run.vocabulary, changes)
        numbers["weight_changes"].append(strip.numbers)
        numbers["weight_changes_left_out"] = strip.left_out
        findings.pictures[file_name(f"weight_changes-{name}")] = draw_strip(strip)
        findings.pages[file_name(f"weight_changes-{name}")] = strip_page(strip)
    note_unscaled(label, run, reading, findings)
    return numbers


def note_unscaled(label: str, run: LoadedRun, reading: Reading | StrokeReading, findings: Findings) -> None:
    """Note why there are no strips of a dynamic hypernet, where it has no scaling vectors."""
    hyper = as_hypernetized(run.model)
    if hyper is not None and hyper.dynamic and not any(reading.changes):
        findings.notes.append(
            f"{label}: no strip of weight changes: hypernet.form=full mixes whole matrices and has no scaling vectors"
        )


def held_out(run: LoadedRun, reader: Reader) -> Tensor:
    """Return the beginning of the part of the run's text that is to be read, int64 [N].

    Raises:
        UserError: the text is missing, or has other symbols than the run's.
    """
    assert isinstance(run.config.data, TextData) and run.vocabulary is not None
    text = load_text(run.config.data)
    run.vocabulary.check_same(text.vocabulary, f"the run {run.folder.path}", f"data={text.name}")
    return getattr(text, reader.split)[: reader.symbols].long()


def layer_label(label: str, number: int, reading: Reading | StrokeReading) -> str:
    return f"{label}, layer {number + 1}" if len(reading.layers) > 1 else label


def file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in text)
