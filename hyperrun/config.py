"""The one place where a config becomes typed and checked.

YAML under conf/ holds the values; the dataclasses here hold the types, the meaning of every key (the text under the
field) and the checks. `from_omegaconf` turns what Hydra composed, or a saved config.yaml, into a `Config`.

Fields carry no defaults, so that a value is written down once, in YAML. A field added after 0.1 gets a default here,
so that older run folders still load.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from hyperrun.errors import UserError, choose, nearest

# ---------------------------------------------------------------- targets


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


# ---------------------------------------------------------------- hypernets


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
    """Which kinds of weights are generated: conv, linear or all; the first and last layer stay free."""
    include: list[str]
    """Name patterns (conv2.weight, groups.0): if any are given, the matching weights are generated, and no others."""
    exclude: list[str]
    """Name patterns of parameters that stay free, also among those that `include` matches."""

    def __post_init__(self) -> None:
        choose("hypernet.generate", self.generate, ["conv", "linear", "all"])


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
    hyperfan_out: with 2 / fan_in and 2 / fan_out (Chang et al. 2020); ha2016: the author's notebook's constants."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("z_dim", self.z_dim)
        if self.hidden_dim is not None:
            check_positive("hidden_dim", self.hidden_dim)
        if len(self.tile) != 2 or min(self.tile) < 1:
            raise ValueError("tile must be two positive numbers, [input channels, output channels]")
        choose("hypernet.init", self.init, [*HYPERNET_INITS, "ha2016"])


@dataclass
class ChunkedHypernet(SelectingHypernet):
    """One MLP from (layer embedding, chunk embedding) to chunks of weights (von Oswald et al. 2020)."""

    z_dim: int
    """Numbers in the embedding of each layer, and as many in that of each chunk."""
    hidden: list[int]
    """Widths of the MLP's hidden layers."""
    chunk_size: int
    """Numbers made at a time."""
    init: str
    """variance_matched, hyperfan or hyperfan_out, as in the static hypernet."""
    residual: bool
    """Generate the difference to weights theta_0 that are learned, too (Ortiz et al. 2024): no compression."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("z_dim", self.z_dim)
        check_positive("chunk_size", self.chunk_size)
        check_widths("hidden", self.hidden)
        choose("hypernet.init", self.init, HYPERNET_INITS)


@dataclass
class MLPHypernet(SelectingHypernet):
    """One embedding, one MLP, a head for each generated parameter: more parameters than the target has."""

    z_dim: int
    """Numbers in the one embedding."""
    hidden: list[int]
    """Widths of the hidden layers, of which the last is the heads' input."""
    init: str
    """variance_matched, hyperfan or hyperfan_out, as in the static hypernet."""
    residual: bool
    """Start the heads' biases with the target's own weights (Ortiz et al. 2024)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("z_dim", self.z_dim)
        check_widths("hidden", self.hidden)
        choose("hypernet.init", self.init, HYPERNET_INITS)


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


# ---------------------------------------------------------------- data


@dataclass
class DataConfig:
    kind: str
    """What sort of data it is: images or text; the task follows from it."""
    name: str
    """Which data set: a name in hyperrun.data.DATASETS (images) or TEXT_DATASETS (text)."""
    root: str | None
    """Folder that holds the data set's files; null means $HYPERRUN_DATA, else the per-user cache."""
    verify: bool
    """Refuse files whose checksum differs from the published one. false is recorded in summary.json."""
    epochs: int
    """Training length when neither trainer.epochs nor trainer.max_steps is given."""

    def __post_init__(self) -> None:
        check_positive("epochs", self.epochs)


