"""IAM-OnDB: its own folders are parsed once, Graves' split, and what is done about files that are not it."""

from __future__ import annotations

import re

import numpy as np
import pytest

import hyperrun.data
from hyperrun.data import load_strokes
from hyperrun.data.strokes import iam_online
from hyperrun.errors import UserError

FORMS = {"a01-000": ("testset_f.txt", 2), "a01-000u": ("testset_t.txt", 3), "b02-044": ("testset_v.txt", 2)}
FORMS |= {"c03-007b": ("trainset.txt", 2), "z01-000": (None, 2)}
"""Form -> the list it is on, and how many lines it has."""


def strokes_of(form, line):
    """Three strokes, the places of their points."""
    rng = np.random.default_rng([ord(letter) for letter in form] + [line])
    return [rng.integers(500, 3000, (n, 2)) for n in (3, 1, 4 + line)]


@pytest.fixture(params=["iam_online/splits", "iam_online", "splits", ""])
def database(request, tmp_path):
    """The database's own files, with the lists in each of the places where they may stand."""
    lists = tmp_path / request.param
    home = lists.parent if request.param.endswith("splits") else lists
    for form, (_, count) in FORMS.items():
        folder = home / "lineStrokes" / form[:3] / form[:7]
        folder.mkdir(parents=True, exist_ok=True)
        for line in range(1, count + 1):
            strokes = "".join(
                '<Stroke colour="black" start_time="1" end_time="2">'
                + "".join(f'<Point x="{x}" y="{y}" time="1.5"/>\n' for x, y in places)
                + "</Stroke>"
                for places in strokes_of(form, line)
            )
            (folder / f"{form}-{line:02}.xml").write_text(
                '<?xml version="1.0" encoding="ISO-8859-1"?>\n<WhiteboardCaptureSession><WhiteboardDescription>'
                f'<SensorLocation corner="top_left"/></WhiteboardDescription><StrokeSet>{strokes}</StrokeSet>'
                "</WhiteboardCaptureSession>"
            )
        text = home / "ascii" / form[:3] / form[:7] / f"{form}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        said = "".join(f"{form}, line {line}: \xe9\n" for line in range(1, count + 1 if form != "c03-007b" else count))
        text.write_bytes(f"OCR:\n\nmisread\n\nCSR:\n\n{said}\n".encode("latin-1"))
    lists.mkdir(exist_ok=True)
    for name in iam_online.LISTS:
        (lists / name).write_text("".join(f" {form}\n" for form, (on, _) in FORMS.items() if on == name))
    return home


@pytest.fixture
def load(tmp_path, stroke_cfg):
    """Return a function that reads the small database as if it were the whole."""
    return lambda **keys: load_strokes(
        stroke_cfg(**{"name": "iam_online", "root": str(tmp_path), "verify": False, **keys})
    )


def test_the_folders_are_parsed_once(database, load, capsys, monkeypatch):
    data = load()
    assert "iam_online: " in capsys.readouterr().err, "how far it is"
    assert data.test is None and not data.verified and [len(split) for split in data.splits.values()] == [7, 2]
    assert data.val.texts == ["b02-044, line 1: \xe9", "b02-044, line 2: \xe9"]
    assert data.train.texts == [
        *("a01-000, line 1: \xe9", "a01-000, line 2: \xe9"),
        *(f"a01-000u, line {line}: \xe9" for line in (1, 2, 3)),
        *("c03-007b, line 1: \xe9", ""),  # the transcription lacks a line
    ], "all but testset_v, without the form that is on no list"
    places = np.concatenate(strokes_of("a01-000u", 3))
    assert data.raw(data.train[4])[1:, :2].numpy() == pytest.approx(np.diff(places, axis=0), abs=1e-3)
    assert data.train[4][:, 2].nonzero().flatten().tolist() == [2, 3, 10]
    monkeypatch.setattr(iam_online, "parse", None)  # what was kept is read from now on
    assert load(min_points=3).fingerprint == data.fingerprint
    assert sorted(path.name for path in database.iterdir() if path.is_file() and path.suffix != ".txt") == [
        iam_online.LINES
    ]


@pytest.mark.parametrize("database", ["iam_online"], indirect=True)
def test_what_was_parsed_is_checked_by_its_numbers(database, load, monkeypatch):
    with pytest.raises(
        UserError, match=r"iam_online_lines.npz is not the whole database as published \(12,195 lines\)"
    ):
        load(verify=True)
    digest = iam_online.digest_of_lines(iam_online.read_lines(database / iam_online.LINES))
    monkeypatch.setattr(iam_online, "CONTENT", digest)
    assert load(verify=True).verified
    (database / iam_online.LINES).unlink()
    assert load(verify=True).verified, "parsed anew"


