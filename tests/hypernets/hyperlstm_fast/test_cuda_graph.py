"""Loops as CUDA graphs: what is copied in and out, when they are captured anew, and what happens when they cannot be.

Without a GPU a stand-in takes the graph's place: its replay runs the function again on the captured places, and writes
what comes out into the captured results, as a real one does.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from hyperrun.hypernets.hyperlstm_fast import cuda_graph
from hyperrun.hypernets.hyperlstm_fast.cuda_graph import GraphedLoop
from tests.hypernets.hyperlstm_fast.test_sequence import layer_of


class Replayed:
    """Stands for a torch.cuda.CUDAGraph."""

    made = 0

    def __init__(self, function: Any, inputs: Any) -> None:
        Replayed.made += 1
        self.function, self.inputs = function, inputs
        self.outputs: list[torch.Tensor] = []  # filled by the first replay: a capture runs nothing

    def replay(self) -> None:
        results = self.function(*self.inputs)
        if not self.outputs:
            self.outputs += [torch.empty_like(t) for t in results]
        for place, value in zip(self.outputs, results, strict=True):
            place.copy_(value)


@pytest.fixture
def stand_in(monkeypatch):
    def capture(function, inputs):
        graph = Replayed(function, inputs)
        return graph, graph.outputs

    Replayed.made = 0
    monkeypatch.setattr(cuda_graph, "why_no_graph", lambda device: None)
    monkeypatch.setattr(cuda_graph, "capture", capture)


@pytest.mark.usefixtures("stand_in")
def test_results_are_the_functions_and_belong_to_the_caller():
    weight = torch.randn(3, 3)
    loop, seen = GraphedLoop(), []
    for _ in range(4):
        x = torch.randn(2, 3)
        seen.append((loop(lambda x, mask: (x @ weight, x + 1), (x, None), (weight,)), x))
        weight.mul_(2)  # an optimizer's step: the same place
    for n, ((product, more), x) in enumerate(seen):
        torch.testing.assert_close(product, x @ weight / 2 ** (4 - n))
        torch.testing.assert_close(more, x + 1)
    assert Replayed.made == 1


@pytest.mark.usefixtures("stand_in")
def test_captured_anew_when_a_weight_or_a_shape_has_changed():
    weight, loop = torch.randn(3, 3), GraphedLoop()

    def call(rows: int) -> None:
        x = torch.randn(rows, 3)
        (product,) = loop(lambda x: (x @ weight,), (x,), (weight,))
        torch.testing.assert_close(product, x @ weight)

    for rows in (2, 2, 2, 5, 5, 5):
        call(rows)
    assert Replayed.made == 2
    weight = weight.clone()
    for _ in range(3):
        call(5)
    assert Replayed.made == 3


def test_what_cannot_be_captured_is_said_once_and_run_as_it_is(monkeypatch, caplog):
    def capture(function, inputs):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(cuda_graph, "why_no_graph", lambda device: None)
    monkeypatch.setattr(cuda_graph, "capture", capture)
    monkeypatch.setattr(cuda_graph, "_said", set())
    with caplog.at_level(logging.WARNING):
        for loop in (GraphedLoop(), GraphedLoop()):
            for n in range(3):
                (out,) = loop(lambda x: (x + 1,), (torch.full((2,), float(n)),), ())
                assert out.tolist() == [n + 1.0] * 2
    assert [r.getMessage() for r in caplog.records] == [
        "recurrent steps are launched one by one, not as a CUDA graph: RuntimeError: operation not permitted"
    ]


def test_a_cpu_has_no_graphs(monkeypatch):
    assert cuda_graph.why_no_graph(torch.device("cpu")) is not None
    assert cuda_graph.why_no_graph(torch.device("cuda")) is None
    monkeypatch.setenv("HYPERRUN_CUDA_GRAPHS", "0")
    assert cuda_graph.why_no_graph(torch.device("cuda")) == "HYPERRUN_CUDA_GRAPHS=0"


def trained(device: torch.device, dtype: torch.dtype, z_from: str, norm: bool) -> list[torch.Tensor]:
    """Return outputs, states and weights of six training steps that carry their state and draw masks."""
    layer = layer_of(dtype, norm=norm, z_from=z_from, dropout=0.3, recurrent_dropout=0.2).to(device)
    layer.fast = True
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    torch.manual_seed(1)
    state, results = None, []
    for _ in range(6):
        x = torch.randn(5, 4, len(layer.w_x), dtype=dtype).to(device)
        out, last = layer(x, state)
        optimizer.zero_grad()
        (out.square().mean() + last[1].mean()).backward()
        optimizer.step()
        state = tuple(s.detach() for s in last)
        results += [out.detach().cpu(), *(s.cpu() for s in state)]
    return results + [p.detach().cpu() for p in layer.parameters()]


@pytest.mark.parametrize("z_from", ["new", "previous"])
@pytest.mark.parametrize("norm", [False, True])
def test_training_with_graphs_is_training_without(monkeypatch, request, z_from, norm):
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    expected = trained(torch.device("cpu"), torch.double, z_from, norm)
    request.getfixturevalue("stand_in")
    found = trained(torch.device("cpu"), torch.double, z_from, norm)
    assert Replayed.made == 2, "forward and backward"
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.cuda
@pytest.mark.parametrize("z_from", ["new", "previous"])
@pytest.mark.parametrize("norm", [False, True])
def test_a_gpus_graphs_train_like_its_single_kernels(monkeypatch, z_from, norm, caplog):
    """Compiled by Triton and captured, against the same kernels launched one by one."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    with caplog.at_level(logging.WARNING):
        found = trained(torch.device("cuda"), torch.float, z_from, norm)
    said = [record.getMessage() for record in caplog.records]
    assert not [line for line in said if not line.startswith("compiling")], "it was compiled and captured"
    monkeypatch.setenv("HYPERRUN_CUDA_GRAPHS", "0")
    expected = trained(torch.device("cuda"), torch.float, z_from, norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
