"""A command line handed to Hydra: it composes, and calls a job; what is wrong with the line is said in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import hydra
from omegaconf import DictConfig

from hyperrun.conf_dir import CONF_DIR
from hyperrun.errors import SweepFailed, UserError
from hyperrun.hydra_app.compose import composing
from hyperrun.hydra_app.explain import explain
from hyperrun.hydra_app.overrides import quiet_other_ranks, sweep_group
from hyperrun.hydra_app.plugins import import_plugins
from hyperrun.hydra_app.replaced import VERSION_BASE, replaced


def through_hydra(argv: list[str], job: Callable[[DictConfig], Any], within: AbstractContextManager[None]) -> None:
    """Let Hydra compose what a command line says and call a job for it, within a context that may do otherwise.

    job: a function at the top of a module, by whose name launchers find it in their processes.

    Raises:
        UserError: whatever is wrong with the line, in Hydra's eyes or ours.
        SweepFailed: some jobs of a sweep failed.
    """
    import_plugins(argv)
    sys.argv = ["hyperrun", *argv, *quiet_other_ranks()]  # one word: Hydra's completion script looks for it
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors to us, who know how to say them in one line
    os.environ.setdefault("HYPERRUN_SWEEP", sweep_group(argv))
    try:
        with composing(), one_line_arguments(), within:
            hydra.main(version_base=VERSION_BASE, config_path=str(CONF_DIR), config_name="train")(job)()
    except SweepFailed:
        raise
    except Exception as error:
        message = explain(error, argv)
        if message is None:
            raise
        raise UserError(message) from None


def one_line_arguments() -> AbstractContextManager[None]:
    """Within this block, what argparse finds wrong with Hydra's own options is one line, too."""

    def error(self: argparse.ArgumentParser, message: str) -> NoReturn:
        raise UserError(f"{message} (hyperrun train --hydra-help)")

    return replaced(argparse.ArgumentParser, "error", error)
