from __future__ import annotations

import platform
import sys
from dataclasses import replace

import pytest
import torch

from hyperrun.config import run_hash
from hyperrun.data import inputs_of, load_text, looks_of, make_text, names_of, register
from hyperrun.data.kinds import TextData
from hyperrun.data.vocabulary import Vocabulary, number_characters
from hyperrun.errors import UserError
from hyperrun.inputs import Symbols
from tests.composed import compose_config

ABC = Vocabulary("char", ["a", "b", "c"])

TEXTS = names_of("text")


@pytest.fixture
def file(tmp_path, text_cfg):
    """Return a function that writes a file and returns a config that reads it."""

    def write(content: str | bytes, **keys) -> TextData:
        path = tmp_path / "my text.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return text_cfg(path=str(path), **keys)

    return write


def test_a_file_is_cut_in_order_and_nothing_is_lost(file):
    text = "".join(chr(97 + i % 26) for i in range(95)) + "XY€\r\n"
    data = load_text(file(text, val_fraction=0.1, test_fraction=0.05))
    assert [len(part) for part in (data.train, data.val, data.test)] == [85, 10, 5]
    assert data.vocabulary.decode(torch.cat([data.train, data.val, data.test])) == text
    assert data.vocabulary_size == 31 and "€" in data.symbols  # only in the test part
    assert data.name == "text" and data.unit == "char" and data.train.dtype == torch.uint8 and data.verified
    assert data.describe() == "text: 85 / 10 / 5 characters to train / validate / test, 31 different"


@pytest.mark.parametrize(
    ("unit", "count", "symbols"), [("char", 40, 4), ("word", 30, 3), ("byte", 50, 5)], ids=["char", "word", "byte"]
)
def test_units(file, unit, count, symbols):
    data = load_text(file("é b\n" * 10, unit=unit))
    assert len(data.train) + len(data.val) + len(data.test) == count and data.vocabulary_size == symbols
    assert data.vocabulary.decode(data.test).endswith("b\n")
    assert data.facts()["data/unit"] == unit and data.facts()["data/vocabulary"] == symbols


@pytest.mark.parametrize(
    ("unit", "encoding"),
    [("char", "utf-8"), ("char", "utf-16-le"), ("word", "utf-8"), ("word", "utf-16-le"), ("byte", "UTF8")],
)
def test_byte_order_mark_is_no_symbol(file, unit, encoding):
    text = "the quick brown fox\n" * 10
    plain = load_text(file(text.encode(encoding), unit=unit, encoding=encoding))
    marked = load_text(file(("\ufeff" + text).encode(encoding), unit=unit, encoding=encoding))
    assert marked.symbols == plain.symbols and marked.fingerprint == plain.fingerprint
    assert len(load_text(file(text + "\ufeff", unit=unit)).symbols) > len(plain.symbols), "elsewhere it is a character"


def test_validation_longer_than_training_is_said(here, tmp_path):
    (tmp_path / "a.txt").write_text("the quick brown fox " * 40)
    line = ["data=text", "data.path=a.txt", "data.val_fraction=0.6", "data.sequence_length=8", "trainer.max_steps=1"]
    small = ["model=lstm", "target.hidden_size=4", "trainer.batch_size=2", "tracking.wandb.mode=disabled"]
    out = here("train", *line, *small).out
    assert "warning: validation is larger than training: 480 against 280; data.val_fraction sets it" in out


