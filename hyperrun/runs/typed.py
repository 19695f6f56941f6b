"""In which settings a run is not what its names stand for, and whether it is still the experiment whose published
figure it has."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from hyperrun.config import NOT_IN_HASH, WIDTHS
from hyperrun.runs.naming import setting
from hyperrun.runs.presets import EXCHANGEABLE, preset

NO_CHANGE = tuple(f"{key}{end}" for key in (*NOT_IN_HASH, "experiment", "seed", "sweep") for end in "=.")
"""How words of a command line begin that choose no other training."""

SAID_ELSEWHERE = {"data.name", "data.kind", "data.path", "data.root"}
"""Keys that a row does not name: the title has the data's name."""

ARCHITECTURE = ("model", "target", "hypernet", "params")
"""Groups and keys on which a parameter count depends."""

CLOSE = 0.01
"""How far a count may be from the printed one, which is rounded; those of conf/experiment are closer."""


def changed_words(command: str) -> list[str]:
    """Return what was typed beside the experiment's name and changes the training, which then is not the paper's."""
    return [word for word in _split(command) if not word.lstrip("+~").startswith(NO_CHANGE)]


def that_count(computed: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that others override: of several that say how long is trained the one that does."""
    lengths = [key for key in ("trainer.max_steps", "trainer.epochs", "data.epochs") if computed.get(key) is not None]
    return {key: value for key, value in computed.items() if key not in lengths[1:]}


def own_settings(
    summary: Mapping[str, Any], config: Mapping[str, Any], computed: Mapping[str, Any], experiment: str | None
) -> dict[str, str]:
    """Return key -> value of the settings in which a run is not what its names say: its experiment, or without one its
    model, and its data. A part that was exchanged (optim=sgd) has the key "optim.kind".

    Of names that are not hyperrun's (a preset, a data set or a network of one's own) nobody knows what they say: then
    of their settings those are told that were typed.

    Args:
        summary, config, computed: as in Run.
        experiment: that the run is called by.
    """
    kinds = tuple(str(computed.get(f"{group}.kind")) for group in EXCHANGEABLE)
    target_name = str(computed.get("target.name", kinds[0]))
    theirs = preset(str(config["model"]), experiment, str(config["data.name"]), kinds, target_name) or {}
    typed = _typed(summary, computed)
    found: dict[str, str] = {}
    for key, value in that_count(computed).items():
        if key in SAID_ELSEWHERE or key == "experiment" or (key == "model" and experiment is None):
            continue
        if key in theirs:
            if setting(value) != setting(theirs[key]):
                found[key] = setting(value)
        elif key in typed:
            found[key] = typed[key]
    if config.get("params") is not None:  # and that chose the width
        width = next((key for name in WIDTHS if (key := f"target.{name}") in computed), None)
        chosen = {width, "target.embedding"} if computed.get("target.tied") else {width}
        found = {key: text for key, text in found.items() if key not in chosen}
        found["params"] = setting(config["params"])
    return found


def _typed(summary: Mapping[str, Any], computed: Mapping[str, Any]) -> dict[str, str]:
    """Return key -> value of the settings that were typed."""
    found: dict[str, str] = {}
    for word in changed_words(str(summary.get("command", ""))):
        key = word.lstrip("+~").partition("=")[0]
        key = f"{key}.kind" if f"{key}.kind" in computed else key
        if key in computed:
            found[key] = setting(computed[key])
    return found


def _split(command: str) -> list[str]:
    """Return the words behind `hyperrun train`."""
    try:
        return shlex.split(command)[2:]
    except ValueError:  # of a summary that somebody wrote by hand
        return []


def has_papers_count(summary: Mapping[str, Any], part: str | None, changed: Iterable[str]) -> bool:
    """Return whether a run has as many parameters as the paper prints: then the printed figure can stand beside it.

    part: the one parameter that the printed count is about, None for the whole model. A summary does not count it, but
    it is the paper's as long as nothing of the network is; so it is where the paper prints no count. changed: keys in
    which the run is not its experiment, words that were typed (KEY=VALUE) as well.
    """
    printed = summary.get("paper/params")
    if printed is not None or "paper/value" not in summary:
        if not isinstance(printed, int) or printed < 1:
            return False
        if part is None:
            return abs(summary["params/trainable"] / printed - 1) <= CLOSE
    keys = (word.lstrip("+~").partition("=")[0].partition(".")[0] for word in changed)
    return not any(key in ARCHITECTURE for key in keys)
