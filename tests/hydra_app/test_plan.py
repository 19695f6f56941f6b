"""--dry-run: every job with its parameters and its state; nothing trained, nothing written."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.running import FAST, QUIET, Running, summary

Start = Callable[..., Running]
Here = Callable[..., Any]


def cells(out: str) -> list[list[str]]:
    """Return the rows of the table, split where its columns are."""
    lines = out.splitlines()
    (head,) = [i for i, line in enumerate(lines) if line.startswith("job ")]
    starts = [lines[head].index(name) for name in ("job", "model", "state")]
    return [
        [line[starts[0] : starts[1]].strip(), *line[starts[1] :].split()]
        for line in lines[head + 1 :]
        if "jobs:" not in line
    ]


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if ".said-" not in str(path)}


def test_every_job_is_counted_and_named_and_nothing_is_written(here: Here, tmp_path: Path) -> None:
    out = here("train", "-m", "model=cnn,hypercnn", "seed=0,1", *FAST, "--dry-run").out
    rows = cells(out)
    assert [row[:5] for row in rows] == [
        ["0 model=cnn seed=0", "cnn", "14,010", "14,010", "1.00"],
        ["1 model=cnn seed=1", "cnn", "14,010", "14,010", "1.00"],
        ["2 model=hypercnn seed=0", "hypercnn", "5,710", "14,010", "2.45"],
        ["3 model=hypercnn seed=1", "hypercnn", "5,710", "14,010", "2.45"],
    ]
    assert {row[5] for row in rows} == {"missing"} and "4 jobs: 4 missing" in out
    assert list(tmp_path.iterdir()) == []
    here("train", "-m", "model=cnn,hypercnn", "seed=0,1", *FAST)
    made = {str(path.parent.relative_to(tmp_path)): summary(path.parent) for path in tmp_path.rglob("summary.json")}
    for row in rows:
        found = made[row[6]]
        assert f"{found['params/trainable']:,}" == row[2] and f"{found['params/target']:,}" == row[3]
    before = tree(tmp_path)
    assert {row[5] for row in cells(here("train", "-m", "model=cnn,hypercnn", "seed=0,1", *FAST, "--dry-run").out)} == {
        "done"
    }
    assert tree(tmp_path) == before


@pytest.mark.slow
def test_states(start: Start, here: Here, tmp_path: Path) -> None:
    line = [
        "train",
        "-m",
        *QUIET,
        "trainer.log_every=1",
        "optim=sgd",
        "trainer.max_steps=8,20,100000,9",
        "optim.lr=1e-3",
    ]
    assert start(*line[:6], "trainer.max_steps=8", "optim.lr=1e-3").wait() == 0
    stopped = start(*line[:6], "trainer.max_steps=20", "optim.lr=1e-3", before=STOP_AT_5)
    assert stopped.wait() == 143
    running = start(*line[:6], "trainer.max_steps=100000", "optim.lr=1e-3")
    running.until(lambda: running.has_trained(30))
    running.send(signal.SIGSTOP)  # holds its folder, and writes nothing that could be taken for ours
    before = sorted(tree(tmp_path))
    states = [row[5] for row in cells(here(*line, "--dry-run").out)]
    assert states == ["done", "interrupted", "running", "missing"]
    assert sorted(tree(tmp_path)) == before
    assert running.poll() is None
    assert [row[5] for row in cells(here(*line, "--dry-run", "resume=never").out)] == [
        "afresh", "afresh", "running", "afresh"
    ]  # fmt: skip


BROKEN = """
from hyperrun.registry import choices, forget, register
from hyperrun.targets.wide_resnet import WideResNetTarget
choices("target")
forget("target", "wide_resnet")
@register("target", "wide_resnet", WideResNetTarget, takes="images")
def build(cfg, inputs):
    raise RuntimeError("a defect")
"""


def test_a_defect_in_one_job_does_not_hide_the_others(start: Start, tmp_path: Path) -> None:
    running = start("train", "-m", *QUIET, "model=cnn,resnet", "--dry-run", before=BROKEN)
    assert running.wait() == 1 and "Traceback" not in running.err
    assert "cannot be run: RuntimeError: a defect" in running.out and "14,010" in running.out


STOP_AT_5 = """
import os, signal
import hyperrun.runs.metrics_file as metrics
real = metrics.MetricsFile.write
def write(self, row):
    real(self, row)
    if row["step"] == 5:
        os.kill(os.getpid(), signal.SIGTERM)
