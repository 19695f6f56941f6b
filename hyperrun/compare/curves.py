"""Groups that differ in one number of the hypernet (z_dim, chunk_size): the points of a curve."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from hyperrun.compare.groups import Group
from hyperrun.runs.naming import setting
from hyperrun.runs.reading import is_number

FEWEST = 3
"""Points of a curve; two runs are a comparison."""


@dataclass(frozen=True)
class Curve:
    key: str
    """The config's key whose value differs, "hypernet.z_dim"."""
    groups: list[Group]
    """In order of its value."""

    def label(self, group: Group) -> str:
        """Return what tells a group from the others of the curve: "z_dim=4"."""
        return f"{self.key.rpartition('.')[2]}={setting(group.computed[self.key])}"


def find_curves(groups: Iterable[Group]) -> list[Curve]:
    """Return the curves among groups of one comparison; a group of a grid over two numbers is on two of them."""
    found: defaultdict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in groups:
        for key, value in group.computed.items():
            if key.startswith("hypernet.") and is_number(value):
                others = {name: other for name, other in group.computed.items() if name != key}
                found[key, json.dumps(others, sort_keys=True, default=str)].append(group)
    return [
        Curve(key, sorted(same, key=lambda group: group.computed[key]))
        for (key, _), same in found.items()
        if len(same) >= FEWEST
    ]
