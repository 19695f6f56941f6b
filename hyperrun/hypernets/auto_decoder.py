"""Auto-decoder (Park et al. 2019, DeepSDF, arXiv 1901.05103): codes that are learned beside what decodes them.

There is no encoder. Each training example has a latent of its own, which gets its gradient as the weights do; that of
an example which was not trained on is found by descending the same loss with the decoder as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AutoDecoder(nn.Module):
    """The hypernet of a ConditionalModel, with a table of latents before it.

    generator: makes {name: weights} of conditioning [batch, z_dim].
    count, z_dim: training examples, and numbers in the latent of each.
    std: of the latents at the start, which are normal around zero.

    Called with numbers of training examples, int64 [batch], or with latents, float [batch, z_dim] (of other examples,
    interpolated, drawn); returns what the generator makes of them.
    """

    def __init__(self, generator: nn.Module, count: int, z_dim: int, std: float) -> None:
        super().__init__()
        self.latents = nn.Embedding(count, z_dim)
        nn.init.normal_(self.latents.weight, std=std)
        self.generator = generator

    def forward(self, conditioning: Tensor) -> dict[str, Tensor]:
        return self.generator(conditioning if conditioning.is_floating_point() else self.latents(conditioning))

    @torch.no_grad()
    def mean_latent(self) -> Tensor:
        """Return the mean of the training examples' latents, [z_dim]."""
        return self.latents.weight.mean(0)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, ridge: float = 1e-4) -> Tensor:
        """Draw latents from the Gaussian with the training latents' mean and full covariance: [count, z_dim].

        ridge: times the mean variance, added to all variances, so that fewer examples than numbers are no obstacle.
        generator: on the CPU; computed there in float64, so that a seed draws the same on every device.
        """
        known = self.latents.weight.double().cpu()
        centred = known - known.mean(0)
        covariance = centred.T @ centred / max(len(known) - 1, 1)
        size = len(covariance)
        covariance += torch.eye(size) * (ridge * covariance.diagonal().mean() + 1e-12)
        noise = torch.randn(count, size, generator=generator, dtype=torch.float64)
        drawn = known.mean(0) + noise @ torch.linalg.cholesky(covariance).T
        return drawn.to(self.latents.weight)
