"""The cells of Ha et al. 2016 written down as printed: one example, one gate, one time step after the other.

Slow on purpose. Weights come in the paper's orientation (W x, rows are outputs), by gate; `by_gate` turns a
layer's own tensors into that form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperrun.hypernets.hyper_layers import HyperLSTMLayer, HyperRNNLayer
from hyperrun.targets.recurrent import LSTMLayer, RNNLayer

GATES = "igfo"


def by_gate(weight: Tensor, units: int) -> dict[str, Tensor]:
    """Split [inputs, 4 * units] into the paper's W^y [units, inputs], or [4 * units] into b^y [units]."""
    parts = {y: weight[..., n * units : (n + 1) * units] for n, y in enumerate(GATES)}
    return {y: part.T if part.ndim == 2 else part for y, part in parts.items()}


def layer_norm(v: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    mean = v.sum() / len(v)
    variance = ((v - mean) ** 2).sum() / len(v)
    return gain * (v - mean) / (variance + 1e-3) ** 0.5 + shift


def update(pre: dict[str, Tensor], c: Tensor, layer, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Eq. 13, and the layer norm of eq. 12: pre-activations by gate [H], c [H] -> (h, c)."""
    n = len(c)
    if layer.norm is not None:
        gain, shift = by_gate(layer.norm.gate_gain, n), by_gate(layer.norm.gate_shift, n)
        pre = {y: layer_norm(pre[y], gain[y], shift[y]) for y in GATES}
    candidate = torch.tanh(pre["g"])
    if kept is not None:
        candidate = torch.where(kept, candidate / (1 - layer.dropout), torch.zeros_like(candidate))
    c = torch.sigmoid(pre["f"] + layer.forget_bias) * c + torch.sigmoid(pre["i"]) * candidate
    shown = c if layer.norm is None else layer_norm(c, layer.norm.cell_gain, layer.norm.cell_shift)
    return torch.sigmoid(pre["o"]) * torch.tanh(shown), c


def lstm_step(layer: LSTMLayer, x: Tensor, h: Tensor, c: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Eq. 9 (and 10): x [I], h and c [H]."""
    w_x, w_h = by_gate(layer.w_x, len(h)), by_gate(layer.w_h, len(h))
    pre = {y: w_h[y] @ h + w_x[y] @ x for y in GATES}
    if layer.bias is not None:
        bias = by_gate(layer.bias, len(h))
        pre = {y: pre[y] + bias[y] for y in GATES}
    return update(pre, c, layer, kept)


def hyper_lstm_step(
    layer: HyperLSTMLayer, x: Tensor, state: list[Tensor], kept: Tensor | None, hyper_kept: Tensor | None
) -> list[Tensor]:
    """Eqs. 10 to 13 for one example: x [I]; state h [H], c [H], a [N], a's cell [N]."""
    h, c, a, a_c = state
    hyper = layer.hypernet
    new_a, a_c = lstm_step(hyper.cell, torch.cat([h, x]), a, a_c, hyper_kept)
    source = new_a if layer.z_from == "new" else a
    units, z_dim = len(h), hyper.embed.z_dim
    w_x, w_h, b_0 = by_gate(layer.w_x, units), by_gate(layer.w_h, units), by_gate(layer.bias, units)
    pre = {}
    for n, y in enumerate(GATES):
        z, d = {}, {}
        for path, name in enumerate("hxb"):
            column = (4 * path + n) * z_dim
            z[name] = hyper.embed.w_z[:, column : column + z_dim].T @ source
            if name != "b":
                z[name] = z[name] + hyper.embed.b_z[column : column + z_dim]
            d[name] = hyper.w_d[4 * path + n].T @ z[name]
        # the paper's form: rows of the matrices are scaled
        pre[y] = (d["h"][:, None] * w_h[y]) @ h + (d["x"][:, None] * w_x[y]) @ x + d["b"] + b_0[y]
    h, c = update(pre, c, layer, kept)
    return [h, c, new_a, a_c]


def rnn_step(layer: RNNLayer, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(layer.w_h.T @ h + layer.w_x.T @ x + layer.bias)


def hyper_rnn_step(layer: HyperRNNLayer, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    """Eqs. 4 to 8 for one example, with the weight matrices of this step actually made: x [I]; state h [H], a [N]."""
    h, a = state
    hyper = layer.hypernet
    new_a = rnn_step(hyper.cell, torch.cat([h, x]), a)
    source = new_a if layer.z_from == "new" else a
    z_dim = hyper.embed.z_dim
    z_h, z_x, z_b = (hyper.embed.w_z[:, n * z_dim : (n + 1) * z_dim].T @ source for n in range(3))
    z_h, z_x = z_h + hyper.embed.b_z[:z_dim], z_x + hyper.embed.b_z[z_dim:]
    if layer.full:
        w_h = sum(z_h[k] * layer.w_h[k].T for k in range(z_dim))
        w_x = sum(z_x[k] * layer.w_x[k].T for k in range(z_dim))
        b = sum(z_b[k] * layer.w_b[k] for k in range(z_dim)) + layer.bias
    else:
        d_h, d_x, d_b = (hyper.w_d[n].T @ z for n, z in enumerate((z_h, z_x, z_b)))
        w_h, w_x, b = d_h[:, None] * layer.w_h.T, d_x[:, None] * layer.w_x.T, d_b + layer.bias
    return [torch.tanh(w_h @ h + w_x @ x + b), new_a]


def run(layer, x: Tensor, state: tuple[Tensor, ...] | None = None, masks=(None, None)) -> tuple[Tensor, list[Tensor]]:
    """Run a layer by the reference: x [T, B, I] -> outputs [T, B, H] and the last state, each [B, ...].

    masks: bool [T, B, units] of the main and of the hyper cell, or None.
    """
    state = state or layer.zero_state(x)
    examples = []
    for b in range(x.shape[1]):
        s = [part[b] for part in state]
        outputs = []
        for t in range(len(x)):
            kept, hyper_kept = (None if m is None else m[t, b] for m in masks)
            if isinstance(layer, HyperLSTMLayer):
                s = hyper_lstm_step(layer, x[t, b], s, kept, hyper_kept)
            elif isinstance(layer, LSTMLayer):
                s = list(lstm_step(layer, x[t, b], s[0], s[1], kept))
            elif isinstance(layer, HyperRNNLayer):
                s = hyper_rnn_step(layer, x[t, b], s)
            else:
                s = [rnn_step(layer, x[t, b], s[0])]
            outputs.append(s[0])
        examples.append((torch.stack(outputs), s))
    last = [torch.stack([s[n] for _, s in examples]) for n in range(len(examples[0][1]))]
    return torch.stack([out for out, _ in examples], 1), last
