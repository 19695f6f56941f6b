"""hyperrun train: what a run shows and leaves; run again, afresh, in a sweep, two at once, on any kind of terminal."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from hyperrun.config import from_omegaconf, run_hash
from hyperrun.tasks.classification import Classification
from tests.running import (
    FAST,
    QUIET,
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

SUMMARY_KEYS = {
    "status", "model", "target", "hypernet", "data", "task", "seed", "params/trainable", "params/generated",
    "params/free", "params/target", "params/compression", "metric", "val/accuracy", "test/accuracy", "best/step",
    "time/train_s", "throughput/examples_per_s", "precision", "device", "torch", "git", "command",
}  # fmt: skip
"""DESIGN, decision 5, for a classification."""


# ---------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Running:
    """The default run, as the quick start types it, at its full length."""
    running = Running("train", cwd=tmp_path_factory.mktemp("digits"))
    assert running.wait() == 0, running.err
    return running


def test_default_run_reaches_95_percent(digits: Running) -> None:
    assert summary(digits.folder)["test/accuracy"] >= 0.95


def test_summary_has_what_is_promised(digits: Running) -> None:
    found = summary(digits.folder)
    assert found.keys() >= SUMMARY_KEYS
    assert found["status"] == "finished" and found["model"] == "hypercnn" and found["command"] == "hyperrun train"
    assert (found["target"], found["hypernet"], found["data"], found["task"]) == (
        "cnn",
        "static",
        "digits",
        "classification",
    )
    # conv1 800, conv2's bias 16, linear 65 * 10; W_in 16*4*4, B_in 16*4, W_out 4*16*49, B_out 16*49, z 4
    assert found["params/generated"] == 7 * 7 * 16 * 16
    assert found["params/free"] == (49 * 16 + 16) + 16 + (16 * 4 * 10 + 10)
    assert found["params/trainable"] == found["params/free"] + 256 + 64 + 3136 + 784 + 4
    assert found["params/target"] == found["params/generated"] + found["params/free"]
    assert found["params/compression"] == pytest.approx(found["params/target"] / found["params/trainable"], abs=1e-4)
    assert found["metric"] == "accuracy" and 0 < found["val/accuracy"] <= 1
    assert found["torch"] == torch.__version__ and found["time/train_s"] > 0 and found["throughput/examples_per_s"] > 0


def test_run_folder_holds_what_is_promised(digits: Running) -> None:
    names = {str(path.relative_to(digits.folder)) for path in digits.folder.rglob("*") if path.is_file()}
    promised = {
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "train.log",
    }
    assert promised <= names <= promised | {"checkpoints/previous.pt", ".lock"}
    assert [path.name for path in digits.cwd.iterdir() if not path.name.startswith(".said")] == ["outputs"]


def test_run_folder_is_named_by_what_the_run_is(digits: Running) -> None:
    config = from_omegaconf(OmegaConf.load(digits.folder / "config.yaml"))
    assert digits.folder.name == f"hypercnn-s0-{run_hash(config)}"
    assert digits.folder.parent == digits.cwd / "outputs" / "digits"


def test_rows_and_best_checkpoint_agree_with_the_summary(digits: Running) -> None:
    logged, found = rows(digits.folder), summary(digits.folder)
    evaluations = {row["step"]: row["val/accuracy"] for row in logged if "val/accuracy" in row}
    assert found["val/accuracy"] == max(evaluations.values()) == evaluations[found["best/step"]]
    assert min(step for step, value in evaluations.items() if value == found["val/accuracy"]) == found["best/step"]
    best = checkpoint(digits.folder / "checkpoints" / "best.pt")
    assert best["step"] == found["best/step"] and best["val"]["accuracy"] == found["val/accuracy"]
    assert checkpoint(digits.folder / "checkpoints" / "last.pt")["loop"]["step"] == found["steps"] == logged[-1]["step"]

    training = [row for row in logged if "train/loss" in row]
    assert [row["step"] for row in training] == sorted({*range(20, found["steps"], 20), found["steps"]})
    assert training[-1]["train/loss"] < 0.2 < training[0]["train/loss"]
    assert training[-1]["epoch"] == 60 and training[-1]["lr"] < training[0]["lr"]
    assert all(
        {"step", "epoch", "train/loss", "train/accuracy", "lr", "time/train_s"} <= row.keys() for row in training
    )


def test_terminal_and_log_say_the_same(digits: Running) -> None:
    """Counts, accuracy, where the files are and the next command stand in both."""
    found, log = summary(digits.folder), (digits.folder / "train.log").read_text()
    for text in (digits.out, log):
        assert "hypercnn: 5,710 trainable parameters for a target of 14,010 (12,544 generated)" in text
        assert f"{found['test/accuracy']:.4f}" in text and f"{found['val/accuracy']:.4f}" in text
        assert str(digits.folder.relative_to(digits.cwd)) in text and "hyperrun eval outputs/digits/" in text
        assert f"step {found['steps']}/{found['steps']}" in text
        assert f"{found['precision']}: " in text, "the choice of precision comes with its reason"
    assert digits.err == ""


def test_the_next_command_can_be_typed_whatever_the_folder_is_called(start: Start) -> None:
    running = start("train", *FAST, "outputs=my runs")
    assert running.wait() == 0 and "next    hyperrun eval 'my runs/digits/hypercnn-s0-" in running.out


def test_output_to_a_file_has_no_control_characters(digits: Running) -> None:
    assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f\x9b]", digits.out + (digits.folder / "train.log").read_text())


def test_typed_again_it_prints_the_result_and_trains_nothing(digits: Running, start: Start) -> None:
    folder = digits.folder
    files = [path for path in folder.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = start("train", cwd=digits.cwd)
    assert again.wait() == 0, again.err
    assert again.out.startswith("this run is finished already (resume=never trains it again)\n")
    table = digits.out[digits.out.index("hypercnn on digits") :]
    assert again.out.endswith(table), "the same table"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


# ---------------------------------------------------------------- selection


def test_test_data_is_read_once_for_the_selected_checkpoint(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    evaluate = Classification.evaluate

    def spy(self: Classification, split: str, precision: Any) -> dict[str, float]:
        if split == "test":
            best = checkpoint(only_run(Path.cwd()) / "checkpoints" / "best.pt")["model"]
            assert all(torch.equal(value, best[name]) for name, value in self.model.state_dict().items())
        read.append(split)
        return evaluate(self, split, precision)

    monkeypatch.setattr(Classification, "evaluate", spy)
    here("train", *FAST, "trainer.eval_every=3")
    assert read == ["val", "val", "val", "test"]  # steps 3, 6, 8


def test_patience_stops_early(here: Here, tmp_path: Path) -> None:
    here("train", *QUIET, "trainer.max_steps=200", "trainer.eval_every=2", "trainer.patience=3", "optim.lr=1e-9")
    found = summary(only_run(tmp_path))
    assert found["status"] == "finished" and found["steps"] == found["best/step"] + 6 < 200


def test_a_run_too_short_for_a_throughput_still_ends_with_its_table(here: Here, tmp_path: Path) -> None:
    done = here("train", "debug=fast")
    found = summary(only_run(tmp_path))
    assert found["steps"] == 2 and found["status"] == "finished" and "throughput/examples_per_s" in found
    assert "test accuracy" in done.out
    assert "test accuracy" in here("train", "debug=fast").out


# ---------------------------------------------------------------- again, afresh


def test_resume_never_trains_again(start: Start, tmp_path: Path) -> None:
    first = start("train", *FAST)
    assert first.wait() == 0
    folder, old = first.folder, summary(first.folder)
    (folder / "notes.txt").write_text("mine")
    old_stat = (folder / "checkpoints" / "last.pt").stat()
    again = start("train", *FAST, "resume=never")
    assert again.wait() == 0
    assert "finished already" not in again.out and again.folder == folder
    assert (folder / "checkpoints" / "last.pt").stat().st_mtime_ns > old_stat.st_mtime_ns
    assert without_clock(summary(folder)) == without_clock(old)
    steps = [row["step"] for row in rows(folder) if "train/loss" in row]
    assert steps == [2, 4, 6, 8], "no rows of the first run"
    assert (folder / "train.log").read_text().count("run      outputs") == 1
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_does_not(start: Start, tmp_path: Path) -> None:
    runs = [start("train", *FAST, f"seed={seed}", cwd=tmp_path / name) for name, seed in [("a", 3), ("b", 3), ("c", 4)]]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert_same_run(runs[0].folder, runs[1].folder)
    weights = [checkpoint(run.folder / "checkpoints" / "last.pt")["model"]["target.conv1.weight"] for run in runs]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


# ---------------------------------------------------------------- what is composed


def test_hypernet_none_trains_the_target_itself(here: Here, tmp_path: Path) -> None:
    here("train", *FAST, "model=hyperresnet", "hypernet=none", "target.depth=10", "target.width=1")
    folder = only_run(tmp_path)
    found = summary(folder)
    assert "hyper" not in folder.name and "hyper" not in found["model"] and found["hypernet"] == "none"
    assert found["params/generated"] == 0 and found["params/compression"] == 1
    assert found["params/trainable"] == found["params/free"] == found["params/target"]
    model = checkpoint(folder / "checkpoints" / "best.pt")["model"]
    assert not any("hypernet" in name for name in model) and any(value.ndim == 4 for value in model.values())


def test_what_is_typed_wins_over_the_preset(here: Here, tmp_path: Path) -> None:
    here("train", *FAST, *TINY, "model=hypercnn", "target=wide_resnet")
    found = summary(only_run(tmp_path))
    assert found["model"] == "static-wide_resnet" and found["target"] == "wide_resnet" and found["hypernet"] == "static"


def test_same_target_alone_and_generated_count_the_same_target(here: Here, tmp_path: Path) -> None:
    here("train", *FAST, *TINY)
    here("train", *FAST, "model=resnet", *TINY[1:3])
    generated, alone = (summary(next(tmp_path.glob(f"outputs/digits/{n}-s0-*"))) for n in ("hyperresnet", "resnet"))
    assert generated["params/target"] == alone["params/target"] == alone["params/trainable"]
    assert generated["params/trainable"] < alone["params/trainable"]


@pytest.mark.slow
def test_any_torchvision_model(here: Here, tmp_path: Path) -> None:
    names = ["target=torchvision", "target.name=shufflenet_v2_x0_5"]
    here("train", *FAST, *names, "trainer.max_steps=2")
    found = summary(only_run(tmp_path))
    assert found["model"] == "static-shufflenet_v2_x0_5" and found["params/generated"] > 0


# ---------------------------------------------------------------- defects


def test_a_defect_of_ours_keeps_its_traceback(start: Start, tmp_path: Path) -> None:
    running = start(
        "train",
        *FAST,
        before="""
