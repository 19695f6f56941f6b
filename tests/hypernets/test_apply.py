"""HyperModel: what is generated, how it reaches the target, and when kept weights are made anew."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.func import functional_call

from hyperrun.errors import UserError
from hyperrun.hypernets import HyperModel, StaticHypernet, count_parameters, select_parameters
from hyperrun.targets.cnn import CNN
from hyperrun.targets.wide_resnet import WideResNet
from hyperrun.tasks.classification import ClassificationLoss
from hyperrun.training.ema import EMA


class Attention(nn.Module):
    """A target that is no convolutional network, with a fast path of its own in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.encoder(self.embed(x)).mean(1))


def cnn() -> CNN:
    return CNN(1, 10, 8, channels=(4, 6), kernel_size=3)


def wrn() -> WideResNet:
    return WideResNet(3, 10, 10, 1)


MODELS = {
    "cnn": (cnn, (2, 1, 8, 8), "conv"),
    "wide_resnet": (wrn, (2, 3, 8, 8), "conv"),
    "attention": (Attention, (2, 5, 4), "all"),
}


def hyper(make=cnn, generate: str = "conv", seed: int = 0) -> HyperModel:
    torch.manual_seed(seed)
    target = make()
    names = select_parameters(target, generate)
    reference = {name: target.get_parameter(name).detach() for name in names}
    return HyperModel(target, StaticHypernet(reference, 4, None, (4, 4), "variance_matched"), names)


def written_in(model: HyperModel, make) -> nn.Module:
    """Return a plain target that holds, as its own parameters, what the model generates and what it keeps free."""
    target = make()
    with torch.no_grad():
        state = {**model.target.state_dict(), **model.hypernet()}
    target.load_state_dict(state)
    return target.train(model.training)


@contextmanager
def generations(model: HyperModel) -> Iterator[list[int]]:
    """Count how often the hypernet runs."""
    calls: list[int] = []
    handle = model.hypernet.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


# ---------------------------------------------------------------- equality with the target


@pytest.mark.parametrize("kind", MODELS)
def test_free_parameters_start_as_the_direct_models(kind):
    make, _, generate = MODELS[kind]
    model = hyper(make, generate, seed=7)
    torch.manual_seed(7)
    direct = dict(make().named_parameters())
    free = dict(model.target.named_parameters())
    assert free.keys() == direct.keys() - set(model.names)
    for name, value in free.items():
        assert torch.equal(value, direct[name]), name


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", MODELS)
def test_output_is_that_of_the_target_with_the_weights_written_in(kind, training):
    make, shape, generate = MODELS[kind]
    model = hyper(make, generate).train(training)
    plain = written_in(model, make)
    x = torch.randn(shape)
    with torch.no_grad():
        assert torch.equal(model(x), plain(x))


def test_inference_mode_gives_the_same_output():
    model = hyper().eval()
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        expected = model(x)
    model.train().eval()
    with torch.inference_mode():
        assert torch.equal(model(x), expected)
    with torch.no_grad():  # with what was kept in inference mode
        assert torch.equal(model(x), expected)


def test_gradients_are_those_of_the_weights_written_in():
    model = hyper(wrn)
    plain = written_in(model, wrn)
    x = torch.randn(4, 3, 8, 8)
    weights = model.weights()
    for weight in weights.values():
        weight.retain_grad()
    model.call_with(weights, x).square().sum().backward()
    plain(x).square().sum().backward()
    for name, parameter in plain.named_parameters():
        own = weights[name] if name in weights else model.target.get_parameter(name)
        torch.testing.assert_close(own.grad, parameter.grad)


def test_generated_parameters_do_not_exist_twice():
    model = hyper()
    assert model.target.conv2.weight is None
    assert not any(name in model.state_dict() for name in ("target.conv2.weight", "conv2.weight"))
    counts = count_parameters(model)
    assert counts.generated == 6 * 4 * 9
    assert counts.free == sum(p.numel() for p in cnn().parameters()) - counts.generated
    assert counts.trainable == sum(p.numel() for p in model.parameters())
    assert counts.target == sum(p.numel() for p in cnn().parameters())


def test_frozen_parameters_are_not_counted_as_trainable():
    model = cnn()
    model.fc.requires_grad_(False)
    assert (
        count_parameters(model).trainable == sum(p.numel() for p in cnn().parameters()) - model.fc.weight.numel() - 10
    )


# ---------------------------------------------------------------- modes and buffers


def test_train_and_eval_reach_the_target():
    model = hyper(wrn)
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert model.train() is model
    assert all(module.training for module in model.modules())


def test_batch_norm_statistics_are_updated_and_saved_as_the_targets():
    model = hyper(wrn).train()
    plain = written_in(model, wrn)
    for _ in range(3):
        x = torch.randn(4, 3, 8, 8)
        model(x), plain(x)
    saved = {name.removeprefix("target."): v for name, v in model.state_dict().items() if name.startswith("target.")}
    buffers = dict(plain.named_buffers())
    assert buffers
    assert saved["norm.num_batches_tracked"] == 3
    for name, value in buffers.items():
        assert torch.equal(saved[name], value), name


