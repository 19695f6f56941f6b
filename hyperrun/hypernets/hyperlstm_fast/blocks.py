"""What sequence.py works on: a HyperLSTM's weights by name, and the blocks that its steps write into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyperrun.hypernets.hyperlstm_fast.cuda_graph import GraphedLoop

CHUNK_BYTES = 2 * 2**20
"""Gradients of the scaling vectors collected before they are multiplied: a few steps' worth, so that they stay in the
cache."""

MOST_WORKSPACES = 64
"""In one memory: the lengths to which batches are padded are few."""


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


def norm_by_gate(vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return a cell's norms as lstm_update takes them; () where there are none."""
    if not vectors:
        return ()
    gain, shift, *cell = vectors
    return *gain.chunk(4), *shift.chunk(4), *cell


class Step(NamedTuple):
    """Views of the blocks for one step, made once: making them costs as much as a small product."""

    sums: Tensor
    """h times the wide weight [B, 4H + 4N]; later its gradient."""
    main: tuple[Tensor, ...]
    """First arguments of the main phases: h part by gate, x part by gate, c."""
    hyper: tuple[Tensor, ...]
    """h part of the hyper cell by gate."""
    hyper_rest: tuple[Tensor, ...]
    """Its x part and its a part by gate."""
    hyper_c: Tensor
    z: Tensor
    """[B, 12 Nz], within the row of from_a that this step reads it from."""
    a_next: Tensor
    from_a_next: Tensor
    c_next: Tensor
    hyper_c_next: Tensor
    d_from_a: tuple[Tensor, ...]
    """Gradient of the a part by gate, and whole; empty where nothing is kept."""
    d_z: Tensor | None
    """Gradient of z, [12, B, Nz]."""
    dd: tuple[Tensor, ...]
    """Gradients of the twelve scaling vectors, [B, H] each."""


