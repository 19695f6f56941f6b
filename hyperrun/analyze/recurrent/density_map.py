"""The densities of the next point, summed over a sequence, as an image (figure 10 of Graves 2013).

After every point of a sequence the model has a mixture of Gaussians for where the next one lies. Each pixel of the
image has the probability that it lies there, summed over the points: where the model is certain, the image shows the
writing itself, and a cloud where the next stroke may begin anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hyperrun.tasks.mixture_density import mixture

WIDEST, HIGHEST = 900, 240
"""Pixels of the image at most."""

BORDER = 0.15, 0.02
"""Of the smaller and of the larger side: the larger of the two lies on each side around the sequence."""

BLUR = 0.5
"""Standard deviation, in pixels, that is added to that of every Gaussian: a narrower one would fall between pixels."""

REACH = 4.0
"""Standard deviations of a Gaussian that are drawn."""

LEAST = 1e-3
"""Weight of a Gaussian that is left out."""


@dataclass(frozen=True)
class DensityMap:
    """The image and where it lies."""

    mass: np.ndarray
    """float32 [rows, columns]: probability that the next point lies in the pixel, summed over the points. The first row
    is that of the smallest y."""
    left: float
    top: float
    """Of the first pixel's corner, in units of the page."""
    pixel: float
    """Side of a pixel."""

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Return (left, right, bottom, top), as matplotlib's imshow takes them."""
        rows, columns = self.mass.shape
        return self.left, self.left + columns * self.pixel, self.top + rows * self.pixel, self.top


def density_map(outputs: Tensor, places: np.ndarray, mean: np.ndarray, std: np.ndarray) -> DensityMap:
    """Return the summed densities of the points after each point of a sequence.

    outputs: [n, 6M + 1], what the network gives after each point but the last. places: float64 [n + 1, 2], where all
        points lie, in units of the page. mean, std: [2], of dx and dy over the training set.
    """
    low, size = places.min(axis=0), np.ptp(places, axis=0)
    border = max(BORDER[0] * float(size.min()), BORDER[1] * float(size.max())) or 1.0
    low, size = low - border, size + 2 * border
    pixel = float(max(size[0] / WIDEST, size[1] / HIGHEST))
    columns, rows = np.maximum(1, np.ceil(size / pixel - 1e-9)).astype(int)
    mass = np.zeros((rows, columns), np.float32)
    of = mixture(outputs.detach().cpu().double())
    weights = of.log_weight.exp().numpy()
    rho = torch.tanh(of.atanh_rho).numpy()
    centres, sigmas = (
        np.stack([part.numpy() for part in parts], -1) * std
        for parts in ((of.mean_x, of.mean_y), (of.log_sigma_x.exp(), of.log_sigma_y.exp()))
    )
    centres = (centres + mean + places[:-1, None] - low) / pixel - 0.5  # in pixels, from the centre of the first
    sigmas = sigmas / pixel
    for n, j in np.argwhere(weights > LEAST):
        add_gaussian(mass, float(weights[n, j]), centres[n, j], sigmas[n, j], float(rho[n, j]))
    return DensityMap(mass, float(low[0]), float(low[1]), pixel)


def add_gaussian(mass: np.ndarray, weight: float, centre: np.ndarray, sigma: np.ndarray, rho: float) -> None:
    """Add a bivariate Gaussian, blurred, to an image [rows, columns]; centre, sigma: x and y, in pixels."""
    covariance = rho * sigma[0] * sigma[1]
    var_x, var_y = sigma**2 + BLUR**2
    reach = REACH * np.sqrt([var_x, var_y])
    first = np.maximum(0, np.ceil(centre - reach))
    last = np.minimum(mass.shape[::-1], np.floor(centre + reach) + 1)
    if not (first < last).all():
        return
    (left, top), (right, bottom) = first.astype(int), last.astype(int)
    x = np.arange(left, right, dtype=np.float32) - np.float32(centre[0])
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(centre[1])
    determinant = var_x * var_y - covariance**2
    across, both, down = (np.float32(part / determinant / -2) for part in (var_y, -2 * covariance, var_x))
    peak = np.float32(weight / (2 * np.pi * np.sqrt(determinant)))
    mass[top:bottom, left:right] += peak * np.exp(across * x**2 + both * x * y + down * y**2)
