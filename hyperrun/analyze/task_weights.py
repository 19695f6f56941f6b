"""What a hypernet makes of tasks: how alike their weights are, which layers differ, and what lies between two of them.

model = load_run("outputs/split_digits/hypermlp-s0-...").model  # of with_task_hypernet
weights = weights_of_tasks(model)
spread_over_tasks(weights)["layers.0.weight"].ratio
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hyperrun.analyze.embeddings import cosines
from hyperrun.data import ImageSet, load_tasks
from hyperrun.data.kinds import TaskData
from hyperrun.data.loader import ImageLoader
from hyperrun.hypernets import as_hypernetized
from hyperrun.load import LoadedRun

POINTS = 21
"""Of the line between two embeddings, both ends among them."""

MOST_PAIRS = 10
"""Pairs of tasks between which there is a line; of more tasks they are spread over all."""

Batches = Sequence[tuple[Tensor, Tensor]]
"""Images, normalised as in training, float32 [B, C, H, W], and their classes, int64 [B]."""


@dataclass(frozen=True)
class Spread:
    """How much one generated tensor differs between tasks."""

    over_tasks: float
    """Standard deviation over the tasks: root of the mean, over the tensor's numbers, of their variance."""
    own: float
    """Standard deviation of the numbers within the tensor: root of the mean, over the tasks, of their variance; 0 of a
    single number."""

    @property
    def ratio(self) -> float | None:
        """0: all tasks have the same tensor; about 1: they differ as independent draws do. None of a tensor whose
        numbers are all the same (one of a single number)."""
        return self.over_tasks / self.own if self.own else None


