"""From what Hydra composed, or a saved config.yaml, to dataclasses, and back to plain dicts and their hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from hyperrun.config.checks import check_finite
from hyperrun.config.run import Config, TrackingConfig
from hyperrun.errors import UserError, choose, nearest
from hyperrun.registry import choices

GROUPS = ("target", "hypernet", "data", "optim", "schedule", "tracking")
"""Groups whose choices differ in their keys, as `kind` says."""

NOT_IN_HASH = (
    "outputs",
    "tracking",
    "resume",
    "plugins",
    "paper",
    "fail_fast",
    "params",  # the width that it chose is in the hash
    "data.root",
    "data.workers",
    "trainer.save_every_s",
)
"""Keys that do not change a run's result, so that changing one of them finds the same run folder again."""


ADDED_LATER: dict[tuple[str, str], dict[str, Any]] = {
    ("hypernet", "dynamic"): {"include": [], "exclude": []},
    ("target", "recurrent"): {"mixtures": 20},
}
"""(group, kind) -> keys that a later version added, with the value that computes what was computed before them.

With that value a key is not in the hash, so that runs from before it are found again. Their config.yaml lacks the key:
its dataclass needs this value as its default."""


def by_data(values: DictConfig, otherwise: Any, *, _root_: DictConfig) -> Any:
    """Return the value for the kind of the config's data: ${by_data:{strokes:0.0},0.1} is 0 on strokes, else 0.1."""
    return values.get(OmegaConf.select(_root_, "data.kind"), otherwise)


OmegaConf.register_new_resolver("by_data", by_data, replace=True)


def schemas(group: str) -> dict[str, Any]:
    """Return kind -> dataclass of one of GROUPS, those of plugins that have been imported among them."""
    if group == "tracking":
        return {"default": TrackingConfig}
    if group == "data":
        return {one.schema.KIND: one.schema for one in choices("data").values()}
    return {name: one.schema for name, one in choices(group).items()}


def from_omegaconf(cfg: DictConfig) -> Config:
    """Check a composed or saved config and return it typed.

    Raises:
        UserError: an unknown key, a value of the wrong type or out of range, a missing value.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        assert isinstance(plain, dict)
        plain = {str(name): value for name, value in plain.items()}
        others = {name: value for name, value in plain.items() if name not in GROUPS}
        merged: Any = OmegaConf.merge(OmegaConf.structured(Config), others)  # once for all: a merge takes milliseconds
        typed = {name: _typed(name, merged[name]) for name in others}
        typed |= {name: typed_choice(name, value) for name, value in plain.items() if name in GROUPS}
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from None
    missing = [f.name for f in fields(Config) if f.name not in typed and f.default is MISSING]
    if missing:
        raise UserError(f"the config lacks: {', '.join(missing)}")
    try:
        return Config(**typed)
    except ValueError as error:
        raise UserError(str(error)) from None


def typed_choice(name: str, value: Any) -> Any:
    """Return a group of several kinds, checked against its kind's dataclass."""
    if not isinstance(value, dict) or "kind" not in value:
        raise UserError(f"{name} must be one of its choices: {name}=NAME (hyperrun ls shows them)")
    found = schemas(name)
    kind = choose(f"{name}.kind", str(value["kind"]), found)
    try:
        return _typed(name, OmegaConf.merge(OmegaConf.structured(found[kind]), value))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error, f"{name}.")) from None


def _typed(name: str, checked: Any) -> Any:
    """Return one entry of the top level, of the right types already, as a dataclass whose numbers are checked."""
    try:
        typed = OmegaConf.to_object(checked) if OmegaConf.is_config(checked) else checked
        if is_dataclass(typed):
            check_finite(typed)
        return typed
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def one_line(error: OmegaConfBaseException, prefix: str = "") -> str:
    """Say in one line what omegaconf found wrong: the key, what is allowed, the nearest match."""
    key = prefix + str(error.full_key or "")
    if isinstance(error, MissingMandatoryValue):
        return f"{key} needs a value"
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and is_dataclass(error.object_type):
        allowed = [f.name for f in fields(error.object_type)]
        return f"unknown key '{key}'{nearest(key.rpartition('.')[2], allowed)} (allowed: {', '.join(allowed)})"
    text = str(error).splitlines()[0]
    if "is not a ListConfig" in text:
        text = f"must be a list: {key}=[...]"
    return f"{key}: {text}" if key and key not in text else text


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as plain dicts, lists and numbers, in the order of the fields."""
    return asdict(config)


def run_hash(config: Config) -> str:
    """Return eight hexadecimal digits that name what the run computes (see NOT_IN_HASH)."""
    plain = json.dumps(what_is_computed(to_dict(config)), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:8]


def what_is_computed(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a config, as plain dicts (of a saved run, too), without the keys of NOT_IN_HASH, and without
    those of ADDED_LATER that have their value from before."""
    data = plain.get("data")
    folder_is_data = isinstance(data, dict) and data.get("name") == "image_folder"
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in plain.items()}
    for key in NOT_IN_HASH:
        if key == "data.root" and folder_is_data:
            continue
        node, _, leaf = key.rpartition(".")
        within = kept.get(node) if node else kept
        if isinstance(within, dict):
            within.pop(leaf, None)
    for (group, kind), added in ADDED_LATER.items():
        within = kept.get(group)
        if isinstance(within, dict) and within.get("kind") == kind:
            for key, before in added.items():
                if within.get(key) == before:
                    del within[key]
    return kept
