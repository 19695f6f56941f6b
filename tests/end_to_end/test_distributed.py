"""Two processes (gloo, CPU) train what one does: `torchrun --nproc-per-node=2 -m hyperrun train ...`.

Most tests fork the two processes themselves, with the environment that torchrun gives them; the others use it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.running import (
    FAST,
    QUIET,
    REPO,
    TINY,
    Running,
    assert_same_run,
    checkpoint,
    leftovers,
    only_run,
    rows,
    summary,
    without_clock,
)

Start = Callable[..., Running]
Here = Callable[..., Any]

LINE = (
    "train",
    *QUIET,
    "model=hypercnn",
    "trainer.max_steps=20",
    "trainer.log_every=5",
    "trainer.eval_every=8",
    "trainer.clip_norm=1.0",
    "trainer.ema=0.9",
    "data.crop_padding=1",
    "data.cutout=2",
    "optim.generated_l2=1e-3",
)


@pytest.fixture
def pair(start: Start) -> Callable[..., list[Running]]:
    """Return a function that starts a line as the two processes of one run."""

    def begin(*argv: str, **options: Any) -> list[Running]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        env = options.pop("env", {})
        return [
            start(*argv, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), **env}, **options)
            for rank in (0, 1)
        ]

    return begin


def assert_close(folder: Path, reference: Path) -> None:
    """Assert that a run gave what the reference gave, up to the order of sums."""
    for name in ("best.pt", "last.pt"):
        ours, theirs = (checkpoint(path / "checkpoints" / name)["model"] for path in (folder, reference))
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-3, atol=1e-5, msg=f"{name}: {key}")
    ours, theirs = ([without_clock(row) for row in rows(path)] for path in (folder, reference))
    assert [row.keys() for row in ours] == [row.keys() for row in theirs], "the same rows, none twice"
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_train_what_one_does(
    start: Start, pair: Callable[..., list[Running]], tmp_path: Path, accumulate: int
) -> None:
    line = [*LINE, f"trainer.accumulate={accumulate}"]
    alone = start(*line, cwd=tmp_path / "alone")
    both = pair(*line, cwd=tmp_path / "both")
    assert alone.wait() == 0, alone.err
    assert [running.wait() for running in both] == [0, 0], both[0].err + both[1].err
    folder = only_run(tmp_path / "both")
    assert folder.name == alone.folder.name, "how many processes train a run is not what it is"
    assert_close(folder, alone.folder)
    assert (both[1].out, both[1].err) == ("", ""), "only the first process speaks"
    assert both[0].out.count("│ test accuracy") == 1 and both[0].err == ""
    ours, theirs = summary(folder), summary(alone.folder)
    assert ours["processes"] == 2 and theirs["processes"] == 1
    assert ours["test/accuracy"] == pytest.approx(theirs["test/accuracy"], abs=0.01)
    assert leftovers(tmp_path) == []

    again = pair(*line, cwd=tmp_path / "both")
    assert [running.wait() for running in again] == [0, 0]
    assert "finished already" in again[0].out and again[1].out == again[1].err == ""


def test_batch_norms_and_an_eval_by_one_process(pair: Callable[..., list[Running]], here: Here) -> None:
    """The figures of the summary are those of the checkpoint, whoever measures them."""
    both = pair("train", *FAST, *TINY, "trainer.eval_batch_size=30", "trainer.batch_size=32")
    assert [running.wait() for running in both] == [0, 0], both[0].err + both[1].err
    said = summary(both[0].folder)
    found = json.loads(here("eval", both[0].folder, "--json").out)
    assert found["test"]["loss"] == pytest.approx(said["test/loss"], rel=1e-6)
    assert found["test"]["accuracy"] == pytest.approx(said["test/accuracy"])
    assert found["val"]["loss"] == pytest.approx(said["val/loss"], rel=1e-6), (
        "the processes' own batch norm statistics were used to evaluate, and the first one's were saved"
    )


def test_batch_that_does_not_divide(pair: Callable[..., list[Running]], tmp_path: Path) -> None:
    both = pair("train", *FAST, "trainer.batch_size=33")
    assert [running.wait() for running in both] == [2, 2]
    assert both[0].err == "hyperrun: error: trainer.batch_size=33 must be a multiple of the 2 processes\n"
    assert both[1].err in ("", both[0].err), "one line from each at most"
    assert [path for path in tmp_path.glob("outputs/**/*") if ".hydra" not in path.parts] == []


def test_wrong_key(pair: Callable[..., list[Running]]) -> None:
    both = pair("train", "sed=1")
    assert [running.wait() for running in both] == [2, 2]
    assert "did you mean 'seed'?" in both[0].err and both[0].err.count("\n") == 1
    assert both[1].err in ("", both[0].err), "one line from each at most"


def test_non_finite_loss_stops_both(pair: Callable[..., list[Running]]) -> None:
    both = pair("train", *FAST, "optim=sgd", "optim.lr=1e20")
    assert [running.wait() for running in both] == [1, 1]
    assert both[0].err.startswith("hyperrun: error: the loss is not finite at step ") and both[0].err.count("\n") == 1
    assert summary(both[0].folder)["status"] == "failed"
    assert both[1].err in ("", both[0].err), "one line from each at most"


@pytest.mark.parametrize("to", ["both", "one"])
def test_signal_stops_both_and_the_same_line_goes_on(
    pair: Callable[..., list[Running]], tmp_path: Path, to: str
) -> None:
    line = [*LINE, "trainer.max_steps=200", "trainer.log_every=10", "trainer.eval_every=50"]
    whole = pair(*line, cwd=tmp_path / "whole")
    assert [running.wait() for running in whole] == [0, 0]

    both = pair(*line, cwd=tmp_path / "stopped")
    both[0].until(both[0].has_trained)
    for running in both[:: 1 if to == "both" else -2]:
        running.send(signal.SIGTERM)
    statuses = [running.wait() for running in both]
    if to == "both":
        assert statuses == [143, 143], both[0].err + both[1].err
        assert summary(both[0].folder)["status"] == "preempted"
        assert "stopped by SIGTERM at step" in both[0].err
    again = pair(*line, cwd=tmp_path / "stopped")
    assert [running.wait() for running in again] == [0, 0], again[0].err + again[1].err
    assert "resume   from step" in again[0].out
    assert_same_run(again[0].folder, whole[0].folder)


@pytest.mark.parametrize(("first", "second"), [("pair", "alone"), ("alone", "pair")])
def test_other_number_of_processes_goes_on(
    start: Start, pair: Callable[..., list[Running]], tmp_path: Path, first: str, second: str
) -> None:
    line = [*LINE, "trainer.max_steps=200", "trainer.log_every=10", "trainer.eval_every=50"]
    ways = {"pair": lambda cwd: pair(*line, cwd=cwd), "alone": lambda cwd: [start(*line, cwd=cwd)]}
    whole = ways["alone"](tmp_path / "whole")
    stopped = ways[first](tmp_path / "stopped")
    stopped[0].until(stopped[0].has_trained)
    for running in stopped:
        running.send(signal.SIGTERM)
    assert {running.wait() for running in stopped} == {143}
    again = ways[second](tmp_path / "stopped")
    assert {running.wait() for running in again} == {0}, again[0].err
    assert whole[0].wait() == 0
    assert "resume   from step" in again[0].out
    steps = [row["step"] for row in rows(again[0].folder)]
    assert steps == [row["step"] for row in rows(whole[0].folder)]
    assert summary(again[0].folder)["test/accuracy"] == pytest.approx(
        summary(whole[0].folder)["test/accuracy"], abs=0.03
    )


# ---------------------------------------------------------------- translation

PAIRS = (
    "train",
    *QUIET,
    "model=seq2seq",
    "data=number_words",
    "target.hidden_size=32",
    "target.dropout=0",
    "trainer.max_steps=20",
    "trainer.log_every=5",
    "trainer.eval_every=10",
    "trainer.save_every_s=0.02",
)
PLAIN = {"HYPERRUN_COMPILE_PHASES": "0"}


def test_two_processes_translate_as_one_does(
    start: Start, pair: Callable[..., list[Running]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pairs at each step, each process half of them; the figures are of all translations. Killed and started
    anew, to the bit."""
    monkeypatch.setenv("HYPERRUN_DATA", str(tmp_path / "data"))  # where the prepared pairs are kept
    alone = start(*PAIRS, cwd=tmp_path / "alone", env=PLAIN)
    assert alone.wait() == 0, alone.err
    both = pair(*PAIRS, cwd=tmp_path / "both", env=PLAIN)
    assert [running.wait() for running in both] == [0, 0], both[0].err + both[1].err
    folder = only_run(tmp_path / "both")
    assert folder.name == alone.folder.name
    assert_close(folder, alone.folder)
    ours, theirs = (checkpoint(path / "checkpoints" / "last.pt")["loop"] for path in (folder, alone.folder))
    ours_said, theirs_said = summary(folder), summary(alone.folder)
    assert ours["step"] == theirs["step"] == 20 and ours_said["processes"] == 2
    assert {key: ours_said[key] for key in ours_said if key.startswith("data/")} == {
        key: theirs_said[key] for key in theirs_said if key.startswith("data/")
    }
    killed = pair(*PAIRS, cwd=tmp_path / "killed", env=PLAIN)
    killed[0].until(lambda: any(tmp_path.glob("killed/outputs/*/*/checkpoints/last.pt")))
    for running in killed:
        running.send(signal.SIGKILL)
    assert {running.wait() for running in killed} == {-signal.SIGKILL}
    again = pair(*PAIRS, cwd=tmp_path / "killed", env=PLAIN)
    assert [running.wait() for running in again] == [0, 0], again[0].err + again[1].err
    assert "resume   from step" in again[0].out
    assert_same_run(again[0].folder, folder)