@pytest.mark.parametrize("kind", MODELS)
def test_state_dict_round_trip(kind):
    make, shape, generate = MODELS[kind]
    one, other = hyper(make, generate, seed=0), hyper(make, generate, seed=1)
    x = torch.randn(shape)
    one(x)  # moves batch norm statistics
    one.eval(), other.eval()
    with torch.no_grad():
        assert not torch.equal(one(x), other(x))
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("kept", [False, True], ids=["", "with kept weights"])
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(how, kept):
    model = hyper(wrn).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(x)
        if not kept:
            model.train().eval()
        if how == "deepcopy":
            twin = copy.deepcopy(model)
        else:
            file = io.BytesIO()
            torch.save(model, file)
            file.seek(0)
            twin = torch.load(file, weights_only=False)
        assert torch.equal(twin(x), expected)
        for parameter in twin.parameters():
            parameter.mul_(2)
        assert not torch.equal(twin(x), expected)
        assert torch.equal(model(x), expected)


# ---------------------------------------------------------------- kept weights


def test_weights_are_generated_once_over_several_evaluations():
    model = hyper().eval()
    x = torch.randn(2, 1, 8, 8)
    with generations(model) as calls:
        with torch.no_grad():
            for _ in range(3):
                model(x)
        with torch.inference_mode():
            model(x)
    assert len(calls) == 1


def test_weights_are_generated_at_every_training_step():
    model = hyper().train()
    x = torch.randn(2, 1, 8, 8)
    with generations(model) as calls:
        model(x)
        model(x)
        with torch.no_grad():
            model(x)
    assert len(calls) == 3


def test_an_evaluation_with_gradients_generates_anew_and_has_them():
    model = hyper().eval()
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        model(x)
    with generations(model) as calls:
        model(x).sum().backward()
    assert len(calls) == 1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.hypernet.parameters())


def step(model: HyperModel, fused: bool | None = None, cls=torch.optim.SGD) -> None:
    optimizer = cls(model.parameters(), lr=0.1, fused=fused)
    model(torch.ones(2, 1, 8, 8)).square().sum().backward()
    optimizer.step()


