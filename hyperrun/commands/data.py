"""`hyperrun data NAME`: where a data set is looked for, what is there, what is missing; --download fetches it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hyperrun.data import FORMS, data_root, form_and_base, names_of, source_of
from hyperrun.data.fetch import download, in_words
from hyperrun.data.folder import class_names, left_out, scan
from hyperrun.data.sources import DIFFERS, MISSING, OK, UNCHECKABLE, FormState, Source, check
from hyperrun.data.strokes.own_file import ALLOWED
from hyperrun.errors import UserError, choose, nearest
from hyperrun.paths import expanded

OPTIONS = ("--root", "--download", "--json", "--help")
BUNDLED = {
    "digits": "comes with scikit-learn: nothing to fetch",
    "pydocs": f"comes with Python {platform.python_version()}: nothing to fetch",
    "font_strokes": "comes with matplotlib (its fonts): nothing to fetch",
    "number_words": "is made by two rules: nothing to fetch",
}
YOUR_OWN = {
    "image_folder": "data.root=DIR",
    "text": "data.path=FILE",
    "strokes": "data.path=FILE.npz",
    "parallel": "data.source=FILE data.target=FILE",
}
"""Sets that are the user's own -> the key that says where they are."""
MODELS = {"images": "", "text": "model=hyperlstm ", "strokes": "model=hyperlstm ", "pairs": "model=hyperseq2seq "}
"""Kind -> what chooses a model for it; the default one takes images."""
KINDS = tuple(MODELS)
"""In the order in which the sets are listed."""


def main(argv: list[str]) -> int:
    """Run the command. Returns 0 when the data set is complete, 1 when files are missing or are not the published ones.

    Raises:
        UserError: an unknown set or option, no network, a disk that cannot take the files.
    """
    args = parse(argv)
    if args.name is None:
        return list_sets(args)
    if args.name.partition("_")[0] in FORMS:
        args.name = form_and_base(args.name)[1]  # tasks are made of a set of images, whose files are meant
    choose("data set", args.name, names())
    if args.name == "image_folder":
        return show_folder(args)
    if args.name == "text":
        raise UserError("text is your own file: hyperrun train model=hyperlstm data=text data.path=FILE reads it")
    if args.name == "strokes":
        raise UserError(
            "strokes is your own file: hyperrun train model=hyperlstm data=strokes data.path=FILE.npz reads it; "
            f"{ALLOWED}; the columns are dx, dy and pen up (1: the pen is lifted after the point)"
        )
    if args.name == "parallel":
        raise UserError(
            "parallel is two files of your own: hyperrun train model=hyperseq2seq data=parallel data.source=FILE "
            "data.target=FILE reads them; line by line, sentence and translation, plain, .gz, .bz2, .xz or .zst"
        )
    source = source_of(args.name)
    if source is None:
        report = {"name": args.name, "status": OK, "note": BUNDLED.get(args.name, "from a plugin")}
        print(json.dumps(report) if args.json else f"{args.name} {report['note']}")
        return 0
    root = data_root(args.root)
    if args.download:
        download(source, root)
    return show(source, root, args)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hyperrun data",
        description="Say where a data set is looked for, what is there and what is missing; without NAME, list them.",
        epilog="Exit status: 0 complete, 1 something is missing or altered, 2 a mistake in what was typed.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(names())}")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets ($HYPERRUN_DATA, else a per-user cache)")
    parser.add_argument("--download", action="store_true", help="fetch what is missing; goes on where it was cut off")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    try:
        args, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"{error} (usage: hyperrun data [NAME] [--root DIR] [--download] [--json])") from None
    if rest:
        raise UserError(
            f"unknown argument '{rest[0]}'{nearest(rest[0], OPTIONS)} (allowed: NAME, {', '.join(OPTIONS)})"
        )
    return args


def names() -> list[str]:
    """Return every data set's name, kind after kind."""
    return [name for kind in KINDS for name in names_of(kind)]


# ---------------------------------------------------------------- what is there


def list_sets(args: argparse.Namespace) -> int:
    """Print one line per data set: its name and what is there of it (files only; NAME checks their checksums)."""
    if args.download:
        can = [name for name in names() if (source := source_of(name)) is not None and source.downloads]
        raise UserError(f"--download needs the name of a data set (one of {', '.join(can)})")
    root = data_root(args.root)
    rows: list[dict[str, Any]] = []
    for name in names():
        source = source_of(name)
        if source is not None:
            states = [check(form, root, checksums=False) for form in source.forms]
            here = [state.form.folder for state in states if state.status != MISSING]
            started = any(state.found for state in states)
            rows.append({"name": name, "status": "present" if here else "incomplete" if started else MISSING})
            how = f"hyperrun data {name}" + ("" if source.by_hand else " --download")
            rows[-1]["files"] = str(root / here[0]) if here else how
        elif name in YOUR_OWN:
            rows.append({"name": name, "status": "your own", "files": YOUR_OWN[name]})
        else:
            rows.append({"name": name, "status": "present", "files": BUNDLED.get(name, "from a plugin")})
    if args.json:
        print(json.dumps({"root": str(root), "sets": rows}))
    else:
        print(f"looking in {root} ({_why(args)})")
        for row in rows:
            print(f"  {row['name']:16} {row['status']:11} {row['files']}")
    return 0


