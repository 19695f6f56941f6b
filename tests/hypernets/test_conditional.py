"""Conditional hypernets: equal to a loop over examples, each with its own weights; errors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from hyperrun.errors import UserError
from hyperrun.hypernets.conditional import (
    ConditionalHypernet,
    ConditionalModel,
    apply_generated_weights,
    build_weight_generator,
    split_weights,
)
from hyperrun.hypernets.weight_generator import ParameterGenerator
from hyperrun.targets.cnn import CNN
from hyperrun.targets.mlp import ACTIVATIONS

SIZES = [(5, 7), (7, 3), (3, 4)]


def loop_over_examples(x: Tensor, flat: Tensor, sizes, activation: str = "relu") -> Tensor:
    """The plain MLP, example by example, its weights read off the vector by hand."""
    outputs = []
    for example, numbers in zip(x, flat, strict=True):
        start = 0
        for i, (inputs, outs) in enumerate(sizes):
            weight = numbers[start : start + inputs * outs].reshape(outs, inputs)
            bias = numbers[start + inputs * outs : start + inputs * outs + outs]
            start += inputs * outs + outs
            example = F.linear(ACTIVATIONS[activation](example) if i else example, weight, bias)
        outputs.append(example)
    return torch.stack(outputs)


def gradients(y: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a loss that weighs every output differently."""
    upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).view_as(y)
    return torch.autograd.grad((y * upstream).sum(), inputs, retain_graph=True)


# ---------------------------------------------------------------- the MLP


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("points", [None, 1, 6])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_mlp_equals_a_loop_over_examples(dtype, points, activation):
    torch.manual_seed(0)
    hypernet = ConditionalHypernet(4, SIZES, [8], activation=activation).to(dtype)
    x = torch.randn(9, *([points] if points else []), 5, dtype=dtype, requires_grad=True)
    conditioning = torch.randn(9, 4, dtype=dtype, requires_grad=True)

    y = hypernet(x, conditioning)
    expected = loop_over_examples(x, hypernet.generator(conditioning), SIZES, activation)

    assert y.dtype == dtype
    torch.testing.assert_close(y, expected)
    inputs = [x, conditioning, *hypernet.parameters()]
    torch.testing.assert_close(gradients(y, inputs), gradients(expected, inputs))


def test_gradients_reach_the_conditioning_and_every_weight_of_the_generator():
    torch.manual_seed(0)
    hypernet = ConditionalHypernet(4, SIZES, [8])
    conditioning = torch.randn(9, 4, requires_grad=True)
    hypernet(torch.randn(9, 5), conditioning).square().sum().backward()
    assert conditioning.grad is not None
    assert (conditioning.grad.abs().sum(1) > 0).all()
    for name, parameter in hypernet.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_another_conditioning_of_one_example_changes_only_its_output():
    torch.manual_seed(0)
    hypernet = ConditionalHypernet(4, SIZES, [8])
    x, conditioning = torch.randn(1, 5).expand(6, 5), torch.randn(6, 4)
    changed = conditioning.clone()
    changed[2] += 1
    before, after = hypernet(x, conditioning), hypernet(x, changed)
    differs = (before != after).any(1)
    assert differs.tolist() == [False, False, True, False, False, False]
    assert len(before.unique(dim=0)) == 6, "examples of equal x share weights"


def test_one_conditioning_is_shared_by_the_batch():
    torch.manual_seed(0)
    hypernet = ConditionalHypernet(4, SIZES, [8])
    x, conditioning = torch.randn(6, 5), torch.randn(1, 4)
    expected = hypernet(x, conditioning.expand(6, 4))
    torch.testing.assert_close(hypernet(x, conditioning), expected)
    torch.testing.assert_close(hypernet(x, conditioning[0]), expected)
    shared = split_weights(hypernet.generator(conditioning)[0], SIZES)
    torch.testing.assert_close(apply_generated_weights(x, shared, SIZES), expected)


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(batch):
    hypernet = ConditionalHypernet(4, SIZES, [8])
    x, conditioning = torch.randn(batch, 5), torch.randn(batch, 4, requires_grad=True)
    y = hypernet(x, conditioning)
    assert y.shape == (batch, 4)
    assert torch.autograd.grad(y.sum(), conditioning)[0].shape == (batch, 4)