def test_a_declared_encoding_is_used(file):
    content = ("ñandú " * 20).encode("utf-16")
    assert "ú" in load_text(file(content, encoding="utf-16")).symbols
    assert load_text(file(content, unit="byte")).unit == "byte"


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        ("", {}, r"my text\.txt is empty$"),
        (
            b"fine\nbut \xe9t\xe9",
            {},
            r"my text\.txt is not utf-8: byte 0xe9 at position 9 \(line 2\); name its encoding with "
            r"data\.encoding=\.\.\., or take bytes as symbols with data.unit=byte$",
        ),
        ("abc", {"encoding": "utf-16"}, "is not utf-16: byte 0x63 at position 2"),
        (
            "abcdefghijklm",
            {},
            "is too short: of its 13 characters 11 / 1 / 1 are left to train / validate / test, and each part needs 2",
        ),
        ("a\n", {"unit": "word"}, "is too short: of its 2 words 2 / 0 / 0"),
        (
            "abc" * 99,
            {"val_fraction": None, "test_fraction": None},
            "data=text brings no split: set data.val_fraction ",
        ),
    ],
)
def test_files_that_cannot_be_learned_from(file, content, keys, message):
    with pytest.raises(UserError, match=message) as caught:
        load_text(file(content, **keys))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(text_cfg, tmp_path):
    with pytest.raises(UserError, match="^data=text needs data.path=FILE, a text file of your own$"):
        load_text(text_cfg())
    with pytest.raises(UserError, match="^there is no file .*nowhere.txt$"):
        load_text(text_cfg(path=str(tmp_path / "nowhere.txt")))
    with pytest.raises(UserError, match="^cannot read .*: Is a directory$"):
        load_text(text_cfg(path=str(tmp_path)))


def test_a_path_may_start_at_home(text_cfg, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.txt").write_text("words and more words " * 5)
    assert load_text(text_cfg(path="~/mine.txt")).vocabulary_size == 10


# ---------------------------------------------------------------- pydocs


def test_pydocs_is_the_whole_reference_text(text_cfg):
    from pydoc_data.topics import topics

    data = load_text(text_cfg(name="pydocs", val_fraction=0.05, test_fraction=0.05))
    text = data.vocabulary.decode(torch.cat([data.train, data.val, data.test]))
    assert all(topic in text for topic in topics.values())
    assert len(text) == sum(map(len, topics.values())) + len(topics) - 1 > 400_000
    assert data.symbols == sorted(set(text)) and 90 < data.vocabulary_size < 120
    assert data.edition == data.facts()["data/edition"] == f"Python {platform.python_version()}"
    assert f"pydocs (Python {platform.python_version()}): " in data.describe()
    assert len(data.val) == len(data.test) == int(0.05 * len(text))


@pytest.mark.parametrize("unit", ["word", "byte"])
def test_pydocs_in_other_units(text_cfg, unit):
    data = load_text(text_cfg(name="pydocs", unit=unit))
    assert data.unit == unit and "The following" in data.vocabulary.decode(data.train)
    assert data.train.dtype == (torch.uint8 if unit == "byte" else torch.int16)


def test_pydocs_mistakes(text_cfg, monkeypatch):
    with pytest.raises(
        UserError, match=r"^data.path=x: pydocs reads no such file; leave it at null, or choose data=text"
    ):
        load_text(text_cfg(name="pydocs", path="x"))
    with pytest.raises(UserError, match="^data.encoding=ascii cannot express '.' of pydocs; utf-8 can$"):
        load_text(text_cfg(name="pydocs", unit="byte", encoding="ascii"))
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(UserError, match=r"packaged without its reference text \(pydoc_data\): data=text reads"):
        load_text(text_cfg(name="pydocs"))


# ---------------------------------------------------------------- what is read, and by what name


def test_plugins_register_texts_and_they_are_kept(text_cfg, monkeypatch):
    calls = []

    @register("data", "verses", TextData)
    def verses(cfg):
        calls.append(cfg)
        vocabulary, (train, val, test) = number_characters(["abca", "ab", "dc"])
        return make_text("verses", train=train, val=val, test=test, vocabulary=vocabulary)

    first = load_text(text_cfg(name="verses"))
    assert first.symbols == ["a", "b", "c", "d"]
    feeding = {"sequence_length": 2, "eval_streams": 1, "eval_burn_in": 0, "epochs": 3}
    assert load_text(text_cfg(name="verses", **feeding)) is first
    assert load_text(text_cfg(name="verses", root="elsewhere")) is not first and len(calls) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": torch.tensor([0, 3])}, "mine: train: numbers run from 0 to 3, allowed are 0 to 2"),
        ({"val": torch.tensor([-1, 2])}, "mine: val: numbers run from -1 to 2"),
        ({"test": torch.tensor([1])}, "mine: test: 1 symbols, and it takes two"),
        ({"val": torch.tensor([0.0, 1.0])}, r"mine: val: must be integers \[N\], not torch.float32 \[2\]"),
        ({"val": torch.zeros(2, 2, dtype=torch.int64)}, r"not torch.int64 \[2, 2\]"),
    ],
)
def test_wrong_tensors_of_a_plugin_are_named(change, message):
    ids = {part: torch.tensor([0, 1, 2]) for part in ("train", "val", "test")}
    assert make_text("mine", **ids, vocabulary=ABC).train.dtype == torch.uint8
    with pytest.raises(UserError, match=message):
        make_text("mine", **{**ids, **change}, vocabulary=ABC)


