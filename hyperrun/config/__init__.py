"""The one place where a config becomes typed and checked.

YAML under conf/ holds the values; the dataclasses here hold the types, the meaning of every key (the text under the
field) and the checks: targets.py, hypernets.py, data.py, training.py, and run.py, whose Config holds all of them.
`from_omegaconf` (typed.py) turns what Hydra composed, or a saved config.yaml, into a `Config`.

Fields carry no defaults, so that a value is written down once, in YAML. A field added after 0.1 gets a default here,
so that older run folders still load.
"""

from hyperrun.config.checks import check_finite, check_positive
from hyperrun.config.data import DataConfig, ImageData, TaskData, TextData
from hyperrun.config.hypernets import (
    GENERATE,
    AutoDecoderHypernet,
    ChunkedHypernet,
    DynamicHypernet,
    HypernetConfig,
    MLPHypernet,
    NoHypernet,
    SelectingHypernet,
    StaticHypernet,
)
from hyperrun.config.run import Config, PaperConfig, TrackingConfig, WandbConfig
from hyperrun.config.targets import (
    CNNTarget,
    MLPTarget,
    RecurrentTarget,
    SirenTarget,
    TargetConfig,
    TorchvisionTarget,
    WideResNetTarget,
)
from hyperrun.config.training import (
    DECAY_KINDS,
    AdamConfig,
    ConstantSchedule,
    CosineSchedule,
    MultiStepSchedule,
    MuonConfig,
    OneCycleSchedule,
    OptimConfig,
    ScheduleConfig,
    SGDConfig,
    TrainerConfig,
)
from hyperrun.config.typed import (
    NOT_IN_HASH,
    SCHEMAS,
    from_omegaconf,
    one_line,
    register_choice,
    run_hash,
    to_dict,
    typed_choice,
    what_is_computed,
)

__all__ = [
    "DECAY_KINDS",
    "GENERATE",
    "NOT_IN_HASH",
    "SCHEMAS",
    "AdamConfig",
    "AutoDecoderHypernet",
    "CNNTarget",
    "ChunkedHypernet",
    "Config",
    "ConstantSchedule",
    "CosineSchedule",
    "DataConfig",
    "DynamicHypernet",
    "HypernetConfig",
    "ImageData",
    "MLPHypernet",
    "MLPTarget",
    "MultiStepSchedule",
    "MuonConfig",
    "NoHypernet",
    "OneCycleSchedule",
    "OptimConfig",
    "PaperConfig",
    "RecurrentTarget",
    "SGDConfig",
    "ScheduleConfig",
    "SelectingHypernet",
    "SirenTarget",
    "StaticHypernet",
    "TargetConfig",
    "TaskData",
    "TextData",
    "TorchvisionTarget",
    "TrackingConfig",
    "TrainerConfig",
    "WandbConfig",
    "WideResNetTarget",
    "check_finite",
    "check_positive",
    "from_omegaconf",
    "one_line",
    "register_choice",
    "run_hash",
    "to_dict",
    "typed_choice",
    "what_is_computed",
]