from hyperrun.training import step as training_step
def broken(*args):
    raise AttributeError("a defect")
training_step.lr_factor = broken
""",
    )
    assert running.wait() == 1
    assert "Traceback (most recent call last)" in running.err and "AttributeError: a defect" in running.err
    assert "AttributeError: a defect" in (running.folder / "train.log").read_text()
    assert summary(running.folder)["status"] == "failed" and summary(running.folder)["error"] == "a defect"


# ---------------------------------------------------------------- a loss that is not finite


DIVERGES = {
    "at once": ["optim.lr=1e20"],
    "after a checkpoint": [
        "schedule=multi_step", "schedule.milestones=[5]", "schedule.factors=[1e30]", "optim.lr=1e-3",
        "trainer.save_every_s=0",
    ],
}  # fmt: skip


@pytest.mark.parametrize("when", ["at once", pytest.param("after a checkpoint", marks=pytest.mark.slow)])
def test_non_finite_loss(start: Start, tmp_path: Path, when: str) -> None:
    line = ["train", *QUIET, "trainer.max_steps=40", "trainer.log_every=1", "optim=sgd", *DIVERGES[when]]
    running = start(*line)
    assert running.wait() == 1
    assert running.err.startswith("hyperrun: error: the loss is not finite at step ") and running.err.count("\n") == 1
    found = re.search(r"not finite at step (\d+); (.*); try (.*)\n", running.err)
    assert found is not None, running.err
    step, last, advice = int(found[1]), running.folder / "checkpoints" / "last.pt", found[3]
    assert "optim.lr" in advice and "trainer.clip_norm" in advice and "schedule.warmup_steps" in advice
    assert "precision=float32" not in advice, "it is float32 already"
    if when == "at once":
        assert found[2] == "there is no checkpoint before it" and not last.exists()
    else:
        assert found[2] == f"the last good checkpoint is {last.relative_to(tmp_path)}"
        assert 0 < checkpoint(last)["loop"]["step"] < step
    end, log = summary(running.folder), (running.folder / "train.log").read_text()
    assert end["status"] == "failed" and f"not finite at step {step}" in end["error"]
    assert "Traceback (most recent call last)" in log and "RunFailed" in log
    assert leftovers(tmp_path) == []

    again = start(*line)
    assert again.wait() == 1 and f"not finite at step {step};" in again.err, "the same line, the same end"


BROKEN_GRADIENT = """
import hyperrun.tasks.classification as c
real, steps = c.ClassificationLoss.forward, [0]
def forward(self, x, y):
    loss, stats = real(self, x, y)
    steps[0] += 1
    if steps[0] == 5:  # adds 0 with the gradient 0 / 0
        loss = loss + (next(self.model.parameters()).sum() * 0).sqrt()
    return loss, stats
