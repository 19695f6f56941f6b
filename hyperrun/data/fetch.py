"""Fetching the published files of a data set: those that are missing, with what is shown meanwhile."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hyperrun.data import data_root, source_of
from hyperrun.data.download import Progress, fetch, unpack
from hyperrun.data.sources import OK, Source, check
from hyperrun.errors import UserError

LINE_EVERY_S = 10.0
"""Seconds between two lines about a download where there is no terminal to draw a bar on."""


def fetch_if_missing(name: str, cfg_root: str | None) -> None:
    """Fetch a data set of which nothing is there, as `hyperrun train` does before it reads it.

    Not into a folder named by data.root: a mistyped path is likelier than a wish to fill it.

    Raises:
        UserError: no network; says where to put the files by hand.
    """
    source, root = source_of(name), data_root(None)
    if source is None or cfg_root is not None:
        return
    if any(check(form, root, checksums=False).found for form in source.forms):
        return  # complete or not: what is there is for the reader to judge
    if not source.by_hand:
        print(f"{name} is not in {root}: fetching it", file=sys.stderr)
    download(source, root)


def download(source: Source, root: Path) -> None:
    """Fetch what is needed to make the first form complete; nothing where some form is there, as published.

    Raises:
        UserError: a set that hyperrun does not fetch; what arrives cannot be used.
    """
    if any(check(form, root).status == OK for form in source.forms):
        return
    if source.by_hand:
        raise UserError(f"hyperrun does not fetch {source.name} into {root}: {source.by_hand}")
    with progress_shown() as progress:
        for item in source.downloads:
            path = fetch(item, root, progress)
            if item.unpack is not None:
                unpack(path, item.unpack, root)


@contextlib.contextmanager
def progress_shown() -> Iterator[Progress]:
    """Show downloads on stderr: a bar on a terminal, otherwise a line at the start, now and then, and at the end."""
    if not sys.stderr.isatty():
        yield plain_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks = {}

        def update(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield update


def plain_lines() -> Progress:
    """Return a Progress that prints a line at most every LINE_EVERY_S seconds, and one when a file is whole."""
    last: dict[str, float] = {}

    def update(name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total or now - last.get(name, -LINE_EVERY_S) >= LINE_EVERY_S:
            last[name] = now
            of = f" of {in_words(total)}" if total else ""
            print(f"{name}: {in_words(done)}{of}", file=sys.stderr)

    return update


def in_words(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB" if size >= 2**10 else f"{size} B"
