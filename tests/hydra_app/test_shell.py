"""What a shell may do to a command line: home folders, odd letters, closed pipes, config files of one's own."""

from __future__ import annotations

import codecs
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperrun.commands.train import NO_COMPILER
from hyperrun.streams import going_on_unread, open_missing

Here = Callable[..., Any]


def test_home_folder_in_outputs(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here("train", 'outputs="~/runs"', "trainer.max_steps=1", "tracking.wandb.mode=disabled")
    assert not (tmp_path / "~").exists()
    assert len([*(tmp_path / "home" / "runs" / "digits").iterdir()]) == 1


@pytest.mark.parametrize("value", ["~/runs", "o=eq", "o[br]", "o{b", "a#b", "it's"])
def test_odd_letters_get_the_line_to_type(here: Here, value: str) -> None:
    said = here("train", "--dry-run", f"outputs={value}", status=2).err
    line = f"""'outputs="{value}"'""".replace("it's", """it'"'"'s""")
    assert said.endswith(f"is typed in quotes: {line}\n") and "LexerNoViable" not in said
    here("train", "--dry-run", f'outputs="{value}"')


MARK = codecs.BOM_UTF8
CONFIGS = {
    "yaml": (b"a: [1\nb: 2\n", "default.yaml, line 2, column 2: expected ',' or ']'"),
    "mark": (MARK + b"# @package _global_\nseed: 3\n", "a byte order mark stands before it"),
    "header": (b"seed: 3\n", "default.yaml: its first line must be '# @package _global_'"),
    "twice": (b"# @package _global_\nseed: 1\nseed: 2\n", "default.yaml, line 3, column 1: found duplicate key seed"),
    "tab": (b"# @package _global_\n\tseed: 1\n", "default.yaml, line 2, column 1: found character '\\t'"),
    "letters": (b"# @package _global_\nseed: \xff3\n", "default.yaml, line 2: not UTF-8"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_file_of_ones_own(here: Here, tmp_path: Path, name: str) -> None:
    content, part = CONFIGS[name]
    (tmp_path / "own" / "local").mkdir(parents=True)
    (tmp_path / "own" / "local" / "default.yaml").write_bytes(content)
    said = here("train", "--dry-run", "--config-dir", "own", status=2).err
    assert said.startswith("hyperrun: error: ") and said.count("\n") == 1 and part in said


def test_experiment_of_ones_own_in_a_folder(here: Here, tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment" / "sub").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "sub" / "mine.yaml").write_text("seed: 3\n")
    said = here("train", "--dry-run", "--config-dir", "own", "experiment=sub/mine", status=2).err
    assert "experiment/sub/mine.yaml: its first line must be '# @package _global_'" in said and said.count("\n") == 1


@pytest.mark.parametrize("line", [("env",), ("data",), ("train", "--dry-run", "data=mnist")])
def test_nobody_is_at_home(here: Here, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]) -> None:
    def nobody(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    here(*line)
    said = here("train", "--dry-run", 'outputs="~/runs"', status=2).err
    assert "no home folder is known" in said


def test_streams_without_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with going_on_unread():
            for _ in range(3):
                print("x" * 100_000, flush=True)


def test_streams_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    open_missing()
    with sys.stdout:
        print("nowhere")


@pytest.mark.parametrize(
    "said",
    ["InvalidCxxCompiler: No working C++ compiler found in torch._inductor", "Failed to find C compiler. Please"],
)
def test_compilers_that_are_missing_are_known(said: str) -> None:
    assert NO_COMPILER.search(said)
