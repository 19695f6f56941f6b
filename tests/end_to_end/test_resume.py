"""Killed at any moment and typed again, a run ends with the bits of one that was never killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.running import (
    EVERYTHING,
    FAST,
    REPO,
    Running,
    assert_same_bits,
    assert_same_run,
    checkpoint,
    leftovers,
    only_run,
    rows,
    summary,
)

Start = Callable[..., Running]
LINE = ("train", *EVERYTHING)


# ---------------------------------------------------------------- SIGKILL at random moments


def kill_until_it_ends(again: Callable[[], Running], moments: random.Random, training: float, kills: int) -> Running:
    """Start the line `kills` times and kill it a random time later, then let it end; return the last process.

    Half of the moments are counted from the start of the process, half from the beginning of its training, of which
    `training` seconds are the whole: with 0.6 of that at most, a run takes several kills to get to its end.
    """
    while_training = 0
    for number in range(kills):
        running = again()
        if number % 2:
            time.sleep(moments.uniform(0, 0.8))
        else:
            wait_until_it_trains(running)
            time.sleep(moments.uniform(0, 0.6) * training)
        trained = any(running.cwd.glob("outputs/*/*/checkpoints/last.pt"))
        running.send(signal.SIGKILL)
        if running.wait() == 0:
            break
        assert running.status == -signal.SIGKILL, running.err
        while_training += trained
    else:
        running = again()
    assert running.wait() == 0, running.err
    assert while_training > 0, "no process was killed between its first checkpoint and its end"
    return running


def wait_until_it_trains(running: Running) -> None:
    running.until(lambda: "W&B " in running.out or "finished" in running.out or running.poll() is not None)


def test_killed_at_random_moments(start: Start, uninterrupted: Path) -> None:
    training = summary(uninterrupted)["time/train_s"]
    done = kill_until_it_ends(lambda: start(*LINE), random.Random(0), training, kills=4)
    assert_same_run(done.folder, uninterrupted)


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_many_random_moments(start: Start, uninterrupted: Path, seed: int) -> None:
    line = [*LINE, "trainer.save_every_s=0"]  # a save at every step: most kills fall into one
    training = summary(uninterrupted)["time/train_s"]
    done = kill_until_it_ends(lambda: start(*line), random.Random(seed), training, kills=20)
    assert_same_run(done.folder, uninterrupted)


OTHER_WAYS = {
    "bf16": ["precision=bf16"],
    "sgd": ["optim=sgd", "schedule=one_cycle", "schedule.warmup_steps=5"],
    "adamw": ["optim=adamw", "schedule=multi_step", "deterministic=true"],
    "muon": ["optim=muon", "trainer.ema=0"],
    "patience": ["trainer.patience=3", "optim.lr=0.05"],
    "dataloader": ["data.loader=dataloader", "data.workers=1"],
    "channels_last": ["trainer.channels_last=true"],
    "torchvision": ["target=torchvision", "target.name=shufflenet_v2_x0_5", "trainer.max_steps=12"],
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_killed_while_training_in_other_ways(start: Start, tmp_path: Path, way: str) -> None:
    line = [word for word in LINE if not (way == "torchvision" and word.startswith("target."))] + OTHER_WAYS[way]
    whole = start(*line, cwd=tmp_path / "whole")
    assert whole.wait() == 0, whole.err
    training = summary(whole.folder)["time/train_s"]
    done = kill_until_it_ends(lambda: start(*line, cwd=tmp_path / "killed"), random.Random(1), training, kills=8)
    assert_same_run(done.folder, whole.folder)


def test_killed_at_random_moments_as_users_start_it(uninterrupted: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hyperrun", *LINE]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    moments, killed = random.Random(2), 0
    for kill in [True] * 5 + [False]:
        running = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        begun = [file.read_text().count("W&B") for file in tmp_path.glob("outputs/*/*/train.log")]
        while kill and running.poll() is None:  # imports take seconds and training one: count from its beginning
            if [file.read_text().count("W&B") for file in tmp_path.glob("outputs/*/*/train.log")] > begun:
                time.sleep(moments.uniform(0, 0.6))
                running.kill()
                break
            time.sleep(0.01)
        if running.wait(120) == 0:
            break
        assert running.returncode == -signal.SIGKILL
        killed += 1
    assert killed > 0 and running.returncode == 0
    assert_same_run(only_run(tmp_path), uninterrupted)


# ---------------------------------------------------------------- SIGKILL at the worst moments

DIE = """
import os, signal
import hyperrun.runs.metrics_file
counted = [0]
def die_at(number):
    counted[0] += 1
    if counted[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)
real_replace, real_fsync, real_write = os.replace, os.fsync, hyperrun.runs.metrics_file.MetricsFile.write
"""

REPLACE = """
def replace(source, destination):
    if str(destination).endswith({name!r}) and {when!r} == "before":
        die_at({number})
    real_replace(source, destination)
    if str(destination).endswith({name!r}) and {when!r} == "after":
        die_at({number})
