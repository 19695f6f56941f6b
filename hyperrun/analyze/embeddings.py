"""How alike the layers' embeddings are: cosine similarity, and a projection onto two axes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.hypernets import as_hypernetized


@dataclass(frozen=True)
class Embeddings:
    """The learned embeddings of the layers that one generator makes."""

    what: str
    """Which generator: the size of its kernels ("3x3"), or "all layers"."""
    layers: dict[str, Tensor]
    """name -> [tiles, Nz], in the target's order; of a chunked hypernet one row."""

    def finite(self) -> Embeddings:
        """Return the embeddings without the tiles that hold a number that is not finite; a layer may be left with
        none."""
        return Embeddings(self.what, {name: z[z.isfinite().all(1)] for name, z in self.layers.items()})

    def broken(self) -> list[str]:
        """Return the layers in whose embeddings a number is not finite."""
        return [name for name, z in self.layers.items() if not z.isfinite().all()]

    def similarity(self) -> Tensor:
        """Return the cosine similarity of the layers' mean embeddings, [layers, layers].

        Layers have different numbers of tiles, so there is no tile of one that belongs to a tile of another: each layer
        is taken as the mean of its tiles' embeddings.
        """
        return cosines(torch.stack([z.mean(0) for z in self.layers.values()]))

    def projected(self) -> tuple[dict[str, Tensor], list[float]]:
        """Return name -> [tiles, 2] on the first two principal components of all tiles, and how much of the variance
        each of the two has.

        The sign of a component is chosen so that its largest number is positive: else the picture might turn over.
        """
        table = torch.cat(list(self.layers.values())).double()
        centred = table - table.mean(0)
        _, values, axes = torch.linalg.svd(centred, full_matrices=False)
        axes = axes[:2]
        signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        places = (centred @ (axes * signs).T).split([len(z) for z in self.layers.values()])
        shares = values.square() / values.square().sum().clamp_min(1e-300)
        return dict(zip(self.layers, places, strict=True)), shares[:2].tolist()


def cosines(rows: Tensor) -> Tensor:
    """Return the cosine similarity of every two rows of [n, size], [n, n]."""
    unit = F.normalize(rows.double(), dim=1)
    return unit @ unit.T


def layer_embeddings(model: nn.Module) -> list[Embeddings]:
    """Return the embeddings of a model's hypernet that may be compared with each other; none of other models.

    A static or chunked hypernet has one for each layer; the mlp hypernet has one for all: nothing to compare.
    """
    hyper = as_hypernetized(model)
    found = {} if hyper is None else hyper.layer_embeddings()
    return [
        Embeddings(what, {name: z.detach().float().cpu() for name, z in layers.items()})
        for what, layers in found.items()
    ]
