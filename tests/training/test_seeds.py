"""Random number generators, seeded and restored."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from hyperrun.training import checkpoint
from hyperrun.training.seeds import restore_rng, rng_state, seed_everything


@pytest.fixture(autouse=True)
def generators_as_before():
    state = rng_state()
    yield
    torch.use_deterministic_algorithms(False)
    restore_rng(state)


def draws() -> list[float]:
    """Numbers from every generator, by ways that use their state differently (normals come in pairs)."""
    return [
        *torch.rand(3).tolist(),
        *torch.randn(17).tolist(),
        *np.random.rand(3).tolist(),
        float(np.random.randn()),
        random.random(),
        random.gauss(0, 1),
        *random.sample(range(1000), 3),
    ]


def test_the_same_seed_gives_the_same_draws():
    seed_everything(3)
    first = draws()
    seed_everything(3)
    assert draws() == first
    seed_everything(4)
    assert not set(draws()) & set(first)


@pytest.mark.parametrize("spent", [0, 1, 700])
def test_restored_generators_go_on_where_they_were(tmp_path, spent):
    """Through a checkpoint, read as every checkpoint is: weights only."""
    seed_everything(1)
    for _ in range(spent):
        draws()
    checkpoint.save(tmp_path / "last.pt", {"model": {}, "rng": rng_state()})
    expected = [draws() for _ in range(3)]
    seed_everything(2)
    draws()
    restore_rng(checkpoint.load(tmp_path / "last.pt")["rng"])
    assert [draws() for _ in range(3)] == expected


def test_taking_the_state_draws_nothing():
    seed_everything(1)
    expected = draws()
    seed_everything(1)
    rng_state()
    assert draws() == expected


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_algorithms_are_on_only_when_asked_for(monkeypatch, deterministic):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    seed_everything(0, deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