metrics.MetricsFile.write = write
"""


@pytest.mark.slow
def test_failed_and_wrong_jobs_are_told_apart(here: Here) -> None:
    line = ["train", "-m", *FAST, "optim=sgd", "optim.lr=1e20,-1,1e-3"]
    here(*line, status=1)
    done = here(*line, "--dry-run", status=2)
    assert [row[5] for row in cells(done.out) if "wrong" not in row] == ["failed", "done"]
    assert "wrong" in done.out and "cannot be run: optim: lr must be positive, not -1.0" in done.out
    assert done.err == "hyperrun: error: job 1: optim: lr must be positive, not -1.0\n"


def test_a_model_that_does_not_fit_is_wrong(here: Here) -> None:
    done = here("train", "-m", "target=torchvision", "target.name=vit_b_16,resnet18", "--dry-run", status=2)
    assert "vit_b_16 cannot take images of 8x8" in done.out and "resnet18" in done.out and " missing " in done.out


@pytest.mark.parametrize(
    ("line", "trainable"),
    [
        ("model=hyperresnet data=cifar10", "155,626"),
        ("model=lstm data=ptb_char", "327,218"),
        ("experiment=ha2016/ptb_lnhyperlstm1000", "4,922,642"),
    ],
)
def test_data_need_not_be_there(here: Here, tmp_path: Path, line: str, trainable: str) -> None:
    out = here("train", *line.split(), "data.root=nowhere", "--dry-run").out
    assert f" {trainable} " in out and "1 job: 1 missing" in out
    assert list(tmp_path.iterdir()) == []


def test_language_models(here: Here) -> None:
    rows = cells(
        here("train", "-m", "data=ptb_char", "model=lstm,hyperlstm", "target.hidden_size=128", "--dry-run").out
    )
    assert [row[:5] for row in rows] == [
        ["0 model=lstm", "lstm", "98,098", "98,098", "1.00"],
        ["1 model=hyperlstm", "hyperlstm", "169,554", "98,098", "0.58"],
    ]


REFUSED = {
    "precision=fp16": "precision=fp16 needs a GPU",
    "model=hypermlp data=split_digits data.val_size=1": "a task has no val examples",
    "model=lstm data=pydocs data.sequence_length=10000000": "lower data.sequence_length",
    "model=lstm data=pydocs data.path=some.txt": "reads no such file",
    "model=lstm data=ptb_char data.unit=byte": "ptb_char is read by chars",
    "model=lstm data=enwik8 data.val_fraction=0.1 data.test_fraction=0.1": "enwik8 brings its own split",
    "model=lstm data=text data.path=some.txt": "there is no file ",
    "outputs=a_file": "cannot write to a_file/digits",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_training_refuses_before_its_first_step_is_refused(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("HYPERRUN_DATA", str(tmp_path))
    tmp_path.joinpath("a_file").touch()
    before = tree(tmp_path)
    planned = here("train", *QUIET[:-1], *line.split(), "--dry-run", status=2).err
    assert REFUSED[line] in planned and planned.count("\n") == 1
    assert tree(tmp_path) == before
    if "ptb" in line or "enwik8" in line:  # which training would have to fetch first
        return
    refused = here("train", *line.split(), status=2).err
    assert refused == planned if "outputs" not in line else "cannot write to a_file/" in refused  # Hydra's own folder


def test_two_lines_for_the_same_run(here: Here) -> None:
    out = here("train", "-m", "data.workers=1,2", "--dry-run").out
    assert "as job 0" in out and "2 jobs: 1 missing, 1 the same as another" in out


@pytest.mark.parametrize("line", ["modle=cnn", "-m model=cnn,foo", "--dryrun"])
def test_mistakes_are_answered_as_ever(here: Here, tmp_path: Path, line: str) -> None:
    done = here("train", *line.split(), "--dry-run", status=2)
    assert done.err.count("\n") == 1 and done.out == "" and list(tmp_path.iterdir()) == []
