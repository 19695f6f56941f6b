"""What a recurrent network does while it reads: hidden activations, gates, and how much its weights change.

The steps here are the layers' own readable ones (`gate_sums`, `gate_values`, `hidden_activation`), so that what is
recorded is what the model computes: in eval mode, float32, one text from its beginning with the state carried along.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.errors import UserError
from hyperrun.hypernets import as_hypernetized, materialize
from hyperrun.hypernets.hyper_layers import HyperLSTMLayer, HyperRNNLayer
from hyperrun.targets.recurrent import (
    LSTMLayer,
    RecurrentLM,
    RecurrentNetwork,
    RNNLayer,
    State,
    gate_values,
    hidden_activation,
)

GATES: tuple[str, ...] = ("i", "g", "f", "o")
"""In the order of the author's code; g is the candidate, behind a tanh, the others are behind a sigmoid."""

SATURATED = 0.95
"""A tanh counts as saturated beyond this in absolute value; a gate above this or below 1 - this."""

BINS = 80
"""Of every histogram, over [-1, 1] or [0, 1]: edges of bins are at SATURATED and 1 - SATURATED, too."""

CHUNK = 128
"""Steps whose values are kept before they are counted."""

# ---------------------------------------------------------------- step by step


@dataclass(frozen=True)
class LayerSteps:
    """What one layer did in T steps of B sequences."""

    values: dict[str, Tensor]
    """name -> [T, B, H] (of one text: [T, H]). LSTM: hidden (what the output gate lets through: tanh(c_t), with layer
    norm tanh(LN(c_t))), cell (tanh(c_t); only where layer norm makes it another), i, g, f, o after their
    nonlinearities. RNN: hidden (h_t)."""
    scales: dict[str, Tensor]
    """Gate -> scaling vectors d_h(t), as large, of W_h of a HyperLSTM ("h": of a HyperRNN's one matrix, in its scaled
    form); empty for others."""

    def of_one(self) -> LayerSteps:
        """Return what it did in the first sequence, [T, H]."""
        parts = ({name: rows[:, 0] for name, rows in kept.items()} for kept in (self.values, self.scales))
        return LayerSteps(*parts)


def recurrent_target(model: nn.Module) -> RecurrentNetwork | None:
    """Return the recurrent network whose layers can be watched, or None for a model of another kind."""
    hyper = as_hypernetized(model)
    target = model if hyper is None else hyper.target
    if not isinstance(target, RecurrentNetwork) or (hyper is not None and hyper.conditional):
        return None
    if hyper is None or hyper.dynamic:
        return target
    plain = materialize(model)  # the same weights at every step: a plain network
    assert isinstance(plain, RecurrentNetwork)
    return plain


def recorded_steps(model: RecurrentLM, ids: Tensor, chunk: int = CHUNK) -> Iterator[tuple[Tensor, list[LayerSteps]]]:
    """Read a text; yield, chunk by chunk, the logits [T, vocabulary] and what each layer did in these T steps.

    model: in eval mode (dropout would be left out here in any case). ids: int64 [N].

    Raises:
        UserError: a layer of a kind that hyperrun did not make.
    """
    for logits, layers in watched(model, (model.embed(part[:, None]) for part in ids.split(chunk))):
        yield logits[:, 0], [layer.of_one() for layer in layers]


@torch.no_grad()
def watched(model: RecurrentNetwork, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, list[LayerSteps]]]:
    """Run a network over B sequences; yield, for each chunk x [T, B, I] of what its first layer reads, what the output
    layer gives, [T, B, outputs], and what each layer did in these T steps. The state is carried from chunk to chunk.

    Raises:
        UserError: a layer of a kind that hyperrun did not make.
    """
    state: list[State | None] = [None] * len(model.layers)
    for x in chunks:
        layers = []
        for n, layer in enumerate(model.layers):
            x, state[n], steps = layer_steps(layer, x, state[n])
            layers.append(steps)
        yield model.output(x), layers


def layer_steps(layer: nn.Module, x: Tensor, state: State | None) -> tuple[Tensor, State, LayerSteps]:
    """Return a layer's outputs [T, B, H], its last state and what it did, from x [T, B, I] and the state before it."""
    if not isinstance(layer, LSTMLayer | RNNLayer | HyperLSTMLayer | HyperRNNLayer):
        raise UserError(f"a layer of the kind {type(layer).__name__} cannot be watched (LSTM and RNN layers can)")
    state = layer.zero_state(x) if state is None else state
    outputs: list[Tensor] = []
    values: dict[str, list[Tensor]] = {}
    scales: dict[str, list[Tensor]] = {}
    for x_t in x.unbind():
        if isinstance(layer, LSTMLayer | HyperLSTMLayer):
            state, value, scale = lstm_step(layer, x_t, state)
        else:
            state, value, scale = rnn_step(layer, x_t, state)
        outputs.append(state[0])
        for kept, new in ((values, value), (scales, scale)):
            for name, tensor in new.items():
                kept.setdefault(name, []).append(tensor)
    steps = LayerSteps(*({name: torch.stack(rows) for name, rows in kept.items()} for kept in (values, scales)))
    return torch.stack(outputs), state, steps


def lstm_step(
    layer: LSTMLayer | HyperLSTMLayer, x: Tensor, state: State
) -> tuple[State, dict[str, Tensor], dict[str, Tensor]]:
    """Return the state after one step without dropout, the values of the step and its scaling vectors, [B, H] each."""
    scales, carried = {}, ()
    if isinstance(layer, HyperLSTMLayer):
        sums, d_h, *carried = layer.gate_sums(x, state, None)
        scales = dict(zip(GATES, d_h.chunk(4, 1), strict=True))
    else:
        sums = layer.gate_sums(x @ layer.w_x, state[0])
    norms = layer.norms()
    i, g, f, o = gate_values(sums.chunk(4, 1), state[1].dtype, layer.forget_bias, norms)
    c = f * state[1] + i * g
    hidden = hidden_activation(c, norms)
    values = {"hidden": hidden, "i": i, "g": g, "f": f, "o": o}
    if norms is not None:
        values["cell"] = torch.tanh(c)
    return (o * hidden, c, *carried), values, scales


