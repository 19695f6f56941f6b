"""Means of what the losses of training batches say, and whether one was not finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hyperrun.training.distributed import World, max_over_ranks, sum_over_ranks


class Meter:
    """Sums of the statistics since the last logged row, kept on the device so that no step waits for it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.first_bad = torch.tensor(-1, device=world.device)

    def add(self, loss: Tensor, stats: dict[str, Tensor], step: int) -> None:
        """Count a batch of optimizer step `step` (1 is the first): its loss and statistics, scalars."""
        for name, value in stats.items():
            value = value.double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1
        bad = ~torch.isfinite(loss.detach()) & (self.first_bad < 0)
        self.first_bad = torch.where(bad, step, self.first_bad)

    def first_not_finite(self) -> int | None:
        """Return the step of the first loss that was not finite, in any process, or None. Waits for the device."""
        step = max_over_ranks(int(self.first_bad.item()), self.world)
        return step if step >= 0 else None

    def means(self) -> dict[str, float]:
        """Return the means over the batches of all processes since the last reset."""
        names = list(self.sums)
        sums = sum_over_ranks(torch.stack([self.sums[n] for n in names]), self.world).tolist()
        return {name: value / (self.count * self.world.size) for name, value in zip(names, sums, strict=True)}

    def reset(self) -> None:
        self.sums, self.count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.count = dict(state["sums"]), state["count"]
