"""What is learned: the loss, the metrics, and how batches are fed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import nn

from hyperrun.config import Config
from hyperrun.targets import takes_coordinates
from hyperrun.training.distributed import World
from hyperrun.training.precision import Precision


class Task(Protocol):
    """What the training loop asks of a task."""

    name: str
    metric: str
    """The figure that selects the checkpoint: a key of what evaluate() returns."""
    higher_is_better: bool
    selects_last: bool
    """Whether the selected checkpoint is that of the last evaluation, whatever the figure."""
    unit: str
    """What is counted as examples: images, sequences."""
    model: nn.Module

    @property
    def loss(self) -> nn.Module:
        """forward(*batch) -> (loss to minimize, {name: detached scalar mean over the batch})."""
        ...

    batches_per_epoch: int
    examples_per_batch: int

    @property
    def tokens_per_example(self) -> int | None:
        """Symbols in a sequence, for throughput; None where examples are no sequences."""
        ...

    def batches(self, start: int) -> Iterator[tuple[Any, ...]]: ...

    def evaluate(self, split: str, precision: Precision) -> dict[str, float]: ...

    def describe_data(self) -> str: ...

    def facts(self) -> dict[str, Any]: ...

    def closing_words(self, precision: Precision) -> str | None: ...

    def state_dict(self) -> dict[str, Any]:
        """What besides the model belongs into a checkpoint; all processes call it together."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what state_dict returned, to go on training. Raises UserError where it is of other data."""
        ...

    def check_fits(self, state: dict[str, Any]) -> None:
        """Raise a UserError if the model of a checkpoint with this state cannot be evaluated on the task's data."""
        ...


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
