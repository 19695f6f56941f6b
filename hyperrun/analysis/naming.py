"""Settings in a few words: a name, and the values that tell it from others of that name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperrun.analysis.runs import Unreadable, read_run
from hyperrun.errors import UserError, printable

if TYPE_CHECKING:
    from hyperrun.trained import LoadedRun

Settings = Mapping[str, Any]
"""Dotted key of a config -> value."""

NAMES = ("model", "experiment")
"""Keys that name settings instead of being some."""

LONGEST = 40
"""Characters of one value in a label."""

LONGEST_LABEL = 48
"""Characters of the label of a run that is analyzed: it stands above panels."""


def labels(named: Sequence[tuple[str, Settings]]) -> list[str]:
    """Return the label of each (name, settings): its name, and the values in which it differs from others of that name.

    Two that differ in nothing get the same label.
    """
    together = defaultdict(list)
    for name, settings in named:
        together[name].append(settings)
    short = {name: shortest(differing_keys(settings)) for name, settings in together.items()}
    found = []
    for name, settings in named:
        values = [f"{word}={setting(settings[key])}" for key, word in short[name].items() if key in settings]
        found.append(printable(" ".join(v if len(v) <= LONGEST else f"{v[: LONGEST - 1]}…" for v in (name, *values))))
    return found


def labelled(runs: list[LoadedRun]) -> tuple[dict[str, LoadedRun], list[str]]:
    """Return a label for each run, one named twice taken once, and a note for each that is not finished.

    The label is the model's name (behind that of the data, where it is on several) and the settings in which it differs
    from others of that name, or the name of its folder where these are many or none.

    Raises:
        UserError: a folder is damaged.
    """
    folders = {run.folder.path.resolve(): run for run in runs}
    try:
        said = [read_run(path) for path in folders]
    except Unreadable as error:
        raise UserError(str(error)) from None
    pairs = [(folders[path].config.data.name, run.summary["model"]) for run, path in zip(said, folders, strict=True)]
    places = {model: len({data for data, other in pairs if other == model}) for _, model in pairs}
    names = [f"{data} {model}" if places[model] > 1 else model for data, model in pairs]
    settings = [{**run.computed, "seed": run.summary["seed"]} for run in said]
    short = labels(list(zip(names, settings, strict=True)))
    found: dict[str, LoadedRun] = {}
    notes = []
    for label, run, path in zip(short, said, folders, strict=True):
        if short.count(label) > 1 or len(label) > LONGEST_LABEL:
            label = printable(path.name)
        label = label if label not in found else printable(path)
        found[label], step = folders[path], folders[path].step
        if run.status != "finished":
            notes.append(f"{label}: not a finished run, {run.status}: {run.reason}; its checkpoint is of step {step}")
    return found, notes


def differing_keys(several: Iterable[Settings]) -> list[str]:
    """Return the keys, sorted, that have more than one value among the settings that have them."""
    values = defaultdict(set)
    for settings in several:
        for key, value in settings.items():
            values[key].add(setting(value))
    return sorted(key for key, found in values.items() if len(found) > 1 and key not in NAMES)


def shortest(keys: Sequence[str]) -> dict[str, str]:
    """Return key -> its last part, or all of it where another ends alike."""
    leaves = [key.rpartition(".")[2] for key in keys]
    return {key: leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)}


def setting(value: Any) -> str:
    """Return a value of a config as it is typed: null, true, [16,16]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(setting, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
