"""Optimizers from the config, what weight decay applies to, and schedules as pure functions of the step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hyperrun.config import (
    AdamConfig,
    Config,
    ConstantSchedule,
    CosineSchedule,
    MultiStepSchedule,
    MuonConfig,
    OneCycleSchedule,
    OptimConfig,
    ScheduleConfig,
    SGDConfig,
)
from hyperrun.errors import UserError
from hyperrun.hypernets import ConditionalModel, DynamicModel, HyperModel


def decay_kind(model: nn.Module, name: str, parameter: Tensor, owner: nn.Module) -> str:
    """Return which entry of optim.decay_on a parameter falls under."""
    leaf = name.rpartition(".")[2]
    if isinstance(owner, nn.Embedding) or leaf == "z" or leaf.endswith(("embedding", "token")):
        return "embeddings"
    if leaf.startswith("b_") or "bias" in leaf:
        return "biases"
    if parameter.ndim < 2 or "Norm" in type(owner).__name__ or leaf.endswith("scale"):
        return "norms"
    if isinstance(model, HyperModel | DynamicModel | ConditionalModel) and "hypernet" in name.split("."):
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
    decayed, others = split_by_decay(model, cfg.decay_on)
    if isinstance(cfg, MuonConfig):
        if not hasattr(torch.optim, "Muon"):
            raise UserError(f"optim=muon needs a torch with torch.optim.Muon (this is {torch.__version__})")
        matrices = [p for p in decayed if p.ndim == 2]
        if not matrices:
            raise UserError("optim=muon finds no matrices among the parameters of optim.decay_on; try optim=adamw")
        rest = [p for p in decayed if p.ndim != 2]
        betas = (cfg.betas[0], cfg.betas[1])
        optimizers: list[Optimizer] = [
            torch.optim.Muon(matrices, lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay),
            torch.optim.AdamW(_groups(rest, others, cfg.weight_decay), lr=cfg.adamw_lr, betas=betas),
        ]
    elif isinstance(cfg, SGDConfig):
        groups = _groups(decayed, others, cfg.weight_decay)
        optimizers = [torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum, nesterov=cfg.nesterov)]
    else:
        assert isinstance(cfg, AdamConfig)
        cls = torch.optim.AdamW if cfg.kind == "adamw" else torch.optim.Adam
        groups = _groups(decayed, others, cfg.weight_decay)
        optimizers = [cls(groups, lr=cfg.lr, betas=(cfg.betas[0], cfg.betas[1]), eps=cfg.eps)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


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


def lr_factor(cfg: ScheduleConfig, step: int, total: int) -> float:
    """Return the factor on the peak learning rate for optimizer step `step` (0 is the first) of `total`.

    A pure function, so that a resumed run needs no scheduler state. An fp16 step that is skipped for overflow counts.
    """
    if step < cfg.warmup_steps:
        return (step + 1) / (cfg.warmup_steps + 1)
    if isinstance(cfg, MultiStepSchedule):
        factor = 1.0
        for milestone, value in zip(cfg.milestones, cfg.factors, strict=True):
            if step >= (milestone * total if milestone < 1 else milestone):
                factor = value
        return factor
    length = max(1, total - cfg.warmup_steps)
    progress = min(1.0, (step - cfg.warmup_steps) / length)
    if isinstance(cfg, CosineSchedule):
        return cfg.final_factor + (1 - cfg.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))
    if isinstance(cfg, OneCycleSchedule):
        if progress < cfg.peak_at:
            return cfg.initial_factor + (1 - cfg.initial_factor) * progress / cfg.peak_at
        return cfg.final_factor + (1 - cfg.final_factor) * (1 - progress) / (1 - cfg.peak_at)
    assert isinstance(cfg, ConstantSchedule)
    return 1.0
