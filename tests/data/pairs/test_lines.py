"""Sentences in files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hyperrun.data.pairs import lines
from hyperrun.data.pairs.lines import ListedTexts, SomeTexts, TextFile, sgm_segments
from hyperrun.errors import UserError

PACKERS = {"": lambda content: content, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_zst_files_are_read_by_zstandard_and_without_it_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a module in zstandard's place, which is called as that is and unpacks gzip."""
    path = written(tmp_path, "text.zst", gzip.compress("Où est-il ?\nà côté\n".encode()))
    monkeypatch.setitem(sys.modules, "zstandard", SimpleNamespace(open=gzip.open))
    assert list(TextFile(path)) == ["Où est-il ?", "à côté"]
    monkeypatch.setitem(sys.modules, "zstandard", None)  # importing it fails
    with pytest.raises(UserError) as refused:
        TextFile(path)
    assert str(refused.value) == f"{path}: pip install zstandard reads .zst files; or unpack it (zstd -d)"


def test_a_zst_file_as_zstandard_packs_it(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="reads .zst files where it is installed")
    packed = zstandard.ZstdCompressor().compress(b"one\n\ntwo\n")
    assert list(TextFile(written(tmp_path, "text.zst", packed))) == ["one", "", "two"]


@pytest.mark.parametrize("ending", PACKERS)
def test_a_file_gives_its_lines_however_it_is_packed(tmp_path: Path, ending: str) -> None:
    packed = PACKERS[ending]("Où est-il ?\n\nà côté\n".encode())
    texts = TextFile(written(tmp_path, f"text{ending}", packed))
    assert (list(texts), len(texts)) == (["Où est-il ?", "", "à côté"], 3)
    plain = TextFile(written(tmp_path, "plain", "Où est-il ?\n\nà côté\n".encode()))
    assert texts.digest == plain.digest, "the text counts, not how it is packed"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one\ntwo", ["one", "two"]),  # without a line feed at the end
        (b"one\r\ntwo\r\n", ["one", "two"]),
        ("\ufeffone\ntwo\n".encode(), ["one", "two"]),
        # where Python's splitlines would cut, and translations would no longer stand beside their sentences
        ("a\u2028b\x0bc\x85\u0085d\x0c\n".encode("utf-8", "surrogateescape"), ["a\u2028b\x0bc\x85\u0085d\x0c"]),
        (b"\n", [""]),
    ],
)
def test_only_a_line_feed_ends_a_line(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    texts = TextFile(written(tmp_path, "text", content))
    assert (list(texts), len(texts)) == (expected, len(expected))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", b"", "is empty"),
        ("latin1", "un\nété\n".encode("latin-1"), "byte 0xe9 in line 2"),
        ("cut.gz", gzip.compress(b"a sentence\n" * 50, mtime=0)[:-12], "cannot read"),
        ("no.gz", b"a sentence\n", "cannot read"),
        ("cut.xz", lzma.compress(b"a sentence\n" * 50)[:-12], "cannot read"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(UserError, match=message) as refusal:
        list(TextFile(path))
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        TextFile(tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot read .*directory"):
        TextFile(tmp_path)


def test_the_checksum_of_a_large_file_is_kept_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "REMEMBERED_FROM", 4)
    path, memory = written(tmp_path, "text", b"one\ntwo\n"), tmp_path / "memory"
    first = TextFile(path, memory)
    with monkeypatch.context() as patch:
        patch.setattr(TextFile, "_counted", lambda self: pytest.fail("read again"))
        again = TextFile(path, memory)
        assert (again.digest, len(again)) == (first.digest, 2)
    path.write_bytes(b"one\ntwo\nthree\n")
    os.utime(path, ns=(1, 1))
    assert len(TextFile(path, memory)) == 3 and TextFile(path, memory).digest != first.digest


def test_some_of_the_texts_and_digests() -> None:
    texts = ListedTexts(["a", "b", "c"])
    which = np.array([True, False, True])
    some = SomeTexts(texts, which)
    assert (list(some), len(some), list(some)) == (["a", "c"], 2, ["a", "c"])
    assert len({texts.digest, some.digest, SomeTexts(texts, ~which).digest}) == 3


SGM = """<srcset setid="t" srclang="any">
<doc docid="one" genre="news">
<p>
<seg id="1">Black &amp; white</seg>
<seg id="2"> Two
 lines </seg>
</p>
</doc>
<doc docid="two"><seg id="1">Again</seg></doc>
</srcset>
"""


def test_segments_of_an_sgm_file(tmp_path: Path) -> None:
    path = written(tmp_path, "test.sgm.xz", lzma.compress(SGM.encode()))
    expected = {("one", "1"): "Black & white", ("one", "2"): "Two\n lines", ("two", "1"): "Again"}
    assert sgm_segments(path) == expected
    with pytest.raises(UserError, match="no SGM file"):
        sgm_segments(written(tmp_path, "plain.sgm", b"a sentence\n"))
