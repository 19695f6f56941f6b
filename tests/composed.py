"""compose_config for tests that only want a config: a line that several of them type is composed once."""

from __future__ import annotations

import copy
import functools

from hyperrun.config import Config
from hyperrun.hydra_app import compose


@functools.cache
def _composed(line: tuple[str, ...]) -> Config:
    return compose.compose_config(list(line))


def compose_config(overrides: list[str]) -> Config:
    """Return what hyperrun.hydra_app.compose.compose_config does, for lines that need no file and no plugin of one's
    own: each caller gets a copy."""
    return copy.deepcopy(_composed(tuple(overrides)))
