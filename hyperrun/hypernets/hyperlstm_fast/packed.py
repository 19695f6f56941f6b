"""Products with weights that stay the same from call to call, a few rows each: one step of a recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hyperrun.hypernets.hyperlstm_fast.blocks import RepeatedProduct

MATMUL = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
SMALLEST = 2**16
"""Numbers of a weight below which putting it into another order gains nothing."""


class PackedWeights(TorchFunctionMode):
    """Within the block, `x @ weight` with a large matrix that is a Parameter is done by RepeatedProduct.

    For many calls without gradients on a CPU in float32, as drawing makes them; everything else is as it is outside. A
    weight must not change within the block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: dict[tuple[int, int], tuple[Tensor, RepeatedProduct]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in MATMUL and not kwargs and packable(*args):
            x, weight = args
            rows = x.reshape(-1, x.shape[-1])
            key = (id(weight), len(rows))
            if key not in self.products:
                self.products[key] = weight, RepeatedProduct(weight.detach(), len(rows))
            return self.products[key][1](rows).view(*x.shape[:-1], -1)
        return func(*args, **kwargs or {})


def packable(x: Tensor, weight: Tensor) -> bool:
    """Whether the product is one that RepeatedProduct does, and worth it."""
    if not isinstance(weight, nn.Parameter) or weight.ndim != 2 or weight.numel() < SMALLEST:
        return False
    alike = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    return alike and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
