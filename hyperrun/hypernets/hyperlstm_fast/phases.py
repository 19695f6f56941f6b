"""The pointwise phases of a HyperLSTM's step, forward and backward, for sequence.py.

Their arguments are gate by gate: a phase that took whole blocks apart would have to put its gradients together again.
The derivative of a phase is torch.func.vjp of what it computes, so it begins by computing that again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyperrun.targets.recurrent import lstm_update

INLINE_Z = 8
"""Largest Nz for which the main phases make the scaling vectors from z themselves; above it a product does."""


class CellSpec(NamedTuple):
    """What a pointwise phase depends on besides tensors."""

    norm: bool
    dropout: float
    forget_bias: float
    inline: bool = False
    """The main cell's phases get (z, w_d) in place of d."""
    ends: bool = False
    """The backward phases get the gradients of the last states, where sequences of several lengths end."""


class Arguments:
    """Takes a phase's arguments from the front."""

    def __init__(self, spec: CellSpec, tensors: tuple[Tensor, ...]) -> None:
        self.spec, self.tensors = spec, tensors

    def take(self, count: int) -> tuple[Tensor, ...]:
        taken, self.tensors = self.tensors[:count], self.tensors[count:]
        return taken

    def take_norms(self) -> tuple[Tensor, ...]:
        return self.take(10 if self.spec.norm else 0)

    def take_kept(self) -> Tensor | None:
        return self.take(1)[0] if self.spec.dropout else None

    def take_ends(self, *gradients: Tensor) -> Sequence[Tensor]:
        """Return the gradients of states after this step, with those of the last states of sequences that end here."""
        if not self.spec.ends:
            return gradients
        (ends,), last = self.take(1), self.take(len(gradients))
        return [g + torch.where(ends, d, 0.0) for g, d in zip(gradients, last, strict=True)]


def hyper_forward(spec: CellSpec, *tensors: Tensor) -> None:
    """h, x, a part of the gates, bias if no norm [4 each]; c, norms, mask; written: a, c. h's part becomes the sum."""
    args = Arguments(spec, tensors)
    parts, from_x, from_a = args.take(4), args.take(4), args.take(4)
    bias = args.take(0 if spec.norm else 4)
    (c,), norms, kept = args.take(1), args.take_norms(), args.take_kept()
    a_out, c_out = args.take(2)
    totals = [(h.to(c.dtype) + x + a).to(h.dtype) for h, x, a in zip(parts, from_x, from_a, strict=True)]
    gates = totals if spec.norm else [total.to(c.dtype) + b for total, b in zip(totals, bias, strict=True)]
    a, new_c = lstm_update(gates, c, spec.forget_bias, norms or None, kept, spec.dropout)
    write(parts, totals)
    write((a_out, c_out), (a, new_c))


def hyper_backward(spec: CellSpec, *tensors: Tensor) -> None:
    """Sums of the gates' parts, bias if no norm [4 each]; c, norms, mask; gradients of a, c; ends; from_a's [4]; sums.

    ends: as in main_backward, with the gradients of the last a and c. The gradients of the first replace them, that of
    c replaces that of the new c, and the first are written to from_a's too. The norms' gradients are added to the sums,
    [B, ...] each.
    """
    args = Arguments(spec, tensors)
    totals, bias = args.take(4), args.take(0 if spec.norm else 4)
    (c,), norms, kept = args.take(1), args.take_norms(), args.take_kept()
    da, dc = args.take(2)
    da_here, dc_here = args.take_ends(da, dc)
    d_from_a, sums = args.take(4), args.take_norms()

    def function(c: Tensor, *tensors: Tensor) -> Any:
        return lstm_update(tensors[:4], c, spec.forget_bias, tensors[4:] or None, kept, spec.dropout)

    gates = (
        [t.to(c.dtype) for t in totals] if spec.norm else [t.to(c.dtype) + b for t, b in zip(totals, bias, strict=True)]
    )
    pull: Any = torch.func.vjp(function, c, *gates, *expand_rows(norms, len(c)))[1]
    d_c, *rest = pull((da_here, dc_here))
    write(totals, rest[:4])
    write(d_from_a, rest[:4])
    write((dc,), (d_c,))
    add(sums, rest[4:])


