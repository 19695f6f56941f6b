"""What a translation attends to: source pieces across, those of the translation down (figures 3 of Bahdanau et al.)."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from hyperrun.errors import UserError, printable
from hyperrun.pictures.parts import styled
from hyperrun.pictures.style import DPI, picture
from hyperrun.runs.folder import write_beside
from hyperrun.tasks.translating import Alignment

CELL, LABELS = 0.22, 1.2
"""Inches: of a piece, and of the names beside them."""
MOST = 200
"""Pieces on a side of the picture."""


@styled
def alignment_picture(alignment: Alignment) -> Picture:
    """Return the weights as squares from white (0) to dark (1), with a bar that says so.

    Raises:
        UserError: more pieces than a picture can show.
    """
    if max(len(alignment.source), len(alignment.target)) > MOST:
        raise UserError(
            f"{len(alignment.source):,} and {len(alignment.target):,} pieces are too many for a picture, which shows "
            f"{MOST} on a side"
        )
    width, height = (CELL * len(side) + LABELS for side in (alignment.source, alignment.target))
    figure = Picture(figsize=(width + 0.8, height), dpi=DPI, layout="compressed")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    image = panel.imshow(alignment.weights.numpy(), vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    panel.grid(False)
    names = [[printable(piece) for piece in side] for side in (alignment.source, alignment.target)]
    panel.set_xticks(range(len(names[0])), names[0], rotation=90, parse_math=False)
    panel.set_yticks(range(len(names[1])), names[1], parse_math=False)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    figure.colorbar(image, ax=panel, shrink=min(1.0, 2 / height), label="attention")
    return figure


def write_alignment(alignment: Alignment, path: Path) -> None:
    """Write the picture as a PNG.

    Raises:
        UserError: too many pieces, or a place that cannot be written.
    """
    content = picture(alignment_picture(alignment), "png")
    try:
        write_beside(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
