"""What a fair comparison has equal in all rows (length, data check, precision, hardware), and whether it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperrun.runs.reading import Run, is_number

MARK = "†"
"""Stands behind the name of what was not trained as most of the others were."""

NOT_CHECKED = "not checked"

LENGTHS = ("trainer.epochs", "trainer.max_steps")
"""Settings that are said in full as the aspect "length"."""


@dataclass(frozen=True)
class Unequal:
    """Something in which the rows of a table differ."""

    what: str
    """A key of ASPECTS."""
    most: str
    """What most rows have."""
    others: list[str]
    """What the other rows have, which are marked."""

    def __str__(self) -> str:
        return f"{self.what}: {self.most}, {MARK} {f', {MARK} '.join(self.others)}"


@dataclass(frozen=True)
class Alike:
    """What the rows of a table have in common."""

    shared: list[str] = field(default_factory=list)
    """Settings of their own that all have, and what else is equal."""
    unequal: list[Unequal] = field(default_factory=list)
    marks: list[tuple[str, ...]] = field(default_factory=list)
    """For each row in which aspects it differs from most of the others."""

    @property
    def note(self) -> str:
        """What is said below a table whose rows are not alike; nothing where they are."""
        if not self.unequal:
            return ""
        return f"{MARK} unlike most of these in {'; in '.join(map(str, self.unequal))}"


def alike(rows: Sequence[Sequence[Run]], settings: Sequence[dict[str, str]]) -> Alike:
    """Return what rows have in common, the best first; each is the runs of one config.

    settings: those in which each is not what its name says (Group.settings).
    """
    in_all = {key: text for key, text in shared_settings(settings).items() if key not in LENGTHS}
    shared = [f"{key.removesuffix('.kind')}={text}" for key, text in in_all.items()]
    unequal, marks = [], [()] * len(rows)
    for what, say in ASPECTS.items():
        said = [say(runs) for runs in rows]
        known = [one for one in said if one is not None]
        counts = Counter(key for key, _ in known)
        if len(counts) > 1:
            # of several equally frequent ones that of the best row; but data are checked as a rule
            most = (True,) if what == "data check" else max(counts, key=lambda key: counts[key])
            texts = dict(reversed(known))
            unequal.append(Unequal(what, texts[most], [text for key, text in texts.items() if key != most]))
            differing = [one is not None and one[0] != most for one in said]
            marks = [(*m, what) if differs else m for m, differs in zip(marks, differing, strict=True)]
        elif len(known) == len(rows) and known and known[0][1]:
            if what != "data check" or known[0][1] == NOT_CHECKED:
                shared.append(f"data {NOT_CHECKED} (data.verify=false)" if what == "data check" else known[0][1])
    return Alike(shared, unequal, marks)


def shared_settings(settings: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return the settings that all rows have of their own, with the same value."""
    first, *others = settings
    return {key: text for key, text in first.items() if all(row.get(key) == text for row in others)}


# ---------------------------------------------------------------- what has to be equal


def length(runs: Sequence[Run]) -> tuple[Any, str] | None:
    """Return how long was trained: "30 epochs", "100 steps (0.28 epochs)", "12 to 17 of 30 epochs"."""
    asked = runs[0].computed
    epochs, steps = asked.get("trainer.epochs") or asked.get("data.epochs"), asked.get("trainer.max_steps")
    per_step = next((e / s for e, s in map(_done, runs) if e and s), None)
    if isinstance(steps, int):
        passes = steps * per_step if per_step else None
        text = counted(steps, "step") + (f" ({counted(passes, 'epoch')})" if passes else "")
        return (("steps", steps) if passes is None else ("epochs", f"{passes:.3g}")), text
    if not isinstance(epochs, int):
        return None
    text = counted(epochs, "epoch")
    if asked.get("trainer.patience") is not None:  # some may have ended earlier
        done = sorted({e for e, _ in map(_done, runs) if e})
        if done and done[0] < 0.999 * epochs:
            ends = [f"{e:.3g}" for e in (done[0], done[-1])]
            text = f"{' to '.join(dict.fromkeys(ends))} of {text}"
    return ("epochs", f"{epochs:.3g}"), text


def counted(number: float, what: str) -> str:
    """Return "1 epoch", "0.28 epochs", "2,000 steps"."""
    text = f"{number:,}" if isinstance(number, int) else f"{number:,.3g}"
    return f"{text} {what}{'' if text == '1' else 's'}"


def _done(run: Run) -> tuple[float | None, float | None]:
    """Return epochs and steps that a run took; None for what is not known."""
    epochs, steps = run.summary.get("epochs"), run.summary.get("steps")
    return (epochs if is_number(epochs) else None), (steps if is_number(steps) else None)  # pyright: ignore[reportReturnType]


def data_check(runs: Sequence[Run]) -> tuple[Any, str] | None:
    """Return whether the data were the published ones; None where nothing is published to check them against."""
    said = [run.summary.get("data/verified") for run in runs]
    if not any(isinstance(one, bool) for one in said):
        return None
    return ((True,), "checked") if False not in said else ((False,), NOT_CHECKED)


def precision(runs: Sequence[Run]) -> tuple[Any, str] | None:
    return _values([run.summary.get("precision") for run in runs])


def hardware(runs: Sequence[Run]) -> tuple[Any, str] | None:
    return _values([device(run) for run in runs])


def device(run: Run) -> str | None:
    """Return what a run was trained on: "2 x NVIDIA H200"."""
    processes, name = run.summary.get("processes", 1), run.summary.get("device")
    return f"{processes} x {name}" if name is not None and processes != 1 else name


def _values(found: Sequence[Any]) -> tuple[Any, str] | None:
    different = sorted({str(one) for one in found if one is not None})
    return (tuple(different), ", ".join(different)) if different else None


ASPECTS: dict[str, Callable[[Sequence[Run]], tuple[Any, str] | None]] = {
    "length": length,
    "data check": data_check,
    "precision": precision,
    "hardware": hardware,
}
"""Name -> what returns (a key that is equal where it is equal, its text) of the runs of a row; None where unknown."""
