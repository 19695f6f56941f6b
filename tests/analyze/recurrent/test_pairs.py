"""What is seen in a translation network: its layers watched while it reads pairs, and the pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hyperrun.analyze.recurrent.pair_states import read_pairs, watched_layers
from hyperrun.analyze.recurrent.pair_study import draw_changes, pairs_of
from hyperrun.hypernets.hyper_layers import HyperLSTMLayer
from tests.targets.test_seq2seq import BATCH, SHAPES, SOURCE_LENGTHS, TARGET, TARGET_LENGTHS, hyper, network

TARGETS = torch.cat([TARGET, torch.tensor([[2], [2], [2]])], 1)
PAIRS = (BATCH[0], SOURCE_LENGTHS, TARGETS, TARGET_LENGTHS)


@pytest.mark.parametrize("fast", ["auto", "never"])
@pytest.mark.parametrize("shape", SHAPES)
def test_layers_are_watched_as_the_network_runs_them(shape: str, fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    net: Any = network(**SHAPES[shape])
    hyper(net, fast=fast)
    net.eval().float()
    reading = read_pairs(net, [PAIRS])
    layers = watched_layers(net)
    assert reading.names == list(layers) and all(isinstance(one, HyperLSTMLayer) for one in layers.values())
    assert not any(".hypernet." in name for name in layers)
    logits = net(*BATCH)
    there = torch.arange(5) < TARGET_LENGTHS[:, None]
    wanted = F.cross_entropy(logits[there], TARGETS[:, 1:][there], reduction="sum").item()
    assert reading.pieces == int(TARGET_LENGTHS.sum()) and reading.nats == pytest.approx(wanted, rel=1e-4)
    for name, found, changes in zip(reading.names, reading.layers, reading.changes, strict=True):
        lengths = (SOURCE_LENGTHS if name.startswith("encoder") else TARGET_LENGTHS).tolist()
        assert found["hidden"].total == 6 * sum(lengths)  # of no padding
        for rows in changes.values():
            assert [len(row) for row in rows] == lengths
            first = -1 if name.endswith("right_to_left") else 0
            assert all(row[first] == 0 for row in rows) and float(rows[0].sum()) > 0


def test_without_hyper_cells_nothing_changes() -> None:
    reading = read_pairs(network().eval().float(), [PAIRS, PAIRS])
    assert reading.changes == [{}, {}, {}] and reading.pieces == 2 * int(TARGET_LENGTHS.sum())


def test_the_picture_has_a_row_for_each_gate_of_each_layer() -> None:
    net: Any = network()
    hyper(net, include=["encoder.*"])
    reading = read_pairs(net.eval().float(), [PAIRS])
    above, below = draw_changes("a", reading, list("wxyz"), list("ab")).axes
    names = [label.get_text() for label in above.get_yticklabels()]
    assert len(names) == 8 and names[0] == "0.left_to_right: W_h of i"
    assert len(above.images) == 1 and not below.images and "no layer" in below.get_xlabel()


def test_as_many_pairs_are_read_as_have_so_many_pieces() -> None:
    assert [pairs_of([3, 3, 3], n) for n in (1, 4, 5, 8, 9, 100)] == [1, 1, 2, 2, 3, 3]
