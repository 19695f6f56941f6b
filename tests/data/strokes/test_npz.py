"""Files that may come from anyone: the three forms, damage, and pickles that want to run something."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest

from hyperrun.data import load_strokes
from hyperrun.data.strokes import sketch_rnn
from hyperrun.data.strokes.npz import read_npz
from hyperrun.data.strokes.own_file import read_splits
from hyperrun.errors import UserError
from tests.data.strokes.conftest import random_strokes


def drawings(lengths, seed=0):
    raw = random_strokes(lengths, seed)
    return [raw.points[a:b].astype(np.int16) for a, b in zip(raw.offsets, raw.offsets[1:], strict=False)]


def of_arrays(sequences):
    """An array of arrays, as sketch-rnn's files have them."""
    found = np.empty(len(sequences), object)
    found[:] = sequences
    return found


PARTS = {"train": drawings([3, 5, 2, 9]), "valid": drawings([4, 3], 1), "test": drawings([6], 2)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.npz"


def flat(parts=PARTS):
    arrays = {f"{name}_strokes": np.concatenate(part) for name, part in parts.items()}
    return arrays | {f"{name}_offsets": np.cumsum([0, *map(len, part)]) for name, part in parts.items()}


def pickled_npz(path, content, member="train.npy"):
    """Write an npz whose one member says that it is an array of objects, and has these bytes as its pickle."""
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, header + content)


# ---------------------------------------------------------------- forms


