"""Several classification tasks by one model: all at once (joint), or one after the other (continual).

With a hypernet each task has an embedding, from which its weights are generated; without one, all tasks share a network
that is not told the task. Continual training adds the output regularizer of von Oswald et al. (2020, arXiv 1906.00695):

    L = L_task + beta / (T - 1) * sum_{t < T} || f(e_t, Theta*) - f(e_t, Theta) ||^2

with f(e_t, Theta) all weights that the hypernet makes for task t, Theta* its parameters before the present task T (from
1). Two choices of ours: the lookahead step inside f is left out, and earlier tasks' embeddings may move, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import Config, TaskData
from hyperrun.data import load_tasks
from hyperrun.data.loader import ImageLoader
from hyperrun.errors import UserError
from hyperrun.hypernets import ConditionalModel, with_hypernet, with_task_hypernet
from hyperrun.metrics import higher_is_better
from hyperrun.targets import build_target
from hyperrun.training.distributed import World, sum_over_ranks, synchronize_norms
from hyperrun.training.loop import total_steps
from hyperrun.training.precision import Precision

TaskBatch = tuple[Tensor, Tensor, Tensor]
"""float [K, B, C, H, W], int64 [K, B], int64 [K]: B examples of each of K tasks, and which tasks these are."""


class MultiTaskLoss(nn.Module):
    """The loss of one batch, as a module, so that DDP and torch.compile wrap all of it at once."""

    def __init__(self, model: nn.Module, label_smoothing: float = 0.0, beta: float = 0.0) -> None:
        super().__init__()
        self.model, self.label_smoothing, self.beta = model, label_smoothing, beta
        self.earlier: Tensor | None = None
        """float32 [t, n]: what the hypernet made for each earlier task before the present one, all numbers in a row."""

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
        now = weights_in_rows(self.model, torch.arange(len(self.earlier), device=x.device))
        penalty = self.beta * (now - self.earlier).square().sum(1).mean()
        return loss + penalty, {**stats, "output_regularizer": penalty.detach()}


def logits_of_tasks(model: nn.Module, x: Tensor, tasks: Tensor) -> Tensor:
    """Return logits [K, B, classes] of x [K, B, ...], the k-th part with the weights of task tasks[k]."""
    if not isinstance(model, ConditionalModel):
        return torch.stack([model(part) for part in x])
    weights = model.weights(tasks)  # of all tasks at once
    parts = [{name: value[k] for name, value in weights.items()} for k in range(len(tasks))]
    return torch.stack([model.call_with(part, images) for part, images in zip(parts, x, strict=True)])


def weights_in_rows(model: nn.Module, tasks: Tensor) -> Tensor:
    """Return all weights that the hypernet makes for each of these tasks, float32 [K, n]."""
    assert isinstance(model, ConditionalModel)
    return torch.cat([value.flatten(1) for value in model.weights(tasks).values()], 1)


class MultiTask:
    """What the training loop needs to know about learning several tasks."""

    name = "multitask_classification"
    metric = "accuracy"
    higher_is_better = higher_is_better(metric)
    unit = "images"
    tokens_per_example = None

    def __init__(self, config: Config, world: World) -> None:
        assert isinstance(config.data, TaskData)
        trainer = config.trainer
        if config.optim.generated_l2:
            raise UserError("optim.generated_l2 is for one set of generated kernels, not for one for each task")
        self.data = load_tasks(config.data)
        self.count = len(self.data.tasks)
        first = self.data.tasks[0]
        target = build_target(config.target, first.channels, first.num_classes, first.image_size)
        if config.hypernet.kind == "none":
            model = with_hypernet(config.hypernet, target)
        else:
            model = with_task_hypernet(config.hypernet, target, self.count)
        self.model = synchronize_norms(model, world).to(world.device)
        self.loss = MultiTaskLoss(self.model, trainer.label_smoothing, config.data.beta)
        self.world, self.config = world, config.data
        self.joint = config.data.order == "joint"
        batch_size = max(1, trainer.batch_size // self.count) if self.joint else trainer.batch_size
        self.loaders = [
            ImageLoader(
                task,
                config.data,
                device=world.device,
                batch_size=batch_size,
                eval_batch_size=trainer.eval_batch_size,
                seed=config.seed,
                rank=world.rank,
                world_size=world.size,
            )
            for task in self.data.tasks
        ]
        steps = [loader.steps_per_epoch for loader in self.loaders]
        self.batches_per_epoch = min(steps) if self.joint else sum(steps)
        self.examples_per_batch = self.loaders[0].batch_size * (self.count if self.joint else 1)
        self.per_task = max(1, total_steps(config, self) * trainer.accumulate // self.count)
        """Batches that continual training spends on each task."""
        self.current: int | None = None
        """The task that continual training is learning; None in joint training and before the first batch."""
        self.peak = [0.0] * self.count
        """Best validation accuracy of each task so far, in continual training, since it was learned."""

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
            "data/tasks": self.data.names,
            "data/order": self.config.order,
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
        if task and self.config.beta and isinstance(self.model, ConditionalModel):
            kept = self.loss.earlier
            if kept is None or len(kept) != task:  # else a resumed run is within this task
                self.loss.earlier = weights_in_rows(self.model, torch.arange(task, device=self.world.device))
        self.current = task

    @torch.no_grad()
    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        """Return loss and accuracy, means over the tasks, and accuracy/task<n> of each.

        On the validation split in continual training also "forgetting": the mean over the earlier tasks of how far
        their accuracy has fallen from its best since they were learned (Chaudhry et al. 2018).
        """
        self.model.eval()
        losses, accuracies = [], []
        for task, loader in enumerate(self.loaders):
            number = torch.tensor([task], device=self.world.device)
            sums = torch.zeros(3, device=self.world.device, dtype=torch.float64)
            for x, y in loader.eval_batches(split):
                with precision.autocast():
                    logits = logits_of_tasks(self.model, x[None], number)[0]
                logits = logits.float()
                nats, correct = F.cross_entropy(logits, y, reduction="sum"), (logits.argmax(1) == y).sum()
                sums += torch.stack([nats.double(), correct.double(), torch.tensor(len(y), device=y.device)])
            loss, correct, count = sum_over_ranks(sums, self.world).tolist()
            losses.append(loss / count)
            accuracies.append(correct / count)
        self.model.train()
        results = {"loss": sum(losses) / self.count, "accuracy": sum(accuracies) / self.count}
        results |= {f"accuracy/task{task}": value for task, value in enumerate(accuracies)}
        if split == "val" and self.current is not None:
            results["forgetting"] = self.forgetting(accuracies)
        return results

    def forgetting(self, accuracies: list[float]) -> float:
        """Return how far the tasks before the current one have fallen from their best, on average; note new bests."""
        assert self.current is not None
        for task in range(self.current + 1):
            self.peak[task] = max(self.peak[task], accuracies[task])
        falls = [self.peak[task] - accuracies[task] for task in range(self.current)]
        return sum(falls) / len(falls) if falls else 0.0

    def closing_words(self, precision: Precision) -> str | None:
        """Return what is shown after the result: nothing."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what besides the model a resumed run needs: what earlier tasks are held to, and their best."""
        return {"earlier": self.loss.earlier, "peak": self.peak, "current": self.current}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss.earlier, self.peak = state["earlier"], list(state["peak"])
        self.current = state["current"]

    def check_fits(self, state: dict[str, Any]) -> None:
        """Accept every checkpoint: one of other tasks has other embeddings or weights of other shapes."""
