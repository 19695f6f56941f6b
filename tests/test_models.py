"""What --dry-run accepts and refuses is what training accepts and refuses, in the same words."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from hyperrun.conf_dir import choices as files
from hyperrun.config import Config
from hyperrun.data import (
    ImageData,
    ImageSplit,
    PairData,
    RawPairs,
    RawStrokes,
    inputs_of,
    looks_of,
    make_pairs,
    make_set,
    make_strokes,
    make_text,
    number_characters,
    published_name,
)
from hyperrun.errors import UserError
from hyperrun.inputs import Images, Strokes, Symbols
from hyperrun.models import counted
from hyperrun.registry import choices
from hyperrun.tasks import build_task
from hyperrun.training.distributed import World
from hyperrun.training.optim import build_optimizers
from tests.composed import compose_config

WORLD = World(0, 1, torch.device("cpu"))
MODELS = list(files("model"))
OWN = ("image_folder", "text", "strokes", "parallel")  # which name a place of one's own
# to a model they look like font_strokes, and like multi30k
ALIKE = ("kanji", "omniglot_strokes", "sheep", "multi30k_2017", "multi30k_2018", "multi30k_mscoco", "number_words")
DATA = [name for name in files("data") if name not in (*OWN, *ALIKE)]
HYPERNETS = ("", "none", "static", "chunked", "mlp", "dynamic")
"""The preset's own first."""
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {},
    "mlp": {"hidden": [4, 4, 4]},
    "wide_resnet": {"depth": 10, "width": 1},
    "recurrent": {"hidden_size": 4},
    "siren": {"hidden_size": 4},
    "seq2seq": {"hidden_size": 4},
}
"""Target of a preset -> what makes it small."""
IMAGES = 300


@cache
def composed(*typed: str) -> Config:
    return compose_config(list(typed))