@dataclass
class ImageData(DataConfig):
    """A set of labelled images of one size, held as uint8."""

    val_size: int
    """Training examples set aside for validation (model selection, early stop)."""
    split_seed: int
    """Seed of that draw: the same for every run, so that seeds are compared on the same split."""
    image_size: int | None
    """Side in pixels to which an image folder's pictures are scaled and cropped; null where the set fixes it."""
    crop_padding: int
    """Zeros added on each side before a random crop of the original size; 0 turns cropping off."""
    flip: bool
    """Random horizontal flips."""
    cutout: int
    """Side in pixels of a square set to the mean colour at a random place; 0 turns it off."""
    loader: str
    """device: the whole set on the device; dataloader: worker processes; auto: device when it fits."""
    workers: int
    """Worker processes of the dataloader path."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("val_size", self.val_size)
        choose("data.loader", self.loader, ["auto", "device", "dataloader"])
        for name in ("crop_padding", "cutout", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass
class TextData(DataConfig):
    """A text as one long row of symbols, read in order by streams that carry their state from chunk to chunk."""

    path: str | None
    """The file that data=text reads; null for every other set."""
    unit: str
    """What a symbol is: char, word (parted by white space; the end of a line is <eos>) or byte."""
    encoding: str
    """How the file's bytes stand for characters (utf-8, latin-1, ...); for byte, how a prompt becomes bytes."""
    val_fraction: float | None
    """Part of the text kept for validation, after the training part; null where the set brings its own split."""
    test_fraction: float | None
    """Part of the text kept for the test, at its end; null where the set brings its own split."""
    sequence_length: int
    """Steps of truncated back-propagation: symbols in one chunk of a stream."""
    eval_streams: int
    """Equal pieces into which an evaluation cuts a split, so that they can be read side by side; 1 reads it in one
    go. Belongs to the figure: it does not depend on trainer.eval_batch_size, which says how many are read at a time."""
    eval_burn_in: int
    """Symbols before each piece that are read to warm the state up and are not scored there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("data.unit", self.unit, ["char", "word", "byte"])
        try:
            "".encode(self.encoding)  # knows only encodings of text, unlike codecs.lookup
        except LookupError:
            raise ValueError(f"encoding '{self.encoding}' is none that Python knows (utf-8, latin-1, ...)") from None
        for name in ("sequence_length", "eval_streams"):
            check_positive(name, getattr(self, name))
        if self.eval_burn_in < 0:
            raise ValueError(f"eval_burn_in must not be negative, not {self.eval_burn_in}")
        parts = [part for part in (self.val_fraction, self.test_fraction) if part is not None]
        if len(parts) == 1 or any(part <= 0 for part in parts) or sum(parts) >= 1:
            raise ValueError(
                "val_fraction and test_fraction must be positive with a sum below 1, or both null where the set brings "
                f"its own split, not {self.val_fraction} and {self.test_fraction}"
            )


# ---------------------------------------------------------------- optimization


DECAY_KINDS = ["weights", "hypernet", "embeddings", "norms", "biases"]


@dataclass
class OptimConfig:
    kind: str
    """sgd, adam, adamw or muon."""
    lr: float
    """Peak learning rate; the schedule scales it."""
    weight_decay: float
    """Coefficient of the decay (sgd, adam: added to the gradient as L2; adamw, muon: decoupled)."""
    decay_on: list[str]
    """What weight_decay applies to: any of weights (matrices and kernels of the target), hypernet (its matrices),
    embeddings (the hypernet's z, embedding tables), norms, biases."""
    generated_l2: float
    """The paper's L2 on generated kernels: generated_l2 / 2 times the sum of their squares is added to the loss, which
    is what a weight_decay of this value does to a directly trained kernel."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, not {self.lr}")
        for kind in self.decay_on:
            choose("entry in optim.decay_on", kind, DECAY_KINDS)
        if self.weight_decay < 0 or self.generated_l2 < 0:
            raise ValueError("weight_decay and generated_l2 must not be negative")


@dataclass
class SGDConfig(OptimConfig):
    momentum: float
    """Factor on the running gradient."""
    nesterov: bool
    """Nesterov's form of momentum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("momentum", self.momentum)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0 (or optim.nesterov=false)")


@dataclass
class AdamConfig(OptimConfig):
    """Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019)."""

    betas: list[float]
    """Decay rates of the first and second moment."""
    eps: float
    """Added to the denominator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas(self.betas)
        if self.eps < 0:
            raise ValueError(f"eps must not be negative, not {self.eps}")


@dataclass
class MuonConfig(OptimConfig):
    """Muon for matrices (two-dimensional weights), AdamW for everything else."""

    momentum: float
    """Factor on the running gradient of the matrices."""
    adamw_lr: float
    """Peak learning rate of the parameters that are not matrices."""
    betas: list[float]
    """AdamW's decay rates for the parameters that are not matrices."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("momentum", self.momentum)
        check_betas(self.betas)
        if not self.adamw_lr > 0:
            raise ValueError(f"adamw_lr must be positive, not {self.adamw_lr}")


@dataclass
class ScheduleConfig:
    kind: str
    """constant, cosine, one_cycle or multi_step: a pure function of the step."""
    warmup_steps: int
    """Steps over which the learning rate rises linearly from zero before the schedule proper."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ValueError("warmup_steps must not be negative")


@dataclass
class ConstantSchedule(ScheduleConfig):
    """The peak learning rate throughout."""


@dataclass
class CosineSchedule(ScheduleConfig):
    """Half a cosine from the peak to final_factor times the peak."""

    final_factor: float
    """Learning rate that is reached when the last step is done, as a fraction of the peak."""


@dataclass
class OneCycleSchedule(ScheduleConfig):
    """Linear rise to the peak, then linear fall (Smith and Topin 2019)."""

    peak_at: float
    """Where the peak lies, as a fraction of the training length."""
    initial_factor: float
    """Learning rate at the first step, as a fraction of the peak."""
    final_factor: float
    """Learning rate that is reached when the last step is done, as a fraction of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.peak_at < 1:
            raise ValueError(f"peak_at must lie between 0 and 1, not {self.peak_at}")


@dataclass
class MultiStepSchedule(ScheduleConfig):
    """Piecewise constant: factors[i] times the peak from milestones[i] on."""

    milestones: list[float]
    """Increasing steps; numbers below 1 are fractions of the training length."""
    factors: list[float]
    """Factor on the peak learning rate from each milestone on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        increase = all(a < b for a, b in itertools.pairwise(self.milestones))
        if len(self.milestones) != len(self.factors) or not increase:
            raise ValueError("milestones must increase, with one entry in factors for each")


@dataclass
class TrainerConfig:
    epochs: int | None
    """Passes over the training set; null means the data set's own suggestion (data.epochs)."""
    max_steps: int | None
    """Optimizer steps; when given it overrides epochs."""
    batch_size: int
    """Examples in one forward pass, over all processes together."""
    accumulate: int
    """Forward passes whose gradients are averaged into one optimizer step."""
    eval_batch_size: int
    """Examples in one forward pass of an evaluation."""
    eval_every: int | None
    """Steps between evaluations on the validation split; null means once per epoch."""
    log_every: int
    """Steps between rows in metrics.jsonl and in W&B."""
    save_every_s: float
    """Seconds between checkpoints, of which the first come sooner (after 1, 3, 7, 15, ... s); one is also made at the
    end and when a signal stops the run."""
    patience: int | None
    """Stop after this many evaluations in a row without improvement; null means never."""
    clip_norm: float | None
    """Largest global norm of the gradient; null means no clipping."""
    ema: float
    """Decay of an exponential moving average of the trainable parameters, which is then what is evaluated; 0 is off."""
    label_smoothing: float
    """Probability mass spread evenly over all classes."""
    channels_last: bool
    """Keep images and convolutions in the channels-last memory format."""
    matmul_precision: str
    """What torch.set_float32_matmul_precision gets: highest, high or medium; auto is medium on a CPU without AMX, where
    it changes no precision but sends float32 products to oneDNN (twice as fast on AMD), and highest elsewhere."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "eval_batch_size", "log_every"):
            check_positive(name, getattr(self, name))
        for name in ("epochs", "max_steps", "eval_every", "patience"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive or null, not {self.clip_norm}")
        check_probability("ema", self.ema)
        check_probability("label_smoothing", self.label_smoothing)
        choose("trainer.matmul_precision", self.matmul_precision, ["auto", "highest", "high", "medium"])


# ---------------------------------------------------------------- around the run


@dataclass
class WandbConfig:
    mode: str
    """auto (online when logged in, else offline), online, offline or disabled; $WANDB_MODE wins over auto."""
    project: str
    """W&B project."""
    entity: str | None
    """W&B user or team; null means the account's default."""
    group: str | None
    """W&B group; null means the sweep's or experiment's name."""
    tags: list[str]
    """Further tags; the data set and the kind of hypernet are always among them."""

    def __post_init__(self) -> None:
        choose("tracking.wandb.mode", self.mode, ["auto", "online", "offline", "disabled"])


@dataclass
class TrackingConfig:
    kind: str
    """default; metrics.jsonl and summary.json are written whatever is set here."""
    wandb: WandbConfig


@dataclass
class PaperConfig:
    """A row of a published table, beside which our own figure stands."""

    params: int
    """Parameter count as printed, in numbers (0.097 M is 97000)."""
    part: str | None
    """Name of the one parameter the count is about; null means the whole model."""
    metric: str
    """What the value is: test_error (percent)."""
    value: float
    """The printed figure."""
    source: str
    """Where it is printed."""


@dataclass
class Config:
    """Everything a run is made from."""

    model: str
    """The preset's name, or a name made from target and hypernet where those were chosen by hand."""
    experiment: str | None
    """The experiment's name, if one was chosen."""
    target: TargetConfig
    hypernet: HypernetConfig
    data: DataConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    paper: PaperConfig | None
    """The published figure this experiment is to reproduce."""
    seed: int
    """Seed of initialization, order and augmentation."""
    precision: str
    """auto, bf16, fp16 or float32 (autocast; parameters and optimizer state stay float32)."""
    compile: bool
    """Pass the model through torch.compile."""
    resume: str
    """auto (finished: print the result; interrupted: go on) or never (start afresh)."""
    deterministic: bool
    """Ask torch for deterministic algorithms, at some cost on a GPU."""
    outputs: str
    """Folder in which run folders are made."""
    plugins: list[str]
    """Python modules imported first, which register targets, hypernets or data sets of your own."""
    fail_fast: bool = False
    """Whether the first job of a sweep that fails ends it; else the other jobs go on."""
    params: int | None = None
    """Choose the target's width (channels, hidden size) so that the trainable parameters come nearest to this."""

    def __post_init__(self) -> None:
        choose("precision", self.precision, ["auto", "bf16", "fp16", "float32"])
        choose("resume", self.resume, ["auto", "never"])
        if self.params is not None:
            check_positive("params", self.params)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie between 0 and 2**32 - 1, not {self.seed}")


SCHEMAS: dict[str, dict[str, type]] = {
    "target": {
        "cnn": CNNTarget,
        "wide_resnet": WideResNetTarget,
        "torchvision": TorchvisionTarget,
        "recurrent": RecurrentTarget,
    },
    "hypernet": {
        "none": NoHypernet,
        "static": StaticHypernet,
        "chunked": ChunkedHypernet,
        "mlp": MLPHypernet,
        "dynamic": DynamicHypernet,
    },
    "data": {"images": ImageData, "text": TextData},
    "optim": {"sgd": SGDConfig, "adam": AdamConfig, "adamw": AdamConfig, "muon": MuonConfig},
    "schedule": {
        "constant": ConstantSchedule,
        "cosine": CosineSchedule,
        "one_cycle": OneCycleSchedule,
        "multi_step": MultiStepSchedule,
    },
    "tracking": {"default": TrackingConfig},
}
"""For each group whose choices differ in their keys: kind -> dataclass. Plugins add to it."""

NOT_IN_HASH = (
    "outputs",
    "tracking",
    "resume",
    "plugins",
    "paper",
    "fail_fast",
    "params",  # the width that it chose is in the hash
    "data.root",
    "data.workers",
    "trainer.save_every_s",
)
"""Keys that do not change a run's result, so that changing one of them finds the same run folder again."""


def register_choice(group: str, kind: str, schema: type) -> None:
    """Make `group=kind` a choice on the command line; the dataclass's fields, with their defaults, are its keys."""
    values: dict[str, Any] = {"kind": kind}
    for f in fields(schema):
        if f.name == "kind":
            continue
        if f.default is not MISSING:
            values[f.name] = f.default
        elif f.default_factory is not MISSING:
            values[f.name] = f.default_factory()
        else:
            raise TypeError(f"{schema.__name__}.{f.name} needs a default: {group}={kind} has no YAML file to give one")
    SCHEMAS[group][kind] = schema
    ConfigStore.instance().store(group=group, name=kind, node=values)


def check_finite(config: Any) -> None:
    for f in fields(config):
        value = getattr(config, f.name)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{f.name} must be a finite number, not {number}")


def check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def check_betas(betas: list[float]) -> None:
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), not {list(betas)}")


