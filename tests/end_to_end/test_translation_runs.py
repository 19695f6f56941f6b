"""Runs on translation from the command line: trained, killed, resumed, evaluated, taken elsewhere."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.files import FILES
from hyperrun.data.pairs.pieces import EOS
from hyperrun.hydra_app.compose import compose_config
from hyperrun.load import load_run, moved_files
from hyperrun.tasks.beam_search import greedy
from hyperrun.tasks.translation import network_of
from tests.data.pairs.conftest import mirrored, sentences
from tests.end_to_end.test_text_runs import DIE, PLAIN
from tests.running import QUIET, Running, assert_same_run, checkpoint, rows, summary, train_in

Here = Callable[..., Any]
Start = Callable[..., Running]

LINE = (
    *QUIET,
    "data=parallel",
    "data.source=../a.txt",
    "data.target=../b.txt",
    "data.val_fraction=0.1",
    "data.test_fraction=0.05",
    "data.pieces=60",
    "data.byte_fallback=false",
    "data.tokens_per_batch=150",
    "data.buckets=3",
    "data.select=bleu",
    "data.beam=2",
    "target.hidden_size=16",
    "target.recurrent_dropout=0.1",
    "trainer.max_steps=36",
    "trainer.accumulate=2",
    "trainer.log_every=5",
    "trainer.eval_every=12",
    "trainer.save_every_s=0.02",
    "trainer.clip_norm=1.0",
    "trainer.label_smoothing=0.1",
    "trainer.ema=0.5",
    "optim.lr=1e-2",
)
HYPER = (*LINE, "model=lnhyperseq2seq", "hypernet.hyper_size=6", "hypernet.z_dim=2", "hypernet.recurrent_dropout=0.1")


def write_pairs(place: Path, seed: int = 0) -> None:
    """Write 120 sentences, and below "translations" with every word backwards."""
    texts = sentences(120, seed, most=5)
    (place / "a.txt").write_text("\n".join(texts) + "\n")
    (place / "b.txt").write_text("\n".join(mirrored(texts)) + "\n")


def train(place: Path, *line: str) -> Path:
    write_pairs(place)
    return train_in(place / "here", *line, env=PLAIN)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of a translation network of layer-norm HyperLSTMs."""
    return train(tmp_path_factory.mktemp("pairs"), *HYPER)


def test_a_run_learns_and_says_how_good_it_is(trained: Path) -> None:
    said, log = summary(trained), (trained / "train.log").read_text()
    assert (said["status"], said["metric"], said["task"]) == ("finished", "bleu", "translation")
    losses = [row["val/loss"] for row in rows(trained) if "val/loss" in row]
    assert losses[-1] < losses[0] < 4.2
    assert said["bleu_signature"].startswith("nrefs:1|") and said["chrf_signature"].startswith("nrefs:1|")
    assert {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "bleu", "chrf", "exact")} <= set(said)
    assert said["throughput/tokens_per_s"] > said["throughput/examples_per_s"] > 0
    assert "memory   about " in log and " target pieces/s" in log and "test chrf: " in log
    assert "5 translations from the validation split:" in log and "hyperrun translate " in log


def test_eval_gives_the_summarys_figures(here: Here, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    monkeypatch.chdir(trained.parents[2])
    found, said = json.loads(here("eval", trained, "--json").out), summary(trained)
    for split in ("val", "test"):
        for name in ("loss", "bleu", "chrf", "exact"):
            assert found[split][name] == pytest.approx(said[f"{split}/{name}"], rel=1e-4)


def test_a_run_whose_files_have_moved_is_evaluated_with_root(
    here: Here, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    moved = [path.rename(tmp_path / path.name) for path in trained.parents[3].glob("?.txt")]
    try:
        lost = here("eval", trained, "--json", status=2)
        assert "a.txt" in lost.err and lost.err.count("\n") == 1
        found = json.loads(here("eval", trained, "--root", tmp_path, "--json").out)
    finally:
        for path in moved:
            path.rename(trained.parents[3] / path.name)
    assert found["test"]["loss"] == pytest.approx(summary(trained)["test/loss"], rel=1e-4)


def test_files_of_pairs_are_found_again_by_their_names(tmp_path: Path) -> None:
    def files_of(*named: str, name: str = "parallel") -> dict[str, str]:
        sides = (f"data.{key}={path}" for key, path in zip(FILES, named, strict=False))
        data = compose_config(["model=seq2seq", f"data={name}", *sides]).data
        assert isinstance(data, PairData)
        return moved_files(data, "/new")

    assert files_of("/a/x.en", "/b/x.fr") == {"source": "/new/x.en", "target": "/new/x.fr"}
    alike = files_of("/a/en/x", "/a/fr/x", "/a/en/y", "/a/fr/y")
    assert list(alike.values()) == ["/new/en/x", "/new/fr/x", "/new/en/y", "/new/fr/y"]
    assert files_of("/a/x.en", "/a/x.fr", "/a/x.en", "/a/x.fr")["val_source"] == "/new/x.en"
    assert files_of(name="multi30k") == {"root": "/new"}
    assert files_of("/a/x.en", "/a/x.fr", name="wmt14_enfr") == {"root": "/new"}, "the files stay where they are"


def test_runs_are_compared_by_bleu(here: Here, trained: Path) -> None:
    assert "test bleu, higher is better" in here("compare", trained).out


def test_a_run_translates_where_its_data_are_not(trained: Path) -> None:
    data = trained.parents[3] / "a.txt"
    elsewhere = data.rename(data.with_name("gone.txt"))
    try:
        loaded = load_run(trained)
    finally:
        elsewhere.rename(data)
    assert loaded.pieces is not None
    row = [*loaded.pieces.source.encode(["a dog runs"])[0], EOS]
    (found,) = greedy(network_of(loaded.model), torch.tensor([row]), torch.tensor([len(row)]))
    assert isinstance(loaded.pieces.target.decode(found), str) and len(found) <= 2 * len(row) + 20


@pytest.mark.slow
def test_killed_and_resumed_is_the_run_at_one_go(start: Start, tmp_path: Path) -> None:
    """To the bit: order, masks, accumulation, average."""
    whole = train(tmp_path, *HYPER)
    absolute = (*HYPER, f"data.source={tmp_path / 'a.txt'}", f"data.target={tmp_path / 'b.txt'}")
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


@pytest.mark.slow
def test_pairs_that_have_changed_are_not_trained_on_further(start: Start, tmp_path: Path) -> None:
    write_pairs(tmp_path)
    line = (*HYPER, "trainer.max_steps=20")
    killed = start("train", *line, cwd=tmp_path / "here", env=PLAIN, before=DIE.format(number=1))
    assert killed.wait() == -signal.SIGKILL
    write_pairs(tmp_path, seed=1)
    again = start("train", *line, cwd=tmp_path / "here", env=PLAIN)
    assert again.wait() == 2
    assert "has other pieces of words" in again.err or "have changed since this run began" in again.err
