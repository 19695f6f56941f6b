"""Networks that generate the weights of another network, and the ways their output reaches it."""

from hyperrun.hypernets.apply import HyperModel
from hyperrun.hypernets.auto_decoder import AutoDecoderConfig
from hyperrun.hypernets.build import (
    NoHypernet,
    hypernetize,
    with_conditional_hypernet,
    with_hypernet,
    with_latents,
    with_task_hypernet,
)
from hyperrun.hypernets.chunked import ChunkedConfig, ChunkedHypernet
from hyperrun.hypernets.conditional import (
    ConditionalHypernet,
    ConditionalModel,
    apply_generated_weights,
    build_weight_generator,
)
from hyperrun.hypernets.dynamic import DynamicConfig, DynamicModel
from hyperrun.hypernets.embedded_generator import EmbeddedGenerator
from hyperrun.hypernets.generated_statistics import generated_statistics
from hyperrun.hypernets.hypernetized import (
    Hypernetized,
    ParameterCounts,
    as_hypernetized,
    count_parameters,
    materialize,
)
from hyperrun.hypernets.mlp import MLPConfig, MLPHypernet
from hyperrun.hypernets.select import SelectingConfig, select_parameters
from hyperrun.hypernets.static import StaticConfig, StaticHypernet
from hyperrun.hypernets.weight_generator import ParameterGenerator

__all__ = [
    "AutoDecoderConfig",
    "ChunkedConfig",
    "ChunkedHypernet",
    "ConditionalHypernet",
    "ConditionalModel",
    "DynamicConfig",
    "DynamicModel",
    "EmbeddedGenerator",
    "HyperModel",
    "Hypernetized",
    "MLPConfig",
    "MLPHypernet",
    "NoHypernet",
    "ParameterCounts",
    "ParameterGenerator",
    "SelectingConfig",
    "StaticConfig",
    "StaticHypernet",
    "apply_generated_weights",
    "as_hypernetized",
    "build_weight_generator",
    "count_parameters",
    "generated_statistics",
    "hypernetize",
    "materialize",
    "select_parameters",
    "with_conditional_hypernet",
    "with_hypernet",
    "with_latents",
    "with_task_hypernet",
]
