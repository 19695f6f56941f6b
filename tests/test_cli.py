"""The command line as a whole: verbs, Hydra's own options, plugins, what is imported when, where outputs go."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import hyperrun
from hyperrun import cli
from tests.running import Running

REPO = Path(__file__).resolve().parent.parent
FAST = ("trainer.max_steps=4", "trainer.log_every=2", "tracking.wandb.mode=disabled", "precision=float32")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command line in this process and returns what it printed on stdout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    for name in ("HYPERRUN_SWEEP", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")

    def run(*argv: str | Path, status: int = 0) -> str:
        monkeypatch.delenv("HYPERRUN_SWEEP", raising=False)
        capsys.readouterr()
        try:
            ended = cli.main([str(word) for word in argv])
        except SystemExit as error:  # Hydra's --help and argparse end so
            ended = error.code or 0
        out, err = capsys.readouterr()
        assert ended == status, f"{argv}: status {ended}\n{out}\n{err}"
        return out

    return run


# ---------------------------------------------------------------- verbs


HEAVY = {"torch", "torchvision", "hydra", "omegaconf", "wandb", "rich", "numpy", "sklearn", "matplotlib"}


@pytest.mark.parametrize("line", ["--help", "-h", "help", "", "--version", "trian"])
def test_what_needs_no_torch_imports_none(line: str, tmp_path: Path) -> None:
    code = "import sys; from hyperrun.cli import main; main(sys.argv[1:]); print('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", code, *shlex.split(line)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(done.stdout.splitlines())


def test_help_answers_at_once(run_cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        done = run_cli("--help")
        times.append(time.perf_counter() - began)
    assert done.stdout.startswith("usage: hyperrun VERB")
    assert min(times) < 0.5, "0.2 s on an idle machine is promised"


def test_help_names_every_verb_and_every_verb_has_help(here: Callable[..., str]) -> None:
    listed = here("--help")
    for verb in cli.COMMANDS:
        assert f"\n  {verb} " in listed
        assert f"hyperrun {verb}" in here(verb, "--help")


def test_version(here: Callable[..., str]) -> None:
    assert here("--version") == here("-V") == f"hyperrun {hyperrun.__version__}\n"


def test_python_m_hyperrun(run_cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert run_cli("--version").stdout == f"hyperrun {hyperrun.__version__}\n"
    done = run_cli("trian", check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(
        "hyperrun: error: unknown verb 'trian'; did you mean 'train'? (allowed: train, eval, "
    )
    assert done.stderr.count("\n") == 1


def test_console_script_is_the_same_program(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "hyperrun"
    if not script.exists():
        pytest.skip("hyperrun is not installed in this environment")
    done = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"hyperrun {hyperrun.__version__}\n", "")


# ---------------------------------------------------------------- what Hydra's users know


def test_cfg_job_prints_a_config_that_can_be_read_again(here: Callable[..., str], tmp_path: Path) -> None:
    printed = here("train", "--cfg", "job", "model=hyperresnet", "data=cifar10", "optim.lr=0.5", "seed=3")
    config = OmegaConf.create(printed)
    assert config.model == "hyperresnet" and config.target.kind == "wide_resnet" and config.hypernet.kind == "static"
    assert config.data.name == "cifar10" and config.optim.lr == 0.5 and config.seed == 3
    assert "hydra" not in config
    assert list(tmp_path.iterdir()) == [], "--cfg trains nothing and makes no folder"


def test_cfg_job_of_a_package(here: Callable[..., str]) -> None:
    printed = here("train", "--cfg", "job", "--package", "optim", "optim=sgd")
    assert OmegaConf.create(printed).kind == "sgd"


def test_info_searchpath_and_defaults(here: Callable[..., str], tmp_path: Path) -> None:
    assert str(REPO / "conf") in here("train", "--info", "searchpath")
    assert "wide_resnet" in here("train", "--info", "defaults", "model=resnet")
    assert list(tmp_path.iterdir()) == []


def test_train_help_shows_groups_and_keys(here: Callable[..., str]) -> None:
    text = here("train", "--help")
    assert "hyperrun train" in text and "max_steps" in text and "debug: " in text
    for group, choice in [("model", "hyperresnet"), ("data", "cifar10"), ("optim", "muon"), ("schedule", "one_cycle")]:
        line = next(line for line in text.splitlines() if line.startswith(f"{group}:"))
        assert choice in line


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hyperrun train model=", {f"model={path.stem}" for path in REPO.glob("conf/model/[!_]*.yaml")}),
        ("hyperrun train model=hyper", {f"model={path.stem}" for path in REPO.glob("conf/model/hyper*.yaml")}),
        ("hyperrun train model=hyperresnet data=ci", {"data=cifar10", "data=cifar100"}),
        ("hyperrun train trainer.max_s", {"trainer.max_steps="}),
        ("hyperrun train -m sched", {"schedule=", "schedule."}),
    ],
)
def test_completion(here: Callable[..., str], monkeypatch: pytest.MonkeyPatch, line: str, offered: set[str]) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert set(here("-sc", "query=bash").split()) == offered


def test_completion_of_the_verb(here: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "hyperrun tr")
    monkeypatch.setenv("COMP_POINT", "11")
    assert "train" in here("-sc", "query=bash").split()


def test_completion_script_names_the_program(here: Callable[..., str]) -> None:
    script = here("-sc", "install=bash")
    assert script.rstrip().endswith("-F hydra_bash_completion hyperrun")
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_config_dir_adds_an_experiment_of_ones_own(here: Callable[..., str], tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    mine.joinpath("quick.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: cnn\nexperiment: quick\n"
        "trainer: {max_steps: 4}\noptim: {lr: 0.125}\ntracking: {wandb: {mode: disabled}}\n"
    )
    printed = here("train", "--config-dir", mine.parent, "experiment=quick", "trainer.batch_size=16")
    folder = next(tmp_path.glob("outputs/digits/cnn-s0-*"))
    config = OmegaConf.load(folder / "config.yaml")
    assert config.optim.lr == 0.125 and config.trainer.batch_size == 16 and config.experiment == "quick"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 4 and summary["experiment"] == "quick" and str(folder.name) in printed

    again = here("eval", folder, "--json")  # a run folder stands on its own
    assert json.loads(again)["test"]["accuracy"] == summary["test/accuracy"]


def test_config_dir_local_settings_are_read(here: Callable[..., str], tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "local"
    mine.mkdir(parents=True)
    mine.joinpath("default.yaml").write_text("# @package _global_\noutputs: elsewhere\n")
    printed = here("train", "--config-dir", mine.parent, "--cfg", "job")
    assert OmegaConf.create(printed).outputs == "elsewhere"


PLUGIN = """
from dataclasses import dataclass
from torch import nn
from hyperrun.config import TargetConfig
from hyperrun.registry import register

