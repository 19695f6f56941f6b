"""What networks whose weights may be generated are made from."""

from __future__ import annotations

from dataclasses import dataclass

from hyperrun.config.checks import check_positive, check_probability, check_widths
from hyperrun.errors import choose


@dataclass
class TargetConfig:
    kind: str
    """Which builder makes the network: a name in hyperrun.targets.TARGETS."""


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


@dataclass
class MLPTarget(TargetConfig):
    """Linear layers on the flattened image."""

    hidden: list[int]
    """Widths of the hidden layers; [] leaves one linear layer."""
    activation: str
    """Between the layers: relu, leaky_relu, elu, gelu, silu or tanh."""

    def __post_init__(self) -> None:
        if self.hidden:
            check_widths("hidden", self.hidden)
        choose("target.activation", self.activation, ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"])


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


@dataclass
class TorchvisionTarget(TargetConfig):
    """Any classification model of torchvision, without pretrained weights."""

    name: str
    """torchvision's name for it: resnet18, vgg11_bn, mobilenet_v3_small, vit_b_16, ..."""
    small_images: bool
    """Adapt the first layers to images of 8 to 64 pixels: stride 1 in the first convolution and, in
    ResNets, ShuffleNets and DenseNets, no pooling right after it."""


@dataclass
class SirenTarget(TargetConfig):
    """SIREN: a network of sines from coordinates to colour (Sitzmann et al. 2020)."""

    hidden_size: int
    """Sines in each layer."""
    layers: int
    """Layers of sines; a linear layer follows."""
    omega_0: float | None
    """Factor inside the sines of the first layer; null means pi / 4 for each pixel of the images' side (25 for 32
    pixels; 30 in the paper). The larger it is, the finer the detail, between the pixels too."""
    hidden_omega_0: float
    """Factor inside the sines of the other layers (30 in the paper). Their initial weights are divided by it, so that
    it changes nothing at the start, but what a learning rate means to them."""

    def __post_init__(self) -> None:
        check_positive("hidden_size", self.hidden_size)
        check_positive("layers", self.layers)
        if self.omega_0 is not None and not self.omega_0 > 0:
            raise ValueError(f"omega_0 must be positive or null, not {self.omega_0}")
        if not self.hidden_omega_0 > 0:
            raise ValueError(f"hidden_omega_0 must be positive, not {self.hidden_omega_0}")


@dataclass
class RecurrentTarget(TargetConfig):
    """A language model: tokens, recurrent layers, a linear output layer (Ha et al. sections 4.3, 4.4 and A.3)."""

    cell: str
    """rnn, lstm or lnlstm (an LSTM with layer norm on each gate and on the cell's output, and so without gate bias)."""
    hidden_size: int
    """Nh: units in each layer."""
    layers: int
    """Recurrent layers, one on top of the other."""
    embedding: int | None
    """Size of a learned embedding of the tokens; null feeds them one-hot, as in the paper."""
    tied: bool
    """Use the embedding's matrix as the output layer's; needs embedding = hidden_size."""
    dropout_in: float
    """Probability of dropping each number that enters the first layer."""
    dropout_out: float
    """Probability of dropping each number that leaves the last layer."""
    recurrent_dropout: float
    """Probability of dropping each candidate tanh(g), a fresh mask at each step (Semeniuta et al. 2016); LSTMs only."""
    forget_bias: float
    """Added to the forget gate inside its sigmoid, after any layer norm; LSTMs only."""

    def __post_init__(self) -> None:
        choose("target.cell", self.cell, ["rnn", "lstm", "lnlstm"])
        check_positive("hidden_size", self.hidden_size)
        check_positive("layers", self.layers)
        if self.embedding is not None:
            check_positive("embedding", self.embedding)
        if self.tied and self.embedding != self.hidden_size:
            raise ValueError(f"tied needs embedding = hidden_size = {self.hidden_size}, not {self.embedding}")
        for name in ("dropout_in", "dropout_out", "recurrent_dropout"):
            check_probability(name, getattr(self, name))
        if self.cell == "rnn" and self.recurrent_dropout:
            raise ValueError("recurrent_dropout acts on the candidate of an LSTM; with cell=rnn it must be 0")