def test_the_forms_give_the_same_set(path, stroke_cfg):
    np.savez(path, **flat())
    one = load_strokes(stroke_cfg(path=str(path)))
    assert [len(split) for split in one.splits.values()] == [4, 2, 1] and one.name == "strokes"
    np.savez(path, **{name: of_arrays(part) for name, part in PARTS.items()})
    other = load_strokes(stroke_cfg(path=str(path)))  # read again, though the name is the same
    assert one is not other and one.fingerprint == other.fingerprint
    assert load_strokes(stroke_cfg(path=str(path), scale=0.1, buckets=2, sequence_length=4)) is other


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_pickles_of_every_protocol(path, protocol):
    expected = [*PARTS["train"], PARTS["train"][0].astype(">f4"), np.asfortranarray(PARTS["train"][1].astype(np.uint8))]
    pickled_npz(path, pickle.dumps(of_arrays(expected), protocol))
    found = read_npz(path)["train"]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_pickles_of_python_2(path):
    """Written by Python 2, bytes are text in Latin-1; so are hardmaru's files."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nI3\ntcnumpy\ndtype\n(S'i2'\n"
        b"I0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x01\\x00\\xfe\\xff\\x00\\x00\\x80\\x00\\x03\\x00\\x01\\x00'\ntb"
    )
    outer = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\n"
        b"I0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntbI00\n(l" + array + b"atb."
    )
    pickled_npz(path, outer)
    (found,) = read_npz(path)["train"]
    assert found.dtype == np.int16 and found.tolist() == [[1, -2, 0], [128, 3, 1]]


def test_drawings_of_one_length_are_one_array(path):
    same = np.stack(drawings([4, 4, 4]))
    np.savez(path, train=same, valid=same[:1])
    splits = read_splits(path)
    assert splits["train"].offsets.tolist() == [0, 4, 8, 12] and set(splits) == {"train", "val"}


def test_one_split_is_cut_by_the_config(path, stroke_cfg):
    raw = random_strokes(list(range(2, 42)))
    np.savez(path, points=raw.points, offsets=raw.offsets)
    data = load_strokes(stroke_cfg(path=str(path), val_fraction=0.25, test_fraction=0.1))
    lengths = [split.lengths.tolist() for split in data.splits.values()]
    assert list(map(len, lengths)) == [26, 10, 4] and sorted(sum(lengths, [])) == list(range(2, 42))
    assert lengths[1] != list(range(32, 42)), "shuffled"
    again = load_strokes(stroke_cfg(path=str(path), val_fraction=0.25, test_fraction=0.1, min_points=3))
    assert again.val.lengths.tolist() == [n for n in lengths[1] if n > 2], "the same draw, whatever is dropped"
    assert load_strokes(stroke_cfg(path=str(path), val_fraction=0.25, test_fraction=0.0)).test is None
    with pytest.raises(UserError, match=f"^{path}: points brings no split: set data.val_fraction and data.test_fract"):
        load_strokes(stroke_cfg(path=str(path)))
    with pytest.raises(UserError, match="of its 40 sequences 40 / 0 / 0 are left to train / validate / test"):
        load_strokes(stroke_cfg(path=str(path), val_fraction=0.01, test_fraction=0.0))


def test_a_bad_sequence_is_named_by_its_number_in_the_file(path, stroke_cfg):
    raw = random_strokes([4] * 40)
    raw.points[4 * 23 + 2, 2] = 5
    np.savez(path, points=raw.points, offsets=raw.offsets)
    with pytest.raises(
        UserError, match=f"^{path}: points: sequence 23: point 2: pen up is 5, and must be 0 or 1; data"
    ):
        load_strokes(stroke_cfg(path=str(path), val_fraction=0.3, test_fraction=0.3))


# ---------------------------------------------------------------- what is no such file


def test_no_path(stroke_cfg):
    with pytest.raises(UserError, match=r"^data=strokes needs data.path=FILE.npz"):
        load_strokes(stroke_cfg())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"strokes": np.zeros((3, 3))}, "holds strokes; an npz of strokes has points and offsets, or "),
        (
            {**flat(), "labels": np.zeros(3), "more\n": np.zeros(3)},
            "holds labels, more\N{REPLACEMENT CHARACTER}; an npz",
        ),
        ({}, "holds no array; an npz"),
        ({"points": np.zeros((3, 3))}, "holds points; an npz"),
        ({"train_strokes": np.zeros((3, 3))}, "holds train_strokes; an npz"),
        ({"test": of_arrays(PARTS["test"])}, "has test alone; .* of which only test may be missing$"),
        ({"train": of_arrays(PARTS["train"]), "test": of_arrays(PARTS["test"])}, "has train and test alone; "),
        ({name: of_arrays(PARTS["train"]) for name in ("train", "valid", "val")}, "has val twice; "),
        (
            {"train": of_arrays([np.zeros((3, 3)), np.zeros((3, 4))])},
            r": train: sequence 1 must be numbers \[n, 3\], not",
        ),
        (
            {"points": of_arrays(PARTS["train"]), "offsets": np.arange(3)},
            ": points and offsets must be arrays of numbers",
        ),
    ],
)
def test_other_arrays(path, arrays, message):
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=f"^{path} ?{message}"):
        read_splits(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=f"^there is no file {tmp_path / 'none.npz'}$"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(UserError, match=f"^cannot read {tmp_path}: Is a directory$"):
        read_npz(tmp_path)


def test_damage_anywhere_is_one_line(path):
    """Cut off, or a byte changed: an error that names the file, or the same numbers as before; never another error."""
    np.savez_compressed(path, **flat(), train=of_arrays(PARTS["train"]))
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), 17):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                read_npz(path)
            except UserError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
    assert refused > len(whole) / 17


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04"])
def test_what_is_no_zip(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^cannot read {path}: "):
        read_npz(path)


def test_a_zip_of_something_else(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match=f"^{path} is no npz file: readme.txt in it is no array$"):
        read_npz(path)


def test_an_array_that_says_it_is_larger_than_it_is(path):
    header = b"{'descr': '<i2', 'fortran_order': False, 'shape': (999999999999999, 3), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points.npy", b"\x93NUMPY\x01\x00v\x00" + header)
    with pytest.raises(UserError, match=f"^cannot read points.npy in {path}: "):
        read_npz(path)


# ---------------------------------------------------------------- pickles


class Runs:
    """A pickle of it calls os.mkdir when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_something_is_refused(path, tmp_path, protocol):
    made = tmp_path / "made"
    pickle.loads(pickle.dumps(Runs(made), protocol))
    assert made.is_dir()
    made.rmdir()
    for content in (Runs(made), of_arrays([PARTS["train"][0], Runs(made)])):
        pickled_npz(path, pickle.dumps(content, protocol))
        with pytest.raises(
            UserError, match=f"^cannot read train.npy in {path}: a pickle in it asks for (posix|nt).mkdir, "
        ):
            read_npz(path)
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1, 2]), "the pickle in it is no array of arrays"),
        (pickle.dumps(PARTS["train"][0]), "the pickle in it is no array of arrays"),
        (pickle.dumps(of_arrays([1, "two"])), "the pickle in it is no array of arrays"),
        (pickle.dumps(of_arrays([of_arrays([PARTS["train"][0]])])), "the pickle in it is no array of arrays"),
        (
            pickle.dumps(of_arrays([np.array(["a"])])),
            "a pickled array in it is of the type U1, and only numbers are read",
        ),
        (pickle.dumps(np.zeros(2, np.dtype([("a", "i2")]))), "a pickled array in it is of the type V2"),
        (pickle.dumps(of_arrays(PARTS["train"]))[:-20], ""),
        (b"\x80\x04N.", "the pickle in it is no array of arrays"),
        (b"garbage", ""),
        (b"cnumpy\ndtype\n(S'i2'\ntR(I3\nS'<'\ntb.", "the pickle in it is no array of arrays"),
        (b"cnumpy\nndarray\n(I3\ntR.", "the pickle in it is no array of arrays"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for builtins.eval, and only arrays are read"),
        (b"cnumpy\nload\n(S'x'\ntR.", "asks for numpy.load, and only arrays are read"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.", "another kind of array"),
        (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "bytes in it are written in zip"),
    ],
)
def test_other_pickles_are_refused(path, content, message):
    pickled_npz(path, content)
    with pytest.raises(UserError, match=f"^cannot read train.npy in {path}: .*{message}"):
        read_npz(path)


