"""What a figure was measured on: hardware, versions, commit, command."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

THEN = ", then "
"""Between two of a resumed run's devices, versions or commits."""

UNKNOWN = "unknown"
"""Beside a known one: the commit of a process whose hyperrun was not a checkout."""


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the CPU's with the number of threads torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_name()} ({threads} thread{'s' if threads > 1 else ''})"


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache  # what is committed while this process runs is not what it runs
def git_commit() -> str | None:
    """Return the commit of hyperrun's own checkout, with "+" if files were changed; None when installed as a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def made_with(device: torch.device) -> dict[str, str | None]:
    """Return what this process makes its figures with, as summary.json says it."""
    return {"device": device_name(device), "torch": str(torch.__version__), "git": git_commit()}


def and_now(before: Mapping[str, str | None], now: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return what a resumed run is made with: "A, then B" where it goes on with another B than it had last."""
    both = dict(now)
    for name, value in before.items():
        had, has = value or UNKNOWN, now[name] or UNKNOWN
        both[name] = value if had.split(THEN)[-1] == has else f"{had}{THEN}{has}"
    return both


def _git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
