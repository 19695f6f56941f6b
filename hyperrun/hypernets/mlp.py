"""The hypernet of most small examples: one embedding, one MLP, and a head for each parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hyperrun.hypernets.scale import EmbeddedMLPConfig, rms_of_live
from hyperrun.hypernets.weight_generator import ParameterGenerator
from hyperrun.registry import register


@dataclass
class MLPConfig(EmbeddedMLPConfig):
    """One embedding (on tasks: one for each), one MLP, a head for each generated parameter: more parameters than the
    target has."""


class MLPHypernet(nn.Module):
    """Generates parameters of any shapes, each by a linear head on the same hidden layer.

    A ParameterGenerator on one learned embedding z. The heads are rows of one matrix, [all numbers, hidden[-1]]: with
    the biases, hidden[-1] + 1 trainable numbers for every generated one. So it has more parameters than the target;
    ChunkedHypernet is the one that has fewer.

    reference: name -> the target's own initial value of each parameter to generate.
    z_dim: size of the one embedding. hidden: widths of the hidden layers (ReLU), at least one.
    init: see scale.py. residual: as in ChunkedHypernet; theta_0 is then the heads' bias, so it costs nothing.

    Generation runs in float32 also under autocast; the operators that use the weights cast them.
    """

    def __init__(
        self,
        reference: Mapping[str, Tensor],
        z_dim: int,
        hidden: Sequence[int],
        init: str,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.randn(z_dim))
        self.parameter_generator = ParameterGenerator(reference, z_dim, hidden, init=init, residual=residual)
        if not self.z.is_meta:
            self.match_hidden_scale()

    def forward(self) -> dict[str, Tensor]:
        """Return name -> generated parameter, float32."""
        return self.parameter_generator(self.z)

    @torch.no_grad()
    def match_hidden_scale(self) -> None:
        """Divide the heads by the hidden layer's true scale, not that expected of any z: here there is only one."""
        *hidden, heads = self.parameter_generator.generator.mlp.layers
        h = self.z
        for layer in hidden:
            h = layer(h).relu()
        heads.weight /= rms_of_live(h, "its one embedding")  # type: ignore[operator]  # expected: 1


@register("hypernet", "mlp", MLPConfig, conditional=True)
def build_mlp(cfg: Any, reference: Mapping[str, Tensor], size: int = 0) -> nn.Module:
    if size:  # the condition takes the place of the one embedding
        return ParameterGenerator(reference, size, cfg.hidden, init=cfg.init, residual=cfg.residual)
    return MLPHypernet(reference, cfg.z_dim, cfg.hidden, cfg.init, cfg.residual)
