"""What the benchmarks share: variants timed in turn, so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch


def in_turn(
    variants: dict[str, Callable[[], None]], rounds: int, clock: Callable[[], float], warm_up: int = 3
) -> dict[str, list[float]]:
    """Return name -> seconds of each round."""
    for run in variants.values():
        for _ in range(warm_up):
            run()
    names, times = list(variants), {name: [] for name in variants}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            wait()
            start = clock()
            variants[name]()
            wait()
            times[name].append(clock() - start)
    return times


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
