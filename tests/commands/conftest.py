"""Three ways to run a command line, from fast to real: in this process, in a forked one, in a new one (run_cli)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hyperrun import cli
from tests.running import EVERYTHING, Running


@dataclass
class Done:
    """How a command line ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a function that runs a command line in this process, in the test's folder: here("ls", "models").

    A status other than `status` (0; None for any) fails the test and shows what was printed.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    for name in ("HYPERRUN_SWEEP", "HYDRA_FULL_ERROR"):  # a command line sets them; put back after the test
        monkeypatch.setenv(name, "")

    def run(*argv: str | Path, status: int | None = 0) -> Done:
        monkeypatch.delenv("HYPERRUN_SWEEP", raising=False)
        capsys.readouterr()
        try:
            ended = cli.main([str(word) for word in argv])
        except SystemExit as error:  # argparse, and Hydra's --help
            ended = error.code if isinstance(error.code, int) else 0
        out, err = capsys.readouterr()
        assert status is None or ended == status, f"{argv}: status {ended}\n{out}\n{err}"
        return Done(ended, out, err)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Return a function that starts a command line in a forked process, in the test's folder unless told otherwise.

    start("train", "seed=1", before="code run first"). What still runs when the test ends is killed.
    """
    started: list[Running] = []

    def begin(*argv: str, cwd: Path = tmp_path, **options: Any) -> Running:
        cwd.mkdir(exist_ok=True)
        started.append(Running(*argv, cwd=cwd, **options))
        return started[-1]

    yield begin
    for running in started:
        running.send(signal.SIGKILL)
        running.wait()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of EVERYTHING, trained at one go."""
    running = Running("train", *EVERYTHING, cwd=tmp_path_factory.mktemp("uninterrupted"))
    assert running.wait() == 0, running.err
    return running.folder
