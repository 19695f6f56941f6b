"""Times that can be compared: variants run in turn, so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import torch

WARM_UP_STEPS = 3
"""Steps at the start that do not count towards throughput or a comparison: compilation, first allocations."""


def compilations() -> int:
    """Return a number that grows with everything that torch.compile or inductor compiles in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")  # imported by the first compilation; it takes seconds
    return sum(map(len, getattr(dynamo, "compilation_time_metrics", {}).values()))


def in_turn(
    variants: Mapping[str, Callable[[], None]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    warm_up: int = WARM_UP_STEPS,
) -> dict[str, list[float]]:
    """Run every variant once in each round, in rotating order; return name -> seconds of each round.

    clock: returns seconds; warm_up: how often each variant runs before, unmeasured.
    """
    for run in variants.values():
        for _ in range(warm_up):
            run()
    names = list(variants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            wait()
            start = clock()
            variants[name]()
            wait()
            times[name].append(clock() - start)
    return times


def wait() -> None:
    """Wait until the GPU, if there is one, has done what it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
