"""Any classification model of torchvision, fitted to the data's channels, classes and image size."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from hyperrun.config import TargetConfig
from hyperrun.errors import UserError, choose
from hyperrun.inputs import Images
from hyperrun.registry import register


@dataclass
class TorchvisionTarget(TargetConfig):
    """Any classification model of torchvision, without pretrained weights."""

    name: str
    """torchvision's name for it: resnet18, vgg11_bn, mobilenet_v3_small, vit_b_16, ..."""
    small_images: bool
    """Adapt the first layers to images of 8 to 64 pixels: stride 1 in the first convolution and, in
    ResNets, ShuffleNets and DenseNets, no pooling right after it."""


def classification_models() -> list[str]:
    """Return the names torchvision knows, sorted."""
    import torchvision  # takes two seconds, which only its own models should cost

    return sorted(torchvision.models.list_models(module=torchvision.models))


@register("target", "torchvision", TorchvisionTarget, takes="images")
def build_torchvision(cfg: TorchvisionTarget, inputs: Images) -> nn.Module:
    """Return torchvision's model `cfg.name`, without pretrained weights.

    Raises:
        UserError: an unknown name, or images too small for the model.
    """
    import torchvision

    choose("target.name", cfg.name, classification_models())
    builder = torchvision.models.get_model_builder(cfg.name)
    options = builder_options(cfg.name, inputs.classes, inputs.size)
    try:
        model = builder(**options)
    except (RuntimeError, AssertionError, ValueError):
        raise UserError(
            f"{cfg.name} cannot take images of {inputs.size}x{inputs.size} pixels (vit: a multiple of the patch)"
        ) from None
    _set_input(model, inputs.channels, cfg.small_images)
    _check_size(model, cfg, inputs.channels, inputs.size)
    return model


def builder_options(name: str, num_classes: int, image_size: int) -> dict[str, object]:
    """Return what torchvision's function for the model is called with."""
    options: dict[str, object] = {"weights": None, "num_classes": num_classes}
    if "inception" in name or name == "googlenet":
        options |= {"aux_logits": False, "init_weights": True}  # one output, as every other model has
    if name.startswith("vit_"):
        options["image_size"] = image_size
    if name.startswith("maxvit"):
        options["input_size"] = (image_size, image_size)
    return options


def _set_input(model: nn.Module, in_channels: int, small_images: bool) -> None:
    """Replace the first convolution where its channels or, for small images, its stride have to change."""
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    is_patch = (
        conv.stride == conv.kernel_size and conv.kernel_size[0] > 1
    )  # ViT, Swin, ConvNeXt: the stride is the patch
    shrink = small_images and max(conv.stride) > 1 and not is_patch
    if conv.in_channels != in_channels or shrink:
        new = nn.Conv2d(in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None)
        if not shrink:
            new = copy.deepcopy(conv)
            new.in_channels = in_channels
            new.weight = nn.Parameter(torch.empty(conv.out_channels, in_channels, *conv.kernel_size))
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        if new.bias is not None:
            nn.init.zeros_(new.bias)
        model.set_submodule(name, new)
    if small_images:  # the pooling right after the first convolution: ResNets and ShuffleNets; DenseNets
        if isinstance(getattr(model, "maxpool", None), nn.MaxPool2d):
            model.set_submodule("maxpool", nn.Identity())
        elif isinstance(getattr(getattr(model, "features", None), "pool0", None), nn.MaxPool2d):
            model.set_submodule("features.pool0", nn.Identity())


def _check_size(model: nn.Module, cfg: TorchvisionTarget, in_channels: int, image_size: int) -> None:
    """Run shapes only, on the meta device, so that too small an image is found before training."""
    probe = torch.empty(2, in_channels, image_size, image_size, device="meta")
    params = {k: v.to("meta") for k, v in [*model.named_parameters(), *model.named_buffers()]}
    try:
        torch.func.functional_call(model, params, (probe,))
    except (RuntimeError, ValueError) as error:
        hint = "" if cfg.small_images else "; target.small_images=true keeps the first layers from shrinking them"
        reason = str(error).splitlines()[0]
        raise UserError(f"{cfg.name} cannot take images of {image_size}x{image_size} pixels{hint} ({reason})") from None
