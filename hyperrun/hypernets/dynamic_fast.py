"""A HyperLSTM over a whole sequence as one autograd function, with back-propagation through time written by hand.

The same mathematics as HyperLSTM.step (dynamic.py), arranged for speed:

- x_t W for all steps is one product before the loop; h_{t-1} is multiplied once, by [W_h | hyper cell's W_h];
- a step is then four small products and two pointwise phases (phases.py), which write into blocks made beforehand;
- backward needs of each step only its sums before the scaling, c and a: it makes the rest again from them, and puts
  the gradients of these sums in their place, so that each weight's gradient is one product after the loop. Only the
  scaling weights, whose gradients are as large as the step's widest block, are summed up every few steps;
- the blocks (about 9 numbers for each unit, step and example) are kept from one training step to the next.

The derivative of a phase is torch.func.vjp of the phase itself, compiled as one; only the loop's is by hand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyperrun.phases import compiled
from hyperrun.targets.recurrent import lstm_update

CHUNK_BYTES = 8 * 2**20
"""Gradients of the scaling vectors collected before they are multiplied: a few steps' worth, so that they stay in the
cache."""


class CellSpec(NamedTuple):
    """What a pointwise phase depends on besides tensors."""

    norm: bool
    dropout: float
    forget_bias: float


class Weights(NamedTuple):
    """Parameters of a HyperLSTM, in the order in which the function takes them. H units, N hyper units, I inputs."""

    w_x: Tensor
    """[I, 4H]"""
    w_h: Tensor
    """[H, 4H]"""
    bias: Tensor
    """b_0 [4H]"""
    cell_w_x: Tensor
    """[H + I, 4N]"""
    cell_w_h: Tensor
    """[N, 4N]"""
    cell_bias: Tensor | None
    """[4N]"""
    w_z: Tensor
    """[N, 12 Nz]"""
    b_z: Tensor
    """[8 Nz]"""
    w_d: Tensor
    """[12, Nz, H]"""
    norms: tuple[Tensor, ...]
    """Of the main cell: four, as in lstm_update, or none."""
    cell_norms: tuple[Tensor, ...]
    """Of the hyper cell."""


# ---------------------------------------------------------------- phases


def hyper_update(spec: CellSpec, pre: Tensor, c: Tensor, params: tuple[Tensor, ...], kept: Tensor | None) -> Any:
    """Return (a, its cell) [B, N]. pre: [B, 4N]; params: bias, or the four norms."""
    if spec.norm:
        return lstm_update(pre, c, spec.forget_bias, params, kept, spec.dropout)
    return lstm_update(pre + params[0], c, spec.forget_bias, None, kept, spec.dropout)


def main_update(
    spec: CellSpec, hp: Tensor, xp: Tensor, d: Tensor, c: Tensor, params: tuple[Tensor, ...], kept: Tensor | None
) -> Any:
    """Return (h, c) [B, H]. hp, xp: h W_h and x W_x [B, 4H]; d [12, B, H]; params: b_0 and the norms, if any."""
    d_h, d_x, d_b = d.view(3, 4, len(c), -1).transpose(1, 2).flatten(2).unbind()
    pre = d_h * hp + d_x * xp + d_b + params[0]
    return lstm_update(pre, c, spec.forget_bias, params[1:] or None, kept, spec.dropout)


def hyper_forward(spec: CellSpec, pre: Tensor, from_x: Tensor, from_a: Tensor, c: Tensor, *rest: Tensor) -> None:
    """rest: params, the mask if there is dropout, then what is written: a, a in the products' type, c.

    The sum of the three parts replaces `pre`.
    """
    *params, a_out, a_product, c_out = rest
    kept = params.pop() if spec.dropout else None
    total = (pre.to(c.dtype) + from_x + from_a).to(pre.dtype)
    a, new_c = hyper_update(spec, total.to(c.dtype), c, tuple(params), kept)
    pre.copy_(total)
    a_out.copy_(a)
    a_product.copy_(a)
    c_out.copy_(new_c)


def hyper_backward(spec: CellSpec, pre: Tensor, c: Tensor, *rest: Tensor) -> None:
    """rest: params, the mask, the gradients of a (in two parts) and of the new c, then, with layer norm, four sums.

    The gradient of `pre` replaces it, that of c replaces that of the new c; the norms' gradients are added to the sums,
    [B, ...] each.
    """
    params, kept, (da_z, da_next, dc), sums = split_rest(spec, rest, 3, first=0)
    rows = expand_rows(params, len(c))

    def function(pre: Tensor, c: Tensor, *params: Tensor) -> Any:
        return hyper_update(spec, pre, c, params, kept)

    _, pull = torch.func.vjp(function, pre.to(c.dtype), c, *rows)
    d_pre, d_c, *d_params = pull((da_z + da_next.to(c.dtype), dc))
    pre.copy_(d_pre)
    dc.copy_(d_c)
    add_to(sums, d_params)


def main_forward(spec: CellSpec, hp: Tensor, xp: Tensor, d: Tensor, c: Tensor, *rest: Tensor) -> None:
    """rest: params, the mask if there is dropout, then what is written: h and c."""
    *params, h_out, c_out = rest
    kept = params.pop() if spec.dropout else None
    h, new_c = main_update(spec, hp.to(c.dtype), xp.to(c.dtype), d, c, tuple(params), kept)
    h_out.copy_(h)
    c_out.copy_(new_c)


def main_backward(spec: CellSpec, hp: Tensor, xp: Tensor, d: Tensor, c: Tensor, *rest: Tensor) -> None:
    """rest: params, the mask, the gradients of h (in two parts) and of the new c, room for that of d, the sums.

    The gradients of hp and xp replace them, that of c replaces that of the new c.
    """
    params, kept, (dh_out, dh_next, dc, dd), sums = split_rest(spec, rest, 4, first=1)
    rows = expand_rows(params[1:], len(c))

    def function(hp: Tensor, xp: Tensor, d: Tensor, c: Tensor, *norms: Tensor) -> Any:
        return main_update(spec, hp, xp, d, c, (params[0], *norms), kept)

    _, pull = torch.func.vjp(function, hp.to(c.dtype), xp.to(c.dtype), d, c, *rows)
    d_hp, d_xp, d_d, d_c, *d_norms = pull((dh_out.to(c.dtype) + dh_next.to(c.dtype), dc))
    hp.copy_(d_hp)
    xp.copy_(d_xp)
    dd.copy_(d_d)
    dc.copy_(d_c)
    add_to(sums, d_norms)


def split_rest(spec: CellSpec, rest: tuple[Tensor, ...], wanted: int, first: int) -> Any:
    """Return (params, mask or None, the next `wanted` tensors, sums). first: params that stand before the norms."""
    count = first + 4 if spec.norm else 1
    params, rest = rest[:count], rest[count:]
    kept = None
    if spec.dropout:
        kept, *rest_list = rest
        rest = tuple(rest_list)
    return params, kept, rest[:wanted], rest[wanted:]


def expand_rows(norms: tuple[Tensor, ...], batch: int) -> list[Tensor]:
    """Give each example a row of its own, so that the derivative needs no sum over the batch within the phase."""
    return [n.expand(batch, -1) for n in norms]


def add_to(sums: tuple[Tensor, ...], gradients: list[Tensor]) -> None:
    for total, gradient in zip(sums, gradients, strict=False):
        total.add_(gradient)


# ---------------------------------------------------------------- blocks


class Workspace:
    """The blocks of one forward pass and its backward pass. `steps` is 1 where nothing is kept for backward."""

    def __init__(self, w: Weights, x: Tensor, steps: int, product: torch.dtype) -> None:
        length, batch, _ = x.shape
        hyper, units = len(w.cell_w_h), len(w.w_h)

        def block(*shape: int, dtype: torch.dtype = w.w_h.dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=x.device)

        self.wide = 4 * units
        self.weight = block(units, 4 * (units + hyper), dtype=product)
        self.sums = block(steps, batch, 4 * (units + hyper), dtype=product)
        self.from_x = block(length, batch, 4 * units, dtype=product)
        self.hyper_from_x = block(length, batch, 4 * hyper, dtype=product)
        self.from_a = block(batch, 4 * hyper, dtype=product)
        self.a_product = block(batch, hyper, dtype=product)
        self.c = block(steps + 1, batch, units)
        self.a = block(steps + 1, batch, hyper)
        self.hyper_c = block(steps + 1, batch, hyper)
        self.z = block(steps, batch, w.w_z.shape[1])
        self.d = block(len(w.w_d), batch, units)
        if steps == length:
            chunk = max(1, min(steps, CHUNK_BYTES // (self.d.numel() * self.d.element_size())))
            self.dd = block(len(w.w_d), chunk, batch, units)
            self.dz = block(steps, batch, w.w_z.shape[1])


class Pool:
    """Keeps the workspace of the last training step, so that the next need not ask the system for its memory.

    A workspace belongs to one forward pass from `take` to `give`, which backward calls: two passes that live at once
    have two, and one whose backward never comes is freed with it.
    """

    def __init__(self) -> None:
        self.free: tuple[Any, Workspace] | None = None

    def take(self, w: Weights, x: Tensor, product: torch.dtype) -> Workspace:
        kept, self.free = self.free, None
        key = self.key(w, x, product)
        return kept[1] if kept is not None and kept[0] == key else Workspace(w, x, len(x), product)

    def give(self, workspace: Workspace, w: Weights, x: Tensor, product: torch.dtype) -> None:
        self.free = (self.key(w, x, product), workspace)

    @staticmethod
    def key(w: Weights, x: Tensor, product: torch.dtype) -> Any:
        return (x.shape, x.device, w.w_h.dtype, product)

    def __deepcopy__(self, memo: Any) -> Pool:
        return Pool()

    def __getstate__(self) -> dict[str, Any]:
        return {"free": None}


# ---------------------------------------------------------------- the sequence


class Call(NamedTuple):
    """What of one call is not a tensor with a gradient."""

    main: CellSpec
    cell: CellSpec
    new: bool
    """z reads the hyper cell's new state."""
    kept: Tensor | None
    hyper_kept: Tensor | None
    product: torch.dtype
    """Type of the matrix products' inputs; states and pointwise arithmetic have that of the parameters."""
    pool: Pool
    differentiable: bool
    """Whether backward may follow, so that the blocks have to be kept."""


