"""--where KEY=VALUE: which runs are compared."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from hyperrun.errors import UserError, nearest
from hyperrun.runs.reading import Run, Runs

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """KEY, one of = != < <= > >=, VALUE. Numbers are compared as numbers."""

    key: str
    sign: str
    text: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read "hypernet.z_dim>=16".

        Raises:
            UserError: it is no condition, or orders by something that is not a number.
        """
        parts = re.fullmatch(r"\s*([^=<>!\s]+)\s*(==|!=|<=|>=|=|<|>)\s*(?![=<>!])(.*?)\s*", text)
        if parts is None:
            raise UserError(f"--where {text}: must be KEY=VALUE, or with one of != < <= > >= between them")
        key, sign, value = parts.groups()
        condition = cls(key, "=" if sign == "==" else sign, value)
        if sign in ORDER and number(value) is None:
            raise UserError(f"--where {text}: {sign} compares numbers, and '{value}' is none")
        return condition

    def holds(self, run: Run) -> bool:
        """Return whether it holds for a run; one without the key fulfils only a !=."""
        try:
            found = run.get(self.key)
        except KeyError:
            return self.sign == "!="
        if self.sign in ORDER:
            theirs, ours = number(found), number(self.text)
            return theirs is not None and ORDER[self.sign](theirs, ours)
        return self.equals(found) == (self.sign == "=")

    def equals(self, found: Any) -> bool:
        """Return whether a run's value is what was typed: 1e-3 is 0.001, null is no value, [16,16] a list."""
        if found is None or isinstance(found, bool):
            return self.text.lower() == {None: "null", True: "true", False: "false"}[found]
        if isinstance(found, list):
            return _listed(self.text) == found
        if isinstance(found, str):
            return self.text == found
        return number(self.text) == number(found)


def number(value: Any) -> float | None:
    """Return a number, or the number that a text is; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _listed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def filter_runs(runs: Runs, conditions: Iterable[Condition]) -> Runs:
    """Return the runs for which all conditions hold.

    Raises:
        UserError: a key that no run has, or nothing is left.
    """
    conditions = list(conditions)
    for condition in conditions:
        if not any(_has(run, condition.key) for run in runs.all):
            known = {key for run in runs.all for key in (*run.summary, *run.config)}
            raise UserError(
                f"--where {condition.key}{condition.sign}{condition.text}: no run has the key "
                f"'{condition.key}'{nearest(condition.key, sorted(known))}"
            )
    left = Runs(
        [run for run in runs.finished if all(condition.holds(run) for condition in conditions)],
        [run for run in runs.unfinished if all(condition.holds(run) for condition in conditions)],
        runs.warnings,
    )
    if not left.all:
        asked = " ".join(f"--where '{c.key}{c.sign}{c.text}'" for c in conditions)
        unmet = [c for c in conditions if not any(c.holds(run) for run in runs.all)]
        there = {str(run.get(c.key)) for c in unmet for run in runs.all if _has(run, c.key)}
        hint = next(filter(None, (nearest(c.text, sorted(there)) for c in unmet if c.sign == "=")), "")
        if not unmet:
            hint = "; each of these holds for some of them"
        raise UserError(f"none of {len(runs.all)} runs fulfils {asked}{hint}")
    return left


def _has(run: Run, key: str) -> bool:
    try:
        run.get(key)
    except KeyError:
        return False
    return True