class Line:
    """Figures of two tasks, or of two images, along the straight line between their embeddings."""

    @property
    def figures(self) -> Tensor:
        """Of the first and of the second at each point of the line, both ends among them, float64 [2, points]."""
        raise NotImplementedError

    def own(self) -> float:
        """Return the mean of the two, each with its own embedding."""
        return float(self.figures[0, 0] + self.figures[1, -1]) / 2

    def halfway(self) -> float:
        """Return the mean of the two with the mean of their embeddings."""
        return float(self.figures[:, self.figures.shape[1] // 2].mean())

    def other(self) -> float:
        """Return the mean of the two, each with the embedding of the other."""
        return float(self.figures[0, -1] + self.figures[1, 0]) / 2


@dataclass(frozen=True)
class Interpolation(Line):
    """Accuracies along the straight line between the embeddings of two tasks."""

    tasks: tuple[int, int]
    """Where the line begins and ends."""
    images: tuple[int, int]
    """How many of each task were classified."""
    accuracy: Tensor
    """float64 [2, POINTS]: of the images of the first task and of the second, at each point of the line."""

    @property
    def figures(self) -> Tensor:
        return self.accuracy


@dataclass(frozen=True)
class TaskWeights:
    """All that is seen in one run."""

    names: list[str]
    """Of the tasks, as the data set has them."""
    embedding_size: int
    embeddings: Tensor
    """Cosine similarity of the embeddings, [tasks, tasks]."""
    weight_count: int
    """Numbers that the hypernet makes for one task."""
    weights: Tensor
    """Cosine similarity of all generated weights, minus their mean over the tasks, [tasks, tasks]."""
    spread: dict[str, Spread]
    shapes: dict[str, list[int]]
    """Of the generated tensors, by name."""
    classes: int
    """Of a task."""
    lines: list[Interpolation]

    @property
    def count(self) -> int:
        return len(self.names)


# ---------------------------------------------------------------- weights


def task_parts(model: nn.Module) -> tuple[Tensor, nn.Module]:
    """Return the embeddings of the tasks, float32 [tasks, z_dim], and the generator, of a with_task_hypernet."""
    hyper = as_hypernetized(model)
    assert hyper is not None and hyper.embedded is not None
    return hyper.embedded.embedding.weight.detach(), hyper.embedded.generator


@torch.no_grad()
def weights_of_tasks(model: nn.Module) -> dict[str, Tensor]:
    """Return what the hypernet makes for each task, name -> float32 [tasks, *shape]."""
    embeddings, generator = task_parts(model)
    return generator(embeddings)


def centred_similarity(weights: Mapping[str, Tensor]) -> Tensor:
    """Return the cosine similarity of all weights of every two tasks after their mean over the tasks is taken away.

    weights: name -> [tasks, *shape]. Returns float64 [tasks, tasks].

    What all tasks share is left out, so that what is seen is how they differ. T tasks that differ in unrelated ways
    have -1 / (T - 1) and not 0, two tasks always -1. Each number counts as it is: tensors of large numbers say more
    than those of small ones.
    """
    products = torch.zeros(())
    for value in weights.values():
        rows = value.flatten(1).double().cpu()
        rows = rows - rows.mean(0)
        products = products + rows @ rows.T
    lengths = products.diagonal().sqrt().clamp_min(1e-300)
    return products / lengths / lengths[:, None]


def spread_over_tasks(weights: Mapping[str, Tensor]) -> dict[str, Spread]:
    """Return how much each tensor differs between tasks; name -> [tasks, *shape], two tasks or more.

    Both variances are the unbiased ones, so that independent draws have the ratio 1 in small tensors, too.
    """
    found = {}
    for name, value in weights.items():
        rows = value.flatten(1).double()
        over = rows.var(0, correction=1).mean()
        own = rows.var(1, correction=1).mean() if rows.shape[1] > 1 else torch.zeros(())
        found[name] = Spread(float(over.sqrt()), float(own.sqrt()))
    return found


# ---------------------------------------------------------------- lines between embeddings


def positions(points: int = POINTS) -> Tensor:
    """Return where on a line the points lie, from 0, the first task or image, to 1, the second, float64 [points]."""
    return torch.linspace(0, 1, points, dtype=torch.float64)


def chosen_pairs(tasks: int) -> list[tuple[int, int]]:
    """Return each task and the next; of more than MOST_PAIRS, so many spread over all."""
    count = tasks - 1
    if count > MOST_PAIRS:
        firsts = [round(n * (count - 1) / (MOST_PAIRS - 1)) for n in range(MOST_PAIRS)]
    else:
        firsts = list(range(count))
    return [(first, first + 1) for first in firsts]


@torch.no_grad()
def interpolate(
    model: nn.Module, pair: tuple[int, int], images: tuple[Batches, Batches], at: Tensor | None = None
) -> Interpolation:
    """Return the accuracies on the images of two tasks with the weights made at points of the line between them.

    The weights are made of (1 - a) * e_first + a * e_second for each a in `at` (default: positions()), in float32.
    """
    hyper = as_hypernetized(model)
    assert hyper is not None
    embeddings, generator = task_parts(model)
    first, second = embeddings[pair[0]], embeddings[pair[1]]
    counts = tuple(sum(len(y) for _, y in batches) for batches in images)
    found = []
    for a in (positions() if at is None else at).tolist():
        weights = generator((1 - a) * first + a * second)
        correct = [sum(int((hyper.call_with(weights, x).argmax(1) == y).sum()) for x, y in part) for part in images]
        found.append([correct[0] / counts[0], correct[1] / counts[1]])
    return Interpolation(pair, (counts[0], counts[1]), torch.tensor(found, dtype=torch.float64).T)


def held_out_images(run: LoadedRun, task: ImageSet, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a split of one task in batches, on the model's device."""
    data, trainer = run.config.data, run.config.trainer
    assert isinstance(data, TaskData)
    loader = ImageLoader(
        task,
        replace(data, loader="device"),
        device=task_parts(run.model)[0].device,
        batch_size=trainer.batch_size,
        eval_batch_size=trainer.eval_batch_size,
        seed=run.config.seed,
    )
    return loader.eval_batches(split)


def read_tasks(run: LoadedRun, split: str) -> TaskWeights:
    """Return all that is seen in a run on two tasks or more.

    Raises:
        UserError: the data set is missing or damaged.
    """
    assert isinstance(run.config.data, TaskData)
    tasks = load_tasks(run.config.data)
    embeddings, _ = task_parts(run.model)
    weights = weights_of_tasks(run.model)
    lines = []
    for first, second in chosen_pairs(len(embeddings)):
        images = [list(held_out_images(run, tasks.tasks[task], split)) for task in (first, second)]
        lines.append(interpolate(run.model, (first, second), (images[0], images[1])))
    return TaskWeights(
        tasks.names,
        embeddings.shape[1],
        cosines(embeddings.cpu()),
        sum(value[0].numel() for value in weights.values()),
        centred_similarity(weights),
        spread_over_tasks(weights),
        {name: list(value.shape[1:]) for name, value in weights.items()},
        tasks.tasks[0].num_classes,
        lines,
    )
