"""Several classification tasks by one model: all at once (joint), or one after the other (continual).

With a hypernet each task has an embedding, from which its weights are generated; without one, all tasks share a network
that is not told the task. Continual training adds the output regularizer of von Oswald et al. (2020, arXiv 1906.00695):

    L = L_task + beta / (T - 1) * sum_{t < T} || f(e_t, Theta*) - f(e_t, Theta) ||^2

with f(e_t, Theta) all weights that the hypernet makes for task t, Theta* its parameters before the present task T (from
1). Two choices of ours: the lookahead step inside f is left out, and earlier tasks' embeddings may move, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import Config
from hyperrun.data import load_tasks
from hyperrun.data.kinds import TaskData
from hyperrun.data.loader import ImageLoader
from hyperrun.hypernets import as_hypernetized
from hyperrun.models import build_model, check_steps_for_tasks
from hyperrun.registry import register
from hyperrun.training.distributed import World, share_buffers, sum_over_ranks, synchronize_norms
from hyperrun.training.optim import total_steps
from hyperrun.training.precision import Precision, choose_precision
from hyperrun.training.task import Task

TaskBatch = tuple[Tensor, Tensor, Tensor]
"""float [K, B, C, H, W], int64 [K, B], int64 [K]: B examples of each of K tasks, and which tasks these are."""


class MultiTaskLoss(nn.Module):
    """The loss of one batch, as a module, so that DDP and torch.compile wrap all of it at once."""

    def __init__(self, model: nn.Module, label_smoothing: float = 0.0, beta: float = 0.0) -> None:
        super().__init__()
        self.model, self.label_smoothing, self.beta = model, label_smoothing, beta
        self.earlier: dict[str, Tensor] | None = None
        """name -> float32 [t, *shape]: what the hypernet made for the t earlier tasks before the present one."""

    def forward(self, x: Tensor, y: Tensor, tasks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize (scalar) and {"loss", "accuracy", ...}: means over the batch, detached scalars.

        A TaskBatch. "loss" is the cross-entropy alone; "output_regularizer" is there where it was added.
        """
        logits = logits_of_tasks(self.model, x, tasks).float().flatten(0, 1)
        y = y.flatten()
        loss = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
        stats = {"loss": loss.detach(), "accuracy": (logits.detach().argmax(1) == y).float().mean()}
        if self.earlier is None or not self.beta:
            return loss, stats
        count = len(next(iter(self.earlier.values())))
        now = weights_of(self.model, torch.arange(count, device=x.device))
        # a tensor at a time: torch 2.15's compiler makes wrong numbers of one concatenation of them all
        distances = [(now[name] - kept).square().sum() for name, kept in self.earlier.items()]
        penalty = self.beta / count * torch.stack(distances).sum()
        return loss + penalty, {**stats, "output_regularizer": penalty.detach()}


def logits_of_tasks(model: nn.Module, x: Tensor, tasks: Tensor) -> Tensor:
    """Return logits [K, B, classes] of x [K, B, ...], the k-th part with the weights of task tasks[k]."""
    hyper = as_hypernetized(model)
    if hyper is None:
        return torch.stack([model(part) for part in x])
    weights = hyper.weights(tasks)  # of all tasks at once
    parts = [{name: value[k] for name, value in weights.items()} for k in range(len(tasks))]
    return torch.stack([hyper.call_with(part, images) for part, images in zip(parts, x, strict=True)])


def weights_of(model: nn.Module, tasks: Tensor) -> dict[str, Tensor]:
    """Return the weights that the hypernet makes for each of these tasks, float32 [K, *shape] by name."""
    hyper = as_hypernetized(model)
    assert hyper is not None
    return hyper.weights(tasks)


