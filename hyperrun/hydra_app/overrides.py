"""What a command line's overrides say, read by Hydra's grammar alone: nothing is composed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from hyperrun.errors import UserError


def first_job(overrides: Iterable[str]) -> list[str]:
    """Return the overrides of a sweep's first job, as far as they can be told from the line alone."""
    first = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_choice_sweep() or override.is_range_sweep():
            key = str(override.input_line).partition("=")[0]
            first.append(f"{key}={next(iter(override.sweep_string_iterator()))}")
        elif not override.is_sweep_override():
            first.append(override.input_line)
    return first


def refuse_study(typed: Iterable[str]) -> None:
    """Raise a UserError where a study was asked for without -m: one job of it would be trained."""
    for word in typed:
        if word.startswith("sweep=") and word not in ("sweep=", "sweep=null"):
            raise UserError(f"{word} is many jobs: hyperrun train -m {word}")


def typed_overrides(context: Any) -> list[str]:
    """Return what was typed, interpolations as they stand (read one by one, they would be resolved)."""
    raw = OmegaConf.to_container(context.overrides.task, resolve=False)
    assert isinstance(raw, list)
    return [str(override) for override in raw]


def sweep_group(argv: list[str]) -> str:
    """Return a name for a sweep that is the same whenever the same line is typed."""
    return "sweep-" + hashlib.sha256(" ".join(argv).encode()).hexdigest()[:8]


def quiet_other_ranks() -> list[str]:
    """Return overrides that keep Hydra from writing and logging in every process that torchrun starts but the first."""
    if os.environ.get("RANK", "0") == "0":
        return []
    return ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"]
