"""Checkpoints: written beside and renamed, read with weights_only, with the one before kept as a fall-back."""

from __future__ import annotations

import io
import os
import zipfile
from contextlib import suppress
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
    content = io.BytesIO()  # torch.save to a full disk raises a RuntimeError about positions instead of the OSError
    torch.save({"format": FORMAT, **state}, content)
    try:
        with open(beside, "wb") as file:
            file.write(content.getbuffer())
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
        content = io.BytesIO(path.read_bytes())
        damaged = zipfile.ZipFile(content).testzip()  # torch.load does not look at the checksums that torch.save wrote
        if damaged is not None:
            raise ValueError(f"checksum of {damaged} differs")
        content.seek(0)
        state = torch.load(content, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is damaged or no checkpoint: it is a folder") from None
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise  # a drive that hiccups or a full GPU says nothing about the file
    except Exception as error:  # damaged bytes make torch.load raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged or no checkpoint: {reason[:120]}") from None
    if not isinstance(state, dict) or type(state.get("format")) is not int or not isinstance(state.get("model"), dict):
        raise UserError(f"{path} is no checkpoint of hyperrun's")
    if state["format"] != FORMAT:
        raise UserError(f"{path} has checkpoint format {state['format']}; this hyperrun reads format {FORMAT}")
    return state


def load_latest(folder: Path, device: torch.device | str) -> tuple[dict[str, Any] | None, str | None]:
    """Return the state to go on from (None to start afresh) and a warning if the last checkpoint could not be used.

    One that cannot be used is renamed to last.damaged, so that it never takes the place of the good one before it.
    """
    last = folder / "last.pt"
    warning = None
    for path in (last, previous(last)):
        if path.exists():
            try:
                return load(path, device), warning
            except UserError as error:
                if "checkpoint format" in str(error):
                    raise  # whole, and of another version: not to be thrown away
                warning = f"{error}; going back to the checkpoint before it"
                with suppress(FileNotFoundError):  # another process of the run was quicker
                    os.replace(path, path.with_suffix(".damaged"))
    if warning:
        warning = warning.replace("going back to the checkpoint before it", "there is none before it: starting afresh")
    return None, warning
