"""How a run is trained, whatever is learned."""

from __future__ import annotations

from dataclasses import dataclass

from hyperrun.config.checks import check_positive, check_probability
from hyperrun.errors import choose


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
