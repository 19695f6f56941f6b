"""How it is learned: optimizer, schedule, trainer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hyperrun.config.checks import check_betas, check_positive, check_probability
from hyperrun.errors import choose

DECAY_KINDS = ["weights", "hypernet", "embeddings", "norms", "biases"]


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
class SGDConfig(OptimConfig):
    momentum: float
    """Factor on the running gradient."""
    nesterov: bool
    """Nesterov's form of momentum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("momentum", self.momentum)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0 (or optim.nesterov=false)")


@dataclass
class AdamConfig(OptimConfig):
    """Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019)."""

    betas: list[float]
    """Decay rates of the first and second moment."""
    eps: float
    """Added to the denominator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas(self.betas)
        if self.eps < 0:
            raise ValueError(f"eps must not be negative, not {self.eps}")


@dataclass
class MuonConfig(OptimConfig):
    """Muon for matrices (two-dimensional weights), AdamW for everything else."""

    momentum: float
    """Factor on the running gradient of the matrices."""
    adamw_lr: float
    """Peak learning rate of the parameters that are not matrices."""
    betas: list[float]
    """AdamW's decay rates for the parameters that are not matrices."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("momentum", self.momentum)
        check_betas(self.betas)
        if not self.adamw_lr > 0:
            raise ValueError(f"adamw_lr must be positive, not {self.adamw_lr}")


@dataclass
class ScheduleConfig:
    kind: str
    """constant, cosine, one_cycle or multi_step: a pure function of the step."""
    warmup_steps: int
    """Steps over which the learning rate rises linearly from zero before the schedule proper."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ValueError("warmup_steps must not be negative")


@dataclass
class ConstantSchedule(ScheduleConfig):
    """The peak learning rate throughout."""


@dataclass
class CosineSchedule(ScheduleConfig):
    """Half a cosine from the peak to final_factor times the peak."""

    final_factor: float
    """Learning rate that is reached when the last step is done, as a fraction of the peak."""


@dataclass
class OneCycleSchedule(ScheduleConfig):
    """Linear rise to the peak, then linear fall (Smith and Topin 2019)."""

    peak_at: float
    """Where the peak lies, as a fraction of the training length."""
    initial_factor: float
    """Learning rate at the first step, as a fraction of the peak."""
    final_factor: float
    """Learning rate that is reached when the last step is done, as a fraction of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.peak_at < 1:
            raise ValueError(f"peak_at must lie between 0 and 1, not {self.peak_at}")


@dataclass
class MultiStepSchedule(ScheduleConfig):
    """Piecewise constant: factors[i] times the peak from milestones[i] on."""

    milestones: list[float]
    """Increasing steps; numbers below 1 are fractions of the training length."""
    factors: list[float]
    """Factor on the peak learning rate from each milestone on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        increase = all(a < b for a, b in itertools.pairwise(self.milestones))
        if len(self.milestones) != len(self.factors) or not increase:
            raise ValueError("milestones must increase, with one entry in factors for each")


@dataclass
class TrainerConfig:
    epochs: int | None
    """Passes over the training set; null means the data set's own suggestion (data.epochs)."""
    max_steps: int | None
    """Optimizer steps; when given it overrides epochs."""
    batch_size: int
    """Examples in one forward pass, over all processes together."""
    accumulate: int
    """Forward passes whose gradients are averaged into one optimizer step."""
    eval_batch_size: int
    """Examples in one forward pass of an evaluation."""
    eval_every: int | None
    """Steps between evaluations on the validation split; null means once per epoch."""
    log_every: int
    """Steps between rows in metrics.jsonl and in W&B."""
    save_every_s: float
    """Seconds between checkpoints, of which the first come sooner (after 1, 3, 7, 15, ... s); one is also made at the
    end and when a signal stops the run."""
    patience: int | None
    """Stop after this many evaluations in a row without improvement; null means never."""
    clip_norm: float | None
    """Largest global norm of the gradient; null means no clipping."""
    ema: float
    """Decay of an exponential moving average of the trainable parameters, which is then what is evaluated; 0 is off."""
    label_smoothing: float
    """Probability mass spread evenly over all classes."""
    channels_last: bool
    """Keep images and convolutions in the channels-last memory format."""
    matmul_precision: str
    """What torch.set_float32_matmul_precision gets: highest, high or medium; auto is medium on a CPU without AMX, where
    it changes no precision but sends float32 products to oneDNN (twice as fast on AMD), and highest elsewhere."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "eval_batch_size", "log_every"):
            check_positive(name, getattr(self, name))
        for name in ("epochs", "max_steps", "eval_every", "patience"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive or null, not {self.clip_norm}")
        check_probability("ema", self.ema)
        check_probability("label_smoothing", self.label_smoothing)
        choose("trainer.matmul_precision", self.matmul_precision, ["auto", "highest", "high", "medium"])