@dataclass
class TwoLayers(TargetConfig):
    hidden: int = 20

@register("target", "two_layers", TwoLayers, takes="images")
def build(cfg, inputs):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs.channels * inputs.size**2, cfg.hidden), nn.ReLU(),
        nn.Linear(cfg.hidden, cfg.hidden), nn.ReLU(), nn.Linear(cfg.hidden, inputs.classes),
    )
"""


AS_INSTALLED = "import sys; sys.path.remove('')"
"""The console script does not look for modules in the folder where it is typed."""


def test_plugin_registers_a_target_with_its_own_dataclass(tmp_path: Path) -> None:
    tmp_path.joinpath("my_targets.py").write_text(PLUGIN)
    line = ["train", "plugins=[my_targets]", "target=two_layers", "target.hidden=32", "hypernet.generate=linear", *FAST]
    running = Running(*line, cwd=tmp_path, before=AS_INSTALLED)
    assert running.wait() == 0, running.err
    assert running.folder.name.startswith("static-two_layers-s0-")
    summary = json.loads((running.folder / "summary.json").read_text())
    assert summary["target"] == "two_layers" and summary["hypernet"] == "static"
    assert summary["params/generated"] == 32 * 32
    assert summary["params/target"] == 65 * 32 + 33 * 32 + 33 * 10

    wrong = Running(*line, "target.hiden=3", cwd=tmp_path, before=AS_INSTALLED)
    assert wrong.wait() == 2 and wrong.err.count("\n") == 1 and "target.hiden" in wrong.err, wrong.err


def test_a_saved_run_names_no_code(here: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    tmp_path.joinpath("evil_plugin.py").write_text("from pathlib import Path\nPath('was_run').touch()\n")
    here("train", *FAST)
    folder = next(tmp_path.glob("outputs/digits/*-s0-*"))
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("plugins: []", "plugins: [evil_plugin]"))
    here("eval", folder)
    assert not (tmp_path / "was_run").exists()


# ---------------------------------------------------------------- where things go


def test_outputs_are_made_where_the_command_is_typed(here: Callable[..., str], tmp_path: Path) -> None:
    before = {path.name for path in REPO.glob("outputs/*")}
    here("train", *FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    names = {path.name for path in tmp_path.glob("outputs/*/*")}
    assert len(names) == 1 and next(iter(names)).startswith("hypercnn-s0-")
    assert {path.name for path in REPO.glob("outputs/*")} == before


def test_outputs_moves_them(here: Callable[..., str], tmp_path: Path) -> None:
    here("train", *FAST, "outputs=some where/else")
    assert [path.name for path in tmp_path.iterdir()] == ["some where"]
    assert len(list(tmp_path.glob("some where/else/digits/*/summary.json"))) == 1


def test_what_does_not_change_the_result_finds_the_same_run(here: Callable[..., str], tmp_path: Path) -> None:
    here("train", *FAST)
    again = here("train", *FAST, "tracking.wandb.project=other", "trainer.save_every_s=1", "data.workers=0")
    assert "this run is finished already" in again
    assert len(list(tmp_path.glob("outputs/*/*/summary.json"))) == 1


def test_typed_in_another_order_it_is_the_same_run(here: Callable[..., str], tmp_path: Path) -> None:
    here("train", *FAST, "optim.lr=1e-3", "seed=1")
    assert "this run is finished already" in here("train", "seed=1", "optim.lr=0.001", *FAST)
    here("train", *FAST, "optim.lr=1e-3", "seed=2")
    assert len(list(tmp_path.glob("outputs/digits/*/summary.json"))) == 2
