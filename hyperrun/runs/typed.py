"""What was typed beside the names of presets, and whether a run is still the experiment whose published figure it has.

The command of a run stands in its summary.json; what a preset says today may be something else than it said then.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from hyperrun.config import NOT_IN_HASH
from hyperrun.runs.naming import setting

NO_CHANGE = tuple(f"{key}{end}" for key in (*NOT_IN_HASH, "experiment", "seed", "sweep") for end in "=.")
"""How words of a command line begin that choose no other training."""

SAID_ELSEWHERE = {"data", "precision", "data.verify"}
"""Keys that a row does not name: the title has the data's name, and the others have columns of their own."""

ARCHITECTURE = ("model", "target", "hypernet", "params")
"""Groups and keys on which a parameter count depends."""

CLOSE = 0.01
"""How far a count may be from the printed one, which is rounded; those of conf/experiment are closer."""


def changed_words(command: str) -> list[str]:
    """Return what was typed beside the experiment's name and changes the training, which then is not the paper's."""
    return [word for word in _split(command) if not word.lstrip("+~").startswith(NO_CHANGE)]


def typed_settings(summary: Mapping[str, Any], computed: Mapping[str, Any]) -> dict[str, str]:
    """Return key -> value of the settings that were typed, and that neither the run's name nor its data's name says.

    summary, computed: as in Run. A part that was exchanged (optim=sgd) has the key "optim.kind".
    """
    command = str(summary.get("command", ""))
    named: set[str] = (
        set() if summary.get("experiment") else {"model", "target", "hypernet"}
    )  # resnet, or chunked-wide_resnet
    words = [*changed_words(command), *(word for word in _split(command) if word.startswith("params="))]
    found: dict[str, str] = {}
    for word in words:
        key, _, text = word.lstrip("+~").partition("=")
        if key in SAID_ELSEWHERE or key in named:
            continue
        if f"{key}.kind" in computed:
            found[f"{key}.kind"] = setting(computed[f"{key}.kind"])
        else:
            found[key] = setting(computed[key]) if key in computed else text
    return found


def _split(command: str) -> list[str]:
    """Return the words behind `hyperrun train`."""
    try:
        return shlex.split(command)[2:]
    except ValueError:  # of a summary that somebody wrote by hand
        return []


def has_papers_count(summary: Mapping[str, Any], part: str | None) -> bool:
    """Return whether a run has as many parameters as the paper prints: then the printed figure can stand beside it.

    part: the one parameter that the printed count is about, None for the whole model. A summary does not count it, but
    it is the paper's as long as nothing of the network was typed; so it is where the paper prints no count.
    """
    printed = summary.get("paper/params")
    no_count = printed is None and "paper/value" in summary
    if not no_count and (not isinstance(printed, int) or printed < 1):
        return False
    if part is None and not no_count:
        return abs(summary["params/trainable"] / printed - 1) <= CLOSE
    words = changed_words(str(summary.get("command", "")))
    keys = [word.lstrip("+~").partition("=")[0].partition(".")[0] for word in words]
    return not any(key in ARCHITECTURE for key in keys)
