"""States of recurrent layers with a hyper cell, in the form of torch.nn.LSTM's: h_n and c_n, and nothing beside them.

A program written for torch.nn.LSTM carries (h, c) from call to call: whole, or taken apart, detached, moved, or with
some of the batch picked out. The hyper cell has a state of its own, and a program that dropped it would begin anew with
the hyper cell at each call, which nothing would tell. So h_n and c_n are tensors of their usual shapes that have the
hyper cell's part with them, and what is done to all of a sequence's state is done to that part, too.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

FOLLOWED = frozenset(
    "detach detach_ clone contiguous to cpu cuda double float half bfloat16 requires_grad_ zero_ zeros_like mul mul_ "
    "multiply __mul__ __rmul__ masked_fill where __getitem__ index_select select narrow chunk split unbind "
    "unsqueeze squeeze expand repeat_interleave flip roll cat concat stack".split()
)
"""Names of the operations that take the hyper cell's part along."""

PICKING = frozenset(["__getitem__", "index_select", "repeat_interleave"])
"""Those of them that take tensors of indices."""


class CarriedState(Tensor):
    """h_n or c_n [layers, B, H], with the hyper cells' part of it, `hyper` [layers, B, N].

    Copying, detaching, moving to a device or type, picking and joining along the layers or the batch, and multiplying
    or masking whole states ([B, 1]) give a CarriedState again, with the same done to `hyper`. Everything else gives a
    plain tensor, and a layer that gets a plain tensor starts its hyper cell at zero.
    """

    hyper: Tensor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*tree_map(plain, args), **tree_map(plain, kwargs))
            if getattr(func, "__name__", "") not in FOLLOWED:
                return result
            given, _ = tree_flatten((args, kwargs))
            states = [value for value in given if isinstance(value, CarriedState)]
            if not followable(func.__name__, given) or not same_units(result, states[0]):
                return result
            hyper = func(*tree_map(hyper_of, args), **tree_map(hyper_of, kwargs))
            if isinstance(result, Tensor):
                in_place = func.__name__.endswith("_") and not func.__name__.endswith("__")
                return args[0] if in_place else join(result, hyper)
            return type(result)(join(r, h) for r, h in zip(result, hyper, strict=True))

    @property
    def data(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.detach()

    def __deepcopy__(self, memo: Any) -> Tensor:
        return join(copy.deepcopy(plain(self), memo), copy.deepcopy(self.hyper, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return join, (plain(self), self.hyper)


def join(state: Tensor, hyper: Tensor) -> Tensor:
    """Return `state` [..., H] with the hyper cells' part [..., N] of it."""
    joined = state.as_subclass(CarriedState)
    joined.hyper = hyper
    return joined


def plain(value: Any) -> Any:
    """Return a state as an ordinary tensor (of the same numbers, with the same gradient), anything else as it is."""
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor) if isinstance(value, CarriedState) else value


def hyper_of(value: Any) -> Any:
    """Return the hyper cells' part of a state, anything else as it is."""
    return value.hyper if isinstance(value, CarriedState) else value


def followable(name: str, given: list[Any]) -> bool:
    """Whether what else an operation is given means the same for the hyper cells' part: numbers, picks, whole rows."""
    others = [value for value in given if isinstance(value, Tensor) and not isinstance(value, CarriedState)]
    return name in PICKING or all(value.ndim == 0 or value.shape[-1] == 1 for value in others)


def same_units(result: Any, state: Tensor) -> bool:
    """Whether each tensor of a result still has all units of a state, in its last dimension."""
    tensors = [value for value in tree_flatten(result)[0] if isinstance(value, Tensor)]
    return all(value.ndim and value.shape[-1] == state.shape[-1] for value in tensors)
