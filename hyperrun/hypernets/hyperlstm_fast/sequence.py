"""A HyperLSTM over a whole sequence as one autograd function, with back-propagation through time written by hand.

The same mathematics as HyperLSTMLayer.step (hyper_layers.py), arranged for speed:

- x_t W for all steps is one product before the loop; h is multiplied once a step, by [W_h | hyper cell's W for h], and
  a once, by [hyper cell's W_h | W_z]: small products cost their call more than their arithmetic;
- between these two products stand two pointwise phases (phases.py), each compiled as one, which write into
  blocks made beforehand; the second makes the scaling vectors on the way where Nz is small;
- backward needs of each step only its sums before the scaling, c and a: it makes the rest again from them, and puts
  the gradients of these sums in their place, so that each weight's gradient is one product after the loop. Only the
  scaling weights, whose gradients are as large as the step's widest block, are summed up every few steps;
- the blocks (about 9 numbers for each unit, step and example) are kept from one training step to the next.

Sequences of several lengths (padded at the end) run to the end of the longest. What a padded step computes is used by
nothing: the last states are taken from the blocks, each after its sequence's own last step, and backward adds their
gradients there, within the phases.

The derivative of a phase is torch.func.vjp of the phase itself, compiled as one; only the loop's is by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hyperrun.hypernets.hyperlstm_fast.blocks import Pool, RepeatedProduct, Weights, Workspace, norm_by_gate
from hyperrun.hypernets.hyperlstm_fast.compiled_phases import compiled
from hyperrun.hypernets.hyperlstm_fast.phases import (
    CellSpec,
    hyper_backward,
    hyper_forward,
    main_backward,
    main_forward,
    z_backward,
)
from hyperrun.targets.recurrent import at_the_end, without_padding


class Call(NamedTuple):
    """What of one call is not a tensor with a gradient."""

    main: CellSpec
    cell: CellSpec
    new: bool
    """z reads the hyper cell's new state."""
    kept: Tensor | None
    hyper_kept: Tensor | None
    lengths: Tensor | None
    """Steps of each sequence, int64 [B], or None where all have as many."""
    product: torch.dtype
    """Type of the matrix products' inputs; states and pointwise arithmetic have that of the parameters."""
    pool: Pool
    differentiable: bool
    """Whether backward may follow, so that the blocks have to be kept."""