# ---------------------------------------------------------------- sketch-rnn's sets


@pytest.mark.parametrize("name", list(sketch_rnn.FILES))
def test_sketch_rnn_files_in_both_forms(tmp_path, stroke_cfg, name):
    root, cfg = tmp_path / "root", {"name": name, "root": str(tmp_path / "root")}
    there, _, licence = sketch_rnn.FILES[name]
    with pytest.raises(
        UserError, match=rf"^{name} is not in {root} \(looked for strokes/\w+.npz or sketch-rnn-data"
    ) as error:
        load_strokes(stroke_cfg(**cfg))
    assert sketch_rnn.PAGE in str(error.value) and licence in str(error.value)
    published = root / "sketch-rnn-datasets" / there
    published.parent.mkdir(parents=True)
    np.savez(published, **{split: of_arrays(part) for split, part in PARTS.items()})
    with pytest.raises(UserError, match=r"cannot be checked, as no checksums .*: accept it with data.verify=false$"):
        load_strokes(stroke_cfg(**cfg))
    one = load_strokes(stroke_cfg(**cfg, verify=False))
    assert one.name == name and not one.verified and [len(split) for split in one.splits.values()] == [4, 2, 1]
    file = root / "strokes" / published.name
    file.parent.mkdir()
    np.savez(file, **flat())
    with pytest.raises(UserError, match=rf"^{file} is not the published file \(its sha256 differs\): put {there} of "):
        load_strokes(stroke_cfg(**cfg))
    assert load_strokes(stroke_cfg(**cfg, verify=False)).fingerprint == one.fingerprint
    np.savez(file, train=of_arrays(PARTS["train"]), valid=of_arrays(PARTS["valid"]))
    with pytest.raises(UserError, match=f"^{file} is not {name}: it has no test$"):
        load_strokes(stroke_cfg(**cfg, verify=False, min_points=3))


@pytest.mark.data
def test_omniglot_as_published(stroke_cfg):
    data = load_strokes(stroke_cfg(name="omniglot_strokes"))
    assert data.verified and [len(split) for split in data.splits.values()] == [30_000, 1_000, 1_000]
    assert len(data.train.points) == 933_430
