"""One of each kind that can be registered, in a module of the user's own: chosen, typed and trained together."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperrun.errors import UserError
from hyperrun.hydra_app.compose import compose_config
from hyperrun.registry import choices, register

Here = Callable[..., Any]

MODULE = '''
"""A target, two hypernets, a data set, a task of its own data, an optimizer and a schedule."""
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from hyperrun.config import DataConfig, OptimConfig, ScheduleConfig, TargetConfig
from hyperrun.data import ImageData, ImageSplit, make_set
from hyperrun.hypernets import SelectingConfig
from hyperrun.inputs import Inputs
from hyperrun.models import build_model
from hyperrun.registry import register
from hyperrun.training.optim import decay_groups
from hyperrun.training.task import Task


@dataclass
class Tiny(TargetConfig):
    units: int = 8


@register("target", "tiny", Tiny, takes="images")
def tiny(cfg, inputs):
    numbers = inputs.channels * inputs.size**2
    return nn.Sequential(nn.Flatten(), nn.Linear(numbers, cfg.units), nn.ReLU(), nn.Linear(cfg.units, cfg.units),
                         nn.ReLU(), nn.Linear(cfg.units, inputs.classes))


@dataclass
class Linear(SelectingConfig):
    generate: str = "linear"
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    z_dim: int = 4


class LinearHypernet(nn.Module):
    """Every number a linear function of one embedding, or of the condition."""

    def __init__(self, reference, z_dim, size):
        super().__init__()
        self.shapes = {name: value.shape for name, value in reference.items()}
        self.z = None if size else nn.Parameter(torch.randn(z_dim))
        self.head = nn.Linear(size or z_dim, sum(shape.numel() for shape in self.shapes.values()))

    def forward(self, condition=None):
        flat = self.head(self.z if condition is None else condition)
        parts = flat.split([shape.numel() for shape in self.shapes.values()], -1)
        return {n: p.view(*flat.shape[:-1], *s) for (n, s), p in zip(self.shapes.items(), parts)}


@register("hypernet", "linear", Linear, conditional=True)
def linear(cfg, reference, size=0):
    return LinearHypernet(reference, cfg.z_dim, size)


@register("data", "stripes", ImageData, values={"epochs": 2, "val_size": 16})
def stripes(cfg):
    y = torch.arange(96) % 2
    x = torch.zeros(96, 1, 8, 8, dtype=torch.uint8)
    x[y == 0, :, ::2], x[y == 1, :, :, ::2] = 255, 255
    return make_set("stripes", cfg, train=ImageSplit(x[:80], y[:80]), test=ImageSplit(x[80:], y[80:]),
                    classes=["across", "down"])


@dataclass
class CurveData(DataConfig):
    """Pairs of numbers: x, and a curve through it."""

    KIND: ClassVar[str] = "curves"
    kind: str = "curves"
    name: str = "unnamed"
    root: str | None = None
    verify: bool = True
    epochs: int = 2
    points: int = 64


class Curves(Inputs):
    word = "curves"


class Sines:
    inputs = Curves()

    def __init__(self, cfg):
        self.x = torch.linspace(-1, 1, cfg.points)[:, None]
        self.y = torch.sin(3 * self.x)


@register("data", "sines", CurveData, looks=Curves())
def sines(cfg):
    return Sines(cfg)


@register("target", "curve", Tiny, takes="curves")
def curve(cfg, inputs):
    return nn.Sequential(nn.Linear(1, cfg.units), nn.Tanh(), nn.Linear(cfg.units, cfg.units), nn.Tanh(),
                         nn.Linear(cfg.units, 1))


class Squares(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, y):
        loss = F.mse_loss(self.model(x).float(), y)
        return loss, {"loss": loss.detach()}


@register("task", "regression", data="curves", takes="curves")
class Regression(Task):
    name, metric, unit = "regression", "loss", "points"

    def __init__(self, config, world):
        from hyperrun.data import load

        self.data = load(config.data)
        self.model = build_model(config, self.data.inputs).to(world.device)
        self.loss = Squares(self.model)
        self.batches_per_epoch, self.examples_per_batch = 4, 16

    def describe_data(self):
        return f"{len(self.data.x)} points"

    def epoch(self, epoch, start):
        for n in range(start, 4):
            yield self.data.x[n::4], self.data.y[n::4]

    @torch.no_grad()
    def evaluate(self, split, precision):
        return {"loss": F.mse_loss(self.model(self.data.x), self.data.y).item()}


@dataclass
class Plain(OptimConfig):
    lr: float = 0.05
    weight_decay: float = 0.0
    decay_on: list[str] = field(default_factory=list)
    generated_l2: float = 0.0


@register("optim", "plain", Plain)
def plain(cfg, model):
    return [torch.optim.SGD(decay_groups(cfg, model), lr=cfg.lr)]


@dataclass
class Halving(ScheduleConfig):
    warmup_steps: int = 0
    every: int = 10


@register("schedule", "halving", Halving)
def halving(cfg, step, total):
    return 0.5 ** (step // cfg.every)
'''

LINE = ["plugins=[my_choices]", "tracking.wandb.mode=disabled", "precision=float32", "trainer.log_every=1"]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("my_choices.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_choices", raising=False)
    importlib.invalidate_caches()


def trained(here: Here, tmp_path: Path, *overrides: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    here("train", *LINE, *overrides)
    (folder,) = {path.parent for path in tmp_path.glob("outputs/*/*/summary.json")}
    rows = [json.loads(line) for line in folder.joinpath("metrics.jsonl").read_text().splitlines()]
    return json.loads(folder.joinpath("summary.json").read_text()), rows


def test_a_target_hypernet_data_set_optimizer_and_schedule(here: Here, tmp_path: Path, plugin: None) -> None:
    line = ["target=tiny", "target.units=6", "hypernet=linear", "hypernet.z_dim=3", "data=stripes", "optim=plain"]
    summary, rows = trained(
        here, tmp_path, *line, "optim.lr=0.2", "schedule=halving", "schedule.every=40", "trainer.max_steps=81"
    )
    assert summary["model"] == "linear-tiny" and summary["params/generated"] == 6 * 6
    assert summary["test/accuracy"] == 1.0, "stripes across and down are easily told apart"
    rates = {row["step"]: row["lr"] for row in rows if "lr" in row}
    assert rates[40] == 0.2 and rates[41] == 0.1 and rates[81] == 0.05
    (run,) = tmp_path.glob("outputs/stripes/*")
    assert "1.0000" in here("eval", run, "--plugins", "my_choices").out


def test_a_conditional_hypernet_on_tasks(here: Here, tmp_path: Path, plugin: None) -> None:
    line = ["model=hypermlp", "hypernet=linear", "data=split_digits", "optim=adam", "optim.lr=0.01"]
    summary, rows = trained(here, tmp_path, *line, "trainer.max_steps=60", "hypernet.z_dim=5")
    assert summary["task"] == "multitask_classification"
    assert summary["test/accuracy"] > 0.8, "two classes a task: 0.5 is chance"
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses[-1] < losses[0] / 2


def test_a_task_with_data_and_inputs_of_its_own(here: Here, tmp_path: Path, plugin: None) -> None:
    line = ["target=curve", "hypernet=linear", "data=sines", "optim=adam", "optim.lr=0.02"]
    summary, rows = trained(here, tmp_path, *line, "trainer.max_steps=120")
    assert summary["task"] == "regression" and summary["params/generated"] == 8 * 8
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert summary["test/loss"] < losses[0] / 4
    refused = here("train", *LINE, "target=cnn", "data=sines", status=2)
    assert "target=cnn does not take curves (targets that do: curve)" in refused.err


LANGUAGE_MODEL = """
from dataclasses import dataclass
from torch import nn
from hyperrun.config import TargetConfig
from hyperrun.registry import register


