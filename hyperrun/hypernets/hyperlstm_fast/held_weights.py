"""A HyperLSTM step by step with weights that stay as they are, as it draws from what it has learned.

The same mathematics as HyperLSTMLayer.step (hyper_layers.py) in fewer operations: a step of a few rows takes as long as
reading its weights, and every further operation costs its call. As over a sequence (sequence.py), h is multiplied once
by [W_h | hyper cell's W for h], and a once by [hyper cell's W_h | W_z]; biases are added on the way.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperrun.hypernets.hyperlstm_fast.blocks import RepeatedProduct, Weights, norm_by_gate
from hyperrun.targets.recurrent import State, lstm_update


class HeldWeights:
    """Weights put together for many steps of `rows` sequences side by side, without gradients and dropout."""

    def __init__(
        self, w: Weights, forget_bias: float, cell_forget_bias: float, new: bool, rows: int, product: torch.dtype
    ) -> None:
        """w: they may not change from here on. new, product: see sequence.Call."""
        units, paths = len(w.w_h), len(w.w_d)
        self.forget_bias, self.cell_forget_bias = forget_bias, cell_forget_bias
        self.new, self.rows, self.product = new, rows, product
        self.wide, self.narrow = 4 * units, 4 * len(w.cell_w_h)
        self.from_h = RepeatedProduct(torch.cat([w.w_h, w.cell_w_x[:units]], 1).to(product), rows)
        self.x_weight = torch.cat([w.w_x, w.cell_w_x[units:]], 1).to(product)
        self.a_weight = torch.cat([w.cell_w_h, w.w_z], 1)
        gates = w.b_z.new_zeros(self.narrow) if w.cell_bias is None else w.cell_bias
        self.a_bias = torch.cat([gates, w.b_z, w.b_z.new_zeros(len(w.b_z) // 2)])
        self.w_d = w.w_d
        self.d_bias = torch.cat([w.bias.new_zeros(2 * self.wide), w.bias]).view(paths, 1, units)
        self.norms, self.cell_norms = norm_by_gate(w.norms) or None, norm_by_gate(w.cell_norms) or None
        self.known: tuple[Tensor, Tensor] | None = None
        """An output of the hyper cell, and what from_a makes of it: it is asked for twice."""

    def step(self, x: Tensor, state: State) -> State:
        """Return the state after one step. x: [rows, I]."""
        h, c, a, hyper_c = state
        sums, from_x = self.from_h(h.to(self.product)), x.to(self.product) @ self.x_weight
        before = self.from_a(a)
        gates = before[:, : self.narrow] + sums[:, self.wide :] + from_x[:, self.wide :]
        new_a, hyper_c = lstm_update(gates.chunk(4, 1), hyper_c, self.cell_forget_bias, self.cell_norms, None, 0.0)
        z = (self.from_a(new_a) if self.new else before)[:, self.narrow :]
        paths = len(self.w_d)
        d = torch.baddbmm(self.d_bias, z.unflatten(1, (paths, -1)).transpose(0, 1), self.w_d)
        by_h, by_x = (part[:, : self.wide].unflatten(1, (4, -1)).transpose(0, 1).to(d.dtype) for part in (sums, from_x))
        d_h, d_x, d_b = d.chunk(3)
        pre = d_b.addcmul_(d_h, by_h).addcmul_(d_x, by_x)
        h, c = lstm_update(pre.unbind(), c, self.forget_bias, self.norms, None, 0.0)
        return h, c, new_a, hyper_c

    def from_a(self, a: Tensor) -> Tensor:
        """Return what the hyper cell's output gives to its own gates, bias included, and z, [rows, 4N + 12 Nz]."""
        if self.known is None or self.known[0] is not a:
            self.known = a, torch.addmm(self.a_bias, a, self.a_weight)
        return self.known[1]