def run_sequence(call: Call, x: Tensor, state: tuple[Tensor, ...], w: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return outputs [T, B, H], in the products' type, and the last state (h, c, a, hyper c), from x [T, B, I]."""
    flat = [*w[:9], *w.norms, *w.cell_norms]
    out, *last = HyperLSTMSequence.apply(call, x, *state, *flat)  # pyright: ignore[reportGeneralTypeIssues]
    if call.lengths is None:
        return out, (out[-1].to(w.w_h.dtype), *last)
    h = at_the_end(out, (call.lengths - 1).clamp(min=0)).to(w.w_h.dtype)
    h = torch.where(call.lengths[:, None] > 0, h, state[0])
    return without_padding(out, call.lengths), (h, *last)


def unpack(call: Call, flat: tuple[Any, ...]) -> Weights:
    norms = flat[9:]
    return Weights(*flat[:9], norms=norms[:4], cell_norms=norms[4:])


class NoSecondGradient(torch.autograd.Function):
    """(count, so many inputs..., gradients...) -> the gradients, through which no further gradient goes."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return tensors[count:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RuntimeError("gradients of gradients need the single steps of a HyperLSTM: fast='never'")


class HyperLSTMSequence(torch.autograd.Function):
    """(call, x, h, c, a, hyper c, weights...) -> (outputs, c, a, hyper c). The last h is the last output."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        h, c, a, hyper_c = tensors[:4]
        w = unpack(call, tensors[4:])
        if call.differentiable:
            ws = call.pool.take(w, x, call.product, call.new)
        else:
            ws = Workspace(w, x, call.product, call.new, keep=False, states=call.lengths is not None)

        def run(
            x: Tensor, h: Tensor, c: Tensor, a: Tensor, hyper_c: Tensor, *kept: Tensor | None
        ) -> tuple[Tensor, ...]:
            own = call._replace(kept=kept[0], hyper_kept=kept[1])
            return forward_loop(own, ws, w, x.to(call.product), h.to(call.product), (c, a, hyper_c))

        inputs = (x, h, c, a, hyper_c, call.kept, call.hyper_kept)
        with torch.autocast(x.device.type, enabled=False):
            out, *last = ws.forward_graph(run, inputs, tensors[4:]) if call.differentiable else run(*inputs)
            if call.lengths is not None:
                last = [at_the_end(block, call.lengths) for block in (ws.c, ws.a, ws.hyper_c)]
        if call.differentiable:
            ctx.call, ctx.workspace = call, ws
            ctx.save_for_backward(x, out, *tensors)
        return out, *last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        inputs = ctx.saved_tensors
        with torch.no_grad():
            found = HyperLSTMSequence.gradients(ctx, *gradients)
        if torch.is_grad_enabled():  # create_graph=True; torch's once_differentiable drops some terms without a word
            found = (None, *NoSecondGradient.apply(len(inputs), *inputs, *found[1:]))
        return found

    @staticmethod
    def gradients(ctx: Any, d_out: Tensor, *d_last: Tensor) -> tuple[Tensor | None, ...]:
        call, ws, ctx.workspace = ctx.call, ctx.workspace, None
        x, out, *tensors = ctx.saved_tensors
        h, *state = tensors[:4]
        w = unpack(call, tuple(tensors[4:]))
        with torch.autocast(x.device.type, enabled=False):
            if ws is None:  # a second backward pass (retain_graph): the first has overwritten the blocks
                ws = Workspace(w, x, call.product, call.new, keep=True)
                forward_loop(call, ws, w, x.to(call.product), h.to(call.product), tuple(state))

            def run(d_out: Tensor, *rest: Any) -> tuple[Tensor, ...]:
                own = call._replace(kept=rest[3], hyper_kept=rest[4])
                return backward_loop(own, ws, w, d_out.to(call.product), rest[:3], rest[5])

            ends = None if call.lengths is None else ends_by_step(call.lengths, len(x))
            gradients = ws.backward_graph(run, (d_out, *d_last, call.kept, call.hyper_kept, ends), tensors[4:])
            d_state, (d_bias, d_w_d), norm_sums = gradients[:4], gradients[4:6], gradients[6:]
            previous = torch.cat([h.to(call.product)[None], out[:-1]])
            d_x, *d_weights = weight_gradients(call, ws, w, x, previous, ctx.needs_input_grad[1])
            norms = [s.sum(0) for s in norm_sums]
        call.pool.give(ws)
        return None, d_x, *d_state, *d_weights[:2], d_bias, *d_weights[2:], d_w_d, *norms


def forward_loop(
    call: Call, ws: Workspace, w: Weights, x: Tensor, h: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Run all steps; x [T, B, I] and h [B, H] in the products' type. Returns outputs and the last c, a, hyper c."""
    length, batch, inputs = x.shape
    wide, narrow, units = ws.wide, ws.narrow, h.shape[1]
    ws.weight[:, :wide].copy_(w.w_h)
    ws.weight[:, wide:].copy_(w.cell_w_x[:units])
    ws.a_weight[:, :narrow].copy_(w.cell_w_h)
    ws.a_weight[:, narrow:].copy_(w.w_z)
    a_bias = torch.cat([w.b_z.new_zeros(narrow), w.b_z, w.b_z.new_zeros(len(w.b_z) // 2)])
    rows = x.reshape(-1, inputs)
    torch.mm(rows, w.w_x.to(call.product), out=ws.from_x.view(-1, wide))
    torch.mm(rows, w.cell_w_x[units:].to(call.product), out=ws.hyper_from_x.view(-1, narrow))
    for block, start in zip((ws.c, ws.a, ws.hyper_c), state, strict=True):
        block[0].copy_(start)
    out = torch.empty(length, batch, units, dtype=call.product, device=x.device)
    kept, hyper_kept = by_step(call.kept, length), by_step(call.hyper_kept, length)
    hyper_bias, hyper_norms, bias, norms = by_gate(w)
    torch.addmm(a_bias, ws.a[0], ws.a_weight, out=ws.from_a[0])
    times_weight = RepeatedProduct(ws.weight, batch)
    hyper_phase = main_phase = None
    with small_products():
        for t, (step, h_next) in enumerate(zip(ws.steps, out.unbind(), strict=True)):
            step.sums.copy_(times_weight(h))
            args = (
                *step.hyper, *step.hyper_rest, *hyper_bias, step.hyper_c, *hyper_norms, *hyper_kept[t],
                step.a_next, step.hyper_c_next,
            )  # fmt: skip
            hyper_phase = hyper_phase or compiled(hyper_forward, call.cell, args)
            hyper_phase(*args)
            torch.addmm(a_bias, step.a_next, ws.a_weight, out=step.from_a_next)
            args = (*step.main, *make_scales(call, ws, w, step.z), *bias, *norms, *kept[t], h_next, step.c_next)
            main_phase = main_phase or compiled(main_forward, call.main, args)
            main_phase(*args)
            h = h_next
    last = ws.steps[-1]
    return out, last.c_next.clone(), last.a_next.clone(), last.hyper_c_next.clone()


@contextmanager
def small_products() -> Iterator[None]:
    """Send torch.mm to MKL: oneDNN, where a lowered matmul precision sends it, takes twice as long for so few rows.

    RepeatedProduct, which is oneDNN's, goes on as it is.
    """
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags would set the precisions too
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


def make_scales(call: Call, ws: Workspace, w: Weights, z: Tensor) -> tuple[Tensor, ...]:
    """Return what the main phases make the scaling vectors from: z [B, 12 Nz] and w_d, or the twelve themselves."""
    if call.main.inline:
        return z, w.w_d
    torch.bmm(z.view(len(z), len(w.w_d), -1).transpose(0, 1), w.w_d, out=ws.d)
    return ws.d.unbind()


def by_gate(w: Weights) -> tuple[tuple[Tensor, ...], ...]:
    """Return hyper bias, hyper norms, bias, norms as the phases take them."""
    cell_bias = () if w.cell_bias is None else w.cell_bias.chunk(4)
    return cell_bias, norm_by_gate(w.cell_norms), w.bias.chunk(4), norm_by_gate(w.norms)


def by_step(kept: Tensor | None, length: int) -> list[tuple[Tensor, ...]]:
    return [()] * length if kept is None else [(k,) for k in kept.unbind()]


def ends_by_step(lengths: Tensor, length: int) -> Tensor:
    """Return which sequences end before the first and after each of the steps, bool [T + 1, B], rounded up to 16.

    A kernel is made for the alignment of the first row it sees: all rows start at whole 16 bytes.
    """
    filled_up = nn.functional.pad(lengths, (0, -len(lengths) % 16), value=-1)
    return torch.arange(length + 1, device=lengths.device)[:, None] == filled_up


def backward_loop(
    call: Call, ws: Workspace, w: Weights, d_out: Tensor, d_last: tuple[Tensor, ...], ends: Tensor | None
) -> tuple[Tensor, ...]:
    """Run all steps backward; d_out [T, B, H] in the products' type, d_last of c, a and hyper c.

    ends: None where all sequences end after the last step; else what ends_by_step returns, where d_last come in.

    Returns the gradients of h, c, a, hyper c before the first step, of the bias, of w_d, and those of the norms, of
    main cell and hyper cell, [B, ...] each: to be summed over the batch.

    Afterwards ws.sums and ws.from_x hold their own gradients, ws.d_from_a those of ws.from_a.
    """
    length, batch, units = d_out.shape
    narrow = ws.narrow
    a_weight_t, w_d_t = ws.a_weight.t().contiguous(), w.w_d.mT
    times_weight_t = RepeatedProduct(ws.weight.t(), batch)
    dh = torch.zeros(batch, units, dtype=call.product, device=d_out.device)
    dc, da, hyper_dc = (d.clone() if ends is None else torch.zeros_like(d).contiguous() for d in d_last)
    main_ends, hyper_ends = [()] * length, [()] * length
    main_spec, cell_spec = call.main, call.cell
    if ends is not None:
        ends = ends[:, :batch, None]
        d_last = tuple(d.contiguous() for d in d_last)
        main_ends = [(e, d_last[0]) for e in ends[1:].unbind()]
        hyper_ends = [(e, *d_last[1:]) for e in ends[1:].unbind()]
        main_spec, cell_spec = call.main._replace(ends=True), call.cell._replace(ends=True)
    d_w_d, d_bias = torch.zeros_like(w.w_d), torch.zeros_like(w.bias)
    sums, hyper_sums = (tuple(n.new_zeros(batch, len(n)) for n in norms) for norms in (w.norms, w.cell_norms))
    gate_sums, hyper_gate_sums = (
        tuple(part for s, n in zip(all_sums, (4, 4, 1, 1), strict=True) for part in s.chunk(n, 1)) if all_sums else ()
        for all_sums in (sums, hyper_sums)
    )
    kept, hyper_kept = by_step(call.kept, length), by_step(call.hyper_kept, length)
    hyper_bias, hyper_norms, bias, norms = by_gate(w)
    paths, z_dim, _ = w.w_d.shape
    d_outs = d_out.unbind()
    ws.d_from_a[-1].zero_()  # nothing follows the last state; if z reads the new one, nothing reads z of the first
    ws.d_from_a[0].zero_()
    hyper_phase = main_phase = z_phase = None
    with small_products():
        for t in reversed(range(length)):
            step = ws.steps[t]
            assert step.d_z is not None
            args = (
                *step.main, *make_scales(call, ws, w, step.z), *bias, *norms, *kept[t], d_outs[t], dh, dc,
                *main_ends[t], *step.dd, *gate_sums,
            )  # fmt: skip
            main_phase = main_phase or compiled(main_backward, main_spec, args)
            main_phase(*args)
            if call.main.inline:
                args = (ws.dd[:, t % ws.chunk], w.w_d, step.d_z)
                z_phase = z_phase or compiled(z_backward, None, args)
                z_phase(*args)
            else:
                step.d_z.copy_(torch.bmm(ws.dd[:, t % ws.chunk], w_d_t))
            if t % ws.chunk == 0:
                z = ws.from_a[t + ws.ahead : min(t + ws.chunk, length) + ws.ahead, :, narrow:]
                part = ws.dd[:, : len(z)].flatten(1, 2)
                d_w_d.baddbmm_(z.reshape(-1, paths, z_dim).permute(1, 2, 0), part)
                d_bias += part[2 * paths // 3 :].sum(1).flatten()
            if call.new:  # what the state after this step gave to the next step, and to z of this one
                last = float(t == length - 1 and ends is None)
                torch.addmm(d_last[1], ws.d_from_a[t + 1], a_weight_t, beta=last, out=da)
            args = (
                *step.hyper, *hyper_bias, step.hyper_c, *hyper_norms, *hyper_kept[t], da, hyper_dc,
                *hyper_ends[t], *step.d_from_a[:4], *hyper_gate_sums,
            )  # fmt: skip
            hyper_phase = hyper_phase or compiled(hyper_backward, cell_spec, args)
            hyper_phase(*args)
            dh = times_weight_t(step.sums)
            if not call.new:
                torch.mm(step.d_from_a[4], a_weight_t, out=da)
    if call.new:
        torch.mm(ws.d_from_a[0], a_weight_t, out=da)
    if ends is not None:  # a sequence without a step: its last state is the first
        dc, da, hyper_dc = (d + torch.where(ends[0], e, 0.0) for d, e in zip((dc, da, hyper_dc), d_last, strict=True))
    return dh.to(dc.dtype), dc, da, hyper_dc, d_bias, d_w_d, *sums, *hyper_sums


def weight_gradients(
    call: Call, ws: Workspace, w: Weights, x: Tensor, previous: Tensor, x_too: bool
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x (or None), w_x, w_h, cell_w_x, cell_w_h, cell_bias (or None), w_z and b_z.

    Each is one product over all steps. previous: h before each step [T, B, H], in the products' type.
    """
    dtype, product = w.w_h.dtype, call.product
    units = previous.shape[-1]
    inputs = x.reshape(-1, x.shape[-1]).to(product)
    h = previous.view(-1, units)
    d_from_x = ws.from_x.view(-1, ws.wide)
    d_sums = ws.sums.view(len(d_from_x), -1)
    d_hyper = d_sums[:, ws.wide :]
    d_from_a = ws.d_from_a.flatten(0, 1)
    d_a_weight = torch.mm(ws.a.flatten(0, 1).t(), d_from_a)
    d_weight = torch.mm(h.t(), d_sums)
    d_cell_w_x = torch.cat([d_weight[:, ws.wide :], torch.mm(inputs.t(), d_hyper)])
    d_x = None
    if x_too:
        d_x = torch.mm(d_from_x, w.w_x.to(product).t())
        d_x = d_x.addmm_(d_hyper, w.cell_w_x[units:].to(product).t()).view(x.shape).to(x.dtype)
    return (
        d_x,
        torch.mm(inputs.t(), d_from_x).to(dtype),
        d_weight[:, : ws.wide].to(dtype),
        d_cell_w_x.to(dtype),
        d_a_weight[:, : ws.narrow],
        None if w.cell_bias is None else d_hyper.sum(0, dtype=dtype),
        d_a_weight[:, ws.narrow :],
        d_from_a[:, ws.narrow :].sum(0)[: len(w.b_z)],
    )
