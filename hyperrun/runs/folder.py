"""The folder of a run: named by what the run is, held by one process at a time, never half-written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import struct
import sys
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hyperrun.config import Config, from_omegaconf, run_hash, to_dict
from hyperrun.errors import Held, UserError
from hyperrun.paths import expanded

CONFIG, SUMMARY, METRICS, LOG, LOCK = "config.yaml", "summary.json", "metrics.jsonl", "train.log", ".lock"
RECORDED = "recorded in "
"""How the note begins that an exception carries when its traceback is in a run's log."""


def write_beside(path: Path, content: str | bytes) -> None:
    """Write a whole file under its final name, or nothing at all. Text becomes UTF-8."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


# struct flock, which Python has no name for; l_whence, l_start and l_len of 0 mean the whole file
FLOCK, FLOCK_FIELDS = "hhqqi4x", ("type", "whence", "start", "len", "pid")
if sys.platform == "darwin":
    FLOCK, FLOCK_FIELDS = "qqihh", ("start", "len", "pid", "type", "whence")
WRITE_LOCK = {"type": fcntl.F_WRLCK, "whence": 0, "start": 0, "len": 0, "pid": 0}


def holder(path: Path) -> int | None:
    """Return the process that trains in a run folder; None if none does, or it cannot be told.

    Only asks: the lock is not taken, so that a run that starts at this moment does not find it held. A process does not
    see its own lock, and must not ask about a folder that it holds itself: closing the file would let go of it.
    """
    try:
        lock = os.open(path / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        answer = fcntl.fcntl(lock, fcntl.F_GETLK, struct.pack(FLOCK, *(WRITE_LOCK[field] for field in FLOCK_FIELDS)))
        found = dict(zip(FLOCK_FIELDS, struct.unpack(FLOCK, answer), strict=True))
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(lock)
    return None if found["type"] == fcntl.F_UNLCK else found["pid"]


class RunFolder:
    """A run folder on disk: outputs/<data>/<model>-s<seed>-<hash>."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics = path / METRICS
        self.log = path / LOG
        self._lock: int | None = None

    @classmethod
    def of(cls, config: Config) -> RunFolder:
        """Return the folder this config's run belongs in, which need not exist."""
        name = f"{config.model}-s{config.seed}-{run_hash(config)}".replace("/", "_")
        return cls(expanded(config.outputs) / config.data.name / name)

    def __enter__(self) -> RunFolder:
        """Make the folder and hold it.

        Raises:
            Held: another process holds it.
            UserError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._cannot_write(error.strerror) from None
        try:
            # the kernel lets go of it however the process ends; and unlike flock's, data workers do not inherit it
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(lock, 20).decode() or "unknown"
            os.close(lock)
            raise Held(f"another process (pid {holder}) is training in {self.path}") from None
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def check_writable(self) -> None:
        """Touch nothing, and raise what __enter__ would where the folder cannot be made.

        Raises:
            UserError: something on its way is no folder, or must not be written to.
        """
        there = next(path for path in (self.path, *self.path.parents) if path.exists())
        code = errno.EEXIST if there == self.path else errno.ENOTDIR
        if there.is_dir():
            code = 0 if os.access(there, os.W_OK | os.X_OK) else errno.EACCES
        if code:
            raise self._cannot_write(os.strerror(code))

    def _cannot_write(self, reason: str | None) -> UserError:
        return UserError(f"cannot write to {self.path}: {reason} (outputs=DIR names another place)")

    def sweep(self) -> None:
        """Remove half-written files of processes that were killed; only for the holder of the folder."""
        for leftover in (*self.path.glob("*.tmp"), *self.checkpoints.glob("*.tmp")):
            leftover.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what an earlier run left here (only files that hyperrun writes)."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        shutil.rmtree(self.path / "wandb", ignore_errors=True)
        for name in (SUMMARY, METRICS, LOG):
            (self.path / name).unlink(missing_ok=True)

    def state(self) -> str:
        """Return done, running, failed, interrupted or missing: what training would find here. Touches nothing."""
        status = (self.read_summary() or {}).get("status")
        if status == "finished":
            return "done"
        if holder(self.path) is not None:
            return "running"
        if status == "failed":
            return "failed"
        return "interrupted" if any(self.checkpoints.glob("*.pt")) else "missing"

    def write_config(self, config: Config) -> None:
        write_beside(self.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))

    def read_config(self) -> Config:
        """Return the run's config.

        Raises:
            UserError: not a run folder, or a config this version cannot read.
        """
        file = self.path / CONFIG
        if not file.is_file():
            raise UserError(f"{self.path} is no run folder (it has no {CONFIG})")
        try:
            cfg = OmegaConf.load(file)
        except Exception as error:  # yaml's and omegaconf's errors have no common base
            raise UserError(f"{file} cannot be read: {(str(error).splitlines() or ['?'])[0]}") from None
        if not isinstance(cfg, DictConfig):
            raise UserError(f"{file} cannot be read: it holds no keys")
        try:
            return from_omegaconf(cfg)
        except UserError as error:
            raise UserError(f"{file}: {error}") from None

    def write_summary(self, summary: dict[str, Any]) -> None:
        write_beside(self.path / SUMMARY, json.dumps(summary, indent=2) + "\n")

    def read_summary(self) -> dict[str, Any] | None:
        """Return the summary, or None if there is none that can be read."""
        try:
            summary = json.loads((self.path / SUMMARY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return summary if isinstance(summary, dict) else None


def named(config: Config) -> dict[str, Any]:
    """Return what summary.json says about a run whatever became of it: what it is called after."""
    target = config.target
    return {
        "model": config.model,
        "experiment": config.experiment,
        "target": getattr(target, "name", target.kind),
        "hypernet": config.hypernet.kind,
        "data": config.data.name,
        "seed": config.seed,
    }


def find_run(name: str) -> RunFolder:
    """Return the run folder a user names: its path, or the path of a file in it.

    Raises:
        UserError: there is no such folder, or it is no run folder; says which runs are near.
    """
    path = expanded(name)
    if path.is_file():
        path = path.parent if path.parent.name != "checkpoints" else path.parent.parent
    if (path / CONFIG).is_file():
        return RunFolder(path)
    if not path.exists():
        raise UserError(f"there is no folder {path}{_known(path.parent, path.name)}")
    raise UserError(f"{path} is no run folder (it has no {CONFIG}){_known(path)}")


def _known(folder: Path, name: str = "") -> str:
    """Return words about three runs below a folder: those whose names are most like this one, else the first.

    No farther down than a run is below where its line was typed (outputs/digits/RUN): a disk has many folders.
    """
    levels = ["", "*/", "*/*/", "*/*/*/"] if folder.is_dir() and folder.resolve() != Path("/") else []
    runs = sorted(path.parent for level in levels for path in folder.glob(level + CONFIG))
    runs.sort(key=lambda run: -SequenceMatcher(None, run.name, name).ratio() if name else 0)
    return f"; runs near it: {', '.join(map(str, runs[:3]))}" if runs else ""
