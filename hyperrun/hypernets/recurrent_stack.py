"""Recurrent layers one above the other, called as torch.nn.LSTM and torch.nn.RNN are, and made out of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from hyperrun.hypernets.carried_state import has_hyper, hyper_of, join, plain
from hyperrun.hypernets.hyper_layers import DynamicConfig, HyperLSTMLayer, HyperRNNLayer
from hyperrun.targets.recurrent import LSTMLayer, RNNLayer, State, check_lengths

OUR_GATES = (0, 2, 1, 3)
"""Where torch, whose order is i, f, g, o, has the gates i, g, f, o."""


class RecurrentStack(nn.Module):
    """Takes the place of a torch.nn.LSTM or torch.nn.RNN, and is called like it.

    layers: one (LSTMLayer, HyperLSTMLayer; or RNNLayer, HyperRNNLayer) for each layer and direction, the first layer's
        forward one first, then its backward one.
    hidden_size: H, units of each of them.
    dropout: of what one layer gives to the next.
    """

    proj_size = 0

    def __init__(
        self,
        layers: Sequence[nn.Module],
        input_size: int,
        hidden_size: int,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, True
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        self.directions = 2 if bidirectional else 1
        self.num_layers = len(layers) // self.directions
        self.is_lstm = isinstance(layers[0], LSTMLayer | HyperLSTMLayer)

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Any, Any]:
        """Return (output, (h_n, c_n)), of RNNs (output, h_n), as torch.nn.LSTM and torch.nn.RNN do.

        input: float [T, B, I] (with batch_first [B, T, I]), [T, I], or a PackedSequence. Of the parameters' dtype, but
            under autocast of any that it casts. B may be 0.
        hx: (h_0, c_0), of RNNs h_0, [layers * directions, B, H] each, or without B like the input; None: zeros. The h_n
            and c_n of another call go on where that ended, hyper cells too (see CarriedState); with tensors of other
            origin the hyper cells start at zero.
        lengths: int64 [B] or a list, the steps of each sequence, if the input is padded at the end. As with a
            PackedSequence (which has its own) outputs there are zero, h_n and c_n those after a sequence's last step.

        output: float [T, B, H * directions], or shaped or packed like the input.

        Raises:
            RuntimeError: a state of another shape, an input of another last size or without a step (T = 0).
            ValueError: an input of another number of dimensions; input or state of another dtype; lengths of another
                shape or beyond T, or given beside a PackedSequence.
        """
        parts = self.as_parts(hx)
        packed = isinstance(input, PackedSequence)
        dims = 3 if packed else input.dim()
        if dims not in (2, 3):
            raise ValueError(f"the input must have 2 or 3 dimensions, not {dims}")
        if parts is not None and any(part.dim() != dims for part in parts):
            found = [part.dim() for part in parts]
            raise RuntimeError(f"beside an input of {dims} dimensions h_0 and c_0 must have {dims}, not {found}")
        if packed:
            if lengths is not None:
                raise ValueError("a PackedSequence has its own lengths: give no others")
            return self.run_packed(input, parts)
        if input.dim() == 2:
            if parts is not None:
                parts = tuple(part.unsqueeze(1) for part in parts)
            output, last = self.run(input[:, None], parts, lengths)
            return output[:, 0], self.as_torch(tuple(part.squeeze(1) for part in last))
        output, last = self.run(input.transpose(0, 1) if self.batch_first else input, parts, lengths)
        return output.transpose(0, 1) if self.batch_first else output, self.as_torch(last)

    def as_parts(self, hx: Any) -> State | None:
        """Return the state that a caller gave as a tuple, (h, c) or of RNNs (h,).

        Raises:
            RuntimeError: it is none of these.
        """
        if hx is None:
            return None
        parts: tuple[Any, ...] = tuple(hx) if isinstance(hx, tuple | list) and self.is_lstm else (hx,)
        if len(parts) != (2 if self.is_lstm else 1) or not all(isinstance(part, Tensor) for part in parts):
            raise RuntimeError(f"the state must be {'two tensors, (h_0, c_0)' if self.is_lstm else 'one tensor, h_0'}")
        return parts

    def as_torch(self, parts: State) -> Any:
        return parts if self.is_lstm else parts[0]

    def run_packed(self, input: PackedSequence, parts: State | None) -> tuple[PackedSequence, Any]:
        order, back = input.sorted_indices, input.unsorted_indices
        x, lengths = pad_packed_sequence(PackedSequence(input.data, input.batch_sizes))  # the longest first
        if parts is not None and order is not None:
            parts = tuple(part.index_select(1, order) for part in parts)
        output, last = self.run(x, parts, lengths if int(lengths[-1]) < len(x) else None)
        packed = pack_padded_sequence(output, lengths)
        if back is not None:
            last = tuple(part.index_select(1, back) for part in last)
        return PackedSequence(packed.data, input.batch_sizes, order, back), self.as_torch(last)

    def run(self, x: Tensor, parts: State | None, lengths: Tensor | Sequence[int] | None) -> tuple[Tensor, State]:
        """Return the outputs [T, B, H * directions] and h_n, c_n, from x [T, B, I] and h_0, c_0 as layers have them."""
        if lengths is not None:
            lengths = check_lengths(x, lengths)
        before = [None] * len(self.layers) if parts is None else self.layer_states(x, parts)
        after: list[State] = []
        for number in range(self.num_layers):
            outputs = []
            for direction in range(self.directions):
                place = number * self.directions + direction
                read = reversed_steps(x, lengths) if direction else x
                output, last = self.layers[place](read, before[place], lengths)
                outputs.append(reversed_steps(output, lengths) if direction else output)
                after.append(last)
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            if number < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        stacked = [torch.stack(states) for states in zip(*after, strict=True)]
        count = 2 if self.is_lstm else 1
        own, hyper = stacked[:count], stacked[count:]
        return x, tuple(map(join, own, hyper)) if hyper else tuple(own)

    def layer_states(self, x: Tensor, parts: State) -> list[State]:
        """Return each layer's state from h_0 and c_0: what they carry for the hyper cells goes in, or zeros."""
        expected = (len(self.layers), x.shape[1], self.hidden_size)
        states = []
        for part in parts:
            if part.shape != expected:
                raise RuntimeError(f"expected a state of shape {list(expected)}, not {list(part.shape)}")
        for place, layer in enumerate(self.layers):
            hyper = list(layer.zero_state(x)[len(parts) :])  # pyright: ignore[reportCallIssue]
            for n, part in enumerate(parts):
                if hyper and has_hyper(part):
                    carried = hyper_of(part)[place]
                    if carried.shape != hyper[n].shape:
                        sizes = f"{carried.shape[-1]} units, not {hyper[n].shape[-1]}"
                        raise RuntimeError(f"the state is that of a layer whose hyper cell has {sizes}")
                    hyper[n] = carried
            states.append((*(plain(part)[place] for part in parts), *hyper))
        return states

    def flatten_parameters(self) -> None:
        """Do nothing: what torch.nn.LSTM does here for cuDNN has no counterpart."""

    def extra_repr(self) -> str:
        said = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        named = (f"{name}={getattr(self, name)}" for name in ("batch_first", "dropout", "bidirectional"))
        return ", ".join([said, *(text for text in named if not text.endswith(("False", "=0.0", "=0")))])