def run_sequence(call: Call, x: Tensor, state: tuple[Tensor, ...], w: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return outputs [T, B, H], in the products' type, and the last state (h, c, a, hyper c), from x [T, B, I]."""
    flat = [*w[:9], *w.norms, *w.cell_norms]
    out, *last = HyperLSTMSequence.apply(call, x, *state, *flat)  # pyright: ignore[reportGeneralTypeIssues]
    return out, (out[-1].to(w.w_h.dtype), *last)


def unpack(call: Call, flat: tuple[Any, ...]) -> Weights:
    norms = flat[9:]
    return Weights(*flat[:9], norms[:4] if call.main.norm else (), norms[4:] if call.main.norm else ())


class HyperLSTMSequence(torch.autograd.Function):
    """(call, x, h, c, a, hyper c, weights...) -> (outputs, c, a, hyper c). The last h is the last output."""

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        h, c, a, hyper_c = tensors[:4]
        w = unpack(call, tensors[4:])
        ws = call.pool.take(w, x, call.product) if call.differentiable else Workspace(w, x, 1, call.product)
        with torch.autocast(x.device.type, enabled=False):
            out, last = forward_loop(call, ws, w, x.to(call.product), h.to(call.product), (c, a, hyper_c))
        if call.differentiable:
            ctx.call, ctx.workspace = call, ws
            ctx.save_for_backward(x, out, *tensors)
        return out, *last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_out: Tensor, *d_last: Tensor) -> tuple[Any, ...]:
        call, ws = ctx.call, ctx.workspace
        if ws is None:
            raise RuntimeError(
                "this HyperLSTM's forward pass was differentiated before: its blocks are overwritten by backward. "
                "For retain_graph=True use hypernet.fast=never"
            )
        ctx.workspace = None
        x, out, h, _, _, _, *flat = ctx.saved_tensors
        w = unpack(call, tuple(flat))
        with torch.autocast(x.device.type, enabled=False):
            d_state = backward_loop(call, ws, w, d_out.to(call.product), d_last)
            previous = torch.cat([h.to(call.product)[None], out[:-1]])
            d_x, *d_weights = weight_gradients(call, ws, w, x, previous, ctx.needs_input_grad[1])
            norms = [s.sum(0) for s in (*d_state.norm_sums, *d_state.cell_norm_sums)]
        call.pool.give(ws, w, x, call.product)
        grads = [*d_weights[:2], d_state.bias, *d_weights[2:], d_state.w_d, *norms]
        return None, d_x, *d_state.state, *grads


