"""Weights & Biases beside the files: what an offline run holds, read back with W&B's own tool, and trouble with it."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperrun import cli
from hyperrun.tracking.wandb_run import choose_mode
from tests.running import Running, only_run, rows, summary

LINE = (
    "train",
    "trainer.max_steps=12",
    "trainer.log_every=2",
    "trainer.eval_every=4",
    "precision=float32",
    "optim.lr=0.003",
    "tracking.wandb.mode=offline",
    "tracking.wandb.project=trial",
)


@functools.cache
def inspect(folder: Path, *options: str) -> str:
    """Read the .wandb file of a run that has ended with W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def offline_runs(folder: Path) -> list[Path]:
    """Return the offline runs that a run folder holds, the oldest first: one for each process that trained."""
    return sorted((folder / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_ctime)


def recorded(folder: Path) -> dict[str, Any]:
    """Return state, config and summary of the last offline run."""
    return json.loads(inspect(offline_runs(folder)[-1], "--summary"))


def records(offline: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in inspect(offline).splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def history(offline: Path) -> list[dict[str, Any]]:
    """Return the logged rows, without the keys W&B adds."""
    items = [record["item"] for record in records(offline, "history")]
    return [{key: value for key, value in item.items() if not key.startswith("_")} for item in items]


def same_row(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(ours[key] == pytest.approx(theirs[key]) for key in ours)


# ---------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Running:
    running = Running(*LINE, cwd=tmp_path_factory.mktemp("finished"), env={"WANDB_SILENT": "false"})
    assert running.wait() == 0, running.err
    return running


def test_run_is_finished_under_its_own_name(finished: Running) -> None:
    (offline,) = offline_runs(finished.folder)
    found = recorded(finished.folder)
    assert (found["state"], found["exit_code"]) == ("finished", 0)
    assert found["name"] == finished.folder.name and found["project"] == "trial"
    assert finished.folder.name.endswith(found["run_id"].split("-")[0]), "the id is the hash in the folder's name"
    assert set(found["tags"]) == {"digits", "static"}
    (run,) = records(offline, "run")
    assert run["job_type"] == "train"


def test_config_has_nested_keys(finished: Running) -> None:
    config = recorded(finished.folder)["config"]
    assert config["optim"]["lr"] == 0.003 and config["optim"]["kind"] == "adam"
    assert config["trainer"]["max_steps"] == 12 and config["schedule"]["kind"] == "cosine"
    assert config["seed"] == 0 and config["model"] == "hypercnn"
    assert config["target"]["channels"] == [16, 16], "what distinguishes runs must be there to filter and group by"
    assert config["hypernet"]["z_dim"] == 4 and config["hypernet"]["kind"] == "static"
    assert config["data"]["name"] == "digits" and config["data"]["val_size"] == 180


def test_counts_are_in_config_too(finished: Running) -> None:
    config = recorded(finished.folder)["config"]
    assert config["params/trainable"] == 5710 and config["params/generated"] == 12544


def test_history_is_metrics_jsonl_with_step_as_a_value(finished: Running) -> None:
    (offline,) = offline_runs(finished.folder)
    theirs, ours = history(offline), rows(finished.folder)
    theirs = [row for row in theirs if "step" in row]
    assert len(theirs) == len(ours) == 6 + 3
    assert all(same_row(a, b) for a, b in zip(ours, theirs, strict=True))


def test_step_is_the_axis_of_every_metric(finished: Running) -> None:
    (offline,) = offline_runs(finished.folder)
    metrics = records(offline, "metric")
    assert any(metric.get("name") == "step" for metric in metrics)
    assert any(metric.get("glob_name") == "*" and metric.get("step_metric") == "step" for metric in metrics)


def test_summary_is_summary_json(finished: Running) -> None:
    theirs, ours = recorded(finished.folder)["summary"], summary(finished.folder)
    assert {"val/accuracy", "test/accuracy", "params/trainable", "best/step", "status"} <= theirs.keys()
    assert {key for key, value in ours.items() if value is not None} <= theirs.keys()
    assert {key: theirs.get(key) for key in ours} == ours, "all from the selected checkpoint"


def test_everything_stays_in_the_run_folder(finished: Running) -> None:
    assert [path.name for path in finished.cwd.iterdir() if not path.name.startswith(".said")] == ["outputs"]


def test_nothing_of_wandb_is_printed(finished: Running) -> None:
    assert finished.err == "" and "wandb:" not in finished.out
    assert "W&B      offline: tracking.wandb.mode=offline was asked for" in finished.out


# ---------------------------------------------------------------- runs that end otherwise


@pytest.mark.slow
def test_failed_run_is_marked_failed(tmp_path: Path) -> None:
    running = Running(*LINE, "optim=sgd", "optim.lr=1e20", cwd=tmp_path)
    assert running.wait() == 1
    found = recorded(running.folder)
    assert (found["state"], found["exit_code"]) == ("failed", 1)
    assert summary(running.folder)["status"] == "failed"


HALFWAY = """
import os, signal
from hyperrun.training import step as training_step
real, steps = training_step.lr_factor, [0]
def lr_factor(schedule, step, total):
    if step == {step}:
        os.kill(os.getpid(), signal.{signal})
    return real(schedule, step, total)
training_step.lr_factor = lr_factor
"""


def logged(folder: Path) -> list[tuple[int, bool]]:
    """Return (step, whether it is a row about training) of every row that any process of a run handed to W&B."""
    found = [row for offline in offline_runs(folder) for row in history(offline) if "step" in row]
    return [(row["step"], "train/loss" in row) for row in found]


@pytest.mark.slow
def test_resumed_run_keeps_its_id_and_logs_no_step_twice(tmp_path: Path) -> None:
    line = [*LINE, "trainer.save_every_s=0.01"]
    stopped = Running(*line, cwd=tmp_path, before=HALFWAY.format(step=7, signal="SIGTERM"))
    assert stopped.wait() == 143, stopped.err
    found = recorded(stopped.folder)
    assert found["state"] != "finished" and found["exit_code"] != 0
    done = Running(*line, cwd=tmp_path)
    assert done.wait() == 0, done.err

    (first,), (second,) = (records(offline, "run") for offline in offline_runs(done.folder))
    assert first["run_id"] == second["run_id"]
    assert sorted(logged(done.folder)) == sorted((row["step"], "train/loss" in row) for row in rows(done.folder))
    assert recorded(done.folder)["state"] == "finished"
    assert recorded(done.folder)["summary"]["test/accuracy"] == summary(done.folder)["test/accuracy"]


@pytest.mark.slow
def test_run_resumed_after_a_kill_logs_no_step_twice(tmp_path: Path) -> None:
    """W&B writes blocks of 32 kB, and what it has not written when everything is killed is lost to it (not to us)."""
    line = [*LINE, "trainer.max_steps=300", "trainer.save_every_s=0.01"]
    stopped = Running(*line, cwd=tmp_path, before=HALFWAY.format(step=280, signal="SIGKILL"))
    assert stopped.wait() == -signal.SIGKILL
    seen, last = logged(stopped.folder), rows(stopped.folder)[-1]["step"]
    assert seen, "the run was to be long enough for W&B to have written something"
    done = Running(*line, cwd=tmp_path)
    assert done.wait() == 0, done.err
    assert "resume   from" in done.out
    steps = logged(done.folder)
    assert len(steps) == len(set(steps)), f"logged twice: {sorted(s for s in steps if steps.count(s) > 1)}"
    wanted = {(row["step"], "train/loss" in row) for row in rows(done.folder)}
    assert {step for step, _ in wanted - set(steps)} <= set(range(max(seen)[0], last + 1))
    assert recorded(done.folder)["summary"]["test/accuracy"] == summary(done.folder)["test/accuracy"]


@pytest.mark.slow
def test_run_resumed_from_behind_its_last_row_logs_it_once(tmp_path: Path) -> None:
    """Killed long after its last checkpoint, a run trains steps again that W&B has already."""
    stopped = Running(*LINE, cwd=tmp_path, before=HALFWAY.format(step=9, signal="SIGKILL"))  # no checkpoint at all yet
    assert stopped.wait() == -signal.SIGKILL
    done = Running(*LINE, cwd=tmp_path)
    assert done.wait() == 0 and "resume   from" not in done.out
    steps = logged(done.folder)
    assert len(steps) == len(set(steps))
    assert len(rows(done.folder)) == 9, "the file has every row once"


@pytest.mark.slow
def test_sweep_has_one_group_and_a_run_for_each_job(tmp_path: Path) -> None:
    running = Running(*LINE[:1], "-m", *LINE[1:], "seed=0,1", "tracking.wandb.tags=[mine]", cwd=tmp_path)
    assert running.wait() == 0, running.err
    folders = sorted(path.parent for path in tmp_path.glob("outputs/digits/*/summary.json"))
    runs = [records(offline, "run")[0] for folder in folders for offline in offline_runs(folder)]
    assert len(runs) == 2 and len({run["run_id"] for run in runs}) == 2
    groups = {run["run_group"] for run in runs}
    assert len(groups) == 1 and next(iter(groups)).startswith("sweep-")
    assert all(set(run["tags"]) == {"digits", "static", "mine"} for run in runs)
    assert [recorded(folder)["config"]["seed"] for folder in folders] == [0, 1]


# ---------------------------------------------------------------- trouble never stops training


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that trains in this process and returns what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    for name in ("HYPERRUN_SWEEP", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")

    def run(*more: str) -> str:
        status = cli.main([*LINE, *more])
        out, err = capsys.readouterr()
        assert status == 0 and err == "", err
        assert summary(only_run(tmp_path))["status"] == "finished"
        assert len(rows(only_run(tmp_path))) == 9
        return out

    return run


def raise_error(*args: Any, **options: Any) -> Any:
    raise RuntimeError("no route to W&B\nand more lines")


def warnings_in(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("warning: ")]


def test_wandb_that_cannot_be_imported(train: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    (warning,) = warnings_in(train())
    assert "W&B is off for this run" in warning and "metrics.jsonl is written all the same" in warning


def test_init_that_fails(train: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import wandb

    monkeypatch.setattr(wandb, "init", raise_error)
    (warning,) = warnings_in(train())
    assert warning == "warning: W&B is off for this run (no route to W&B); metrics.jsonl is written all the same"
    assert warning in (only_run(tmp_path) / "train.log").read_text()


class FakeRun:
    """A W&B run of which one method fails."""

    def __init__(self, broken: str) -> None:
        self.summary, self.calls = self, []
        for name in ("log", "define_metric", "finish", "update"):
            setattr(self, name, raise_error if name == broken else lambda *args, **options: None)


@pytest.mark.parametrize(
    "broken", ["log", "finish", *(pytest.param(name, marks=pytest.mark.slow) for name in ("define_metric", "update"))]
)
def test_any_call_that_fails(train: Callable[..., str], monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    import wandb

    monkeypatch.setattr(wandb, "init", lambda **options: FakeRun(broken))
    (warning,) = warnings_in(train())
    assert "no route to W&B" in warning and "metrics.jsonl" in warning and "more lines" not in warning


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "nonsense"),
        pytest.param("WANDB_BASE_URL", "nonsense", marks=pytest.mark.slow),
        pytest.param("WANDB_API_KEY", "short", marks=pytest.mark.slow),
    ],
)
def test_odd_environment_costs_a_warning_at_most(tmp_path: Path, name: str, value: str) -> None:
    forget = "import os; os.environ.pop('WANDB_MODE')" if name != "WANDB_MODE" else ""
    mode = "offline" if name == "WANDB_API_KEY" else "auto"
    running = Running(*LINE, f"tracking.wandb.mode={mode}", cwd=tmp_path, env={name: value}, before=forget)
    assert running.wait() == 0, running.err
    assert len(warnings_in(running.out)) <= 1 and running.err == ""
    assert summary(running.folder)["status"] == "finished"


def test_disabled_means_not_even_imported(tmp_path: Path) -> None:
    poison = "import sys; sys.modules['wandb'] = None"  # importing it would give a warning
    running = Running(*LINE, "tracking.wandb.mode=disabled", cwd=tmp_path, before=poison)
    assert running.wait() == 0, running.err
    assert warnings_in(running.out) == [] and not (running.folder / "wandb").exists()


# ---------------------------------------------------------------- which mode, and no network unasked


@pytest.mark.parametrize(
    ("wanted", "env", "logged_in", "mode", "reason"),
    [
        ("auto", {}, False, "offline", "not logged in"),
        ("auto", {}, True, "online", "you are logged in"),
        ("auto", {"WANDB_BASE_URL": "https://wandb.example"}, False, "offline", "not logged in"),
        ("auto", {"WANDB_API_KEY": "k" * 40}, False, "online", "API key"),
        ("auto", {"WANDB_IDENTITY_TOKEN_FILE": "token"}, False, "online", "API key"),
        ("auto", {"WANDB_MODE": "offline"}, True, "offline", "$WANDB_MODE is offline"),
        ("auto", {"WANDB_MODE": "online"}, False, "online", "$WANDB_MODE is online"),
        ("auto", {"WANDB_MODE": "disabled", "WANDB_API_KEY": "k" * 40}, True, "disabled", "$WANDB_MODE is disabled"),
        ("auto", {"WANDB_MODE": "dryrun"}, True, "offline", "$WANDB_MODE is dryrun"),
        ("auto", {"WANDB_MODE": ""}, False, "offline", "not logged in"),
        ("auto", {"WANDB_MODE": "nonsense"}, False, "offline", "not logged in"),
        (
            "offline",
            {"WANDB_MODE": "online", "WANDB_API_KEY": "k" * 40},
            True,
            "offline",
            "tracking.wandb.mode=offline",
        ),
        ("online", {"WANDB_MODE": "offline"}, False, "online", "tracking.wandb.mode=online"),
        ("disabled", {"WANDB_MODE": "online"}, True, "disabled", "tracking.wandb.mode=disabled"),
    ],
)
def test_choice_of_mode(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wanted: str,
    env: dict[str, str],
    logged_in: bool,
    mode: str,
    reason: str,
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    log_in_at(["api.wandb.ai", "api.forge.coreweave.com"] if logged_in else [], monkeypatch, tmp_path)
    chosen, why = choose_mode(wanted)
    assert chosen == mode and reason in why


def log_in_at(hosts: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    netrc = folder / "netrc"
    netrc.touch(mode=0o600)
    netrc.write_text("".join(f"machine {host}\n  login user\n  password {'k' * 40}\n" for host in hosts))
    monkeypatch.setenv("NETRC", str(netrc))


@pytest.mark.parametrize(("host", "mode"), [("wandb.example", "online"), ("api.wandb.ai", "offline")])
def test_a_login_counts_for_its_own_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, mode: str
) -> None:
    """Who has a W&B server of their own names it in $WANDB_BASE_URL."""
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    log_in_at([host], monkeypatch, tmp_path)
    assert choose_mode("auto")[0] == mode


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server that refuses everything, and the list of the first lines it was sent."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        asked.append(connection.recv(200).decode(errors="replace").split("\r\n")[0])
                    except OSError:
                        asked.append("?")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def on_the_wire(address: str) -> dict[str, str]:
    """Return an environment in which W&B, and whoever obeys proxies, talks to that address."""
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), address)
    return {"WANDB_BASE_URL": address, "NO_PROXY": "", "no_proxy": "", **proxies}


FORGET = "import os; [os.environ.pop(name) for name in ('WANDB_MODE', 'WANDB_ERROR_REPORTING')]"
"""As on a user's machine: tests/conftest.py sets both."""


@pytest.mark.slow
def test_no_network_without_a_login(tmp_path: Path, listener: tuple[str, list[str]]) -> None:
    address, asked = listener
    running = Running(
        *LINE, "tracking.wandb.mode=auto", cwd=tmp_path, env=on_the_wire(address), before=FORGET
    )  # fmt: skip
    assert running.wait() == 0, running.err
    assert "W&B      offline: not logged in (wandb login)" in running.out
    assert len(offline_runs(running.folder)) == 1
    assert asked == [], "W&B sends telemetry in offline mode, too, unless $WANDB_ERROR_REPORTING is false"


@pytest.mark.slow
def test_the_listener_would_have_heard_it(tmp_path: Path, listener: tuple[str, list[str]]) -> None:
    address, asked = listener
    env = {**on_the_wire(address), "WANDB_API_KEY": "0123456789" * 4}
    running = Running(*LINE, "tracking.wandb.mode=auto", cwd=tmp_path, env=env, before=FORGET)
    running.until(lambda: asked, timeout=60)
    os.killpg(running.pid, signal.SIGKILL)  # W&B's own process, too, which would try again and again
    running.wait()
    assert "online" in running.out


@pytest.mark.slow
def test_no_server_to_be_reached(tmp_path: Path, listener: tuple[str, list[str]]) -> None:
    """Asked to be online where there is no way: one warning after the time-out, and the run is trained."""
    address, _ = listener
    env = {**on_the_wire(address), "WANDB_API_KEY": "0123456789" * 4, "WANDB_INIT_TIMEOUT": "5"}
    running = Running(*LINE, "tracking.wandb.mode=online", cwd=tmp_path, env=env)
    assert running.wait(50) == 0, "sooner than it would without that variable"
    assert len(warnings_in(running.out)) == 1 and running.err == ""
    assert summary(running.folder)["status"] == "finished"
