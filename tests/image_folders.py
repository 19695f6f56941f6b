"""Folders of simple pictures, to learn from in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.running import QUIET

SIZE = 12


def write_folder(root: Path, names: str = "abc", train: int = 12, test: int = 4) -> Path:
    """Write so many pictures of each class; class k has more of colour k, and class c is brighter. Return the root."""
    rng = np.random.default_rng(1)
    for part, count in (("train", train), ("test", test)):
        for k, name in enumerate(names):
            for i in range(count):
                pixels = rng.integers(0, 120, (SIZE, SIZE, 3)) + (80 if k == 2 else 0)
                pixels[..., k % 3] += int(rng.integers(0, 40))
                write(root / part / name / f"{i:02}.png", pixels.clip(0, 255).astype(np.uint8))
    return root


def write(path: Path, pixels: np.ndarray) -> None:
    """Write numbers as a picture, in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


CNN = ("model=cnn", "target.channels=[4,4]", "data.crop_padding=1")


def line(root: Path | str, *model: str) -> list[str]:
    """Return the command line that trains a small network on such a folder for a fraction of a second."""
    data = [f"data.root={root}", f"data.image_size={SIZE}", "data.val_size=9"]
    return [
        "train",
        "data=image_folder",
        *data,
        *(model or CNN),
        "trainer.batch_size=9",
        "trainer.max_steps=10",
        *QUIET,
    ]
