"""Configs, and a small set of made-up pairs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from hyperrun.data import PairData, PairSet, RawPairs, make_pairs

PAIR_DEFAULTS: dict[str, Any] = {
    "kind": "pairs",
    "name": "parallel",
    "root": None,
    "verify": True,
    "epochs": 1,
    "source": None,
    "target": None,
    "val_source": None,
    "val_target": None,
    "test_source": None,
    "test_target": None,
    "val_fraction": None,
    "test_fraction": None,
    "pieces": 60,
    "shared_vocabulary": True,
    "byte_fallback": False,
    "normalization": "nfc",
    "max_length": 100,
    "tokens_per_batch": 200,
    "buckets": 3,
    "select": "loss",
    "beam": 5,
    "alpha": 1.0,
    "beta": 0.0,
}

WORDS = "a dog runs over the green hill while two children play with their ball in park and watch it".split()


def sentences(count: int, seed: int, most: int = 9) -> list[str]:
    """Sentences of 1 to `most` words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, most))) for _ in range(count)]


def mirrored(texts: list[str]) -> list[str]:
    """The "translation": every word backwards."""
    return [" ".join(word[::-1] for word in text.split()) for text in texts]


def raw_pairs(count: int, seed: int) -> RawPairs:
    texts = sentences(count, seed)
    return RawPairs.of(texts, mirrored(texts))


@pytest.fixture
def pair_cfg() -> Callable[..., PairData]:
    """Return a function from some keys of PairData to the whole."""
    return lambda **keys: PairData(**{**PAIR_DEFAULTS, **keys})


@pytest.fixture
def pair_set(pair_cfg: Callable[..., PairData]) -> Callable[..., PairSet]:
    """Return a function that makes a set of `train` training pairs, 23 to validate, 5 to test."""

    def make(train: int = 97, **keys: Any) -> PairSet:
        parts = {"val": raw_pairs(23, 1), "test": raw_pairs(5, 2)}
        return make_pairs("made_up", pair_cfg(**keys), train=raw_pairs(train, 0), **parts)

    return make
