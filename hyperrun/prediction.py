"""What a trained classifier says of pictures that are no data set, and how well a language model foresees a text.

`hyperrun predict` prints it. How pictures become what a network takes (`Preparation`) stands in what `hyperrun export`
writes, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.data import TextData, Vocabulary, as_images, form_and_base, load_images
from hyperrun.data.augment import normalise, scale_and_shift
from hyperrun.data.decode import decode as read_picture
from hyperrun.data.images import cores
from hyperrun.data.kinds import ImageData, TaskData
from hyperrun.data.tasks import change_of_pixels
from hyperrun.data.text import UNITS, read_file
from hyperrun.data.vocabulary import UNKNOWN
from hyperrun.errors import UserError, printable
from hyperrun.hypernets import as_hypernetized, materialize
from hyperrun.inputs import Images
from hyperrun.load import LoadedRun
from hyperrun.metrics import text_figures
from hyperrun.training.precision import Precision

LUMA = (19595, 38470, 7471)
"""Red, green and blue in grey, of 65536: ITU-R 601-2 in Pillow's whole numbers, so that grey stays what it was."""

BY_TASK = "Before normalization the pixels are changed as those of its task were (their order, or turned by its angle)"


@dataclass(frozen=True)
class Preparation:
    """How pictures become what a network takes, and what its answers mean."""

    classes: list[str]
    """Their names, in the order of the logits."""
    channels: int
    """1: grey, 3: red, green, blue; of others there are no pictures."""
    size: int
    """Side in pixels."""
    mean: list[float]
    """Of each channel, in [0, 1]."""
    std: list[float]
    change: Callable[[Tensor], Tensor] | None = None
    """What a task does to its pixels (uint8 [B, C, size, size]) before they are normalized."""
    note: str | None = None
    """What its user should hear."""

    def read(self, path: Path) -> Tensor:
        """Return a picture as uint8 [channels, size, size]: upright, scaled, its centre cut out.

        Raises:
            UserError: the file is missing, unreadable or no picture.
        """
        colours = read_picture(path, self.size)
        if self.channels == 3:
            return colours
        weights = torch.tensor(LUMA, dtype=torch.int32).view(3, 1, 1)
        return ((colours.int() * weights).sum(0, keepdim=True) + 0x8000).bitwise_right_shift(16).to(torch.uint8)

    def normalized(self, images: Tensor, channels_last: bool = False) -> Tensor:
        """Return pictures (uint8 [B, C, size, size]) as the network takes them, float32, with the numbers that its
        evaluation gives it."""
        if self.change is not None:
            images = self.change(images)
        found = scale_and_shift(torch.tensor(self.mean), torch.tensor(self.std))
        scale, shift = (values.to(images.device) for values in found)
        return normalise(images, scale, shift, channels_last=channels_last)

    def metadata(self) -> dict[str, str]:
        """Return classes and preparation as JSON, for files that hold words by name."""
        steps = {
            "resize": "shorter side, bilinear",
            "crop": "centre",
            "size": self.size,
            "color": {1: "grey", 3: "RGB"}.get(self.channels),
            "scale": 1 / 255,
            "mean": self.mean,
            "std": self.std,
        }
        if self.change is not None:
            steps["change"] = BY_TASK
        return {"classes": json.dumps(self.classes), "preprocessing": json.dumps(steps)}


# ---------------------------------------------------------------- of a run


