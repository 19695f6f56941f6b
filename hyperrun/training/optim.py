"""Optimizers from the config, and what weight decay applies to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hyperrun.config import Config, OptimConfig, check_betas, check_probability
from hyperrun.errors import UserError
from hyperrun.hypernets import as_hypernetized
from hyperrun.registry import chosen, register


def decay_kind(model: nn.Module, name: str, parameter: Tensor, owner: nn.Module) -> str:
    """Return which entry of optim.decay_on a parameter falls under."""
    leaf = name.rpartition(".")[2]
    if isinstance(owner, nn.Embedding) or leaf == "z" or leaf.endswith(("embedding", "token")):
        return "embeddings"
    if leaf.startswith("b_") or "bias" in leaf:
        return "biases"
    if parameter.ndim < 2 or "Norm" in type(owner).__name__ or leaf.endswith("scale"):
        return "norms"
    if as_hypernetized(model) is not None and "hypernet" in name.split("."):
        return "hypernet"
    return "weights"


def split_by_decay(model: nn.Module, decay_on: list[str]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the trainable parameters that weight decay applies to, and the others; a shared one is counted once."""
    decayed, others, seen = [], [], set()
    for module_name, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            name = f"{module_name}.{leaf}" if module_name else leaf
            (decayed if decay_kind(model, name, parameter, module) in decay_on else others).append(parameter)
    return decayed, others


def build_optimizers(cfg: OptimConfig, model: nn.Module) -> list[Optimizer]:
    """Return one optimizer; two for muon (its matrices, and AdamW for the rest).

    Every parameter group has "peak_lr", the learning rate that the schedule scales.

    Raises:
        UserError: muon with a torch that lacks it, or with a model that has no matrices.
    """
    optimizers: list[Optimizer] = chosen("optim", cfg.kind).build(cfg, model)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


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


@register("optim", "sgd", SGDConfig)
def build_sgd(cfg: SGDConfig, model: nn.Module) -> list[Optimizer]:
    groups = decay_groups(cfg, model)
    return [torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum, nesterov=cfg.nesterov)]


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


@register("optim", "adam", AdamConfig)
@register("optim", "adamw", AdamConfig)
def build_adam(cfg: AdamConfig, model: nn.Module) -> list[Optimizer]:
    cls = torch.optim.AdamW if cfg.kind == "adamw" else torch.optim.Adam
    return [cls(decay_groups(cfg, model), lr=cfg.lr, betas=(cfg.betas[0], cfg.betas[1]), eps=cfg.eps)]


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


@register("optim", "muon", MuonConfig)
def build_muon(cfg: MuonConfig, model: nn.Module) -> list[Optimizer]:
    if not hasattr(torch.optim, "Muon"):
        raise UserError(f"optim=muon needs a torch with torch.optim.Muon (this is {torch.__version__})")
    decayed, others = split_by_decay(model, cfg.decay_on)
    matrices = [p for p in decayed if p.ndim == 2]
    if not matrices:
        raise UserError("optim=muon finds no matrices among the parameters of optim.decay_on; try optim=adamw")
    rest = [p for p in decayed if p.ndim != 2]
    betas = (cfg.betas[0], cfg.betas[1])
    return [
        torch.optim.Muon(matrices, lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay),
        torch.optim.AdamW(_groups(rest, others, cfg.weight_decay), lr=cfg.adamw_lr, betas=betas),
    ]


def decay_groups(cfg: OptimConfig, model: nn.Module) -> list[dict]:
    """Return the parameter groups of an optimizer: those that weight decay applies to, and the others."""
    return _groups(*split_by_decay(model, cfg.decay_on), cfg.weight_decay)


def _groups(decayed: list[Tensor], others: list[Tensor], weight_decay: float) -> list[dict]:
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [g for g in groups if g["params"]]


def set_learning_rate(optimizers: list[Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor


def total_steps(config: Config, batches_per_epoch: int) -> int:
    """Return the number of optimizer steps: trainer.max_steps, else trainer.epochs, else the data set's suggestion."""
    trainer = config.trainer
    if trainer.max_steps is not None:
        return trainer.max_steps
    epochs = trainer.epochs or config.data.epochs
    return max(1, math.floor(epochs * batches_per_epoch / trainer.accumulate))