def forward_loop(
    call: Call, ws: Workspace, w: Weights, x: Tensor, h: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run all steps; x [T, B, I] and h [B, H] in the products' type. Returns outputs and the last c, a, hyper c."""
    length, batch, inputs = x.shape
    wide, units = ws.wide, h.shape[1]
    ws.weight[:, :wide].copy_(w.w_h)
    ws.weight[:, wide:].copy_(w.cell_w_x[:units])
    cell_w_h = w.cell_w_h.to(call.product)
    rows = x.reshape(-1, inputs)
    torch.mm(rows, w.w_x.to(call.product), out=ws.from_x.view(-1, wide))
    torch.mm(rows, w.cell_w_x[units:].to(call.product), out=ws.hyper_from_x.view(length * batch, -1))
    for block, start in zip((ws.c, ws.a, ws.hyper_c), state, strict=True):
        block[0].copy_(start)
    ws.a_product.copy_(state[1])
    bias_z = torch.cat([w.b_z, w.b_z.new_zeros(len(w.b_z) // 2)])
    out = torch.empty(length, batch, units, dtype=call.product, device=x.device)
    hyper_params = w.cell_norms if call.cell.norm else (w.cell_bias,)
    params = (w.bias, *w.norms)
    steps = len(ws.sums)
    hyper_phase = main_phase = None
    kept_all, hyper_kept_all = masks(call)
    sums, from_x, hyper_from_x = ws.sums.unbind(), ws.from_x.unbind(), ws.hyper_from_x.unbind()
    cs, as_, hyper_cs, zs = ws.c.unbind(), ws.a.unbind(), ws.hyper_c.unbind(), ws.z.unbind()
    outs = out.unbind()
    for t in range(length):
        # where nothing is kept, all steps write to block 0, and the states to 0 and 1 in turn
        k = t if steps == length else 0
        before, after = (t, t + 1) if steps == length else (t % 2, (t + 1) % 2)
        torch.mm(h, ws.weight, out=sums[k])
        torch.mm(ws.a_product, cell_w_h, out=ws.from_a)
        args = (
            sums[k][:, wide:], hyper_from_x[t], ws.from_a, hyper_cs[before], *hyper_params, *hyper_kept_all[t],
            as_[after], ws.a_product, hyper_cs[after],
        )  # fmt: skip
        if hyper_phase is None:
            hyper_phase = compiled(hyper_forward, call.cell, args)
        hyper_phase(*args)
        torch.addmm(bias_z, as_[after if call.new else before], w.w_z, out=zs[k])
        torch.bmm(zs[k].view(batch, len(ws.d), -1).transpose(0, 1), w.w_d, out=ws.d)
        args = (
            sums[k][:, :wide], from_x[t], ws.d, cs[before], *params, *kept_all[t], outs[t], cs[after],
        )  # fmt: skip
        if main_phase is None:
            main_phase = compiled(main_forward, call.main, args)
        main_phase(*args)
        h = outs[t]
    last = length if steps == length else length % 2
    return out, (cs[last].clone(), as_[last].clone(), hyper_cs[last].clone())


class StateGradients(NamedTuple):
    state: tuple[Tensor, ...]
    """Of h, c, a, hyper c before the first step."""
    bias: Tensor
    w_d: Tensor
    norm_sums: tuple[Tensor, ...]
    """Of the main cell's norms, [B, ...]: to be summed over the batch."""
    cell_norm_sums: tuple[Tensor, ...]


def backward_loop(
    call: Call, ws: Workspace, w: Weights, d_out: Tensor, d_last: tuple[Tensor, ...]
) -> StateGradients:
    """Run all steps backward; d_out [T, B, H] in the products' type, d_last of c, a and hyper c.

    Afterwards ws.sums and ws.from_x hold their own gradients, ws.dz those of z.
    """
    length, batch, units = d_out.shape
    wide = ws.wide
    weight_t, cell_w_h_t, w_z_t, w_d_t = ws.weight.t(), w.cell_w_h.to(call.product).t(), w.w_z.t(), w.w_d.mT
    dh = torch.zeros(batch, units, dtype=call.product, device=d_out.device)
    dc, hyper_dc = d_last[0].clone(), d_last[2].clone()
    da_z = d_last[1].clone()
    da = torch.zeros_like(ws.a_product)
    d_w_d, d_bias = torch.zeros_like(w.w_d), torch.zeros_like(w.bias)
    norm_sums = tuple(n.new_zeros(batch, len(n)) for n in w.norms)
    cell_norm_sums = tuple(n.new_zeros(batch, len(n)) for n in w.cell_norms)
    hyper_params = w.cell_norms if call.cell.norm else (w.cell_bias,)
    params = (w.bias, *w.norms)
    kept_all, hyper_kept_all = masks(call)
    paths, chunk = ws.dd.shape[:2]
    sums, from_x, d_outs = ws.sums.unbind(), ws.from_x.unbind(), d_out.unbind()
    cs, hyper_cs, zs, dzs, dds = ws.c.unbind(), ws.hyper_c.unbind(), ws.z.unbind(), ws.dz.unbind(), ws.dd.unbind(1)
    hyper_phase = main_phase = None
    for t in reversed(range(length)):
        dd, dz = dds[t % chunk], dzs[t]
        torch.bmm(zs[t].view(batch, paths, -1).transpose(0, 1), w.w_d, out=ws.d)
        args = (
            sums[t][:, :wide], from_x[t], ws.d, cs[t], *params, *kept_all[t], d_outs[t], dh, dc, dd, *norm_sums,
        )  # fmt: skip
        if main_phase is None:
            main_phase = compiled(main_backward, call.main, args)
        main_phase(*args)
        dz.view(batch, paths, -1).copy_(torch.bmm(dd, w_d_t).transpose(0, 1))
        if t % chunk == 0:
            z = ws.z[t : t + chunk].view(-1, paths, w.w_d.shape[1])
            part = ws.dd[:, : len(z) // batch].flatten(1, 2)
            d_w_d.baddbmm_(z.permute(1, 2, 0), part)
            d_bias += part[2 * paths // 3 :].sum(1).flatten()
        if call.new:
            da_z.addmm_(dz, w_z_t)
        args = (sums[t][:, wide:], hyper_cs[t], *hyper_params, *hyper_kept_all[t], da_z, da, hyper_dc, *cell_norm_sums)
        if hyper_phase is None:
            hyper_phase = compiled(hyper_backward, call.cell, args)
        hyper_phase(*args)
        torch.mm(sums[t], weight_t, out=dh)
        torch.mm(sums[t][:, wide:], cell_w_h_t, out=da)
        if call.new:
            da_z.zero_()
        else:
            torch.mm(dz, w_z_t, out=da_z)
    state = (dh.to(dc.dtype), dc, da.to(dc.dtype) + da_z, hyper_dc)
    return StateGradients(state, d_bias, d_w_d, norm_sums, cell_norm_sums)


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
    d_main, d_hyper = d_sums[:, : ws.wide], d_sums[:, ws.wide :]
    a = ws.a[:-1].flatten(0, 1)
    z_source = ws.a[1:].flatten(0, 1) if call.new else a
    dz = ws.dz.flatten(0, 1)
    d_cell_w_x = torch.empty_like(w.cell_w_x, dtype=product)
    torch.mm(h.t(), d_hyper, out=d_cell_w_x[:units])
    torch.mm(inputs.t(), d_hyper, out=d_cell_w_x[units:])
    d_x = None
    if x_too:
        d_x = torch.mm(d_from_x, w.w_x.to(product).t())
        d_x = d_x.addmm_(d_hyper, w.cell_w_x[units:].to(product).t()).view(x.shape).to(x.dtype)
    return (
        d_x,
        torch.mm(inputs.t(), d_from_x).to(dtype),
        torch.mm(h.t(), d_main).to(dtype),
        d_cell_w_x.to(dtype),
        torch.mm(a.to(product).t(), d_hyper).to(dtype),
        None if w.cell_bias is None else d_hyper.sum(0, dtype=dtype),
        torch.mm(z_source.t(), dz),
        dz.sum(0)[: len(w.b_z)],
    )


def masks(call: Call) -> tuple[Any, Any]:
    """Return for each step (mask,) or (), of the main and of the hyper cell."""

    def each(kept: Tensor | None) -> Any:
        return Nothing() if kept is None else [(k,) for k in kept.unbind()]

    return each(call.kept), each(call.hyper_kept)


class Nothing:
    """An empty tuple for every step."""

    def __getitem__(self, t: int) -> tuple[()]:
        return ()
