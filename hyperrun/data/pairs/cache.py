"""What is made of texts once and read ever after: a folder for each, named by what it was made from.

A folder is made beside its place and then renamed, by one process at a time; another that wants the same waits for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from hyperrun.data.sources import data_root, user_cache

FOLDER = "prepared_pairs"


def key_of(*parts: object) -> str:
    """Return 16 hexadecimal digits that differ where one of the parts does."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def cache_root(cfg_root: str | None) -> Path:
    """Return the folder for what was prepared: in the folder of data sets; in the user's cache where that one may not
    be written to; and if neither may, a temporary one for this process."""
    for root in (data_root(cfg_root), user_cache()):
        folder = root / FOLDER
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return temporary_root()


@cache
def temporary_root() -> Path:
    """Return a folder that is deleted when this process ends."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="hyperrun-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    print(f"no folder for prepared pairs can be written to: they are in {folder} until this run ends", file=sys.stderr)
    return folder


def kept(root: Path, key: str, make: Callable[[Path], object]) -> Path:
    """Return the folder root/key, which `make` fills where it is not there yet."""
    folder = root / key
    if folder.is_dir():
        return folder
    with alone(root):
        if folder.is_dir():  # made while this process waited
            return folder
        part = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".part", dir=root))
        try:
            make(part)
            part.chmod(0o755)  # of mkdtemp it has 0o700, and others may read the folder of data sets
            os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Within the block, this process is the only one that makes something in the folder `root`."""
    with (root / "lock").open("a") as stream:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that prepares pairs in {root}", file=sys.stderr)
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError:  # some network file systems know no locks: the work may be done twice
                yield
                return
            for left in root.glob("*.part"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        yield
