"""Which folders are runs, what became of each, and what damaged and foreign ones do: a line each."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperrun.compare import Runs, compare, read_runs
from hyperrun.errors import UserError
from hyperrun.runs.folder import holder
from hyperrun.runs.reading import last_row
from tests.made_up_runs import made_up_run


def names(runs: Runs) -> list[str]:
    return [run.path.name for run in runs.finished]


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    deep = made_up_run(tmp_path / "a" / "b" / "outputs", "model=cnn", name="deep")
    made_up_run(tmp_path / "outputs", "model=cnn", name="flat")
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(deep)
    (tmp_path / "itself").symlink_to("itself")
    for hidden in (".hydra", "wandb", "checkpoints"):
        made_up_run(deep / hidden, "model=cnn")
    runs = read_runs([tmp_path, deep, deep / "summary.json"])
    assert names(runs) == ["deep", "flat"] and runs.unfinished == []
    assert runs.warnings == [f"{path} holds no (other) runs" for path in (deep, deep / "summary.json")]


def test_a_link_to_a_run_is_a_run(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "elsewhere", "model=cnn", name="run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(run)
    assert names(read_runs([tmp_path / "mine"])) == ["link"]


def test_a_file_of_a_run_stands_for_the_run(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, "model=cnn", name="run")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.pt").touch()
    for file in ("summary.json", "config.yaml", "checkpoints/best.pt"):
        assert names(read_runs([run / file])) == ["run"]


def test_what_a_run_says(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=hypercnn", "hypernet.z_dim=8", "seed=3", test=0.75, steps=100)
    [run] = read_runs([tmp_path]).finished
    assert run.get("test/accuracy") == 0.75 and run.get("seed") == 3 and run.get("hypernet.z_dim") == 8
    assert run.get("data") == "digits" and run.get("hypernet") == "static", "the summary's word"
    assert run.get("optim") == "adam", "a group is its kind"
    assert run.get("time/epoch_s") == pytest.approx(20.0 / 10), "100 steps are 10 epochs"
    assert "seed" not in run.computed and "trainer.batch_size" in run.computed
    assert not [key for key in run.computed if key.startswith(("tracking", "outputs", "resume", "data.root"))]
    with pytest.raises(KeyError):
        run.get("nothing")


# ---------------------------------------------------------------- not finished


def test_failed_and_preempted_runs_say_why_and_how_far(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", name="f", status="failed", error="the loss is\nnot \x1b[31mfinite", steps=40)
    made_up_run(tmp_path, "model=cnn", name="p", status="preempted", error="stopped by SIGTERM", steps=60)
    made_up_run(tmp_path, "model=cnn", name="k", status=None, steps=80)
    runs = read_runs([tmp_path])
    assert runs.finished == []
    found = {run.path.name: (run.status, run.step, run.reason) for run in runs.unfinished}
    assert found["f"] == ("failed", 40, "the loss is\ufffdnot \ufffd[31mfinite"), "nothing steers the terminal"
    assert found["p"] == ("preempted", 60, "stopped by SIGTERM")
    assert found["k"][:2] == ("interrupted", 80) and "killed" in found["k"][2]
    killed = next(run for run in runs.unfinished if run.path.name == "k")
    assert (killed.summary["model"], killed.summary["data"], killed.summary["hypernet"]) == ("cnn", "digits", "none")


HOLD = """
import sys, time
from pathlib import Path
from hyperrun.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_held_folder_is_running_and_asking_does_not_take_the_lock(tmp_path: Path) -> None:
    fresh = made_up_run(tmp_path, "model=cnn", name="fresh", status=None)
    resumed = made_up_run(tmp_path, "model=cnn", "seed=1", name="resumed", status="preempted", error="SIGTERM")
    assert holder(fresh) is None
    started = []
    try:
        for folder in (fresh, resumed):
            process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
            started.append(process)
            assert process.stdout is not None and process.stdout.readline() == "held\n"
        runs = read_runs([tmp_path])
        said = {run.path.name: (run.status, run.reason) for run in runs.unfinished}
        assert said == {
            name: ("running", f"process {process.pid} is training it")
            for name, process in zip(["fresh", "resumed"], started, strict=True)
        }
    finally:
        for process in started:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    assert holder(fresh) is None, "the kernel lets go of it"
    assert {run.status for run in read_runs([tmp_path]).unfinished} == {"interrupted", "preempted"}


