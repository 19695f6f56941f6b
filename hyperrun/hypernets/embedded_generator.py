"""A generator with a learned embedding for each condition before it: a task's embedding, an image's latent.

For images that is an auto-decoder (Park et al. 2019, DeepSDF, arXiv 1901.05103): there is no encoder; the latent of an
image that was not trained on is found by descending the same loss with the generator as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EmbeddedGenerator(nn.Module):
    """The hypernet of a ConditionalModel, with a table of embeddings before it.

    generator: makes {name: weights} of conditioning [..., z_dim].
    count, z_dim: conditions (tasks, training images), and numbers in the embedding of each.
    std: of the embeddings at the start, which are normal around zero.

    Called with numbers of conditions, integers [...], or with embeddings, float [..., z_dim] (of other tasks or images,
    interpolated, drawn); returns what the generator makes of them.
    """

    def __init__(self, generator: nn.Module, count: int, z_dim: int, std: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, z_dim)
        nn.init.normal_(self.embedding.weight, std=std)
        self.generator = generator

    def forward(self, conditioning: Tensor) -> dict[str, Tensor]:
        return self.generator(conditioning if conditioning.is_floating_point() else self.embedding(conditioning))

    @torch.no_grad()
    def mean_embedding(self) -> Tensor:
        """Return the mean of the embeddings, [z_dim]."""
        return self.embedding.weight.mean(0)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, ridge: float = 1e-4) -> Tensor:
        """Draw embeddings from the Gaussian with the mean and full covariance of those learned: [count, z_dim].

        ridge: times the mean variance, added to all variances, so that fewer examples than numbers are no obstacle.
        generator: on the CPU; computed there in float64, so that a seed draws the same on every device.
        """
        known = self.embedding.weight.double().cpu()
        centred = known - known.mean(0)
        covariance = centred.T @ centred / max(len(known) - 1, 1)
        size = len(covariance)
        covariance += torch.eye(size) * (ridge * covariance.diagonal().mean() + 1e-12)
        noise = torch.randn(count, size, generator=generator, dtype=torch.float64)
        drawn = known.mean(0) + noise @ torch.linalg.cholesky(covariance).T
        return drawn.to(self.embedding.weight)