# ---------------------------------------------------------------- torchrun itself


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts torchrun with two processes."""
    started: list[subprocess.Popen[str]] = []

    def begin(*argv: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            "-m",
            "hyperrun",
        ]
        started.append(
            subprocess.Popen(
                [*command, *argv],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_torchrun(start: Start, torchrun: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = torchrun(*LINE)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    alone = start(*LINE, cwd=tmp_path / "alone")
    assert alone.wait() == 0
    assert out.count("│ test accuracy") == 1 and out.count("run      outputs") == 1
    assert_close(only_run(tmp_path), alone.folder)


def test_torchrun_with_a_sweep(torchrun: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = torchrun("train", "-m", *LINE[1:], "seed=0,1")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.count("│ test accuracy") == 2
    found = [summary(path.parent) for path in tmp_path.glob("outputs/digits/*/summary.json")]
    assert sorted((run["seed"], run["status"], run["processes"]) for run in found) == [
        (0, "finished", 2),
        (1, "finished", 2),
    ]


def test_sigterm_to_torchrun(torchrun: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    line = ["train", *QUIET, "trainer.max_steps=1000000", "trainer.log_every=5"]
    process = torchrun(*line)
    deadline = time.monotonic() + 120
    while not any(rows(file) for file in tmp_path.glob("outputs/*/*/metrics.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    folder = only_run(tmp_path)
    assert summary(folder)["status"] == "preempted"
    assert "stopped by SIGTERM at step" in err and "saved; the same command goes on" in err
    assert checkpoint(folder / "checkpoints" / "last.pt")["loop"]["step"] > 0
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("more", "part"), [("trainer.batch_size=33", "must be a multiple of the 2 processes"), ("sed=1", "'seed'")]
)
def test_errors_under_torchrun(
    torchrun: Callable[..., subprocess.Popen[str]], tmp_path: Path, more: str, part: str
) -> None:
    process = torchrun("train", *FAST, more)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    said = [line for line in err.splitlines() if "hyperrun: error: " in line]
    assert said and all(part in line for line in said)
    assert [path for path in tmp_path.glob("outputs/**/*") if ".hydra" not in path.parts] == []


def test_folder_held_by_another_run_ends_torchrun(
    start: Start, torchrun: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    line = ["train", *QUIET, "trainer.max_steps=1000000", "trainer.log_every=5"]
    first = start(*line)
    first.until(first.has_trained)
    process = torchrun(*line)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert f"another process (pid {first.pid}) is training in" in err
    assert "RuntimeError" not in err, "the second process fails as well, with a traceback of its own"
    assert first.poll() is None
