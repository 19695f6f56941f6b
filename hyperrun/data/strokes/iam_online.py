"""IAM-OnDB: lines of English handwriting from a whiteboard (Liwicki and Bunke 2005), with Graves' split.

The database is for registered users and not fetched. Its own folders (lineStrokes, ascii, four lists of forms) are
parsed once; what comes of it lies beside them as iam_online_lines.npz, from which later runs read.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from hyperrun.data.kinds import StrokeData
from hyperrun.data.sources import Form, Source, data_root, find, unreadable
from hyperrun.data.strokes.npz import read_npz
from hyperrun.data.strokes.own_file import refuse_path, selected
from hyperrun.data.strokes.sets import RawStrokes, StrokeSet, make_strokes
from hyperrun.errors import UserError, printable
from hyperrun.inputs import Strokes
from hyperrun.registry import register

PAGE = "https://fki.tic.heia-fr.ch/databases/iam-on-line-handwriting-database"
LINES = "iam_online_lines.npz"
SHA256 = "5ea5445dc873fca35634642492407fb10e8570caf05b278bdb9bfe0f06e3c41e"
CONTENT = "86fd5aeefa9e8f14c9336218dd6176c5c40d281f844c462e10ac051b3afc2c93"
"""sha256 of the arrays dx, dy, pen_up, offsets and split of the whole database, one after the other: the same however
the file was compressed."""

LISTS = {"trainset.txt": 0, "testset_v.txt": 1, "testset_t.txt": 2, "testset_f.txt": 3}
"""The database's lists of forms -> the number of their split. Lines on none of them, 16 of 12,195, have -1."""
VALIDATES, IN_NONE = 1, -1

Arrays = dict[str, np.ndarray]


def iam_online_source() -> Source:
    """Return where IAM-OnDB is looked for: our arrays, or the database's folders, the lists beside or in splits/."""
    forms = [Form("npz", folder + LINES, {folder + LINES: SHA256}) for folder in ("iam_online/", "")]
    for folder in ("iam_online/", ""):
        for lists in ("splits/", ""):
            first = ("lineStrokes/a01/a01-000/a01-000u-01.xml", "ascii/a01/a01-000/a01-000u.txt")
            files = [*first, *(lists + name for name in LISTS)]
            forms.append(Form("xml", f"{folder}lineStrokes", {folder + file: None for file in files}))
    by_hand = (
        f"register at {PAGE} (free, for non-commercial research), unpack lineStrokes-all.tar.gz and ascii-all.tar.gz, "
        f"and put lineStrokes, ascii and the lists {', '.join(LISTS)} into iam_online there"
    )
    return Source("iam_online", tuple(forms), (), by_hand, checked_by_content=True)


@register("data", "iam_online", StrokeData, source=iam_online_source, looks=Strokes())
def load_iam_online(cfg: StrokeData) -> StrokeSet:
    """Return the lines as Graves (2013) split them: 10,741 to train and 1,438 (testset_v) to validate; none to test.

    The 16 lines that are on none of the database's lists are left out, as they are in his counts.

    Raises:
        UserError: the files are missing, damaged or, where that matters (data.verify), not the whole database; as
            make_strokes.
    """
    refuse_path(cfg)
    root = data_root(cfg.root)
    form, verified = find(iam_online_source(), root, verify=False, explicit_root=cfg.root is not None)
    first = root / next(iter(form.files))
    if form.kind == "npz":
        path, arrays = first, read_lines(first)
    else:
        path = first.parents[3] / LINES
        arrays = parse(root, form)
        keep_lines(path, arrays)
    verified = verified or digest_of_lines(arrays) == CONTENT
    if cfg.verify and not verified:
        raise UserError(
            f"{path} is not the whole database as published (12,195 lines): {iam_online_source().by_hand}, and delete "
            "that file; or accept it with data.verify=false"
        )
    points = np.column_stack([arrays["dx"], arrays["dy"], arrays["pen_up"]])
    names, texts = arrays["ids"].tolist(), arrays["texts"].tolist()
    whole = RawStrokes(points, arrays["offsets"], str(path), names, texts)
    split = arrays["split"]
    train, val = (
        selected(whole, np.flatnonzero(where))
        for where in ((split != VALIDATES) & (split != IN_NONE), split == VALIDATES)
    )
    return make_strokes("iam_online", cfg, train=train, val=val, verified=verified)


# ---------------------------------------------------------------- our arrays

TYPES = {"dx": "i", "dy": "i", "pen_up": "b", "offsets": "i", "ids": "U", "texts": "U", "split": "i"}