def main_update(
    spec: CellSpec,
    hp: Sequence[Tensor],
    xp: Sequence[Tensor],
    d: Sequence[Tensor],
    c: Tensor,
    bias: Sequence[Tensor],
    norms: Sequence[Tensor],
    kept: Tensor | None,
) -> Any:
    """Return (h, c) [B, H]. hp, xp: h W_h and x W_x by gate; d: the twelve scaling vectors; all [B, H] each."""
    gates = [d[n] * hp[n] + d[4 + n] * xp[n] + d[8 + n] + bias[n] for n in range(4)]
    return lstm_update(gates, c, spec.forget_bias, norms or None, kept, spec.dropout)


def take_scales(args: Arguments) -> Sequence[Tensor]:
    """Return the twelve d [B, H]: as given, or from z [B, 12 Nz] and w_d [12, Nz, H] by arithmetic that fuses."""
    if not args.spec.inline:
        return args.take(12)
    z, w_d = args.take(2)
    paths, z_dim, _ = w_d.shape
    return [
        sum((z[:, n * z_dim + k, None] * w_d[n, k] for k in range(1, z_dim)), z[:, n * z_dim, None] * w_d[n, 0])
        for n in range(paths)
    ]


def main_forward(spec: CellSpec, *tensors: Tensor) -> None:
    """h and x part of the gates [4 each], c, scales, bias [4], norms, mask; written: h, c."""
    args = Arguments(spec, tensors)
    hp, xp, (c,) = args.take(4), args.take(4), args.take(1)
    d, bias, norms, kept = take_scales(args), args.take(4), args.take_norms(), args.take_kept()
    hp, xp = [t.to(c.dtype) for t in hp], [t.to(c.dtype) for t in xp]
    write(args.take(2), main_update(spec, hp, xp, d, c, bias, norms, kept))


def main_backward(spec: CellSpec, *tensors: Tensor) -> None:
    """As main_forward up to the mask; gradient of h (2 parts) and of the new c; ends; room for the scales' [12]; sums.

    ends, if the spec has them: bool [B, 1], whose last step this is, and the gradient of the last c [B, H]. The
    gradients of the gates' parts replace them, that of c replaces that of the new c.
    """
    args = Arguments(spec, tensors)
    hp, xp, (c,) = args.take(4), args.take(4), args.take(1)
    d, bias, norms, kept = take_scales(args), args.take(4), args.take_norms(), args.take_kept()
    dh_out, dh_next, dc = args.take(3)
    (dc_here,) = args.take_ends(dc)
    dd, sums = args.take(12), args.take_norms()

    def function(c: Tensor, *t: Tensor) -> Any:
        return main_update(spec, t[:4], t[4:8], t[8:20], c, bias, t[20:], kept)

    primals = (c, *(t.to(c.dtype) for t in (*hp, *xp)), *d, *expand_rows(norms, len(c)))
    pull: Any = torch.func.vjp(function, *primals)[1]
    d_c, *rest = pull((dh_out.to(c.dtype) + dh_next.to(c.dtype), dc_here))
    write(hp, rest[:4])
    write(xp, rest[4:8])
    write(dd, rest[8:20])
    write((dc,), (d_c,))
    add(sums, rest[20:])


def z_backward(spec: None, dd: Tensor, w_d: Tensor, d_z: Tensor) -> None:
    """Gradient of z [12, B, Nz], written, from that of the scaling vectors [12, B, H] and w_d [12, Nz, H]."""
    d_z.copy_((dd[:, :, None] * w_d[:, None]).sum(-1))


def expand_rows(norms: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Give each example a row of its own, so that the derivative needs no sum over the batch within the phase."""
    return [n.expand(batch, -1) for n in norms]


def write(to: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for place, value in zip(to, values, strict=True):
        place.copy_(value)


def add(to: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for place, value in zip(to, values, strict=True):
        place.add_(value)