@dataclass
class Mine(TargetConfig):
    units: int = 8


class Model(nn.Module):
    def __init__(self, cfg, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, cfg.units)
        self.lstm = nn.LSTM(cfg.units, cfg.units, batch_first=True)
        self.output = nn.Linear(cfg.units, vocabulary)

    def forward(self, tokens, state=None):
        x, state = self.lstm(self.embedding(tokens), state)
        return self.output(x), state


@register("target", "mine", Mine, takes="text")
def mine(cfg, inputs):
    return Model(cfg, inputs.vocabulary)
"""


@pytest.mark.slow
def test_a_language_model_of_torchs_own_layers_with_a_hyper_cell(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it carries from chunk to chunk is saved and read back: its h_n and c_n have the hyper cell's part."""
    tmp_path.joinpath("my_model.py").write_text(LANGUAGE_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    line = ["plugins=[my_model]", *LINE[1:], "target=mine", "hypernet=dynamic", "hypernet.fast=never", "data=pydocs"]
    line += ["hypernet.hyper_size=4", "data.sequence_length=8", "trainer.batch_size=4", "trainer.max_steps=4"]
    here("train", *line)
    (run,) = tmp_path.glob("outputs/pydocs/*")
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["task"]["state"]
    assert [sorted(part) for part in state] == [["hyper", "state"]] * 2
    (run / "summary.json").unlink()  # as if it had been killed after its last checkpoint
    here("train", *line)
    assert "resume   from step 4" in run.joinpath("train.log").read_text()


def test_the_config_of_a_plugins_data_set_is_that_of_its_kind(plugin: None) -> None:
    importlib.import_module("my_choices")
    config = compose_config(["data=stripes", "data.flip=true"])
    assert (config.data.kind, config.data.name, config.data.epochs) == ("images", "stripes", 2)
    with pytest.raises(UserError, match="unknown key 'data.flipp'; did you mean 'data.flip'"):
        compose_config(["data=stripes", "data.flipp=true"])


HEAD = """
from dataclasses import dataclass
from torch import nn
from hyperrun.config import DataConfig, TargetConfig
from hyperrun.registry import register
@dataclass
class Tiny(TargetConfig):
    units: int = 8
@dataclass
class Bare(TargetConfig):
    units: int
@dataclass
class Shapeless(DataConfig):
    sides: int
class NoSchema:
    units = 8
def build(cfg, inputs): return nn.Identity()
"""
WRONG = {
    'register("target", "mlp", Tiny, takes="images")(build)': "=mlp, a name that hyperrun.targets.mlp has registered",
    'register("hypernet", "static", Tiny)(build)': "hypernet=static, a name that hyperrun.hypernets.static has",
    'register("data", "digits", Tiny)(build)': "registers data=digits, a name that hyperrun.data.digits has registered",
    'register("optim", "adam", Tiny)(build)': "optim=adam, a name that hyperrun.training.optim has registered",
    'register("schedule", "cosine", Tiny)(build)': "schedule=cosine, a name that hyperrun.training.schedules has",
    'register("task", "classification", data="images")(build)': "=classification, a name that hyperrun.tasks.classific",
    'register("target", "mine", Tiny)(build)': "registers target=mine without takes=...",
    'register("target", "mine", Tiny, take="images")(build)': "registers target=mine without takes=...",
    'register("target", "mine", takes="images")(build)': "registers target=mine without a schema",
    'register("schedule", "mine", NoSchema)(build)': "without a schema: a dataclass of its keys that derives from "
    "hyperrun.config.ScheduleConfig",
    'register("hypernet", "mine")(build)': "derives from hyperrun.config.HypernetConfig",
    'register("data", "mine", Shapeless)(build)': "registers data=mine with a schema that has no KIND",
    'register("task", "mine", takes="images")(build)': "registers task=mine without data=...",
    'register("target", "mine", Bare, takes="images")(build)': "target=mine, whose Bare.units needs a default",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_could_not_be_chosen_is_said_when_it_is_registered(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    tmp_path.joinpath("my_wrong.py").write_text(HEAD + line)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_wrong", raising=False)
    importlib.invalidate_caches()
    refused = here("train", "plugins=[my_wrong]", "--dry-run", status=2)
    assert refused.err.startswith("hyperrun: error: my_wrong registers ") and refused.err.count("\n") == 1
    assert WRONG[line] in refused.err
    for group in ("target", "hypernet", "data", "task", "optim", "schedule"):
        assert "mine" not in choices(group)
        assert all(one.build.__module__ != "my_wrong" for one in choices(group).values())


def test_a_module_that_is_read_again_registers_the_same_names(plugin: None) -> None:
    module = importlib.import_module("my_choices")
    importlib.reload(module)
    assert choices("target")["tiny"].build is module.tiny


def test_a_group_that_is_none_is_named() -> None:
    with pytest.raises(UserError, match="unknown group 'hypernets'; did you mean 'hypernet'"):
        register("hypernets", "mine")(torch.nn.Identity)
