"""Image classification: cross-entropy, accuracy, and how batches of images are fed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import Config
from hyperrun.data import LearnedImages, load_images
from hyperrun.data.kinds import ImageData
from hyperrun.data.loader import ImageLoader
from hyperrun.hypernets import Hypernetized, as_hypernetized
from hyperrun.models import build_model
from hyperrun.registry import register
from hyperrun.tasks.image_task import ImageTask
from hyperrun.training.distributed import World, sum_over_ranks, synchronize_norms
from hyperrun.training.precision import Precision


class ClassificationLoss(nn.Module):
    """The loss of one batch, as a module, so that DDP and torch.compile wrap all of it at once."""

    def __init__(self, model: nn.Module, label_smoothing: float = 0.0, generated_l2: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.penalized = generated_l2 > 0 and as_hypernetized(model) is not None
        self.generated_l2 = generated_l2

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize (scalar) and {"loss", "accuracy", ...}: means over the batch, detached scalars.

        x: float [B, C, H, W]; y: int64 [B]. "loss" is the cross-entropy alone; the penalty on generated weights,
        generated_l2 / 2 * sum of their squares, is computed on the same weights that the forward pass used.
        """
        penalty = None
        if self.penalized:
            hyper = cast(Hypernetized, self.model)
            weights = hyper.weights()
            logits = hyper.call_with(weights, x)
            penalty = 0.5 * self.generated_l2 * torch.stack([w.square().sum() for w in weights.values()]).sum()
        else:
            logits = self.model(x)
        logits = logits.float()
        loss = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
        stats = {"loss": loss.detach(), "accuracy": (logits.detach().argmax(1) == y).float().mean()}
        if penalty is None:
            return loss, stats
        return loss + penalty, {**stats, "generated_l2": penalty.detach()}


@register("task", "classification", data="images", takes="images")
class Classification(ImageTask):
    """What the training loop needs to know about classifying images."""

    name = "classification"
    metric = "accuracy"
    unit = "images"

    def __init__(self, config: Config, world: World, learned: LearnedImages | None = None) -> None:
        """learned: what a run that is to be evaluated keeps of its images."""
        assert isinstance(config.data, ImageData)
        trainer = config.trainer
        self.data = load_images(config.data, learned)
        model = synchronize_norms(build_model(config, self.data.inputs), world).to(world.device)
        if trainer.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model
        self.loss = ClassificationLoss(model, trainer.label_smoothing, config.optim.generated_l2)
        self.world = world
        self.loader = ImageLoader(
            self.data,
            config.data,
            device=world.device,
            batch_size=trainer.batch_size,
            eval_batch_size=trainer.eval_batch_size,
            seed=config.seed,
            channels_last=trainer.channels_last,
            rank=world.rank,
            world_size=world.size,
        )
        self.batches_per_epoch = self.loader.steps_per_epoch
        self.examples_per_batch = self.loader.batch_size

    def describe_data(self) -> str:
        """Return in a few words what is learned from and how it is fed."""
        sizes = f"{len(self.data.train):,} / {len(self.data.val):,} / {len(self.data.test):,}"
        return f"{self.data.name}: {sizes} images to train / validate / test; {self.loader.path} ({self.loader.reason})"

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data."""
        return {**super().facts(), "data/loader": self.loader.path}

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch from its batch `start` on: what ClassificationLoss.forward takes."""
        return self.loader.train_batches(epoch, start)

    @torch.no_grad()
    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        """Return the mean cross-entropy and the accuracy over a whole split ("train", "val" or "test")."""
        self.model.eval()
        sums = torch.zeros(3, device=self.world.device, dtype=torch.float64)
        for x, y in self.loader.eval_batches(split):
            with precision.autocast():
                logits = self.model(x)
            logits = logits.float()
            correct = (logits.argmax(1) == y).sum()
            sums += torch.stack(
                [
                    F.cross_entropy(logits, y, reduction="sum").double(),
                    correct.double(),
                    torch.tensor(len(y), device=y.device),
                ]
            )
        loss, correct, count = sum_over_ranks(sums, self.world).tolist()
        self.model.train()
        return {"loss": loss / count, "accuracy": correct / count}
