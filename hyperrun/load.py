"""A run's model again, from its folder: `load_run("outputs/digits/hypercnn-s0-3a1ade54").model(images)`.

And what it was trained on with it: `task_of_run`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hyperrun.config import Config, DataConfig
from hyperrun.data import LearnedImages, PairData, StrokeData, TextData, Vocabulary, inputs_of
from hyperrun.data.pairs.files import FILES
from hyperrun.errors import UserError
from hyperrun.inputs import Inputs, Strokes, Symbols
from hyperrun.models import build_model
from hyperrun.paths import expanded
from hyperrun.runs.folder import RunFolder, find_run
from hyperrun.tasks import Task, build_task
from hyperrun.tasks.stroke_modeling import StrokeScale
from hyperrun.tasks.translation import LearnedPieces
from hyperrun.training import checkpoint
from hyperrun.training.distributed import join_world
from hyperrun.training.ema import EMA
from hyperrun.training.precision import Precision, choose_matmul_precision, choose_precision


@dataclass(frozen=True)
class LoadedRun:
    """What a run folder holds."""

    model: nn.Module
    """The trained model, in eval mode: of images, normalized as in training, float [B, C, H, W] -> logits [B, classes];
    of tasks, of such images and the number of their task, int64 [B] (or [1] for all);
    of a SIREN, coordinates [B, P, 2] and latents [B, z_dim] or numbers of training images [B] -> colours [B, P, C];
    of text, token ids int64 [B, T] -> (logits [B, T, vocabulary], state);
    of pen strokes, normalized points [B, T, 3] -> (outputs [B, T, 6 * mixtures + 1], state);
    of pairs of sentences, as Seq2Seq is called; tasks.translation.network_of gives what translates piece by piece."""
    config: Config
    summary: dict[str, Any]
    """summary.json: parameter counts, metrics, where and how it was trained."""
    vocabulary: Vocabulary | None
    """Of a run on text."""
    folder: RunFolder
    checkpoint: str
    """"best" or "last"."""
    images: LearnedImages | None
    """What a run on images keeps of them: classes, mean, deviation, ...; None for one from before they were kept."""
    inputs: Inputs
    """What the data that it was trained on look like."""
    step: int | None
    """Optimizer steps that made its weights; None where the checkpoint does not say."""
    scale: StrokeScale | None = None
    """Of a run on pen strokes: what their normalization was."""
    pieces: LearnedPieces | None = None
    """Of a run on translation: its vocabularies."""


def load_run(
    run: str | Path,
    which: str = "best",
    device: torch.device | str = "cpu",
    where: Mapping[str, str] | None = None,
) -> LoadedRun:
    """Return the model of a run folder with the weights of its selected checkpoint, and what is known of the run.

    run: the folder, or a file in it. which: "best", the selected checkpoint, or "last". where: as in `task_of_run`.
    The data set is not read, except for a run that keeps nothing of a set whose shape hyperrun does not know.

    Raises:
        UserError: no run folder, a damaged or foreign checkpoint.
    """
    folder = find_run(str(run))
    config = moved(folder.read_config(), where)
    path = folder.checkpoints / f"{which}.pt"
    last = folder.checkpoints / "last.pt"
    if which == "best" and not path.exists() and last.exists():
        raise UserError(f"there is no checkpoint {path}, but there is {last.name} (--checkpoint last)")
    state = checkpoint.load(path, device)
    vocabulary, scale, pieces = None, None, None
    if isinstance(config.data, StrokeData):
        scale = StrokeScale.from_state_dict(state.get("task") or {}, path)
    if isinstance(config.data, PairData):
        pieces = LearnedPieces.from_state_dict(state.get("task") or {}, path)
    if isinstance(config.data, TextData):
        try:
            vocabulary = Vocabulary.from_state_dict(state["task"]["vocabulary"])
        except (KeyError, TypeError):
            raise UserError(f"{path} is not of a run on text") from None
    images = LearnedImages.from_state_dict(state.get("task", {}).get("images"))
    if vocabulary is not None:
        inputs: Inputs = Symbols(len(vocabulary))
    elif scale is not None:
        inputs = Strokes()
    elif pieces is not None:
        inputs = pieces.inputs
    else:
        inputs = images.inputs if images is not None else inputs_of(config.data)
    model = build_model(config, inputs).to(device)
    load_parameters(model, state, path)
    step = state.get("step", state.get("loop", {}).get("step"))
    summary = folder.read_summary() or {}
    return LoadedRun(model.eval(), config, summary, vocabulary, folder, which, images, inputs, step, scale, pieces)


def load_parameters(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Put the parameters and buffers of the checkpoint that `path` held into a model.

    Raises:
        UserError: they are of another model.
    """
    try:
        model.load_state_dict(state["model"])
        if state.get("ema") is not None:  # last.pt: what was evaluated is the average, as best.pt holds it
            average = EMA(model, decay=0.0)
            average.load_state_dict(state["ema"])
            average.apply()
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split()[:40])
        raise UserError(f"{path} does not fit this model and data: {reason}") from None