def read_lines(path: Path) -> Arrays:
    """Return the arrays of iam_online_lines.npz.

    Raises:
        UserError: it is damaged, or has other arrays.
    """
    found = read_npz(path)
    arrays = {name: array for name, array in found.items() if isinstance(array, np.ndarray)}
    if set(found) != set(TYPES) or any(a.ndim != 1 or a.dtype.kind != TYPES[name] for name, a in arrays.items()):
        has = ", ".join(map(printable, found)) or "nothing"
        raise UserError(f"{path} has {has}; it must have {', '.join(TYPES)}, one-dimensional: delete it")
    lines, points = len(arrays["ids"]), len(arrays["dx"])
    expected = dict.fromkeys(TYPES, lines) | dict.fromkeys(("dx", "dy", "pen_up"), points) | {"offsets": lines + 1}
    for name, array in arrays.items():
        if len(array) != expected[name]:
            raise UserError(f"{path}: {name} has {len(array):,} entries and not {expected[name]:,}")
    offsets = arrays["offsets"]
    if offsets[0] != 0 or offsets[-1] != points or (np.diff(offsets) < 0).any():
        raise UserError(f"{path}: offsets do not fit the {points:,} points")
    return arrays


def digest_of_lines(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, kind in (("dx", "<i2"), ("dy", "<i2"), ("pen_up", "?"), ("offsets", "<i8"), ("split", "i1")):
        digest.update(np.ascontiguousarray(arrays[name], kind).data)
    return digest.hexdigest()


def keep_lines(path: Path, arrays: Arrays) -> None:
    """Write the arrays for the next run, in whole or not at all; where that fails, say so."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        print(f"cannot write {path} ({error.strerror}): the next run parses the lines again", file=sys.stderr)


# ---------------------------------------------------------------- the database's own files


def parse(root: Path, form: Form) -> Arrays:
    """Return the arrays that the database's folders hold, showing how far it is.

    Raises:
        UserError: a file that is damaged; names it, and the line in it.
    """
    from hyperrun.data.fetch import progress_shown

    first, ascii_file, *lists = (root / file for file in form.files)
    strokes, texts = first.parents[2], ascii_file.parents[2]
    split_of = {name: LISTS[path.name] for path in lists for name in read_text(path).split()}
    paths = sorted(strokes.glob("*/*/*.xml"), key=lambda path: path.stem)
    total, done = sum(path.stat().st_size for path in paths), 0
    parts, said, known = [], [], ("", [""])
    with progress_shown() as progress:
        for path in paths:
            parts.append(read_line(path))
            of, _, number = path.stem.rpartition("-")
            if of != known[0]:
                known = of, transcription(texts / path.parts[-3] / path.parts[-2] / f"{of}.txt")
            at = int(number) - 1 if number.isdigit() else -1
            said.append(known[1][at] if 0 <= at < len(known[1]) else "")
            done += path.stat().st_size
            progress("iam_online", done, total)
    names = [path.stem for path in paths]
    points = np.concatenate(parts) if parts else np.zeros((0, 3), np.int16)
    return {
        "dx": points[:, 0],
        "dy": points[:, 1],
        "pen_up": points[:, 2].astype(bool),
        "offsets": np.cumsum([0, *map(len, parts)], dtype=np.int64),
        "ids": np.array(names, dtype=str),
        "texts": np.array(said, dtype=str),
        "split": np.array([split_of.get(name.rpartition("-")[0], IN_NONE) for name in names], np.int8),
    }


def read_line(path: Path) -> np.ndarray:
    """Return one line's points as int16 [n, 3]: dx, dy (of the first: where it is), and whether its stroke ends there.

    Raises:
        UserError: the file is damaged; says where.
    """
    try:
        strokes = [
            [(int(point.attrib["x"]), int(point.attrib["y"])) for point in stroke.iter("Point")]
            for stroke in ElementTree.parse(path).iter("Stroke")
        ]
    except ElementTree.ParseError as error:
        raise UserError(f"cannot read {path}: line {error.position[0]}: {error.msg}") from None
    except (KeyError, ValueError) as error:
        raise UserError(f"cannot read {path}: a Point without a whole number x and y ({error})") from None
    except OSError as error:
        raise unreadable(path, error) from None
    places = np.array([place for stroke in strokes for place in stroke], np.int64).reshape(-1, 2)
    moves = np.diff(places, axis=0, prepend=0)
    if len(moves) and np.abs(moves).max() > np.iinfo(np.int16).max:
        i = int(np.abs(moves).max(1).argmax())
        raise UserError(f"{path}: point {i:,} is {moves[i].tolist()} away from the one before it")
    ends = np.zeros(len(places), np.int64)
    ends[[end - 1 for end in np.cumsum([len(stroke) for stroke in strokes]) if end]] = 1
    return np.column_stack([moves, ends]).astype(np.int16)


def transcription(path: Path) -> list[str]:
    """Return the lines of a form as the writer wrote them (its part CSR); none where there is no such file."""
    if not path.exists():
        return []
    _, _, after = read_text(path).partition("CSR:")
    return [line.strip() for line in after.splitlines() if line.strip()]


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="latin-1")
    except OSError as error:
        raise unreadable(path, error) from None
