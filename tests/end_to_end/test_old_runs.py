"""Run folders that an earlier commit left (tests/old_runs): today's code goes on with them and reads them."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.old_runs.make import EXPORT, HERE, LINES, PLAIN, TEXT, digest, machine, result
from tests.running import Running, summary

EXPECTED: dict[str, dict[str, Any]] = {
    name: json.loads((HERE / "expected" / f"{name}.json").read_text()) for name in LINES
}
OWN_TEXT = f"import sys; sys.path.insert(0, {str(TEXT)!r})"
"""Puts a fixed text in the place of Python's, in a process that is about to read it."""

Run = Callable[..., Running]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Return a function that runs a command line where a copy of the old outputs/ is, and returns the ended process."""
    shutil.copytree(HERE / "outputs", tmp_path / "outputs")

    def ended(*words: str | Path, status: int = 0) -> Running:
        running = Running(*map(str, words), cwd=tmp_path, env=PLAIN, before=OWN_TEXT)
        assert running.wait() == status, f"{words}\n{running.out}\n{running.err}"
        return running

    yield ended


def here(expected: dict[str, Any]) -> bool:
    """Return whether this machine computes the same last bits as the one that made the folders."""
    return expected["machine"] == machine()


def assert_close(found: Any, expected: Any, where: str = "") -> None:
    """Assert that figures agree as well as those of two CPUs can: numbers closely, everything else entirely."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_close(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_close(a, b, f"{where}/{index}")
    elif isinstance(expected, float):
        # an accuracy moves by whole examples
        assert found == pytest.approx(expected, rel=1e-3, abs=0.02 if "accuracy" in where else 1e-4), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("name", LINES)
def test_a_stopped_run_goes_on_to_the_same_end(run: Run, tmp_path: Path, name: str) -> None:
    expected = EXPECTED[name]
    folder = tmp_path / expected["stopped"]
    assert summary(folder)["status"] == "preempted"
    stopped_at = int(summary(folder)["error"].split("step ")[1].split(",")[0])
    running = run(*shlex.split(summary(folder)["command"])[1:])
    assert f"resume   from step {stopped_at}" in running.out
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted(
        path.name for path in (HERE / expected["stopped"]).parent.iterdir()
    ), "a folder of another name: the hash has changed"
    found = result(folder)
    if here(expected):
        assert found == expected["resumed"]
    else:
        found.pop("best.pt")
        assert_close(found, {key: value for key, value in expected["resumed"].items() if key != "best.pt"})


@pytest.mark.parametrize("name", LINES)
def test_a_finished_run_is_read(run: Run, tmp_path: Path, name: str) -> None:
    expected = EXPECTED[name]
    folder = tmp_path / expected["finished"]
    before = summary(folder)
    again = run(*shlex.split(before["command"])[1:])
    assert "finished already" in again.out and summary(folder) == before

    found = json.loads(run("eval", folder, "--json").out)
    assert_close(found, expected["eval"])
    assert not here(expected) or found == expected["eval"]
    assert found["test"][before["metric"]] == pytest.approx(before[f"test/{before['metric']}"], rel=1e-4)

    run("analyze", folder, "--symbols", "200", "--out", "analysis")
    assert json.loads((tmp_path / "analysis" / "analysis.json").read_text())["files"]

    if name in EXPORT:
        run("export", folder, "--out", "plain", *EXPORT[name])
        assert not here(expected) or digest(load_file(tmp_path / "plain" / "model.safetensors")) == expected["exported"]
    else:
        assert "hyperrun: error: " in run("export", folder, "--out", "plain", status=2).err


def test_a_language_model_and_images_are_sampled(run: Run, tmp_path: Path) -> None:
    expected = EXPECTED["hyperlstm"]
    text = json.loads(run("sample", tmp_path / expected["finished"], "--json", "--length", "80").out)["text"]
    assert len(text) == 80
    assert not here(expected) or text == expected["sample"]
    run("sample", tmp_path / EXPECTED["hypersiren"]["finished"], "--out", "images.png")
    assert (tmp_path / "images.png").read_bytes().startswith(b"\x89PNG")


def test_all_are_compared(run: Run, tmp_path: Path) -> None:
    out = run("compare", "outputs").out
    for name in LINES:
        assert name in out, "the finished one is in a table"
    listed = run("compare", "outputs", "--json").out
    for expected in EXPECTED.values():
        found = summary(tmp_path / expected["finished"])
        assert json.dumps(found[f"test/{found['metric']}"]) in listed
