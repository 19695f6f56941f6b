"""What the tasks on one set of images have in common: what a run keeps of them, and what follows when they change."""

from __future__ import annotations

from typing import Any, Self

from hyperrun.config import Config
from hyperrun.data import ImageSet, LearnedImages
from hyperrun.training.distributed import World
from hyperrun.training.task import Task


class ImageTask(Task):
    """A task on one set of images, made of (config, world, learned): what a run to be evaluated keeps of its images."""

    data: ImageSet

    @classmethod
    def of_run(cls, config: Config, world: World, state: dict[str, Any]) -> Self:
        """Return the task with the run's own normalization, classes and validation files."""
        return cls(config, world, LearnedImages.from_state_dict(state.get("images")))  # pyright: ignore[reportCallIssue]

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data."""
        return self.data.facts()

    def warnings(self) -> list[str]:
        return self.data.warnings()

    def state_dict(self) -> dict[str, Any]:
        """Return what a run keeps of its images."""
        return {"images": LearnedImages.of(self.data).state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these images, if they are those that the run began with.

        Raises:
            UserError: they have changed.
        """
        learned = LearnedImages.from_state_dict(state.get("images"))
        if learned is not None:
            learned.check_same(self.data)

    def changes(self, state: dict[str, Any]) -> list[str]:
        learned = LearnedImages.from_state_dict(state.get("images"))
        return [] if learned is None else learned.changes(self.data)
