"""What is learned: the loss, the metrics, and how batches are fed."""

from __future__ import annotations

from collections.abc import Callable

from hyperrun.config import Config
from hyperrun.registry import tasks_on
from hyperrun.targets import taken_by
from hyperrun.tasks import (  # noqa: F401 (they register)
    classification,
    image_fitting,
    language_modeling,
    multitask,
    stroke_modeling,
)
from hyperrun.training.distributed import World
from hyperrun.training.task import Task


def build_task(config: Config, world: World) -> Task:
    """Return the task that the kind of data and target calls for, with its model built and initialized.

    Raises:
        UserError: data that no task learns from; parts that do not fit together; data that are missing.
    """
    return task_class(config)(config, world)


def task_class(config: Config) -> Callable[[Config, World], Task]:
    """Return the task registered for this kind of data and what the target takes, else the first for this kind of data:
    it says what is wrong with the target."""
    takes, fits = taken_by(config.target.kind), tasks_on(config.data.kind, config.data.name)
    exact = [one for one in fits if one.facts.get("takes") in takes]
    return (exact or fits)[0].build
