"""What is learned: the loss, the metrics, and how batches are fed."""

from __future__ import annotations

from typing import Any, cast

from hyperrun.config import Config
from hyperrun.registry import tasks_on
from hyperrun.targets import taken_by
from hyperrun.tasks import (  # noqa: F401 (they register)
    classification,
    image_fitting,
    language_modeling,
    multitask,
    stroke_modeling,
    translation,
)
from hyperrun.training.distributed import World
from hyperrun.training.task import Task


def build_task(config: Config, world: World, state: dict[str, Any] | None = None) -> Task:
    """Return the task that the kind of data and target calls for, with its model built and initialized.

    state: what the task had written into a checkpoint that is to be evaluated (Task.state_dict): normalization,
    classes and validation draw are then those of that run.

    Raises:
        UserError: data that no task learns from; parts that do not fit together; data that are missing.
    """
    made = task_class(config)
    return made.of_run(config, world, state or {})


def task_class(config: Config) -> type[Task]:
    """Return the task registered for this kind of data and what the target takes, else the first for this kind of data:
    it says what is wrong with the target."""
    takes, fits = taken_by(config.target.kind), tasks_on(config.data.kind, config.data.name)
    exact = [one for one in fits if one.facts.get("takes") in takes]
    return cast(type[Task], (exact or fits)[0].build)
