"""What presets say, read without Hydra: the same that Hydra composes."""

from __future__ import annotations

from typing import Any

import pytest

from hyperrun.conf_dir import choices
from hyperrun.config import to_dict
from hyperrun.hydra_app.compose import compose_config
from hyperrun.runs.presets import EXCHANGEABLE, composed, known, preset, published, values_of
from hyperrun.runs.reading import dotted


def hydras(*words: str) -> dict[str, Any]:
    return dotted(to_dict(compose_config([*words])))


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert {key: theirs[key] for key in ours} == ours
    lacking = {key for key in theirs if key not in ours}
    assert lacking <= {"paper.data", "paper.left_open"}, "which have defaults, and no result depends on them"


FEW = {"ha2016/ptb_lnhyperlstm1000x2", "ha2016/iam_lstm400x3_plain", "compression/chunked"}
"""Experiments on bases of bases, and with a hypernet of their own; composing all takes Hydra ten seconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in choices("experiment")]
)
def test_experiments_are_what_hydra_composes(name: str) -> None:
    assert_equal(dotted(composed(None, name)), hydras(f"experiment={name}"))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("hypersiren", "lstm") else pytest.mark.slow) for name in choices("model")],
)
def test_models_are_what_hydra_composes(name: str) -> None:
    assert_equal(dotted(composed(name, None)), hydras(f"model={name}"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "enwik8" else pytest.mark.slow) for name in choices("data")]
)
def test_data_are_what_hydra_composes(name: str) -> None:
    ours = dotted(values_of("data", name))
    theirs = hydras(f"data={name}", *(["model=lstm"] if ours["data.kind"] in ("text", "strokes") else []))
    assert ours == {key: theirs[key] for key in theirs if key.startswith("data.")}


@pytest.mark.parametrize(
    ("words", "differing"),
    [
        (["model=cnn", "data=mnist"], {}),
        (["model=cnn", "optim=sgd", "optim.lr=0.3"], {"optim.kind": "sgd", "optim.lr": 0.3}),
        # a group that is typed has the values of its own file, and these are not the experiment's
        (["experiment=ha2016/mnist_cnn", "schedule=cosine"], {"schedule.kind": "cosine"}),
        (["experiment=ha2016/mnist_cnn", "optim=adam"], {"optim.lr": 2e-3}),
        (["experiment=ha2016/mnist_cnn", "model=hypercnn"], {"model": "hypercnn"}),
        (["experiment=ha2016/mnist_cnn", "data=digits"], {}),
        (["model=lstm", "data=font_strokes"], {}),  # its target.dropout_in depends on the kind of data
        (["model=lstm", "data=pydocs", "target.dropout_in=0"], {"target.dropout_in": 0.0}),
    ],
    ids=str,
)
def test_what_differs_from_the_names_of_a_run(words: list[str], differing: dict[str, Any]) -> None:
    run = hydras(*words)
    kinds = tuple(run[f"{group}.kind"] for group in EXCHANGEABLE)
    theirs = preset(run["model"], run["experiment"], run["data.name"], kinds, run["target.kind"])
    assert theirs is not None
    assert {key: value for key, value in run.items() if key in theirs and theirs[key] != value} == differing


def test_names_of_ones_own_say_nothing() -> None:
    kinds = ("cnn", "none", "adam", "cosine")
    assert preset("mine", None, "digits", kinds, "cnn") is None
    assert preset("cnn", "mine", "digits", kinds, "cnn") is None
    own_data = preset("cnn", None, "mine", kinds, "cnn")
    assert own_data is not None and not any(key.startswith("data.") for key in own_data)


def test_names_made_of_target_and_hypernet() -> None:
    kinds = ("torchvision", "chunked", "adam", "cosine")
    made = preset("chunked-resnet50", None, "digits", kinds, "resnet50")
    assert made is not None and made["hypernet.z_dim"] == 32 and made["target.small_images"] is True
    assert made["target.name"] == "resnet50", "the name says it"
    of_experiment = preset("chunked-resnet50", "ha2016/mnist_hypercnn", "mnist", kinds, "resnet50")
    assert of_experiment is not None
    assert (of_experiment["target.kind"], of_experiment["hypernet.kind"]) == ("cnn", "static")


def test_published_experiments() -> None:
    assert published("ha2016/mnist_cnn") and not published("compression/static") and not published("mine")


def test_files_of_groups_that_are_exchanged_are_called_by_their_kinds() -> None:
    for group in EXCHANGEABLE:
        assert {name: values_of(group, name)[group]["kind"] for name in known(group)} == {n: n for n in known(group)}
