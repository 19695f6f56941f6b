"""What the training loop asks of a task, with defaults for what most tasks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from hyperrun.config import Config
from hyperrun.metrics import higher_is_better
from hyperrun.training.distributed import World
from hyperrun.training.precision import Precision


@dataclass(frozen=True)
class Use:
    """Something that a trained model does step by step, which takes other times than training."""

    what: str
    """drawn_points, translated_sentences: what `run` makes."""
    count: int
    """How many of them."""
    run: Callable[[], None]


class Task(ABC):
    """What is learned: the model, its loss, the metrics, and how batches are fed.

    A task says what the annotations below ask for, `evaluate`, `describe_data` and either `epoch` or `batches`; the
    rest has defaults.
    """

    name: str
    metric: str
    """The figure that selects the checkpoint: a key of what evaluate() returns."""
    unit: str
    """What is counted as examples: images, sequences."""
    model: nn.Module
    loss: Any
    """A module of the task's own class, forward(*batch) -> (loss to minimize, {name: detached scalar mean over the
    batch}). DDP and torch.compile wrap all of it at once."""
    batches_per_epoch: int
    examples_per_batch: int
    """Of a training batch, over all processes; the mean where batches differ (then see examples_in)."""

    tokens_per_example: int | None = None
    """Symbols in a sequence; None where examples are no sequences or differ in length (then see tokens_in)."""
    splits: tuple[str, ...] = ("val", "test")
    """What evaluate() can be asked for besides "train"; without "test" the data have no test split, and all that is
    known of a model is its figure on the validation split."""
    selects_last: bool = False
    """Whether the selected checkpoint is that of the last evaluation, whatever the figure."""

    @classmethod
    def of_run(cls, config: Config, world: World, state: dict[str, Any]) -> Self:
        """Return the task with what a run keeps of its data, where it keeps something; state: as state_dict made it."""
        return cls(config, world)  # pyright: ignore[reportCallIssue] (a task says how it is made)

    @property
    def higher_is_better(self) -> bool:
        """Which way of `metric` is better."""
        return higher_is_better(self.metric)

    # ---------------------------------------------------------------- data

    def batches(self, start: int) -> Iterator[tuple[Any, ...]]:
        """Yield training batches (what the loss takes) without end, from batch number `start` (0 is the first of all).

        A batch is a pure function of its number and the seed: a resumed run goes on with the very next one.
        """
        epoch, offset = divmod(start, self.batches_per_epoch)
        while True:
            yield from self.epoch(epoch, offset)
            epoch, offset = epoch + 1, 0

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of an epoch (0 is the first), batches_per_epoch in all, from its batch `start` on."""
        raise NotImplementedError(f"{type(self).__name__} defines neither epoch nor batches")

    def examples_in(self, batch: tuple[Any, ...]) -> int:
        """Return the examples of a training batch over all processes, for throughput; must not wait for the device."""
        return self.examples_per_batch

    def tokens_in(self, batch: tuple[Any, ...]) -> int:
        """Return the symbols of a training batch over all processes, padding left out, where sequences differ in
        length; 0 where tokens_per_example says it or there are none. Must not wait for the device."""
        return 0

    @abstractmethod
    def describe_data(self) -> str:
        """Return in a few words what is learned from and how it is fed."""

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data."""
        return {}

    def warnings(self) -> list[str]:
        """Return what is odd about the data, and their user should hear."""
        return []

    def memory(self) -> int | None:
        """Return about how many bytes of memory this process's training takes; None where that is not foreseen."""
        return None

    # ---------------------------------------------------------------- results

    def use(self, precision: Precision) -> Use | None:
        """Return what the model is used for step by step, for `hyperrun bench` to time; None where it is not."""
        return None

    @abstractmethod
    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        """Return the figures over a whole split ("train", "val" or "test"); all processes call it together."""

    def closing_words(self, precision: Precision) -> str | None:
        """Return what is shown after the result of a finished run; None for nothing."""
        return None

    # ---------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return what besides the model belongs into a checkpoint; all processes call it together."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what state_dict returned, to go on training.

        Raises:
            UserError: it is of other data.
        """
        return

    def changes(self, state: dict[str, Any]) -> list[str]:
        """Return in a few words each what of the data is no longer as it was when state_dict returned `state`."""
        return []

    def check_fits(self, state: dict[str, Any]) -> None:
        """Accept a checkpoint with this state for evaluation on the task's data.

        The default accepts all: a model for inputs or classes of other shapes has weights of other shapes.

        Raises:
            UserError: its model cannot be evaluated on these data.
        """
        return
