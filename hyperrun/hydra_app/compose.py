"""Composing a run's config: Hydra's way, and what typed keys, studies and searches need besides."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import hydra._internal.hydra
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from hyperrun.conf_dir import CONF_DIR, is_base
from hyperrun.config import Config, from_omegaconf
from hyperrun.errors import UserError
from hyperrun.hydra_app.config_files import Repository
from hyperrun.hydra_app.explain import explain
from hyperrun.hydra_app.overrides import first_job
from hyperrun.hydra_app.plugins import import_plugins
from hyperrun.hydra_app.replaced import VERSION_BASE, replaced
from hyperrun.metrics import higher_is_better
from hyperrun.paths import expanded

CHECKED = 100
"""Composed jobs kept in memory at most."""
PLACES = ("root", "path", *(f"{split}{side}" for split in ("", "val_", "test_") for side in ("source", "target")))
"""Keys of data that name a folder or a file."""
SEARCHED = {"text": "bpc", "strokes": "nats"}
"""Kind of data -> the metric that a search goes by (for words it is perplexity, which falls as well); of pairs of
sentences data.select says it; else accuracy."""


def compose_config(overrides: list[str]) -> Config:
    """Return the typed config that these overrides give, outside of a Hydra application.

    Raises:
        UserError: what `hyperrun train` would refuse.
    """
    try:
        with composing(), initialize_config_dir(str(CONF_DIR), version_base=VERSION_BASE):
            config = from_omegaconf(compose("train", overrides=overrides))
            refuse_batch_sizes(config, overrides)
            return config
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        raise UserError(message) from None


def configured(cfg: DictConfig, typed: list[str]) -> Config:
    """Return what Hydra composed, typed and checked."""
    cfg.model = model_name(cfg, typed)
    config = from_omegaconf(cfg)
    refuse_batch_sizes(config, typed)
    for key in PLACES:  # the run is evaluated from other folders, too
        place = getattr(config.data, key, None)
        if place is not None:
            setattr(config.data, key, os.path.abspath(expanded(place)))
    if config.params is not None:
        from hyperrun.models import choose_width  # it builds models with torch, which composing does not need

        choose_width(config, typed)
    if config.paper is not None and config.paper.data not in (None, config.data.name):
        config.paper = None  # experiment=ha2016/mnist_cnn data=fashion_mnist
    return config


def refuse_batch_sizes(config: Config, typed: Iterable[str]) -> None:
    """Refuse sizes of batches that were typed for pairs of sentences, which are counted in pieces. Those of the config
    are not looked at: they are the trainer's, whatever is trained.

    Raises:
        UserError: one of them was typed.
    """
    if config.data.kind != "pairs":
        return
    for key in (word.partition("=")[0].lstrip("+") for word in typed):
        if key in ("trainer.batch_size", "trainer.eval_batch_size"):
            raise UserError(
                f"{key} says nothing on data={config.data.name}, whose batches are counted in pieces: type "
                "data.tokens_per_batch=N"
            )


def model_name(cfg: DictConfig, typed: list[str]) -> str:
    """Return the preset's name, or one made of target and hypernet where the command line chose one of them itself."""
    chosen = {o.partition("=")[0].partition("@")[0] for o in typed}
    if not chosen & {"target", "hypernet"} and not OmegaConf.is_missing(cfg, "model"):
        return str(cfg.model)
    name = str(cfg.target.get("name", cfg.target.kind))
    return name if cfg.hypernet.kind == "none" else f"{cfg.hypernet.kind}-{name}"