def test_the_parts_are_the_whole():
    torch.manual_seed(0)
    hypernet = ConditionalHypernet(4, SIZES, [8])
    torch.manual_seed(0)
    generator = build_weight_generator(4, SIZES, [8], "relu")
    x, conditioning = torch.randn(6, 5), torch.randn(6, 4)
    flat = generator(conditioning)
    assert flat.shape == (6, 5 * 7 + 7 + 7 * 3 + 3 + 3 * 4 + 4)
    layers = split_weights(flat, SIZES)
    assert [(w.shape, b.shape) for w, b in layers] == [((6, o, i), (6, o)) for i, o in SIZES]
    assert torch.equal(apply_generated_weights(x, flat, SIZES, "relu"), hypernet(x, conditioning))
    assert torch.equal(apply_generated_weights(x, layers, SIZES, "relu"), hypernet(x, conditioning))


def test_the_defaults_are_those_of_the_documentation():
    hypernet = ConditionalHypernet(conditioning_size=16, input_size=128)
    assert hypernet(torch.randn(32, 128), torch.randn(32, 16)).shape == (32, 32)
    assert [layer.out_features for layer in hypernet.generator.mlp.layers] == [256, 256, 128 * 64 + 64 + 64 * 32 + 32]


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="input_size=6, but the first of target_layer_sizes takes 5 inputs"):
        ConditionalHypernet(4, SIZES, input_size=6)
    for sizes in ([(5, 7), (6, 3)], [], [(0, 3)]):
        with pytest.raises(ValueError, match="target_layer_sizes must be"):
            ConditionalHypernet(4, sizes)
    with pytest.raises(UserError, match="unknown activation 'rellu'"):
        ConditionalHypernet(4, SIZES, activation="rellu")
    with pytest.raises(UserError, match="unknown init 'hyperfun'"):
        ConditionalHypernet(4, SIZES, init="hyperfun")
    hypernet = ConditionalHypernet(4, SIZES)
    with pytest.raises(ValueError, match=r"x must be \[batch, 5\], not \[9, 6\]"):
        hypernet(torch.randn(9, 6), torch.randn(9, 4))
    with pytest.raises(ValueError, match=r"conditioning must be \[batch, 4\], not \[9, 3\]"):
        hypernet(torch.randn(9, 5), torch.randn(9, 3))
    for x in (torch.randn(9, 5), torch.randn(9, 2, 5)):
        with pytest.raises(ValueError, match="8 sets of weights for 9 examples"):
            hypernet(x, torch.randn(8, 4))
    with pytest.raises(ValueError, match="have 82 numbers, not 81"):
        split_weights(torch.randn(9, 81), SIZES)
    with pytest.raises(ValueError, match="are not those of layers"):
        apply_generated_weights(torch.randn(9, 5), split_weights(torch.randn(9, 82), SIZES)[:2], SIZES)


def test_generation_is_float32_under_autocast():
    torch.manual_seed(0)
    hypernet = ConditionalHypernet(4, SIZES, [8])
    x, conditioning = torch.randn(9, 3, 5), torch.randn(9, 4)
    plain, flat = hypernet(x, conditioning), hypernet.generator(conditioning)
    with torch.autocast("cpu", torch.bfloat16):
        autocast, generated = hypernet(x, conditioning), hypernet.generator(conditioning.bfloat16())
        assert torch.equal(hypernet.generator(conditioning), flat)
        vectors = hypernet(x[:, 0], conditioning)
    assert generated.dtype == torch.float32
    assert autocast.dtype == torch.bfloat16
    torch.testing.assert_close(autocast.float(), plain, rtol=0.05, atol=0.05)
    torch.testing.assert_close(vectors.float(), plain[:, 0], rtol=0.05, atol=0.05)


