"""Where a target holds its parameters: emptied for generated ones, filled again. Tied ones stand in several places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn


def tied_slots(target: nn.Module, name: str) -> list[str]:
    """Return the other names under which the target holds the same parameter."""
    parameter = target.get_parameter(name)
    names = [other for other, p in target.named_parameters(remove_duplicate=False) if p is parameter and other != name]
    owners = {name.rpartition(".")[0]}
    slots = []
    for other in names:  # a module under two names holds the parameter once
        owner, _, leaf = other.rpartition(".")
        known = any(target.get_submodule(owner) is target.get_submodule(o) for o in owners)
        if not known or leaf != name.rpartition(".")[2]:
            slots.append(other)
            owners.add(owner)
    return slots


def set_slot(target: nn.Module, name: str, value: nn.Parameter | None) -> None:
    """Put a parameter, or None in its place, where the target has one of this name."""
    owner, _, leaf = name.rpartition(".")
    target.get_submodule(owner).register_parameter(leaf, value)


def empty_slots(target: nn.Module, names: Iterable[str]) -> dict[str, list[str]]:
    """Take these parameters out of the target; return name -> the other places where the same parameter stood."""
    tied = {name: tied_slots(target, name) for name in names}
    for name, others in tied.items():
        for slot in (name, *others):
            set_slot(target, slot, None)
    return tied


def in_all_slots(weights: Mapping[str, Tensor], tied: Mapping[str, Iterable[str]]) -> dict[str, Tensor]:
    """Return the weights under every name at which the target looks for them."""
    return {**weights, **{slot: weights[name] for name, slots in tied.items() for slot in slots}}
