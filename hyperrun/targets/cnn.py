"""The two-convolution network of Ha et al. section 4.1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import TargetConfig
from hyperrun.errors import UserError
from hyperrun.inputs import Images
from hyperrun.registry import register


@dataclass
class CNNTarget(TargetConfig):
    """The small network of Ha et al. section 4.1: two convolutions with ReLU and 2x2 pooling, one linear layer."""

    channels: list[int]
    """Output channels of the two convolutions."""
    kernel_size: int
    """Odd side of both square kernels, in pixels."""

    def __post_init__(self) -> None:
        if len(self.channels) != 2 or min(self.channels) < 1:
            raise ValueError("channels must be two positive numbers, e.g. [16,16]")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, not {self.kernel_size}")


class CNN(nn.Module):
    """conv, ReLU, 2x2 max-pool, twice; then one linear layer. Convolutions keep the image size.

    Input float [B, in_channels, H, W] with H, W >= 4; output logits [B, num_classes]. With 28x28 images of one channel,
    channels (16, 16), kernel size 7 and 10 classes it has the 21,210 parameters of the author's notebook.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        channels: tuple[int, int] = (16, 16),
        kernel_size: int = 7,
    ) -> None:
        super().__init__()
        if image_size < 4:
            raise UserError(f"target=cnn halves the image twice and needs at least 4x4 pixels, not {image_size}")
        self.conv1 = nn.Conv2d(in_channels, channels[0], kernel_size, padding="same")
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernel_size, padding="same")
        self.fc = nn.Linear(channels[1] * (image_size // 4) ** 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


@register("target", "cnn", CNNTarget, takes="images")
def build_cnn(cfg: CNNTarget, inputs: Images) -> CNN:
    channels = (cfg.channels[0], cfg.channels[1])
    return CNN(inputs.channels, inputs.classes, inputs.size, channels, cfg.kernel_size)