def test_state_dict_round_trip():
    x, conditioning = torch.randn(9, 5), torch.randn(9, 4)
    source, other = ConditionalHypernet(4, SIZES, [8]), ConditionalHypernet(4, SIZES, [8])
    assert not torch.equal(source(x, conditioning), other(x, conditioning))
    other.load_state_dict(source.state_dict())
    assert torch.equal(source(x, conditioning), other(x, conditioning))


def test_it_learns_a_different_function_for_each_condition():
    torch.manual_seed(0)
    hypernet = ConditionalHypernet(2, [(3, 1)], [16])
    x, task = torch.randn(64, 3), torch.arange(64) % 2
    y = torch.where(task == 0, x[:, 0], -x[:, 1])  # no one set of weights gives both
    conditioning = F.one_hot(task, 2).float()
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=0.02)
    for _ in range(150):
        loss = F.mse_loss(hypernet(x, conditioning).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


# ---------------------------------------------------------------- any target


class NormNet(nn.Module):
    """A convolution with a norm layer behind it, and two outputs."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 4, 3), norm, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = F.relu(self.norm(self.conv(x))).mean((2, 3))
        return {"features": features, "logits": self.fc(features)}


def conditional(target: nn.Module, names: list[str] | None = None, seed: int = 0, **options) -> ConditionalModel:
    torch.manual_seed(seed)
    names = names or [name for name, _ in target.named_parameters()]
    reference = {name: target.get_parameter(name).detach() for name in names}
    return ConditionalModel(target, ParameterGenerator(reference, 4, [8], **options), names)


def looped(model: ConditionalModel, x: Tensor, conditioning: Tensor):
    """One plain call for each example."""
    weights = model.weights(conditioning)
    return [
        functional_call(model.target, {n: w[i] for n, w in weights.items()}, (x[i : i + 1],)) for i in range(len(x))
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("names", [None, ["conv2.weight"]], ids=["all generated", "one generated"])
def test_any_target_equals_a_loop_over_examples(dtype, names):
    model = conditional(CNN(1, 10, 8, kernel_size=3), names).to(dtype)
    x = torch.randn(5, 1, 8, 8, dtype=dtype, requires_grad=True)
    conditioning = torch.randn(5, 4, dtype=dtype, requires_grad=True)
    y, expected = model(x, conditioning), torch.cat(looped(model, x, conditioning))
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected)
    inputs = [x, conditioning, *model.parameters()]
    torch.testing.assert_close(gradients(y, inputs), gradients(expected, inputs))


@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(2, 4),
        nn.BatchNorm2d(4).eval(),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.InstanceNorm2d(4, affine=True),
        nn.Sequential(nn.Dropout(0.0), nn.GroupNorm(1, 4)),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_norm_layers(norm):
    model = conditional(NormNet(copy.deepcopy(norm)))
    for buffer in model.target.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2)
    x, conditioning = torch.randn(5, 2, 6, 6), torch.randn(5, 4)
    y, expected = model(x, conditioning), looped(model, x, conditioning)
    assert y.keys() == {"features", "logits"}
    for name in y:
        torch.testing.assert_close(y[name], torch.cat([each[name] for each in expected]))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)])
def test_running_statistics_are_refused_while_training_and_only_then(norm):
    model = conditional(NormNet(norm))
    x, conditioning = torch.randn(5, 2, 6, 6), torch.randn(5, 4)
    before = norm.running_mean.clone()
    with pytest.raises(UserError, match=rf"norm \({type(norm).__name__}\) would update its running statistics"):
        model(x, conditioning)
    assert torch.equal(norm.running_mean, before)
    model(x, conditioning[:1])  # one set of weights for the batch
    assert not torch.equal(norm.running_mean, before)
    assert model.eval()(x, conditioning)["logits"].shape == (5, 3)


def test_another_conditioning_of_one_example_changes_only_its_output_in_any_target():
    model = conditional(CNN(1, 10, 8, kernel_size=3))
    x, conditioning = torch.randn(1, 1, 8, 8).expand(4, 1, 8, 8), torch.randn(4, 4)
    changed = conditioning.clone()
    changed[1] += 1
    before, after = model(x, conditioning), model(x, changed)
    assert [torch.allclose(a, b) for a, b in zip(before, after, strict=True)] == [True, False, True, True]
    assert torch.cdist(before, before).fill_diagonal_(1).min() > 1e-3, "examples of equal x share weights"


def test_one_set_is_the_plain_call():
    model = conditional(CNN(1, 10, 8, kernel_size=3))
    x, conditioning = torch.randn(4, 1, 8, 8), torch.randn(1, 4)
    plain = CNN(1, 10, 8, kernel_size=3)
    plain.load_state_dict({name: value[0] for name, value in model.weights(conditioning).items()})
    assert torch.equal(model(x, conditioning), plain(x))
    assert torch.equal(model(x, conditioning[0]), plain(x))
    torch.testing.assert_close(model(x, conditioning.expand(4, 4)), plain(x))


def test_generated_parameters_are_not_stored_in_the_target():
    target = CNN(1, 10, 8, kernel_size=3)
    count = sum(p.numel() for p in target.parameters())
    model = conditional(target, ["conv2.weight", "conv2.bias"])
    assert [name for name, _ in target.named_parameters()] == ["conv1.weight", "conv1.bias", "fc.weight", "fc.bias"]
    assert model.counts.generated == 16 * 16 * 9 + 16
    assert model.counts.free == count - model.counts.generated
    other = conditional(CNN(1, 10, 8, kernel_size=3), ["conv2.weight", "conv2.bias"], seed=1)
    other.load_state_dict(model.state_dict())
    x, conditioning = torch.randn(3, 1, 8, 8), torch.randn(3, 4)
    assert torch.equal(other(x, conditioning), model(x, conditioning))


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches_of_any_target(batch):
    model = conditional(CNN(1, 10, 8, kernel_size=3))
    x, conditioning = torch.randn(batch, 1, 8, 8), torch.randn(batch, 4, requires_grad=True)
    y = model(x, conditioning)
    assert y.shape == (batch, 10)
    assert torch.autograd.grad(y.sum(), conditioning)[0].shape == (batch, 4)


def test_the_hypernet_may_take_anything():
    """A task's number, through an embedding."""
    target = CNN(1, 10, 8, kernel_size=3)
    model = conditional(target)
    model.hypernet = nn.Sequential(nn.Embedding(3, 4), model.hypernet)
    x, task = torch.randn(1, 1, 8, 8).expand(4, 1, 8, 8), torch.tensor([0, 2, 0, 1])
    y = model(x, task)
    torch.testing.assert_close(y[0], y[2])
    assert not torch.allclose(y[0], y[1])


def test_dropout_draws_a_mask_for_each_example():
    model = ConditionalModel(
        nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5)),
        ParameterGenerator({"0.weight": torch.ones(64, 64), "0.bias": torch.ones(64)}, 4, [8]),
        ["0.weight", "0.bias"],
    )
    dropped = model(torch.randn(4, 64), torch.randn(4, 4)) == 0
    assert len(dropped.unique(dim=0)) == 4


