"""Runs on pen strokes from the command line: trained, killed, resumed, evaluated, taken elsewhere."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.end_to_end.test_text_runs import DIE, PLAIN
from tests.running import QUIET, Running, assert_same_run, checkpoint, rows, summary, train_in

Here = Callable[..., Any]
Start = Callable[..., Running]

LINE = (
    *QUIET,
    "data=strokes",
    "data.path=../waves.npz",
    "data.scale=0.1",
    "target.hidden_size=16",
    "target.mixtures=3",
    "trainer.batch_size=8",
    "trainer.max_steps=36",
    "trainer.log_every=5",
    "trainer.eval_every=7",
    "trainer.save_every_s=0.02",
    "trainer.clip_norm=5.0",
    "optim.lr=1e-2",
)
HYPER = (*LINE, "model=lnhyperlstm", "hypernet.hyper_size=6", "hypernet.z_dim=2", "hypernet.recurrent_dropout=0.1")
CHUNKS = (*HYPER, "data.sequence_length=7")
"""States are carried within sequences, and most kills come in the middle of one."""
NO_TEST = (*LINE, "model=lstm", "data.test_fraction=0")


def write_waves(path: Path) -> None:
    """Write 60 waves of several lengths, each in two strokes: something that 16 units learn about in a second."""
    numbers = np.random.default_rng(0)
    sequences = []
    for length in numbers.integers(6, 20, 60):
        phase = np.arange(length) * 0.7 + numbers.uniform(0, 6)
        pen = np.zeros(length)
        pen[[length // 2, -1]] = 1
        sequences.append(np.stack([3 + 0.1 * numbers.normal(size=length), 5 * np.sin(phase), pen], 1))
    lengths = [len(one) for one in sequences]
    np.savez(path, points=np.concatenate(sequences).astype(np.float32), offsets=np.append(0, np.cumsum(lengths)))


def train(place: Path, *line: str) -> Path:
    write_waves(place / "waves.npz")
    return train_in(place / "here", *line, env=PLAIN)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of a layer-norm HyperLSTM on whole sequences."""
    return train(tmp_path_factory.mktemp("whole"), *HYPER)


@pytest.fixture(scope="module")
def without_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("without"), *NO_TEST)


def test_a_run_learns_and_says_what_it_takes(trained: Path) -> None:
    said, log = summary(trained), (trained / "train.log").read_text()
    assert (said["status"], said["metric"], said["task"]) == ("finished", "nats", "stroke_modeling")
    points = said["data/test_points"] / said["data/test"]
    assert said["test/nats"] == pytest.approx(said["test/nats_per_point"] * points)
    trajectory = [row["val/nats"] for row in rows(trained) if "val/nats" in row]
    assert said["val/nats"] == min(trajectory) < trajectory[0] - 2
    assert said["throughput/tokens_per_s"] > said["throughput/examples_per_s"]
    assert "memory   about " in log and " points/s" in log
    logged = [row for row in rows(trained) if "train/loss" in row][-1]
    assert logged["train/nats_per_point"] == pytest.approx(logged["train/loss"], rel=0.3)


def test_without_a_test_split_the_result_says_so(here: Here, without_test: Path) -> None:
    said, log = summary(without_test), (without_test / "train.log").read_text()
    assert said["test/nats"] is None and said["data/test"] == 0
    assert "test nats: no test split" in log and "(no test split)" in log
    assert f"validation nats: {said['val/nats']:.4f}" in log
    found = json.loads(here("eval", without_test, "--json").out)
    assert found["test"] is None and found["val"]["nats"] == pytest.approx(said["val/nats"], rel=1e-5)
    assert "no such split" in here("eval", without_test).out
    table = here("compare", without_test).out
    assert "validation nats (no test split), lower is better" in table and f"{said['val/nats']:.2f} (1)" in table


def test_eval_gives_the_summarys_figures(here: Here, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    found, said = json.loads(here("eval", trained, "--json").out), summary(trained)
    for split in ("val", "test"):
        for name in ("nats", "nats_per_point"):
            assert found[split][name] == pytest.approx(said[f"{split}/{name}"], rel=1e-5)


def test_a_run_is_read_where_its_data_are_not(trained: Path) -> None:
    from hyperrun.load import load_run

    data = trained.parents[3] / "waves.npz"
    elsewhere = data.rename(data.with_name("gone.npz"))
    try:
        loaded = load_run(trained)
    finally:
        elsewhere.rename(data)
    assert loaded.scale is not None
    for n, axis in enumerate(("dx", "dy")):
        assert float(loaded.scale.mean[n]) == pytest.approx(loaded.summary[f"data/mean_{axis}"])
        assert float(loaded.scale.std[n]) == pytest.approx(loaded.summary[f"data/std_{axis}"])
    outputs, state = loaded.model(torch.zeros(2, 5, 3))
    assert outputs.shape == (2, 5, 19) and len(state) == 1


@pytest.mark.slow
@pytest.mark.parametrize("line", [HYPER, CHUNKS], ids=["whole sequences", "chunks"])
def test_killed_and_resumed_is_the_run_at_one_go(start: Start, tmp_path: Path, line: tuple[str, ...]) -> None:
    """To the bit: order, scaling, masks, and in chunks the carried state."""
    whole = train(tmp_path, *line)
    absolute = (*line, f"data.path={tmp_path / 'waves.npz'}")
    for number in (1, 3):
        cwd = tmp_path / str(number)
        killed = start("train", *absolute, cwd=cwd, env=PLAIN, before=DIE.format(number=number))
        assert killed.wait() == -signal.SIGKILL
        state = checkpoint(killed.folder / "checkpoints" / "last.pt")
        assert 0 < state["loop"]["step"] < 36
        done = start("train", *absolute, cwd=cwd, env=PLAIN)
        assert done.wait() == 0, done.err
        assert f"resume   from step {state['loop']['step']}" in done.out
        assert_same_run(done.folder, whole)
    carried = checkpoint(whole / "checkpoints" / "last.pt")["task"]["state"]
    assert (carried is None) == (line is HYPER)


@pytest.mark.slow
def test_strokes_that_have_changed_are_not_trained_on_further(start: Start, tmp_path: Path) -> None:
    write_waves(tmp_path / "waves.npz")
    killed = start("train", *HYPER, cwd=tmp_path / "here", env=PLAIN, before=DIE.format(number=1))
    assert killed.wait() == -signal.SIGKILL
    with np.load(tmp_path / "waves.npz") as file:
        np.savez(tmp_path / "waves.npz", points=file["points"] * [1, -1, 1], offsets=file["offsets"])
    again = start("train", *HYPER, cwd=tmp_path / "here", env=PLAIN)
    assert again.wait() == 2
    assert again.err == "hyperrun: error: the strokes of data=strokes have changed since this run began; resume=never\n"
