"""Configs: every file composes and is typed, the public keys are frozen, and what is wrong is said in one line."""

from __future__ import annotations

import ast
import copy
import inspect
import json
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from hyperrun.conf_dir import CONF_DIR, is_base
from hyperrun.config import (
    GROUPS,
    Config,
    PaperConfig,
    TargetConfig,
    TrainerConfig,
    WandbConfig,
    from_omegaconf,
    run_hash,
    schemas,
    to_dict,
)
from hyperrun.errors import UserError
from hyperrun.hydra_app.compose import VERSION_BASE, composing
from hyperrun.inputs import Images
from hyperrun.registry import register
from hyperrun.targets import build_target
from tests.composed import compose_config

FILES = sorted(p.relative_to(CONF_DIR).with_suffix("").as_posix() for p in CONF_DIR.rglob("*.yaml"))
EXTRAS = ("sweep/search", "hydra/")
"""Compose where extras are installed: tests/end_to_end/test_search.py, test_launchers.py."""
UNPUBLISHED = ("compression/", "tasks/", "images/", "small/")
"""Experiments without a figure of the paper to reproduce."""
CHOICES = [name for name in FILES if "/" in name and not name.startswith(EXTRAS) and not is_base(name)]
EXPERIMENTS = [name for name in CHOICES if name.startswith("experiment/")]
HASHES = json.loads((Path(__file__).parent / "hashes.json").read_text())
"""What was typed -> hash of the run. Nothing is changed here: a run that was trained would not be found again."""


def choice(name: str) -> str:
    """target/cnn -> target=cnn, experiment/ha2016/mnist_cnn -> experiment=ha2016/mnist_cnn."""
    group, _, rest = name.partition("/")
    return f"{group}={rest}"


