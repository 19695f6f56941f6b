"""hyperrun sample RUN of a hypersiren: held-out images and what its latents make of them, between them, and anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hyperrun.data.images import seeded
from hyperrun.errors import UserError
from hyperrun.hypernets import as_hypernetized
from hyperrun.load import task_of_run
from hyperrun.pictures.image_grid import Row, draw_rows, size_of
from hyperrun.runs.folder import find_run, write_beside
from hyperrun.targets.siren import pixel_centres
from hyperrun.tasks.image_fitting import ImageFitting, all_pixels, colours_of, hypernet_of, psnr

PAIRS, NEW_ROWS = 3, 2
"""Rows of interpolations, and of new images."""
LARGER = 4
"""Times the data's own resolution, where none is asked for."""
POINTS_AT_ONCE = 2**17
"""Coordinates, of all images together, that go through the network in one call."""


@dataclass(frozen=True)
class Samples:
    """What was written."""

    path: Path
    resolution: int
    """Pixels of an image's side."""
    images: int
    """Held-out images that were fitted."""
    psnr: float
    """Their mean PSNR in dB, at the data's own resolution."""


def sample_images(
    run: str,
    which: str = "best",
    resolution: int | None = None,
    columns: int = 10,
    seed: int = 0,
    out: Path | None = None,
    where: Mapping[str, str] | None = None,
) -> Samples:
    """Write the grid of a run as a PNG, RUN/samples.png unless `out` says otherwise.

    Rows: images of the test split, drawn by `seed`; their reconstructions, latents fitted as in a test; images on the
    line from one fitted latent to the next (first and last are the reconstructions); images of latents drawn, by
    `seed`, from the Gaussian fitted to the training images' latents.

    resolution: pixels of an image's side; None: four times the data's. The data's own images are shown with larger
        pixels. where: where the images now are, as in `task_of_run`.

    Raises:
        UserError: no such run, a damaged checkpoint, a picture that would be too large, a place that cannot be written.
    """
    path = samples_path(run, out)
    with task_of_run(run, which, where=where) as (_, task, _):
        assert isinstance(task, ImageFitting)
        test, own_side = task.data.test, task.data.image_size
        task.model.eval()
        side = resolution or LARGER * own_side
        count = min(columns, len(test))
        pairs = min(PAIRS, count // 2)
        size_of(side, columns, [True, False, *[i == 0 for i in range(pairs + NEW_ROWS)]])  # refused before any work
        chosen = torch.randperm(len(test), generator=seeded(seed, "held-out"))[:count]
        wanted = colours_of(test.fetch(chosen).to(task.world.device))
        fitted = task.fit(wanted)
        with torch.no_grad():
            each = psnr(task.model(all_pixels(wanted), fitted).float(), wanted)
        steps = torch.linspace(0, 1, columns, device=fitted.device).unsqueeze(1)
        lines = [torch.lerp(fitted[2 * i], fitted[2 * i + 1], steps) for i in range(pairs)]
        new = hypernet_of(task.model).draw(NEW_ROWS * columns, seeded(seed, "new")).split(columns)
        rows = [
            Row("held-out images", shown(enlarged(wanted, side))),
            Row(f"reconstructed\n{each.mean():.1f} dB", shown(render(task.model, fitted, side)), new_group=False),
        ]
        for i, line in enumerate(lines):
            label = f"interpolated\nfrom {2 * i + 1} to {2 * i + 2}"
            rows.append(Row(label, shown(render(task.model, line, side)), new_group=i == 0))
        for i, latents in enumerate(new):
            rows.append(Row("new, from a\nGaussian", shown(render(task.model, latents, side)), new_group=i == 0))
    try:
        write_beside(path, draw_rows(rows))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return Samples(path, side, count, each.mean().item())


def samples_path(run: str, out: Path | None) -> Path:
    """Return where the picture of a run's samples goes: RUN/samples.png unless `out` says otherwise.

    Raises:
        UserError: no such run, or a place that is no png file.
    """
    path = out or find_run(run).path / "samples.png"
    if path.suffix.lower() != ".png":
        raise UserError(f"--out must be a file that ends in .png, not {path}")
    return path


@torch.no_grad()
def render(model: nn.Module, latents: Tensor, side: int) -> Tensor:
    """Return the images of latents [B, z_dim] at any resolution: float32 [B, side * side, C], not clipped."""
    hyper = as_hypernetized(model)
    assert hyper is not None
    weights = hyper.weights(latents)
    points = pixel_centres(side, latents.device).split(max(1, POINTS_AT_ONCE // len(latents)))
    return torch.cat([hyper.call_with(weights, part.expand(len(latents), -1, -1)).float() for part in points], 1)


def enlarged(images: Tensor, side: int) -> Tensor:
    """Return images [B, P, C] of side sqrt(P) as [B, side * side, C]: of each new pixel the one its centre lies in."""
    own = round(images.shape[1] ** 0.5)
    nearest = ((2 * torch.arange(side, device=images.device) + 1) * own) // (2 * side)
    return images[:, (nearest.unsqueeze(1) * own + nearest).flatten()]


def shown(images: Tensor) -> np.ndarray:
    """float [B, side * side, 1 or 3] -> uint8 [B, side, side, 3]."""
    side = round(images.shape[1] ** 0.5)
    grey = (images.clamp(0, 1) * 255).round().to(torch.uint8).view(len(images), side, side, -1)
    return grey.expand(-1, -1, -1, 3).cpu().numpy()
