"""What all choices of a group share. What else a choice has stands where the choice is: targets/, hypernets/, ..."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hyperrun.config.checks import check_positive
from hyperrun.errors import choose

DECAY_KINDS = ["weights", "hypernet", "embeddings", "norms", "biases"]

WIDTHS = ("width", "hidden_size", "channels", "hidden")
"""Keys of targets that say how wide they are; of a list, every entry. params=N chooses the first that a target has."""


@dataclass
class TargetConfig:
    """What networks whose weights may be generated are made from."""

    kind: str
    """Which builder makes the network: a name registered as a target."""


@dataclass
class HypernetConfig:
    """What generates weights."""

    kind: str
    """Which hypernet generates weights: a name registered as a hypernet; none trains the target directly."""


@dataclass
class DataConfig:
    """What is learned from."""

    KIND: ClassVar[str]
    """The `kind` of all sets that have this schema."""

    kind: str
    """What sort of data it is: images, tasks, text, strokes or pairs; the task follows from it."""
    name: str
    """Which data set: a registered one (images, text, strokes, pairs), or split_NAME, permuted_NAME, rotated_NAME
    (tasks)."""
    root: str | None
    """Folder that holds the data set's files; null means $HYPERRUN_DATA, else the per-user cache."""
    verify: bool
    """Refuse files whose checksum differs from the published one. false is recorded in summary.json."""
    epochs: int
    """Training length when neither trainer.epochs nor trainer.max_steps is given."""

    def __post_init__(self) -> None:
        check_positive("epochs", self.epochs)


@dataclass
class OptimConfig:
    kind: str
    """sgd, adam, adamw or muon."""
    lr: float
    """Peak learning rate; the schedule scales it."""
    weight_decay: float
    """Coefficient of the decay (sgd, adam: added to the gradient as L2; adamw, muon: decoupled)."""
    decay_on: list[str]
    """What weight_decay applies to: any of weights (matrices and kernels of the target), hypernet (its matrices),
    embeddings (the hypernet's z, embedding tables), norms, biases."""
    generated_l2: float
    """The paper's L2 on generated kernels: generated_l2 / 2 times the sum of their squares is added to the loss, which
    is what a weight_decay of this value does to a directly trained kernel."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, not {self.lr}")
        for kind in self.decay_on:
            choose("entry in optim.decay_on", kind, DECAY_KINDS)
        if self.weight_decay < 0 or self.generated_l2 < 0:
            raise ValueError("weight_decay and generated_l2 must not be negative")


@dataclass
class ScheduleConfig:
    kind: str
    """constant, cosine, one_cycle or multi_step: a pure function of the step."""
    warmup_steps: int
    """Steps over which the learning rate rises linearly from zero before the schedule proper."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ValueError("warmup_steps must not be negative")
