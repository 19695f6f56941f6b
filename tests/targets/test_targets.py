"""Targets: structure, parameter counts, initial values, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.errors import UserError
from hyperrun.inputs import Images
from hyperrun.registry import choices
from hyperrun.targets import build_target
from hyperrun.targets.cnn import CNNTarget
from hyperrun.targets.mlp import MLPTarget
from hyperrun.targets.torchvision_models import TorchvisionTarget, classification_models
from hyperrun.targets.wide_resnet import WideResNet, WideResNetTarget

VARIANTS: dict[str, dict[str, Any]] = {
    "modern": {"shortcut": "conv1x1", "conv_bias": False, "stem_norm": False},
    "paper": {"shortcut": "zero_pad", "conv_bias": True, "stem_norm": True},
    "zero_pad": {"shortcut": "zero_pad", "conv_bias": False, "stem_norm": False},
}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def tv(name: str, small: bool = True, channels: int = 3, classes: int = 10, size: int = 32) -> nn.Module:
    return build_target(TorchvisionTarget("torchvision", name, small), Images(channels, size, classes, train=0))


# ---------------------------------------------------------------- the paper's CNN


def test_cnn_computes_conv_relu_pool_twice_and_a_linear_layer():
    model = build_target(CNNTarget("cnn", [4, 6], 5), Images(3, 9, 7, train=0))
    w = dict(model.named_parameters())
    x = torch.randn(2, 3, 9, 9)
    h = F.max_pool2d(F.relu(F.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=2)), 2)
    h = F.max_pool2d(F.relu(F.conv2d(h, w["conv2.weight"], w["conv2.bias"], padding=2)), 2)
    torch.testing.assert_close(model(x), h.flatten(1) @ w["fc.weight"].T + w["fc.bias"])


def test_cnn_on_mnist_has_21210_parameters():
    model = build_target(CNNTarget("cnn", [16, 16], 7), Images(1, 28, 10, train=0))
    assert count(model) == 21_210
    assert model.get_parameter("conv2.weight").numel() == 12_544


@pytest.mark.parametrize("size", [4, 5, 8, 28, 30, 32])
def test_cnn_takes_any_image_of_4_pixels_and_more(size):
    assert build_target(CNNTarget("cnn", [2, 2], 3), Images(1, size, 10, train=0))(
        torch.randn(2, 1, size, size)
    ).shape == (2, 10)


def test_cnn_refuses_images_that_cannot_be_halved_twice():
    with pytest.raises(UserError, match="at least 4x4"):
        build_target(CNNTarget("cnn", [2, 2], 3), Images(1, 3, 10, train=0))


# ---------------------------------------------------------------- Wide ResNet


def literal_wide_resnet(model: WideResNet, x: Tensor, depth: int, width: int, variant: dict[str, Any]) -> Tensor:
    """The network in eval mode, written out with functions over its state dict."""
    w = model.state_dict()

    def conv(name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), stride, padding)

    def act(name: str, x: Tensor) -> Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.relu(F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"]))

    x = conv("conv1", x)
    if variant["stem_norm"]:
        x = act("norm1", x)
    channels = 16
    for group, stride in enumerate((1, 2, 2)):
        for i in range((depth - 4) // 6):
            name, out, s = f"groups.{group}.{i}", 16 * width * 2**group, stride if i == 0 else 1
            a = act(f"{name}.norm1", x)
            h = conv(f"{name}.conv2", act(f"{name}.norm2", conv(f"{name}.conv1", a, s)))
            if s > 1 or channels != out:
                if variant["shortcut"] == "conv1x1":
                    x = conv(f"{name}.shortcut", a, s, padding=0)
                else:
                    x = F.avg_pool2d(x, s)
                    zeros = x.new_zeros(len(x), (out - channels) // 2, *x.shape[2:])
                    x = torch.cat([zeros, x, zeros], dim=1)
            x, channels = x + h, out
    return act("norm", x).mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_wide_resnet_equals_the_network_written_out(variant, depth, width):
    torch.manual_seed(0)
    keys = VARIANTS[variant]
    model = WideResNet(3, 10, depth, width, **keys).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    model(x)  # batch norm statistics that are neither 0 nor 1
    model.eval()
    torch.testing.assert_close(model(x), literal_wide_resnet(model, x, depth, width, keys))


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 4), (28, 10), (40, 2)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_wide_resnet_counts_follow_the_arithmetic(variant, depth, width, classes):
    keys = VARIANTS[variant]
    convs = [(3, 16, 3)]
    norms, channels = ([16] if keys["stem_norm"] else []), 16
    for out in (16 * width, 32 * width, 64 * width):
        for i in range((depth - 4) // 6):
            if keys["shortcut"] == "conv1x1" and i == 0 and (channels != out or out > 16 * width):
                convs.append((channels, out, 1))
            convs += [(channels, out, 3), (out, out, 3)]
            norms += [channels, out]
            channels = out
    norms.append(channels)
    expected = sum(a * b * f * f for a, b, f in convs) + 2 * sum(norms) + channels * classes + classes
    if keys["conv_bias"]:
        expected += sum(out for _, out, f in convs if f == 3)
    with torch.device("meta"):
        cfg = WideResNetTarget("wide_resnet", depth, width, dropout=0.0, **keys)
        assert count(build_target(cfg, Images(3, 32, classes, train=0))) == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_wide_resnet_starts_with_he_initialization(variant):
    torch.manual_seed(0)
    model = WideResNet(3, 10, 10, 2, **VARIANTS[variant])
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.square().mean().item() * fan_out / 2 == pytest.approx(1, rel=0.3), name
            assert module.bias is None or not module.bias.any()


def test_wide_resnet_drops_activations_in_training_only():
    cfg = WideResNetTarget("wide_resnet", 10, 1, dropout=0.5, **VARIANTS["modern"])
    model = build_target(cfg, Images(3, 8, 10, train=0))
    x = torch.randn(2, 3, 8, 8)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


# ---------------------------------------------------------------- torchvision


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        ("resnet18", 1, 8),
        ("mobilenet_v3_small", 1, 28),
        ("squeezenet1_1", 3, 32),
        ("shufflenet_v2_x0_5", 3, 32),
        ("efficientnet_b0", 3, 32),
        ("mnasnet0_5", 3, 32),
        ("regnet_y_400mf", 3, 32),
    ],
)
def test_torchvision_models_take_small_images(name, channels, size):
    torch.manual_seed(0)
    model = tv(name, channels=channels, classes=5, size=size)
    logits = model(torch.randn(2, channels, size, size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["vit_b_16", "convnext_tiny", "densenet121", "swin_t"])
def test_torchvision_models_build_without_memory(name):
    """On the meta device, as `hyperrun ls` counts them."""
    with torch.device("meta"):
        assert count(tv(name)) > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in classification_models() if "regnet" not in n])  # they need real numbers
def test_every_torchvision_model_builds_at_its_own_size(name):
    size = 518 if name == "vit_h_14" else 224
    with torch.device("meta"):
        tv(name, small=False, size=size)


def test_small_images_keep_their_size_through_the_first_layers():
    model = tv("resnet18")
    shapes = []
    model.get_submodule("layer1").register_forward_hook(lambda _, args, __: shapes.append(args[0].shape[2:]))
    model(torch.randn(2, 3, 32, 32))
    assert shapes == [(32, 32)]


def test_large_images_find_torchvisions_own_model():
    torch.manual_seed(0)
    model = tv("resnet18", small=False, size=64)
    torch.manual_seed(0)
    own = torchvision.models.resnet18(num_classes=10)
    assert str(model) == str(own)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), own.parameters(), strict=True))


def test_torchvision_models_start_untrained_and_differ_by_seed():
    torch.manual_seed(0)
    one = tv("resnet18")
    torch.manual_seed(1)
    assert not torch.equal(one.get_parameter("fc.weight"), tv("resnet18").get_parameter("fc.weight"))


def test_other_channels_replace_the_first_convolution_only():
    grey, colour = tv("resnet18", small=False, channels=1, size=64), tv("resnet18", small=False, size=64)
    changed = [n for (n, a), b in zip(grey.named_parameters(), colour.parameters(), strict=True) if a.shape != b.shape]
    assert changed == ["conv1.weight"]
    assert grey.get_parameter("conv1.weight").shape == (64, 1, 7, 7)


@pytest.mark.parametrize(
    ("name", "small", "size", "message"),
    [
        ("resnet81", True, 32, r"unknown target\.name 'resnet81'; did you mean 'resnet18'\?"),
        ("vgg11_bn", True, 8, "vgg11_bn cannot take images of 8x8 pixels"),
        ("squeezenet1_1", False, 8, "target.small_images=true keeps"),
        ("vit_b_16", True, 28, "multiple of the patch"),
    ],
)
def test_what_torchvision_cannot_build_is_refused_in_one_line(name, small, size, message):
    with pytest.raises(UserError, match=message) as error, torch.device("meta"):
        tv(name, small, size=size)
    assert "\n" not in str(error.value)


def test_every_kind_of_target_is_built_from_its_config():
    built = {
        "cnn": CNNTarget("cnn", [2, 2], 3),
        "mlp": MLPTarget("mlp", [5], "relu"),
        "wide_resnet": WideResNetTarget("wide_resnet", 10, 1, dropout=0.0, **VARIANTS["modern"]),
        "torchvision": TorchvisionTarget("torchvision", "squeezenet1_1", True),
    }
    assert built.keys() == {name for name, one in choices("target").items() if one.facts["takes"] == "images"}
    for cfg in built.values():
        assert build_target(cfg, Images(2, 16, 4, train=0))(torch.randn(2, 2, 16, 16)).shape == (2, 4)
