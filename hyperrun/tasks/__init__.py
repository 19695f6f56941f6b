"""What is learned: the loss, the metrics, and how batches are fed."""

from __future__ import annotations

from hyperrun.config import Config
from hyperrun.targets import takes_coordinates
from hyperrun.training.distributed import World
from hyperrun.training.task import Task

__all__ = ["Task", "build_task"]


def build_task(config: Config, world: World) -> Task:
    """Return the task that the kind of data and target calls for, with its model built and initialized."""
    if config.data.kind == "text":
        from hyperrun.tasks.language_modeling import LanguageModeling

        return LanguageModeling(config, world)
    if config.data.kind == "tasks":
        from hyperrun.tasks.multitask import MultiTask

        return MultiTask(config, world)
    if takes_coordinates(config.target):
        from hyperrun.tasks.image_fitting import ImageFitting

        return ImageFitting(config, world)
    from hyperrun.tasks.classification import Classification

    return Classification(config, world)
