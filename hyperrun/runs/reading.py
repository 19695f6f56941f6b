"""Run folders: which there are, what became of each; read without torch, thousands in seconds."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hyperrun.config import what_is_computed
from hyperrun.errors import UserError, nearest, printable
from hyperrun.metrics import METRICS, Metric
from hyperrun.paths import expanded
from hyperrun.runs.folder import CONFIG, SUMMARY, holder
from hyperrun.runs.folder import METRICS as ROWS

NEVER_RUNS = {"wandb", "checkpoints", "__pycache__"}
"""Folders that are not looked into, beside hidden ones: what is in them is never a run."""

LARGEST_FILE, LARGEST_CONFIG = 4_000_000, 10_000
"""Bytes, and values, beyond which a file is none that hyperrun wrote."""

YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both build plain values only; libyaml is ten times as fast


@dataclass(frozen=True, eq=False)
class Run:
    """What a run folder says."""

    path: Path
    status: str
    """finished, running, failed, preempted, or interrupted (killed before it could say anything)."""
    summary: dict[str, Any]
    """summary.json and, derived, epochs and time/steady_s (training without warm-up; where that was not measured
    time/epoch_s instead, with it); of an unfinished run at least data, model, hypernet and seed."""
    config: dict[str, Any]
    """config.yaml with dotted keys: {"hypernet.z_dim": 64, ...}; lists are values."""
    computed: dict[str, Any]
    """Those of config's keys that the result depends on, the seed left out."""
    reason: str = ""
    """Why it is not finished."""
    step: int | None = None
    """Last step that metrics.jsonl has, of an unfinished run."""

    @property
    def metric(self) -> Metric:
        return METRICS[self.summary["metric"]]

    def get(self, key: str) -> Any:
        """Return the value of a key of the summary, of the config, or of a config group (its kind).

        Raises:
            KeyError: the run has no such key.
        """
        for place, name in ((self.summary, key), (self.config, key), (self.config, f"{key}.kind")):
            if name in place:
                return place[name]
        raise KeyError(key)


@dataclass
class Runs:
    """What was found."""

    finished: list[Run] = field(default_factory=list)
    unfinished: list[Run] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """One line for each folder that could not be read."""

    @property
    def all(self) -> list[Run]:
        return self.finished + self.unfinished


class Unreadable(Exception):
    """A folder that is damaged or was not written by hyperrun; the message says why."""


def read_runs(paths: Iterable[str | Path] = ("outputs",)) -> Runs:
    """Read run folders, and folders that hold run folders at any depth; each run is read once, links are followed.

    Raises:
        UserError: a folder does not exist, or no folder holds a run.
    """
    runs = Runs()
    seen: set[tuple[int, int]] = set()
    named = [expanded(path) for path in paths]
    for path in named:
        start = path
        if path.is_file():  # a file of a run stands for the run
            start = path.parent.parent if path.parent.name == "checkpoints" else path.parent
            if not (start / CONFIG).is_file():
                raise UserError(f"{printable(path)} is no folder")
        if not start.is_dir():
            raise UserError(f"there is no folder {printable(path)}{_near(path)}")
        before = len(runs.all) + len(runs.warnings)
        for folder in _below(start, seen, runs.warnings):
            try:
                run = read_run(folder)
            except Unreadable as error:
                runs.warnings.append(printable(f"{folder}: {error}"))
                continue
            (runs.finished if run.status == "finished" else runs.unfinished).append(run)
        if len(named) > 1 and len(runs.all) + len(runs.warnings) == before:
            runs.warnings.append(printable(f"{path} holds no (other) runs"))
    if not runs.all:
        where = ", ".join(printable(path) for path in named)
        damaged = f" that can be read ({runs.warnings[0]})" if runs.warnings else ""
        raise UserError(f"there are no runs in {where}{damaged}; hyperrun train makes them")
    return runs


def _near(path: Path) -> str:
    try:
        siblings = [entry.name for entry in os.scandir(path.parent) if entry.is_dir()]
    except OSError:
        siblings = []
    hint = nearest(path.name, siblings)
    return hint or ("; hyperrun train makes it" if path == Path("outputs") else "")


def _below(start: Path, seen: set[tuple[int, int]], warnings: list[str]) -> Iterator[Path]:
    """Yield the folders at and below `start` that look like runs, in order of their names."""
    waiting = [str(start)]
    while waiting:
        folder = waiting.pop()
        try:
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in seen:  # a link, perhaps in a circle
                continue
            seen.add((here.st_dev, here.st_ino))
            with os.scandir(folder) as entries:
                files, folders = _sorted_out(entries)
        except OSError as error:
            warnings.append(printable(f"{folder}: cannot be read: {error.strerror}"))
            continue
        if files & {CONFIG, SUMMARY, ROWS}:
            yield Path(folder)
        waiting += [os.path.join(folder, name) for name in sorted(folders, reverse=True)]


def _sorted_out(entries: Iterable[os.DirEntry[str]]) -> tuple[set[str], list[str]]:
    """Return the names of files, and those of folders worth looking into."""
    files, folders = set(), []
    for entry in entries:
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself
            is_folder = False
        if not is_folder:
            files.add(entry.name)
        elif not entry.name.startswith(".") and entry.name not in NEVER_RUNS:
            folders.append(entry.name)
    return files, folders


# ---------------------------------------------------------------- one run


