"""hyperrun train --dry-run: the jobs a line stands for, counted, and which of them are done. Writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import hydra._internal.utils
import torch
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from hyperrun.config import Config
from hyperrun.data import TaskData, TextData, load_tasks, load_text, looks_of, published_name, source_of
from hyperrun.data.text_loader import chunks_in
from hyperrun.errors import SweepFailed, UserError
from hyperrun.hydra_app.app import through_hydra
from hyperrun.hydra_app.compose import as_a_job_sees, configured
from hyperrun.hydra_app.overrides import refuse_study, typed_overrides
from hyperrun.hydra_app.replaced import replaced
from hyperrun.models import counted, width_of
from hyperrun.registry import tasks_on
from hyperrun.runs.folder import RunFolder
from hyperrun.tracking.console import ONE_LINE_EACH, show
from hyperrun.training.precision import choose_precision

Job = tuple[list[str], Config | UserError]
"""Overrides, and the config that they give or what is wrong with it."""


def planning_only() -> AbstractContextManager[None]:
    """Within this block, Hydra shows the jobs where it would run them."""
    return jobs_to(plan)


def jobs_of(overrides: Sequence[str]) -> list[Job]:
    """Return the jobs of `hyperrun train -m` with these overrides. None of them is run.

    Raises:
        UserError: the line itself is wrong, or the jobs are chosen by a search.
    """
    found: list[Job] = []
    through_hydra(["-m", *overrides], not_run, jobs_to(found.extend))
    return found


def not_run(cfg: DictConfig) -> None:
    raise AssertionError("the jobs of this line are only to be known")


def jobs_to(use: Callable[[list[Job]], object]) -> AbstractContextManager[None]:
    """Within this block, Hydra hands the jobs of a line to a function, all at once, where it would run them."""

    def run_app(*, hydra: Any, config_name: str, overrides: list[str], multirun: bool, mode: Any, **_: Any) -> None:
        multirun = multirun or mode == RunMode.MULTIRUN
        use(list(jobs(hydra, config_name, overrides, multirun)))

    return replaced(hydra._internal.utils, "_run_app", run_app)


def jobs(hydra: Any, config_name: str, overrides: list[str], multirun: bool) -> Iterator[Job]:
    """Yield the jobs of a line.

    Raises:
        UserError: the jobs are chosen by a search, one after the other.
    """
    mode = RunMode.MULTIRUN if multirun else RunMode.RUN
    cfg = hydra.compose_config(config_name, [*overrides, f"hydra.mode={mode.name}"], run_mode=mode)
    typed = typed_overrides(cfg.hydra)
    if not multirun:
        refuse_study(typed)
        yield typed, config_or_error(cfg, typed)
        return
    if not cfg.hydra.sweeper._target_.endswith(".BasicSweeper"):
        raise UserError("the jobs of a search cannot be known before: each is chosen by how the ones before it ended")
    study = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides([*study, *typed])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    for job in batch:
        composed = hydra.config_loader.load_sweep_config(cfg, list(job))
        yield job, config_or_error(composed, job)


def config_or_error(cfg: DictConfig, typed: list[str]) -> Config | UserError:
    try:
        return configured(as_a_job_sees(cfg), typed)
    except UserError as error:
        return error


def refuse_as_training(config: Config) -> None:
    """Refuse what training would refuse before its first step, besides the model (models.counted does that), as far as
    it is known without fetching data.

    Raises:
        UserError: what training would say.
    """
    data = config.data
    choose_precision(config.precision, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    tasks_on(data.kind, data.name)
    if isinstance(data, TaskData) and source_of(published_name(data)) is None:
        load_tasks(data)
    elif isinstance(data, TextData) and looks_of(data.name) is None:
        chunks_in(load_text(data), data.sequence_length)
    RunFolder.of(config).check_writable()


def plan(found: Sequence[Job]) -> None:
    """Print the table.

    Raises:
        UserError: some jobs cannot be run: what training them would say.
        SweepFailed: some jobs cannot be run because of a defect, in hyperrun or a plugin.
    """
    table = Table(title="the jobs, none of which is trained (--dry-run)", title_justify="left", **ONE_LINE_EACH)
    numbers = ("trainable", "target", "compression")
    for name in ("job", "model", *numbers, "state", "folder"):
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    common = set.intersection(*(set(overrides) for overrides, _ in found)) if len(found) > 1 else set()
    states: list[str] = []
    wrong: list[str] = []
    defects = 0
    folders: dict[str, int] = {}
    for number, (overrides, config) in enumerate(found):
        name = f"{number} " + " ".join(o for o in overrides if o not in common)
        model, folder, cells = "", "", ["", "", ""]
        error = config if isinstance(config, UserError) else None
        if isinstance(config, Config):
            model, folder = config.model, str(RunFolder.of(config).path)
            try:
                if config.resume == "never" or RunFolder.of(config).state() != "done":
                    refuse_as_training(config)
                counts = counted(config)
                if config.params is not None:
                    name += f" (target.{width_of(config.target)}, {counts.trainable / config.params - 1:+.1%})"
                cells = [f"{counts.trainable:,}", f"{counts.target:,}", f"{counts.compression:.2f}"]
            except UserError as refusal:
                error = refusal
            except Exception as defect:  # one of ours, perhaps of a plugin's: the job would fail, the others would not
                error = UserError(f"{type(defect).__name__}: {defect}")
                defects += 1
        state = "wrong" if error else RunFolder.of(config).state()  # pyright: ignore[reportArgumentType]
        if isinstance(config, Config) and config.resume == "never" and state != "running":
            state = "afresh"
        if not error and folders.setdefault(folder, number) != number:
            state = f"as job {folders[folder]}"
        states.append("the same as another" if state.startswith("as job") else state)
        if error:
            wrong.append(f"job {number}: {error}" if len(found) > 1 else str(error))
        row = (name, model, *cells, state, f"cannot be run: {error}" if error else folder)
        table.add_row(*map(escape, row))  # [conv1.weight] is no markup
    show(table)
    said = ", ".join(f"{count} {state}" for state, count in Counter(states).items())
    print(f"{len(found)} job{'s' if len(found) > 1 else ''}: {said}")
    if defects:
        raise SweepFailed(f"{len(wrong)} of {len(found)} jobs cannot be run")
    if len(wrong) == 1:
        raise UserError(wrong[0])
    if wrong:
        raise UserError(f"{len(wrong)} of {len(found)} jobs cannot be run; {wrong[0]}")
