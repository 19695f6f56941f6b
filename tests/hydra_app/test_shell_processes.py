"""Whole processes under what a shell may do to them: nobody reads, streams are missing, nobody is at home."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import FAST, REPO, Running, summary

Start = Callable[..., Running]


def finished(cwd: Path) -> list[str]:
    """Return the status of each run below cwd/outputs."""
    return [summary(path.parent)["status"] for path in sorted(cwd.glob("outputs/*/*/summary.json"))]


UNREAD = "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)"
"""What `| true` does to standard output, before a word is said."""


def test_a_run_that_nobody_reads_is_finished(start: Start, tmp_path: Path) -> None:
    running = start("train", *FAST, before=UNREAD)
    assert running.wait() == 0, running.err
    assert finished(tmp_path) == ["finished"] and running.err == ""


def test_a_sweep_that_nobody_reads_trains_all_its_jobs(start: Start, tmp_path: Path) -> None:
    running = start("train", "-m", "seed=0,1", *FAST, before=UNREAD)
    assert running.wait() == 0, running.err
    assert finished(tmp_path) == ["finished"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["| head -1", ">&-", ">&- 2>&- <&-", "2>/dev/full >/dev/null"])
def test_endings_of_a_command_line(tmp_path: Path, ending: str) -> None:
    line = shlex.join([sys.executable, "-m", "hyperrun", "train", *FAST])
    bash = ["bash", "-o", "pipefail", "-c", f"{line} {ending}"]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(bash, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "" and finished(tmp_path) == ["finished"]
    assert done.stdout.count("\n") == (ending == "| head -1")


NOBODY = """
for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "USER", "LOGNAME", "MPLCONFIGDIR"):
    os.environ.pop(name, None)
os.setresuid(54321, 0, 0)
"""
"""A container's `--user 54321`: no entry in /etc/passwd, and no $HOME. What root may read it still may."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("line", ["env", "data", "train"])
def test_a_user_without_a_home_or_a_name(start: Start, line: str) -> None:
    running = start(line, *(FAST if line == "train" else ()), before=NOBODY)
    status = running.wait()
    assert status == 0 and "Traceback" not in running.err + running.out, running.err


@pytest.mark.slow
def test_compiling_without_a_compiler(start: Start, tmp_path: Path) -> None:
    nowhere = {"CXX": "/nowhere/g++", "PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    running = start("train", "compile=true", *FAST, env=nowhere)
    assert running.wait() == 2, running.out + running.err
    assert "compile=true needs a C++ compiler" in running.err and "Traceback" not in running.out + running.err