def preparation_of(loaded: LoadedRun, task: int | None = None) -> Preparation:
    """Return how a run on images prepares them. The data set is read only for a run that keeps nothing of it.

    task: of a run on tasks, which one.

    Raises:
        UserError: a run that keeps nothing of data that are missing.
    """
    inputs, data, summary = loaded.inputs.of_one(), loaded.config.data, loaded.summary
    assert isinstance(inputs, Images) and isinstance(data, ImageData)
    if loaded.images is not None:
        kept = loaded.images
        return Preparation(kept.classes, inputs.channels, inputs.size, kept.mean, kept.std)
    if isinstance(data, TaskData) and "data/classes" in summary:
        classes, mean, std = (summary[f"data/{name}"] for name in ("classes", "mean", "std"))
    else:
        classes, mean, std = measured_again(loaded)
    change = None
    if isinstance(data, TaskData):
        form, _ = form_and_base(data.name)
        change = None if task is None else change_of_pixels(form, inputs.size, data, task)
        if form == "split":  # the task is called by its classes
            classes = summary["data/tasks"][task].split(", ") if task is not None and "data/tasks" in summary else []
    note = None
    if len(classes) != inputs.classes:
        classes = [str(number) for number in range(inputs.classes)]
        note = "the run keeps no names of classes: their numbers stand for them"
    return Preparation(classes, inputs.channels, inputs.size, mean, std, change, note)


def measured_again(loaded: LoadedRun) -> tuple[list[str], list[float], list[float]]:
    """Return classes, mean and deviation of a run from before they were kept: those of its data. Where these are gone,
    or others by now, mean and deviation are what its summary says, and there are no names.

    Raises:
        UserError: the data are gone, and no summary says anything.
    """
    data = loaded.config.data
    assert isinstance(data, ImageData)
    said = [loaded.summary.get(f"data/{name}", []) for name in ("mean", "std")]
    try:
        found = load_images(as_images(data) if isinstance(data, TaskData) else data)
    except UserError:
        if not all(said):
            raise
        return [], said[0], said[1]
    mean, std = found.mean.tolist(), found.std.tolist()
    if all(said) and [rounded(mean), rounded(std)] != said:
        return [], said[0], said[1]
    return found.classes, mean, std


def network_for(loaded: LoadedRun, task: int | None) -> nn.Module:
    """Return what maps a run's images to logits; of a hypernet on tasks, the network of one.

    Raises:
        UserError: no task, or one that is not there, for a run on tasks; a task for a run that has none.
    """
    model, data = loaded.model, loaded.config.data
    if not isinstance(data, TaskData):
        if task is not None:
            raise UserError(f"--task is for runs on tasks, not for data={data.name}")
        return model
    if task is None or not 0 <= task < data.tasks:
        names = loaded.summary.get("data/tasks", [])
        which = "".join(f"; {number}: {name}" for number, name in enumerate(names[:10]))
        raise UserError(f"--task must say which of the tasks of data={data.name}: 0 to {data.tasks - 1}{which}")
    hyper = as_hypernetized(model)
    return model if hyper is None or not hyper.conditional else materialize(model, task).eval()


# ---------------------------------------------------------------- pictures


@dataclass(frozen=True)
class Answer:
    """What is said of one picture."""

    path: Path
    classes: list[tuple[str, float]]
    """Names and probabilities, the likeliest first; empty where the picture could not be read."""
    trouble: str | None = None
    """Why it could not be read."""


@torch.no_grad()
def classify(
    network: nn.Module,
    prepared: Preparation,
    paths: list[Path],
    *,
    device: torch.device,
    precision: Precision,
    batch_size: int,
    top: int,
    channels_last: bool = False,
) -> Iterator[Answer]:
    """Yield what a network says of each of these pictures, in their order, `top` classes of each.

    Raises:
        UserError: the network takes neither grey nor colours, or does not give a number for each class.
    """
    if prepared.channels not in (1, 3):
        raise UserError(f"a picture has 1 or 3 channels, and this network takes {prepared.channels}")

    def attempt(path: Path) -> Tensor | str:
        try:
            return prepared.read(path)
        except UserError as error:
            return str(error)

    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            read = list(pool.map(attempt, batch))
            pictures = [picture for picture in read if isinstance(picture, Tensor)]
            found = iter(())
            if pictures:
                x = prepared.normalized(torch.stack(pictures).to(device), channels_last)
                with precision.autocast():
                    logits = network(x)
                if not isinstance(logits, Tensor) or logits.shape != (len(x), len(prepared.classes)):
                    raise UserError(f"this network is no classifier of {len(prepared.classes)} classes")
                values, numbers = logits.float().softmax(1).topk(min(top, len(prepared.classes)))
                found = iter(zip(values.tolist(), numbers.tolist(), strict=True))
            for path, picture in zip(batch, read, strict=True):
                if isinstance(picture, str):
                    yield Answer(path, [], picture)
                else:
                    probabilities, chosen = next(found)
                    names = [prepared.classes[number] for number in chosen]
                    yield Answer(path, list(zip(names, probabilities, strict=True)))


