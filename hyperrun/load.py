"""A run's model, ready for use: `load_run("outputs/digits/hypercnn-s0-3a1ade54").model(images)`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hyperrun.config import Config
from hyperrun.data import TextData, Vocabulary, inputs_of
from hyperrun.errors import UserError
from hyperrun.inputs import Inputs, Symbols
from hyperrun.models import build_model
from hyperrun.runs.folder import RunFolder, find_run
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
    inputs: Inputs
    """What the data that it was trained on look like."""
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
    inputs = inputs_of(config.data) if vocabulary is None else Symbols(len(vocabulary))
    model = build_model(config, inputs).to(device)
    load_parameters(model, state, path)
    step = state.get("step", state.get("loop", {}).get("step"))
    return LoadedRun(model.eval(), config, folder.read_summary() or {}, vocabulary, folder, which, inputs, step)


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
