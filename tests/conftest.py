"""What every test stands on: nothing of the user's own (W&B login, caches, data sets) is seen or touched.

And three ways to run a command line, from fast to real: in this process (here), in a forked one (start), in a new one
(run_cli).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hyperrun import cli, registry
from tests.running import EVERYTHING, Running

REPO = Path(__file__).resolve().parent.parent
DATA = os.environ.get("HYPERRUN_DATA")


@pytest.fixture(scope="session", autouse=True)
def isolated_user(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[None]:
    """Give the whole session, and every process it starts, an empty home and no W&B account.

    $WANDB_MODE is disabled; a test about tracking sets tracking.wandb.mode=offline or deletes the variable.
    """
    home = tmp_path_factory.mktemp("home")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # pytest in the background of a script: it would be inherited
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("WANDB_", "HYPERRUN_", "HYDRA_")):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
        patch.setenv("NETRC", str(home / ".netrc"))
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_CACHE_DIR", str(home / "wandb-cache"))
        patch.setenv("WANDB_CONFIG_DIR", str(home / "wandb-config"))
        patch.setenv("WANDB_DATA_DIR", str(home / "wandb-data"))
        # Kept from one run of pytest to the next: building the font cache takes seconds.
        patch.setenv("MPLCONFIGDIR", str(pytestconfig.cache.mkdir("matplotlib")))
        patch.setenv("MPLBACKEND", "agg")
        yield


@pytest.fixture(autouse=True)
def registered_for_one_test() -> Iterator[None]:
    """Forget after a test what it registered: a target, a data set, ..., and their configs."""
    # choices() imports the project's own first: else they would be forgotten after the first test that does
    before = {group: dict(registry.choices(group)) for group in registry.HOMES}
    yield
    for group, found in registry._choices.items():
        for name in [name for name in found if found[name] is not before[group].get(name)]:
            registry.forget(group, name)
        found.update(before[group])


@pytest.fixture(autouse=True)
def data_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show $HYPERRUN_DATA to tests marked `data` only."""
    if request.node.get_closest_marker("data"):
        if DATA is None:
            pytest.skip("needs HYPERRUN_DATA, the folder with published data sets")
        monkeypatch.setenv("HYPERRUN_DATA", DATA)


@pytest.fixture(autouse=True)
def cuda_where_marked(request: pytest.FixtureRequest) -> None:
    """Skip tests marked `cuda` on a machine without such a device."""
    if request.node.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """Return a function that runs the command line in a process of its own, in the test's folder unless told otherwise.

    run_cli("train", "trainer.max_steps=2", cwd=..., env={...}, check=False) returns a CompletedProcess with text. With
    check (the default) a status other than 0 fails the test and shows what was printed.
    """

    def run(
        *args: str | Path,
        cwd: Path = tmp_path,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hyperrun", *map(str, args)]
        environment = {**os.environ, "PYTHONPATH": str(REPO), **(env or {})}
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            shown = " ".join(command[2:])
            pytest.fail(f"{shown}: status {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done

    return run


@dataclass
class Done:
    """How a command line ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a function that runs a command line in this process, in the test's folder: here("ls", "models").

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
        except SystemExit as error:  # argparse, and Hydra's --help
            ended = error.code if isinstance(error.code, int) else 0
        out, err = capsys.readouterr()
        assert status is None or ended == status, f"{argv}: status {ended}\n{out}\n{err}"
        return Done(ended, out, err)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Return a function that starts a command line in a forked process, in the test's folder unless told otherwise.

    start("train", "seed=1", before="code run first"). What still runs when the test ends is killed.
    """
    started: list[Running] = []

    def begin(*argv: str, cwd: Path = tmp_path, **options: Any) -> Running:
        cwd.mkdir(exist_ok=True)
        started.append(Running(*argv, cwd=cwd, **options))
        return started[-1]

    yield begin
    for running in started:
        running.send(signal.SIGKILL)
        running.wait()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of EVERYTHING, trained at one go."""
    running = Running("train", *EVERYTHING, cwd=tmp_path_factory.mktemp("uninterrupted"))
    assert running.wait() == 0, running.err
    return running.folder
