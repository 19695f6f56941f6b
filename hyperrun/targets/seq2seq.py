"""From one sequence of pieces of words to another, in GNMT's shape (Wu et al. 2016, section 3; Ha et al. section 4.6).

Encoder: the first layer reads the source in both directions, the others from left to right. Decoder: layers from left
to right; additive attention (attention.py) whose query is the output of the bottom one. In both stacks the third layer
and those above it add what they read from below to what they give (residual connections). The decoder starts at zero:
what it knows of the source it knows by attention.

Where the context goes (target.context):

- all: to every decoder layer, as in GNMT: the bottom one reads the context of the step before, those above it the
  context of their own step. So the bottom layer and attention take one step after the other.
- above: to the layers above the bottom one. The bottom layer then depends on the target alone, so that it, attention,
  and every other layer are each one call over all steps of training. This is the default, since it is several times as
  fast in training; what is lost is that the bottom layer, and with it the query, does not know what was attended to.

With a single decoder layer, which has none above it, the output layer reads tanh(W [h; context] + b) instead of h, in
both cases (Luong et al. 2015, eq. 5). Layers may be replaced by others that are called alike, as in recurrent.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import TargetConfig, check_positive, check_probability
from hyperrun.errors import choose
from hyperrun.inputs import SentencePairs, few_rows
from hyperrun.registry import register
from hyperrun.targets.attention import Attention, Memory
from hyperrun.targets.recurrent import LSTMLayer, State

RESIDUAL_FROM = 2
"""The number of the first layer (0 is the bottom one) that adds what it reads to what it gives."""


@dataclass
class Seq2SeqTarget(TargetConfig):
    """An encoder and a decoder of recurrent layers, with attention between them (Wu et al. 2016)."""

    cell: str
    """lstm or lnlstm (an LSTM with layer norm on each gate and on the cell's output, and so without gate bias)."""
    hidden_size: int
    """Units in each layer, in each direction."""
    encoder_layers: int
    """Recurrent layers of the encoder; the first reads in both directions."""
    decoder_layers: int
    """Recurrent layers of the decoder."""
    embedding: int | None
    """Numbers for each piece; null: hidden_size. One table for both languages where they share a vocabulary."""
    attention_size: int | None
    """Units in the hidden layer of attention; null: hidden_size."""
    context: str
    """Which decoder layers read what is attended to: all (GNMT; step by step) or above (those above the bottom one)."""
    tied: bool
    """Use the target embedding's matrix as the output layer's; needs embedding = hidden_size (or null)."""
    dropout: float
    """Probability of dropping each number that enters a recurrent layer or the output layer."""
    recurrent_dropout: float
    """Probability of dropping each candidate tanh(g), a fresh mask at each step (Semeniuta et al. 2016)."""
    forget_bias: float
    """Added to the forget gate inside its sigmoid, after any layer norm."""

    def __post_init__(self) -> None:
        choose("target.cell", self.cell, ["lstm", "lnlstm"])
        choose("target.context", self.context, ["all", "above"])
        for name in ("hidden_size", "encoder_layers", "decoder_layers"):
            check_positive(name, getattr(self, name))
        for name in ("embedding", "attention_size"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.tied and self.embedding not in (None, self.hidden_size):
            raise ValueError(f"tied needs embedding = hidden_size = {self.hidden_size}, not {self.embedding}")
        for name in ("dropout", "recurrent_dropout"):
            check_probability(name, getattr(self, name))


class DecoderState(NamedTuple):
    """What the decoder carries from step to step; every tensor has its rows along the first dimension."""

    layers: tuple[State, ...]
    context: Tensor
    """What was attended to at the last step, [R, M]."""

    def select(self, rows: Tensor) -> DecoderState:
        """Return the state of these rows, int64 [n]."""
        layers = tuple(tuple(part.index_select(0, rows) for part in layer) for layer in self.layers)
        return DecoderState(layers, self.context.index_select(0, rows))


class ReversedWithin(torch.autograd.Function):
    """(x [T, B, ...], lengths [B]) -> x with the steps of each sequence in reverse order; its padding stays."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(lengths)
        return reverse_within(x, lengths)

    @staticmethod
    def backward(ctx: Any, d_x: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return reverse_within(d_x, ctx.saved_tensors[0]), None


def reverse_within(x: Tensor, lengths: Tensor) -> Tensor:
    steps = torch.arange(len(x), device=x.device)[:, None]
    steps = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x[steps, torch.arange(x.shape[1], device=x.device)]


class BothDirections(nn.Module):
    """Two recurrent layers over the same sequences, one of them from the end to the beginning."""

    def __init__(self, left_to_right: nn.Module, right_to_left: nn.Module) -> None:
        super().__init__()
        self.left_to_right, self.right_to_left = left_to_right, right_to_left

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the outputs of both, side by side [S, B, 2H], from x [S, B, I] and the lengths, int64 [B]."""
        forwards, _ = self.left_to_right(x, None, lengths)
        there = lengths.to(x.device)
        turned: Any = ReversedWithin.apply(x, there)
        backwards, _ = self.right_to_left(turned, None, lengths)
        turned_back: Any = ReversedWithin.apply(backwards, there)
        return torch.cat([forwards, turned_back], -1)


class Encoder(nn.Module):
    """layers: the first in both directions, the rest from left to right."""

    def __init__(self, cfg: Seq2SeqTarget, inputs: int, layer: Callable[[int], LSTMLayer]) -> None:
        super().__init__()
        units = cfg.hidden_size
        self.dropout = cfg.dropout
        self.outputs = 2 * units if cfg.encoder_layers == 1 else units
        self.layers = nn.ModuleList([BothDirections(layer(inputs), layer(inputs))])
        for n in range(1, cfg.encoder_layers):
            self.layers.append(layer(2 * units if n == 1 else units))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the last layer's outputs [S, B, M], zeros beyond each source's end, from x [S, B, I]."""
        x = self.layers[0](F.dropout(x, self.dropout, self.training), lengths)
        for n, layer in enumerate(self.layers):
            if n:
                out, _ = layer(F.dropout(x, self.dropout, self.training), None, lengths)
                x = out + x if n >= RESIDUAL_FROM else out
        return x


class Decoder(nn.Module):
    """layers, attention, and with a single layer what puts its output and the context together."""

    def __init__(self, cfg: Seq2SeqTarget, inputs: int, values: int, layer: Callable[[int], LSTMLayer]) -> None:
        super().__init__()
        units = cfg.hidden_size
        self.dropout, self.values, self.step_by_step = cfg.dropout, values, cfg.context == "all"
        bottom = layer(inputs + values if self.step_by_step else inputs)
        self.layers = nn.ModuleList([bottom])
        self.layers.extend(layer(units + values) for _ in range(1, cfg.decoder_layers))
        self.attention = Attention(units, values, cfg.attention_size or units)
        self.combine = nn.Linear(units + values, units) if cfg.decoder_layers == 1 else None

    def forward(
        self, x: Tensor, memory: Memory, state: DecoderState | None, lengths: Tensor | None
    ) -> tuple[Tensor, DecoderState, Tensor]:
        """Return what the output layer reads [T, R, H], the state after, and the attention weights [R, T, S].

        x: [T, R, I]; R: see Attention.forward. lengths: int64 [R], of a padded batch: what is behind them means
        nothing, in the state after (which is that of the last step), too.
        """
        first = None if state is None else state.layers[0]
        if self.step_by_step:
            below, contexts, weights, bottom = self.bottom_by_steps(x, memory, first, state)
        else:
            below, bottom = self.layers[0](self.drop(x), first, lengths)
            contexts, weights = self.attention(below.transpose(0, 1), memory)
            contexts = contexts.transpose(0, 1)
        after = [bottom]
        for n, layer in enumerate(self.layers):
            if n:
                inputs = self.drop(torch.cat([below, contexts], -1))
                out, last = layer(inputs, None if state is None else state.layers[n], lengths)
                below = out + below if n >= RESIDUAL_FROM else out
                after.append(last)
        if self.combine is not None:
            below = torch.tanh(self.combine(torch.cat([below, contexts], -1)))
        return self.drop(below), DecoderState(tuple(after), contexts[-1]), weights

    def bottom_by_steps(
        self, x: Tensor, memory: Memory, bottom: State | None, state: DecoderState | None
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Return outputs of the bottom layer and contexts, [T, R, ...], attention weights [R, T, S], and its state."""
        context = x.new_zeros(x.shape[1], self.values) if state is None else state.context
        outputs, contexts, weights = [], [], []
        after: Any = bottom
        for x_t in x.unbind():
            inputs = self.drop(torch.cat([x_t, context.to(x_t.dtype)], -1))
            out, after = self.layers[0](inputs[None], after, None)
            found, weight = self.attention(out.transpose(0, 1), memory)
            context = found[:, 0]
            outputs.append(out[0])
            contexts.append(context)
            weights.append(weight)
        return torch.stack(outputs), torch.stack(contexts), torch.cat(weights, 1), after

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Seq2Seq(nn.Module):
    """Predicts each piece of a translation from the source and the pieces before it.

    Called with a source int64 [B, S], its lengths int64 [B], the target without its last piece int64 [B, T] and its
    lengths int64 [B], it gives logits [B, T, vocabulary of the target]; `encode` and `decode` take a translation
    further piece by piece. What stands in the padding changes nothing, but ids must be in the vocabulary there, too.
    """

    def __init__(self, cfg: Seq2SeqTarget, inputs: SentencePairs) -> None:
        super().__init__()
        size = cfg.embedding or cfg.hidden_size
        self.source_embedding = embedding_of(inputs.source, size)
        self.target_embedding = self.source_embedding if inputs.shared else embedding_of(inputs.target, size)

        def layer(inputs: int) -> LSTMLayer:
            norm = cfg.cell == "lnlstm"
            return LSTMLayer(inputs, cfg.hidden_size, norm, cfg.recurrent_dropout, cfg.forget_bias)

        self.encoder = Encoder(cfg, size, layer)
        self.decoder = Decoder(cfg, size, self.encoder.outputs, layer)
        self.output = nn.Linear(cfg.hidden_size, inputs.target)
        if cfg.tied:
            self.output.weight = self.target_embedding.weight

    def forward(
        self,
        source: Tensor,
        source_lengths: Tensor,
        target: Tensor,
        target_lengths: Tensor,
        places: Tensor | None = None,
    ) -> Tensor:
        """Return logits [B, T, vocabulary]; with `places`, int64 [N], numbers in a row of B * T, [N, vocabulary]: of
        these alone, so that none are made for the padding."""
        rows = len(source)
        source, source_lengths = with_few_shapes(source, source_lengths)
        target, target_lengths = with_few_shapes(target, target_lengths)
        memory = self.memory(source, source_lengths)
        x, _, _ = self.decoder(self.target_embedding(target.T), memory, None, target_lengths)
        x = x.transpose(0, 1)[:rows]
        return self.output(x if places is None else x.flatten(0, 1).index_select(0, places))

    def encode(self, source: Tensor, source_lengths: Tensor) -> Memory:
        """Return what the decoder attends to, of sources int64 [B, S] with their lengths int64 [B]."""
        memory = self.memory(*with_few_shapes(source, source_lengths))
        return Memory(*(part[: len(source)] for part in memory))

    def memory(self, source: Tensor, source_lengths: Tensor) -> Memory:
        values = self.encoder(self.source_embedding(source.T), source_lengths).transpose(0, 1)
        return self.decoder.attention.memory(values.contiguous(), source_lengths)

    def decode(
        self, tokens: Tensor, memory: Memory, state: DecoderState | None = None
    ) -> tuple[Tensor, DecoderState, Tensor]:
        """Return logits [R, t, vocabulary], the state to go on with and the attention weights [R, t, S], after reading
        tokens int64 [R, t]. R is a multiple of the memory's sources; see Attention.forward."""
        x, after, weights = self.decoder(self.target_embedding(tokens.T), memory, state, None)
        return self.output(x.transpose(0, 1)), after, weights


def with_few_shapes(tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens [B, T] and lengths [B] with empty rows behind them, up to one of few numbers of rows. Training
    batches have such a number; those of an evaluation have any."""
    more = few_rows(len(tokens), up=True) - len(tokens)
    return (F.pad(tokens, (0, 0, 0, more)), F.pad(lengths, (0, more))) if more else (tokens, lengths)


def embedding_of(vocabulary: int, size: int) -> nn.Embedding:
    made = nn.Embedding(vocabulary, size)
    nn.init.normal_(made.weight, std=size**-0.5)  # of length 1, like a one-hot token
    return made


@register("target", "seq2seq", Seq2SeqTarget, takes="pairs")
def build_seq2seq(cfg: Seq2SeqTarget, inputs: SentencePairs) -> Seq2Seq:
    return Seq2Seq(cfg, inputs)