def test_mistakes_of_a_hypernet_are_told():
    model = conditional(CNN(1, 10, 8, kernel_size=3), ["conv2.weight", "conv2.bias"])
    x = torch.randn(4, 1, 8, 8)
    with pytest.raises(ValueError, match="3 sets of weights for 4 examples"):
        model(x, torch.randn(3, 4))
    good = model.weights(torch.randn(4, 4))
    with pytest.raises(ValueError, match=r"made \['conv2.weight'\], not \['conv2.weight', 'conv2.bias'\]"):
        model.call_with({"conv2.weight": good["conv2.weight"]}, x)
    with pytest.raises(ValueError, match=r"conv2.bias: the hypernet made \[4, 15\], not \[batch, \*\[16\]\]"):
        model.call_with({**good, "conv2.bias": good["conv2.bias"][:, 1:]}, x)
    with pytest.raises(ValueError, match=r"different batches: \[2, 4\]"):
        model.call_with({**good, "conv2.bias": good["conv2.bias"][:2]}, x)


class LinearThenConv(nn.Module):
    """Where autocast inside vmap fails: the linear layer would give bfloat16, the convolution take float32."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.conv = nn.Linear(3, 16), nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.fc(x).view(-1, 1, 4, 4)).flatten(1)


def test_any_target_under_autocast():
    model = conditional(LinearThenConv())
    x, conditioning = torch.randn(4, 3), torch.randn(4, 4)
    plain = model(x, conditioning)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(x, conditioning), plain)
        rounded = model(x.bfloat16(), conditioning.bfloat16())
        assert model(x, conditioning[:1]).dtype == torch.bfloat16
    torch.testing.assert_close(rounded, plain, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("options", [{}, {"encode": True}, {"residual": True}, {"residual": True, "encode": True}])
def test_forms_of_the_generator_train(options):
    torch.manual_seed(0)
    model = conditional(NormNet(nn.GroupNorm(2, 4)), **options)
    x, conditioning = torch.randn(32, 2, 6, 6), torch.rand(32, 4)
    y = (conditioning[:, 0] > 0.5).long()  # what only the weights can tell
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(x, conditioning)["logits"], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# ---------------------------------------------------------------- compiled, and on a GPU


def test_compiled_equals_eager():
    torch.manual_seed(0)
    hypernet = ConditionalHypernet(4, SIZES, [8])
    x, conditioning = torch.randn(9, 5), torch.randn(9, 4, requires_grad=True)
    torch.compiler.reset()
    compiled = torch.compile(hypernet, fullgraph=True, backend="aot_eager")
    y, expected = compiled(x, conditioning), hypernet(x, conditioning)
    torch.testing.assert_close(y, expected)
    inputs = [conditioning, *hypernet.parameters()]
    torch.testing.assert_close(gradients(y, inputs), gradients(expected, inputs))


@pytest.mark.slow
def test_any_target_compiled_equals_eager():
    model = conditional(CNN(1, 10, 8, kernel_size=3))
    x, conditioning = torch.randn(5, 1, 8, 8), torch.randn(5, 4, requires_grad=True)
    torch.compiler.reset()
    y, expected = torch.compile(model)(x, conditioning), model(x, conditioning)
    torch.testing.assert_close(y, expected)
    inputs = [conditioning, *model.parameters()]
    torch.testing.assert_close(gradients(y, inputs), gradients(expected, inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.cuda
def test_cuda_equals_cpu():
    model, hypernet = conditional(CNN(1, 10, 8, kernel_size=3)).double(), ConditionalHypernet(4, SIZES, [8]).double()
    image, x = torch.randn(5, 1, 8, 8, dtype=torch.float64), torch.randn(5, 5, dtype=torch.float64)
    conditioning = torch.randn(5, 4, dtype=torch.float64)
    for module, value in ((model, image), (hypernet, x)):
        y = module(value, conditioning)
        expected = gradients(y, list(module.parameters()))
        module.cuda()
        on_gpu = module(value.cuda(), conditioning.cuda())
        torch.testing.assert_close(on_gpu.cpu(), y)
        found = [g.cpu() for g in gradients(on_gpu, list(module.parameters()))]
        torch.testing.assert_close(found, list(expected))
