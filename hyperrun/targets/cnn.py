"""The two-convolution network of Ha et al. section 4.1."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import CNNTarget
from hyperrun.errors import UserError


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


def build_cnn(cfg: CNNTarget, in_channels: int, num_classes: int, image_size: int) -> CNN:
    return CNN(in_channels, num_classes, image_size, (cfg.channels[0], cfg.channels[1]), cfg.kernel_size)
