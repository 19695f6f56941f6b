"""Task sets: one set of images made into several tasks of the same shape, for continual learning and transfer.

The name says what is made of which set: split_digits, split_mnist, permuted_mnist, rotated_mnist, and any other
FORM_SET, such as permuted_fashion_mnist.

- split: the classes, in order, are parted among the tasks; within a task labels begin at 0 (split MNIST: 0 or 1, 2 or
  3, ...; Zenke et al. 2017).
- permuted: each task but the first sees the pixels in an order of its own (Goodfellow et al. 2014).
- rotated: task t turns the images by t * 180 / tasks degrees (Lopez-Paz and Ranzato 2017).

With data.task_seed other than 0 the tasks are others of the same kind: the classes are shuffled before they are parted,
the first task's pixels are permuted too, the angles are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hyperrun.data.images import ImageSet, ImageSplit, Split, seeded
from hyperrun.data.kinds import TaskData
from hyperrun.errors import UserError
from hyperrun.inputs import Tasks

Change = Callable[[ImageSplit], ImageSplit]


@dataclass(frozen=True)
class TaskSet:
    """Tasks of one shape: images [C, H, W] of the same size, the same number of classes, one mean and deviation."""

    name: str
    tasks: list[ImageSet]
    names: list[str]
    """What each task is: "0, 1", "36 degrees"."""

    @property
    def inputs(self) -> Tasks:
        """What the tasks look like to a model."""
        return Tasks(replace(self.tasks[0].inputs, train=0), len(self.tasks))


def make_tasks(base: ImageSet, form: str, cfg: TaskData) -> TaskSet:
    """Return the tasks that `form` (split, permuted, rotated) makes of a set.

    All tasks are normalised by mean and deviation of the whole set's training images.

    Raises:
        UserError: pictures that stay in files, or classes that cannot be parted among cfg.tasks.
    """
    if not isinstance(base.train, ImageSplit):
        raise UserError(f"data.name={cfg.name}: tasks are made of sets that are held in memory, not of {base.name}")
    classes = classes_of(len(base.classes), form, cfg)
    named = base.classes if classes == len(base.classes) else [str(i) for i in range(classes)]
    changes = split(base, cfg) if form == "split" else changes_of_pixels(form, base.image_size, cfg)
    tasks = []
    for _, change in changes:
        parts = {part: change(in_memory(getattr(base, part))) for part in ("train", "val", "test")}
        for part, images in parts.items():
            if not len(images):
                raise UserError(f"{cfg.name}: a task has no {part} examples; raise data.val_size or lower data.tasks")
        tasks.append(replace(base, name=cfg.name, num_classes=classes, classes=named, **parts))
    return TaskSet(cfg.name, tasks, [said for said, _ in changes])


def in_memory(images: Split) -> ImageSplit:
    return images if isinstance(images, ImageSplit) else images.read()


def classes_of(classes: int, form: str, cfg: TaskData) -> int:
    """Return how many classes each task has.

    Raises:
        UserError: as many tasks as do not divide the classes, or leave one class to a task.
    """
    if form != "split":
        return classes
    if classes % cfg.tasks or classes == cfg.tasks:
        fits = [n for n in range(1, classes) if classes % n == 0]
        raise UserError(f"data.tasks={cfg.tasks} cannot part the {classes} classes evenly (allowed: {fits})")
    return classes // cfg.tasks


def split(base: ImageSet, cfg: TaskData) -> list[tuple[str, Change]]:
    """Return the name of each task and what makes it: its classes alone, numbered from 0."""
    count = classes_of(base.num_classes, "split", cfg)
    order = torch.arange(base.num_classes)
    if cfg.task_seed:
        order = order[torch.randperm(base.num_classes, generator=seeded("split", cfg.task_seed))]

    def only(mine: Tensor) -> Change:
        def change(images: ImageSplit) -> ImageSplit:
            is_mine = images.labels[:, None] == mine  # [N, count]
            index = is_mine.any(1).nonzero().squeeze(1)
            return ImageSplit(images.images[index], is_mine[index].long().argmax(1))

        return change

    parts = order.split(count)
    return [(", ".join(base.classes[i] for i in part.tolist()), only(part)) for part in parts]


def changes_of_pixels(form: str, side: int, cfg: TaskData) -> list[tuple[str, Change]]:
    """Return the name of each task and what makes it of images of `side` pixels, for tasks of all classes."""
    return permuted(side, cfg) if form == "permuted" else rotated(cfg)


def change_of_pixels(form: str, side: int, cfg: TaskData, task: int) -> Callable[[Tensor], Tensor] | None:
    """Return what a task does to images, uint8 [B, C, side, side]; None for nothing."""
    if form == "split":
        return None
    _, change = changes_of_pixels(form, side, cfg)[task]
    return lambda images: change(ImageSplit(images, torch.zeros(len(images), dtype=torch.int64))).images


def permuted(side: int, cfg: TaskData) -> list[tuple[str, Change]]:
    """Return the name of each task and what makes it: the same order of pixels for all its images and channels."""
    pixels = side**2

    def reordered(t: int) -> Change:
        def change(images: ImageSplit) -> ImageSplit:
            if t == 0 and not cfg.task_seed:
                return images
            order = torch.randperm(pixels, generator=seeded("permuted", cfg.task_seed, t))
            return ImageSplit(images.images.flatten(2)[..., order].view_as(images.images), images.labels)

        return change

    return [(f"order {t}", reordered(t)) for t in range(cfg.tasks)]


def rotated(cfg: TaskData) -> list[tuple[str, Change]]:
    """Return the name of each task and what makes it: all images turned by its angle, counter-clockwise."""
    angles = [t * 180 / cfg.tasks for t in range(cfg.tasks)]
    if cfg.task_seed:
        angles = (180 * torch.rand(cfg.tasks, generator=seeded("rotated", cfg.task_seed))).tolist()

    from torchvision.transforms.functional import InterpolationMode, rotate  # half a second that others need not wait

    def turned(angle: float) -> Change:
        def change(images: ImageSplit) -> ImageSplit:
            parts = [rotate(part, angle, InterpolationMode.BILINEAR) for part in images.images.split(1000)]
            return ImageSplit(torch.cat(parts), images.labels)

        return change

    return [(f"{angle:.0f} degrees", turned(angle)) for angle in angles]