def made_up(name: str, looks: Any) -> Any:
    """Return a reader of a set that looks like a published one, and has few examples."""

    def images(cfg: Any) -> Any:
        def split(count: int) -> ImageSplit:
            shape = (count, looks.channels, looks.size, looks.size)
            return ImageSplit(torch.randint(256, shape, dtype=torch.uint8), torch.arange(count) % looks.classes)

        names = [str(number) for number in range(looks.classes)]
        return make_set(name, cfg, train=split(IMAGES), test=split(200), classes=names)

    def text(cfg: Any) -> Any:
        symbols = "".join(map(chr, range(0x4E00, 0x4E00 + looks.vocabulary)))
        vocabulary, ids = number_characters([symbols * (1 + 20_000 // looks.vocabulary)] * 3)
        return make_text(name, train=ids[0], val=ids[1], test=ids[2], vocabulary=vocabulary)

    def strokes(cfg: Any) -> Any:
        def split(count: int) -> RawStrokes:
            lengths = np.arange(count) % 9 + max(2, cfg.min_points)
            points = np.random.default_rng(0).normal(size=(lengths.sum(), 3)) * [1, 1, 0]
            return RawStrokes(points, np.append(0, lengths.cumsum()), name)

        return make_strokes(name, cfg, train=split(40), val=split(10))

    def pairs(cfg: Any, pieces: Any = None) -> Any:
        one, two = ["a b c d e f g", "h i j k l m n"], ["o p q r s t u", "v w x y z a b"]
        return make_pairs(name, cfg, pieces, train=RawPairs.of(one, two), val=RawPairs.of(one, two))

    if looks is None:
        return pairs
    kinds = {Images: images, Strokes: strokes}
    return next((kind for looks_like, kind in kinds.items() if isinstance(looks, looks_like)), text)


@pytest.fixture
def published_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put made-up sets in the place of those that have to be fetched."""
    for name, one in list(choices("data").items()):
        looks = looks_of(name)
        if looks is not None:
            few = Images(looks.channels, looks.size, looks.classes, IMAGES) if isinstance(looks, Images) else looks
            small = replace(one, build=made_up(name, looks), facts={"looks": few})
            monkeypatch.setitem(choices("data"), name, small)  # pyright: ignore[reportArgumentType]
        elif one.schema is PairData:
            monkeypatch.setitem(choices("data"), name, replace(one, build=made_up(name, None)))  # pyright: ignore


def said(function: Any, config: Config) -> str | None:
    """Return what is refused, in its words; None where nothing is."""
    try:
        function(copy.deepcopy(config))
    except UserError as refusal:
        return str(refusal)
    return None


def trained(config: Config) -> None:
    """What `hyperrun train` does before the first step."""
    build_optimizers(config.optim, build_task(config, WORLD).model)


def lines(model: str) -> Iterator[tuple[str, Config]]:
    """Yield model=... data=... hypernet=... and their config, put together from groups composed once."""
    preset = composed(f"model={model}")
    target = replace(preset.target, **SMALL[preset.target.kind])
    for data in DATA:
        of_data = composed(f"data={data}").data
        if isinstance(of_data, ImageData):
            of_data = replace(of_data, val_size=40)
        if isinstance(of_data, PairData):
            of_data = replace(of_data, pieces=40, byte_fallback=False)
        for kind in HYPERNETS:
            hypernet = composed(f"hypernet={kind}").hypernet if kind else preset.hypernet
            if hasattr(hypernet, "hidden"):
                hypernet = replace(hypernet, hidden=[16])
            line = f"model={model} data={data} hypernet={kind}"
            yield line, replace(preset, target=target, data=of_data, hypernet=hypernet)


@pytest.mark.parametrize("model", MODELS)
def test_dry_run_and_training_refuse_the_same_lines_in_the_same_words(model: str, published_sets: None) -> None:
    torch.manual_seed(0)
    outcomes = set()
    for line, config in lines(model):
        planned, refused = said(counted, config), said(trained, config)
        assert planned == refused, line
        outcomes.add(planned is None)
    assert outcomes == {True, False}, "each preset fits some of these data, and not all"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "model=hypermlp data=split_digits optim.generated_l2=1e-4",
            "generated_l2 is for one set of generated kernels",
        ),
        ("model=lstm data=pydocs optim.generated_l2=1e-4", "a recurrent network's weights are only scaled"),
        ("model=mlp data=split_digits data.order=continual trainer.max_steps=4", "raise trainer.max_steps"),
        ("model=hyperresnet target.depth=10 data=split_digits", "has batch norms"),
        ("model=mlp data=split_digits trainer.batch_size=4", "no example for each of the 5 tasks"),
        ("model=hypersiren data=digits trainer.label_smoothing=0.1", "images have latent_l2"),
        ("model=cnn data=digits data.val_size=1437", "leaves nothing to train on: digits has 1437 training examples"),
        ("model=cnn data=split_digits data.tasks=3", "cannot part the 10 classes evenly"),
        ("model=cnn data=digits optim=muon optim.decay_on=[biases]", "finds no matrices"),
        ("model=hyperlstm data=digits", "target=recurrent does not take images"),
        ("model=hypercnn data=pydocs", "target=cnn does not take text"),
        ("model=hypercnn data=font_strokes", "target=cnn does not take strokes"),
        ("model=lstm data=font_strokes target.embedding=8", "target.embedding is for the symbols of a text"),
        ("model=lstm data=font_strokes trainer.label_smoothing=0.1", "a pen stroke's next point has a density"),
        ("model=lstm data=font_strokes optim.generated_l2=1e-4", "a recurrent network's weights are only scaled"),
        ("model=lstm data=pydocs target.mixtures=3", "target.mixtures is for pen strokes"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_both(line: str, words: str) -> None:
    config = composed(*line.split())
    assert words in str(said(counted, config))
    assert said(trained, config) == said(counted, config)


@pytest.mark.parametrize("name", ["digits", "pydocs", "split_digits", "font_strokes"])
def test_what_the_data_look_like_is_known_before_they_are_read(name: str) -> None:
    from hyperrun.data import load

    data = composed(f"data={name}").data
    assert inputs_of(data) == load(data).inputs
    assert published_name(data) in choices("data")
    assert isinstance(inputs_of(data), Symbols) == (name == "pydocs")
