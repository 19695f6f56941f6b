"""What the user is told when something they can mend has gone wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what was asked for. The command line prints it as one line and exits with status 2.

    Anything that is not a UserError keeps its traceback: it is a defect of ours.
    """


class Held(UserError):
    """A run folder that another process is training in."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest allowed word, or an empty string when none is close."""
    candidates = list(allowed)
    match = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if not match:  # `depht` for `target.depth`: people forget the group more often than they misspell it
        by_last_part = {name.rsplit(".", 1)[-1]: name for name in candidates}
        close = difflib.get_close_matches(word.rsplit(".", 1)[-1], by_last_part, n=1, cutoff=0.75)
        match = [by_last_part[close[0]]] if close else []
    return f"; did you mean '{match[0]}'?" if match else ""


def choose(what: str, word: str, allowed: Iterable[str]) -> str:
    """Return `word` if it is allowed, otherwise raise a UserError that lists what is and names the nearest match."""
    names = sorted(allowed)
    if word in names:
        return word
    raise UserError(f"unknown {what} '{word}'{nearest(word, names)} (allowed: {listed(word, names)})")


def listed(word: str, names: list[str], most: int = 24) -> str:
    """Return the names joined by commas; of very many, only those closest to `word`, and how many there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(difflib.get_close_matches(word, names, n=8, cutoff=0.0))}, and {len(names) - 8} more"


def printable(text: object, keep: str = "") -> str:
    """Return text from a file, its name or a model, with U+FFFD for what would steer a terminal or break a line."""
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in str(text))


class RunFailed(Exception):
    """A run that cannot go on, for a reason the message explains (a loss that is not finite). Exit status 1."""


class Preempted(BaseException):
    """A run that saved and stopped because a signal asked it to. The same command goes on with it.

    Not an Exception: a sweep goes on after a job that failed, but not after a request to stop.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)  # both, so that it can be pickled
        self.message = message
        self.exit_status = 128 + signal_number

    def __str__(self) -> str:
        return self.message


class SweepFailed(Exception):
    """Jobs of a sweep failed; what was wrong with each has been said. Exit status 1."""