c.ClassificationLoss.forward = forward
"""


def test_last_good_checkpoint_has_finite_weights(start: Start) -> None:
    """A finite loss can have a gradient that breaks the weights; a checkpoint made right then is not a good one."""
    line = ["train", *QUIET, "trainer.max_steps=40", "trainer.log_every=1", "trainer.save_every_s=0"]
    running = start(*line, before=BROKEN_GRADIENT)
    assert running.wait() == 1 and "the last good checkpoint is" in running.err, running.err
    good = checkpoint(running.folder / "checkpoints" / "last.pt")
    assert all(value.isfinite().all() for value in good["model"].values() if value.is_floating_point())
    done = start(*line)
    assert done.wait() == 0, "without the mishap the same line goes on from it"


@pytest.mark.slow
def test_bf16_is_named_among_what_to_try(start: Start) -> None:
    running = start("train", *FAST, "precision=bf16", "optim=sgd", "optim.lr=1e20")
    assert running.wait() == 1 and running.err.rstrip().endswith("precision=float32")


# ---------------------------------------------------------------- two at once


@pytest.mark.slow
def test_two_processes_with_the_same_line(start: Start, tmp_path: Path) -> None:
    line = ("train", *FAST, "trainer.max_steps=200")
    both = [start(*line), start(*line)]
    statuses = [running.wait() for running in both]
    assert 0 in statuses and set(statuses) <= {0, 2}
    folder = only_run(tmp_path)
    steps = [row["step"] for row in rows(folder) if "train/loss" in row]
    assert steps == list(range(2, 201, 2)) and summary(folder)["status"] == "finished"
    for running, status in zip(both, statuses, strict=True):
        if status == 2:
            other = both[1 - both.index(running)]
            where = folder.relative_to(tmp_path)
            assert running.err == f"hyperrun: error: another process (pid {other.pid}) is training in {where}\n"
            assert running.out == ""


@pytest.mark.slow
def test_second_process_while_the_first_trains(start: Start, tmp_path: Path) -> None:
    line = ("train", *QUIET, "trainer.max_steps=100000", "trainer.log_every=1")
    first = start(*line)
    first.until(first.has_trained)
    second = start(*line)
    assert second.wait() == 2
    assert f"another process (pid {first.pid}) is training in outputs/digits/hypercnn" in second.err
    assert second.err.count("\n") == 1 and "Traceback" not in second.err
    assert first.poll() is None, "the first one goes on"
    afresh = start(*line, "resume=never")
    assert afresh.wait() == 2 and first.has_trained(), "and keeps its files"


# ---------------------------------------------------------------- terminals


def on_a_terminal(start: Start, *argv: str, columns: int, **options: Any) -> tuple[Running, str]:
    """Run a line on a terminal of that width; return the process, ended, and all it wrote."""
    main, terminal = os.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        running = start(*argv, out=Path(os.ttyname(terminal)), **options)
        written: list[bytes] = []

        def read() -> None:
            while True:
                try:
                    written.append(os.read(main, 65536))
                except OSError:  # closed
                    return

        reader = threading.Thread(target=read)
        reader.start()
        running.wait()
    finally:
        os.close(terminal)
    reader.join(10)
    os.close(main)
    return running, b"".join(written).decode()


COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|38|9[0-7]|4[0-7])(?:;[0-9;]*)?m")


@pytest.mark.parametrize("columns", [100, 40])
def test_terminal_shows_progress_and_the_table(start: Start, columns: int) -> None:
    line = ("train", *FAST, "trainer.max_steps=60", "trainer.log_every=1")
    running, written = on_a_terminal(start, *line, columns=columns, env={"TERM": "xterm-256color", "NO_COLOR": ""})
    assert running.status == 0, running.err
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    assert re.search(r"step \d+/60", plain), "a progress bar"
    assert "val accuracy" in plain or columns == 40
    assert "test accuracy" in plain and "5,710" in plain and "hyperrun eval" in plain.replace("\r\n", " ")
    assert COLOUR.search(written), "colours on a terminal"
    assert "\x1b[?25l" in written and written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is back"


def test_no_color_is_respected(start: Start) -> None:
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1"}
    running, written = on_a_terminal(start, "train", *FAST, columns=80, env=environment)
    assert running.status == 0, running.err
    assert "test accuracy" in written and not COLOUR.search(written)


@pytest.mark.slow
def test_cursor_is_back_after_an_interrupt(start: Start) -> None:
    hook = """
