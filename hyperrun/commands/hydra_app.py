"""What `hyperrun train` needs around Hydra: plugins, one-line errors, names of runs and sweeps."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hyperrun.conf_dir import CONF_DIR
from hyperrun.config import one_line
from hyperrun.errors import UserError, nearest

VERSION_BASE = "1.3" if hydra.__version__.startswith("1.3") else None
"""1.3 wants it named; 1.4 wants it left out."""


def import_plugins(argv: Iterable[str]) -> None:
    """Import the modules of plugins=[a,b] from the command line (only from there: a saved config names no code).

    Raises:
        UserError: a module that cannot be imported.
    """
    for word in argv:
        key, _, value = word.partition("=")
        if key.lstrip("+") != "plugins":
            continue
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # a console script does not look in the folder where it is typed
        for name in value.strip("[]").split(","):
            try:
                importlib.import_module(name.strip(" '\""))
            except ImportError as error:
                raise UserError(f"plugins: cannot import {name.strip()} ({error})") from None


def quiet_other_ranks() -> list[str]:
    """Return overrides that keep Hydra from writing and logging in every process that torchrun starts but the first."""
    if os.environ.get("RANK", "0") == "0":
        return []
    return ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"]


def sweep_group(argv: list[str]) -> str:
    """Return a name for a sweep that is the same whenever the same line is typed."""
    return "sweep-" + hashlib.sha256(" ".join(argv).encode()).hexdigest()[:8]


def model_name(cfg: DictConfig, context: Any) -> str:
    """Return the preset's name, or one made of target and hypernet where the command line chose one of them itself."""
    chosen = {o.partition("=")[0].partition("@")[0] for o in context.overrides.task}
    if not chosen & {"target", "hypernet"} and not OmegaConf.is_missing(cfg, "model"):
        return str(cfg.model)
    name = str(cfg.target.get("name", cfg.target.kind))
    return name if cfg.hypernet.kind == "none" else f"{cfg.hypernet.kind}-{name}"


def all_keys() -> list[str]:
    """Return every key and group that can be typed, for suggestions."""
    groups = sorted(p.name for p in CONF_DIR.iterdir() if p.is_dir())
    try:
        loader = GlobalHydra.instance().config_loader()
        cfg = loader.load_configuration("train", [], run_mode=hydra.types.RunMode.RUN)
    except Exception:  # while explaining an error, a second one must not hide the first
        return groups
    return groups + list(dotted(cfg))


def dotted(node: DictConfig, prefix: str = "") -> Iterable[str]:
    for key in node:
        name = f"{prefix}{key}"
        if name == "hydra":
            continue
        yield name
        child = node._get_node(str(key))
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from dotted(child, f"{name}.")


def explain(error: BaseException) -> str | None:
    """Return one line for an error that Hydra or omegaconf raised about the command line; None for any other error."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        name = str(error.missing_cfg_file)
        group, _, choice = name.rpartition("/")
        options = sorted(error.options)
        return f"{group} has no choice '{choice}'{nearest(choice, options)} (allowed: {', '.join(options)})"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': {error.message.splitlines()[0]} (quote values with commas or spaces)"
    if isinstance(error, ConfigCompositionException):
        cause = error.__cause__
        text = " ".join(str(error).split())
        match = re.search(r"Could not override '([^']+)'", text) or re.search(r"No match in the defaults list\.? .*?'([^']+)'", text)
        if match or "Key '" in text:
            key = match.group(1) if match else re.findall(r"Key '([^']+)'", text)[0]
            return f"unknown key '{key}'{nearest(key, all_keys())} (hyperrun train --cfg job shows all keys; +{key}= adds one)"
        if isinstance(cause, OmegaConfBaseException):
            return one_line(cause)
        return text
    if isinstance(error, OmegaConfBaseException):
        return one_line(error)
    if isinstance(error, HydraException):
        return " ".join(str(error).split())
    return None
