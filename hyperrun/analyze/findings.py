"""What studies of trained models are asked and what they leave: pictures, pages, numbers, notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure as Picture
from torch import Tensor

from hyperrun.load import LoadedRun

SPLITS = ("val", "test")
"""Parts of a text, of pen strokes, or of the images of tasks, that a model was not trained on."""


@dataclass(frozen=True)
class Reader:
    """What a study may choose."""

    split: str = "val"
    symbols: int = 5000
    """Of the split that a recurrent model reads, from its beginning; of pen strokes, points of whole sequences."""


def some_of(names: Sequence[str], most: int = 3) -> str:
    """Return names for a sentence, of many the first."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass
class Findings:
    """What was seen."""

    pictures: dict[str, Picture] = field(default_factory=dict)
    """Name of the file without its ending -> figure."""
    pages: dict[str, str] = field(default_factory=dict)
    """Name of the file without its ending -> HTML."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """What analysis.json says: plain numbers, lists and dicts."""
    notes: list[str] = field(default_factory=list)
    """What is not there, and why."""

    def note_broken(self, label: str, names: Sequence[str]) -> None:
        """Note the tensors of a run in which a number is not finite, if there are any."""
        if names:
            self.notes.append(f"{label}: weights that are not finite in {some_of(names)}")


Runs = Mapping[str, LoadedRun]
"""Label -> run, in the order in which they were given."""


def rounded(values: Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in values.tolist()]
