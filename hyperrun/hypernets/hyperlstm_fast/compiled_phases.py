"""Compiling the pointwise phases of a recurrent step.

A phase is a function of tensors that writes its results into some of them. It is traced once for each set of shapes,
made into one kernel or a few by inductor, and called directly: torch.compile's look-up costs 16 us a call, which at
several phases a step is more than a small phase itself.

These entry points of inductor are not public. Where they are missing, or there is no C++ compiler, the phase runs
operator by operator, and the reason is logged once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Phase = Callable[..., None]
MAX_COMPILED = 64
"""Phases compiled in one process, over all shapes; after that new shapes run operator by operator."""

_compiled: dict[Hashable, Phase] = {}
_failed: list[str] = []
_said: set[str] = set()


def compiled(phase: Callable[..., None], spec: Hashable, args: Sequence[Tensor]) -> Phase:
    """Return `phase` for these shapes: a function of the same tensors, without `spec`, which is fixed.

    phase: called as phase(spec, *args); a module-level function, since it is part of the cache's key.
    args: tensors of the shapes, strides and types it will be called with; they are only looked at.
    """
    layout = tuple((a.shape, a.stride(), a.dtype, a.device) for a in args)
    key = (phase, spec, layout, torch.get_num_threads())
    if key in _compiled:
        return _compiled[key]

    def eager(*tensors: Tensor) -> None:
        phase(spec, *tensors)

    reason = why_not_compiled()
    if reason is None and len(_compiled) >= MAX_COMPILED:
        reason = f"{MAX_COMPILED} phases are compiled already"
    if reason is None:
        if not _compiled:
            log.warning("compiling the recurrent steps: up to a minute the first time, seconds from then on")
        # Twice: Ctrl-C, Slurm and timeout signal all processes, and end a compiler that is at work. The run itself goes
        # on to the end of its step, and operator by operator that would have other last bits than in any other run.
        for _ in range(2):
            try:
                _compiled[key] = _by_inductor(eager, args)
                return _compiled[key]
            except Exception as error:  # private interfaces and a compiler: anything may be wrong, and eager is right
                lines = str(error).strip().splitlines() or [""]
                reason = f"{type(error).__name__}: {lines[0]}"
        assert reason is not None
        _failed.append(reason)
    if reason not in _said:
        _said.add(reason)
        log.warning("recurrent steps run operator by operator, several times slower: %s", reason)
    return eager


def why_not_compiled() -> str | None:
    """Return the reason for which phases run operator by operator, or None."""
    if os.environ.get("HYPERRUN_COMPILE_PHASES") == "0":
        return "HYPERRUN_COMPILE_PHASES=0"
    return _failed[0] if _failed else None


def _by_inductor(function: Phase, args: Sequence[Tensor]) -> Phase:
    # inductor asks for the CUDA toolkit; on a machine without a GPU its absence is nothing to warn of
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx

    def without_result(*tensors: Tensor) -> tuple[()]:
        function(*tensors)
        return ()  # a graph that returns nothing at all is refused

    with torch.no_grad(), torch.autocast(args[0].device.type, enabled=False):
        pure = functionalize(without_result, remove="mutations")
        graph = make_fx(pure, select_decomp_table(), tracing_mode="fake")(*args)
        fakes: list[Any] = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
        options: dict[str, Any] = {"size_asserts": False}
        if hasattr(config.cpp, "use_decompose_tanh"):
            options["cpp.use_decompose_tanh"] = True  # by one exp instead of Sleef's tanh: 4% of a training step
        with config.patch(options), tracing(TracingContext(fakes[0].fake_mode)):
            call: Any = compile_fx_inner(graph, fakes)
    call = getattr(call, "current_callable", None) or call  # without the checks of a call from a traced program

    def run(*tensors: Tensor) -> None:
        call(list(tensors))

    run(*(torch.empty_strided(a.shape, a.stride(), dtype=a.dtype, device=a.device).zero_() for a in args))
    return run