os.replace = replace
"""

MOMENTS = {
    "before the config": REPLACE.format(name="config.yaml", when="before", number=1),
    "after the config": REPLACE.format(name="config.yaml", when="after", number=1),
    "before best.pt": REPLACE.format(name="best.pt", when="before", number=2),
    "between best.pt and last.pt": REPLACE.format(name="best.pt", when="after", number=2),
    "between the first best.pt and last.pt": REPLACE.format(name="best.pt", when="after", number=1),
    "between previous.pt and last.pt": REPLACE.format(name="previous.pt", when="after", number=3),
    "after last.pt": REPLACE.format(name="last.pt", when="after", number=3),
    "after the first last.pt": REPLACE.format(name="last.pt", when="after", number=1),
    "before the summary": REPLACE.format(name="summary.json", when="before", number=1),
    "in the middle of a checkpoint": """
def fsync(number):
    if counted[0] == 4:
        os.truncate(number, 5000)
    die_at(5)
    real_fsync(number)
os.fsync = fsync
""",
    "after a row": """
def write(self, row):
    real_write(self, row)
    die_at(9)
hyperrun.runs.metrics_file.MetricsFile.write = write
""",
    "in the middle of a row": """
def write(self, row):
    if counted[0] == 8:
        self.file.write(b'{"step": 3')
        self.file.flush()
    die_at(9)
    real_write(self, row)
