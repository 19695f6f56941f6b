"""Places that a user names, and the home folder in them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hyperrun.errors import UserError


def expanded(typed: str | Path) -> Path:
    """Return a path with ~ as the home folder: of --out=~/x, or from a program, no shell has expanded it.

    Raises:
        UserError: there is no such home folder.
    """
    try:
        return Path(typed).expanduser()
    except RuntimeError:
        raise UserError(f"{typed}: no home folder is known ($HOME is not set); write the whole path") from None


def cache_folder() -> Path:
    """Return the user's folder for what can be had again; without a home folder (a container's --user) a temporary
    one, which is this user's alone."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
