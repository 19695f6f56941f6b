"""Task sets: what becomes of the images and labels of a set, and what cannot be made."""

from __future__ import annotations

import pytest
import torch

from hyperrun.data import TaskSet, as_images, inputs_of, load_images, load_tasks, published_name
from hyperrun.data.images import ImageSplit
from hyperrun.data.kinds import TaskData
from hyperrun.errors import UserError
from hyperrun.inputs import Images, Tasks
from tests.composed import compose_config


def config(name: str, *words: str) -> TaskData:
    data = compose_config(["model=hypermlp", "data=split_digits", f"data.name={name}", *words]).data
    assert isinstance(data, TaskData)
    return data


def splits(tasks: TaskSet, part: str) -> list[ImageSplit]:
    return [getattr(task, part) for task in tasks.tasks]


def test_split_parts_the_classes_and_numbers_them_from_0():
    cfg = config("split_digits")
    tasks, whole = load_tasks(cfg), load_images(as_images(cfg))
    assert tasks.names == ["0, 1", "2, 3", "4, 5", "6, 7", "8, 9"]
    assert [task.num_classes for task in tasks.tasks] == [2] * 5
    for part in ("train", "val", "test"):
        base = getattr(whole, part)
        for t, images in enumerate(splits(tasks, part)):
            for label in (0, 1):
                assert torch.equal(images.images[images.labels == label], base.images[base.labels == 2 * t + label])
        assert sum(map(len, splits(tasks, part))) == len(base)
    assert all(torch.equal(task.mean, whole.mean) for task in tasks.tasks)


def test_another_task_seed_pairs_other_classes():
    names = load_tasks(config("split_digits", "data.task_seed=1")).names
    assert names != ["0, 1", "2, 3", "4, 5", "6, 7", "8, 9"]
    assert sorted(", ".join(names).split(", ")) == [str(digit) for digit in range(10)]


def test_permuted_reorders_all_images_of_a_task_alike_and_leaves_the_first():
    cfg = config("permuted_digits", "data.tasks=3")
    tasks, whole = load_tasks(cfg), load_images(as_images(cfg))
    first, second, third = splits(tasks, "train")
    assert torch.equal(first.images, whole.train.images)
    assert torch.equal(second.labels, whole.train.labels)
    for other in (second, third):
        assert not torch.equal(other.images, first.images)
        assert torch.equal(other.images.flatten(1).sort().values, first.images.flatten(1).sort().values)
    assert not torch.equal(second.images, third.images)
    columns = first.images.flatten(1)
    order = [(columns == column[:, None]).all(0).nonzero()[0, 0].item() for column in second.images.flatten(1).T]
    assert torch.equal(second.images.flatten(1), columns[:, order]), "one order for all images"
    assert torch.equal(
        splits(tasks, "test")[1].images.flatten(1)[:, 5], splits(tasks, "test")[0].images.flatten(1)[:, order[5]]
    )


def test_rotated_turns_counter_clockwise_by_equal_steps():
    tasks = load_tasks(config("rotated_digits", "data.tasks=2"))
    assert tasks.names == ["0 degrees", "90 degrees"]
    upright, turned = splits(tasks, "test")
    assert torch.equal(turned.images, upright.images.rot90(1, (2, 3)))


def test_shapes_are_known_without_reading_the_set():
    assert inputs_of(config("split_mnist")) == Tasks(Images(1, 28, 2, train=0), 5)
    assert inputs_of(config("permuted_cifar10", "data.tasks=3")) == Tasks(Images(3, 32, 10, train=0), 3)
    assert published_name(config("rotated_mnist")) == "mnist"


@pytest.mark.parametrize(
    ("name", "word", "said"),
    [
        ("split_digits", "data.tasks=3", r"data.tasks=3 cannot part the 10 classes evenly \(allowed: \[1, 2, 5\]\)"),
        ("split_digits", "data.tasks=10", "cannot part"),
        ("splitt_digits", "data.tasks=5", "did you mean 'split_digits'"),
        ("split_digitz", "data.tasks=5", "did you mean 'split_digits'"),
        ("split_digits", "data.val_size=3", "a task has no val examples"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(name, word, said):
    with pytest.raises(UserError, match=said):
        load_tasks(config(name, word))


@pytest.mark.parametrize("word", ["data.tasks=0", "data.order=sequential", "data.beta=-1", "data.task_seed=-1"])
def test_values_out_of_range_are_refused(word):
    with pytest.raises(UserError):
        config("split_digits", word)


@pytest.mark.data
def test_split_mnist():
    tasks = load_tasks(config("split_mnist", "data.val_size=5000"))
    assert [task.test.shape for task in tasks.tasks] == [(1, 28, 28)] * 5
    assert sum(len(task.train) for task in tasks.tasks) == 55_000
