"""How far a longer preparation is: a bar on a terminal, elsewhere a line now and then; nothing of a short one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Counted = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and how much there is."""

QUIET_S = 1.0
"""Seconds without a bar."""
LINE_EVERY_S = 10.0
"""Seconds between two lines, and before the first."""


@contextlib.contextmanager
def counted() -> Iterator[Counted]:
    """Show on stderr how far something is."""
    if not sys.stderr.isatty():
        yield lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks, begun = {}, time.monotonic()

    def update(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, total=total)
        if time.monotonic() - begun > QUIET_S:
            bars.start()

    try:
        yield update
    finally:
        bars.stop()


def lines() -> Counted:
    """Return what prints a line every LINE_EVERY_S seconds."""
    last = time.monotonic()

    def update(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr)

    return update
