"""The user's modules, named on the command line: plugins=[a,b], --plugins a,b."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable

from hyperrun.errors import UserError


def import_plugins(argv: Iterable[str]) -> None:
    """Import the modules of plugins=[a,b] from the command line (only from there: a saved config names no code).

    Raises:
        UserError: a module that cannot be imported.
    """
    for word in argv:
        key, _, value = word.partition("=")
        if key.lstrip("+") != "plugins":
            continue
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # a console script does not look in the folder where it is typed
        for name in filter(None, (part.strip(" '\"") for part in value.strip("[]").split(","))):
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise UserError(f"plugins: cannot import {name} ({error})") from None
