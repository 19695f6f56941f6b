"""What generates weights."""

from __future__ import annotations

from dataclasses import dataclass

from hyperrun.config.checks import check_positive, check_probability, check_widths
from hyperrun.errors import choose

GENERATE = ["conv", "linear", "all", "everything"]
HYPERNET_INITS = ["variance_matched", "hyperfan", "hyperfan_out"]


@dataclass
class HypernetConfig:
    kind: str
    """Which hypernet generates weights: a name in hyperrun.hypernets.HYPERNETS; none trains the target directly."""


@dataclass
class NoHypernet(HypernetConfig):
    """The target's own weights are trained."""


@dataclass
class SelectingHypernet(HypernetConfig):
    """A hypernet for any target, with the choice of what is generated."""

    generate: str
    """Which weights are generated: conv, linear or all (both), of which the first and last layer stay free;
    or everything: all parameters that `exclude` does not match, with biases and norm scales."""
    include: list[str]
    """Name patterns (conv2.weight, groups.0): if any are given, the matching weights are generated, and no others."""
    exclude: list[str]
    """Name patterns of parameters that stay free, also among those that `include` matches."""

    def __post_init__(self) -> None:
        choose("hypernet.generate", self.generate, GENERATE)


@dataclass
class StaticHypernet(SelectingHypernet):
    """The two-layer linear generator of Ha et al. section 3.1, eqs. 2 and 3."""

    z_dim: int
    """Nz: numbers in the embedding of each tile."""
    hidden_dim: int | None
    """d: width of the layer between W_i and W_out; null means z_dim, as in the paper."""
    tile: list[int]
    """[input channels, output channels] of the basic kernel; larger kernels are put together from tiles."""
    init: str
    """variance_matched: each kernel starts with the variance the target's own initialization gave it; hyperfan and
    hyperfan_out: as Chang et al. (2020), for ReLU: 2 / fan_in (1 / fan_in
    where the bias is generated too) and 2 / fan_out; ha2016: the author's notebook's constants."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("z_dim", self.z_dim)
        if self.hidden_dim is not None:
            check_positive("hidden_dim", self.hidden_dim)
        if len(self.tile) != 2 or min(self.tile) < 1:
            raise ValueError("tile must be two positive numbers, [input channels, output channels]")
        choose("hypernet.init", self.init, [*HYPERNET_INITS, "ha2016"])


@dataclass
class EmbeddedMLP(SelectingHypernet):
    """What the hypernets that are an MLP on learned embeddings share."""

    z_dim: int
    """Numbers in each embedding."""
    hidden: list[int]
    """Widths of the MLP's hidden layers."""
    init: str
    """variance_matched, hyperfan or hyperfan_out, as in the static hypernet."""
    residual: bool
    """Generate the difference to weights theta_0 that are learned, too (Ortiz et al. 2024)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("z_dim", self.z_dim)
        check_widths("hidden", self.hidden)
        choose("hypernet.init", self.init, HYPERNET_INITS)


@dataclass
class ChunkedHypernet(EmbeddedMLP):
    """One MLP from (layer embedding, chunk embedding) to chunks of weights (von Oswald et al. 2020).

    On tasks, or a latent for each image, a third embedding comes first: that of the task or image.
    """

    chunk_size: int
    """Numbers made at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("chunk_size", self.chunk_size)


@dataclass
class MLPHypernet(EmbeddedMLP):
    """One embedding (on tasks: one for each), one MLP, a head for each generated parameter: more parameters than the
    target has."""


@dataclass
class AutoDecoderHypernet(EmbeddedMLP):
    """A latent for each training image, learned together with the MLP that makes weights of it (Park et al. 2019).

    What becomes of images that have no latent yet stands here too: theirs is fitted, with the hypernet as it is.
    """

    generator: str
    """mlp (all weights at once) or chunked (a chunk at a time), as in the hypernets of these names."""
    chunk_size: int
    """Numbers made at a time by generator=chunked."""
    latent_std: float
    """Standard deviation of the latents' numbers at the start."""
    latent_l2: float
    """Coefficient of a latent's squared norm, which is added to its image's mean squared error: the Gaussian prior."""
    points: int | None
    """Most pixels of each image that a training step looks at, drawn anew for each batch; null means all."""
    fit_steps: int
    """Steps of Adam that fit the latent of a held-out image, from the mean of the training images' latents."""
    fit_lr: float
    """Learning rate of the first of them, in units of the training latents' standard deviation; it falls to zero along
    half a cosine."""
    test_images: int | None
    """Test images that are fitted, evenly spaced in the split; null means all. summary.json says how many they were."""
    val_images: int | None
    """The same of the validation split, so that validations during training stay cheap."""
    val_fit_steps: int
    """Steps that fit a latent in a validation; fewer than fit_steps: they only have to rank checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("hypernet.generator", self.generator, ["mlp", "chunked"])
        for name in ("chunk_size", "points", "fit_steps", "test_images", "val_images", "val_fit_steps"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in ("latent_std", "fit_lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.latent_l2 < 0:
            raise ValueError(f"latent_l2 must not be negative, not {self.latent_l2}")


@dataclass
class DynamicHypernet(HypernetConfig):
    """A small recurrent network beside each recurrent layer, which changes its weights at every step (section 3.2)."""

    hyper_size: int
    """Units in the hyper cell."""
    z_dim: int
    """Nz: numbers in each embedding that the hyper cell emits; a HyperLSTM has 12 of them, one per matrix and gate."""
    form: str
    """scaled (embeddings scale the rows of one matrix, eqs. 7 and 8) or full (whole matrices are mixed, eqs. 4 to 6: Nz
    times the memory; cell=rnn only)."""
    z_from: str
    """Which state of the hyper cell makes the embeddings: new (the author's code) or previous (eqs. 6 and 11)."""
    init: str
    """symmetry_broken, or paper: the printed constants, with which all columns of the scaling path stay equal for ever,
    so that it has rank 1 whatever z_dim is. Both start with every scale at 0.1."""
    recurrent_dropout: float
    """Recurrent dropout of the hyper cell; the paper has it only in its largest model."""
    forget_bias: float
    """Added to the hyper cell's forget gate inside its sigmoid; LSTMs only."""
    fast: str
    """auto (the whole sequence in one hand-differentiated function where that is supported) or never (step by step)."""

    def __post_init__(self) -> None:
        check_positive("hyper_size", self.hyper_size)
        check_positive("z_dim", self.z_dim)
        choose("hypernet.form", self.form, ["scaled", "full"])
        choose("hypernet.z_from", self.z_from, ["new", "previous"])
        choose("hypernet.init", self.init, ["symmetry_broken", "paper"])
        choose("hypernet.fast", self.fast, ["auto", "never"])
        check_probability("recurrent_dropout", self.recurrent_dropout)