def show(source: Source, root: Path, args: argparse.Namespace) -> int:
    """Print every file of the forms that are there (of the first form where none is), with sizes and checksums."""
    states = [check(form, root) for form in source.forms]
    best = best_form(states)
    shown = [state for state in states if state.found] or [states[0]]
    status = best.status
    hint = _hint(source, status, args)
    if args.json:
        files = [asdict(file) for state in shown for file in state.files]
        missing = [file.path for file in best.files if file.size is None]
        report = {"name": source.name, "root": str(root), "status": status, "form": best.form.kind}
        print(json.dumps({**report, "files": files, "missing": missing, "note": hint}))
        return 0 if status in (OK, UNCHECKABLE) else 1
    print(f"{source.name}: looking in {root} ({_why(args)})")
    width = max(len(file.path) for state in shown for file in state.files)
    for state in shown:
        for file in state.files:
            size = "" if file.size is None else in_words(file.size)
            print(f"  {file.path:{width}}  {size:>10}  {_SAYS[file.checksum]}")
    others = dict.fromkeys(form.folder for form in source.forms if form not in [state.form for state in shown])
    if status == MISSING and others:
        print(f"  {' or '.join(others)} would do as well")
    print(hint)
    if source.besides:
        print(source.besides)
    return 0 if status in (OK, UNCHECKABLE) else 1


_SAYS = {OK: "checksum ok", DIFFERS: "checksum differs", UNCHECKABLE: "checksum not checkable", MISSING: "missing"}


def best_form(states: list[FormState]) -> FormState:
    """Return the form that training would use: published, else unchecked, else altered, else the most complete one."""
    for status in (OK, UNCHECKABLE, DIFFERS):
        for state in states:
            if state.status == status:
                return state
    return next((state for state in states if state.found), states[0])


def _hint(source: Source, status: str, args: argparse.Namespace) -> str:
    at = f" --root {shlex.quote(args.root)}" if args.root else ""
    command = f"hyperrun data {source.name}{at} --download"
    model = next(model for kind, model in MODELS.items() if source.name in names_of(kind))
    train = f"hyperrun train {model}data={source.name}" + (f" data.root={shlex.quote(args.root)}" if args.root else "")
    return {
        OK: f"complete, as published: {train}",
        UNCHECKABLE: (
            f"complete; what is in these files is checked as they are read: {train}"
            if source.checked_by_content
            else f"complete, but these files have no published checksums: {train} data.verify=false"
            + ("" if source.by_hand else f", or {command}")
        ),
        DIFFERS: f"complete, but not as published; {source.by_hand or f'fetch it anew: {command}'}",
        MISSING: f"incomplete; {source.by_hand or f'fetch it: {command}'}",
    }[status]


def _why(args: argparse.Namespace) -> str:
    if args.root:
        return "--root"
    return (
        "$HYPERRUN_DATA" if os.environ.get("HYPERRUN_DATA") else "the per-user cache; $HYPERRUN_DATA or --root move it"
    )


def show_folder(args: argparse.Namespace) -> int:
    """Print how many pictures of which classes a folder of one's own holds."""
    if args.download or args.root is None:
        raise UserError("image_folder is your own pictures: hyperrun data image_folder --root DIR looks at them")
    root = expanded(args.root)
    classes = class_names(root)
    parts = ["train", "test", *(["val"] if (root / "val").is_dir() else [])]
    counts = {}
    for part in parts:
        found = Counter(scan(root / part, classes, size=1).labels.tolist())
        counts[part] = {name: found[label] for label, name in enumerate(classes)}
    notes = left_out(root, parts, classes)
    if args.json:
        report = {"name": "image_folder", "root": str(root), "status": OK, "pictures": counts, "notes": notes}
        print(json.dumps(report))
    else:
        print(f"image_folder: looking in {root}")
        for part, by_class in counts.items():
            of_classes = ", ".join(f"{name} {count}" for name, count in by_class.items())
            print(f"  {part:5}  {sum(by_class.values()):>8,} pictures ({of_classes})")
        for note in notes:
            print(f"  {note}")
    return 0
