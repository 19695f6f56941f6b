from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

import hyperrun.data
from hyperrun.data import ImageData, ImageSplit, inputs_of, load_images, looks_of, make_set, names_of, register
from hyperrun.data.images import FolderSplit, seeded, statistics
from hyperrun.errors import UserError


def test_digits_are_all_there_and_split_alike_in_every_class(image_cfg):
    from sklearn.datasets import load_digits

    data = load_images(image_cfg(val_size=180))
    assert (len(data.train), len(data.val), len(data.test)) == (1257, 180, 360)
    assert data.channels == 1 and data.image_size == 8 and data.num_classes == 10
    assert data.train.images.dtype == torch.uint8 and data.train.labels.dtype == torch.int64
    everything = torch.cat([part.images.flatten(1) for part in (data.train, data.val, data.test)])
    pixels, _ = load_digits(return_X_y=True)
    ours = sorted(map(bytes, everything.numpy()))
    assert ours == sorted(map(bytes, np.round(pixels * 255 / 16).astype(np.uint8)))
    assert set(torch.bincount(data.test.labels).tolist()) <= {34, 35, 36, 37}  # 174 to 183 of each class in all
    assert everything.max() == 255


def test_split_depends_on_split_seed_alone(image_cfg):
    first = load_images(image_cfg(val_size=180))
    hyperrun.data._kept.clear()
    again = load_images(image_cfg(val_size=180, flip=True))
    assert torch.equal(first.val.images, again.val.images) and torch.equal(first.train.labels, again.train.labels)
    other = load_images(image_cfg(val_size=180, split_seed=1))
    assert not torch.equal(first.val.images, other.val.images)
    assert torch.equal(first.test.images, other.test.images)


def test_validation_is_disjoint_from_training(image_cfg):
    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1)  # each image names itself
    split = ImageSplit(images, torch.zeros(100, dtype=torch.int64))
    data = make_set("x", image_cfg(val_size=30), train=split, test=split, classes=["a"])
    train, val = set(data.train.images.flatten().tolist()), set(data.val.images.flatten().tolist())
    assert len(train) == 70 and len(val) == 30 and not train & val


@pytest.mark.parametrize("val_size", [50, 51])
def test_val_size_that_leaves_nothing(image_cfg, val_size):
    split = ImageSplit(torch.zeros(50, 1, 2, 2, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64))
    with pytest.raises(UserError, match=f"val_size={val_size} leaves nothing.* 50 training examples"):
        make_set("x", image_cfg(val_size=val_size), train=split, test=split, classes=["a"])


def test_own_validation_split_is_used_whatever_val_size(random_set, image_cfg):
    data = random_set()
    made = make_set(
        "x", image_cfg(val_size=10**6), train=data.train, val=data.test, test=data.test, classes=list("abcde")
    )
    assert made.val is data.test and made.train is data.train


def test_statistics_equal_those_of_the_pixels(random_set):
    split = random_set(train=700).train
    mean, std = statistics(split)
    pixels = split.images.double().div(255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean, pixels.mean(1).float())
    torch.testing.assert_close(std, pixels.std(1, correction=0).float())
    assert mean.dtype == std.dtype == torch.float32


def test_a_channel_that_never_changes_can_be_divided_by():
    black = ImageSplit(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    mean, std = statistics(black)
    assert mean.item() == 0 and std.item() == pytest.approx(1 / 255)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.full((50,), 5)}, "labels run from 5 to 5, allowed are 0 to 4"),
        ({"labels": torch.full((50,), -1)}, "labels run from -1 to -1"),
        ({"labels": torch.zeros(50)}, "labels must be int64"),
        ({"labels": torch.zeros(49, dtype=torch.int64)}, "50 images but 49 labels"),
        (
            {"images": torch.zeros(50, 3, 8, 8)},
            r"images must be uint8 \[N, C, H, W\], not torch.float32 \[50, 3, 8, 8\]",
        ),
        ({"images": torch.zeros(50, 3, 8, 9, dtype=torch.uint8)}, "square, not 8 x 9"),
        ({"images": torch.zeros(50, 1, 8, 8, dtype=torch.uint8)}, "test has images of shape"),
    ],
)
def test_wrong_tensors_of_a_plugin_are_named(random_set, image_cfg, change, message):
    data = random_set()
    wrong = ImageSplit(**{"images": data.train.images, "labels": data.train.labels, **change})
    with pytest.raises(UserError, match=message):
        make_set("mine", image_cfg(), train=wrong, test=data.test, classes=list("abcde"))