def check_widths(name: str, widths: list[int]) -> None:
    if not widths or min(widths) < 1:
        raise ValueError(f"{name} must be positive numbers, e.g. [64,64], not {list(widths)}")


def check_probability(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), not {value}")


def from_omegaconf(cfg: DictConfig) -> Config:
    """Check a composed or saved config and return it typed.

    Raises:
        UserError: an unknown key, a value of the wrong type or out of range, a missing value.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        assert isinstance(plain, dict)
        plain = {str(name): value for name, value in plain.items()}
        others = {name: value for name, value in plain.items() if name not in SCHEMAS}
        merged: Any = OmegaConf.merge(OmegaConf.structured(Config), others)  # once for all: a merge takes milliseconds
        typed = {name: _typed(name, merged[name]) for name in others}
        typed |= {name: typed_choice(name, value) for name, value in plain.items() if name in SCHEMAS}
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from None
    missing = [f.name for f in fields(Config) if f.name not in typed and f.default is MISSING]
    if missing:
        raise UserError(f"the config lacks: {', '.join(missing)}")
    try:
        return Config(**typed)
    except ValueError as error:
        raise UserError(str(error)) from None


def typed_choice(name: str, value: Any) -> Any:
    """Return a group of several kinds, checked against its kind's dataclass."""
    if not isinstance(value, dict) or "kind" not in value:
        raise UserError(f"{name} must be one of its choices: {name}=NAME (hyperrun ls shows them)")
    kind = choose(f"{name}.kind", str(value["kind"]), SCHEMAS[name])
    try:
        return _typed(name, OmegaConf.merge(OmegaConf.structured(SCHEMAS[name][kind]), value))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error, f"{name}.")) from None


