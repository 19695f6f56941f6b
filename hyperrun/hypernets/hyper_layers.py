"""Layers with a hyper cell (Ha et al. section 3.2 and A.2): a small recurrent cell changes their weights at every step.

The hyper cell reads x^_t = [h_{t-1}; x_t] and has a state a_t (h^ in the paper). From it come the embeddings, for each
matrix (h, x) and the bias (b), and in an LSTM for each gate (eqs. 6 and 11),

    z_h = a W_zh + b_zh      z_x = a W_zx + b_zx      z_b = a W_zb

and from these the scaling vectors (eqs. 7, 8 and 12)

    d_h = z_h W_dh           d_x = z_x W_dx           d_b = z_b W_db
    pre = d_h * (h_{t-1} W_h) + d_x * (x_t W_x) + d_b + b_0

which is the same as scaling the rows of the paper's W_h and W_x. The equations print a_{t-1} there, the author's code
has a_t: z_from = "previous" or "new".

With the printed initial values (W_zh = W_zx = 0, b = 1, W_dh = W_dx = 0.1 / Nz) the Nz columns of the scaling path get
the same gradient at every step, so they stay equal, and the map from a to d has rank 1 whatever Nz is. That is
init="paper". init="symmetry_broken" spreads W_dh and W_dx around 0.1 / Nz such that the sum over Nz, and with it d, is
still exactly 0.1 at the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hyperrun.config import HypernetConfig, check_positive, check_probability
from hyperrun.errors import choose
from hyperrun.hypernets.hyperlstm_fast.blocks import Pool, Weights
from hyperrun.hypernets.hyperlstm_fast.held_weights import HeldWeights
from hyperrun.hypernets.hyperlstm_fast.phases import INLINE_Z, CellSpec
from hyperrun.hypernets.hyperlstm_fast.sequence import Call, run_sequence
from hyperrun.targets.recurrent import (
    LSTMLayer,
    RNNLayer,
    State,
    checked,
    draw_kept,
    lstm_update,
    orthogonal_gates,
    outputs_and_last,
)

INITIAL_SCALE = 0.1
"""Of every scaling vector at the start."""


@dataclass
class DynamicConfig(HypernetConfig):
    """A small recurrent network beside each recurrent layer, which changes its weights at every step (section 3.2)."""

    hyper_size: int
    """Units in the hyper cell."""
    z_dim: int
    """Nz: numbers in each embedding that the hyper cell emits; a HyperLSTM has 12 of them, one per matrix and gate."""
    form: str
    """scaled (embeddings scale the rows of one matrix, eqs. 7 and 8) or full (whole matrices are mixed, eqs. 4 to 6: Nz
    times the memory; cell=rnn only)."""
    z_from: str
    """Which state of the hyper cell makes the embeddings: new (the author's code) or previous (eqs. 6 and 11)."""
    init: str
    """symmetry_broken, or paper: the printed constants, with which all columns of the scaling path stay equal for ever,
    so that it has rank 1 whatever z_dim is. Both start with every scale at 0.1."""
    recurrent_dropout: float
    """Recurrent dropout of the hyper cell; the paper has it only in its largest model."""
    forget_bias: float
    """Added to the hyper cell's forget gate inside its sigmoid; LSTMs only."""
    fast: str
    """auto (the whole sequence in one hand-differentiated function where that is supported) or never (step by step)."""
    include: list[str] = field(default_factory=list)
    """Name patterns (layers.0, encoder.*): if any are given, the matching recurrent layers get a hyper cell, and no
    others."""
    exclude: list[str] = field(default_factory=list)
    """Name patterns of recurrent layers that stay as they are, also among those that `include` matches."""

    def __post_init__(self) -> None:
        check_positive("hyper_size", self.hyper_size)
        check_positive("z_dim", self.z_dim)
        choose("hypernet.form", self.form, ["scaled", "full"])
        choose("hypernet.z_from", self.z_from, ["new", "previous"])
        choose("hypernet.init", self.init, ["symmetry_broken", "paper"])
        choose("hypernet.fast", self.fast, ["auto", "never"])
        check_probability("recurrent_dropout", self.recurrent_dropout)


class Embeddings(nn.Module):
    """a [B, N] -> z [3 * gates, B, Nz], in the order (h, x, b) x gates; those of b have no bias (eqs. 6 and 11)."""

    def __init__(self, hyper_size: int, z_dim: int, gates: int) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.w_z = nn.Parameter(torch.zeros(hyper_size, 3 * gates * z_dim))
        self.b_z = nn.Parameter(torch.ones(2 * gates * z_dim))
        nn.init.normal_(self.w_z.data[:, 2 * gates * z_dim :], std=0.01)

    def forward(self, a: Tensor) -> Tensor:
        z = (a @ self.w_z).to(a.dtype)
        return (z + self.full_bias()).unflatten(1, (-1, self.z_dim)).transpose(0, 1)

    def full_bias(self) -> Tensor:
        """Return b_z with the zeros of z_b, [3 * gates * Nz]."""
        return torch.cat([self.b_z, self.b_z.new_zeros(len(self.b_z) // 2)])


def scaling_weights(units: int, z_dim: int, gates: int, init: str) -> nn.Parameter:
    """Return W_d [3 * gates, Nz, units]: z -> scaling vector, in the order of the embeddings."""
    spread = torch.zeros(2 * gates, z_dim, units)
    if init == "symmetry_broken":
        nn.init.normal_(spread)
        spread -= spread.mean(1, keepdim=True)
    weight = torch.zeros(3 * gates, z_dim, units)  # those of b stay zero
    weight[: 2 * gates] = INITIAL_SCALE / z_dim * (1 + spread)
    return nn.Parameter(weight)


class LSTMHypernet(nn.Module):
    """The hyper part of a HyperLSTM: cell, embeddings and scaling weights, all that is not in the LSTM itself.

    The cell has layer norm, and then no gate bias, exactly if the main cell has, as in the author's code.
    """

    def __init__(self, inputs: int, units: int, norm: bool, cfg: DynamicConfig) -> None:
        super().__init__()
        self.cell = LSTMLayer(units + inputs, cfg.hyper_size, norm, cfg.recurrent_dropout, cfg.forget_bias)
        self.embed = Embeddings(cfg.hyper_size, cfg.z_dim, 4)
        self.w_d = scaling_weights(units, cfg.z_dim, 4, cfg.init)

    def scales(self, a: Tensor) -> Tensor:
        """Return d_h, d_x, d_b [3, B, 4H] from the hyper cell's output a [B, N]."""
        d = (self.embed(a) @ self.w_d).to(a.dtype)
        return d.unflatten(0, (3, 4)).transpose(1, 2).flatten(2)


class HyperLSTMLayer(nn.Module):
    """Takes the place of an LSTMLayer and takes over its weights; called like it. State: (h, c, a, hyper cell's c)."""

    def __init__(self, layer: LSTMLayer, cfg: DynamicConfig) -> None:
        super().__init__()
        self.units, self.dropout, self.forget_bias = layer.units, layer.dropout, layer.forget_bias
        self.z_from, self.fast, self.pool = cfg.z_from, cfg.fast == "auto", Pool()
        self.hold = False  # see weights_held
        self.held: HeldWeights | None = None
        self.w_x, self.w_h, self.norm = layer.w_x, layer.w_h, layer.norm
        self.bias = nn.Parameter(torch.zeros(4 * layer.units)) if layer.bias is None else layer.bias
        self.hypernet = LSTMHypernet(len(layer.w_x), layer.units, layer.norm is not None, cfg)

    def zero_state(self, x: Tensor) -> State:
        return (self.w_h.new_zeros(x.shape[1], self.units),) * 2 + self.hypernet.cell.zero_state(x)

    def step(self, x: Tensor, state: State, kept: Tensor | None, hyper_kept: Tensor | None) -> State:
        """Return the state after one step (eqs. 10 to 13). x: [B, I]; the masks: as in lstm_update."""
        c = state[1]
        pre, _, new_a, hyper_c = self.gate_sums(x, state, hyper_kept)
        h, c = lstm_update(pre.chunk(4, 1), c, self.forget_bias, self.norms(), kept, self.dropout)
        return h, c, new_a, hyper_c

    def gate_sums(self, x: Tensor, state: State, hyper_kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the sums of i, g, f, o before any layer norm [B, 4H], the scaling vectors d_h of these gates [B, 4H],
        and output and cell of the hyper cell after the step (eqs. 10 to 12)."""
        h, _, a, hyper_c = state
        cell = self.hypernet.cell
        new_a, hyper_c = cell.step(torch.cat([h, x], 1) @ cell.w_x, (a, hyper_c), hyper_kept)
        d_h, d_x, d_b = self.hypernet.scales(new_a if self.z_from == "new" else a)
        pre = d_h * (h @ self.w_h) + d_x * (x @ self.w_x) + d_b + self.bias
        return pre, d_h, new_a, hyper_c

    def norms(self) -> tuple[Tensor, ...] | None:
        return None if self.norm is None else self.norm.tensors()

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the outputs [T, B, H] and the last state, from x [T, B, I] and the state before it.

        lengths: int64 [B], the steps of each sequence of a padded batch, or None where all have T.
        """
        x, lengths = checked(self.w_x, x, state, lengths)
        state = state or self.zero_state(x)
        cell = self.hypernet.cell
        kept = draw_kept(x, self.units, self.dropout if self.training else 0.0)
        hyper_kept = draw_kept(x, cell.units, cell.dropout if self.training else 0.0)
        if self.fast and worth_it(x, lengths is not None):
            return self.run_fast(x, state, kept, hyper_kept, lengths)  # pyright: ignore
        states = [state]
        if self.hold and self.fast and not (self.training or torch.is_grad_enabled()):
            held = self.held_weights(x)
            with torch.autocast(x.device.type, enabled=False):
                for x_t in x.unbind():
                    states.append(held.step(x_t, states[-1]))
            return outputs_and_last(states, lengths)
        for t, x_t in enumerate(x.unbind()):
            masks = (None if kept is None else kept[t], None if hyper_kept is None else hyper_kept[t])
            states.append(self.step(x_t, states[-1], *masks))
        return outputs_and_last(states, lengths)

    def weights(self) -> Weights:
        """Return the parameters as hyperlstm_fast takes them."""
        cell, embed = self.hypernet.cell, self.hypernet.embed
        norms, cell_norms = (() if n is None else tuple(n.parameters()) for n in (self.norm, cell.norm))
        return Weights(
            self.w_x, self.w_h, self.bias, cell.w_x, cell.w_h, cell.bias, embed.w_z, embed.b_z, self.hypernet.w_d,
            norms, cell_norms,
        )  # fmt: skip

    def held_weights(self, x: Tensor) -> HeldWeights:
        """Return what takes the steps of x [T, B, I] within weights_held."""
        rows, product = x.shape[1], product_type(x, self.w_h)
        if self.held is None or (self.held.rows, self.held.product) != (rows, product):
            forget = self.forget_bias, self.hypernet.cell.forget_bias
            self.held = HeldWeights(self.weights(), *forget, self.z_from == "new", rows, product)
        return self.held

    @torch.compiler.disable
    def run_fast(
        self, x: Tensor, state: State, kept: Tensor | None, hyper_kept: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, State]:
        """Do the same as the loop over `step` by hyperlstm_fast. The masks are those of all steps, [T, B, units]."""
        cell, inline = self.hypernet.cell, self.hypernet.embed.z_dim <= INLINE_Z
        call = Call(
            CellSpec(self.norm is not None, 0.0 if kept is None else self.dropout, self.forget_bias, inline),
            CellSpec(cell.norm is not None, 0.0 if hyper_kept is None else cell.dropout, cell.forget_bias),
            self.z_from == "new",
            kept,
            hyper_kept,
            lengths,
            product_type(x, self.w_h),
            self.pool,
            torch.is_grad_enabled() and any(p.requires_grad for p in (x, *state, *self.parameters())),
        )
        return run_sequence(call, x, state, self.weights())


@contextmanager
def weights_held(model: nn.Module) -> Iterator[None]:
    """Within the block no weight of the model may change. Its HyperLSTMs put theirs together once for all single steps
    that they take without gradients in eval mode, which makes these faster and changes results by rounding alone."""
    layers = [layer for layer in model.modules() if isinstance(layer, HyperLSTMLayer)]
    for layer in layers:
        layer.hold = True
    try:
        yield
    finally:
        for layer in layers:
            layer.hold, layer.held = False, None


def product_type(x: Tensor, weight: Tensor) -> torch.dtype:
    """Return the type in which the matrix products of x are done."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def worth_it(x: Tensor, padded: bool) -> bool:
    """Whether x [T, B, I] is worth compiling for: not a prompt, not one token at a time, not an empty batch; of padded
    batches the shortest have one step, too. Exported programs and the transforms of torch.func (vmap, jvp, grad) need
    the single steps."""
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_exporting():
        return False
    steps, batch, _ = x.shape
    return (steps > 1 or padded) and batch > 0 and (steps * batch >= 512 or torch.is_grad_enabled())


class RNNHypernet(nn.Module):
    """The hyper part of a HyperRNN: cell, embeddings and, in the scaled form, scaling weights."""

    def __init__(self, inputs: int, units: int, cfg: DynamicConfig) -> None:
        super().__init__()
        self.cell = RNNLayer(units + inputs, cfg.hyper_size)
        self.embed = Embeddings(cfg.hyper_size, cfg.z_dim, 1)
        self.w_d = scaling_weights(units, cfg.z_dim, 1, cfg.init) if cfg.form == "scaled" else None


class HyperRNNLayer(nn.Module):
    """Takes the place of an RNNLayer; called like it. State: (h, a).

    In the scaled form (eqs. 7 and 8) it takes over the layer's weights. In the full form (eqs. 4 to 6) it has Nz
    matrices of each kind, W_h(z) = sum_k z_k w_h[k], each orthogonal / sqrt(Nz) at the start: they differ, so no
    symmetry has to be broken and `init` is without effect. The paper gives no initial values for this form.
    """

    def __init__(self, layer: RNNLayer, cfg: DynamicConfig) -> None:
        super().__init__()
        inputs, units = layer.w_x.shape
        self.units, self.z_from, self.full = units, cfg.z_from, cfg.form == "full"
        self.bias = layer.bias
        self.hypernet = RNNHypernet(inputs, units, cfg)
        self.w_b = None
        if self.full:
            self.w_x = stacked_orthogonal(inputs, units, cfg.z_dim)
            self.w_h = stacked_orthogonal(units, units, cfg.z_dim)
            self.w_b = nn.Parameter(torch.zeros(cfg.z_dim, units))
        else:
            self.w_x, self.w_h = layer.w_x, layer.w_h

    def zero_state(self, x: Tensor) -> State:
        return (self.bias.new_zeros(x.shape[1], self.units), *self.hypernet.cell.zero_state(x))

    def step(self, x: Tensor, state: State) -> State:
        """Return (h, a) after one step. x: [B, I]."""
        h, a = state
        cell = self.hypernet.cell
        (new_a,) = cell.step(torch.cat([h, x], 1) @ cell.w_x, (a,))
        z = self.hypernet.embed(new_a if self.z_from == "new" else a)
        if self.full:
            assert self.w_b is not None
            # z is linear, so x W(z) = sum_k z_k (x w[k]): no matrix of an example's own is ever made
            pre = mixed(h, self.w_h, z[0]) + mixed(x, self.w_x, z[1]) + z[2] @ self.w_b
        else:
            assert self.hypernet.w_d is not None
            d_h, d_x, d_b = z @ self.hypernet.w_d
            pre = d_h * (h @ self.w_h) + d_x * (x @ self.w_x) + d_b
        return torch.tanh((pre + self.bias).to(self.bias.dtype)), new_a

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the outputs [T, B, H] and the last (h, a), from x [T, B, I] and the state before it.

        lengths: int64 [B], the steps of each sequence of a padded batch, or None where all have T.
        """
        x, lengths = checked(self.w_x, x, state, lengths)
        states = [state or self.zero_state(x)]
        for x_t in x.unbind():
            states.append(self.step(x_t, states[-1]))
        return outputs_and_last(states, lengths)


def mixed(x: Tensor, weights: Tensor, z: Tensor) -> Tensor:
    """Return x [B, I] times each example's own matrix sum_k z[b, k] weights[k]; weights [Nz, I, H], z [B, Nz]."""
    return torch.einsum("bi,kih,bk->bh", x, weights, z)


def stacked_orthogonal(inputs: int, units: int, z_dim: int) -> nn.Parameter:
    stack = torch.stack([orthogonal_gates(inputs, units, 1).data for _ in range(z_dim)])
    return nn.Parameter(stack / z_dim**0.5)