def read_run(folder: Path) -> Run:
    """Return what a run folder says.

    Raises:
        Unreadable: it is damaged, or was not written by hyperrun.
    """
    config = _read_config(folder / CONFIG)
    flat = dotted(config)
    computed = computed_keys(config)
    summary = _from_config(config)
    if os.path.lexists(folder / SUMMARY):
        summary |= _read_summary(folder / SUMMARY)
    step, epochs_per_step = last_row(folder / ROWS)
    status = summary.get("status", "interrupted")
    if status == "finished":
        _check_finished(summary)
        epochs = summary["steps"] * epochs_per_step if epochs_per_step and is_number(summary.get("steps")) else 0
        if epochs:
            summary["epochs"] = epochs
        train_s, warm_up_s = summary.get("time/train_s"), summary.get("time/warm_up_s")
        if is_number(train_s) and is_number(warm_up_s):
            summary["time/steady_s"] = train_s - warm_up_s  # pyright: ignore[reportOptionalOperand]
        elif epochs and is_number(train_s):  # of an older version, with warm-up
            summary["time/epoch_s"] = train_s / epochs
        return Run(folder, status, summary, flat, computed)
    reason = str(summary.get("error") or "stopped without a word (killed, or the machine went down)")
    pid = holder(folder)
    if pid is not None:  # a preempted run that goes on keeps its old summary until it ends
        status, reason = "running", f"process {pid} is training it"
    summary["status"] = status
    return Run(folder, status, summary, flat, computed, printable(reason), step)


def computed_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Return the dotted keys of a config that the result depends on, the seed left out: Run.computed."""
    computed = dotted(what_is_computed(config))
    computed.pop("seed", None)
    return computed


def read_file(path: Path) -> bytes:
    """Return a small file's content.

    Raises:
        Unreadable: it is none, cannot be read, or is too large to be what it is said to be.
    """
    try:
        with open(path, "rb", opener=_no_waiting) as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise Unreadable(f"has no {path.name}") from None
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read: {error.strerror}") from None
    if content is None or len(content) > LARGEST_FILE:
        raise Unreadable(f"{path.name} is none of hyperrun's")
    return content


def _no_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe, too, whose reader would otherwise wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read_config(path: Path) -> dict[str, Any]:
    """Return config.yaml as nested dicts, with at least the keys that _from_config reads."""
    try:
        config = yaml.load(read_file(path), Loader=YamlLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name} cannot be read: {_first_line(error)}") from None
    waiting, values = [config], 0
    while waiting:  # a few aliases in a YAML file can stand for billions of values
        value, values = waiting.pop(), values + 1
        if values > LARGEST_CONFIG:
            raise Unreadable(f"{path.name} is none of hyperrun's")
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    try:
        _from_config(config)
    except (KeyError, TypeError):
        raise Unreadable(f"{path.name} is none of hyperrun's") from None
    return config


def _from_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a summary would say of model and data, for runs that have not come so far."""
    target = config["target"]
    found = {
        "model": config["model"],
        "experiment": config.get("experiment"),
        "target": target.get("name", target["kind"]) if isinstance(target, dict) else target["kind"],
        "hypernet": config["hypernet"]["kind"],
        "data": config["data"]["name"],
        "seed": config["seed"],
    }
    if not all(isinstance(found[name], str) for name in ("model", "target", "hypernet", "data")):
        raise TypeError
    return found


def _read_summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name} cannot be read: {_first_line(error)}") from None
    if not isinstance(summary, dict) or summary.get("status") not in ("finished", "failed", "preempted"):
        raise Unreadable(f"{path.name} is none of hyperrun's")
    return summary


def _check_finished(summary: dict[str, Any]) -> None:
    """Raise Unreadable unless everything is there that a comparison rests on."""
    name = summary.get("metric")
    if not isinstance(name, str) or name not in METRICS:
        raise Unreadable(f"{SUMMARY} is of a metric that this version does not know: {name}")
    numbers = ["params/trainable", "params/target", f"val/{name}", f"test/{name}"]
    if summary.get(f"test/{name}", 0) is None:  # null: the data have no test split
        numbers.pop()
    wrong = [key for key in numbers if not is_number(summary.get(key))]
    words = ("model", "hypernet", "data")
    wrong += [key for key in words if not isinstance(summary[key], str)]
    if wrong:
        raise Unreadable(f"{SUMMARY} has no usable {', '.join(wrong)}")
    if min(summary["params/trainable"], summary["params/target"]) < 1:
        raise Unreadable(f"{SUMMARY} counts less than one parameter")


def is_number(value: object) -> bool:
    """Return whether a value of a summary can be reckoned with: finite, and not too large for a float."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}: {getattr(error, 'problem', None)}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def dotted(config: dict[str, Any]) -> dict[str, Any]:
    """Return a nested config with dotted keys, as Run.config."""
    return dict(_flatten(config))


def _flatten(value: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flatten(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def last_row(path: Path) -> tuple[int | None, float | None]:
    """Return the last step of a metrics.jsonl and the epochs in one step; None for what it does not tell.

    Reads the end of the file, more of it where a row of many generated tensors stands there, and all of it only where
    that says nothing of epochs either.
    """
    step: int | None = None
    try:
        with open(path, "rb", opener=_no_waiting) as file:
            size = file.seek(0, os.SEEK_END)
            for start in dict.fromkeys((max(0, size - 4096), max(0, size - 65536), 0)):
                file.seek(start)
                for line in reversed(file.read().splitlines()):
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError):
                        continue  # cut short
                    if not isinstance(row, dict) or not is_number(row.get("step")) or row["step"] < 1:
                        continue
                    step = row["step"] if step is None else step
                    if is_number(row.get("epoch")):
                        return step, row["epoch"] / row["step"]
    except OSError:
        pass
    return step, None