def test_image_size_of_a_set_of_fixed_size(image_cfg):
    with pytest.raises(UserError, match="image_size=16: the images of digits are 8 pixels wide; leave it at null"):
        load_images(image_cfg(image_size=16))


def test_unknown_name_lists_what_is_allowed(image_cfg):
    with pytest.raises(UserError, match=r"unknown data set 'cifra10'; did you mean 'cifar10'\? \(allowed: cifar10, "):
        load_images(image_cfg(name="cifra10"))


def test_registered_sets_are_found_and_kept(image_cfg, random_set, monkeypatch):
    calls = []

    @register("data", "mine", ImageData)
    def mine(cfg):
        calls.append(asdict(cfg))
        return random_set()

    first = load_images(image_cfg(name="mine"))
    assert load_images(image_cfg(name="mine", flip=True, cutout=4, crop_padding=2)) is first
    assert load_images(image_cfg(name="mine", val_size=5)) is not first
    assert load_images(image_cfg(name="mine", root="elsewhere")) is not first
    assert [call["val_size"] for call in calls] == [4, 5, 4]


def test_no_more_than_two_sets_stay_in_memory(image_cfg, random_set, monkeypatch):
    held = []

    @register("data", "mine", ImageData)
    def mine(cfg):
        held.append(len(hyperrun.data._kept))
        return random_set()

    for val_size in (1, 2, 3, 4, 4, 3):
        load_images(image_cfg(name="mine", val_size=val_size))
    assert held == [0, 1, 1, 1] and len(hyperrun.data._kept) == 2


def test_seeded_streams_differ_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    draws = {seeded(*parts).initial_seed() for parts in [(0, 1), (1, 0), (0, 11), (1, 1), (0, 1, "a"), (-1, 10**30)]}
    assert len(draws) == 6
    assert torch.equal(torch.get_rng_state(), before)


def test_shapes_table_covers_the_sets_of_fixed_size():
    assert {name for name in names_of("images") if looks_of(name)} == set(names_of("images")) - {"image_folder"}


def test_statistics_of_many_files_come_from_evenly_spaced_ones(monkeypatch):
    from pathlib import Path

    asked: list[int] = []

    def fetch(self, index):
        asked.extend(index.tolist())
        return torch.zeros(len(index), 3, 2, 2, dtype=torch.uint8)

    monkeypatch.setattr(FolderSplit, "fetch", fetch)
    statistics(FolderSplit([Path("x.png")] * 25_000, torch.zeros(25_000, dtype=torch.int64), 2))
    assert len(asked) == 10_000 and asked[:4] == [0, 2, 5, 7] and asked[-1] == 24_997


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_real_sets(image_cfg, name):
    data = load_images(image_cfg(name=name, val_size=5000, verify=name == "mnist"))
    assert inputs_of(image_cfg(name=name, val_size=5000)) == data.inputs
    total = {"mnist": 60_000, "cifar10": 50_000}[name]
    assert (len(data.train), len(data.val), len(data.test)) == (total - 5000, 5000, 10_000)
    published = {"mnist": [0.1307], "cifar10": [0.4914, 0.4822, 0.4465]}[name]
    torch.testing.assert_close(data.mean, torch.tensor(published), atol=2e-3, rtol=0)
    assert data.verified or name == "cifar10"
