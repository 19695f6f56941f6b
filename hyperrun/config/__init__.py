"""Where a config becomes typed and checked.

YAML under conf/ holds the values. A dataclass holds the types, the meaning of every key (the text under the field) and
the checks. That of a choice stands beside what it configures (hyperrun/targets, hypernets, data/kinds.py,
training/optim.py, training/schedules.py). Here is everything else: what the choices of a group share (groups.py), the
trainer (trainer.py), and Config, which holds all of them (run.py). `from_omegaconf` (typed.py) turns what Hydra
composed, or a saved config.yaml, into a `Config`.

Fields carry no defaults, so that a value is written down once, in YAML. A field added after 0.1 gets a default in its
dataclass, so that older run folders still load.
"""

from hyperrun.config.checks import (
    check_betas,
    check_finite,
    check_positive,
    check_probability,
    check_widths,
)
from hyperrun.config.groups import (
    DECAY_KINDS,
    WIDTHS,
    DataConfig,
    HypernetConfig,
    OptimConfig,
    ScheduleConfig,
    TargetConfig,
)
from hyperrun.config.run import Config, PaperConfig, TrackingConfig, WandbConfig
from hyperrun.config.trainer import TrainerConfig
from hyperrun.config.typed import (
    GROUPS,
    NOT_IN_HASH,
    from_omegaconf,
    one_line,
    run_hash,
    schemas,
    to_dict,
    typed_choice,
    what_is_computed,
)

__all__ = [
    "DECAY_KINDS",
    "GROUPS",
    "NOT_IN_HASH",
    "WIDTHS",
    "Config",
    "DataConfig",
    "HypernetConfig",
    "OptimConfig",
    "PaperConfig",
    "ScheduleConfig",
    "TargetConfig",
    "TrackingConfig",
    "TrainerConfig",
    "WandbConfig",
    "check_betas",
    "check_finite",
    "check_positive",
    "check_probability",
    "check_widths",
    "from_omegaconf",
    "one_line",
    "run_hash",
    "schemas",
    "to_dict",
    "typed_choice",
    "what_is_computed",
]
