"""Pictures in files of any kind -> RGB of one size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hyperrun.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

NO_KNOWN_RANGE = {
    "F": "32-bit floating point",
    "I": "32-bit or signed integer",
}
"""Modes of Pillow's whose numbers have no agreed white; its own conversion would cut them off at 255."""
ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held."""
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
"""Tags of a TIFF, and a value of the second."""


def decode(path: Path, size: int) -> Tensor:
    """Read a picture as RGB, bring its shorter side to `size` pixels and cut out the centre: uint8 [3, size, size].

    Grey of n bits, n from 9 to 16, is scaled: 0 stays 0, 2^n - 1 becomes 255. Everything else that Pillow reads, it
    converts, with two exceptions that are refused: grey as floating point, and as integers of 32 bits or with a sign.

    Raises:
        UserError: the file is missing, unreadable, no picture, or of a kind whose white is not known.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (2 * size, 2 * size))  # JPEG: decode at a fraction of the size, much faster
            upright = turned_upright(picture)
            if "transparency" in upright.info and upright.mode not in GREY:
                upright = upright.convert("RGBA")  # Pillow asks for this detour for palettes with transparency
            fitted = ImageOps.fit(in_8_bits(upright, picture).convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except MemoryError:
        raise
    except Exception as error:  # what damaged files make Pillow raise has no common base
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read the picture {path}: {reason}") from None
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""Modes of Pillow's with more than 8 bits."""


def turned_upright(picture: Image) -> Image:
    """Return a picture as its camera was held. Unlike ImageOps.exif_transpose this writes no EXIF, so that the
    other entries may be broken."""
    from PIL import Image

    ways = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    picture.load()
    way = ways.get(picture.getexif().get(ORIENTATION, 1))
    return picture if way is None else picture.transpose(way)


def in_8_bits(picture: Image, opened: Image) -> Image:
    """Return a grey picture of more than 8 bits as one of 8, another one as it is. opened: as Pillow opened it.

    Raises:
        ValueError: its white is not known.
    """
    from PIL import Image

    if picture.mode not in GREY:
        return picture
    whole = picture.mode == "I" and opened.format in ("PNG", "PPM")  # their numbers have 16 bits
    if picture.mode in NO_KNOWN_RANGE and not whole:
        raise ValueError(
            f"its pixels are {NO_KNOWN_RANGE[picture.mode]} numbers (mode {picture.mode}), and what is white is not "
            "known; convert it to 8 or 16 bits"
        )
    tags = getattr(opened, "tag_v2", {})  # of a TIFF, which may have 12 bits
    bits = 16 if whole else tags.get(BITS_PER_SAMPLE, (16,))[0]
    white = 2**bits - 1
    values = np.asarray(picture).astype(np.int64).clip(0, white)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # of 8 bits Pillow turns it round itself
        values = white - values
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
