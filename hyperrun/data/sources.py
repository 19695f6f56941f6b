"""Where a data set's files lie, which of them are there, and whether they are the published ones.

A data set may stand in several forms (CIFAR-10: Python pickles, the binary archive, the binary files). `find` picks
the first complete form whose checksums hold; `check` only looks, for `hyperrun data`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hyperrun.errors import UserError
from hyperrun.paths import cache_folder, expanded

OK, DIFFERS, UNCHECKABLE, MISSING = "ok", "differs", "not checkable", "missing"
"""What can be said of a file: its checksum is the published one; is another; none is known; there is no file."""


@dataclass(frozen=True)
class Form:
    """One set of files from which a data set can be read."""

    kind: str
    """Which reader understands it."""
    folder: str
    """What to look for under the root: a folder or an archive."""
    files: dict[str, str | None]
    """Path under the root -> its checksum, md5 or sha256 (told apart by length); None where none is published."""
    pickled: bool = False
    """Reading it can run code, so that a checksum that differs is never accepted."""


@dataclass(frozen=True)
class Download:
    """One file to fetch."""

    path: str
    """Where it goes, under the root."""
    urls: tuple[str, ...]
    """Where it comes from; tried in turn."""
    md5: str
    """Its published checksum."""
    unpack: str | None = None
    """Name of the folder the archive holds; None for a file that is used as it is."""


@dataclass(frozen=True)
class Source:
    """All that is known about where a data set comes from."""

    name: str
    forms: tuple[Form, ...]
    """In order of preference."""
    downloads: tuple[Download, ...]
    """What makes the first form complete; empty where hyperrun does not fetch it."""
    by_hand: str = ""
    """Where hyperrun does not fetch it: what people do, as a clause that begins with a verb."""
    besides: str = ""
    """What a run needs beside these files, as a sentence without its full stop."""
    checked_by_content: bool = False
    """Whether the reader compares what is in the files, whatever their form, with what was published."""

    def advice(self, command: str, *, again: bool = False) -> str:
        """Return how to get the files: by typing `command`, or by hand."""
        return self.by_hand or f"fetch it {'anew ' if again else ''}with {command}"


@dataclass(frozen=True)
class FileState:
    """A file of a form, as found."""

    path: str
    """Under the root."""
    size: int | None
    """Bytes; None when missing."""
    checksum: str
    """ok, differs, not checkable or missing."""


@dataclass
class FormState:
    """A form, as found."""

    form: Form
    files: list[FileState] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The worst thing that can be said of any of its files."""
        states = {file.checksum for file in self.files}
        return next(word for word in (MISSING, DIFFERS, UNCHECKABLE, OK) if word in states)

    @property
    def found(self) -> bool:
        """Whether any file of it is there."""
        return any(file.size is not None for file in self.files)


def data_root(cfg_root: str | None) -> Path:
    """Return the folder that holds data sets: `cfg_root`, else $HYPERRUN_DATA, else the user's cache."""
    if chosen := cfg_root or os.environ.get("HYPERRUN_DATA"):
        return expanded(chosen)
    return user_cache()


def user_cache() -> Path:
    """Return the folder of data sets, and of what is made of them, where the user names none."""
    if sys.platform == "darwin":
        return expanded("~/Library/Caches/hyperrun")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser() / "hyperrun"
    return cache_folder() / "hyperrun"


def md5_of(path: Path) -> str:
    """Return the md5 of a file in hexadecimal.

    Raises:
        UserError: the file cannot be read.
    """
    return digest_of(path, "md5")


def algorithm(checksum: str) -> str:
    """Return what a checksum in hexadecimal was made by: md5 or sha256."""
    return {32: "md5", 64: "sha256"}[len(checksum)]


def digest_of(path: Path, name: str) -> str:
    """Return the md5 or sha256 of a file in hexadecimal.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the error for a file that is there but cannot be opened, or is damaged."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return UserError(f"cannot read {path}: {' '.join(reason.split())}")


def check(form: Form, root: Path, *, checksums: bool = True) -> FormState:
    """Look at every file of a form; with `checksums` false, a file that is there counts as not checkable."""
    state = FormState(form)
    for name, checksum in form.files.items():
        path = root / name
        if not path.is_file():
            state.files.append(FileState(name, None, MISSING))
            continue
        known = checksum if checksums else None
        verdict = UNCHECKABLE if known is None else OK if digest_of(path, algorithm(known)) == known else DIFFERS
        state.files.append(FileState(name, path.stat().st_size, verdict))
    return state


def find(source: Source, root: Path, *, verify: bool, explicit_root: bool = False) -> tuple[Form, bool]:
    """Return the form to read, and whether its checksums are the published ones.

    Args:
        source: the data set.
        root: where to look.
        verify: accept nothing but published checksums.
        explicit_root: the user named `root`: an error names it in its command, and data.root as what to change.

    Raises:
        UserError: files are missing, or are there but may not be used; says what to do.
    """
    at = f" --root {shlex.quote(str(root))}" if explicit_root else ""
    command = f"`hyperrun data {source.name}{at} --download`"
    elsewhere = "data.root=DIR" if explicit_root else "HYPERRUN_DATA=DIR"  # the variable gives way to data.root
    complete: list[FormState] = []
    partial: list[FormState] = []
    for form in source.forms:  # one after the other: the first good one spares the checksums of the rest
        if check(form, root, checksums=False).status == MISSING:
            partial.append(check(form, root, checksums=False))
            continue
        state = check(form, root)
        if state.status == OK:
            return form, True
        complete.append(state)
    if not complete:
        raise UserError(_missing(source, root, partial, command, elsewhere))
    if not verify:
        for state in complete:
            if not state.form.pickled:
                return state.form, False
    raise UserError(_refused(source, root, complete, command))


def _missing(source: Source, root: Path, partial: list[FormState], command: str, elsewhere: str) -> str:
    started = [state for state in partial if state.found]
    if started:
        lacking = [file.path for file in started[0].files if file.size is None]
        how = source.advice(command)
        return f"{source.name} is incomplete in {root}: {', '.join(lacking)} missing; {how}"
    places = " or ".join(dict.fromkeys(form.folder for form in source.forms))
    return f"{source.name} is not in {root} (looked for {places}): {source.advice(command)}, or set {elsewhere}"


def _refused(source: Source, root: Path, complete: list[FormState], command: str) -> str:
    state = next((state for state in complete if not state.form.pickled), None)
    if state is None:
        return (
            f"{root / _differing(complete[0])} is a pickle whose md5 is not the published one, and pickles can run "
            f"code: it is not read, whatever data.verify says; fetch it anew with {command}"
        )
    if state.status == DIFFERS:
        file = _differing(state)
        return (
            f"{root / file} is not the published file (its {algorithm(state.form.files[file] or '')} differs): "
            f"{source.advice(command, again=True)}, or accept it with data.verify=false"
        )
    archives = [form.folder for form in source.forms if len(form.files) == 1 and None not in form.files.values()]
    beside = f"put {archives[0]} beside it, " if archives else ""
    other = "" if source.by_hand else f"{beside}fetch a form that can be checked with {command}, or "
    return (
        f"{root / state.form.folder} cannot be checked, as no checksums are published for these files: "
        f"{other}accept it with data.verify=false"
    )


def _differing(state: FormState) -> str:
    return next(file.path for file in state.files if file.checksum == DIFFERS)
