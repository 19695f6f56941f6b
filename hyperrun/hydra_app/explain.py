"""One line for what Hydra or OmegaConf finds wrong with a command line: what is allowed, and what is nearest."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hyperrun.conf_dir import CONF_DIR, choices, is_base
from hyperrun.config import one_line
from hyperrun.errors import UserError, listed, nearest
from hyperrun.hydra_app.overrides import first_job
from hyperrun.hydra_app.replaced import VERSION_BASE

EXTRAS = {
    "hydra/sweeper/optuna": "search (pip install hydra-optuna-sweeper)",
    "hydra/launcher/joblib": "joblib (pip install hydra-joblib-launcher)",
    "hydra/launcher/submitit_slurm": "slurm (pip install hydra-submitit-launcher)",
    "hydra/launcher/ray": "ray (pip install hydra-ray-launcher)",
}
"""Choices that Hydra has where an extra of pyproject.toml is installed."""


def explain(error: BaseException, argv: Iterable[str] = ()) -> str | None:
    """Return one line for an error that Hydra or omegaconf raised about the command line; None for any other error."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file in EXTRAS:
        return f"{error.missing_cfg_file} needs the extra {EXTRAS[error.missing_cfg_file]}"
    if isinstance(error, MissingConfigException) and error.options is not None:
        parts = str(error.missing_cfg_file).split("/")
        depth = 2 if parts[0] == "hydra" else 1  # hydra/launcher=slurm, experiment=ha2016/mnist_cnn
        group, choice = "/".join(parts[:depth]), "/".join(parts[depth:])
        options = sorted({*choices(group), *(name for name in error.options if not is_base(name))})
        return f"{group} has no choice '{choice}'{nearest(choice, options)} (allowed: {listed(choice, options)})"
    if isinstance(error, OverrideParseException):
        if "=" not in error.override:
            return f"cannot read '{error.override}': overrides are written KEY=VALUE (hyperrun train --help)"
        line = quoted(error.override)
        if line is not None:
            return f"cannot read '{error.override}': a value with such letters is typed in quotes: {line}"
        return f"cannot read '{error.override}': {error.message.splitlines()[0]} (quote values with commas or spaces)"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {error.problem or 'no YAML'}"
    if isinstance(error, yaml.YAMLError):
        return " ".join(str(error).split())
    if isinstance(error, ConfigCompositionException):
        text = " ".join(str(error).split())
        match = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)'", text)
        if match:
            return unknown_key(match.group(1), argv)
        return one_line(error.__cause__) if isinstance(error.__cause__, OmegaConfBaseException) else text
    if isinstance(error, OmegaConfBaseException):
        return one_line(error)
    if isinstance(error, HydraException):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename:  # Hydra makes the folder outputs=DIR
        return f"cannot write to {error.filename}: {error.strerror} (outputs=DIR names another place)"
    if isinstance(error, ValueError) and "Config group override" in str(error):
        for group, _, choice in (word.partition("=") for word in argv):
            options = list(choices(group))
            if group and options and choice not in options:
                return f"{group} has no choice '{choice}' (allowed: {listed(choice, options)})"
    return str(error) if isinstance(error, ValueError) else None


def quoted(override: str) -> str | None:
    """Return KEY=VALUE as it is to be typed where VALUE has letters that Hydra's grammar has other uses for; None where
    that would not help, or a list or a mapping was meant."""
    key, _, value = override.partition("=")
    if not value or value[0] in "[{\"'" or "${" in value:
        return None
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    line = f'{key}="{escaped}"'
    try:
        OverridesParser.create().parse_override(line)
    except HydraException:
        return None
    return shlex.quote(line)


def unknown_key(key: str, argv: Iterable[str]) -> str:
    """Say that there is no such key, what is nearest, and what its group has."""
    if key.startswith("hydra."):
        chosen = " ".join(word for word in argv if word.startswith("hydra/"))
        return (
            f"unknown key '{key}' (hyperrun train {chosen} --cfg hydra -p {key.rpartition('.')[0]} shows what is there)"
        )
    keys = keys_in_use(argv)
    group = key.rpartition(".")[0]
    beside = [k.rpartition(".")[2] for k in keys if group and k.rpartition(".")[0] == group]
    has = f"{group} has: {', '.join(beside)}" if beside else "hyperrun train --cfg job shows all keys"
    near = [k for k in keys if not k.endswith(".kind") and k.startswith(f"{group}." if beside else "")]
    return f"unknown key '{key}'{nearest(key, near)} ({has})"


def keys_in_use(argv: Iterable[str]) -> list[str]:
    """Return every key that can be typed beside the groups chosen in `argv` (a target has its own keys)."""
    groups = sorted(p.name for p in CONF_DIR.iterdir() if p.is_dir() and p.name != "hydra")
    chosen = first_job(word for word in argv if word.partition("=")[0] in groups)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF_DIR), version_base=VERSION_BASE):
            return groups + list(dotted(compose("train", overrides=chosen)))
    except Exception:  # while explaining an error, a second one must not hide the first
        return groups


def dotted(node: DictConfig, prefix: str = "") -> Iterable[str]:
    for key in node:
        name = f"{prefix}{key}"
        if name == "hydra":
            continue
        yield name
        child = node._get_node(str(key))
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from dotted(child, f"{name}.")
