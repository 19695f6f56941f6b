"""hypernetize and materialize: torchvision's models, tied parameters, modules called twice, and back to plain ones."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torchvision
from torch import Tensor, nn

from hyperrun.errors import UserError
from hyperrun.hypernets import (
    ConditionalModel,
    HyperModel,
    ParameterGenerator,
    count_parameters,
    hypernetize,
    materialize,
    select_parameters,
)
from hyperrun.targets.cnn import CNN

MODELS = [
    ("resnet18", "conv", 64),
    ("mobilenet_v3_small", "conv", 64),
    pytest.param(("vgg11_bn", "all", 64), marks=pytest.mark.slow),
    ("efficientnet_b0", "conv", 64),
    pytest.param(("convnext_tiny", "all", 64), marks=pytest.mark.slow),
    pytest.param(("vit_b_16", "linear", 224), marks=pytest.mark.slow),
]


@pytest.fixture(params=MODELS, ids=lambda case: case[0], scope="module")
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, HyperModel, Tensor]:
    """The module as it was, hypernetized (chunked), and images for it."""
    name, generate, size = request.param
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None, num_classes=10)
    if isinstance(module, torchvision.models.VisionTransformer):
        nn.init.normal_(module.heads.head.weight)  # zero as torchvision makes it: no gradient would pass  # type: ignore
    return copy.deepcopy(module), hypernetize(module, "chunked", generate), torch.randn(2, 3, size, size)


def test_forward_and_backward_reach_the_hypernet(case: tuple[nn.Module, HyperModel, Tensor]) -> None:
    _, model, x = case
    model.train()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert all(p.grad.abs().sum() > 0 for p in model.hypernet.parameters() if p.grad is not None)
    model.zero_grad()


def test_counts_are_those_of_the_module(case: tuple[nn.Module, HyperModel, Tensor]) -> None:
    module, model, _ = case
    counts = count_parameters(model)
    assert counts.target == sum(p.numel() for p in module.parameters())
    assert counts.trainable == counts.free + sum(p.numel() for p in model.hypernet.parameters())
    assert counts.compression > 1.5


def test_eval_to_and_buffers_reach_the_target(case: tuple[nn.Module, HyperModel, Tensor]) -> None:
    module, model, _ = case
    model.eval()
    assert not any(m.training for m in model.modules())
    buffers = {f"target.{name}" for name, _ in module.named_buffers()}
    assert buffers <= set(model.state_dict())
    meta = copy.deepcopy(model).to("meta")
    assert all(t.is_meta for t in [*meta.parameters(), *meta.buffers()])


def test_materialized_it_is_the_plain_module_bit_for_bit(case: tuple[nn.Module, HyperModel, Tensor]) -> None:
    module, model, x = case
    plain = materialize(model.eval())
    assert type(plain) is type(module) and not plain.training
    assert list(plain.state_dict()) == list(module.state_dict()), "loads where the module's own would"
    assert all(isinstance(p, nn.Parameter) and p.requires_grad and p.is_contiguous() for p in plain.parameters())
    with torch.no_grad():
        assert torch.equal(plain(x), model(x))
    fresh = copy.deepcopy(module).eval()
    fresh.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(x), plain(x))


# ---------------------------------------------------------------- tied, called twice


class Tied(nn.Module):
    """An embedding whose matrix is the output layer's too, and a layer that is called twice and held twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 6)
        self.middle = nn.Linear(6, 6)
        self.again = self.middle
        self.out = nn.Linear(6, 12, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(torch.tanh(self.again(torch.tanh(self.middle(self.embed(ids))))))


@pytest.mark.parametrize("pattern", ["embed.weight", "middle.weight", "*.weight"])
@pytest.mark.filterwarnings("ignore:.*more than it has")
def test_tied_parameters_are_generated_once(pattern: str) -> None:
    torch.manual_seed(0)
    module, ids = Tied(), torch.arange(12)
    count = sum(p.numel() for p in module.parameters())
    model = hypernetize(module, "chunked", pattern, chunk_size=20)
    counts = count_parameters(model)
    assert counts.target == count and counts.generated == {"embed.weight": 72, "middle.weight": 36}.get(pattern, 108)
    model(ids).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    plain = materialize(model.eval())
    assert isinstance(plain, Tied) and plain.out.weight is plain.embed.weight and plain.again is plain.middle
    assert sum(p.numel() for p in plain.parameters()) == count
    with torch.no_grad():
        assert torch.equal(plain(ids), model(ids))
    weights = model.hypernet()
    by_hand = Tied()
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *weights.items()]:
            by_hand.get_parameter(name).copy_(value)
        torch.testing.assert_close(by_hand(ids), model(ids))