# ---------------------------------------------------------------- texts


def symbols_of(loaded: LoadedRun, text: str | Path) -> tuple[Tensor, int]:
    """Return a text, or that of a file, as numbers of the run's symbols, int64 [N], and how many of its words the run
    does not know and reads as <unk>, where it has that word.

    Raises:
        UserError: a file that is missing or in another encoding, symbols that the run has not learned, fewer than two.
    """
    vocabulary, data = loaded.vocabulary, loaded.config.data
    assert isinstance(vocabulary, Vocabulary) and isinstance(data, TextData)
    content = text if isinstance(text, str) else content_of(text, vocabulary.unit, data.encoding)
    parts = content.decode("latin-1") if isinstance(content, bytes) else vocabulary.split(content)
    unknown = 0
    if vocabulary.unit == "word" and UNKNOWN in vocabulary.number:
        unknown = sum(word not in vocabulary.number for word in parts)
        parts = [word if word in vocabulary.number else UNKNOWN for word in parts]
    ids = vocabulary.numbered(parts)
    if len(ids) < 2:
        raise UserError(f"too short a text: it takes two {UNITS[vocabulary.unit]} to predict one from the other")
    return ids, unknown


def content_of(path: Path, unit: str, encoding: str) -> str | bytes:
    try:
        return read_file(path, unit, encoding)
    except UserError as error:
        reason, hint, _ = str(error).partition("; name its encoding")  # which is for training
        raise UserError(f"{reason}, and the run's text was" if hint else reason) from None


@torch.no_grad()
def score(model: nn.Module, ids: Tensor, *, unit: str, chunk: int, precision: Precision) -> dict[str, Any]:
    """Return how well a model foresees a text: {"symbols", "loss", "bpc" (not of words), "perplexity"}.

    Read in one go, the state carried along; every symbol but the first counts. The loss is in nats a symbol.

    ids: int64 [N], N at least 2. chunk: symbols read at a time, which changes nothing but the memory it takes.
    """
    device = next(model.parameters()).device
    ids, total, state = ids.to(device), torch.zeros((), dtype=torch.float64, device=device), None
    for start in range(0, len(ids) - 1, chunk):
        inputs, targets = ids[start : start + chunk], ids[start + 1 : start + chunk + 1]
        inputs = F.pad(inputs, (0, chunk - len(inputs)))  # shapes stay constant: nothing is compiled for the last one
        with precision.autocast():
            logits, state = model(inputs[None], state)
        total += F.cross_entropy(logits[0, : len(targets)].float(), targets, reduction="none").double().sum()
    return {"symbols": len(ids), **text_figures(total.item() / (len(ids) - 1), unit)}


# ---------------------------------------------------------------- in words


def in_words(prepared: Preparation) -> str:
    """Return how pictures are prepared, and the classes, as Markdown."""
    colours = {1: "as grey levels", 3: "as red, green and blue"}.get(prepared.channels)
    classes = ", ".join(f"{number} {printable(name)}" for number, name in enumerate(prepared.classes))
    parts = [
        f"A picture is turned upright (EXIF), its shorter side scaled to {prepared.size} pixels (bilinear), the centre "
        f"cut out, {colours}.",
        f"{BY_TASK}.",
        f"Pixels in [0, 1], less the channels' mean {rounded(prepared.mean)}, over their deviation "
        f"{rounded(prepared.std)}.",
    ]
    true = (colours is not None, prepared.change is not None, True)
    return f"{' '.join(compress(parts, true))}\n\nClasses, in the order of the logits: {classes}."


def rounded(values: list[float]) -> list[float]:
    """Return them as summary.json says them."""
    return [round(value, 6) for value in values]
