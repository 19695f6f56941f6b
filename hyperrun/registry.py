"""What can be chosen by name: one decorator for targets, hypernets, data sets, tasks, optimizers and schedules.

    @register("target", "tiny", TinyTarget, takes="images")
    def build_tiny(cfg, inputs): ...

The project's own and those of a module named in plugins=[...] are registered alike. What is decorated differs from
group to group:

- target: (config, inputs) -> nn.Module. `takes`: the word of the inputs that it is for (images, text, strokes,
  coordinates), or several.
- hypernet: (config, {name: initial value of a parameter to generate}) -> nn.Module whose forward() gives
  {name: tensor}. With conditional=True (config, values, size) -> the same, or, for size > 0, a module whose forward
  takes a condition [..., size] and gives {name: [..., *shape]}.
- data: (config) -> the set that was read. `values`: what its config holds beside what all sets of its kind share
  (conf/data/_KIND.yaml; of a kind of your own, the schema's defaults).
- task: a class derived from hyperrun.training.task.Task. `data`: the kind of data that it learns from; `takes`: of
  targets that take this, where several tasks learn from the same data.
- optim: (config, model) -> list of optimizers. schedule: (config, step, total) -> factor on the learning rate.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from hyperrun.conf_dir import CONF_DIR
from hyperrun.errors import choose

HOMES = {
    "target": "hyperrun.targets",
    "hypernet": "hyperrun.hypernets",
    "data": "hyperrun.data",
    "task": "hyperrun.tasks",
    "optim": "hyperrun.training.optim",
    "schedule": "hyperrun.training.schedules",
}
"""Group -> the module that brings the project's own choices along. Imported when they are asked for, not before."""

Built = TypeVar("Built", bound=Callable[..., Any])


@dataclass(frozen=True)
class Choice:
    """One thing that can be chosen."""

    name: str
    build: Callable[..., Any]
    schema: Any
    """The dataclass of its config; None where it has none (tasks)."""
    facts: Mapping[str, Any]
    """What else was said when it was registered."""


_choices: dict[str, dict[str, Choice]] = {group: {} for group in HOMES}


def register(group: str, name: str, schema: type | None = None, **facts: Any) -> Callable[[Built], Built]:
    """Return a decorator that makes group=name a choice. See the top of this file for what is decorated.

    schema: a dataclass; its fields are the keys that can be typed. Of the project's own choices their values stand in
        conf/GROUP/NAME.yaml; where there is no such file, in the fields' defaults.

    Raises:
        UserError: no such group.
        TypeError: a field without a default, and no YAML file to give one.
    """
    choose("group", group, HOMES)

    def add(build: Built) -> Built:
        _choices[group][name] = Choice(name, build, schema, facts)
        if schema is not None and not (CONF_DIR / group / f"{name}.yaml").exists():
            store(group, name, schema, facts)
        return build

    return add


def choices(group: str) -> Mapping[str, Choice]:
    """Return name -> choice of a group, the project's own and those of plugins that have been imported."""
    importlib.import_module(HOMES[group])
    return _choices[group]


def chosen(group: str, name: str) -> Choice:
    """Return a choice by its name.

    Raises:
        UserError: there is none of this name; it lists those that there are.
    """
    found = choices(group)
    return found[choose(group, name, found)]


def forget(group: str, name: str) -> None:
    """Take a choice away again: what a test registers is not to be there for the next."""
    from hydra.core.config_store import ConfigStore

    _choices[group].pop(name, None)
    ConfigStore.instance().repo.get(group, {}).pop(f"{name}.yaml", None)


def store(group: str, name: str, schema: type, facts: Mapping[str, Any]) -> None:
    """Let Hydra find group=name, with the values that the schema's fields have as defaults."""
    from hydra.core.config_store import ConfigStore

    base = f"_{getattr(schema, 'KIND', '')}"
    if group == "data" and (CONF_DIR / "data" / f"{base}.yaml").exists():
        node = {"defaults": [base, "_self_"], "name": name, **facts.get("values", {})}
    elif group == "data":  # a kind of the plugin's own
        node = {"kind": base[1:], **defaults_of(schema, f"{group}={name}"), "name": name, **facts.get("values", {})}
    else:
        node = {"kind": name, **defaults_of(schema, f"{group}={name}")}
    ConfigStore.instance().store(group=group, name=name, node=node)


def defaults_of(schema: type, what: str) -> dict[str, Any]:
    """Return the default of every field but `kind`.

    Raises:
        TypeError: a field has none.
    """
    values: dict[str, Any] = {}
    for field in fields(schema):
        if field.name == "kind":
            continue
        if field.default is not MISSING:
            values[field.name] = field.default
        elif field.default_factory is not MISSING:
            values[field.name] = field.default_factory()
        else:
            raise TypeError(f"{schema.__name__}.{field.name} needs a default: {what} has no YAML file to give one")
    return values
