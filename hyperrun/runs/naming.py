"""Settings in a few words: a name, and the values that tell it from others of that name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperrun.errors import printable

Settings = Mapping[str, Any]
"""Dotted key of a config -> value."""

NAMES = ("model", "experiment")
"""Keys that name settings instead of being some."""

NETWORK = ("target.", "hypernet.")
"""How keys begin that say what a network is."""

LONGEST = 40
"""Characters of one value in a label."""


def labels(named: Sequence[tuple[str, Settings]], own: Sequence[Mapping[str, str]] = ()) -> list[str]:
    """Return the label of each (name, settings): its name, and values that tell it from others of that name.

    own: settings of each, as text, in which it is not what its name says: its label has these. Of a key of the network
    the others of the name have their value, too, where at least half of them have one of their own. Where that leaves
    two alike, or where nothing is given, labels have all values that differ within the name. Two that differ in
    nothing get the same label.
    """
    own = own or [{}] * len(named)
    together = defaultdict(list)
    for (name, settings), words in zip(named, own, strict=True):
        together[name].append((settings, words))
    beside = {name: _beside(these) for name, these in together.items()}
    short = {
        name: shortest(sorted({*beside[name], *(key for _, words in these for key in words)}))
        for name, these in together.items()
    }
    found = []
    for (name, settings), words in zip(named, own, strict=True):
        told = {key: setting(settings[key]) for key in beside[name] if settings.get(key) is not None} | dict(words)
        values = [f"{word}={told[key]}" for key, word in short[name].items() if key in told]
        found.append(printable(" ".join(v if len(v) <= LONGEST else f"{v[: LONGEST - 1]}…" for v in (name, *values))))
    return found


def _beside(these: Sequence[tuple[Settings, Mapping[str, str]]]) -> list[str]:
    """Return the keys that labels of one name have beside the settings of their own."""
    if len({tuple(sorted(words.items())) for _, words in these}) < len(these):
        return differing_keys(settings for settings, _ in these)
    counts = Counter(key for _, words in these for key in words)
    return [key for key, count in counts.items() if key.startswith(NETWORK) and 2 * count >= len(these)]


def differing_keys(several: Iterable[Settings]) -> list[str]:
    """Return the keys, sorted, that have more than one value among the settings that have them."""
    values = defaultdict(set)
    for settings in several:
        for key, value in settings.items():
            values[key].add(setting(value))
    return sorted(key for key, found in values.items() if len(found) > 1 and key not in NAMES)


def shortest(keys: Sequence[str]) -> dict[str, str]:
    """Return key -> its last part, or all of it where another ends alike; of the kind of a part the part's name."""
    leaves = [key.removesuffix(".kind").rpartition(".")[2] for key in keys]
    return {key: leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)}


def setting(value: Any) -> str:
    """Return a value of a config as it is typed: null, true, [16,16]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(setting, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
