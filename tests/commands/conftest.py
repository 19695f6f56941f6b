"""Three ways to run a command line, from fast to real: in this process, in a forked one, in a new one (run_cli)."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperrun import cli

REPO = Path(__file__).resolve().parents[2]

TINY = ("model=hyperresnet", "target.depth=10", "target.width=1", "hypernet.z_dim=4", "precision=float32")
"""A model with batch norms and generated kernels, whose steps take milliseconds on the digits."""

EVERYTHING = (
    *TINY,
    "target.dropout=0.1",
    "data.crop_padding=1",
    "data.flip=true",
    "data.cutout=2",
    "optim.generated_l2=1e-4",
    "trainer.ema=0.9",
    "trainer.accumulate=2",
    "trainer.clip_norm=1.0",
    "trainer.label_smoothing=0.1",
    "trainer.batch_size=32",
    "trainer.eval_every=7",
    "trainer.log_every=5",
    "trainer.max_steps=60",
    "trainer.save_every_s=0.05",
    "tracking.wandb.mode=disabled",
)
"""A run of about two seconds in which all that a resumed run could get wrong is turned on."""


# ---------------------------------------------------------------- in this process


@dataclass
class Done:
    """How a command line ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Return a function that runs a command line in this process, in the test's folder: cli_here("ls", "models").

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
        except SystemExit as error:  # argparse
            ended = error.code if isinstance(error.code, int) else 1
        out, err = capsys.readouterr()
        assert status is None or ended == status, f"{argv}: status {ended}\n{out}\n{err}"
        return Done(ended, out, err)

    return run


# ---------------------------------------------------------------- in a process that can be killed

ZYGOTE = """
import atexit, json, os, sys, traceback
import sklearn.datasets
import hyperrun.commands.train, hyperrun.tasks.classification
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
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(status)  # freeing all of torch's modules would take another second
    print(pid, flush=True)
os._exit(0)
"""
"""Imports torch and Hydra once; each request is a forked process that has them, and that ends much like any other."""


class Zygote:
    """Starts processes that run one command line each."""

    def __init__(self, errors: Path) -> None:
        self.errors = errors
        with open(errors, "w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ZYGOTE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
                text=True,
            )
        self.answer(120)

    def answer(self, timeout: float = 30) -> Any:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline().strip() if ready else ""
        assert line, f"the process that forks does not answer: {self.errors.read_text()}"
        return line if line == "ready" else json.loads(line)

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class Running:
    """A command line in a process of its own."""

    def __init__(self, zygote: Zygote, argv: tuple[str, ...], cwd: Path, env: Mapping[str, str], before: str) -> None:
        self.cwd = cwd
        number = len(list(cwd.glob(".stdout-*")))
        self.out_file, self.err_file = cwd / f".stdout-{number}", cwd / f".stderr-{number}"
        self.out_file.touch()
        self.zygote = zygote
        files = {"out": str(self.out_file), "err": str(self.err_file)}
        self.pid: int = zygote.ask(argv=argv, cwd=str(cwd), env=dict(env), before=before, **files)
        self.status: int | None = None

    def poll(self) -> int | None:
        """Return its exit status (minus the signal's number if it was killed), or None while it runs."""
        if self.status is None:
            self.status = self.zygote.ask(poll=self.pid)
        return self.status

    def wait(self, timeout: float = 120) -> int:
        self.until(lambda: self.poll() is not None, timeout)
        assert self.status is not None
        return self.status

    def until(self, condition: Callable[[], object], timeout: float = 60) -> None:
        """Wait until `condition` holds; the process is killed and the test fails if it does not in time."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"waited {timeout} s in vain\n{self.out}\n{self.err}")
            time.sleep(0.005)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if the process still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    @property
    def out(self) -> str:
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        return self.err_file.read_text() if self.err_file.exists() else ""

    @property
    def folder(self) -> Path:
        """The run folder in the folder where the line was typed (there must be exactly one)."""
        return only_run(self.cwd)

    def has_trained(self, steps: int = 1) -> bool:
        """Return whether a row of metrics.jsonl stands for at least that many steps."""
        return any(row["step"] >= steps for file in self.cwd.glob("outputs/*/*/metrics.jsonl") for row in rows(file))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote") / "stderr")
    yield zygote
    zygote.close()


@pytest.fixture
def start(zygote: Zygote, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Return a function that starts a command line in a forked process, in the test's folder unless told otherwise.

    start("train", "seed=1", before="code run first"). What still runs when the test ends is killed.
    """
    started: list[Running] = []

    def begin(*argv: str, cwd: Path = tmp_path, env: Mapping[str, str] | None = None, before: str = "") -> Running:
        cwd.mkdir(exist_ok=True)
        started.append(Running(zygote, argv, cwd, env or {}, before))
        return started[-1]

    yield begin
    for running in started:
        running.kill()
        running.wait()


@pytest.fixture(scope="session")
def uninterrupted(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of EVERYTHING, trained at one go."""
    running = Running(zygote, ("train", *EVERYTHING), tmp_path_factory.mktemp("uninterrupted"), {}, "")
    assert running.wait() == 0, running.err
    return running.folder


# ---------------------------------------------------------------- what a run left


def only_run(cwd: Path) -> Path:
    """Return the one run folder below cwd/outputs."""
    found = [path.parent for path in cwd.glob("outputs/*/*/config.yaml")]
    assert len(found) == 1, found
    return found[0]


def rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl, a last one that is half-written left out."""
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same whenever and however fast it is computed (git: others commit while tests run)."""
    return {k: v for k, v in row.items() if not k.startswith(("time/", "throughput/")) and k not in ("command", "git")}


def checkpoint(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_same_bits(a: Any, b: Any, where: str) -> None:
    """Compare what a checkpoint holds, tensors bit for bit."""
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
    assert sorted(p.name for p in folder.glob("**/*") if p.suffix == ".tmp") == []
    for name in ("best.pt", "last.pt"):
        states = [checkpoint(path / "checkpoints" / name) for path in (folder, reference)]
        for state in states:
            state.pop("metrics_position", None)  # bytes: the times in the rows have more or fewer digits
            for key in ("train_s", "timed_s", "timed_examples"):
                state.get("loop", {}).pop(key, None)
        assert_same_bits(states[0], states[1], name)
    ours, theirs = ([without_clock(row) for row in rows(path / "metrics.jsonl")] for path in (folder, reference))
    assert ours == theirs
    assert without_clock(summary(folder)) == without_clock(summary(reference))