def reversed_steps(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return each sequence of x [T, B, ...] from its last step to its first; padding stays at the end."""
    if lengths is None:
        return x.flip(0)
    length, batch = x.shape[:2]
    steps = torch.arange(length, device=x.device)[:, None]
    steps = torch.where(steps < lengths, lengths - 1 - steps, steps)
    rows = steps * batch + torch.arange(batch, device=x.device)
    return x.flatten(0, 1).index_select(0, rows.flatten()).view_as(x)


# ---------------------------------------------------------------- out of torch's layers


def why_not_taken(layer: nn.Module) -> str | None:
    """Return why a layer of torch's cannot get hyper cells, or None if it can; hyperrun's own layers can."""
    if isinstance(layer, LSTMLayer | RNNLayer):
        return None
    base = nn.LSTM if isinstance(layer, nn.LSTM) else nn.RNN
    if type(layer).forward is not base.forward:
        return f"its forward is not that of torch.nn.{base.__name__}"
    if is_parametrized(layer):
        return "its weights are parametrized"
    if getattr(layer, "proj_size", 0):
        return "proj_size is not 0"
    if getattr(layer, "nonlinearity", "tanh") != "tanh":
        return f"its nonlinearity is {layer.nonlinearity}, and only tanh has a hyper form"
    return None


def stack_beside(layer: nn.LSTM | nn.RNN, cfg: DynamicConfig) -> RecurrentStack:
    """Return the layer with a hyper cell beside each of its layers and directions, with its weights.

    Gates are put into our order and the two biases, which only ever act as their sum, become one. A layer without
    biases gets one that starts at zero: a hyper cell makes a bias in any case.
    """
    made: list[nn.Module] = []
    for number in range(layer.num_layers):
        for direction in ("", "_reverse") if layer.bidirectional else ("",):
            plain_layer = taken_over(layer, f"_l{number}{direction}")
            kind = HyperLSTMLayer if isinstance(plain_layer, LSTMLayer) else HyperRNNLayer
            made.append(kind(plain_layer, cfg).to(plain_layer.w_x))  # pyright: ignore[reportArgumentType]
    return RecurrentStack(
        made, layer.input_size, layer.hidden_size, layer.batch_first, layer.dropout, layer.bidirectional
    )


def taken_over(layer: nn.LSTM | nn.RNN, suffix: str) -> LSTMLayer | RNNLayer:
    """Return one layer and direction of torch's as a layer of ours that computes the same."""
    gates = OUR_GATES if isinstance(layer, nn.LSTM) else (0,)

    def ours(weight: Tensor, learned: bool) -> nn.Parameter:
        blocks = weight.detach().chunk(len(gates))
        joined = torch.cat([blocks[n] for n in gates])
        return nn.Parameter(joined.T.contiguous() if joined.ndim == 2 else joined, requires_grad=learned)

    w_x, w_h = layer.get_parameter(f"weight_ih{suffix}"), layer.get_parameter(f"weight_hh{suffix}")
    with torch.device("meta"):  # its initial values are not needed
        units = layer.hidden_size
        if isinstance(layer, nn.LSTM):
            made = LSTMLayer(w_x.shape[1], units, forget_bias=0.0)
        else:
            made = RNNLayer(w_x.shape[1], units)
    made.w_x, made.w_h = ours(w_x, w_x.requires_grad), ours(w_h, w_h.requires_grad)
    if layer.bias:
        biases = [layer.get_parameter(f"bias_{kind}{suffix}") for kind in ("ih", "hh")]
        made.bias = ours(biases[0].detach() + biases[1].detach(), any(b.requires_grad for b in biases))
    else:
        made.bias = nn.Parameter(w_x.new_zeros(len(gates) * units))
    return made