def test_layers_that_share_a_weight_are_selected_once() -> None:
    layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    layers[2].weight = layers[1].weight
    assert select_parameters(layers, "linear") == ["1.weight"]


# ---------------------------------------------------------------- what is generated, and by what


def test_a_function_may_choose_any_parameter() -> None:
    model = hypernetize(
        CNN(1, 10, 8),
        "chunked",
        lambda name, p: name.endswith("bias") or p.ndim == 4,
        chunk_size=100,
        z_dim=4,
        hidden=[8],
    )
    assert {name.rpartition(".")[2] for name in model.names} == {"weight", "bias"}
    assert all(p.ndim == 2 for p in model.target.parameters())


def test_options_are_those_of_the_command_line() -> None:
    model = hypernetize(CNN(1, 10, 8), "static", "all", z_dim=3, tile=[8, 8])
    sizes = {z.shape[1] for name, z in model.hypernet.named_parameters() if name.endswith(".z")}
    assert sizes == {3} and model.names == ("conv2.weight",)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("statick",), {}, "unknown hypernet 'statick'; did you mean 'static'"),
        (("dynamic",), {}, "this one has Conv2d, Linear"),
        (("static",), {"z_din": 3}, "did you mean 'z_dim'"),
        (("static",), {"z_dim": "many"}, "z_dim"),
        (("chunked",), {"hidden": []}, "hidden must be positive numbers"),
        (("static", "conv9.*"), {}, "no weight matches 'conv9.*'"),
        (("static", "linear"), {}, "leaves nothing to generate"),
        (("static", lambda name, p: p.ndim == 1), {}, "makes matrices and kernels, not conv1.bias"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("*", r"\*").replace("?", r"\?")) as error:
        hypernetize(CNN(1, 10, 8), *arguments, **options)
    assert "\n" not in str(error.value)


def test_a_hypernet_larger_than_the_target_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="trainable parameters generate a network of 14,010: more than it has"):
        hypernetize(CNN(1, 10, 8), "mlp", "conv2.weight")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hypernetize(CNN(1, 10, 8), "static", "conv2.weight", z_dim=4)


def test_a_plain_module_materializes_to_a_copy() -> None:
    module = CNN(1, 10, 8)
    plain = materialize(module)
    assert plain is not module and all(map(torch.equal, plain.parameters(), module.parameters()))


def test_a_condition_where_there_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="no condition"):
        materialize(hypernetize(CNN(1, 10, 8), z_dim=4), torch.zeros(3))


def test_weights_that_were_copied_in_train_nothing_and_ours_do() -> None:
    """What the README warns of."""
    torch.manual_seed(0)
    module, x = CNN(1, 10, 8), torch.randn(3, 1, 8, 8)
    copied = copy.deepcopy(module)
    model = hypernetize(module, z_dim=4)
    with torch.no_grad():
        for name, weight in model.hypernet().items():
            copied.get_parameter(name).copy_(weight)
    copied(x).sum().backward()
    assert all(p.grad is None for p in model.hypernet.parameters())
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.hypernet.parameters())


# ---------------------------------------------------------------- conditional


@pytest.mark.filterwarnings("ignore:.*more than it has")
def test_a_conditional_model_materializes_for_each_condition() -> None:
    torch.manual_seed(0)
    target, ids, conditions = Tied(), torch.arange(12).view(2, 6), torch.randn(2, 3)
    count = sum(p.numel() for p in target.parameters())
    names = select_parameters(target, "all", ["embed.weight", "middle.weight"])
    reference = {name: target.get_parameter(name).detach() for name in names}
    model = ConditionalModel(target, ParameterGenerator(reference, 3, hidden_sizes=(8,)), names).eval()
    counts = count_parameters(model)
    assert counts.target == count and counts.generated == 72 + 36
    with torch.no_grad():
        outputs = model(ids, conditions)
        for row, condition, expected in zip(ids, conditions, outputs, strict=True):
            plain = materialize(model, condition)
            assert isinstance(plain, Tied) and plain.out.weight is plain.embed.weight
            torch.testing.assert_close(plain(row), expected)
    with pytest.raises(UserError, match="which one"):
        materialize(model)
