"""What is said is shown as it is."""

from __future__ import annotations

import pytest

from hyperrun.tracking.console import Console


def test_text_is_neither_markup_nor_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    text = "x[a:b:c] s[i:x:k] [bold]no[/bold] lambda:key:"
    Console().say(text)
    Console().warn(text)
    assert capsys.readouterr().out == f"{text}\nwarning: {text}\n"
