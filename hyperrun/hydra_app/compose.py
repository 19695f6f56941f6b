"""What `hyperrun train` needs around Hydra: plugins, one-line errors, names of runs and sweeps."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

import hydra
import hydra._internal.hydra
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hyperrun.conf_dir import CONF_DIR, choices, is_base
from hyperrun.config import Config, from_omegaconf, one_line
from hyperrun.errors import UserError, listed, nearest
from hyperrun.metrics import higher_is_better

VERSION_BASE = "1.3" if hydra.__version__.startswith("1.3") else None
"""1.3 wants it named; 1.4 wants it left out."""

Configure = Callable[[DictConfig, list[str]], Config]
"""What makes a typed and checked config of what Hydra composed and what was typed."""

CHECKED = 100
"""Composed jobs kept in memory at most."""

EXTRAS = {
    "hydra/sweeper/optuna": "search (pip install hydra-optuna-sweeper)",
    "hydra/launcher/joblib": "joblib (pip install hydra-joblib-launcher)",
    "hydra/launcher/submitit_slurm": "slurm (pip install hydra-submitit-launcher)",
    "hydra/launcher/ray": "ray (pip install hydra-ray-launcher)",
}
"""Choices that Hydra has where an extra of pyproject.toml is installed."""


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
        for name in filter(None, (part.strip(" '\"") for part in value.strip("[]").split(","))):
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise UserError(f"plugins: cannot import {name} ({error})") from None


def compose_config(overrides: list[str]) -> Config:
    """Return the typed config that these overrides give, outside of a Hydra application.

    Raises:
        UserError: what `hyperrun train` would refuse.
    """
    try:
        with composing(), initialize_config_dir(str(CONF_DIR), version_base=VERSION_BASE):
            return from_omegaconf(compose("train", overrides=overrides))
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        raise UserError(message) from None


@contextmanager
def replaced(owner: Any, name: str, ours: Any) -> Iterator[None]:
    """Within the block, something of Hydra's that has no other handle is ours."""
    theirs = getattr(owner, name)
    setattr(owner, name, ours)
    try:
        yield
    finally:
        setattr(owner, name, theirs)


def composing() -> AbstractContextManager[None]:
    """Within this block, Hydra composes with our ConfigLoader: to run, to print, for a sweep."""
    return replaced(hydra._internal.hydra, "ConfigLoaderImpl", ConfigLoader)


class ConfigLoader(ConfigLoaderImpl):
    """Hydra's, with typed_groups_win and typed_epochs_win, and with bases (is_base) that nobody is offered.

    A class of its own, so that it is also what other processes get from a launcher.

    Before the jobs of a sweep Hydra composes once without what is swept over, and then knows no key that only the
    swept choices have: `-m model=lstm,hyperlstm target.hidden_size=256`. Here it composes the first job instead.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.sweep = os.environ.get("HYPERRUN_SWEEP")
        self.checked: dict[tuple[str, ...], DictConfig] = {}
        """Jobs that Hydra has composed to see whether they can be (check_jobs), until it asks for them to run them."""
        self.typed: dict[str, str] = {}
        """What is being composed: group -> choice, as typed."""

    def load_configuration(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode, *args: Any, **kwargs: Any
    ) -> DictConfig:
        composed = first_job(overrides) if run_mode == RunMode.MULTIRUN else overrides
        self.typed = typed_choices(composed)
        refuse_bases(self.typed, self)
        cfg = super().load_configuration(config_name, composed, run_mode, *args, **kwargs)
        with open_dict(cfg):
            parsed = OverridesParser.create().parse_overrides(overrides)
            if run_mode == RunMode.MULTIRUN:
                study_but_typed(cfg, parsed)
                search_in_the_right_direction(cfg, parsed)
            if composed != overrides:  # what the sweeper will read
                cfg.hydra.overrides.task = [o.input_line for o in parsed if not o.is_hydra_override()]
            if self.sweep is not None and "hydra" in cfg:  # an environment variable does not get to every machine
                cfg.hydra.job.env_set.HYPERRUN_SWEEP = self.sweep
        return typed_epochs_win(cfg, composed)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        compose_these = super()._compose_config_from_defaults_list
        cfg = compose_these(defaults=defaults, repo=repo)  # what is typed as group.key=value comes after this
        return typed_groups_win(cfg, self.typed, defaults, lambda some: compose_these(defaults=some, repo=repo))

    def get_group_options(self, *args: Any, **kwargs: Any) -> list[str]:
        return [name for name in super().get_group_options(*args, **kwargs) if not is_base(name)]

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        found = self.checked.pop(tuple(sweep_overrides), None)
        if found is not None:
            return found
        import_plugins(sweep_overrides)  # in the process of a parallel launcher nobody has
        return super().load_sweep_config(master_config, sweep_overrides)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"checked": {}}  # it travels to other processes with every job


def check_jobs(sweeper: Sweeper, batch: Sequence[Sequence[str]]) -> None:
    """Compose each job before any runs, so that mistakes show; in the place of Hydra's, which composes them in vain."""
    context = getattr(sweeper, "hydra_context", None)
    assert context is not None and sweeper.config is not None
    loader = context.config_loader
    for overrides in batch:
        composed = loader.load_sweep_config(sweeper.config, list(overrides))
        if isinstance(loader, ConfigLoader) and len(loader.checked) < CHECKED:
            loader.checked[tuple(overrides)] = composed


