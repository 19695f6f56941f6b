"""The recurrent networks of Ha et al. sections 4.3 to 4.5: tokens or pen strokes, recurrent layers, a linear output.

Sequences are time first inside ([T, B, ...]) and batch first outside. Gates stand in the author's order i, g, f, o; the
weights of all four are one matrix [inputs, 4 * units], so that a layer computes x @ w_x + h @ w_h + bias.

A batch of sequences of several lengths is padded at the end, and the layer is told the `lengths`. It runs over the
padding too, with x = 0 there, and no result is taken from these steps, so no gradient comes from them: outputs there
are zero, and each sequence's last state is the one after its own last step. Values and gradients are those of the
sequences alone, whatever stands in the padding (NaN, too) and however much there is of it.

Where the paper is silent or differs from its author's code, the code is followed: layer norm adds 1e-3 to the variance,
the forget bias is added after it, and a layer-norm LSTM has no further gate bias (the parameter counts of the paper's
tables 4 and 5 come out only so). The paper is followed in that all weights start orthogonal, gate by gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import TargetConfig, check_positive, check_probability
from hyperrun.errors import UserError, choose
from hyperrun.inputs import Strokes, Symbols
from hyperrun.registry import register

State = tuple[Tensor, ...]
"""What a recurrent layer carries from step to step; the output h comes first."""

NORM_EPS = 1e-3
MIXTURES = 20
"""Of Graves 2013 and Ha et al. 2016."""


@dataclass
class RecurrentTarget(TargetConfig):
    """Recurrent layers and a linear output layer, of tokens (Ha et al. sections 4.3, 4.4 and A.3) or strokes (4.5)."""

    cell: str
    """rnn, lstm or lnlstm (an LSTM with layer norm on each gate and on the cell's output, and so without gate bias)."""
    hidden_size: int
    """Nh: units in each layer."""
    layers: int
    """Recurrent layers, one on top of the other."""
    embedding: int | None
    """Size of a learned embedding of the tokens; null feeds them one-hot, as in the paper."""
    tied: bool
    """Use the embedding's matrix as the output layer's; needs embedding = hidden_size."""
    dropout_in: float
    """Probability of dropping each number that enters the first layer; of text 0.1, of strokes, where that is dx, dy or
    the pen, 0."""
    dropout_out: float
    """Probability of dropping each number that leaves the last layer."""
    recurrent_dropout: float
    """Probability of dropping each candidate tanh(g), a fresh mask at each step (Semeniuta et al. 2016); LSTMs only."""
    forget_bias: float
    """Added to the forget gate inside its sigmoid, after any layer norm; LSTMs only."""
    mixtures: int = MIXTURES
    """Gaussians in the mixture from which the next point of a pen stroke is drawn; of text there are none."""

    def __post_init__(self) -> None:
        choose("target.cell", self.cell, ["rnn", "lstm", "lnlstm"])
        check_positive("hidden_size", self.hidden_size)
        check_positive("layers", self.layers)
        check_positive("mixtures", self.mixtures)
        if self.embedding is not None:
            check_positive("embedding", self.embedding)
        if self.tied and self.embedding != self.hidden_size:
            raise ValueError(f"tied needs embedding = hidden_size = {self.hidden_size}, not {self.embedding}")
        for name in ("dropout_in", "dropout_out", "recurrent_dropout"):
            check_probability(name, getattr(self, name))
        if self.cell == "rnn" and self.recurrent_dropout:
            raise ValueError("recurrent_dropout acts on the candidate of an LSTM; with cell=rnn it must be 0")


def gate_values(
    gates: Sequence[Tensor], dtype: torch.dtype, forget_bias: float, norms: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return i, g, f, o after their nonlinearities, [B, H] each: sigmoid, of the candidate g tanh. See lstm_update."""
    i, g, f, o = (gate.to(dtype) for gate in gates)
    if norms is not None:
        i, g, f, o = (normalize(gate, norms[n], norms[4 + n]) for n, gate in enumerate((i, g, f, o)))
    return torch.sigmoid(i), torch.tanh(g), torch.sigmoid(f + forget_bias), torch.sigmoid(o)


def hidden_activation(c: Tensor, norms: Sequence[Tensor] | None) -> Tensor:
    """Return what the output gate lets through, [B, H]: tanh(c), with layer norm tanh(LN(c)).

    The cell itself is carried un-normalized.
    """
    return torch.tanh(c if norms is None else normalize(c, norms[8], norms[9]))


def lstm_update(
    gates: Sequence[Tensor],
    c: Tensor,
    forget_bias: float,
    norms: Sequence[Tensor] | None,
    kept: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Return (h, c) [B, H] after one step of an LSTM (eqs. 9 and 13).

    gates: sums of i, g, f, o before any layer norm, [B, H] each.
    c: the cell before the step [B, H]; its dtype is the dtype computed in.
    norms: what LSTMNorm.tensors returns, [H] each (or [B, H], a row for each example), or None.
    kept: bool [B, H], which candidates tanh(g) are not dropped, or None.
    dropout: probability with which `kept` was drawn.
    """
    i, candidate, f, o = gate_values(gates, c.dtype, forget_bias, norms)
    if kept is not None:
        candidate = candidate * kept / (1 - dropout)
    c = f * c + i * candidate
    return o * hidden_activation(c, norms), c


def normalize(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * gain + shift


def draw_kept(x: Tensor, units: int, dropout: float) -> Tensor | None:
    """Return which candidates are kept at each step of x [T, B, I], bool [T, B, units], or None if all are."""
    return torch.rand(*x.shape[:2], units, device=x.device) >= dropout if dropout else None


def check_lengths(x: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
    """Return the lengths of the sequences in x [T, B, I] on its device, int64 [B]; 0 is a sequence that has no step.

    Raises:
        ValueError: another shape or type, or (looked at where that needs no wait for a device) a length beyond T.
    """
    if not isinstance(lengths, Tensor):
        lengths = torch.as_tensor(lengths) if len(lengths) else torch.zeros(0, dtype=torch.int64)
    if lengths.shape != x.shape[1:2] or lengths.dtype.is_floating_point or lengths.dtype == torch.bool:
        raise ValueError(f"lengths must be whole numbers [{x.shape[1]}], not {lengths.dtype} {list(lengths.shape)}")
    known = lengths.device.type == "cpu" and not torch.compiler.is_exporting()
    if known and not bool(((lengths >= 0) & (lengths <= len(x))).all()):
        raise ValueError(f"lengths must lie in 0 to {len(x)}, the number of steps, not {lengths.tolist()}")
    return lengths.to(x.device, torch.int64)


def without_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Return values [T, B, ...] with zeros at the steps that sequences of these lengths [B] do not have."""
    padded = torch.arange(len(values), device=values.device)[:, None] >= lengths
    return values.masked_fill(padded.view(*padded.shape, *(1,) * (values.ndim - 2)), 0)


def checked(weight: Tensor, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return x [T, B, I] with zeros in its padding, and the lengths checked; both as they are where there are none.

    weight: the layer's w_x [I, ...]; its dtype is that of the layer.

    Raises:
        ValueError: lengths that cannot be; x or the state of another dtype than the layer (under autocast, x of one
            that it does not cast).
        RuntimeError: x of another last size, or without a step. Both as torch.nn.LSTM does.
    """
    cast = torch.is_autocast_enabled(x.device.type) and x.is_floating_point() and x.dtype != torch.float64
    types = [] if cast else [("input", x.dtype)]
    types += [("state", part.dtype) for part in state or ()]
    for what, dtype in types:
        if dtype != weight.dtype:
            raise ValueError(f"the {what} is {dtype} and the layer {weight.dtype}: convert the one or the other")
    if x.shape[-1] != weight.shape[-2]:
        raise RuntimeError(
            f"the input's last size must be the layer's input size {weight.shape[-2]}, not {x.shape[-1]}"
        )
    if not len(x):
        raise RuntimeError("the input has no step: a sequence needs one at least")
    if lengths is None:
        return x, None
    lengths = check_lengths(x, lengths)
    return without_padding(x, lengths), lengths


def at_the_end(values: Tensor, rows: Tensor) -> Tensor:
    """Return for each sequence the values [B, ...] of a row of its own, int64 [B], from values [rows, B, ...]."""
    return values[rows, torch.arange(len(rows), device=values.device)]


def outputs_and_last(states: Sequence[State], lengths: Tensor | None) -> tuple[Tensor, State]:
    """Return the outputs [T, B, H] and the last state, from the states before the first and after each of T steps."""
    outputs = torch.stack([state[0] for state in states[1:]])
    if lengths is None:
        return outputs, states[-1]
    last = tuple(at_the_end(torch.stack(parts), lengths) for parts in zip(*states, strict=True))
    return without_padding(outputs, lengths), last


class LSTMNorm(nn.Module):
    """Gain and shift of a layer-norm LSTM: one norm for each gate and one for the cell's output."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gate_gain = nn.Parameter(torch.ones(4 * units))
        self.gate_shift = nn.Parameter(torch.zeros(4 * units))
        self.cell_gain = nn.Parameter(torch.ones(units))
        self.cell_shift = nn.Parameter(torch.zeros(units))

    def tensors(self) -> tuple[Tensor, ...]:
        """Return gains of i, g, f, o; shifts of i, g, f, o; gain and shift of the cell's output, [H] each."""
        return *self.gate_gain.chunk(4), *self.gate_shift.chunk(4), self.cell_gain, self.cell_shift


class LSTMLayer(nn.Module):
    """An LSTM with optional layer norm and recurrent dropout: 4 * units * (inputs + units + 1) parameters.

    With layer norm the 4 * units biases are gone and 10 * units gains and shifts are there.
    """

    def __init__(
        self, inputs: int, units: int, norm: bool = False, dropout: float = 0.0, forget_bias: float = 1.0
    ) -> None:
        super().__init__()
        self.units, self.dropout, self.forget_bias = units, dropout, forget_bias
        self.w_x = orthogonal_gates(inputs, units, 4)
        self.w_h = orthogonal_gates(units, units, 4)
        self.bias = None if norm else nn.Parameter(torch.zeros(4 * units))
        self.norm = LSTMNorm(units) if norm else None

    def zero_state(self, x: Tensor) -> State:
        """Return the state before a sequence x [T, B, I]."""
        return (self.w_h.new_zeros(x.shape[1], self.units),) * 2

    def step(self, from_x: Tensor, state: State, kept: Tensor | None) -> State:
        """Return (h, c) after one step. from_x: x @ w_x, [B, 4H]; state: (h, c) [B, H]; kept: as in lstm_update."""
        h, c = state
        pre = self.gate_sums(from_x, h)
        return lstm_update(pre.chunk(4, 1), c, self.forget_bias, self.norms(), kept, self.dropout)

    def gate_sums(self, from_x: Tensor, h: Tensor) -> Tensor:
        """Return the sums of i, g, f, o before any layer norm, [B, 4H]."""
        pre = from_x + h @ self.w_h
        return pre if self.bias is None else pre + self.bias

    def norms(self) -> tuple[Tensor, ...] | None:
        return None if self.norm is None else self.norm.tensors()

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the outputs [T, B, H] and the last (h, c), from x [T, B, I] and the (h, c) before it.

        lengths: int64 [B], the steps of each sequence of a padded batch, or None where all have T.
        """
        x, lengths = checked(self.w_x, x, state, lengths)
        masks = draw_kept(x, self.units, self.dropout if self.training else 0.0)
        states = [state or self.zero_state(x)]
        for t, from_x in enumerate((x @ self.w_x).unbind()):
            states.append(self.step(from_x, states[-1], None if masks is None else masks[t]))
        return outputs_and_last(states, lengths)


class RNNLayer(nn.Module):
    """h_t = tanh(x_t @ w_x + h_{t-1} @ w_h + bias)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.w_x = orthogonal_gates(inputs, units, 1)
        self.w_h = orthogonal_gates(units, units, 1)
        self.bias = nn.Parameter(torch.zeros(units))

    def zero_state(self, x: Tensor) -> State:
        return (self.w_h.new_zeros(x.shape[1], self.units),)

    def step(self, from_x: Tensor, state: State) -> State:
        """Return (h,) after one step. from_x: x @ w_x, [B, H]."""
        pre = from_x + state[0] @ self.w_h + self.bias
        return (torch.tanh(pre.to(self.bias.dtype)),)

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the outputs [T, B, H] and the last (h,), from x [T, B, I] and the (h,) before it.

        lengths: as in LSTMLayer.
        """
        x, lengths = checked(self.w_x, x, state, lengths)
        states = [state or self.zero_state(x)]
        for from_x in (x @ self.w_x).unbind():
            states.append(self.step(from_x, states[-1]))
        return outputs_and_last(states, lengths)


def orthogonal_gates(inputs: int, units: int, gates: int) -> nn.Parameter:
    """Return [inputs, gates * units], (semi-)orthogonal gate by gate."""
    weight = torch.empty(inputs, gates * units)
    for block in weight.chunk(gates, 1):
        nn.init.orthogonal_(block)
    return nn.Parameter(weight)


class RecurrentNetwork(nn.Module):
    """What networks of recurrent layers have in common: the layers, dropout before and behind them, a linear output.

    Dropout acts on what enters the first layer (of a one-hot token: on the token) and on what leaves the last; between
    layers there is none. The layers may be replaced by others that are called alike: (x [T, B, I], state or None, for
    padded batches also lengths) -> (outputs [T, B, hidden], state).

    inputs: numbers that the first layer reads at each step; outputs: those that the output layer gives.
    embedding: made before, so that the layers come behind it.
    """

    def __init__(self, cfg: RecurrentTarget, inputs: int, outputs: int, embedding: nn.Embedding | None = None) -> None:
        super().__init__()
        self.dropout_in, self.dropout_out = cfg.dropout_in, cfg.dropout_out
        self.embedding = embedding
        self.layers = nn.ModuleList()
        for _ in range(cfg.layers):
            if cfg.cell == "rnn":
                self.layers.append(RNNLayer(inputs, cfg.hidden_size))
            else:
                norm = cfg.cell == "lnlstm"
                self.layers.append(LSTMLayer(inputs, cfg.hidden_size, norm, cfg.recurrent_dropout, cfg.forget_bias))
            inputs = cfg.hidden_size
        self.output = nn.Linear(cfg.hidden_size, outputs)

    def run(self, x: Tensor, state: list[State] | None, *lengths: Tensor | None) -> tuple[Tensor, list[State]]:
        """Return the outputs [B, T, outputs] and each layer's state, from x [T, B, inputs] and the states before it."""
        x = F.dropout(x, self.dropout_in, self.training)
        after: list[State] = []
        for n, layer in enumerate(self.layers):
            x, last = layer(x, None if state is None else state[n], *lengths)
            after.append(last)
        x = F.dropout(x, self.dropout_out, self.training)
        return self.output(x).transpose(0, 1), after


class RecurrentLM(RecurrentNetwork):
    """Predicts the token after each token.

    Input int64 [B, T]; output logits [B, T, vocabulary] and the state to go on with: for each layer its own tuple.
    """

    def __init__(self, cfg: RecurrentTarget, vocabulary: int) -> None:
        embedding = None
        if cfg.embedding is not None:
            embedding = nn.Embedding(vocabulary, cfg.embedding)
            nn.init.normal_(embedding.weight, std=cfg.embedding**-0.5)  # of length 1, like a one-hot token
        super().__init__(cfg, cfg.embedding or vocabulary, vocabulary, embedding)
        self.vocabulary = vocabulary
        if cfg.tied:
            assert embedding is not None
            self.output.weight = embedding.weight

    def forward(self, tokens: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        return self.run(self.embed(tokens.T), state)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return what the first layer reads, [T, B, inputs], from tokens [T, B]."""
        if self.embedding is not None:
            return self.embedding(tokens)
        one_hot = cast(Tensor, self.output.weight).new_zeros(*tokens.shape, self.vocabulary)
        return one_hot.scatter_(-1, tokens[..., None], 1.0)  # F.one_hot would make it of int64 first


class RecurrentStrokes(RecurrentNetwork):
    """Predicts the point after each point of a pen stroke: the parameters of the density that it is drawn from.

    Input float32 [B, T, 3]: dx, dy and pen (1: it is lifted after this point); output [B, T, 6 * mixtures + 1], what
    hyperrun.tasks.mixture_density reads, and the state to go on with: for each layer its own tuple. lengths: int64 [B],
    the points of each sequence of a padded batch, or None where all have T; parameters in the padding mean nothing.
    """

    def __init__(self, cfg: RecurrentTarget) -> None:
        super().__init__(cfg, 3, 6 * cfg.mixtures + 1)
        self.mixtures = cfg.mixtures

    def forward(
        self, points: Tensor, state: list[State] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[State]]:
        return self.run(points.transpose(0, 1), state, lengths)


@register("target", "recurrent", RecurrentTarget, takes=("text", "strokes"))
def build_recurrent(cfg: RecurrentTarget, inputs: Symbols | Strokes) -> RecurrentNetwork:
    if isinstance(inputs, Symbols):
        if cfg.mixtures != MIXTURES:
            raise UserError("target.mixtures is for pen strokes; the next symbol of a text is drawn from a softmax")
        return RecurrentLM(cfg, inputs.vocabulary)
    if cfg.embedding is not None:
        raise UserError("target.embedding is for the symbols of a text; a pen stroke's points go in as they are")
    return RecurrentStrokes(cfg)