def rnn_step(
    layer: RNNLayer | HyperRNNLayer, x: Tensor, state: State
) -> tuple[State, dict[str, Tensor], dict[str, Tensor]]:
    """Return the same of an RNN, whose only value is its output."""
    scales = {}
    if isinstance(layer, HyperRNNLayer):
        after = layer.step(x, state)
        if layer.hypernet.w_d is not None:
            z = layer.hypernet.embed(after[1] if layer.z_from == "new" else state[1])
            scales = {"h": z[0] @ layer.hypernet.w_d[0]}
    else:
        after = layer.step(x @ layer.w_x, state)
    return after, {"hidden": after[0]}, scales


# ---------------------------------------------------------------- counted


@dataclass
class Histogram:
    """Counts of values in [low, high] in BINS bins of one width, and exactly how many are saturated."""

    low: float
    high: float
    counts: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    below: int = 0
    """Values saturated at the low end: below -SATURATED, of a gate below 1 - SATURATED."""
    above: int = 0
    broken: int = 0
    """Values that are not finite, in no bin."""
    total: int = 0

    def add(self, values: Tensor) -> None:
        values = values.float().flatten().cpu()
        finite = values[values.isfinite()]
        self.counts += torch.histc(finite, BINS, self.low, self.high).double()
        self.below += int((finite < -SATURATED if self.low < 0 else finite < 1 - SATURATED).sum())
        self.above += int((finite > SATURATED).sum())
        self.broken += values.numel() - finite.numel()
        self.total += values.numel()

    @property
    def saturated(self) -> float:
        """Fraction of the finite values that lie at either end; NaN if none is finite."""
        return self.part(self.below + self.above)

    def part(self, count: int) -> float:
        return count / (self.total - self.broken) if self.total > self.broken else math.nan

    def density(self) -> tuple[Tensor, Tensor]:
        """Return the bins' edges [BINS + 1] and the normalized histogram [BINS], whose area is 1."""
        width = (self.high - self.low) / BINS
        return torch.linspace(self.low, self.high, BINS + 1), self.counts / max(1, self.total - self.broken) / width

    def numbers(self) -> dict[str, float]:
        found = {"saturated": self.saturated, "below": self.part(self.below), "above": self.part(self.above)}
        return found | ({"not_finite": self.broken / self.total} if self.broken else {})


class Counted:
    """Histograms of what layers do, and how much their weights change from step to step, chunk by chunk.

    Every value is counted, none is kept: the memory needed does not grow with the sequence.

    The change of a weight matrix is the Euclidean norm of the difference of its scaling vector: W_h(t) is
    diag(d_h(t)) W_h, and the paper does not say which norm its figures 4 and 7 have (the Frobenius norm of the
    difference of the matrices would weigh each unit with the length of its row of W_h).
    """

    def __init__(self, layers: int) -> None:
        self.histograms: list[dict[str, Histogram]] = [{} for _ in range(layers)]
        self._changes: list[dict[str, list[Tensor]]] = [{} for _ in range(layers)]
        self._before: list[dict[str, Tensor]] = [{} for _ in range(layers)]

    def add(self, layers: Sequence[LayerSteps], there: Tensor | None = None) -> None:
        """Count a chunk of what each layer did. there: bool [T, B], steps that are not padding; None: all of them."""
        for n, steps in enumerate(layers):
            for name, values in steps.values.items():
                gate = name in ("i", "f", "o")
                histogram = self.histograms[n].setdefault(name, Histogram(0.0 if gate else -1.0, 1.0))
                histogram.add(values if there is None else values[there])
            for gate, scales in steps.scales.items():
                last = self._before[n].get(gate, scales[:1])
                change = (scales - torch.cat([last, scales[:-1]])).norm(dim=-1).cpu()
                self._changes[n].setdefault(gate, []).append(change)
                self._before[n][gate] = scales[-1:]

    def take_changes(self) -> list[dict[str, Tensor]]:
        """Return for each layer gate -> ||d_h(t) - d_h(t-1)||_2 at each step, [T] or [T, B], 0 at the first; what is
        added from now on is of other sequences."""
        found = [{gate: torch.cat(parts) for gate, parts in layer.items()} for layer in self._changes]
        for kept in (*self._changes, *self._before):
            kept.clear()
        return found


@dataclass
class Reading:
    """What a model did over a text."""

    symbols: int
    """Symbols read."""
    bits: float
    """Per symbol, of those it had to predict."""
    layers: list[dict[str, Histogram]]
    """For each layer name (as in LayerSteps.values) -> histogram over all units and steps."""
    changes: list[dict[str, Tensor]]
    """For each layer gate -> ||d_h(t) - d_h(t-1)||_2 [symbols], 0 at the first; empty where weights do not change."""


def read_text(model: RecurrentLM, ids: Tensor) -> Reading:
    """Let a model read a text and return what it did. ids: int64 [N], at least two of them."""
    counted = Counted(len(model.layers))
    nats, at = 0.0, 0
    for logits, layers in recorded_steps(model, ids):
        targets = ids[at + 1 : at + 1 + len(logits)]
        nats += float(F.cross_entropy(logits[: len(targets)].float(), targets, reduction="sum"))
        at += len(logits)
        counted.add(layers)
    return Reading(len(ids), nats / (len(ids) - 1) / math.log(2), counted.histograms, counted.take_changes())
