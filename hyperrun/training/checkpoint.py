"""Checkpoints: written beside and renamed, read with weights_only, with the one before kept as a fall-back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from hyperrun.errors import UserError

FORMAT = 1
"""Raised when what is in a checkpoint changes so that older ones cannot be read."""


def save(path: Path, state: dict[str, Any], keep_previous: bool = False) -> None:
    """Write `state` so that `path` always holds a whole checkpoint, also after a crash or a power cut.

    keep_previous: the file that stood there becomes `previous.pt` beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        if keep_previous and path.exists():
            os.replace(path, previous(path))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    return path.with_name("previous.pt")


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint. Nothing in the file is executed (weights_only).

    Raises:
        UserError: the file is missing, damaged, or no checkpoint of hyperrun's.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except Exception as error:  # damaged bytes make torch.load raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged or no checkpoint: {reason[:120]}") from None
    if not isinstance(state, dict) or "format" not in state or "model" not in state:
        raise UserError(f"{path} is no checkpoint of hyperrun's")
    if state["format"] != FORMAT:
        raise UserError(f"{path} has checkpoint format {state['format']}; this hyperrun reads format {FORMAT}")
    return state


def load_latest(folder: Path, device: torch.device | str) -> tuple[dict[str, Any] | None, str | None]:
    """Return the state to go on from (None to start afresh) and a warning if the last checkpoint could not be used."""
    last = folder / "last.pt"
    warning = None
    for path in (last, previous(last)):
        if path.exists():
            try:
                return load(path, device), warning
            except UserError as error:
                warning = f"{error}; going back to the checkpoint before it"
    if warning:
        warning = warning.replace("going back to the checkpoint before it", "there is none before it: starting afresh")
    return None, warning
