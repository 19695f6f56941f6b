"""A loop of many small kernels as one CUDA graph: captured once, then launched as a whole.

Launching a kernel from Python takes longer than most kernels of a recurrent step. A graph has fixed places for all it
reads and writes, so what differs from call to call is copied in, and what comes out is copied out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Function = Callable[..., tuple[Tensor, ...]]

_said: set[str] = set()


def why_no_graph(device: torch.device) -> str | None:
    """Return the reason for which loops on this device are not captured, or None."""
    if device.type != "cuda":
        return "graphs exist on CUDA devices only"
    if os.environ.get("HYPERRUN_CUDA_GRAPHS") == "0":
        return "HYPERRUN_CUDA_GRAPHS=0"
    return None


class GraphedLoop:
    """A function of tensors whose other tensors (blocks, weights) stay where they are from call to call.

    The first call runs it as it is, which also compiles and loads all that may not be made during a capture; the second
    captures it. Where that fails, the reason is logged once and every call runs it as it is. Both are the same kernels.
    """

    def __init__(self) -> None:
        self.key: Hashable = None
        self.graph: Any = None
        self.failed = False
        self.inputs: list[Tensor | None] = []
        self.outputs: tuple[Tensor, ...] = ()

    def __call__(
        self, function: Function, inputs: Sequence[Tensor | None], fixed: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Return function(*inputs), tensors of the caller's own.

        inputs: what differs from call to call, copied to the graph's places.
        fixed: what else the function reads; if any of it has moved, the loop is captured anew.
        """
        device = next(t for t in inputs if t is not None).device
        if self.failed or why_no_graph(device) is not None:
            return function(*inputs)
        key = (
            tuple(None if t is None else (t.data_ptr(), t.shape, t.dtype) for t in fixed),
            tuple(None if t is None else (t.shape, t.dtype) for t in inputs),
        )
        if key != self.key:
            self.key, self.graph = key, None
            return function(*inputs)
        if self.graph is None:
            self.inputs = [None if t is None else t.clone() for t in inputs]
            try:
                self.graph, self.outputs = capture(function, self.inputs)
            except Exception as error:  # a capture runs nothing, so the call below still finds all as it was
                self.failed = True
                lines = str(error).strip().splitlines() or [""]
                reason = f"{type(error).__name__}: {lines[0]}"
                if reason not in _said:
                    _said.add(reason)
                    log.warning("recurrent steps are launched one by one, not as a CUDA graph: %s", reason)
                return function(*inputs)
        for place, value in zip(self.inputs, inputs, strict=True):
            if place is not None and value is not None:
                place.copy_(value)
        self.graph.replay()
        return tuple(t.clone() for t in self.outputs)


def capture(function: Function, inputs: Sequence[Tensor | None]) -> tuple[Any, tuple[Tensor, ...]]:
    """Return a graph of function(*inputs) and the tensors that hold its result after each replay. Runs nothing."""
    graph = torch.cuda.CUDAGraph()
    # thread_local: what other threads do meanwhile (copies of batches, W&B's readings) must not break the capture
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = function(*inputs)
    return graph, outputs
