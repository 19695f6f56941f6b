"""What the recurrent layers of a translation network do while it reads pairs: hidden activations, gates, changes of
weights. The layers are watched as the network calls them, and each call is done again by readable single steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.analyze.recurrent.states import Counted, Histogram, layer_steps
from hyperrun.hypernets.hyper_layers import HyperLSTMLayer
from hyperrun.targets.recurrent import LSTMLayer
from hyperrun.targets.seq2seq import Seq2Seq, reverse_within


@dataclass
class PairReading:
    """What a network did over pairs, with the right translation given to its decoder."""

    names: list[str] = field(default_factory=list)
    """Of the layers: encoder.layers.0.left_to_right, ..., decoder.layers.0, ..."""
    pieces: int = 0
    """Predicted pieces, of all pairs together."""
    nats: float = 0.0
    """Of these, summed."""
    layers: list[dict[str, Histogram]] = field(default_factory=list)
    """For each layer name (as in LayerSteps.values) -> histogram over all units, pieces and pairs."""
    changes: list[dict[str, list[Tensor]]] = field(default_factory=list)
    """For each layer gate -> of each pair ||d_h(t) - d_h(t-1)||_2 [n] in the order of the pieces, 0 at the first that
    the layer reads; empty where weights do not change."""


def watched_layers(network: Seq2Seq) -> dict[str, nn.Module]:
    """Return the network's recurrent layers by name, without the cells of its hypernets."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, LSTMLayer | HyperLSTMLayer) and not inside:
            found[name] = module
    return found


@torch.no_grad()
def read_pairs(network: Seq2Seq, batches: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]]) -> PairReading:
    """Let a network, in eval mode, read batches of pairs (see PairBatch) and return what it did."""
    layers = watched_layers(network)
    counted, reading = Counted(len(layers)), PairReading(list(layers))
    reading.changes = [{} for _ in layers]
    for source, source_lengths, target, target_lengths in batches:
        seen: dict[str, list[Tensor]] = {name: [] for name in layers}
        handles = [layer.register_forward_pre_hook(partial(remember, seen[name])) for name, layer in layers.items()]
        try:
            logits = network(source, source_lengths, target[:, :-1], target_lengths)
        finally:
            for handle in handles:
                handle.remove()
        there = torch.arange(logits.shape[1]) < target_lengths[:, None]
        reading.nats += float(F.cross_entropy(logits[there].float(), target[:, 1:][there], reduction="sum"))
        reading.pieces += int(there.sum())
        for n, (name, layer) in enumerate(layers.items()):
            lengths = source_lengths if name.startswith("encoder.") else target_lengths
            x = torch.cat(seen[name])[:, : len(lengths)]  # of a bottom layer that takes single steps, many calls
            _, _, steps = layer_steps(layer, x, None)
            only = Counted(1)
            only.histograms = counted.histograms[n : n + 1]
            only.add([steps], torch.arange(len(x))[:, None] < lengths)
            for gate, rows in only.take_changes()[0].items():
                if name.endswith("right_to_left"):
                    rows = reverse_within(rows, lengths)
                cut = [row[:length] for row, length in zip(rows.unbind(1), lengths.tolist(), strict=True)]
                reading.changes[n].setdefault(gate, []).extend(cut)
    reading.layers = counted.histograms
    return reading


def remember(kept: list[Tensor], layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    kept.append(inputs[0].float())