def test_asking_who_holds_a_folder_leaves_it_free(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    holder(tmp_path)
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_last_row_reads_past_a_cut_line_and_rows_without_epochs(tmp_path: Path) -> None:
    rows = tmp_path / "metrics.jsonl"
    assert last_row(rows) == (None, None)
    rows.write_text('{"step": 10, "epoch": 0.5}\n{"step": 12, "val/accuracy": 0.1}\n{"step": 20, "epo')
    assert last_row(rows) == (12, 0.05)
    rows.write_text('{"step": 10, "epoch": 0.5}\n' + '{"step": 30, "val/accuracy": 0.1}\n' * 1000)
    assert last_row(rows) == (30, 0.05), "beyond the end that is read first"
    evaluation = {"step": 40, "val/accuracy": 0.1} | {f"generated/layer{n}.weight/norm": 1.0 for n in range(400)}
    rows.write_text('{"step": 40, "epoch": 2.0}\n' + json.dumps(evaluation) + "\n")
    assert rows.stat().st_size > 8192 and last_row(rows) == (40, 0.05), "a row of many layers"
    rows.write_bytes(os.urandom(10_000))
    assert last_row(rows) == (None, None)


# ---------------------------------------------------------------- damaged and foreign


def rewrite(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def change(**values: object) -> Callable[[Path], object]:
    """Return what replaces entries of summary.json; ... takes one out."""

    def apply(folder: Path) -> None:
        summary = json.loads((folder / "summary.json").read_text())
        summary |= {key.replace("__", "/"): value for key, value in values.items()}
        kept = {key: value for key, value in summary.items() if value is not ...}
        (folder / "summary.json").write_text(json.dumps(kept))

    return apply


def replace_by(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return apply


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut summary": (rewrite("summary.json", '{"model": "cnn", "da'), "summary.json cannot be read: "),
    "binary summary": (rewrite("summary.json", bytes(range(256)) * 8), "summary.json cannot be read: "),
    "empty summary": (rewrite("summary.json", ""), "summary.json cannot be read: "),
    "deep summary": (rewrite("summary.json", "[" * 100_000), "summary.json cannot be read: "),
    "huge number": (rewrite("summary.json", '{"a": ' + "9" * 5000 + "}"), "summary.json cannot be read: "),
    "another program's": (rewrite("summary.json", '{"loss": 0.5}'), "summary.json is none of hyperrun's"),
    "a list": (rewrite("summary.json", "[1, 2]"), "summary.json is none of hyperrun's"),
    "huge summary": (rewrite("summary.json", " " * 5_000_000), "summary.json is none of hyperrun's"),
    "no parameters": (change(params__trainable=...), "summary.json has no usable params/trainable"),
    "words for numbers": (change(params__target="many"), "summary.json has no usable params/target"),
    "not finite": (change(test__accuracy=float("nan")), "summary.json has no usable test/accuracy"),
    "too large for a float": (change(params__trainable=10**400), "summary.json has no usable params/trainable"),
    "no test figure": (change(test__accuracy=...), "summary.json has no usable test/accuracy"),
    "zero parameters": (change(params__trainable=0), "summary.json counts less than one parameter"),
    "unknown metric": (change(metric="elo"), "summary.json is of a metric that this version does not know: elo"),
    "unhashable metric": (change(metric=["accuracy"]), "summary.json is of a metric that this version"),
    "no config": (lambda folder: (folder / "config.yaml").unlink(), "has no config.yaml"),
    "broken config": (rewrite("config.yaml", "a: [1, 2\nb: }"), "config.yaml cannot be read: line 2: "),
    "binary config": (rewrite("config.yaml", bytes(range(256))), "config.yaml cannot be read: "),
    "impossible date": (rewrite("config.yaml", "a: 2026-99-99"), "config.yaml cannot be read: "),
    "foreign config": (rewrite("config.yaml", "lr: 0.1\n"), "config.yaml is none of hyperrun's"),
    "empty config": (rewrite("config.yaml", ""), "config.yaml is none of hyperrun's"),
    "a bomb of aliases": (rewrite("config.yaml", BOMB), "config.yaml is none of hyperrun's"),
    "a folder": (replace_by("summary.json", Path.mkdir), "summary.json cannot be read: Is a directory"),
    "a pipe": (replace_by("summary.json", os.mkfifo), "summary.json cannot be read: "),
    "a dead link": (replace_by("summary.json", lambda p: p.symlink_to("nowhere")), "has no summary.json"),
    "an endless file": (replace_by("config.yaml", lambda p: p.symlink_to("/dev/zero")), "config.yaml is none of"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_one_warning_line(tmp_path: Path, damage: str) -> None:
    made_up_run(tmp_path, "model=cnn", name="good")
    bad = made_up_run(tmp_path, "model=cnn", "seed=1", name="bad")
    spoil, said = DAMAGE[damage]
    spoil(bad)
    runs = read_runs([tmp_path])
    assert names(runs) == ["good"]
    [warning] = runs.warnings
    assert warning.startswith(f"{bad}: {said}") and warning.isprintable() and len(warning) < 400


def test_a_number_beside_the_point_that_is_too_large_is_left_out(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, "model=cnn", name="good")
    change(throughput__examples_per_s=10**400)(run)
    [comparison] = compare(read_runs([tmp_path]))
    assert comparison.groups[0].mean("throughput/examples_per_s") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_one_warning_line(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", name="good")
    for name, closed in (("file", "summary.json"), ("folder", ".")):
        (made_up_run(tmp_path, "model=cnn", name=name) / closed).chmod(0)
    runs = read_runs([tmp_path])
    assert names(runs) == ["good"]
    assert sorted(line.rpartition(": ")[2] for line in runs.warnings) == ["Permission denied"] * 2


def test_closed_folders_are_one_warning_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for root, whom no permission stops."""
    made_up_run(tmp_path, "model=cnn", name="good")
    closed = made_up_run(tmp_path, "model=cnn", name="closed")
    scandir = os.scandir

    def guarded(path: str):
        if path == str(closed):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    runs = read_runs([tmp_path])
    assert names(runs) == ["good"] and runs.warnings == [f"{closed}: cannot be read: Permission denied"]


def test_a_folder_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn", name="good")
    bad = made_up_run(tmp_path, "model=cnn", name="two\nlines\x1b[2J\udcff")
    (bad / "summary.json").write_text("{")
    [warning] = read_runs([tmp_path]).warnings
    assert warning.isprintable() and "two\ufffdlines\ufffd[2J\ufffd" in warning


def test_missing_and_empty_folders_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="^there is no folder outputs; hyperrun train makes it$"):
        read_runs()
    (tmp_path / "outputs").mkdir()
    with pytest.raises(UserError, match="^there are no runs in outputs; hyperrun train makes them$"):
        read_runs()
    with pytest.raises(UserError, match="^there is no folder ouputs; did you mean 'outputs'"):
        read_runs(["ouputs"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"^notes\.txt is no folder$"):
        read_runs(["notes.txt"])
    bad = made_up_run(tmp_path / "outputs", "model=cnn", name="bad")
    (bad / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"^there are no runs in outputs that can be read \(outputs/digits/bad: "):
        read_runs()
