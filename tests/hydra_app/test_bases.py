"""Bases, files that begin with _: what the files of a group share, once; nobody's choice. And what is typed wins."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hyperrun.conf_dir import CONF_DIR, choices, is_base
from hyperrun.config import from_omegaconf, to_dict
from hyperrun.hydra_app.compose import VERSION_BASE, composing
from tests.composed import compose_config

Here = Callable[..., Any]

BASES = sorted(p.relative_to(CONF_DIR).with_suffix("").as_posix() for p in CONF_DIR.rglob("_*.yaml"))
SHARED_AT_MOST = 2
"""Lines in a row that two files may have in common; their lists of defaults are not counted."""


def test_the_bases_are_found() -> None:
    assert {"data/_images", "data/_text", "experiment/ha2016/_ptb"} <= set(BASES)


def test_every_base_is_built_on() -> None:
    texts = [path.read_text() for path in CONF_DIR.rglob("*.yaml")]
    for base in BASES:
        names = f"{base.rpartition('/')[2]}|/{base}"
        assert any(re.search(rf"^(  - |defaults: \[)({names})\b", text, re.MULTILINE) for text in texts), base


def test_no_block_of_comments_or_keys_stands_twice() -> None:
    """What two files share belongs into a base, or one builds on the other."""
    seen: dict[tuple[str, ...], str] = {}
    for path in sorted(CONF_DIR.rglob("*.yaml")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("  - ") and line[-1:] != ":"]
        for start in range(len(lines) - SHARED_AT_MOST):
            block = tuple(lines[start : start + SHARED_AT_MOST + 1])
            first = seen.setdefault(block, path.name)
            assert first == path.name, f"{first} and {path.name} share\n" + "\n".join(block)


# ---------------------------------------------------------------- no choice


def test_is_base() -> None:
    assert is_base("_images") and is_base("ha2016/_ptb")
    assert not is_base("images") and not is_base("ha2016/ptb_char") and not is_base("wide_resnet")


LINES = ["train {}", "train -m {} seed=0,1", "train -m data=digits,{}", "train {} --dry-run", "bench {}"]


@pytest.mark.parametrize(
    ("line", "base"), [*((LINES[0], base) for base in BASES), *((line, "data/_images") for line in LINES[1:])]
)
def test_a_base_is_refused_as_a_choice_that_is_not_there(here: Here, line: str, base: str) -> None:
    group, _, name = base.partition("/")
    typed = line.format(name if "data=" in line else f"{group}={name}").split()
    err = here(*typed, status=2).err
    assert err.startswith(f"hyperrun: error: {group} has no choice '{name}'") and err.count("\n") == 1
    allowed = err[err.index("(allowed: ") :]
    assert not re.search(r"[ /]_", allowed)
    assert choices(group).keys() & set(re.split(r"[ ,)]+", allowed))


@pytest.mark.parametrize("line", ["data=digitz", "experiment=ha2016/mnist_cn", "data=null"])
def test_bases_are_not_among_what_is_allowed(here: Here, line: str) -> None:
    err = here("train", line, status=2).err
    assert "allowed: " in err and not re.search(r"[ /]_", err)


@pytest.mark.slow
def test_help_and_ls_offer_no_base(here: Here) -> None:
    groups = here("train", "--help").out.partition("== Keys")[0]
    assert "digits" in groups and not re.search(r"\b_|/_", groups)
    assert not re.search(r"^_|/_", here("ls", "data", "optim", "models").out, re.M)


@pytest.mark.parametrize("word", ["data=", "optim=", "data=_"])
def test_completion_offers_no_base(here: Here, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    line = f"hyperrun train {word}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    offered = here("-sc", "query=bash").out.split()
    group, _, begun = word.partition("=")
    assert offered == [f"{group}={name}" for name in choices(group) if name.startswith(begun)]


# ---------------------------------------------------------------- what is typed wins


@pytest.mark.parametrize(
    ("line", "group"),
    [
        ("experiment=ha2016/cifar10_wrn40_2 optim=adam", "optim"),
        ("experiment=ha2016/cifar10_hyperresnet40_1 optim=adamw", "optim"),
        ("experiment=ha2016/ptb_lstm1000 data=pydocs", "data"),
        ("experiment=ha2016/enwik8_lnhyperlstm2048 data=enwik8", "data"),
        ("experiment=ha2016/cifar10_wrn40_2 data=cifar100", "data"),
        ("experiment=tasks/permuted_mnist_continual data=split_digits", "data"),
        ("experiment=ha2016/cifar10_wrn40_2 schedule=multi_step", "schedule"),
        ("model=lnhyperlstm target=recurrent", "target"),
        ("model=hypermlp hypernet=chunked", "hypernet"),
        ("experiment=ha2016/ptb_lnhyperlstm1000x2 target=recurrent", "target"),
    ],
)
def test_a_group_typed_has_its_own_files_values(line: str, group: str) -> None:
    typed = next(word for word in line.split() if word.startswith(f"{group}="))
    found, alone = to_dict(compose_config(line.split())), to_dict(compose_config([typed]))
    assert found[group] == alone[group]
    first = to_dict(compose_config(line.split()[:1]))
    assert found[group] != first[group], "the experiment or preset had other values"
    assert {k: v for k, v in found.items() if k != group} == {k: v for k, v in first.items() if k != group}


def test_keys_typed_beside_a_group_stay() -> None:
    line = ["experiment=ha2016/enwik8_lstm1800", "data=ptb_char", "data.eval_streams=7", "optim=adam", "optim.lr=0.25"]
    config, own = compose_config(line), to_dict(compose_config(["data=ptb_char"]))["data"]
    assert to_dict(config)["data"] == own | {"eval_streams": 7}
    assert to_dict(config)["optim"] == to_dict(compose_config(["optim=adam"]))["optim"] | {"lr": 0.25}


def test_a_key_typed_alone_leaves_the_experiments_others() -> None:
    first = to_dict(compose_config(["experiment=ha2016/cifar10_wrn40_2"]))
    found = to_dict(compose_config(["experiment=ha2016/cifar10_wrn40_2", "optim.lr=0.5"]))
    assert first["optim"]["decay_on"] == ["weights"]
    assert found == first | {"optim": first["optim"] | {"lr": 0.5}}


def test_a_model_typed_keeps_the_experiments_values_for_it() -> None:
    found = compose_config(["experiment=ha2016/ptb_lstm1000", "model=hyperlstm"])
    assert (found.model, found.hypernet.kind, found.data.name) == ("hyperlstm", "dynamic", "ptb_char")
    assert to_dict(found)["target"] == to_dict(compose_config(["experiment=ha2016/ptb_lstm1000"]))["target"]


def test_groups_in_a_sweep(here: Here, tmp_path: Path) -> None:
    out = here("train", "-m", "experiment=ha2016/ptb_lstm1000", "optim=adam,sgd", "data=pydocs", "--dry-run").out
    assert "2 jobs: 2 missing" in out
    small = ["target.hidden_size=8", "trainer.max_steps=1", "trainer.batch_size=4", "data.sequence_length=8"]
    here("train", "-m", "experiment=ha2016/ptb_lstm1000", "optim=adam,sgd", "data=pydocs", *small)
    trained = [OmegaConf.load(path) for path in sorted(tmp_path.glob("outputs/pydocs/*/config.yaml"))]
    for config in trained:
        own: Any = to_dict(compose_config([f"optim={config.optim.kind}"]))["optim"]
        assert OmegaConf.to_container(config.optim) == own
        assert config.data.val_fraction == 0.05 and config.data.eval_streams == 16
    assert {config.optim.kind for config in trained} == {"adam", "sgd"}


# ---------------------------------------------------------------- a user's own files


def composed_with(folder: Path, files: dict[str, str], *line: str) -> dict[str, Any]:
    """Write the files below a folder, as for --config-dir, and compose the line with them."""
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with composing(), initialize_config_dir(str(CONF_DIR), version_base=VERSION_BASE):
        return to_dict(from_omegaconf(compose("train", overrides=[*line, f"hydra.searchpath=[{folder}]"])))


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
(MINE,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def test_an_experiment_of_ones_own_builds_on_a_base(tmp_path: Path) -> None:
    found = composed_with(tmp_path, {"experiment/mine": MINE}, "experiment=mine")
    ours = to_dict(compose_config(["experiment=ha2016/ptb_lstm1000"]))
    for same in ("data", "optim", "schedule", "trainer", "hypernet"):
        assert found[same] == ours[same]
    assert found["target"] == ours["target"] | {"cell": "lnlstm", "hidden_size": 512}
    assert (found["experiment"], found["model"], found["paper"]) == ("mine", "lnlstm", None)
    other = composed_with(tmp_path, {}, "experiment=mine", "optim=adamw", "data=pydocs", "optim.lr=0.5")
    assert other["optim"] == to_dict(compose_config(["optim=adamw"]))["optim"] | {"lr": 0.5}
    assert other["data"] == to_dict(compose_config(["data=pydocs"]))["data"] and other["target"] == found["target"]


def test_an_experiment_of_ones_own_builds_on_an_experiment(tmp_path: Path) -> None:
    text = "# @package _global_\ndefaults: [ha2016/ptb_lstm1000, _self_]\nexperiment: longer\ntrainer: {epochs: 200}\n"
    found = composed_with(tmp_path, {"experiment/longer": text}, "experiment=longer")
    ours = to_dict(compose_config(["experiment=ha2016/ptb_lstm1000"]))
    assert found == ours | {"experiment": "longer", "trainer": ours["trainer"] | {"epochs": 200}}


def test_data_of_ones_own_build_on_ours(tmp_path: Path) -> None:
    rings = "defaults: [_images, _self_]\nname: rings\nepochs: 3\nflip: true\n"
    mine = "defaults:\n  - cifar10\nepochs: 7\n"  # no _self_: Hydra puts it last
    files = {"data/rings": rings, "data/mine": mine}
    wrn = "experiment=ha2016/cifar10_wrn40_2"
    found = composed_with(tmp_path, files, "data=rings")["data"]
    digits = to_dict(compose_config(["data=digits"]))["data"]
    assert found == digits | {"name": "rings", "epochs": 3, "flip": True, "val_size": 5000}
    assert composed_with(tmp_path, {}, wrn, "data=rings")["data"] == found
    own = to_dict(compose_config(["data=cifar10"]))["data"] | {"epochs": 7}
    assert composed_with(tmp_path, {}, wrn, "data=mine")["data"] == own, "not the experiment's crop_padding"


def test_an_optimizer_of_ones_own_builds_on_ours(tmp_path: Path) -> None:
    mine = "defaults: [adam, _self_]\nlr: 0.125\n"
    found = composed_with(tmp_path, {"optim/mine": mine}, "experiment=ha2016/cifar10_hyperresnet40_1", "optim=mine")
    assert found["optim"] == to_dict(compose_config(["optim=adam"]))["optim"] | {"lr": 0.125}


def test_a_trainer_of_ones_own_wins_over_an_experiment(tmp_path: Path) -> None:
    mine = "defaults: [default, _self_]\nmax_steps: 9\n"
    found = composed_with(tmp_path, {"trainer/short": mine}, "experiment=ha2016/mnist_cnn", "trainer=short")["trainer"]
    assert (found["max_steps"], found["epochs"], found["batch_size"]) == (9, None, 128)


def test_a_base_of_ones_own_is_no_choice_either(here: Here, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    folder.joinpath("_shared.yaml").write_text("# @package _global_\ntrainer: {max_steps: 2}\n")
    folder.joinpath("one.yaml").write_text("# @package _global_\ndefaults: [_shared, _self_]\nexperiment: one\n")
    printed = here("train", "--config-dir", folder.parent, "experiment=one", "--cfg", "job").out
    assert OmegaConf.create(printed).trainer.max_steps == 2
    err = here("train", "--config-dir", folder.parent, "experiment=_shared", status=2).err
    assert "experiment has no choice '_shared'" in err and " _" not in err