import os, signal
from hyperrun.training import step as training_step
real = training_step.lr_factor
def lr_factor(schedule, step, total):
    if step == 30:
        os.kill(os.getpid(), signal.SIGINT)
    return real(schedule, step, total)
training_step.lr_factor = lr_factor
"""
    line = ("train", *FAST, "trainer.max_steps=1000", "trainer.log_every=1")
    running, written = on_a_terminal(start, *line, columns=80, env={"TERM": "xterm-256color"}, before=hook)
    assert running.status == 130
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


@pytest.mark.parametrize("columns", ["40", pytest.param("20", marks=pytest.mark.slow)])
def test_narrow_pipe(start: Start, columns: str) -> None:
    running = start("train", *FAST, env={"COLUMNS": columns})
    assert running.wait() == 0, running.err
    assert "5,710" in running.out and not re.findall(r"[\x00-\x08\x0b-\x1f\x7f]", running.out)
    assert str(running.folder.relative_to(running.cwd)) in running.out, "a path is not broken over lines"


def test_a_pipe_has_the_table_whole(digits: Running) -> None:
    assert "│ test accuracy        │ " in digits.out and "…" not in digits.out


@pytest.mark.slow
def test_long_runs_print_a_line_every_ten_seconds(start: Start) -> None:
    running = start("train", *QUIET, "trainer.max_steps=100000", "trainer.log_every=1", "trainer.eval_every=1000000")
    running.until(lambda: running.out.count("step ") >= 3, timeout=40)
    running.send(15)
    assert running.wait() == 143
    assert running.out.count("step ") < 8


@pytest.mark.parametrize(("measured_on", "expected"), [("mnist", False), ("digits", True)])
def test_the_papers_figure_stands_beside_runs_on_its_data_only(start: Start, measured_on: str, expected: bool) -> None:
    running = start("train", "experiment=ha2016/mnist_cnn", "data=digits", f"paper.data={measured_on}", *FAST, *QUIET)
    assert running.wait() == 0, running.err
    assert ("paper/value" in summary(running.folder)) == expected
    assert ("the paper" in running.out) == expected
