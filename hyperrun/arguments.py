"""Ordinary flags, with mistakes answered in one line like every other mistake."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NoReturn

from hyperrun.errors import UserError, nearest


class Arguments(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are UserErrors that name the nearest option."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        options = [o for action in self._actions for o in action.option_strings if o.startswith("--")]
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        hint = nearest(unknown.group(1).partition("=")[0], options) if unknown else ""
        raise UserError(f"{message}{hint} ({self.prog} --help)")


def expanded(typed: str) -> Path:
    """Return a path with ~ as the home folder: of --out=~/x, or from a program, no shell has expanded it."""
    return Path(typed).expanduser()
