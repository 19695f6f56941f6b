"""The chunked hypernet of von Oswald et al. 2020 (arXiv 1906.00695): one MLP makes all weights, a chunk at a time.

Every parameter is cut into chunks of the same size. The MLP's input is the embedding of the parameter (the layer)
beside that of the chunk's number within it, both learned; its output is the chunk:

    chunk k of layer l = s_l h(e_l, c_k)              h: the MLP, shared by all; s_l: a constant, set once

All chunks of all layers are rows of one batch. In their work e is the embedding of a task and the chunks go on through
all layers; here, without tasks, each layer has its own e, and the c_k are shared by the layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hyperrun.hypernets.scale import RESIDUAL, centre_and_std, draw_for_relu, relu_layers, rms


class ChunkedHypernet(nn.Module):
    """Generates parameters of any shapes by one MLP.

    reference: name -> the target's own initial value of each parameter to generate.
    chunk_size: C, numbers made at a time; the last chunk of a parameter is cut.
    z_dim: size of each of the two embeddings.
    hidden: widths of the MLP's hidden layers (ReLU).
    init: see scale.initial_std.
    residual: generate the difference to theta_0, learned as it stands (Ortiz et al. 2024): more trainable parameters
        than the target, which starts as it would without a hypernet.

    Parameters, float32: layer [L, z_dim], chunk [longest layer in chunks, z_dim], the MLP; theta_0 [all numbers].
    Generation runs in float32 also under autocast; the operators that use the weights cast them.
    """

    row_scale: Tensor
    centre: Tensor

    def __init__(
        self,
        reference: Mapping[str, Tensor],
        chunk_size: int = 2304,
        z_dim: int = 32,
        hidden: Sequence[int] = (64,),
        init: str = "variance_matched",
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.shapes = {name: value.shape for name, value in reference.items()}
        self.chunks = [math.ceil(shape.numel() / chunk_size) for shape in self.shapes.values()]
        self.layer = nn.Parameter(torch.randn(len(self.shapes), z_dim))
        self.chunk = nn.Parameter(torch.randn(max(self.chunks), z_dim))
        widths = [2 * z_dim, *hidden]
        self.mlp = nn.Sequential(*relu_layers(widths), nn.Linear(widths[-1], chunk_size))
        self.theta_0 = nn.Parameter(torch.cat([v.detach().flatten() for v in reference.values()])) if residual else None
        self.register_buffer("row_scale", torch.ones(sum(self.chunks), 1))
        self.register_buffer("centre", torch.zeros(sum(self.chunks), 1))
        if not self.layer.is_meta:  # on the meta device only shapes are wanted, as for counting
            self.initialize(reference, init)

    def rows(self) -> Tensor:
        """Return what h makes of every pair of embeddings, float32 [all chunks, C]."""
        device = self.layer.device
        numbers = torch.cat([torch.arange(count, device=device) for count in self.chunks])
        layers = self.layer.repeat_interleave(torch.tensor(self.chunks, device=device), 0, output_size=len(numbers))
        return self.mlp(torch.cat([layers, self.chunk[numbers]], 1))

    def forward(self) -> dict[str, Tensor]:
        """Return name -> generated parameter, float32."""
        with torch.autocast(self.layer.device.type, enabled=False):
            rows = torch.addcmul(self.centre, self.rows(), self.row_scale)
            parts = rows.split(self.chunks)
            made = {
                name: part.flatten()[: shape.numel()].view(shape)
                for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
            }
            if self.theta_0 is None:
                return made
            own = self.theta_0.split([shape.numel() for shape in self.shapes.values()])
            return {n: theta.view_as(m) + m for (n, m), theta in zip(made.items(), own, strict=True)}

    @torch.no_grad()
    def initialize(self, reference: Mapping[str, Tensor], init: str) -> None:
        """Draw the MLP for outputs of variance 1, then set each layer's constant so that it starts with its own std."""
        draw_for_relu(self.mlp)
        start = 0
        rows = self.rows()
        for value, count in zip(reference.values(), self.chunks, strict=True):
            mine = slice(start, start + count)
            centre, std = centre_and_std(value, init)
            if self.theta_0 is not None:
                centre, std = 0.0, RESIDUAL * std
            self.centre[mine] = centre
            self.row_scale[mine] = std / rms(rows[mine].flatten()[: value.numel()])
            start += count