class Workspace:
    """The blocks of one forward pass and its backward pass.

    H units, N hyper units; `wide` = 4H, `narrow` = 4N. With keep=False nothing is kept for backward: all steps write to
    block 0, and the states to 0 and 1 in turn, or to places of their own with states=True. memory: where the blocks
    are, or None for places of their own.
    """

    def __init__(
        self,
        w: Weights,
        x: Tensor,
        product: torch.dtype,
        new: bool,
        keep: bool,
        states: bool = False,
        memory: Memory | None = None,
    ) -> None:
        length, batch, _ = x.shape
        hyper, units = len(w.cell_w_h), len(w.w_h)
        paths, z_dim, _ = w.w_d.shape
        steps, rows = length if keep else 1, length + 1 if keep or states else 2

        self.memory = memory or Memory()

        def block(*shape: int, dtype: torch.dtype = w.w_h.dtype) -> Tensor:
            return self.memory.block(shape, dtype, x.device)

        self.wide, self.narrow = 4 * units, 4 * hyper
        self.weight = block(units, self.wide + self.narrow, dtype=product)
        self.a_weight = block(hyper, self.narrow + paths * z_dim)
        self.sums = block(steps, batch, self.wide + self.narrow, dtype=product)
        self.from_x = block(length, batch, self.wide, dtype=product)
        self.hyper_from_x = block(length, batch, self.narrow, dtype=product)
        self.c = block(rows, batch, units)
        self.a = block(rows, batch, hyper)
        self.hyper_c = block(rows, batch, hyper)
        self.from_a = block(rows, batch, self.a_weight.shape[1])
        self.d = block(paths, batch, units)
        self.chunk = max(1, min(steps, CHUNK_BYTES // (self.d.numel() * self.d.element_size())))
        self.dd = block(paths, self.chunk if keep else 0, batch, units)
        self.d_from_a = block(rows if keep else 0, batch, self.a_weight.shape[1])
        self.ahead = 1 if new else 0
        """z of step t comes from a after it, or before it."""
        self.steps = [self.step(t, keep, rows) for t in range(length)]
        self.forward_graph, self.backward_graph = GraphedLoop(), GraphedLoop()

    def step(self, t: int, keep: bool, rows: int) -> Step:
        k, before, after = t if keep else 0, t % rows, (t + 1) % rows
        source = after if self.ahead else before
        sums, from_a = self.sums[k], self.from_a[before, :, : self.narrow]
        d_from_a, d_z, dd = (), None, ()
        if keep:
            row = self.d_from_a[before]
            d_from_a = (*row[:, : self.narrow].chunk(4, 1), row)
            d_z = self.d_from_a[source, :, self.narrow :].view(len(row), len(self.d), -1).transpose(0, 1)
            dd = self.dd[:, t % self.chunk].unbind()
        return Step(
            sums,
            (*sums[:, : self.wide].chunk(4, 1), *self.from_x[t].chunk(4, 1), self.c[before]),
            sums[:, self.wide :].chunk(4, 1),
            (*self.hyper_from_x[t].chunk(4, 1), *from_a.chunk(4, 1)),
            self.hyper_c[before],
            self.from_a[source, :, self.narrow :],
            self.a[after],
            self.from_a[after],
            self.c[after],
            self.hyper_c[after],
            d_from_a,
            d_z,
            dd,
        )


class Memory:
    """The memory of workspaces of which one is in use at a time: as much as the largest of them takes.

    workspaces: key -> the workspaces that lie in it; making one's views takes as long as a few steps of a small layer.
    """

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.workspaces: dict[Any, Workspace] = {}
        self.asked = 0

    def workspace(self, w: Weights, x: Tensor, product: torch.dtype, new: bool) -> Workspace:
        key = (x.shape, x.device, w.w_h.dtype, product)
        if key not in self.workspaces:
            self.asked = 0
            made = Workspace(w, x, product, new, keep=True, memory=self)
            while len(self.workspaces) >= MOST_WORKSPACES:
                del self.workspaces[next(iter(self.workspaces))]
            self.workspaces[key] = made
        return self.workspaces[key]

    def block(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the next block of the workspace that is being made. Workspaces ask for theirs in the same order."""
        number, self.asked = self.asked, self.asked + 1
        wanted = math.prod(shape)
        if number == len(self.rows):
            self.rows.append(torch.empty(0))
        row = self.rows[number]
        if row.dtype != dtype or row.device != device or row.numel() < wanted:
            self.workspaces.clear()  # they would keep the old memory alive
            del row
            self.rows[number] = torch.empty(0)
            self.rows[number] = torch.empty(wanted, dtype=dtype, device=device)
        return self.rows[number][:wanted].view(*shape)


class Pool:
    """Keeps the memory of the last training step, so that the next need not ask the system for it.

    Batches of several lengths share it. It belongs to one forward pass from `take` to `give`, which backward calls: two
    passes that live at once have two, and one whose backward never comes is freed with it.
    """

    def __init__(self) -> None:
        self.free: Memory | None = None

    def take(self, w: Weights, x: Tensor, product: torch.dtype, new: bool) -> Workspace:
        memory, self.free = self.free or Memory(), None
        return memory.workspace(w, x, product, new)

    def give(self, workspace: Workspace) -> None:
        self.free = workspace.memory

    def __deepcopy__(self, memo: Any) -> Pool:
        return Pool()

    def __getstate__(self) -> dict[str, Any]:
        return {"free": None}


class RepeatedProduct:
    """x @ weight for one weight [K, N] and many x [B, K].

    On a CPU the weight is put once into the order in which oneDNN reads it. That also takes float32 products to oneDNN
    at full precision, while torch.mm goes to MKL unless the precision is lowered: on AMD CPUs half as fast.
    """

    def __init__(self, weight: Tensor, batch: int) -> None:
        self.weight, self.packed = weight, None
        if weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16):
            try:  # operators that inductor uses, not part of torch's interface
                # contiguous first: oneDNN's own transposition is several times slower
                self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), batch)
                self.linear = torch.ops.mkldnn._linear_pointwise.default
            except (AttributeError, NotImplementedError, RuntimeError):
                self.packed = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return torch.mm(x, self.weight)
        return self.linear(x, self.packed, None, "none", [], "")
