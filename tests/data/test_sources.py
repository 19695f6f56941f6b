from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hyperrun.data.sources import DIFFERS, MISSING, OK, UNCHECKABLE, Form, Source, check, data_root, find
from hyperrun.errors import UserError


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


PICKLES = Form("python", "py", {"py/a": md5("a"), "py/b": md5("b")}, pickled=True)
ARCHIVE = Form("archive", "bin.tgz", {"bin.tgz": md5("archive")})
BINARY = Form("binary", "bin", {"bin/a": None, "bin/b": None})
SOURCE = Source("set", (PICKLES, ARCHIVE, BINARY), ())


def put(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_tgz", ".tgz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_first_form_with_published_checksums_wins(tmp_path):
    put(tmp_path, bin__a="?", bin__b="?")
    assert find(SOURCE, tmp_path, verify=False) == (BINARY, False)
    put(tmp_path, bin_tgz="archive")
    assert find(SOURCE, tmp_path, verify=True) == (ARCHIVE, True)
    put(tmp_path, py__a="a", py__b="b")
    assert find(SOURCE, tmp_path, verify=True) == (PICKLES, True)
    assert find(SOURCE, tmp_path, verify=False) == (PICKLES, True)


def test_altered_pickles_are_passed_over_for_another_form(tmp_path):
    put(tmp_path, py__a="a", py__b="evil", bin__a="?", bin__b="?")
    assert find(SOURCE, tmp_path, verify=False) == (BINARY, False)


@pytest.mark.parametrize("verify", [True, False])
def test_altered_pickles_are_never_read(tmp_path, verify):
    put(tmp_path, py__a="a", py__b="evil")
    with pytest.raises(UserError, match=r"py/b is a pickle whose md5 .* whatever data.verify says; fetch it anew"):
        find(SOURCE, tmp_path, verify=verify)


def test_an_altered_file_is_refused_unless_verify_is_off(tmp_path):
    put(tmp_path, bin_tgz="damaged")
    with pytest.raises(UserError, match=r"bin\.tgz is not the published file .* or accept it with data.verify=false"):
        find(SOURCE, tmp_path, verify=True)
    assert find(SOURCE, tmp_path, verify=False) == (ARCHIVE, False)


def test_files_without_published_checksums_are_refused_unless_verify_is_off(tmp_path):
    put(tmp_path, bin__a="?", bin__b="?")
    with pytest.raises(UserError, match=r"bin cannot be checked.*put bin\.tgz beside it.*data.verify=false"):
        find(SOURCE, tmp_path, verify=True)


def test_missing_files_say_where_and_what_to_type(tmp_path):
    with pytest.raises(UserError) as caught:
        find(SOURCE, tmp_path, verify=True)
    assert str(caught.value) == (
        f"set is not in {tmp_path} (looked for py or bin.tgz or bin): "
        "fetch it with `hyperrun data set --download`, or set HYPERRUN_DATA=DIR"
    )
    put(tmp_path, bin__a="?")
    with pytest.raises(UserError, match="set is incomplete in .*: bin/b missing"):
        find(SOURCE, tmp_path, verify=False)


def test_a_root_that_was_typed_is_in_the_advice(tmp_path):
    root = tmp_path / "my data"
    with pytest.raises(UserError, match=f"`hyperrun data set --root '{root}' --download`, or set data.root=DIR$"):
        find(SOURCE, root, verify=True, explicit_root=True)


def test_check_says_the_worst_of_a_form(tmp_path):
    assert check(PICKLES, tmp_path).status == MISSING and not check(PICKLES, tmp_path).found
    put(tmp_path, py__a="x")
    assert check(PICKLES, tmp_path).status == MISSING and check(PICKLES, tmp_path).found
    put(tmp_path, py__b="b", bin__a="?", bin__b="?")
    assert check(PICKLES, tmp_path).status == DIFFERS
    assert [file.checksum for file in check(PICKLES, tmp_path).files] == [DIFFERS, OK]
    assert check(PICKLES, tmp_path, checksums=False).status == UNCHECKABLE
    assert check(BINARY, tmp_path).status == UNCHECKABLE
    put(tmp_path, py__a="a")
    assert check(PICKLES, tmp_path).status == OK


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    put(tmp_path, bin_tgz="archive")
    (tmp_path / "bin.tgz").chmod(0)
    with pytest.raises(UserError, match=r"cannot read .*bin\.tgz: Permission denied"):
        find(SOURCE, tmp_path, verify=True)


def test_data_root_prefers_the_config_then_the_environment_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HYPERRUN_DATA", "~/sets")
    assert data_root("~/typed") == tmp_path / "typed"
    assert data_root(None) == tmp_path / "sets"
    monkeypatch.setenv("HYPERRUN_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root(None) == tmp_path / "cache" / "hyperrun"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_root(None) == tmp_path / ".cache" / "hyperrun"
    monkeypatch.setattr("sys.platform", "darwin")
    assert data_root(None) == tmp_path / "Library" / "Caches" / "hyperrun"


def test_a_set_that_is_fetched_by_hand_says_how(tmp_path):
    sha256 = hashlib.sha256(b"a").hexdigest()
    source = Source("book", (Form("text", "book", {"book": sha256}),), (), "put book there")
    with pytest.raises(
        UserError, match=r"book is not in .* \(looked for book\): put book there, or set HYPERRUN_DATA=DIR"
    ):
        find(source, tmp_path, verify=True)
    put(tmp_path, book="b")
    assert check(source.forms[0], tmp_path).status == DIFFERS
    with pytest.raises(UserError, match=r"\(its sha256 differs\): put book there, or accept it with data.verify=false"):
        find(source, tmp_path, verify=True)
    assert find(source, tmp_path, verify=False) == (source.forms[0], False)
    put(tmp_path, book="a")
    assert find(source, tmp_path, verify=True) == (source.forms[0], True)
