"""The static hypernet: parameter counts, equality with the paper's equations, initial values, cost of generation."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hyperrun.hypernets import HyperModel, StaticConfig, StaticHypernet, count_parameters, with_hypernet
from hyperrun.hypernets.static import TileGenerator
from hyperrun.inputs import Images
from hyperrun.models import model_of_shapes
from hyperrun.targets import build_target
from hyperrun.targets.cnn import CNN
from hyperrun.targets.torchvision_models import TorchvisionTarget
from hyperrun.targets.wide_resnet import WideResNet
from tests.composed import compose_config

PAPER = {"shortcut": "zero_pad", "conv_bias": True, "stem_norm": True}
SHORTCUTS = ["*shortcut*", "*downsample*"]


def static(**keys) -> StaticConfig:
    defaults = {"kind": "static", "generate": "conv", "include": [], "exclude": SHORTCUTS, "z_dim": 64}
    return StaticConfig(**{**defaults, "hidden_dim": None, "tile": [16, 16], "init": "variance_matched", **keys})


# ---------------------------------------------------------------- parameter counts


@pytest.mark.parametrize(
    ("depth", "width", "variant", "direct", "hyper"),
    [
        (40, 1, PAPER, 562_762, 96_602),
        (40, 2, PAPER, 2_235_530, 147_610),
        (40, 1, {}, 563_930, 97_770),
        (40, 2, {}, 2_243_546, 155_626),
    ],
    ids=["paper-40-1", "paper-40-2", "modern-40-1", "modern-40-2"],
)
def test_wide_resnets_have_the_papers_counts(depth, width, variant, direct, hyper):
    with torch.device("meta"):
        target = WideResNet(3, 10, depth, width, **variant)
        assert count_parameters(target).trainable == direct
        counts = count_parameters(with_hypernet(static(), target))
    assert counts.trainable == hyper
    assert counts.target == direct
    assert counts.generated == {1: 557_568, 2: 2_225_664}[width]
    assert counts.compression == direct / hyper


def test_the_mnist_cnn_has_the_notebooks_counts():
    with torch.device("meta"):
        target = CNN(1, 10, 28)
        assert count_parameters(target).trainable == 21_210
        model = with_hypernet(static(z_dim=4), target)
    generator = model.hypernet.generators["7x7"]
    assert count_parameters(model).trainable == 12_910
    assert count_parameters(model).generated == 12_544
    assert generator.z.numel() == 4
    assert sum(p.numel() for n, p in generator.named_parameters() if n != "z") == 4_240


@pytest.mark.parametrize(
    ("experiment", "trainable"),
    [
        ("mnist_cnn", 21_210),
        ("mnist_hypercnn", 12_910),
        ("cifar10_wrn40_1", 562_762),
        ("cifar10_hyperresnet40_1", 96_602),
        ("cifar10_wrn40_2", 2_235_530),
        ("cifar10_hyperresnet40_2", 147_610),
    ],
)
def test_experiments_build_the_papers_models(experiment, trainable):
    config = compose_config([f"experiment=ha2016/{experiment}"])
    model = model_of_shapes(config)
    assert count_parameters(model).trainable == trainable


@pytest.mark.parametrize("seed", range(8))
def test_the_formula_counts_random_generators(seed):
    draw = random.Random(seed)
    f, z_dim, d, n_in, n_out = (draw.randint(1, 7) for _ in range(5))
    shapes = {f"k{i}": torch.Size([draw.randint(1, 20), draw.randint(1, 20), f, f]) for i in range(draw.randint(1, 4))}
    generator = TileGenerator(shapes, z_dim, d, (n_in, n_out))
    tiles = sum(math.ceil(out / n_out) * math.ceil(in_ / n_in) for out, in_, *_ in shapes.values())
    count = sum(p.numel() for p in generator.parameters())
    assert count == z_dim * tiles + d * (z_dim + 1) * n_in + f * n_out * f * (d + 1)


# ---------------------------------------------------------------- equations 2 and 3


def literal_kernel(generator: TileGenerator, name: str, shape: torch.Size) -> Tensor:
    """Equation 2 for each tile and each i, equation 3 as concatenation; the last tile is cut. No folding."""
    n_in, n_out = generator.tile_in, generator.tile_out
    embeddings = iter(generator.z[generator.rows()[name]])
    columns = []
    for _ in range(0, shape[0], n_out):
        column = []
        for _ in range(0, shape[1], n_in):
            z = next(embeddings)
            slices = []
            for i in range(n_in):
                a = generator.w_in[i] @ z + generator.b_in[i]
                slices.append((a @ generator.w_out + generator.b_out).view(n_out, *shape[2:]))
            column.append(torch.stack(slices, dim=1))
        columns.append(torch.cat(column, dim=1))
    assert next(embeddings, None) is None, "an embedding that no tile uses"
    return torch.cat(columns, dim=0)[: shape[0], : shape[1]]


CASES = {
    "one 3x3 tile": ([(2, 3, 3, 3)], 4, 4, (3, 2)),
    "several layers": ([(4, 6, 3, 3), (2, 3, 3, 3), (4, 6, 3, 3)], 4, 4, (3, 2)),
    "last tile cut": ([(5, 7, 3, 3), (1, 1, 3, 3), (3, 8, 3, 3)], 3, 5, (3, 2)),
    "hidden_dim below z_dim": ([(4, 4, 3, 3)], 6, 2, (2, 2)),
    "7x7": ([(4, 4, 7, 7)], 4, 4, (4, 4)),
    "1x1": ([(4, 6, 1, 1)], 3, 2, (3, 4)),
    "5x3": ([(4, 6, 5, 3)], 3, 2, (6, 2)),
    "1d": ([(4, 6, 5)], 3, 2, (4, 3)),
    "3d": ([(4, 2, 2, 3, 2)], 3, 2, (2, 3)),
    "linear": ([(7, 5), (4, 9)], 3, 4, (2, 3)),
    "several spatial sizes": ([(4, 4, 3, 3), (6, 4, 1, 1), (5, 3), (4, 4, 3, 3)], 3, 4, (2, 3)),
    "16x16 tiles": ([(32, 16, 3, 3), (20, 40, 3, 3)], 8, 8, (16, 16)),
}


@pytest.mark.parametrize("case", CASES)
def test_generation_equals_a_loop_over_the_equations(case):
    shapes, z_dim, hidden_dim, tile = CASES[case]
    torch.manual_seed(0)
    reference = {f"layer{i}.weight": torch.randn(shape) for i, shape in enumerate(shapes)}
    hypernet = StaticHypernet(reference, z_dim, hidden_dim, tile, "variance_matched").double()
    with torch.no_grad():
        for parameter in hypernet.parameters():
            nn.init.normal_(parameter)  # biases too, which start at zero

    kernels = hypernet()
    literal = {}
    for generator in hypernet.generators.values():
        for name in generator.rows():
            literal[name] = literal_kernel(generator, name, reference[name].shape)

    assert kernels.keys() == literal.keys() == reference.keys()
    upstream = {name: torch.randn_like(value) for name, value in literal.items()}
    parameters = list(hypernet.parameters())
    gradients = [
        torch.autograd.grad(sum((made[n] * upstream[n]).sum() for n in made), parameters) for made in (kernels, literal)
    ]
    for name in reference:
        torch.testing.assert_close(kernels[name], literal[name], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_generation_is_float32_under_autocast():
    hypernet = StaticHypernet({"a": torch.randn(16, 16, 3, 3)}, 8, None, (16, 16), "variance_matched")
    plain = hypernet()["a"]
    with torch.autocast("cpu", torch.bfloat16):
        autocast = hypernet()["a"]
    assert autocast.dtype == torch.float32
    assert torch.equal(autocast, plain)


# ---------------------------------------------------------------- initial values


def torchvision_target(name: str) -> nn.Module:
    return build_target(TorchvisionTarget("torchvision", name, True), Images(3, 32, 10, train=0))


TARGETS = {
    "cnn": lambda: CNN(1, 10, 28),
    "wrn40-2": lambda: WideResNet(3, 10, 40, 2),
    "wrn40-2-paper": lambda: WideResNet(3, 10, 40, 2, **PAPER),
    "wrn16-1": lambda: WideResNet(3, 10, 16, 1),
    "wrn16-1-paper": lambda: WideResNet(3, 10, 16, 1, **PAPER),
    **{
        name: (lambda name=name: torchvision_target(name))
        for name in ("resnet18", "mobilenet_v3_small", "vgg11_bn", "squeezenet1_1", "densenet121", "regnet_y_400mf")
    },
}


NAMED = [pytest.param(name, marks=pytest.mark.slow) if name == "vgg11_bn" else name for name in TARGETS]


def hyper(make, seed: int, **keys) -> HyperModel:
    torch.manual_seed(seed)
    model = with_hypernet(static(**keys), make())
    assert isinstance(model, HyperModel)
    return model


@pytest.mark.parametrize("name", NAMED)
def test_kernels_start_with_the_variance_of_the_targets_own(name):
    make = TARGETS[name]
    generate = "all" if name == "mobilenet_v3_small" else "conv"
    model = hyper(make, seed=0, z_dim=4 if name == "cnn" else 64, generate=generate)
    torch.manual_seed(1)
    direct = make()  # of another seed than the one the hypernet was matched to
    with torch.no_grad():
        for parameter, kernel in model.weights().items():
            ratio = kernel.square().mean() / direct.get_parameter(parameter).square().mean()
            assert 0.5 < ratio < 2, f"{parameter}: variance {ratio:.3g} times that of a direct initialization"


@pytest.mark.parametrize("name", ["cnn", "wrn16-1", "mobilenet_v3_small"])
def test_hyperfan_starts_with_two_over_fan_in(name):
    model = hyper(TARGETS[name], seed=0, init="hyperfan", generate="all")
    with torch.no_grad():
        for parameter, kernel in model.weights().items():
            ratio = kernel.var() * kernel[0].numel() / 2
            assert 0.5 < ratio < 2, f"{parameter}: variance {ratio:.3g} times 2 / fan_in"


def test_ha2016_draws_the_constants_of_the_notebook():
    generator = hyper(TARGETS["wrn16-1"], seed=0, init="ha2016").hypernet.generators["3x3"]
    with torch.no_grad():
        for weight in (generator.w_in, generator.w_out):  # truncated at two standard deviations, which leaves 0.88
            assert weight.abs().max() <= 0.02
            assert weight.std() == pytest.approx(0.0088, rel=0.03)
            assert weight.mean() == pytest.approx(0, abs=5e-4)
        assert (generator.z - 0.01).abs().max() <= 2
        assert generator.z.std() == pytest.approx(0.88, rel=0.03)
        assert not generator.b_in.any()
        assert not generator.b_out.any()


def test_the_schemes_start_apart():
    """The measure above can tell a wrong scale: the notebook's constants are far from the target's variance."""
    model = hyper(TARGETS["cnn"], seed=0, z_dim=4, init="ha2016")
    with torch.no_grad():
        kernel = model.weights()["conv2.weight"]
    assert kernel.std() < 0.1 * CNN(1, 10, 28).conv2.weight.std()


@pytest.mark.parametrize(("name", "z_dim"), [("cnn", 4), ("wrn40-2", 64)])
def test_all_factors_of_a_kernel_start_at_one_scale(name, z_dim):
    """An optimizer that moves every number by the same amount must not move one factor by a large part of itself."""
    for generator in hyper(TARGETS[name], seed=0, z_dim=z_dim).hypernet.generators.values():
        scales = [weight.std().item() for weight in (generator.z, generator.w_in, generator.w_out)]
        assert max(scales) < 3 * min(scales), scales


@pytest.mark.parametrize("value", [torch.zeros(4, 4, 3, 3), torch.full((1, 1, 1, 1), 0.5)], ids=["zeros", "one number"])
def test_initial_values_without_spread_give_finite_kernels(value):
    """Some torchvision models start a layer at zero (vit's head); a kernel can be a single number."""
    reference = {"usual.weight": torch.randn(4, 4, *value.shape[2:]), "odd.weight": value}
    kernels = StaticHypernet(reference, 4, None, (16, 16), "variance_matched")()
    for kernel in kernels.values():
        assert kernel.isfinite().all()
    if not value.any():
        assert not kernels["odd.weight"].any()


# ---------------------------------------------------------------- the cost of generation


class OperatorCount(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def generation_cost(depth: int, width: int) -> tuple[int, int, int]:
    """Return (operators forward and backward, matrix products among them, tiles) of a Wide ResNet's hypernet."""
    model = hyper(lambda: WideResNet(3, 10, depth, width), seed=0, z_dim=4)
    with OperatorCount() as count:
        kernels = list(model.hypernet().values())
    upstream = [torch.ones_like(kernel) for kernel in kernels]
    with count:
        torch.autograd.grad(kernels, list(model.hypernet.parameters()), upstream)
    products = sum(count.calls[name] for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot"))
    return sum(count.calls.values()), products, len(model.hypernet.generators["3x3"].z)


def test_operators_do_not_grow_with_the_number_of_tiles():
    operators, products, tiles = zip(*(generation_cost(10, width) for width in (2, 4, 8)), strict=True)
    assert tiles[2] > 3 * tiles[1] > 9 * tiles[0]
    assert len(set(operators)) == 1, operators
    assert len(set(products)) == 1, products


def test_from_width_1_operators_grow_by_one_kernel_shape_only():
    """Width 1 has no separate 16 -> 16k layer, so one shape of kernel less; 16 times the tiles cost nothing more."""
    narrow, products, tiles = generation_cost(16, 1)
    wide, wide_products, wide_tiles = generation_cost(16, 4)
    assert wide_tiles > 12 * tiles
    assert wide_products == products
    assert wide - narrow <= 16  # forward and backward of one shape


def test_operators_do_not_grow_with_depth():
    shallow, products, _ = generation_cost(16, 2)
    deep, deep_products, _ = generation_cost(40, 2)
    assert deep == shallow
    assert deep_products == products <= 9  # 3 forward, 2 backward for each
