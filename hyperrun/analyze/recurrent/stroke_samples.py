"""hyperrun sample RUN of a model of pen strokes: what it has drawn, and where its weights changed as it did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from hyperrun.analyze.recurrent.pen_strip import make_pen_strip
from hyperrun.analyze.recurrent.states import recurrent_target
from hyperrun.analyze.recurrent.stroke_states import read_strokes
from hyperrun.errors import UserError
from hyperrun.load import LoadedRun
from hyperrun.pictures.pen import finite_part
from hyperrun.pictures.style import picture
from hyperrun.runs.folder import write_beside
from hyperrun.targets.recurrent import RecurrentStrokes

MOST = 64
"""Sequences in a picture."""


def write_samples(loaded: LoadedRun, drawn: Sequence[Tensor], title: str, path: Path, svg: bool) -> list[Path]:
    """Write what a run's model has drawn as a PNG and, if `svg`, as an SVG beside it; return the paths.

    The sequences stand below each other; below each of a HyperLSTM is a strip of the changes of its recurrent weights
    (figure 7 of Ha et al.); of several layers, those of the last, and the title says so.

    drawn: float32 [n, 3] each, normalized. path: of the PNG.

    Raises:
        UserError: a place that cannot be written.
    """
    assert loaded.scale is not None
    points = [finite_part(loaded.scale.raw(one).numpy()) for one in drawn]
    labels = [
        f"{n + 1}" if len(one) == len(whole) else f"{n + 1}: not finite from point {len(one) + 1:,} on"
        for n, (one, whole) in enumerate(zip(points, drawn, strict=True))
    ]
    layer, found = last_changes(loaded, drawn)
    changes = {
        gate: [values[: len(one)] for values, one in zip(each, points, strict=True)] for gate, each in found.items()
    }
    title += f"; strips of {layer}" if layer else ""
    sheet = make_pen_strip(title, points, labels, changes).sheet()
    files = {path: picture(sheet.figure(), "png")}
    if svg:
        sheet.hits.clear()  # a file of all numbers would be large; the page of hyperrun analyze has them
        files[path.with_suffix(".svg")] = sheet.svg(title).encode()
    for place, content in files.items():
        try:
            write_beside(place, content)
        except OSError as error:
            raise UserError(f"cannot write {place}: {error.strerror}") from None
    return list(files)


def last_changes(loaded: LoadedRun, drawn: Sequence[Tensor]) -> tuple[str, dict[str, list[Tensor]]]:
    """Return how much the weights of the last layer whose weights change did so at each point: which layer that is of
    several ("layer 2 of 3", of one ""), and gate -> of each sequence [n]; empty where no weights change.

    The model reads again what it has drawn, in float32.
    """
    target = recurrent_target(loaded.model)
    if not isinstance(target, RecurrentStrokes) or loaded.config.hypernet.kind != "dynamic":
        return "", {}
    device = target.output.weight.device
    layers = read_strokes(target, [one.to(device) for one in drawn]).changes
    number = max((n for n, changes in enumerate(layers, 1) if changes), default=0)
    if not number:
        return "", {}
    return f"layer {number} of {len(layers)}" if len(layers) > 1 else "", layers[number - 1]
