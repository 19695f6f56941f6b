"""Everything a run is made from."""

from __future__ import annotations

from dataclasses import dataclass

from hyperrun.config.checks import check_positive
from hyperrun.config.groups import DataConfig, HypernetConfig, OptimConfig, ScheduleConfig, TargetConfig
from hyperrun.config.trainer import TrainerConfig
from hyperrun.errors import choose


@dataclass
class WandbConfig:
    mode: str
    """auto (online when logged in, else offline), online, offline or disabled; $WANDB_MODE wins over auto."""
    project: str
    """W&B project."""
    entity: str | None
    """W&B user or team; null means the account's default."""
    group: str | None
    """W&B group; null means the sweep's or experiment's name."""
    tags: list[str]
    """Further tags; the data set and the kind of hypernet are always among them."""

    def __post_init__(self) -> None:
        choose("tracking.wandb.mode", self.mode, ["auto", "online", "offline", "disabled"])


@dataclass
class TrackingConfig:
    kind: str
    """default; metrics.jsonl and summary.json are written whatever is set here."""
    wandb: WandbConfig


@dataclass
class PaperConfig:
    """A row of a published table, beside which our own figure stands."""

    params: int | None
    """Parameter count as printed, in numbers (0.097 M is 97000); null where none is printed."""
    part: str | None
    """Name of the one parameter the count is about; null means the whole model."""
    metric: str
    """What the value is: test_error (percent)."""
    value: float
    """The printed figure."""
    source: str
    """Where it is printed."""
    data: str | None = None
    """Name of the data set that it was measured on: beside a run on another one it says nothing."""
    left_open: str | None = None
    """What the publication does not say, or what does not work as it says it, and was chosen here."""


@dataclass
class Config:
    """Everything a run is made from."""

    model: str
    """The preset's name, or a name made from target and hypernet where those were chosen by hand."""
    experiment: str | None
    """The experiment's name, if one was chosen."""
    target: TargetConfig
    hypernet: HypernetConfig
    data: DataConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    paper: PaperConfig | None
    """The published figure this experiment is to reproduce."""
    seed: int
    """Seed of initialization, order and augmentation."""
    precision: str
    """auto, bf16, fp16 or float32 (autocast; parameters and optimizer state stay float32)."""
    compile: bool
    """Pass the model through torch.compile."""
    resume: str
    """auto (finished: print the result; interrupted: go on) or never (start afresh)."""
    deterministic: bool
    """Ask torch for deterministic algorithms, at some cost on a GPU."""
    outputs: str
    """Folder in which run folders are made."""
    plugins: list[str]
    """Python modules imported first, which register targets, hypernets or data sets of your own."""
    fail_fast: bool = False
    """Whether the first job of a sweep that fails ends it; else the other jobs go on."""
    params: int | None = None
    """Choose the target's width (channels, hidden size) so that the trainable parameters come nearest to this."""

    def __post_init__(self) -> None:
        choose("precision", self.precision, ["auto", "bf16", "fp16", "float32"])
        choose("resume", self.resume, ["auto", "never"])
        if self.params is not None:
            check_positive("params", self.params)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie between 0 and 2**32 - 1, not {self.seed}")