@register("task", "multitask_classification", data="tasks", takes="images")
class MultiTask(Task):
    """What the training loop needs to know about learning several tasks."""

    name = "multitask_classification"
    metric = "accuracy"
    unit = "images"
    loss: MultiTaskLoss

    def __init__(self, config: Config, world: World) -> None:
        assert isinstance(config.data, TaskData)
        trainer = config.trainer
        self.data = load_tasks(config.data)
        self.count = len(self.data.tasks)
        self.model = synchronize_norms(build_model(config, self.data.inputs), world).to(world.device)
        if trainer.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = MultiTaskLoss(self.model, trainer.label_smoothing, config.data.beta)
        self.world, self.config = world, config.data
        self.precision = choose_precision(config.precision, world.device)
        self.joint = config.data.order == "joint"
        self.selects_last = not self.joint  # an earlier model has not yet learned all, or not yet forgotten
        # the smallest task decides, so that all parts of a batch are alike
        batch_size = min(len(task.train) for task in self.data.tasks) // world.size * world.size
        batch_size = min(batch_size, trainer.batch_size // self.count if self.joint else trainer.batch_size)
        self.loaders = [
            ImageLoader(
                task,
                config.data,
                device=world.device,
                batch_size=batch_size,
                eval_batch_size=trainer.eval_batch_size,
                seed=config.seed,
                channels_last=trainer.channels_last,
                rank=world.rank,
                world_size=world.size,
            )
            for task in self.data.tasks
        ]
        steps = [loader.steps_per_epoch for loader in self.loaders]
        self.batches_per_epoch = min(steps) if self.joint else sum(steps)
        self.examples_per_batch = self.loaders[0].batch_size * (self.count if self.joint else 1)
        batches = total_steps(config, self.batches_per_epoch) * trainer.accumulate
        check_steps_for_tasks(config.data.order, batches, self.count)
        self.per_task = batches // self.count
        """Batches that continual training spends on each task."""
        self.learned: list[float] = []
        """Validation accuracy of each earlier task when its training ended, in continual training."""

    def describe_data(self) -> str:
        """Return in a few words what is learned from and how it is fed."""
        sizes = (sum(len(getattr(task, part)) for task in self.data.tasks) for part in ("train", "val", "test"))
        images = " / ".join(f"{size:,}" for size in sizes)
        how = "all in each batch" if self.joint else f"one after the other, {self.per_task:,} batches each"
        return f"{self.data.name}: {self.count} tasks, {how}; {images} images to train / validate / test"

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data."""
        first = self.data.tasks[0]
        return {
            "data/verified": first.verified,
            "data/classes": first.classes,
            "data/tasks": self.data.names,
            "data/order": self.config.order,
            "data/channels": first.channels,
            "data/image_size": first.image_size,
            "data/mean": [round(value, 6) for value in first.mean.tolist()],
            "data/std": [round(value, 6) for value in first.std.tolist()],
        }

    def batches(self, start: int) -> Iterator[TaskBatch]:
        """Yield training batches without end, from batch number `start` (0 is the first of all)."""
        device = self.world.device
        if self.joint:
            tasks = torch.arange(self.count, device=device)
            for parts in zip(*(loader.stream(start) for loader in self.loaders), strict=True):
                yield torch.stack([x for x, _ in parts]), torch.stack([y for _, y in parts]), tasks
        for task in range(min(start // self.per_task, self.count - 1), self.count):
            self.begin(task)
            done = max(0, start - task * self.per_task)
            for x, y in self.loaders[task].stream(done):
                yield x[None], y[None], torch.tensor([task], device=device)
                done += 1
                if done >= self.per_task and task < self.count - 1:  # what does not divide evenly is the last one's
                    break

    @torch.no_grad()
    def begin(self, task: int) -> None:
        """Turn to a task of continual training: what the hypernet makes for those before it is kept as it is now."""
        if len(self.learned) < task:  # else a resumed run is within this task
            share_buffers(self.model, self.world)
            self.learned += [self.figures(t, "val", self.precision)[1] for t in range(len(self.learned), task)]
            if self.config.beta and as_hypernetized(self.model) is not None:
                self.loss.earlier = weights_of(self.model, torch.arange(task, device=self.world.device))

    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        """Return loss and accuracy, means over the tasks, and accuracy/task<n> of each.

        On the validation split in continual training, from the second task on, also "forgetting": the mean over the
        earlier tasks of how far their accuracy has fallen since their training ended (backward transfer with its sign
        turned; Lopez-Paz and Ranzato 2017).
        """
        losses, accuracies = zip(*(self.figures(task, split, precision) for task in range(self.count)), strict=True)
        results = {"loss": sum(losses) / self.count, "accuracy": sum(accuracies) / self.count}
        results |= {f"accuracy/task{task}": value for task, value in enumerate(accuracies)}
        if split == "val" and self.learned:
            falls = [then - now for then, now in zip(self.learned, accuracies, strict=False)]
            results["forgetting"] = sum(falls) / len(falls)
        return results

    @torch.no_grad()
    def figures(self, task: int, split: str, precision: Precision) -> tuple[float, float]:
        """Return cross-entropy and accuracy over a task's split."""
        self.model.eval()
        network, hyper = self.model, as_hypernetized(self.model)
        if hyper is not None:  # its weights once, not for each batch
            network = partial(hyper.call_with, hyper.weights(torch.tensor(task, device=self.world.device)))
        sums = torch.zeros(3, device=self.world.device, dtype=torch.float64)
        for x, y in self.loaders[task].eval_batches(split):
            with precision.autocast():
                logits = network(x)
            logits = logits.float()
            nats, correct = F.cross_entropy(logits, y, reduction="sum"), (logits.argmax(1) == y).sum()
            sums += torch.stack([nats.double(), correct.double(), torch.tensor(len(y), device=y.device)])
        self.model.train()
        loss, correct, count = sum_over_ranks(sums, self.world).tolist()
        return loss / count, correct / count

    def state_dict(self) -> dict[str, Any]:
        """Return what besides the model a resumed run needs: what earlier tasks are held to, and how well they went."""
        return {"earlier": self.loss.earlier, "learned": list(self.learned)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss.earlier, self.learned = state["earlier"], list(state["learned"])
