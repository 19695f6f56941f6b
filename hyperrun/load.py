"""A run's model, ready for use: `load_run("outputs/digits/hypercnn-s0-3a1ade54").model(images)`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hyperrun.config import Config, ImageData, TaskData, TextData
from hyperrun.data import Inputs, Vocabulary, images_to_train_on, inputs_of
from hyperrun.errors import UserError
from hyperrun.hypernets import with_hypernet, with_latents, with_task_hypernet
from hyperrun.runs.folder import RunFolder, find_run
from hyperrun.targets import IMPLICIT_TARGETS, build_implicit_target, build_language_target, build_target
from hyperrun.training import checkpoint
from hyperrun.training.ema import EMA


@dataclass(frozen=True)
class LoadedRun:
    """What a run folder holds."""

    model: nn.Module
    """The trained model, in eval mode: of images, normalized as in training, float [B, C, H, W] -> logits [B, classes];
    of tasks, of such images and the number of their task, int64 [B] (or [1] for all);
    of a SIREN, coordinates [B, P, 2] and latents [B, z_dim] or numbers of training images [B] -> colours [B, P, C];
    of text, token ids int64 [B, T] -> (logits [B, T, vocabulary], state)."""
    config: Config
    summary: dict[str, Any]
    """summary.json: parameter counts, metrics, where and how it was trained."""
    vocabulary: Vocabulary | None
    """Of a run on text."""
    folder: RunFolder
    checkpoint: str
    """"best" or "last"."""
    step: int | None
    """Optimizer steps that made its weights; None where the checkpoint does not say."""


def load_run(run: str | Path, which: str = "best", device: torch.device | str = "cpu") -> LoadedRun:
    """Return the model of a run folder with the weights of its selected checkpoint, and what is known of the run.

    run: the folder, or a file in it. which: "best", the selected checkpoint, or "last". The data set is not read,
    except to learn the shape of a set that hyperrun does not know.

    Raises:
        UserError: no run folder, a damaged or foreign checkpoint.
    """
    folder = find_run(str(run))
    config = folder.read_config()
    path = folder.checkpoints / f"{which}.pt"
    last = folder.checkpoints / "last.pt"
    if which == "best" and not path.exists() and last.exists():
        raise UserError(f"there is no checkpoint {path}, but there is {last.name} (--checkpoint last)")
    state = checkpoint.load(path, device)
    vocabulary = None
    if isinstance(config.data, TextData):
        try:
            vocabulary = Vocabulary.from_state_dict(state["task"]["vocabulary"])
        except (KeyError, TypeError):
            raise UserError(f"{path} is not of a run on text") from None
    model = build_model(config, inputs_of(config.data) if vocabulary is None else len(vocabulary)).to(device)
    load_parameters(model, state, path)
    step = state.get("step", state.get("loop", {}).get("step"))
    return LoadedRun(model.eval(), config, folder.read_summary() or {}, vocabulary, folder, which, step)


def build_model(config: Config, inputs: Inputs) -> nn.Module:
    """Return the model that a config describes, for data of these shapes, with its own initialization.

    Raises:
        UserError: the model does not fit the data.
    """
    if isinstance(inputs, int):
        return with_hypernet(config.hypernet, build_language_target(config.target, inputs))
    channels, size, classes = inputs
    if config.target.kind in IMPLICIT_TARGETS and not isinstance(config.data, TaskData):
        assert isinstance(config.data, ImageData)
        target = build_implicit_target(config.target, channels, size)
        return with_latents(config.hypernet, target, images_to_train_on(config.data))
    target = build_target(config.target, channels, classes, size)
    if isinstance(config.data, TaskData) and config.hypernet.kind != "none":
        return with_task_hypernet(config.hypernet, target, config.data.tasks)
    return with_hypernet(config.hypernet, target)


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
