"""Command lines in processes of their own that start in a tenth of a second, can be killed, and what they leave.

Importing torch and Hydra takes seconds, so one process does that once (the zygote) and forks for every command line.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

REPO = Path(__file__).resolve().parent.parent

QUIET = ("tracking.wandb.mode=disabled", "precision=float32")
FAST = ("trainer.max_steps=8", "trainer.log_every=2", *QUIET)
"""A run of the default model that takes a fraction of a second."""

TINY = ("model=hyperresnet", "target.depth=10", "target.width=1", "hypernet.z_dim=4")
"""A model with batch norms and generated kernels, whose steps take milliseconds on the digits."""

EVERYTHING = (
    *TINY,
    *QUIET,
    "target.dropout=0.1",
    "data.crop_padding=1",
    "data.flip=true",
    "data.cutout=2",
    "optim.generated_l2=1e-4",
    "trainer.ema=0.9",
    "trainer.accumulate=2",
    "trainer.clip_norm=1.0",
    "trainer.label_smoothing=0.1",
    "trainer.batch_size=16",
    "trainer.eval_every=7",
    "trainer.log_every=5",
    "trainer.max_steps=36",
    "trainer.save_every_s=0.04",
)
"""A run of about a second in which all that a resumed run could get wrong is turned on."""

ZYGOTE = """
import atexit, json, os, shutil, sys, tempfile, threading, traceback
import sklearn.datasets, wandb
from wandb.sdk.artifacts.artifact import Artifact
from wandb.sdk.data_types import _private as wandb_media
import hyperrun.commands.train, hyperrun.tasks.classification, hyperrun.tasks.language_modeling
from hyperrun.cli import main

print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "poll" in request:
        pid, status = os.waitpid(request["poll"], os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        os.setsid()
        # of its own: the first child that ends would take W&B's folder for pictures away from all that come later
        wandb_media.MEDIA_TMP._finalizer.detach()
        atexit.unregister(wandb_media.MEDIA_TMP.cleanup)
        Artifact._TMP_DIR._finalizer.detach()
        atexit.unregister(Artifact._TMP_DIR.cleanup)
        wandb_media.MEDIA_TMP.name = tempfile.mkdtemp("wandb-media")
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(os.open(request["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        status = 1
        try:
            exec(request["before"])
            status = main(request["argv"])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        threading._shutdown()  # as the interpreter does, and joblib expects
        atexit._run_exitfuncs()
        shutil.rmtree(wandb_media.MEDIA_TMP.name, ignore_errors=True)  # a test may have become another user
        sys.stdout.flush()
        os._exit(status)  # freeing all of torch's modules would take another second
    print(pid, flush=True)
wandb_media.MEDIA_TMP.cleanup()
Artifact._TMP_DIR.cleanup()
os._exit(0)
"""


class Zygote:
    """The process that forks."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile("w+")
        # what the test that happens to be the first has set for itself is not for all the others
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HYPERRUN_", "HYDRA_", "COLUMNS"))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**inherited, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
            text=True,
        )
        assert self._answer(300) == "ready"

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self._answer(60))

    def _answer(self, timeout: float) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline().strip() if ready else ""
        if not line:
            self.errors.seek(0)
            pytest.fail(f"the process that forks does not answer: {self.errors.read()}")
        return line

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.errors.close()


@functools.cache
def zygote() -> Zygote:
    """Return the one of this test session."""
    made = Zygote()
    atexit.register(made.close)
    return made


class Running:
    """A command line in a process of its own, which is the leader of a session of its own.

    before: Python code that the process executes first. out: a file or terminal for its standard output.
    """

    def __init__(
        self,
        *argv: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        before: str = "",
        out: Path | None = None,
    ) -> None:
        self.cwd = cwd
        logs = Path(tempfile.mkdtemp(prefix=".said-", dir=cwd))
        self._out, self._err = out or logs / "out", logs / "err"
        files = {"out": str(self._out), "err": str(self._err)}
        words = [str(word) for word in argv]
        self.pid: int = zygote().ask(argv=words, cwd=str(cwd), env=dict(env or {}), before=before, **files)
        self.status: int | None = None

    def poll(self) -> int | None:
        """Return its exit status (minus the signal's number if it was killed), or None while it runs."""
        if self.status is None:
            self.status = zygote().ask(poll=self.pid)
        return self.status

    def wait(self, timeout: float = 240) -> int:
        """Return its exit status."""
        self.until(lambda: self.poll() is not None, timeout)
        assert self.status is not None
        return self.status

    def until(self, condition: Callable[[], object], timeout: float = 120) -> None:
        """Wait until `condition` holds; if it does not in time the process is killed and the test fails."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                pytest.fail(f"waited {timeout} s in vain\n{self.out}\n{self.err}")
            time.sleep(0.005)

    def send(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    @property
    def out(self) -> str:
        return self._out.read_text() if self._out.is_file() else ""

    @property
    def err(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    @property
    def folder(self) -> Path:
        """The one run folder below the folder where the line was typed."""
        return only_run(self.cwd)

    def has_trained(self, steps: int = 1) -> bool:
        """Return whether a row of metrics.jsonl stands for at least that many steps."""
        return any(row["step"] >= steps for file in self.cwd.glob("outputs/*/*/metrics.jsonl") for row in rows(file))


def train_in(cwd: Path, *line: str, env: Mapping[str, str] | None = None) -> Path:
    """Train a line in a new folder to its end; return the run folder."""
    cwd.mkdir()
    running = Running("train", *line, cwd=cwd, env=env)
    assert running.wait() == 0, running.err
    return running.folder


# ---------------------------------------------------------------- what a run left


def only_run(cwd: Path) -> Path:
    """Return the one run folder below cwd/outputs."""
    found = [path.parent for path in cwd.glob("outputs/*/*/config.yaml")]
    assert len(found) == 1, found
    return found[0]


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl (or that in a run folder), a last one that is half-written left out."""
    file = path / "metrics.jsonl" if path.is_dir() else path
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same whenever, wherever and however fast it is computed."""
    return {k: v for k, v in row.items() if not k.startswith(("time/", "throughput/")) and k not in ("command", "git")}


TIMED = ("timed_s", "timed_steps", "timed_examples", "timed_tokens")
CLOCKED = ("train_s", "warm_up_s", "eval_s", "save_s", *TIMED, "made_with")
"""Fields of a checkpoint's loop that are what the clock said."""


def checkpoint(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def leftovers(folder: Path) -> list[str]:
    """Return the files that hold half of something."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp"))


def assert_same_bits(a: Any, b: Any, where: str) -> None:
    """Compare what two checkpoints hold, tensors bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape, where
        assert a.contiguous().view(-1).view(torch.uint8).equal(b.contiguous().view(-1).view(torch.uint8)), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same_bits(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_same_bits(left, right, f"{where}/{i}")
    else:
        assert a == b, where


def assert_same_run(folder: Path, reference: Path) -> None:
    """Assert that a run ended exactly like the reference: weights, optimizer, generators, rows, summary."""
    assert folder.name == reference.name
    for name in ("best.pt", "last.pt"):
        states = [checkpoint(path / "checkpoints" / name) for path in (folder, reference)]
        for state in states:
            state.pop("metrics_position", None)  # bytes: the times in the rows have more or fewer digits
            for key in CLOCKED:
                state.get("loop", {}).pop(key, None)
        assert_same_bits(states[0], states[1], name)
    ours, theirs = ([without_clock(row) for row in rows(path)] for path in (folder, reference))
    assert ours == theirs
    assert without_clock(summary(folder)) == without_clock(summary(reference))