# ---------------------------------------------------------------- with its data


@contextmanager
def task_of_run(
    run: str | Path,
    which: str = "best",
    data: DataConfig | None = None,
    precision: str | None = None,
    streams: int | None = None,
    where: Mapping[str, str] | None = None,
) -> Iterator[tuple[Config, Task, Precision]]:
    """Give the config of a run, its task with the checkpoint's model, and the precision it was trained in.

    Images are normalized, and their classes numbered, as the run did. A warning says where the data are no longer
    those that it learned from.

    data: another data set, of the same shape and classes. precision: another one. streams: data.eval_streams of a text.
    where: where the data now are, {"root": folder} or {"path": file} of a text.

    Raises:
        UserError: no run folder, a damaged or foreign checkpoint, data the model does not fit.
    """
    folder = find_run(str(run))
    config = folder.read_config()
    if data is not None:
        config = dataclasses.replace(config, data=data)
    config = moved(config, where)
    if streams is not None:
        if streams < 1:
            raise UserError(f"--streams must be at least 1, not {streams}")
        if not isinstance(config.data, TextData):
            raise UserError(f"--streams is for runs on text, not for data={config.data.name}")
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, eval_streams=streams))
    with join_world() as world:
        summary = folder.read_summary() or {}
        chosen = take_precision(config, summary, world.device, precision)
        path = folder.checkpoints / f"{which}.pt"
        state = checkpoint.load(path, world.device)
        kept = state.get("task", {})
        task = build_task(config, world, kept)
        load_model(task, state, path)
        notes = task.warnings() if data is not None or where else []
        if data is None:
            changed = task.changes(kept) or differences(task.facts(), summary)
            if changed:
                what = f"data={config.data.name} has changed since this run was trained: {', '.join(changed)}"
                notes.append(f"{what}; the figures are of what is there now")
        for note in notes if world.is_main else []:
            print(f"hyperrun: warning: {note}", file=sys.stderr)
        yield config, task, chosen


def moved(config: Config, where: Mapping[str, str] | None) -> Config:
    """Return the config of a run whose data are now elsewhere: {"root": folder} or {"path": file}.

    In a folder every file that a run on pairs names is looked for, too: by its name, or, where two of these have one
    name, by its place below the folder that all of them were in.

    Raises:
        UserError: the place of a file for data that are a folder, or the other way round.
    """
    if not where:
        return config
    a_file = getattr(config.data, "path", None) is not None
    if "path" in where and not a_file:
        raise UserError(f"--path is for runs on a file of one's own; --root DIR says where data={config.data.name} is")
    if "root" in where and a_file:
        raise UserError(
            f"--root is for data in a folder; --path FILE says where the file of data={config.data.name} is"
        )
    changed = moved_files(config.data, where["root"]) if isinstance(config.data, PairData) else where
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changed))


def moved_files(data: PairData, root: str) -> dict[str, str]:
    """Return what of the config of pairs changes with all of its files in the folder `root`: the paths of the files
    that it names, and the root, of a set that looks for its own files there."""
    files = {key: path for key in FILES if (path := getattr(data, key)) is not None}
    below = {key: os.path.basename(path) for key, path in files.items()}
    if len(set(below.values())) < len(set(files.values())):
        together = os.path.commonpath([os.path.dirname(path) for path in files.values()])
        below = {key: os.path.relpath(path, together) for key, path in files.items()}
    folder = os.path.abspath(expanded(root))
    changed = {key: os.path.join(folder, name) for key, name in below.items()}
    if data.name == "parallel":
        return changed  # its root is where prepared pairs are kept
    return {"root": root, **{key: path for key, path in changed.items() if os.path.isfile(path)}}


def differences(facts: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """Return which measures of the data differ from those in a run's summary, where that has them."""
    measures = ("data/fingerprint", "data/mean", "data/std")
    return [key for key in measures if key in summary and summary[key] != facts.get(key)]


def take_precision(
    config: Config, summary: dict[str, Any], device: torch.device, wanted: str | None = None
) -> Precision:
    """Return the precision that is wanted, else that which the run was trained in; set that of matrix products."""
    torch.set_float32_matmul_precision(choose_matmul_precision(config.trainer.matmul_precision, device)[0])
    return choose_precision(wanted or summary.get("precision") or config.precision, device)


def load_model(task: Task, state: dict[str, Any], path: Path) -> None:
    """Put the parameters and buffers of the checkpoint that `path` held into the task's model.

    Raises:
        UserError: the checkpoint belongs to another model, or to data of another shape.
    """
    if "task" in state:
        try:
            task.check_fits(state["task"])
        except (RuntimeError, TypeError, KeyError, ValueError) as error:
            raise UserError(f"{path} does not fit this model and data: {error}") from None
    load_parameters(task.model, state, path)
