"""Pre-activation Wide ResNet (Zagoruyko and Komodakis 2016), with the variants that Ha et al.'s counts need."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import TargetConfig, check_probability
from hyperrun.errors import choose
from hyperrun.inputs import Images
from hyperrun.registry import register


@dataclass
class WideResNetTarget(TargetConfig):
    """Pre-activation Wide ResNet (Zagoruyko and Komodakis 2016)."""

    depth: int
    """Number of layers, 6n + 4 (16, 22, 28, 40, ...): n blocks in each of three groups."""
    width: int
    """Widening factor k: 16k, 32k and 64k channels."""
    shortcut: str
    """conv1x1 (the usual Wide ResNet) or zero_pad (no parameters: subsample, then pad the new channels with zeros)."""
    conv_bias: bool
    """Whether every convolution has a bias (the paper's parameter counts need it)."""
    stem_norm: bool
    """Whether a batch norm and ReLU follow the first convolution (the paper's parameter counts need it)."""
    dropout: float
    """Probability of dropping an activation between the two convolutions of a block."""

    def __post_init__(self) -> None:
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4 (10, 16, 22, 28, 34, 40, ...), not {self.depth}")
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")
        choose("target.shortcut", self.shortcut, ["conv1x1", "zero_pad"])
        check_probability("dropout", self.dropout)


class ZeroPad(nn.Module):
    """Parameter-free shortcut: average-pool by the stride, then zeros for the new channels, half before, half after."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        before = (out_channels - in_channels) // 2
        self.pad = (0, 0, 0, 0, before, out_channels - in_channels - before)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)  # of odd sizes, as the strided convolution makes them
        return F.pad(x, self.pad)


class Block(nn.Module):
    """norm, ReLU, 3x3 conv, norm, ReLU, (dropout,) 3x3 conv, plus the shortcut."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, shortcut: str, conv_bias: bool, dropout: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=conv_bias)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=conv_bias)
        self.dropout = dropout
        self.shortcut: nn.Module | None = None
        self.projects = False  # a 1x1 shortcut sees the activated input, as in the original; a padded one the raw input
        if stride > 1 or in_channels != channels:
            self.projects = shortcut == "conv1x1"
            if self.projects:
                self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            else:
                self.shortcut = ZeroPad(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm1(x))
        if self.shortcut is not None:
            x = self.shortcut(a if self.projects else x)
        h = F.relu(self.norm2(self.conv1(a)))
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        return x + self.conv2(h)


class WideResNet(nn.Module):
    """Wide ResNet of `depth` 6n + 4 and widening factor `width`.

    Input float [B, in_channels, H, W]; output logits [B, num_classes].

    Parameters for CIFAR-10, 40-1 / 40-2: 563,930 / 2,243,546 as it stands; 562,762 / 2,235,530 with zero-padded
    shortcuts, convolution biases and a norm after the first convolution (the counts Ha et al. print).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        depth: int = 40,
        width: int = 2,
        shortcut: str = "conv1x1",
        conv_bias: bool = False,
        stem_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=conv_bias)
        self.norm1 = nn.BatchNorm2d(16) if stem_norm else None
        channels = 16
        groups = []
        for stride, base in ((1, 16), (2, 32), (2, 64)):
            blocks = []
            for i in range((depth - 4) // 6):
                blocks.append(Block(channels, base * width, stride if i == 0 else 1, shortcut, conv_bias, dropout))
                channels = base * width
            groups.append(nn.Sequential(*blocks))
        self.groups = nn.Sequential(*groups)
        self.norm = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if self.norm1 is not None:
            x = F.relu(self.norm1(x))
        x = F.relu(self.norm(self.groups(x)))
        return self.fc(x.mean((2, 3)))


@register("target", "wide_resnet", WideResNetTarget, takes="images")
def build_wide_resnet(cfg: WideResNetTarget, inputs: Images) -> WideResNet:
    return WideResNet(
        inputs.channels, inputs.classes, cfg.depth, cfg.width, cfg.shortcut, cfg.conv_bias, cfg.stem_norm, cfg.dropout
    )
