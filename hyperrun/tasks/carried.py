"""What a recurrent model carries from chunk to chunk: tensors in lists and tuples, or None at the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hyperrun.hypernets.carried_state import CarriedState, join, plain
from hyperrun.training.distributed import World, gather_examples

State = Any


def on_tensors(function: Callable[[Tensor], Any], state: State) -> State:
    """Return the state (or what `parted` made of it) with each tensor replaced by function(tensor), in their order."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, dict):
        return {name: on_tensors(function, part) for name, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(on_tensors(function, part) for part in state)
    return state


@torch.no_grad()
def example_dims(model: nn.Module, one: Tensor, world: World) -> list[int | None]:
    """Return for each tensor of the model's state along which dimension the examples of a batch stand (0 in our own
    layers, 1 in torch.nn.LSTM's), None where along none: that in which the states of two and of three examples differ.

    one: an input with one example, [1, T, ...]. Of one process nothing has to be parted, and the list is empty.
    """
    if world.size == 1:
        return []
    was_training = model.training
    model.eval()
    shapes: list[list[torch.Size]] = []
    for batch in (2, 3):
        _, state = model(torch.cat([one.to(world.device)] * batch), None)
        shapes.append([])
        on_tensors(lambda part: shapes[-1].append(part.shape), state)
    model.train(was_training)
    return [next((d for d in range(len(a)) if a[d] != b[d]), None) for a, b in zip(*shapes, strict=True)]


def saved(state: State, world: World, dims: Sequence[int | None]) -> Any:
    """Return the state as a checkpoint holds it: the examples of all processes, in order, as plain tensors.

    dims: what example_dims says. All processes must call this.
    """
    left = iter(dims)

    def whole(part: Tensor) -> Any:
        if world.size > 1 and (dim := next(left)) is not None:
            return on_tensors(lambda tensor: gather_examples(tensor, world, dim), parted(part))
        return parted(part)

    return on_tensors(whole, state)


def taken_up(saved: Any, world: World, dims: Sequence[int | None]) -> State:
    """Return this process's examples of a state that a checkpoint held."""
    left = iter(dims)

    def own(part: Tensor) -> Tensor:
        dim = next(left) if world.size > 1 else None
        return part.clone() if dim is None else part.chunk(world.size, dim)[world.rank].clone()

    return on_tensors(own, rejoined(saved))


def parted(part: Tensor) -> Any:
    """Return a tensor of the state as a checkpoint holds it: with a hyper cell's part, as two plain tensors by name."""
    return {"state": plain(part), "hyper": part.hyper} if isinstance(part, CarriedState) else part


def rejoined(state: Any) -> State:
    """Return a state that a checkpoint held: what `parted` took apart is one tensor again."""
    if isinstance(state, dict):
        return join(state["state"], state["hyper"])
    return type(state)(map(rejoined, state)) if isinstance(state, list | tuple) else state
