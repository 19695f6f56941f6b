"""Runs that read pen strokes: hidden activations and gates, what is expected of each next point, and how much the
weights change along a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperrun.analyze.findings import Findings, Reader, Runs
from hyperrun.analyze.recurrent.density_map import density_map
from hyperrun.analyze.recurrent.density_pictures import Expected, draw_expected
from hyperrun.analyze.recurrent.pen_strip import make_pen_strip, pen_page
from hyperrun.analyze.recurrent.states import recurrent_target
from hyperrun.analyze.recurrent.stroke_states import StrokeReading, read_strokes
from hyperrun.analyze.recurrent.text_study import draw_states, file_name, layer_label, layer_numbers, note_unscaled
from hyperrun.data import load_strokes
from hyperrun.data.kinds import StrokeData
from hyperrun.errors import UserError, printable
from hyperrun.load import LoadedRun
from hyperrun.pictures.pen import positions
from hyperrun.pictures.style import spread
from hyperrun.targets.recurrent import RecurrentStrokes

DRAWN = 8
"""Sequences that are drawn with strips."""
EXPECTED = 4
"""Sequences of which is drawn where each point was expected."""
LONGEST_TEXT = 60
"""Characters of what is written in a sequence that its label shows."""


def reads_strokes(run: LoadedRun) -> bool:
    """Whether the model reads pen strokes with layers that can be watched."""
    return isinstance(recurrent_target(run.model), RecurrentStrokes)


def study_strokes(runs: Runs, reader: Reader, findings: Findings) -> None:
    """Hidden activations and gates over held-out sequences, where their points were expected, and how much the weights
    change at each of them."""
    readings: dict[str, StrokeReading] = {}
    numbers: dict[str, Any] = {}
    for label, run in runs.items():
        target = recurrent_target(run.model)
        assert isinstance(target, RecurrentStrokes)
        sequences, texts = held_out(label, run, reader, findings)
        reading = readings[label] = read_strokes(target, sequences, spread(list(range(len(sequences))), EXPECTED))
        numbers[label] = {
            "strokes": {
                "data": run.config.data.name,
                "split": reader.split,
                "sequences": len(sequences),
                "points": reading.points,
            },
            "nats_per_point": sum(reading.nats) / reading.predicted,
            "nats": sum(reading.nats) / len(sequences),
            "layers": layer_numbers(reading),
        }
        labels = [
            f"{text or f'sequence {n + 1}'}: {len(points):,} points, {nats:.1f} nats"
            for n, (text, points, nats) in enumerate(zip(texts, sequences, reading.nats, strict=True))
        ]
        draw_densities(label, run, sequences, labels, reading, reader, findings)
        numbers[label]["weight_changes"] = draw_changes(label, run, sequences, labels, reading, reader, findings)
    findings.numbers["strokes"] = numbers
    said = [found["strokes"] for found in numbers.values()]
    read = dict.fromkeys(f"{one['data']}, {one['split']} split, {one['points']:,} points" for one in said)
    draw_states(readings, "; ".join(read), findings)


def draw_densities(
    label: str, run: LoadedRun, sequences: list[Tensor], labels: list[str], reading: StrokeReading, reader: Reader,
    findings: Findings,
) -> None:  # fmt: skip
    """Add the picture of where the points of some sequences were expected."""
    assert run.scale is not None
    expected = []
    for n, outputs in reading.outputs.items():
        points = run.scale.raw(sequences[n]).numpy()
        density = density_map(outputs[:-1], positions(points), run.scale.mean.numpy(), run.scale.std.numpy())
        pen = torch.sigmoid(outputs[:-1, 0].float()).cpu().numpy()
        expected.append(Expected(labels[n], points, density, pen))
    name = f"next_point-{label}"
    findings.pictures[file_name(name)] = draw_expected(
        f"{label} reads {run.config.data.name}, {reader.split}", expected
    )


def draw_changes(
    label: str, run: LoadedRun, sequences: list[Tensor], labels: list[str], reading: StrokeReading, reader: Reader,
    findings: Findings,
) -> list[dict[str, dict[str, float]]]:  # fmt: skip
    """Add some sequences with strips of how much a run's weights change; return what analysis.json says of each
    layer."""
    assert run.scale is not None
    shown = spread(list(range(len(sequences))), DRAWN)
    drawn = [run.scale.raw(sequences[n]).numpy() for n in shown]
    numbers: list[dict[str, dict[str, float]]] = []
    for n, changes in enumerate(reading.changes):
        numbers.append({})
        if changes:
            name = layer_label(label, n, reading)
            title = f"{name} reads {run.config.data.name}, {reader.split}"
            strip = make_pen_strip(title, drawn, [labels[n] for n in shown], changes, shown)
            numbers[-1] = {gate: dict(found) for gate, found in strip.numbers.items()}
            findings.pictures[file_name(f"weight_changes-{name}")] = strip.sheet().figure()
            findings.pages[file_name(f"weight_changes-{name}")] = pen_page(strip)
    note_unscaled(label, run, reading, findings)
    return numbers


def held_out(label: str, run: LoadedRun, reader: Reader, findings: Findings) -> tuple[list[Tensor], list[str]]:
    """Return the first sequences of the part of the run's strokes that is to be read, float32 [n, 3], as many whole
    ones as it takes to have so many points; and what is written in each, "" where that is not known.

    Raises:
        UserError: the strokes are missing, or have no such part.
    """
    assert isinstance(run.config.data, StrokeData)
    strokes = load_strokes(run.config.data)
    split = strokes.splits.get(reader.split)
    if split is None:
        raise UserError(f"data={strokes.name} has no {reader.split} split, which --split {reader.split} asks for")
    if run.summary.get("data/fingerprint", strokes.fingerprint) != strokes.fingerprint:
        findings.notes.append(f"{label}: data={strokes.name} has changed since this run was trained")
    ends = np.cumsum(split.lengths.numpy())
    count = min(len(split), 1 + int(np.searchsorted(ends, reader.symbols)))
    texts = [shortened(printable(text)) for text in split.texts[:count]] or [""] * count
    return [split[i] for i in range(count)], texts


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
