"""States of recurrent layers with a hyper cell, in the form of torch.nn.LSTM's: h_n and c_n, and nothing beside them.

A program written for torch.nn.LSTM carries (h, c) from call to call: whole, or taken apart, detached, moved, or with
some of the batch picked out. The hyper cell has a state of its own, and a program that dropped it would begin anew with
the hyper cell at each call, which nothing would tell. So h_n and c_n are tensors of their usual shapes that have the
hyper cell's part with them, and what is done to whole states, along layers and batch, is done to that part, too.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

WHOLE = frozenset(
    "detach detach_ clone contiguous to cpu cuda double float half bfloat16 requires_grad_ zero_ zeros_like".split()
)
"""Names of operations that mean the same for the hyper cell's part, whatever they are given."""

MASKING = frozenset("mul multiply __mul__ __rmul__ mul_ __imul__ masked_fill masked_fill_ where".split())
"""Those that do if what else they are given are numbers and tensors with one number for each example, [..., B, 1]."""

ALONG = {
    **dict.fromkeys(("index_select", "select", "narrow", "unsqueeze", "squeeze"), (1, None)),
    **dict.fromkeys(("unbind", "cat", "concat", "stack"), (1, 0)),
    **dict.fromkeys(("chunk", "split"), (2, 0)),
    "repeat_interleave": (2, None),
}
"""Those that do along any dimension but the last -> the place of `dim` among their arguments, and its default."""

INDEXING = ("__getitem__", "__setitem__")
IN_PLACE = re.compile(
    r"[a-z].*[a-z0-9]_|__setitem__|__i(add|sub|mul|truediv|floordiv|mod|pow|and|or|xor|lshift|rshift)__"
)


class CarriedState(Tensor):
    """h_n or c_n [layers, B, H], with the hyper cells' part of it, `hyper` [layers, B, N].

    Copying, detaching, moving to a device or type, picking, parting and joining along the layers or the batch, and
    multiplying or masking whole examples ([B, 1]) give a CarriedState again, with the same done to `hyper`. Everything
    else gives a plain tensor, and a layer that gets a plain tensor starts its hyper cell at zero. In place, whole
    examples may be reset (h[:, i] = 0, h *= keep, h.zero_()); any other change in place raises a RuntimeError.
    """

    hyper: Tensor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        with torch._C.DisableTorchFunctionSubclass():
            alike = same_for_hyper(name, args, kwargs)
            changed = changes_a_state(name, args, kwargs)
            if changed and not alike:
                raise RuntimeError(
                    f"{name} would change a carried state in place and leave its hyper cell's part as it was: reset "
                    "whole examples (h[:, i] = 0, or h * keep with keep [B, 1]), or work on h.as_subclass(torch.Tensor)"
                )
            result = func(*args, **kwargs) if changed else func(*tree_map(plain, args), **tree_map(plain, kwargs))
            if not alike:
                return result
            hyper = func(*tree_map(hyper_of, args), **tree_map(hyper_of, kwargs))
            if changed:
                return result
            if isinstance(result, Tensor):
                return join(result, hyper)
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
    if torch.compiler.is_exporting():  # on tensors that cannot be of another class
        state.hyper = hyper  # pyright: ignore[reportAttributeAccessIssue]
        return state
    joined = state.as_subclass(CarriedState)
    joined.hyper = hyper
    return joined


def has_hyper(value: Any) -> bool:
    """Return whether this is a state with the hyper cells' part of it."""
    return hasattr(value, "hyper")


def plain(value: Any) -> Any:
    """Return a state as an ordinary tensor (of the same numbers, with the same gradient), anything else as it is."""
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor) if isinstance(value, CarriedState) else value


def hyper_of(value: Any) -> Any:
    """Return the hyper cells' part of a state, anything else as it is."""
    return value.hyper if has_hyper(value) else value


def changes_a_state(name: str, args: Any, kwargs: Any) -> bool:
    """Whether an operation changes a state in place: its first argument, or what it is told to write to."""
    in_place = bool(IN_PLACE.fullmatch(name)) or bool(kwargs.get("inplace"))
    written = [first_of(args, kwargs) if in_place else None, kwargs.get("out")]
    return any(isinstance(value, CarriedState) for value in tree_flatten(written)[0])


def first_of(args: Any, kwargs: Any) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)


def same_for_hyper(name: str, args: Any, kwargs: Any) -> bool:
    """Whether an operation means the same for the hyper cells' part: it keeps a state's units, whatever they are."""
    given = tree_flatten((args, kwargs))[0]
    states = [value for value in given if isinstance(value, CarriedState)]
    others = [value for value in given if isinstance(value, Tensor) and not isinstance(value, CarriedState)]
    first = first_of(args, kwargs)
    if not states or "out" in kwargs or (IN_PLACE.fullmatch(name) and not isinstance(first, CarriedState)):
        return False
    if name in WHOLE:
        return True
    if name in MASKING:
        return all(value.ndim == 0 or value.shape[-1] == 1 for value in others)
    if name in INDEXING:
        values = [v for v in args[2:] if isinstance(v, Tensor) and not isinstance(v, CarriedState)]
        taken_alike = isinstance(first, CarriedState) and keeps_units(args[1], first.ndim)
        return taken_alike and all(value.numel() == 1 for value in values)
    if name not in ALONG:
        return False
    place, default = ALONG[name]
    dim = args[place] if len(args) > place else kwargs.get("dim", default)
    ndim = states[0].ndim + (name in ("stack", "unsqueeze"))
    if name in ("cat", "concat", "stack"):
        return "axis" not in kwargs and all(isinstance(p, CarriedState) for p in first) and dim % ndim < ndim - 1
    return isinstance(first, CarriedState) and isinstance(dim, int) and dim % ndim < ndim - 1


def keeps_units(index: Any, ndim: int) -> bool:
    """Whether an index of a tensor of so many dimensions leaves the last one as it is."""
    parts = index if isinstance(index, tuple) else (index,)
    if not parts or (isinstance(parts[-1], slice) and parts[-1] == slice(None)):
        return True
    if any(part is Ellipsis for part in parts[:-1]):
        return False
    return sum(map(dimensions_of, parts)) < ndim


def dimensions_of(part: Any) -> int:
    """Return how many dimensions a part of an index takes up: a mask as many as it has."""
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    if isinstance(part, int | slice):
        return 1
    indices = torch.as_tensor(part)
    return indices.ndim if indices.dtype in (torch.bool, torch.uint8) else 1