CHANGES = {
    "sgd": step,
    "adam": lambda m: step(m, cls=torch.optim.Adam),
    "fused sgd": lambda m: step(m, fused=True),
    "fused adam": lambda m: step(m, fused=True, cls=torch.optim.Adam),
    "load_state_dict": lambda m: m.load_state_dict(hyper(seed=1).state_dict()),
    "load_state_dict of the hypernet": lambda m: m.hypernet.load_state_dict(hyper(seed=1).hypernet.state_dict()),
    "load_state_dict with assign": lambda m: m.load_state_dict(hyper(seed=1).state_dict(), assign=True),
    "an in-place change": lambda m: m.hypernet.generators["3x3"].z.detach().mul_(2),
    "another parameter": lambda m: setattr(m.hypernet.generators["3x3"], "z", nn.Parameter(torch.ones(2, 4))),
    "bfloat16": lambda m: m.bfloat16().float(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_kept_weights_follow_a_change_in_eval_mode(change):
    model = hyper().eval()
    with torch.no_grad():
        before = model.weights()["conv2.weight"].clone()
    CHANGES[change](model)
    with torch.no_grad():
        kept, fresh = model.weights()["conv2.weight"], model.hypernet()["conv2.weight"]
    assert torch.equal(kept, fresh)
    assert not torch.equal(kept, before)


def test_kept_weights_follow_a_change_of_dtype():
    model = hyper().eval()
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        model(x)
        model.double()
        assert model(x.double()).dtype == torch.float64
        assert torch.equal(model(x.double()), written_in(model, lambda: cnn().double())(x.double()))


@pytest.mark.cuda
def test_kept_weights_follow_a_move_to_another_device():
    model = hyper().eval()
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        expected = model(x)
        moved = model.to("cuda")(x.to("cuda"))
        assert moved.device.type == "cuda"
        torch.testing.assert_close(moved.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_kept_weights_follow_the_average_and_come_back():
    model = hyper().eval()
    x = torch.randn(2, 1, 8, 8)
    ema = EMA(model, 0.5)
    step(model)
    with torch.no_grad():
        own = model(x)
        with ema.applied():
            averaged = model(x)
            assert torch.equal(averaged, written_in(model, cnn)(x))
        assert not torch.equal(averaged, own)
        assert torch.equal(model(x), own)


def test_training_lets_go_of_kept_weights():
    model = hyper().eval()
    with torch.no_grad():
        model.weights()
        model.train().eval()
        with generations(model) as calls:
            model.weights()
    assert len(calls) == 1


def test_a_change_of_a_free_parameter_needs_no_new_weights_but_is_seen():
    model = hyper().eval()
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad(), generations(model) as calls:
        before = model(x)
        model.target.fc.bias.add_(1)
        after = model(x)
    assert len(calls) == 1
    torch.testing.assert_close(after, before + 1)


# ---------------------------------------------------------------- which parameters


class Mixed(nn.Module):
    """Convolutions (one of them grouped), linear layers and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4))
        self.mix = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["body.0.weight"]),
        ({"generate": "linear"}, ["mix.0.weight", "mix.1.weight"]),
        ({"generate": "all"}, ["body.0.weight", "mix.0.weight", "mix.1.weight"]),
        ({"generate": "all", "exclude": ["mix.1.weight"]}, ["body.0.weight", "mix.0.weight"]),
        ({"generate": "all", "exclude": ["mix"]}, ["body.0.weight"]),
        ({"generate": "all", "exclude": ["nothing*"]}, ["body.0.weight", "mix.0.weight", "mix.1.weight"]),
        ({"include": ["stem.weight"]}, ["stem.weight"]),
        ({"include": ["stem", "head"]}, ["stem.weight", "head.weight"]),
        ({"include": ["body"]}, ["body.0.weight", "body.2.weight"]),
        ({"include": ["*"], "exclude": ["mix.*", "head"]}, ["stem.weight", "body.0.weight", "body.2.weight"]),
        ({"include": ["mix.[01].weight"]}, ["mix.0.weight", "mix.1.weight"]),
    ],
    ids=str,
)
def test_patterns_select_parameters(options, names):
    assert select_parameters(Mixed(), **options) == names


def test_all_36_inner_kernels_of_a_wide_resnet_40_are_selected():
    with torch.device("meta"):
        target = WideResNet(3, 10, 40, 2)
    names = select_parameters(target, "conv", exclude=["*shortcut*"])
    assert len(names) == 36
    assert all(name.startswith("groups.") and ".conv" in name for name in names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["stem.wieght"]}, "did you mean 'stem.weight'"),
        ({"include": ["stem.weight", "body.1.weight"]}, "matches 'body.1.weight'"),  # a norm is no weight to generate
        ({"include": ["stem.bias"]}, "matches 'stem.bias'"),
        ({"exclude": ["*"]}, "nothing to generate"),
        ({"exclude": ["mix.0.wieght"]}, "hypernet.exclude: no parameter matches .*; did you mean 'mix.0.weight'"),
        ({"include": ["stem"], "exclude": ["stem"]}, "nothing to generate"),
    ],
    ids=str,
)
def test_patterns_that_select_nothing_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        select_parameters(Mixed(), **options)
    assert "\n" not in str(error.value)


def test_a_target_without_inner_layers_is_refused():
    with pytest.raises(UserError, match=r"nothing to generate.*conv1\.weight"):
        select_parameters(cnn(), "linear")


def test_a_single_layer_can_be_the_target():
    model = HyperModel(
        nn.Linear(3, 2),
        StaticHypernet({"weight": torch.randn(2, 3)}, 2, None, (16, 16), "variance_matched"),
        ["weight"],
    )
    assert model(torch.randn(5, 3)).shape == (5, 2)


@pytest.mark.parametrize("include", [["stem", "body.2"], ["head"]], ids=str)
def test_what_is_included_works_whatever_its_kind(include):
    target = Mixed()
    names = select_parameters(target, include=include)
    hypernet = StaticHypernet(
        {n: target.get_parameter(n).detach() for n in names}, 4, None, (16, 16), "variance_matched"
    )
    model = HyperModel(target, hypernet, names)
    shapes = {name: value.shape for name, value in Mixed().named_parameters()}
    assert {name: value.shape for name, value in model.weights().items()} == {name: shapes[name] for name in names}


# ---------------------------------------------------------------- torch.compile


def compiled_losses(backend: str, steps: int) -> tuple[list[float], list[float], int, int]:
    """Train eagerly and compiled from the same start; return both losses, graphs after step 2 and graph breaks."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    x, y = torch.randn(4, 1, 8, 8), torch.tensor([1, 2, 3, 4])
    results, graphs = [], [0, 0]
    for compiled in (False, True):
        loss = ClassificationLoss(hyper(), label_smoothing=0.1, generated_l2=1e-2)
        run = torch.compile(loss, backend=backend) if compiled else loss
        optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
        losses = []
        for i in range(steps):
            value, _ = run(x, y)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(value.item())
            if compiled and i == 1:
                graphs[0] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        results.append(losses)
    graphs[1] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    torch._dynamo.reset()
    assert graphs[0] > 0, "nothing was compiled"
    return results[0], results[1], graphs[1] - graphs[0], breaks


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_training_gives_the_eager_losses_without_recompiling(backend):
    eager, compiled, recompilations, breaks = compiled_losses(backend, steps=6)
    assert compiled == pytest.approx(eager, rel=1e-4)
    assert eager[-1] != pytest.approx(eager[0], rel=1e-2), "nothing was trained"
    assert recompilations == 0
    assert breaks == 0


def test_call_with_uses_the_weights_it_is_given():
    model = hyper()
    x = torch.randn(2, 1, 8, 8)
    other = {"conv2.weight": torch.randn(6, 4, 3, 3)}
    expected = functional_call(cnn(), {**dict(model.target.named_parameters()), **other}, (x,))
    assert torch.equal(model.call_with(other, x), expected)
