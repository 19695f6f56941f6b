"""The chunked and the MLP hypernet: what they make, how large it is at the start, how many parameters that takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperrun.hypernets import ChunkedHypernet, MLPHypernet, count_parameters, hypernetize
from hyperrun.hypernets.scale import rms
from hyperrun.targets.cnn import CNN

SHAPES = {"a.weight": (5, 3, 3, 3), "b.weight": (7, 11), "c.weight": (4, 4, 1, 1), "b.bias": (7,)}


def chunked(values: Mapping[str, torch.Tensor], **keys: Any) -> ChunkedHypernet:
    return ChunkedHypernet(values, **{"chunk_size": 2304, "z_dim": 32, "hidden": [64], "init": VARIANCE, **keys})


def mlp(values: Mapping[str, torch.Tensor], **keys: Any) -> MLPHypernet:
    return MLPHypernet(values, **{"z_dim": 32, "hidden": [64], "init": VARIANCE, **keys})


VARIANCE = "variance_matched"
KINDS = [chunked, mlp]


def reference(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: torch.randn(shape) * (i + 1) / 10 for i, (name, shape) in enumerate(SHAPES.items())}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("residual", [False, True])
def test_every_parameter_is_made_in_its_shape_with_gradients(kind: Callable[..., nn.Module], residual: bool) -> None:
    hypernet = kind(reference(), residual=residual)
    made = hypernet()
    assert {name: tuple(value.shape) for name, value in made.items()} == SHAPES
    assert all(value.dtype == torch.float32 for value in made.values())
    torch.stack([value.square().sum() for value in made.values()]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in hypernet.parameters())


def test_chunks_equal_the_mlp_called_for_each_pair_of_embeddings() -> None:
    values = reference()
    hypernet = ChunkedHypernet(values, 10, 6, [9, 8], "variance_matched")
    made = hypernet()
    row = 0
    for layer, (name, value) in enumerate(values.items()):
        chunks = []
        for k in range(math.ceil(value.numel() / 10)):
            out = hypernet.mlp(torch.cat([hypernet.layer_embedding[layer], hypernet.chunk_embedding[k]]))
            chunks.append(out * hypernet.row_scale[row] + hypernet.centre[row])
            row += 1
        torch.testing.assert_close(made[name].flatten(), torch.cat(chunks)[: value.numel()])


def test_the_mlp_makes_each_parameter_by_its_own_rows() -> None:
    hypernet = MLPHypernet(reference(), 6, [9, 8], "variance_matched")
    first, second, heads = hypernet.parameter_generator.generator.mlp.layers
    flat = heads(second(first(hypernet.z).relu()).relu())
    torch.testing.assert_close(torch.cat([value.flatten() for value in hypernet().values()]), flat)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_start_with_the_std_of_the_targets_own(kind: Callable[..., nn.Module]) -> None:
    values = {"w": torch.randn(60, 70) * 0.03, "k": torch.randn(40, 30, 3, 3) * 0.2}
    made = kind(values)()
    for name, value in values.items():
        assert rms(made[name]) == pytest.approx(rms(value), rel=0.06 if kind is mlp else 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_hyperfan_in_and_out(kind: Callable[..., nn.Module]) -> None:
    values = {"k": torch.randn(48, 30, 3, 3)}
    assert rms(kind(values, init="hyperfan")()["k"]) == pytest.approx(math.sqrt(2 / (30 * 9)), rel=0.05)
    assert rms(kind(values, init="hyperfan_out")()["k"]) == pytest.approx(math.sqrt(2 / (48 * 9)), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_biases_start_around_what_they_were_and_can_move(kind: Callable[..., nn.Module]) -> None:
    values = {"norm.weight": torch.ones(500), "bias": torch.zeros(500), "w": torch.randn(9, 9)}
    hypernet = kind(values)
    made = hypernet()
    for name, centre in (("norm.weight", 1.0), ("bias", 0.0)):
        assert made[name].mean().item() == pytest.approx(centre, abs=0.01) and 0.003 < made[name].std().item() < 0.03
    made["bias"].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in hypernet.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_residual_form_starts_near_the_targets_own_weights(kind: Callable[..., nn.Module]) -> None:
    values = reference()
    made = kind(values, residual=True)()
    for name, value in values.items():
        off = rms(made[name] - value) / rms(value)
        assert 0.02 < off < 0.3, "a tenth of it is generated"


@pytest.mark.parametrize(("kind", "residual"), [(kind, residual) for kind in KINDS for residual in (False, True)])
def test_parameter_counts(kind: Callable[..., nn.Module], residual: bool) -> None:
    values = {"a": torch.randn(10, 10), "b": torch.randn(25)}
    if kind is chunked:
        hypernet = kind(values, chunk_size=20, z_dim=3, hidden=[7], residual=residual)
        expected = 2 * 3 + 5 * 3 + (6 * 7 + 7) + (7 * 20 + 20) + (125 if residual else 0)
    else:
        hypernet = kind(values, z_dim=3, hidden=[7], residual=residual)
        expected = 3 + (3 * 7 + 7) + (7 * 125 + 125)  # theta_0 is the heads' bias
    assert sum(p.numel() for p in hypernet.parameters()) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_counting_on_the_meta_device_needs_no_values(kind: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        on_meta = kind({"w": torch.empty(300, 40)}, residual=True)
    assert sum(p.numel() for p in on_meta.parameters()) == sum(
        p.numel() for p in kind({"w": torch.randn(300, 40)}, residual=True).parameters()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_generation_is_float32_under_autocast(kind: Callable[..., nn.Module]) -> None:
    hypernet = kind(reference())
    outside = hypernet()
    with torch.autocast("cpu", torch.bfloat16):
        inside = hypernet()
    assert all(
        torch.equal(inside[name], value) and inside[name].dtype == torch.float32 for name, value in outside.items()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_round_trip_with_the_scales(kind: Callable[..., nn.Module]) -> None:
    one, other = kind(reference(0)), kind(reference(1))
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(other()[name], value) for name, value in one().items())


def test_operators_do_not_grow_with_the_number_of_layers() -> None:
    def products(count: int) -> int:
        hypernet = ChunkedHypernet(
            {f"l{i}": torch.randn(20, 20) for i in range(count)}, 50, 32, [64], "variance_matched"
        )
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            hypernet()
        return sum(event.count for event in profile.key_averages() if event.key == "aten::addmm")

    assert products(2) == products(20) == 2, "one for each layer of the MLP"


@pytest.mark.cuda
@pytest.mark.parametrize("kind", KINDS)
def test_generation_on_a_gpu_equals_the_cpus(kind: Callable[..., nn.Module]) -> None:
    hypernet = kind(reference())
    made = hypernet()
    for name, value in hypernet.cuda()().items():
        torch.testing.assert_close(value.cpu(), made[name])


@pytest.mark.parametrize("kind", ["chunked", "mlp"])
def test_a_small_network_learns_through_it(kind: str) -> None:
    torch.manual_seed(0)
    options = {"residual": True} if kind == "mlp" else {}
    with pytest.warns(UserWarning, match="more than it has"):
        model = hypernetize(CNN(1, 3, 8, channels=(4, 4), kernel_size=3), kind, "conv*.weight", **options)
    x, y = torch.randn(30, 1, 8, 8), torch.arange(30) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0] and count_parameters(model).generated == 4 * 9 + 4 * 4 * 9


def test_conditioned_chunks_are_those_of_each_condition_alone() -> None:
    hypernet = ChunkedHypernet(reference(), 50, 4, [8], "variance_matched", conditioning_size=5)
    conditions = torch.randn(3, 5)
    made = hypernet(conditions)
    for i in range(3):
        for name, value in hypernet(conditions[i]).items():
            assert value.shape == reference()[name].shape
            torch.testing.assert_close(made[name][i], value)
    with pytest.raises(ValueError, match="must have 5 numbers, not 0"):
        hypernet()


def test_conditioned_parameters_start_with_the_std_of_the_targets_own_on_average() -> None:
    values = {"w": torch.randn(60, 70) * 0.03, "b": torch.ones(60)}
    made = ChunkedHypernet(values, 500, 32, [64], "variance_matched", conditioning_size=16)(torch.randn(200, 16))
    assert rms(made["w"]) == pytest.approx(rms(values["w"]), rel=0.15)
    assert made["b"].mean().item() == pytest.approx(1, abs=0.01)
