"""What can be chosen by name: one decorator for targets, hypernets, data sets, tasks, optimizers and schedules.

    @register("target", "tiny", TinyTarget, takes="images")
    def build_tiny(cfg, inputs): ...

The project's own and those of a module named in plugins=[...] are registered alike; a name is registered once. What is
decorated differs from group to group:

- target: (config, inputs) -> nn.Module. `takes`: the word of the inputs that it is for (images, text, strokes,
  coordinates), or several.
- hypernet: (config, {name: initial value of a parameter to generate}) -> nn.Module whose forward() gives
  {name: tensor}. With conditional=True (config, values, size) -> the same, or, for size > 0, a module whose forward
  takes a condition [..., size] and gives {name: [..., *shape]}.
- data: (config) -> the set that was read; of pairs of sentences (config, pieces that a run has learned or None).
  `values`: what its config holds beside what all sets of its kind share (conf/data/_KIND.yaml; of a kind of your own,
  the schema's defaults).
- task: a class derived from hyperrun.training.task.Task. `data`: the kind of data that it learns from; `takes`: of
  targets that take this, where several tasks learn from the same data.
- optim: (config, model) -> list of optimizers. schedule: (config, step, total) -> factor on the learning rate.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar

from hyperrun.conf_dir import CONF_DIR
from hyperrun.errors import UserError, choose

HOMES = {
    "target": "hyperrun.targets",
    "hypernet": "hyperrun.hypernets",
    "data": "hyperrun.data",
    "task": "hyperrun.tasks",
    "optim": "hyperrun.training.optim",
    "schedule": "hyperrun.training.schedules",
}
"""Group -> the module that brings the project's own choices along. Imported when they are asked for, not before."""

SCHEMAS = {
    "target": "TargetConfig",
    "hypernet": "HypernetConfig",
    "data": "DataConfig",
    "optim": "OptimConfig",
    "schedule": "ScheduleConfig",
}
"""Group -> the class in hyperrun.config that its schemas derive from. Tasks have none."""
NEEDED = {"target": "takes", "task": "data"}
"""Group -> the fact without which its choices cannot be used."""

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
        UserError: no such group; a name that another module has registered; no schema or fact where one is needed; a
            field without a default, and no YAML file to give one.
    """
    choose("group", group, HOMES)

    def add(build: Built) -> Built:
        check_choice(group, name, build.__module__ or "__main__", schema, facts)
        if schema is not None and not (CONF_DIR / group / f"{name}.yaml").exists():
            store(group, name, schema, facts, build.__module__ or "__main__")
        _choices[group][name] = Choice(name, build, schema, facts)
        return build

    return add


def check_choice(group: str, name: str, module: str, schema: Any, facts: Mapping[str, Any]) -> None:
    """Refuse what could not be chosen once it is registered.

    Raises:
        UserError: a name that another module has registered; no schema or fact where one is needed.
    """
    said = f"{module} registers {group}={name}"
    if module.partition(".")[0] != "hyperrun":
        importlib.import_module(HOMES[group])  # the project's own names first
    taken = _choices[group].get(name)
    if taken is not None and taken.build.__module__ != module:
        raise UserError(f"{said}, a name that {taken.build.__module__} has registered: choose another")
    if group in SCHEMAS:
        if not is_dataclass(schema) or "kind" not in [field.name for field in fields(schema)]:
            base = f"hyperrun.config.{SCHEMAS[group]}"
            raise UserError(f"{said} without a schema: a dataclass of its keys that derives from {base}")
        if group == "data" and not hasattr(schema, "KIND"):
            raise UserError(f"{said} with a schema that has no KIND, the word for what sort of data it is")
    word = facts.get(NEEDED[group]) if group in NEEDED else ""
    if not all(isinstance(one, str) for one in (word if isinstance(word, tuple) and word else [word])):
        raise UserError(f"{said} without {NEEDED[group]}=...: what it is for (images, text, ...)")


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


def tasks_on(kind: str, name: str) -> list[Choice]:
    """Return the tasks that learn from data of a kind; `name` is that of the set.

    Raises:
        UserError: there is none.
    """
    fits = [one for one in choices("task").values() if one.facts["data"] == kind]
    if not fits:
        raise UserError(f"no task learns from data of the kind {kind}: data={name}")
    return fits


def forget(group: str, name: str) -> None:
    """Take a choice away again: what a test registers is not to be there for the next."""
    from hydra.core.config_store import ConfigStore

    _choices[group].pop(name, None)
    ConfigStore.instance().repo.get(group, {}).pop(f"{name}.yaml", None)


def store(group: str, name: str, schema: type, facts: Mapping[str, Any], module: str) -> None:
    """Let Hydra find group=name, with the values that the schema's fields have as defaults."""
    from hydra.core.config_store import ConfigStore

    base = f"_{getattr(schema, 'KIND', '')}"
    said = f"{module} registers {group}={name}"
    if group == "data" and (CONF_DIR / "data" / f"{base}.yaml").exists():
        node = {"defaults": [base, "_self_"], "name": name, **facts.get("values", {})}
    elif group == "data":  # a kind of the plugin's own
        node = {"kind": base[1:], **defaults_of(schema, said), "name": name, **facts.get("values", {})}
    else:
        node = {"kind": name, **defaults_of(schema, said)}
    ConfigStore.instance().store(group=group, name=name, node=node)


def defaults_of(schema: type, said: str) -> dict[str, Any]:
    """Return the default of every field but `kind`. said: what an error begins with.

    Raises:
        UserError: a field has none.
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
            raise UserError(f"{said}, whose {schema.__name__}.{field.name} needs a default")
    return values
