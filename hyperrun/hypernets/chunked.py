"""The chunked hypernet of von Oswald et al. 2020 (arXiv 1906.00695): one MLP makes all weights, a chunk at a time.

Every parameter is cut into chunks of the same size. The MLP's input is the embedding of the parameter (the layer)
beside that of the chunk's number within it, both learned; its output is the chunk:

    chunk k of layer l = s_l h(e_l, c_k)              h: the MLP, shared by all; s_l: a constant, set once

All chunks of all layers are rows of one batch. In their work e is the embedding of a task and the chunks go on through
all layers; here each layer has its own e_l, the c_k are shared by the layers, and a task's embedding (or any other
conditioning) comes as a third input: h(e, e_l, c_k).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hyperrun.config import check_positive
from hyperrun.hypernets.scale import (
    RESIDUAL,
    EmbeddedMLPConfig,
    centres_and_stds,
    draw_for_relu,
    relu_layers,
    rms_of_live,
)
from hyperrun.registry import register


@dataclass
class ChunkedConfig(EmbeddedMLPConfig):
    """One MLP from (layer embedding, chunk embedding) to chunks of weights (von Oswald et al. 2020).

    On tasks, or a latent for each image, a third embedding comes first: that of the task or image.
    """

    chunk_size: int
    """Numbers made at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("chunk_size", self.chunk_size)


class ChunkedHypernet(nn.Module):
    """Generates parameters of any shapes by one MLP.

    reference: name -> the target's own initial value of each parameter to generate.
    chunk_size: C, numbers made at a time; the last chunk of a parameter is cut.
    z_dim: size of each of the two embeddings.
    hidden: widths of the MLP's hidden layers (ReLU).
    init: see scale.py.
    residual: generate the difference to theta_0, learned as it stands (Ortiz et al. 2024): more trainable parameters
        than the target, which starts as it would without a hypernet.
    conditioning_size: numbers in the conditioning that forward takes, of mean square 1; 0: it takes none.

    Parameters, float32: layer_embedding [L, z_dim], chunk_embedding [longest layer in chunks, z_dim], the MLP;
    theta_0 [all numbers]. Generation runs in float32 also under autocast; the operators that use the weights cast them.
    """

    row_scale: Tensor
    centre: Tensor

    def __init__(
        self,
        reference: Mapping[str, Tensor],
        chunk_size: int,
        z_dim: int,
        hidden: Sequence[int],
        init: str,
        residual: bool = False,
        conditioning_size: int = 0,
    ) -> None:
        super().__init__()
        self.conditioning_size = conditioning_size
        self.shapes = {name: value.shape for name, value in reference.items()}
        self.chunks = [math.ceil(shape.numel() / chunk_size) for shape in self.shapes.values()]
        self.layer_embedding = nn.Parameter(torch.randn(len(self.shapes), z_dim))
        self.chunk_embedding = nn.Parameter(torch.randn(max(self.chunks), z_dim))
        widths = [conditioning_size + 2 * z_dim, *hidden]
        self.mlp = nn.Sequential(*relu_layers(widths), nn.Linear(widths[-1], chunk_size))
        self.theta_0 = nn.Parameter(torch.cat([v.detach().flatten() for v in reference.values()])) if residual else None
        self.register_buffer("row_scale", torch.ones(sum(self.chunks), 1))
        self.register_buffer("centre", torch.zeros(sum(self.chunks), 1))
        if not self.layer_embedding.is_meta:  # on the meta device only shapes are wanted, as for counting
            self.initialize(reference, init)

    def rows(self, conditioning: Tensor | None = None) -> Tensor:
        """Return h of every pair of embeddings: [all chunks, C], with conditioning [..., size] [..., all chunks, C]."""
        device = self.layer_embedding.device
        numbers = torch.cat([torch.arange(count, device=device) for count in self.chunks])
        layers = self.layer_embedding.repeat_interleave(
            torch.tensor(self.chunks, device=device), 0, output_size=len(numbers)
        )
        embeddings = torch.cat([layers, self.chunk_embedding[numbers]], 1)
        if conditioning is None:
            return self.mlp(embeddings)
        batch = conditioning.shape[:-1]
        repeated = conditioning.unsqueeze(-2).expand(*batch, len(numbers), self.conditioning_size)
        return self.mlp(torch.cat([repeated, embeddings.expand(*batch, -1, -1)], -1))

    def forward(self, conditioning: Tensor | None = None) -> dict[str, Tensor]:
        """Return name -> generated parameter, float32; [..., *shape] for conditioning [..., conditioning_size].

        Raises:
            ValueError: conditioning of another size than the hypernet was made for, or none.
        """
        given = 0 if conditioning is None else conditioning.shape[-1]
        if given != self.conditioning_size:
            raise ValueError(f"conditioning must have {self.conditioning_size} numbers, not {given}")
        with torch.autocast(self.layer_embedding.device.type, enabled=False):
            rows = torch.addcmul(self.centre, self.rows(conditioning), self.row_scale)
            made = {}
            for (name, shape), part in zip(self.shapes.items(), rows.split(self.chunks, dim=-2), strict=True):
                made[name] = part.flatten(-2)[..., : shape.numel()].view(*rows.shape[:-2], *shape)
            if self.theta_0 is None:
                return made
            own = self.theta_0.split([shape.numel() for shape in self.shapes.values()])
            return {n: theta.view(self.shapes[n]) + m for (n, m), theta in zip(made.items(), own, strict=True)}

    def layer_embeddings(self) -> dict[str, dict[str, Tensor]]:
        """Return name of a parameter -> its one embedding, [1, z_dim], of all layers together."""
        return {"all layers": dict(zip(self.shapes, self.layer_embedding.split(1), strict=True))}

    @torch.no_grad()
    def initialize(self, reference: Mapping[str, Tensor], init: str) -> None:
        """Draw the MLP for outputs of variance 1, then set each layer's constant so that it starts with its own std."""
        draw_for_relu(self.mlp)
        examples = torch.randn(8, self.conditioning_size) if self.conditioning_size else None
        parts = self.rows(examples).split(self.chunks, dim=-2)
        initial = centres_and_stds(reference, init)
        start = 0
        for (name, value), count, part in zip(reference.items(), self.chunks, parts, strict=True):
            mine = slice(start, start + count)
            centre, std = initial[name]
            if self.theta_0 is not None:
                centre, std = 0.0, RESIDUAL * std
            self.centre[mine] = centre
            self.row_scale[mine] = std / rms_of_live(part.flatten(-2)[..., : value.numel()], name)
            start += count


@register("hypernet", "chunked", ChunkedConfig, conditional=True)
def build_chunked(cfg: Any, reference: Mapping[str, Tensor], size: int = 0) -> nn.Module:
    return ChunkedHypernet(reference, cfg.chunk_size, cfg.z_dim, cfg.hidden, cfg.init, cfg.residual, size)
