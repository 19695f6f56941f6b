"""What is said is shown as it is."""

from __future__ import annotations

import io

import pytest

from hyperrun.tracking import console
from hyperrun.tracking.console import Console, watched


def test_text_is_neither_markup_nor_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    text = "x[a:b:c] s[i:x:k] [bold]no[/bold] lambda:key:"
    Console().say(text)
    Console().warn(text)
    assert capsys.readouterr().out == f"{text}\nwarning: {text}\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_work_is_watched(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert [*watched(iter("ab"), 2, "pictures")] == ["a", "b"]
    assert capsys.readouterr() == ("", ""), "short work needs no words"
    monkeypatch.setattr(console, "LINE_EVERY_S", -1)
    assert [*watched(iter("ab"), 2, "pictures")] == ["a", "b"]
    assert capsys.readouterr() == ("", "1 of 2 pictures\n2 of 2 pictures\n")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    assert [*watched(iter("ab"), 2, "pictures")] == ["a", "b"]
    assert "pictures" in terminal.getvalue() and "2 of 2" in terminal.getvalue() and capsys.readouterr().out == ""
