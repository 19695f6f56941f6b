"""Fetching a published file: resumable, verified, and only then under its final name.

Bytes go into FILE.part. A transfer that breaks off is taken up again where it stopped (HTTP Range), now and when the
command is typed again; the md5 decides whether the file is kept.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from hyperrun.data.sources import Download, md5_of, unreadable
from hyperrun.errors import UserError

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are here, and those of the whole (None where the server is silent)."""

TRIES = 3
"""Transfers begun per address before the next one is tried."""
PAUSE_S = 1.0
"""Seconds between a transfer that broke off and the next try."""
TIMEOUT_S = 30.0
"""Seconds without an answer that count as none."""
CHUNK = 1 << 18
"""Bytes between two calls of Progress, at most."""


class _Failed(Exception):
    """A transfer that brought nothing usable; `again` says whether the same address is worth another try."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def fetch(item: Download, root: Path, progress: Progress) -> Path:
    """Bring `item` into `root`, unless the published file is already there, and return its path.

    Raises:
        UserError: no address could be reached or had the published file, or the disk cannot take it; what has arrived
            so far stays in FILE.part for the next try.
    """
    target = root / item.path
    if target.is_file() and md5_of(target) == item.md5:
        return target
    part = target.with_name(target.name + ".part")
    reasons = []
    with _writable(part) as stream:
        for url in item.urls:
            reason = _from_address(url, stream, part, item.md5, progress)
            if reason is None:
                os.replace(part, target)
                return target
            reasons.append(reason)
        kept = stream.seek(0, os.SEEK_END)
    if not kept:
        part.unlink()
    goes_on = f", or type the same command again to go on after the {kept:,} bytes received" if kept else ""
    unpacked = " and type the same command again, which unpacks it" if item.unpack else ""
    raise UserError(
        f"cannot fetch {target.name}: {'; '.join(reasons)}; put it into {target.parent} by hand "
        f"(its md5 is {item.md5}){unpacked}{goes_on}"
    )


def _from_address(url: str, stream: FileIO, part: Path, md5: str, progress: Progress) -> str | None:
    """Try one address; return None when `part` is the published file, else why it is not."""
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S)
        resumed = stream.seek(0, os.SEEK_END) > 0
        try:
            _transfer(url, stream, part, progress)
        except _Failed as failure:
            reason = str(failure)
            if not failure.again:
                return reason
            continue
        if md5_of(part) == md5:
            return None
        stream.truncate(0)
        reason = f"{_host(url)} sent a file whose md5 is not the published one, which was deleted"
        if not resumed:  # else what was here before may be to blame: once more from the start
            return reason
    return reason


def _transfer(url: str, stream: FileIO, part: Path, progress: Progress) -> None:
    """Append what is missing of `url` to the stream, or start over where the server cannot resume."""
    have = stream.seek(0, os.SEEK_END)
    headers = {"User-Agent": "hyperrun", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing follows what is here: the md5 says whether it is the whole
            return
        raise _Failed(f"{_host(url)} answered {error.code} {error.reason}", again=error.code >= 500) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Failed(f"{_host(url)} could not be reached ({_reason(error)})", again=False) from None
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            stream.truncate(0)
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        broken = ""
        while True:
            try:
                chunk = response.read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                broken = f" ({_reason(error)})"
                break
            if not chunk:
                break
            _write(stream, chunk, part)
            have += len(chunk)
            progress(part.name.removesuffix(".part"), have, total)
    if broken or (total is not None and have < total):
        raise _Failed(f"the transfer from {_host(url)} broke off{broken}", again=True)


def _write(stream: FileIO, chunk: bytes, part: Path) -> None:
    left = memoryview(chunk)
    try:
        while left:
            left = left[stream.write(left) :]
    except OSError as error:
        raise _unwritable(part, error) from None


@contextlib.contextmanager
def _writable(part: Path) -> Iterator[FileIO]:
    """Open FILE.part for appending, unbuffered, for this process alone."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = FileIO(part, "a+")
    except OSError as error:
        raise _unwritable(part, error) from None
    with stream:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is fetching {part} at the moment: wait for it to end") from None
            except OSError:  # some network file systems know no locks
                pass
        yield stream


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror or error}")


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return " ".join(text.split()) or type(cause).__name__


def unpack(archive: Path, folder: str, root: Path) -> None:
    """Unpack what the archive holds under FOLDER into ROOT/FOLDER, by way of a temporary folder beside it.

    Only regular files with plain names are taken: no links, no devices, nothing outside FOLDER. Files of the same name
    are replaced, others in the folder stay.

    Raises:
        UserError: the archive is damaged or holds no such folder, or the disk cannot take it.
    """
    final = root / folder
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{folder}-") as temporary:
            _extract(archive, folder, Path(temporary))
            fresh = Path(temporary) / folder
            if not final.exists():
                os.replace(fresh, final)
                return
            for path in sorted(fresh.rglob("*")):
                to = final / path.relative_to(fresh)
                to.mkdir(exist_ok=True) if path.is_dir() else os.replace(path, to)
    except OSError as error:
        raise _unwritable(final, error) from None


def _extract(archive: Path, folder: str, into: Path) -> None:
    # By hand rather than with tarfile's filter="data", which Debian 12's Python 3.11.2 does not have.
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None or name.is_absolute() or ".." in name.parts or name.parts[:1] != (folder,):
                    continue
                path = into.joinpath(*name.parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as out:
                    while chunk := stream.read(CHUNK):
                        out.write(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError) as error:
        raise unreadable(archive, error) from None
    if not (into / folder).is_dir():
        raise UserError(f"{archive} does not hold the folder {folder}")