hyperrun.runs.metrics_file.MetricsFile.write = write
""",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_the_worst_moment(start: Start, uninterrupted: Path, tmp_path: Path, moment: str) -> None:
    killed = start(*LINE, before=DIE + MOMENTS[moment])
    assert killed.wait() == -signal.SIGKILL, "it was to be killed"
    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert_same_run(only_run(tmp_path), uninterrupted)
    assert done.err == ""
    assert "warning" not in done.out, "whole files are nothing to warn of"


def test_half_written_files_of_killed_processes_are_removed(start: Start, tmp_path: Path) -> None:
    assert start(*LINE, before=DIE + MOMENTS["in the middle of a checkpoint"]).wait() == -signal.SIGKILL
    assert leftovers(tmp_path), "the kills were to leave something"
    assert start(*LINE).wait() == 0
    assert leftovers(tmp_path) == [], "each kill in the middle of a save would cost a checkpoint's size for ever"


# ---------------------------------------------------------------- damaged and missing checkpoints


@pytest.fixture
def killed(start: Start, tmp_path: Path) -> Path:
    """Return the checkpoints folder of a run that was killed after its seventh checkpoint."""
    moment = REPLACE.format(name="last.pt", when="after", number=7)
    running = start(*LINE, before=DIE + moment)
    assert running.wait() == -signal.SIGKILL
    folder = running.folder / "checkpoints"
    assert {"last.pt", "previous.pt", "best.pt"} <= {path.name for path in folder.iterdir()}
    return folder


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "its first 100 bytes": lambda content: content[:100],
    "its first half": lambda content: content[: len(content) // 2],
    "without its last byte": lambda content: content[:-1],
    "zeros from the middle on": lambda content: content[: len(content) // 2].ljust(len(content), b"\0"),
    "something else": lambda content: b"hello\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_last_checkpoint(start: Start, killed: Path, uninterrupted: Path, damage: str) -> None:
    last = killed / "last.pt"
    last.write_bytes(DAMAGE[damage](last.read_bytes()))
    before = checkpoint(killed / "previous.pt")["loop"]["step"]
    done = start(*LINE)
    assert done.wait() == 0, done.err
    (warning,) = [line for line in done.out.splitlines() if line.startswith("warning: ")]
    assert "last.pt is damaged" in warning and warning.endswith("going back to the checkpoint before it")
    assert f"resume   from step {before}\n" in done.out
    assert warning in (killed.parent / "train.log").read_text()
    assert_same_run(killed.parent, uninterrupted)


def test_last_checkpoint_with_changed_bytes_in_its_tensors(start: Start, killed: Path, uninterrupted: Path) -> None:
    last = killed / "last.pt"
    state = checkpoint(last)["model"]
    tensor = max(state.values(), key=lambda value: value.numel())
    content = last.read_bytes()
    at = content.index(tensor.numpy().tobytes())
    last.write_bytes(content[:at] + b"\x40" * 400 + content[at + 400 :])
    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert "going back to the checkpoint before it" in done.out, "torch.load does not look at the file's checksums"
    assert_same_run(killed.parent, uninterrupted)


def test_all_checkpoints_damaged(start: Start, killed: Path, uninterrupted: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        (killed / name).write_bytes((killed / name).read_bytes()[:-100])
    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert "there is none before it: starting afresh" in done.out
    assert "resume   from" not in done.out
    assert_same_run(killed.parent, uninterrupted)


GONE = {"last.pt": True, "previous.pt": True, "last.pt previous.pt": False, "last.pt previous.pt best.pt": False}
"""Deleted files -> whether the run can go on from what is left."""


@pytest.mark.parametrize("gone", GONE)
def test_deleted_checkpoints(start: Start, killed: Path, uninterrupted: Path, gone: str) -> None:
    for name in gone.split():
        (killed / name).unlink()
    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert ("resume   from" in done.out) == GONE[gone]
    assert_same_run(killed.parent, uninterrupted)


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_best_checkpoint_lost_while_killed(start: Start, killed: Path, how: str) -> None:
    """What cannot be had again by training on is said in one line, with the way out."""
    best = killed / "best.pt"
    if how == "deleted":
        best.unlink()
    else:
        best.write_bytes(best.read_bytes()[:1000])
    done = start(*LINE)
    if done.wait() == 0:
        return  # a later evaluation was better and wrote it again
    assert done.status == 2 and done.err.count("\n") == 1 and "best.pt" in done.err and "Traceback" not in done.err
    assert "resume=never" in done.err


def test_metrics_lost_while_killed(start: Start, killed: Path) -> None:
    (killed.parent / "metrics.jsonl").unlink()
    done = start(*LINE)
    assert done.wait() == 0, done.err
    steps = [row["step"] for row in rows(killed.parent) if "train/loss" in row]
    assert steps == sorted(set(steps)) and steps[-1] == 36


def test_damaged_summary_is_no_reason_to_stop(start: Start, uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted.parents[2] / "outputs", tmp_path / "outputs")
    (only_run(tmp_path) / "summary.json").write_text('{"status": "fin')
    done = start(*LINE)
    assert done.wait() == 0, done.err
    assert "resume   from step 36" in done.out
    assert_same_run(only_run(tmp_path), uninterrupted)


# ---------------------------------------------------------------- what resuming is not


def test_other_config_starts_another_run(start: Start, killed: Path, tmp_path: Path) -> None:
    done = start(*LINE, "trainer.max_steps=10")
    assert done.wait() == 0, done.err
    assert "resume   from" not in done.out
    assert len(list(tmp_path.glob("outputs/digits/*/config.yaml"))) == 2
    assert not (killed.parent / "summary.json").exists()


def test_resume_never_forgets_what_was_there(start: Start, killed: Path, uninterrupted: Path) -> None:
    done = start(*LINE, "resume=never")
    assert done.wait() == 0, done.err
    assert "resume   from" not in done.out
    assert_same_run(killed.parent, uninterrupted)


WORKERS = (*LINE, "data.loader=dataloader", "data.workers=1")


def test_typed_again_at_once_after_a_kill_of_a_run_with_worker_processes(start: Start) -> None:
    """The workers outlive their parent for some seconds; that they inherit what it had open must lock nobody out."""
    killed = start(*WORKERS, before=DIE + REPLACE.format(name="last.pt", when="after", number=2))
    assert killed.wait() == -signal.SIGKILL
    done = start(*WORKERS)
    assert done.wait() == 0, done.err


def test_loader_paths_and_kills_leave_the_same_bits(start: Start, uninterrupted: Path) -> None:
    """The dataloader path, killed once, against the device path at one go."""
    killed = start(*WORKERS, before=DIE + REPLACE.format(name="last.pt", when="after", number=2))
    assert killed.wait() == -signal.SIGKILL
    for _ in range(20):
        done = start(*WORKERS)
        if done.wait() == 0:
            break
        time.sleep(1)  # until the workers of the killed process have noticed
    ours, theirs = (checkpoint(path / "checkpoints" / "best.pt") for path in (done.folder, uninterrupted))
    assert_same_bits(ours, theirs, "best.pt")


def test_checkpoint_holds_plain_data_only(uninterrupted: Path) -> None:
    state = checkpoint(uninterrupted / "checkpoints" / "last.pt")  # weights_only
    assert state["format"] == 1 and state["loop"]["step"] == 36
    names = [*state["model"], *checkpoint(uninterrupted / "checkpoints" / "best.pt")["model"]]
    assert not [name for name in names if name.startswith(("_orig_mod", "module."))]
    assert all(isinstance(value, torch.Tensor) for value in state["model"].values())


def test_kill_before_the_first_checkpoint_starts_afresh(start: Start, tmp_path: Path) -> None:
    whole = start("train", *FAST, cwd=tmp_path / "whole")
    assert whole.wait() == 0
    again = start("train", *FAST, cwd=tmp_path / "killed", before=DIE + MOMENTS["after a row"].replace("9", "2"))
    assert again.wait() == -signal.SIGKILL
    done = start("train", *FAST, cwd=tmp_path / "killed")
    assert done.wait() == 0 and "resume   from" not in done.out
    assert_same_run(done.folder, whole.folder)