@pytest.mark.parametrize("database", ["iam_online"], indirect=True)
def test_a_folder_that_cannot_be_written_to(database, load, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert len(load().train) == 7
    assert "cannot write" in capsys.readouterr().err and not list(database.glob("*.part"))
    assert not (database / iam_online.LINES).exists()


@pytest.mark.parametrize("database", ["iam_online"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-30], "line [0-9]+: (unclosed token|no element found|mismatched tag)"),
        (lambda text: text.replace(' x="', ' q="', 1), "a Point without a whole number x and y"),
        (lambda text: re.sub(r'y="\d+"', 'y="1.5"', text, count=1), "a Point without a whole number x and y"),
        (lambda text: re.sub(r'y="\d+"', 'y="99999"', text, count=1), "point 0 is .* away from the one before it"),
        (lambda text: "", "line 1: no element found"),
    ],
)
def test_a_damaged_line_is_named(database, load, change, message):
    path = database / "lineStrokes/b02/b02-044/b02-044-02.xml"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=f"{path}: .*({message})"):
        load()
    assert not (database / iam_online.LINES).exists()


@pytest.mark.parametrize("database", ["iam_online"], indirect=True)
def test_a_line_without_points_is_refused_by_its_name(database, load):
    path = database / "lineStrokes/b02/b02-044/b02-044-02.xml"
    path.write_text(re.sub(r"<Point[^>]*>", "", path.read_text()))
    with pytest.raises(UserError, match=r"iam_online_lines.npz: sequence 6 \(b02-044-02\) has 0 points"):
        load()
    assert load(bad_sequences="drop").left_out == {"dropped_bad": 1}


def test_what_to_do_when_it_is_missing(load, tmp_path):
    with pytest.raises(
        UserError, match=f"^iam_online is not in {tmp_path} .*: register at {iam_online.PAGE} .*non-comm"
    ):
        load()
    (tmp_path / "iam_online" / "splits").mkdir(parents=True)
    (tmp_path / "iam_online" / "splits" / "trainset.txt").write_text("")
    with pytest.raises(UserError, match=r"incomplete in .*: iam_online/lineStrokes/a01/a01-000/a01-000u-01.xml, "):
        load()


@pytest.mark.parametrize("database", ["iam_online"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": None}, "has dx, dy, .*; it must have dx, dy, pen_up, offsets, ids, texts, split, one-dimensional"),
        ({"more": np.zeros(3)}, "has dx, .*, more; it must have"),
        ({"dx": np.zeros((3, 3), np.int16)}, "has dx, .*; it must have"),
        ({"pen_up": np.zeros(3, bool)}, "pen_up has 3 entries and not "),
        ({"split": np.zeros(3, np.int8)}, "split has 3 entries and not 11"),
        ({"offsets": np.arange(12)}, "offsets do not fit the "),
    ],
)
def test_arrays_that_are_not_ours(database, load, change, message):
    load()
    hyperrun.data._kept.clear()
    path = database / iam_online.LINES
    arrays = dict(np.load(path)) | change
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UserError, match=f"^{path}:? {message}"):
        load()


@pytest.mark.data
def test_the_real_lines(stroke_cfg):
    data = load_strokes(stroke_cfg(name="iam_online"))
    assert data.verified and data.test is None
    assert [len(split) for split in data.splits.values()] == [10_741, 1_438]
    assert int(data.train.lengths.max()) == 1_940 and len(data.train.texts) == 10_741
    dropped = load_strokes(stroke_cfg(name="iam_online", min_points=300))
    assert [len(split) for split in dropped.splits.values()] == [10_232, 1_381]
    assert dropped.facts()["data/dropped_short"] == 566


@pytest.mark.data
def test_the_real_lines_are_12195():
    from hyperrun.data import data_root

    arrays = iam_online.read_lines(data_root(None) / "iam_online" / iam_online.LINES)
    assert len(arrays["ids"]) == 12_195 and len(arrays["dx"]) == 7_656_867
    assert {n: int((arrays["split"] == n).sum()) for n in range(-1, 4)} == {-1: 16, 0: 5364, 1: 1438, 2: 1518, 3: 3859}
    assert iam_online.digest_of_lines(arrays) == iam_online.CONTENT