def _typed(name: str, checked: Any) -> Any:
    """Return one entry of the top level, of the right types already, as a dataclass whose numbers are checked."""
    try:
        typed = OmegaConf.to_object(checked) if OmegaConf.is_config(checked) else checked
        if is_dataclass(typed):
            check_finite(typed)
        return typed
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def one_line(error: OmegaConfBaseException, prefix: str = "") -> str:
    """Say in one line what omegaconf found wrong: the key, what is allowed, the nearest match."""
    key = prefix + str(error.full_key or "")
    if isinstance(error, MissingMandatoryValue):
        return f"{key} needs a value"
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and is_dataclass(error.object_type):
        allowed = [f.name for f in fields(error.object_type)]
        return f"unknown key '{key}'{nearest(key.rpartition('.')[2], allowed)} (allowed: {', '.join(allowed)})"
    text = str(error).splitlines()[0]
    if "is not a ListConfig" in text:
        text = f"must be a list: {key}=[...]"
    return f"{key}: {text}" if key and key not in text else text


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as plain dicts, lists and numbers, in the order of the fields."""
    return asdict(config)


def run_hash(config: Config) -> str:
    """Return eight hexadecimal digits that name what the run computes (see NOT_IN_HASH)."""
    plain = json.dumps(what_is_computed(to_dict(config)), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:8]


def what_is_computed(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a config, as plain dicts (of a saved run, too), without the keys of NOT_IN_HASH."""
    data = plain.get("data")
    folder_is_data = isinstance(data, dict) and data.get("name") == "image_folder"
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in plain.items()}
    for key in NOT_IN_HASH:
        if key == "data.root" and folder_is_data:
            continue
        node, _, leaf = key.rpartition(".")
        within = kept.get(node) if node else kept
        if isinstance(within, dict):
            within.pop(leaf, None)
    return kept