def value_of(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


# ---------------------------------------------------------------- the files under conf/


def test_the_files_are_found():
    assert {"train", "target/cnn", "hypernet/static", "experiment/ha2016/mnist_hypercnn"} <= set(FILES)


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_composes_and_is_typed(name):
    config = compose_config([choice(name)])
    assert isinstance(config, Config)
    group, _, rest = name.partition("/")
    if group in GROUPS:
        assert type(getattr(config, group)) is schemas(group)[getattr(config, group).kind]
    if group == "experiment":
        assert config.experiment == rest
        assert config.paper is None if rest.startswith(UNPUBLISHED) else isinstance(config.paper, PaperConfig)
    if group == "model":
        assert config.model == rest
    assert run_hash(config) == HASHES[choice(name)]


def test_numbers_that_enter_the_network_are_dropped_of_text_only():
    """Section 4.5 of the paper has no such dropout, and a point without its dx is another point. What is typed wins."""

    def dropout_in(*line: str) -> float:
        return compose_config(["model=hyperlstm", *line]).target.dropout_in  # type: ignore[attr-defined]

    assert dropout_in("data=font_strokes") == dropout_in("data=strokes", "target=recurrent") == 0
    assert dropout_in("data=ptb_char") == dropout_in("data=font_strokes", "target.dropout_in=0.1") == 0.1


@pytest.mark.parametrize("typed", [line for line in HASHES if " " in line])
def test_a_preset_for_text_has_the_hash_it_always_had(typed):
    assert run_hash(compose_config(typed.split())) == HASHES[typed]


def test_the_defaults_compose_and_are_typed():
    config = compose_config([])
    assert (config.model, config.target.kind, config.hypernet.kind, config.data.name) == (
        "hypercnn",
        "cnn",
        "static",
        "digits",
    )


@pytest.mark.parametrize("name", [n for n in CHOICES if n.partition("/")[0] in GROUPS])
def test_the_keys_of_a_file_and_its_bases_are_the_fields_of_its_kind(name):
    group = name.partition("/")[0]
    with composing(), initialize_config_dir(str(CONF_DIR), version_base=VERSION_BASE):
        keys = compose("train", overrides=[choice(name)])[group]
    schema = schemas(group)[keys["kind"]]
    assert keys.keys() == {f.name for f in fields(schema)}


@pytest.mark.parametrize(
    ("file", "node", "schema"), [("trainer", None, TrainerConfig), ("tracking", "wandb", WandbConfig)]
)
def test_the_keys_of_the_other_groups_are_fields_too(file, node, schema):
    keys: Any = OmegaConf.to_container(OmegaConf.load(CONF_DIR / file / "default.yaml"))
    assert (keys[node] if node else keys).keys() == {f.name for f in fields(schema)}


def test_the_keys_of_the_top_level_are_the_fields_of_config():
    keys: Any = OmegaConf.to_container(OmegaConf.load(CONF_DIR / "train.yaml"))
    groups = {p.name for p in CONF_DIR.iterdir() if p.is_dir()} - {"debug", "sweep", "hydra"}
    assert set(keys) - {"defaults", "hydra"} | groups == {f.name for f in fields(Config)}


def test_every_kind_has_a_file():
    for group in GROUPS:
        files = [OmegaConf.load(path) for path in (CONF_DIR / group).glob("*.yaml")]
        kinds_of = {
            f.kind for f in files if "kind" in f and not OmegaConf.is_missing(f, "kind")
        }  # else its base has it
        assert kinds_of == set(schemas(group)), group


def test_no_file_names_code():
    for path in CONF_DIR.rglob("*.yaml"):
        assert "_target_" not in path.read_text()


def words_of(annotation: ast.expr) -> set[str]:
    """Return which of the words Config and ClassVar an annotation has."""
    return {word for word in ("Config", "ClassVar") if word in ast.unparse(annotation)}


def undocumented(cls: ast.ClassDef) -> list[str]:
    """Return the fields of a class without a text under them; a field that is a group of keys has it in its class."""
    silent = []
    for field, after in zip(cls.body, [*cls.body[1:], ast.Pass()], strict=True):
        if isinstance(field, ast.AnnAssign) and not any(
            w in ast.unparse(field.annotation) for w in ("Config", "ClassVar")
        ):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            silent += [] if documented else [f"{cls.name}.{ast.unparse(field.target)}"]
    return silent


def test_every_key_says_what_it_means():
    chosen = [schema for group in GROUPS for schema in schemas(group).values()]
    with_bases = {
        cls for schema in [*chosen, Config, TrainerConfig, PaperConfig, WandbConfig] for cls in schema.__mro__
    }
    classes = [cls for cls in with_bases if is_dataclass(cls)]
    assert len(classes) > 30
    parsed = [ast.parse(inspect.getsource(cls)).body[0] for cls in classes]
    assert [name for cls in parsed if isinstance(cls, ast.ClassDef) for name in undocumented(cls)] == []


@pytest.mark.parametrize("name", [n for n in EXPERIMENTS if "/compression/" in n])
def test_a_compression_experiments_header_has_its_command(name):
    assert f"#   hyperrun train {choice(name)}\n" in (CONF_DIR / f"{name}.yaml").read_text()


def test_compression_experiments_differ_in_the_hypernet_alone():
    found = [to_dict(compose_config([choice(n)])) for n in EXPERIMENTS if "/compression/" in n]
    assert len(found) == 3
    for config in found:
        for key in ("hypernet", "model", "experiment"):
            config.pop(key)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", [n for n in EXPERIMENTS if "/ha2016/" in n])
def test_an_experiments_header_has_its_command_and_the_papers_figures(name):
    text = (CONF_DIR / f"{name}.yaml").read_text()
    header = " ".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
    paper = compose_config([choice(name)]).paper
    assert paper is not None
    assert paper.data == compose_config([choice(name)]).data.name
    assert f"hyperrun train {choice(name)}" in header
    figures = (
        f"{paper.value}%",
        f"{paper.value:.3f} bits per character",
        f"{paper.value:,.0f} nats of a validation line",
        f"{paper.value:.2f} BLEU on newstest2014",
    )
    assert any(figure in header for figure in figures)
    if paper.params is not None:
        assert f"{paper.params:,}" in header or f"{paper.params / 1e6:g} M" in header


# ---------------------------------------------------------------- the keys people type


PUBLIC = {
    ("model=hyperresnet",): {
        "model": "hyperresnet",
        "seed": 3,
        "precision": "bf16",
        "compile": True,
        "resume": "never",
        "deterministic": True,
        "outputs": "elsewhere",
        "plugins": ["my.module"],
        "fail_fast": True,
        "params": 200_000,
        "trainer.epochs": 7,
        "trainer.max_steps": 7,
        "trainer.batch_size": 7,
        "trainer.accumulate": 7,
        "optim.lr": 0.3,
        "optim.generated_l2": 0.3,
        "target.depth": 16,
        "target.width": 4,
        "target.shortcut": "zero_pad",
        "hypernet.z_dim": 7,
        "hypernet.hidden_dim": 7,
        "hypernet.init": "hyperfan",
        "data.root": "/somewhere",
        "data.verify": False,
        "data.val_size": 7,
        "tracking.wandb.mode": "offline",
    },
    ("model=lnhyperlstm", "data=ptb_char"): {
        "target.hidden_size": 7,
        "target.layers": 2,
        "hypernet.hyper_size": 7,
        "hypernet.z_dim": 7,
        "hypernet.init": "paper",
        "data.sequence_length": 7,
        "trainer.clip_norm": 1.0,
    },
    ("model=hypersiren",): {
        "target.hidden_size": 7,
        "target.layers": 2,
        "target.omega_0": 30.0,
        "hypernet.z_dim": 7,
        "hypernet.generator": "chunked",
        "hypernet.latent_l2": 0.3,
        "hypernet.points": 7,
        "hypernet.fit_steps": 7,
        "hypernet.fit_lr": 0.3,
        "hypernet.test_images": 7,
    },
    ("data=text",): {"data.path": "/some/file.txt", "data.unit": "word"},
    ("model=resnet", "target=torchvision"): {"target.name": "resnet50"},
    ("experiment=ha2016/mnist_cnn",): {"experiment": "ha2016/mnist_cnn"},
    ("target=wide_resnet", "data=mnist", "optim=sgd", "schedule=one_cycle"): {
        "target.kind": "wide_resnet",
        "data.name": "mnist",
        "optim.kind": "sgd",
        "schedule.kind": "one_cycle",
    },
}
"""What the README and scripts rely on: the groups chosen, then key -> value typed. Nothing is taken out of here."""


@pytest.mark.parametrize("chosen", PUBLIC, ids=" ".join)
def test_public_keys_are_taken(chosen):
    keys = {key: value for key, value in PUBLIC[chosen].items() if not key.endswith(".kind")}
    config = compose_config([*chosen, *(f"{key}={value}" for key, value in keys.items())])
    assert {key: value_of(config, key) for key in PUBLIC[chosen]} == PUBLIC[chosen]


PRESETS = ["model/hypercnn", "model/hyperresnet", "experiment/ha2016/mnist_hypercnn", "model/lnhyperlstm"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_trained_without_its_hypernet(name):
    """The comparison every user wants: the same target, trained directly."""
    assert compose_config([choice(name), "hypernet=none"]).hypernet.kind == "none"


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        (["model=hyperresnet", "target.width=1"], "target.width", 1),
        (["model=hyperresnet", "target=cnn"], "target.kind", "cnn"),
        (["model=hypercnn", "hypernet.z_dim=9"], "hypernet.z_dim", 9),
        (["experiment=ha2016/cifar10_wrn40_2", "trainer.max_steps=5"], "trainer.max_steps", 5),
        (["experiment=ha2016/cifar10_wrn40_2", "trainer.epochs=5"], "trainer.max_steps", None),
        (["experiment=ha2016/cifar10_wrn40_2", "trainer.epochs=5", "trainer.max_steps=7"], "trainer.max_steps", 7),
        (["experiment=ha2016/cifar10_wrn40_2", "data=cifar100"], "data.name", "cifar100"),
        (["experiment=ha2016/cifar10_wrn40_2", "optim=adam"], "optim.kind", "adam"),
        (["experiment=ha2016/cifar10_wrn40_2", "schedule=cosine"], "schedule.kind", "cosine"),
        (["experiment=ha2016/cifar10_wrn40_2", "target=torchvision"], "target.kind", "torchvision"),
        (["experiment=ha2016/mnist_cnn", "model=hypercnn"], "model", "hypercnn"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_what_is_typed_wins_over_presets(typed, key, value):
    assert value_of(compose_config(typed), key) == value


# ---------------------------------------------------------------- what is wrong


@cache
def _composed(*overrides: str) -> dict[str, Any]:
    return to_dict(compose_config(list(overrides)))


def typed(changes: dict[str, Any], *overrides: str, only: bool = False) -> Config:
    """Change a composed config and type it again; `only` the groups changed, which is quicker, to be refused."""
    plain = copy.deepcopy(_composed(*overrides))
    changed = {key.partition(".")[0] for key in changes}
    if only and changed <= {*GROUPS, "trainer"}:
        plain = {name: plain[name] for name in changed}
    cfg = OmegaConf.create(plain)
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value, force_add=True)
    return from_omegaconf(cfg)


WRN, TV, SIREN, NONE, ONE_CYCLE, STEPS = (
    ("target=wide_resnet",),
    ("target=torchvision",),
    ("model=hypersiren",),
    ("hypernet=none",),
    ("schedule=one_cycle",),
    ("schedule=multi_step",),
)

REFUSED = [
    # values out of range: one for each check in config.py
    ((), {"target.channels": [16]}, "target: channels must be two positive"),
    ((), {"target.channels": [16, 0]}, "target: channels must be two positive"),
    ((), {"target.channels": []}, "target: channels must be two positive"),
    ((), {"target.kernel_size": 4}, "kernel_size must be odd and positive, not 4"),
    ((), {"target.kernel_size": -1}, "kernel_size must be odd"),
    (WRN, {"target.depth": 41}, r"depth must be 6n \+ 4 .*not 41"),
    (WRN, {"target.depth": 4}, r"depth must be 6n \+ 4"),
    (WRN, {"target.width": 0}, "width must be at least 1, not 0"),
    (WRN, {"target.shortcut": "zeropad"}, "unknown target.shortcut 'zeropad'; did you mean 'zero_pad'"),
    (WRN, {"target.dropout": 1.0}, r"dropout must lie in \[0, 1\), not 1.0"),
    ((), {"hypernet.generate": "convs"}, "unknown hypernet.generate 'convs'; did you mean 'conv'"),
    ((), {"hypernet.z_dim": 0}, "hypernet: z_dim must be at least 1, not 0"),
    ((), {"hypernet.hidden_dim": 0}, "hidden_dim must be at least 1"),
    ((), {"hypernet.tile": [16]}, "tile must be two positive"),
    ((), {"hypernet.tile": [16, 0]}, "tile must be two positive"),
    ((), {"hypernet.init": "hyperfann"}, "unknown hypernet.init 'hyperfann'; did you mean 'hyperfan'"),
    (SIREN, {"target.hidden_size": 0}, "hidden_size must be at least 1"),
    (SIREN, {"target.layers": 0}, "layers must be at least 1"),
    (SIREN, {"target.omega_0": 0.0}, "omega_0 must be positive or null"),
    (SIREN, {"target.hidden_omega_0": -1.0}, "hidden_omega_0 must be positive"),
    (SIREN, {"hypernet.generator": "mpl"}, "unknown hypernet.generator 'mpl'; did you mean 'mlp'"),
    (SIREN, {"hypernet.latent_l2": -1.0}, "latent_l2 must not be negative"),
    (SIREN, {"hypernet.latent_std": 0.0}, "latent_std must be positive"),
    (SIREN, {"hypernet.fit_lr": 0.0}, "fit_lr must be positive"),
    *(
        (SIREN, {f"hypernet.{k}": 0}, f"{k} must be at least 1")
        for k in ("chunk_size", "points", "fit_steps", "test_images", "val_images", "val_fit_steps")
    ),
    ((), {"data.val_size": 0}, "data: val_size must be at least 1"),
    ((), {"data.epochs": 0}, "data: epochs must be at least 1"),
    ((), {"data.loader": "devices"}, "unknown data.loader 'devices'; did you mean 'device'"),
    ((), {"data.crop_padding": -1}, "crop_padding must not be negative"),
    ((), {"data.cutout": -1}, "cutout must not be negative"),
    ((), {"data.workers": -1}, "workers must not be negative"),
    ((), {"optim.lr": 0.0}, "optim: lr must be positive, not 0.0"),
    ((), {"optim.lr": float("nan")}, "lr must be positive"),
    ((), {"optim.decay_on": ["weight"]}, "'weight'; did you mean 'weights'"),
    ((), {"optim.weight_decay": -1.0}, "must not be negative"),
    ((), {"optim.generated_l2": -1.0}, "must not be negative"),
    ((), {"schedule.warmup_steps": -1}, "warmup_steps must not be negative"),
    (ONE_CYCLE, {"schedule.warmup_steps": -1}, "warmup_steps must not be negative"),
    (ONE_CYCLE, {"schedule.peak_at": 1.0}, "peak_at must lie between 0 and 1"),
    (STEPS, {"schedule.milestones": [0.75, 0.5]}, "milestones must increase"),
    (STEPS, {"schedule.milestones": [0.5]}, "one entry in factors for each"),
    (STEPS, {"schedule.milestones": [5, 5]}, "milestones must increase"),
    *(((), {f"trainer.{k}": 0}, f"{k} must be at least 1") for k in ("batch_size", "accumulate", "eval_batch_size")),
    *(((), {f"trainer.{k}": 0}, f"{k} must be at least 1") for k in ("log_every", "epochs", "max_steps", "eval_every")),
    ((), {"trainer.patience": 0}, "patience must be at least 1"),
    ((), {"trainer.clip_norm": 0.0}, "clip_norm must be positive or null"),
    ((), {"trainer.ema": 1.0}, r"ema must lie in \[0, 1\)"),
    ((), {"trainer.label_smoothing": -0.1}, r"label_smoothing must lie in \[0, 1\)"),
    ((), {"tracking.wandb.mode": "of"}, "unknown tracking.wandb.mode 'of'.*offline"),
    ((), {"precision": "fp32"}, "unknown precision 'fp32'.*float32"),
    ((), {"resume": "always"}, "unknown resume 'always'.*auto, never"),
    ((), {"seed": -1}, "seed must lie between 0 and"),
    ((), {"seed": 2**32}, "seed must lie between 0 and"),
    # wrong types
    ((), {"seed": "one"}, "seed: .*'one'"),
    ((), {"seed": 1.5}, "seed: .*1.5"),
    ((), {"seed": None}, "seed: .*None"),
    ((), {"compile": "perhaps"}, "compile: .*perhaps"),
    ((), {"optim.lr": "fast"}, "optim.lr: .*'fast'"),
    ((), {"optim.betas": 0.9}, "optim.betas=\\[...\\]"),
    ((), {"hypernet.tile": 16}, "must be a list: hypernet.tile"),
    ((), {"hypernet.tile": ["a", "b"]}, "hypernet.tile.*'a'"),
    ((), {"target": "cnn"}, "target must be one of its choices"),
    ((), {"trainer": 3}, "trainer"),
    # unknown names
    ((), {"target.kind": "cnm"}, "unknown target.kind 'cnm'; did you mean 'cnn'"),
    ((), {"optim.kind": "adma"}, "unknown optim.kind 'adma'; did you mean 'adam'"),
    ((), {"target.depth": 40}, "unknown key 'target.depth'.*allowed: .*channels"),
    ((), {"optim.momentum": 0.9}, "unknown key 'optim.momentum'.*allowed: .*betas"),
    ((), {"trainer.batchsize": 3}, "unknown key 'trainer.batchsize'; did you mean 'batch_size'"),
    ((), {"tracking.wandb.modus": "x"}, "unknown key 'tracking.wandb.modus'; did you mean 'mode'"),
    ((), {"sede": 3}, "unknown key 'sede'; did you mean 'seed'"),
    (NONE, {"hypernet.z_dim": 4}, "unknown key 'hypernet.z_dim'"),
    (TV, {"target._target_": "os.system"}, "unknown key 'target._target_'"),
    # nothing where something is needed
    ((), {"model": "???"}, "model needs a value"),
    ((), {"optim.lr": "${nowhere}"}, "nowhere"),
]


@pytest.mark.parametrize(("overrides", "changes", "message"), REFUSED, ids=lambda v: str(v)[:50])
def test_what_is_wrong_is_said_in_one_line(overrides, changes, message):
    with pytest.raises(UserError, match=message) as error:
        typed(changes, *overrides, only=True)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_missing_group_is_named():
    plain = copy.deepcopy(_composed())
    del plain["optim"], plain["seed"]
    with pytest.raises(UserError, match="the config lacks: optim, seed"):
        from_omegaconf(OmegaConf.create(plain))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["model=hyperresnett"], "model has no choice 'hyperresnett'; did you mean 'hyperresnet'"),
        (["experiment=ha2016/mnist"], "ha2016/mnist_cnn"),
        (["optim.lrr=1"], "unknown key 'optim.lrr'; did you mean 'optim.lr'"),
        (["trainer.epochs=many"], "trainer.epochs: .*many"),
        (["a b=c"], "cannot read 'a b=c'"),
        (["target.depth=40"], "unknown key 'target.depth'"),
    ],
    ids=str,
)
def test_what_hydra_refuses_is_said_in_one_line(typed, message):
    with pytest.raises(UserError, match=message) as error:
        compose_config(typed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("edge", [{"seed": 2**32 - 1}, {"trainer.ema": 0.9999}, {"hypernet.hidden_dim": None}], ids=str)
def test_values_at_the_edge_are_taken(edge):
    config = typed(edge)
    assert all(value_of(config, key) == value for key, value in edge.items())


def test_a_saved_config_is_read_without_interpolation_left():
    config = compose_config(["optim.lr=0.25"])
    assert from_omegaconf(OmegaConf.create(to_dict(config))) == config


# ---------------------------------------------------------------- plugins


@dataclass
class Wide(TargetConfig):
    size: int = 5
    """Hidden units."""


def test_a_registered_target_is_a_choice_with_its_own_keys():
    register("target", "wide", Wide, takes="images")(lambda cfg, inputs: nn.Linear(cfg.size, inputs.classes))
    config = compose_config(["model=cnn", "target=wide", "target.size=7"])
    model = build_target(config.target, Images(1, 8, 3, train=0))
    assert isinstance(model, nn.Linear)
    assert model.in_features == 7
    with pytest.raises(UserError, match="unknown key 'target.sise'"):
        compose_config(["model=cnn", "target=wide", "target.sise=7"])


def test_a_registered_kind_without_defaults_is_refused():
    @dataclass
    class Bare(TargetConfig):
        size: int

    with pytest.raises(UserError, match=r"tests\.test_config registers target=bare, whose Bare\.size needs a default"):
        register("target", "bare", Bare, takes="images")(lambda *_: nn.Identity())
