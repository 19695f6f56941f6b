"""Runs on translation: what translations attend to, saturation in encoder and decoder, and where weights change."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from hyperrun.analyze.findings import Findings, Reader, Runs
from hyperrun.analyze.recurrent.alignment import alignment_picture
from hyperrun.analyze.recurrent.changes import numbers_of, row_name, strength_of
from hyperrun.analyze.recurrent.pair_states import PairReading, read_pairs
from hyperrun.analyze.recurrent.state_pictures import draw_gates, draw_hidden
from hyperrun.analyze.recurrent.text_study import file_name
from hyperrun.data import load_pairs
from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.loader import PairBatch, sources
from hyperrun.data.pairs.pieces import BOS, EOS
from hyperrun.data.pairs.sets import PairSet
from hyperrun.errors import UserError, printable
from hyperrun.hypernets import as_hypernetized
from hyperrun.load import LoadedRun
from hyperrun.pictures.parts import styled
from hyperrun.pictures.style import DPI
from hyperrun.targets.seq2seq import Seq2Seq
from hyperrun.tasks.translating import Translator
from hyperrun.tasks.translation import network_of
from hyperrun.training.precision import Precision

DRAWN = 3
"""Sentences whose attention is drawn."""
TOGETHER = 32
"""Pairs that are read side by side."""
EXACT = Precision("float32", "what is looked at is not rounded", "cpu")


def reads_pairs(run: LoadedRun) -> bool:
    """Whether the model translates."""
    hyper = as_hypernetized(run.model)
    return isinstance(run.model if hyper is None else hyper.target, Seq2Seq)


def study_pairs(runs: Runs, reader: Reader, findings: Findings) -> None:
    """Hidden activations and gates over held-out pairs, what some translations attend to, and how much the weights
    change at each piece."""
    readings: dict[str, PairReading] = {}
    numbers: dict[str, Any] = {}
    for label, run in runs.items():
        pairs = held_out(label, run, reader, findings)
        split = pairs.splits[reader.split]
        count = pairs_of(split.target.lengths.tolist(), reader.symbols)
        batches = [batch_of(pairs, reader.split, range(n, min(n + TOGETHER, count))) for n in range(0, count, TOGETHER)]
        reading = readings[label] = read_pairs(network_of(run.model), batches)
        numbers[label] = {
            "pairs": {
                "data": run.config.data.name,
                "split": reader.split,
                "pairs": count,
                "pieces": reading.pieces,
            },
            "nats_per_piece": reading.nats / reading.pieces,
            "layer_names": reading.names,
            "layers": [{name: found.numbers() for name, found in layer.items()} for layer in reading.layers],
            "weight_changes": [
                {gate: numbers_of(torch.cat(rows)) for gate, rows in changes.items()} for changes in reading.changes
            ],
        }
        draw_attention(label, run, [split.source.texts[n] for n in range(min(DRAWN, count))], findings)
        if any(reading.changes):
            read = [split.source[0].tolist(), split.target[0].tolist()]
            spelled = zip((pairs.source_pieces, pairs.target_pieces), read, strict=True)
            named = [pieces.pieces([*ids, EOS]) for pieces, ids in spelled]
            name = file_name(f"weight_changes-{label}")
            findings.pictures[name] = draw_changes(label, reading, *named)
    findings.numbers["translation"] = numbers
    said = [found["pairs"] for found in numbers.values()]
    read = "; ".join(dict.fromkeys(f"{one['data']}, {one['split']} split, {one['pieces']:,} pieces" for one in said))
    panels = {
        f"{label}, {name}": layer
        for label, reading in readings.items()
        for name, layer in zip(reading.names, reading.layers, strict=True)
    }
    ending = "" if "hidden_activations" not in findings.pictures else "_pairs"
    findings.pictures[f"hidden_activations{ending}"] = draw_hidden(panels, read)
    gates = draw_gates(panels, read)
    if gates is not None:
        findings.pictures[f"gates{ending}"] = gates


def held_out(label: str, run: LoadedRun, reader: Reader, findings: Findings) -> PairSet:
    """Return the run's pairs.

    Raises:
        UserError: they are missing, have no such part, or other pieces than the run.
    """
    assert isinstance(run.config.data, PairData) and run.pieces is not None
    pairs = load_pairs(run.config.data)
    if reader.split not in pairs.splits:
        raise UserError(f"data={pairs.name} has no {reader.split} split, which --split {reader.split} asks for")
    if (pairs.source_pieces, pairs.target_pieces) != (run.pieces.source, run.pieces.target):
        raise UserError(f"data={pairs.name} has other pieces of words than the run {run.folder.path}")
    if run.summary.get("data/fingerprint", pairs.fingerprint) != pairs.fingerprint:
        findings.notes.append(f"{label}: data={pairs.name} has changed since this run was trained")
    return pairs


def pairs_of(lengths: list[int], pieces: int) -> int:
    """Return how many pairs from the first on have so many target pieces together; all where there are fewer."""
    total = 0
    for n, length in enumerate(lengths):
        total += length + 1
        if total >= pieces:
            return n + 1
    return len(lengths)


def batch_of(pairs: PairSet, split: str, numbers: range) -> PairBatch:
    """Return some pairs of a split, padded, on the CPU."""
    part, cpu = pairs.splits[split], torch.device("cpu")
    read, read_lengths = sources([part.source[n].tolist() for n in numbers], cpu)
    written, written_lengths = sources([part.target[n].tolist() for n in numbers], cpu)
    begun = torch.cat([torch.full((len(written), 1), BOS), written], 1)
    return PairBatch(read, read_lengths, begun, written_lengths)


def draw_attention(label: str, run: LoadedRun, texts: list[str], findings: Findings) -> None:
    """Add a picture of what the best translation of each sentence attends to."""
    data = run.config.data
    assert isinstance(data, PairData) and run.pieces is not None
    translator = Translator(run.model, run.pieces, EXACT, beam=data.beam, alpha=data.alpha, beta=data.beta)
    for n, text in enumerate(texts):
        try:
            picture = alignment_picture(translator.alignment(text))
        except UserError as error:
            findings.notes.append(f"{label}: no picture of attention for sentence {n + 1}: {error}")
            continue
        findings.pictures[file_name(f"attention-{label}-{n + 1}")] = picture


@styled
def draw_changes(label: str, reading: PairReading, source: list[str], target: list[str]) -> Picture:
    """Return how much the matrices of each layer change at each piece of the first pair: rows of squares, white where
    they stay as they are, and dark from the 99th percentile of all pairs on."""
    sides = (("encoder", "source", source), ("decoder", "target", target))
    rows = []
    for side, _, _ in sides:
        mine = [n for n, name in enumerate(reading.names) if name.startswith(side)]
        rows.append([(n, gate) for n in mine for gate in reading.changes[n]])
    width = 3.4 + 0.24 * max(len(source), len(target))
    heights = [max(1, len(part)) for part in rows]
    figure = Picture(figsize=(width, 2.2 + 0.22 * sum(heights)), dpi=DPI, layout="compressed")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 1, height_ratios=heights)
    for panel, (side, what, pieces), part in zip(panels, sides, rows, strict=True):
        panel.grid(False)
        panel.tick_params(length=0)
        panel.set_title(f"{label}: {side}, at each piece of the {what}", loc="left")
        panel.set_xticks(range(len(pieces)), [printable(piece) for piece in pieces], rotation=90, parse_math=False)
        names = [f"{reading.names[n].removeprefix(f'{side}.layers.')}: {row_name(gate)}" for n, gate in part]
        panel.set_yticks(range(len(part)), names, parse_math=False)
        if not part:
            panel.set_xlabel("no layer here has a hypernet")
            continue
        strengths = []
        for n, gate in part:
            changes = reading.changes[n][gate]
            strengths.append(strength_of(changes[0], numbers_of(torch.cat(changes))["full"]))
        squares = torch.stack(strengths).numpy()
        panel.imshow(squares, vmin=0, vmax=1, cmap="Oranges", interpolation="nearest", aspect="auto")
    return figure