def study_but_typed(cfg: DictConfig, parsed: Iterable[Override]) -> None:
    """Take what was typed out of what the study sweeps over: the sweeper would combine both."""
    for override in parsed:
        key = override.get_key_element().lstrip("+~")
        if key == "sweep" and override.is_sweep_override():
            raise UserError("sweep takes one study at a time")
        if cfg.hydra.sweeper.get("params"):
            cfg.hydra.sweeper.params.pop(key, None)


def search_in_the_right_direction(cfg: DictConfig, parsed: Iterable[Override]) -> None:
    """Tell a search (hydra/sweeper=optuna) whether the metric that train returns is to rise or to fall."""
    typed = any(override.get_key_element() == "hydra.sweeper.direction" for override in parsed)
    if "direction" in cfg.hydra.sweeper and not typed:
        metric = "bpc" if cfg.data.kind == "text" else "accuracy"  # for words perplexity, which falls as well
        cfg.hydra.sweeper.direction = "maximize" if higher_is_better(metric) else "minimize"


def refuse_study(typed: Iterable[str]) -> None:
    """Raise a UserError where a study was asked for without -m: one job of it would be trained."""
    for word in typed:
        if word.startswith("sweep=") and word not in ("sweep=", "sweep=null"):
            raise UserError(f"{word} is many jobs: hyperrun train -m {word}")


def first_job(overrides: Iterable[str]) -> list[str]:
    """Return the overrides of a sweep's first job, as far as they can be told from the line alone."""
    first = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_choice_sweep() or override.is_range_sweep():
            key = str(override.input_line).partition("=")[0]
            first.append(f"{key}={next(iter(override.sweep_string_iterator()))}")
        elif not override.is_sweep_override():
            first.append(override.input_line)
    return first


def typed_choices(overrides: Iterable[str]) -> dict[str, str]:
    """Return what was typed as KEY=WORD, of which groups are a part."""
    parsed = [o for o in OverridesParser.create().parse_overrides(list(overrides)) if not o.is_sweep_override()]
    typed = {o.get_key_element().lstrip("+"): o.value() for o in parsed if not o.is_delete()}
    return {key: value for key, value in typed.items() if isinstance(value, str)}


def refuse_bases(typed: Mapping[str, str], loader: ConfigLoaderImpl) -> None:
    """Raise Hydra's error for a choice that is not there where one is a base: it lacks what its files add."""
    for group, choice in typed.items():
        if is_base(choice) and loader.repository.group_exists(group):
            raise MissingConfigException(f"{choice} is a base", f"{group}/{choice}", loader.get_group_options(group))


def typed_groups_win(
    cfg: DictConfig,
    typed: Mapping[str, str],
    defaults: Sequence[ResultDefault],
    compose_these: Callable[[list[ResultDefault]], DictConfig],
) -> DictConfig:
    """Give a group chosen on the command line the values of its own file, where a preset or experiment set others.

    `experiment=ha2016/cifar10_wrn40_2 optim=adam` means Adam as optim/adam.yaml and what that builds on have it, not
    with the learning rate and momentum that the experiment wrote into the group for SGD.

    Args:
        defaults: the files that cfg was composed of, in their order.
        compose_these: composes some of them.
    """
    for group in typed:
        own = [
            d for d in defaults if f"{d.package}.".startswith(f"{group}.")
        ]  # presets and experiments have no package
        if own and group in cfg:
            cfg[group] = compose_these(own)[group]
    return cfg


def typed_epochs_win(cfg: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """Take away the steps that an experiment set where epochs were typed and no steps: of both, steps would count."""
    typed = {
        o.get_key_element().lstrip("+~"): o.value() for o in OverridesParser.create().parse_overrides([*overrides])
    }
    if typed.get("trainer.epochs") is not None and "trainer.max_steps" not in typed:
        cfg.trainer.max_steps = None
    return cfg


def one_line_arguments() -> AbstractContextManager[None]:
    """Within this block, what argparse finds wrong with Hydra's own options is one line, too."""

    def error(self: argparse.ArgumentParser, message: str) -> NoReturn:
        raise UserError(f"{message} (hyperrun train --hydra-help)")

    return replaced(argparse.ArgumentParser, "error", error)


def quiet_other_ranks() -> list[str]:
    """Return overrides that keep Hydra from writing and logging in every process that torchrun starts but the first."""
    if os.environ.get("RANK", "0") == "0":
        return []
    return ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"]


def sweep_group(argv: list[str]) -> str:
    """Return a name for a sweep that is the same whenever the same line is typed."""
    return "sweep-" + hashlib.sha256(" ".join(argv).encode()).hexdigest()[:8]


def typed_overrides(context: Any) -> list[str]:
    """Return what was typed, interpolations as they stand (read one by one, they would be resolved)."""
    raw = OmegaConf.to_container(context.overrides.task, resolve=False)
    assert isinstance(raw, list)
    return [str(override) for override in raw]


def as_a_job_sees(cfg: DictConfig) -> DictConfig:
    """Return the composed config without the part that is Hydra's."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def model_name(cfg: DictConfig, typed: list[str]) -> str:
    """Return the preset's name, or one made of target and hypernet where the command line chose one of them itself."""
    chosen = {o.partition("=")[0].partition("@")[0] for o in typed}
    if not chosen & {"target", "hypernet"} and not OmegaConf.is_missing(cfg, "model"):
        return str(cfg.model)
    name = str(cfg.target.get("name", cfg.target.kind))
    return name if cfg.hypernet.kind == "none" else f"{cfg.hypernet.kind}-{name}"


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
        return f"cannot read '{error.override}': {error.message.splitlines()[0]} (quote values with commas or spaces)"
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