def test_fingerprints_tell_texts_splits_and_vocabularies_apart(file):
    base = load_text(file("abcd" * 50))
    assert base.fingerprint == load_text(file("abcd" * 50)).fingerprint and len(base.fingerprint) == 8
    others = [
        load_text(file("abcd" * 49 + "abdc")),
        load_text(file("abcd" * 50, val_fraction=0.2)),
        load_text(file("abce" * 50)),
        load_text(file("abcd" * 50, unit="byte")),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_a_file_that_was_written_anew_is_read_anew(file):
    cfg = file("abcd" * 50)
    assert load_text(cfg) is load_text(cfg)
    assert load_text(file("abcde" * 50)).vocabulary_size == 5


def test_unknown_name_lists_what_is_allowed(text_cfg):
    with pytest.raises(UserError, match=r"unknown text 'pt_char'; did you mean 'ptb_char'\? \(allowed: enwik8, "):
        load_text(text_cfg(name="pt_char"))


def test_vocabulary_sizes_without_reading(text_cfg):
    assert {name for name in TEXTS if looks_of(name)} == set(TEXTS) - {"text", "pydocs"}
    enwik8 = text_cfg(name="enwik8", unit="byte", val_fraction=None, test_fraction=None)
    assert inputs_of(enwik8) == Symbols(205)
    assert inputs_of(text_cfg(name="pydocs")) == load_text(text_cfg(name="pydocs")).inputs


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_has_a_config(name):
    config = compose_config([f"data={name}"])
    assert isinstance(config.data, TextData) and config.data.name == name and config.data.root is None
    assert (config.data.val_fraction is None) == (looks_of(name) is not None)
    moved = replace(config, data=replace(config.data, root="elsewhere"))
    assert run_hash(moved) == run_hash(config)
    other = replace(config, data=replace(config.data, path="another.txt"))
    assert run_hash(other) != run_hash(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.unit=chars", r"unknown data.unit 'chars'; did you mean 'char'\? \(allowed: byte, char, word\)"),
        ("data.encoding=utf9", r"data: encoding 'utf9' is none that Python knows \(utf-8, latin-1, ...\)"),
        ("data.encoding=base64", "data: encoding 'base64' is none"),
        ("data.sequence_length=0", "data: sequence_length must be at least 1, not 0"),
        ("data.eval_streams=0", "data: eval_streams must be at least 1"),
        ("data.eval_burn_in=-1", "data: eval_burn_in must not be negative, not -1"),
        ("data.epochs=0", "data: epochs must be at least 1"),
        ("data.val_fraction=0.95", "data: val_fraction and test_fraction must be positive with a sum below 1"),
        ("data.test_fraction=null", "both null where the set brings its own split, not 0.05 and None"),
        ("data.test_fraction=0", "must be positive"),
        ("data.val_size=3", "val_size"),
    ],
)
def test_wrong_values_are_refused(override, message):
    with pytest.raises(UserError, match=message) as caught:
        compose_config(["data=pydocs", override])
    assert "\n" not in str(caught.value)
