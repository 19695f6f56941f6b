"""What a recurrent model carries from chunk to chunk: tensors [B, ...] in lists and tuples, or None at the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hyperrun.hypernets.carried_state import CarriedState, join, plain
from hyperrun.training.distributed import World, gather_rows

State = Any


def on_tensors(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Return the state with each tensor [B, ...] replaced by function(tensor)."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, list | tuple):
        return type(state)(on_tensors(function, part) for part in state)
    return state


def saved(state: State, world: World) -> Any:
    """Return the state as a checkpoint holds it: the rows of all processes, in order, as plain tensors.

    Any number of processes can go on with it. All of them must call this.
    """
    return on_tensors(lambda part: parted(gather_rows(part, world)), state)


def taken_up(saved: Any, world: World) -> State:
    """Return this process's rows of a state that a checkpoint held."""
    return on_tensors(lambda part: part.chunk(world.size)[world.rank].clone(), rejoined(saved))


def parted(part: Tensor) -> Any:
    """Return a tensor of the state as a checkpoint holds it: with a hyper cell's part, as two plain tensors by name."""
    return {"state": plain(part), "hyper": part.hyper} if isinstance(part, CarriedState) else part


def rejoined(state: Any) -> State:
    """Return a state that a checkpoint held: what `parted` took apart is one tensor again."""
    if isinstance(state, dict):
        return join(state["state"], state["hyper"])
    return type(state)(map(rejoined, state)) if isinstance(state, list | tuple) else state