def as_a_job_sees(cfg: DictConfig) -> DictConfig:
    """Return the composed config without the part that is Hydra's."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


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
        self.repository = Repository(config_search_path)
        places = [str(one.path) for one in config_search_path.get_path()]
        self.folders = [Path(place.removeprefix("file://")) for place in places if not place.startswith("pkg://")]
        """Where config files are, the user's own first."""
        self.sweep = os.environ.get("HYPERRUN_SWEEP")
        self.checked: dict[tuple[str, ...], DictConfig] = {}
        """Jobs that Hydra has composed to see whether they can be (check_jobs), until it asks for them to run them."""
        self.typed: dict[str, str] = {}
        """What is being composed: group -> choice, as typed."""
        self.asked: tuple[list[str], DictConfig] | None = None
        """What Hydra has composed to see whether the line is a sweep (hydra.mode), until it asks for it again."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        known, self.asked = self.asked, None
        if known is not None and overrides == [*known[0], f"hydra.mode={run_mode.name}"]:
            composed = first_job(overrides) if run_mode == RunMode.MULTIRUN else overrides
            parsed = OverridesParser.create().parse_overrides(composed)
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
            if run_mode == RunMode.MULTIRUN or same_as_one_job(known[1]):
                return in_mode(known[1], run_mode)
        cfg = self.load_anew(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        if not validate_sweep_overrides:
            self.asked = (list(overrides), cfg)
        return cfg

    def load_anew(self, config_name: str | None, overrides: list[str], run_mode: RunMode, *args: Any) -> DictConfig:
        composed = first_job(overrides) if run_mode == RunMode.MULTIRUN else overrides
        self.typed = typed_choices(composed)
        refuse_bases(self.typed, self)
        try:
            cfg = super().load_configuration(config_name, composed, run_mode, *args)
        except UnicodeDecodeError as error:
            raise not_utf8(self.folders, error) from None
        with open_dict(cfg):
            if not OmegaConf.is_interpolation(cfg, "outputs") and str(cfg.get("outputs")).startswith("~"):
                cfg.outputs = str(expanded(cfg.outputs))  # Hydra makes a folder in it, and knows no home folder
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
        refuse_other_packages(defaults, self.folders)
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
        return self.__dict__ | {"checked": {}, "asked": None}  # it travels to other processes with every job


def same_as_one_job(cfg: DictConfig) -> bool:
    """Return whether a config that was composed for a sweep is what it would be for the one job of a line without."""
    sweeper = cfg.hydra.sweeper
    return not sweeper.get("params") and "direction" not in sweeper and "???" not in cfg.hydra.runtime.choices.values()


def in_mode(cfg: DictConfig, mode: RunMode) -> DictConfig:
    """Return the config with hydra.mode, as if that had been typed."""
    cfg.hydra.mode = mode
    cfg.hydra.overrides.hydra.append(f"hydra.mode={mode.name}")
    return cfg


GLOBAL = ("model", "experiment", "sweep", "debug", "local")
"""Groups whose files set keys of the whole config."""
PACKAGE = "# @package _global_"


def refuse_other_packages(defaults: Iterable[ResultDefault], folders: Iterable[Path]) -> None:
    """Refuse a file of one's own that would set keys below the name of its group, which mean nothing there.

    Raises:
        UserError: it lacks the line that says so, or a byte order mark stands before that.
    """
    for one in defaults:
        name = str(one.config_path)
        group = name.partition("/")[0]
        if group in GLOBAL and one.package == group and name != group:
            file = next((path for folder in folders if (path := folder / f"{name}.yaml").is_file()), name)
            marked = isinstance(file, Path) and file.read_bytes().startswith(codecs.BOM_UTF8)
            raise UserError(
                f"{file}: its first line must be '{PACKAGE}', so that its keys are those of the whole config"
                + (" (a byte order mark stands before it; save it as UTF-8 without one)" if marked else "")
            )


def not_utf8(folders: Iterable[Path], error: UnicodeDecodeError) -> UserError:
    """Return what says which config file is not UTF-8."""
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")) if folder != CONF_DIR else ():
            content = file.read_bytes()
            try:
                content.decode()
            except UnicodeDecodeError as here:
                line = content.count(b"\n", 0, here.start) + 1
                return UserError(f"{file}, line {line}: not UTF-8 ({here.reason})")
    return UserError(f"a config file is not UTF-8: {error}")


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
        metric = cfg.data.get("select") or SEARCHED.get(cfg.data.kind, "accuracy")
        cfg.hydra.sweeper.direction = "maximize" if higher_is_better(metric) else "minimize"


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
