"""What the names of a run stand for: the config of a model, an experiment and a data set, read without Hydra.

Composing takes Hydra a third of a second, too long for tables of a thousand runs. Here are the few of its rules that
the files under conf/ use; a test holds what both give equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from hyperrun.conf_dir import CONF_DIR, choices
from hyperrun.runs.reading import YamlLoader, dotted

GLOBAL = "# @package _global_"
TOP = ("", "train")
"""Group and name of the file that all others are put into."""

BY_DATA = re.compile(r"\$\{by_data:(\{.*\}),(.*)\}")
"""A value that depends on the kind of data (config/typed.py)."""

EXCHANGEABLE = ("target", "hypernet", "optim", "schedule")
"""Groups whose choices are files of the name that is their kind."""


Loader: Any = type("Loader", (YamlLoader,), {})
"""Reads 2e-3 as a number, as Hydra does; YAML 1.1 wants a point in it."""
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class File:
    """A file under conf/."""

    values: dict[str, Any]
    parts: list[tuple[str, str] | None] = field(default_factory=list)
    """What it builds on, (group, name), in order; None where its own values come."""
    overrides: list[tuple[str, str]] = field(default_factory=list)
    """Group -> choice, as it wants them."""


@cache
def read(group: str, name: str) -> File:
    text = (CONF_DIR / group / f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.load(text, Loader) or {}
    entries = values.pop("defaults", [])
    values.pop("hydra", None)
    parts: list[tuple[str, str] | None] = []
    overrides: list[tuple[str, str]] = []
    for entry in entries:
        if entry == "_self_":
            parts.append(None)
        elif isinstance(entry, str):  # a file of the same group, or /GROUP/NAME
            there, _, choice = entry.removeprefix("/").partition("/") if entry[0] == "/" else (group, "", entry)
            parts.append((there, choice))
        else:
            [(what, choice)] = entry.items()
            if what.startswith("override "):
                overrides.append((what.removeprefix("override ").removeprefix("/"), choice))
            elif choice is not None and not what.startswith("optional "):
                parts.append((what, choice))
    if None not in parts:
        parts.append(None)
    if group and not text.startswith(GLOBAL):
        values = {group: values}
    return File(values, parts, overrides)


def values_of(group: str, name: str) -> dict[str, Any]:
    """Return what a choice, with the files that it builds on, sets in a config."""
    file = read(group, name)
    found: dict[str, Any] = {}
    for part in file.parts:
        found = merged(found, file.values if part is None else values_of(*part))
    return found


def merged(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return both; where both have a value the other's, of two mappings both merged."""
    found = dict(one)
    for key, value in other.items():
        mine = found.get(key)
        found[key] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return found


def collect(group: str, name: str, chosen: dict[str, str]) -> None:
    """Add what a file and those that it builds on want of other groups. What is there stays: Hydra asks a file before
    what it builds on, and of several files the last one first."""
    file = read(group, name)
    for other, choice in file.overrides:
        chosen.setdefault(other, choice)
    for part in reversed(file.parts):
        if part is not None:
            collect(*part, chosen)


def composed(model: str | None, experiment: str | None) -> dict[str, Any]:
    """Return the config of `hyperrun train model=MODEL experiment=EXPERIMENT`, as nested dicts; of None its own choice.

    It has the keys that stand in YAML: those that a later version added to a dataclass may be missing.
    """
    return resolved(as_written(model, experiment))


def as_written(model: str | None, experiment: str | None) -> dict[str, Any]:
    """Return what `composed` does, with values that depend on the data as they stand in YAML."""
    wanted = {"model": model, "experiment": experiment}
    chosen = {group: choice for group, choice in wanted.items() if choice is not None}
    groups = {part[0]: part[1] for part in read(*TOP).parts if part is not None}
    if experiment is not None:
        collect("experiment", experiment, chosen)
    collect("model", chosen.get("model", groups["model"]), chosen)
    found = dict(read(*TOP).values)
    for group, choice in {**groups, **({"experiment": experiment} if experiment is not None else {})}.items():
        found = merged(found, values_of(group, chosen.get(group, choice)))
    return found


def resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config with the values for its kind of data: of ${by_data:{strokes:0.0},0.1} the first on strokes."""
    kind = config["data"].get("kind")

    def value(written: Any) -> Any:
        found = BY_DATA.fullmatch(written) if isinstance(written, str) else None
        if found is None:
            return written
        kinds, otherwise = (yaml.load(text.replace(":", ": "), Loader) for text in found.groups())
        return kinds.get(kind, otherwise)

    groups = {group: values for group, values in config.items() if isinstance(values, dict)}
    return config | {group: {key: value(one) for key, one in values.items()} for group, values in groups.items()}


@cache
def preset(
    model: str, experiment: str | None, data: str, kinds: tuple[str, ...], target_name: str
) -> dict[str, Any] | None:
    """Return the config, with dotted keys, that the names of a run stand for; None for names that are not hyperrun's.

    A group in which the run has another kind than its model and experiment has the values of that kind's own file, and
    the kind that they say. Groups of kinds and data sets that are not hyperrun's are left out.

    Args:
        model: as in config.yaml: a preset, or made of target and hypernet where these were chosen by hand.
        data: name of the data set.
        kinds: those of EXCHANGEABLE, in its order.
        target_name: what stands for the target in a name that is made of target and hypernet.
    """
    if experiment is not None and experiment not in known("experiment"):
        return None
    found = as_written(None, experiment)
    theirs = found["model"]
    if model != theirs and model in known("model"):
        found = as_written(model, experiment)
    by_hand = model != found["model"]
    if by_hand and model != (target_name if kinds[1] == "none" else f"{kinds[1]}-{target_name}"):
        return None
    named = by_hand and experiment is None  # a row is called by its target and hypernet
    for group, kind in zip(EXCHANGEABLE, kinds, strict=True):
        before, said = found[group]["kind"], named and group in ("target", "hypernet")
        if said or kind != before:
            found[group] = dict(values_of(group, kind)[group]) if kind in known(group) else {}
            found[group]["kind"] = kind if said else before
    if named and "name" in found["target"]:
        found["target"]["name"] = target_name
    if data != found["data"]["name"]:
        found["data"] = values_of("data", data)["data"] if data in known("data") else {}
    found["model"] = model if experiment is None or by_hand else theirs
    return dotted(resolved(found))


@cache
def known(group: str) -> frozenset[str]:
    return frozenset(choices(group))


@cache
def published(experiment: str) -> bool:
    """Return whether an experiment is one of hyperrun's with a published figure."""
    return experiment in known("experiment") and composed(None, experiment)["paper"] is not None
