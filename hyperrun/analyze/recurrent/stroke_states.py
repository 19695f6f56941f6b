"""What a recurrent network does while it reads pen strokes: hidden activations, gates, changes of weights, and what it
expects of each next point."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hyperrun.analyze.recurrent.states import CHUNK, Counted, Histogram, watched
from hyperrun.targets.recurrent import RecurrentStrokes
from hyperrun.tasks.mixture_density import negative_log_density

TOGETHER = 16
"""Sequences that are read side by side."""


@dataclass
class StrokeReading:
    """What a model did over sequences of points, each read from the state of an empty page."""

    points: int = 0
    """Points read, of all sequences together."""
    nats: list[float] = field(default_factory=list)
    """Of each sequence: minus the log density of its points but the first, summed."""
    layers: list[dict[str, Histogram]] = field(default_factory=list)
    """For each layer name (as in LayerSteps.values) -> histogram over all units, points and sequences."""
    changes: list[dict[str, list[Tensor]]] = field(default_factory=list)
    """For each layer gate -> of each sequence ||d_h(t) - d_h(t-1)||_2 [n], 0 at its first point; empty where weights do
    not change."""
    outputs: dict[int, Tensor] = field(default_factory=dict)
    """Number of a sequence -> what the network gives after each point, the parameters of the density of the next one,
    [n, 6 * mixtures + 1]; of those that are kept."""

    @property
    def predicted(self) -> int:
        """Points that the model had to predict."""
        return self.points - len(self.nats)


def read_strokes(model: RecurrentStrokes, sequences: Sequence[Tensor], keep: Collection[int] = ()) -> StrokeReading:
    """Let a model read sequences float32 [n, 3], normalized as in training, and return what it did.

    model: in eval mode. keep: numbers of the sequences whose outputs are kept.

    Raises:
        UserError: a layer of a kind that hyperrun did not make.
    """
    counted, reading = Counted(len(model.layers)), StrokeReading()
    reading.changes = [{} for _ in model.layers]
    for first in range(0, len(sequences), TOGETHER):
        some = sequences[first : first + TOGETHER]
        lengths = [len(points) for points in some]
        padded = pad_sequence(list(some))
        there = torch.arange(len(padded), device=padded.device)[:, None] < torch.tensor(lengths, device=padded.device)
        nats, at = torch.zeros(len(some), dtype=torch.float64), 0
        wanted = [n for n in range(len(some)) if first + n in keep]
        kept: list[Tensor] = []
        for outputs, layers in watched(model, padded.split(CHUNK)):
            counted.add(layers, there[at : at + len(outputs)])
            targets, real = (whole[at + 1 : at + 1 + len(outputs)] for whole in (padded, there))
            found = negative_log_density(outputs[: len(targets)], targets).double()
            nats += torch.where(real, found, 0).sum(0).cpu()
            kept.append(outputs[:, wanted])
            at += len(outputs)
        reading.points += sum(lengths)
        reading.nats += nats.tolist()
        for n, row in zip(wanted, torch.cat(kept).unbind(1), strict=True):
            reading.outputs[first + n] = row[: lengths[n]]
        for layer, mine in zip(counted.take_changes(), reading.changes, strict=True):
            for gate, values in layer.items():
                mine.setdefault(gate, []).extend(row[:n] for row, n in zip(values.unbind(1), lengths, strict=True))
    reading.layers = counted.histograms
    return reading
