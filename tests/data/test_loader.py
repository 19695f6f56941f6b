from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from hyperrun.data import images as images_module
from hyperrun.data.augment import draw_plan
from hyperrun.data.images import FolderSplit
from hyperrun.data.loader import ImageLoader
from hyperrun.errors import UserError

CPU = torch.device("cpu")
ALL = {"crop_padding": 2, "flip": True, "cutout": 3}


@pytest.fixture
def make_loader(random_set, image_cfg):
    def make(data=None, *, batch_size=8, eval_batch_size=3, seed=0, device=CPU, options=None, **keys):
        cfg = image_cfg(**{"loader": "device", **keys})
        return ImageLoader(
            random_set() if data is None else data,
            cfg,
            device=device,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            **(options or {}),
        )

    return make


def joined(batches):
    xs, ys = zip(*batches, strict=True)
    return torch.cat(xs), torch.cat(ys)


def by_hand(data, cfg, seed, epoch):
    """Augment one image after the other, in NumPy, from the epoch's plan."""
    plan = draw_plan(len(data.train), data.image_size, cfg, seed=seed, epoch=epoch)
    p, side = cfg.crop_padding, data.image_size
    out = []
    for i, n in enumerate(plan.order.tolist()):
        image = np.pad(data.train.images[n].numpy(), ((0, 0), (p, p), (p, p)))
        if plan.top is not None:
            image = image[:, plan.top[i] :, plan.left[i] :][:, :side, :side]
        if plan.flip is not None and plan.flip[i]:
            image = image[:, :, ::-1]
        x = (image / 255.0 - data.mean.numpy()[:, None, None]) / data.std.numpy()[:, None, None]
        if plan.hole_y is not None:
            top, left = int(plan.hole_y[i]) - cfg.cutout // 2, int(plan.hole_x[i]) - cfg.cutout // 2
            x[:, max(top, 0) : max(top + cfg.cutout, 0), max(left, 0) : max(left + cfg.cutout, 0)] = 0
        out.append(x)
    return torch.from_numpy(np.stack(out)).float(), data.train.labels[plan.order]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"crop_padding": 2},
        {"flip": True},
        {"cutout": 3},
        {"cutout": 4},
        {"flip": True, "cutout": 20},
        ALL,
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_what_one_image_at_a_time_gives(make_loader, random_set, image_cfg, keys, channels):
    data = random_set(channels=channels)
    x, y = joined(make_loader(data, seed=3, **keys).train_batches(2))
    expected, labels = by_hand(data, image_cfg(**keys), 3, 2)
    assert len(x) == 48  # 6 full batches of 8; the ragged rest of 2 is left out
    torch.testing.assert_close(x, expected[:48], atol=1e-5, rtol=1e-5)
    assert torch.equal(y, labels[:48]) and y.dtype == torch.int64


def test_every_crop_flip_and_hole_occurs(image_cfg):
    plan = draw_plan(5000, 8, image_cfg(**ALL), seed=0, epoch=0)
    assert torch.equal(plan.order.sort().values, torch.arange(5000))
    for drawn, high in ((plan.top, 5), (plan.left, 5), (plan.hole_y, 8), (plan.hole_x, 8), (plan.flip, 2)):
        assert drawn is not None
        counts = torch.bincount(drawn.long())
        assert len(counts) == high and counts.min() > 0.8 * 5000 / high
    assert not torch.equal(plan.top, plan.left) and not torch.equal(plan.hole_y, plan.hole_x)


def test_turning_one_augmentation_on_leaves_the_others_alone(image_cfg):
    everything = draw_plan(100, 8, image_cfg(**ALL), seed=0, epoch=0)
    flips = draw_plan(100, 8, image_cfg(flip=True), seed=0, epoch=0)
    assert torch.equal(everything.order, flips.order) and torch.equal(everything.flip, flips.flip)
    assert flips.top is None and flips.hole_y is None


@pytest.mark.parametrize("keys", [{}, ALL], ids=["plain", "augmented"])
@pytest.mark.parametrize("workers", [0, 2])
def test_both_paths_give_the_same_bits(make_loader, keys, workers):
    x, y = joined(make_loader(loader="device", **keys).train_batches(1))
    x2, y2 = joined(make_loader(loader="dataloader", workers=workers, **keys).train_batches(1))
    assert torch.equal(x, x2) and torch.equal(y, y2)
    for split in ("train", "val", "test"):
        ours = joined(make_loader(loader="device", **keys).eval_batches(split))
        theirs = joined(make_loader(loader="dataloader", workers=workers, **keys).eval_batches(split))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("loader", ["device", "dataloader"])
def test_resuming_inside_an_epoch_gives_the_rest_of_it(make_loader, loader):
    whole = list(make_loader(loader=loader, **ALL).train_batches(4))
    rest = list(make_loader(loader=loader, **ALL).train_batches(4, start=4))
    assert len(whole) == 6 and len(rest) == 2
    for (x, y), (x2, y2) in zip(whole[4:], rest, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert list(make_loader(loader=loader, **ALL).train_batches(4, start=6)) == []


def test_an_example_is_treated_alike_in_any_batch_size(make_loader):
    x8, y8 = joined(make_loader(batch_size=8, **ALL).train_batches(0))
    x16, y16 = joined(make_loader(batch_size=16, **ALL).train_batches(0))
    assert torch.equal(x8, x16) and torch.equal(y8, y16)


def test_epochs_and_seeds_differ(make_loader):
    loader = make_loader(**ALL)
    first, again = joined(loader.train_batches(0)), joined(loader.train_batches(0))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], joined(loader.train_batches(1))[0])
    assert not torch.equal(first[0], joined(make_loader(seed=1, **ALL).train_batches(0))[0])


@pytest.mark.parametrize("loader", ["device", "dataloader"])
@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_state_is_left_alone(make_loader, loader, workers):
    before, python, numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    feed = make_loader(loader=loader, workers=workers, **ALL)
    for batches in (feed.train_batches(0), feed.eval_batches("val")):
        assert len(list(batches)) > 1
    assert torch.equal(torch.get_rng_state(), before) and random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy)


@pytest.mark.parametrize("loader", ["device", "dataloader"])
def test_processes_share_each_batch_in_contiguous_slices(make_loader, loader):
    whole = list(make_loader(loader=loader, **ALL).train_batches(0))
    ranks = [
        list(make_loader(loader=loader, options={"rank": r, "world_size": 4}, **ALL).train_batches(0)) for r in range(4)
    ]
    for step, (x, y) in enumerate(whole):
        parts = [rank[step] for rank in ranks]
        assert [len(part[0]) for part in parts] == [2, 2, 2, 2]
        assert torch.equal(torch.cat([part[0] for part in parts]), x)
        assert torch.equal(torch.cat([part[1] for part in parts]), y)


def test_processes_share_the_evaluation(make_loader):
    whole = list(make_loader(eval_batch_size=2).eval_batches("test"))
    options = [{"rank": rank, "world_size": 3} for rank in range(3)]
    loaders = [make_loader(batch_size=9, eval_batch_size=2, options=each) for each in options]
    shared = [list(loader.eval_batches("test")) for loader in loaders]
    assert [[len(y) for _, y in rank] for rank in shared] == [[2, 1], [2], [2]]
    for i, (x, y) in enumerate(whole):
        assert torch.equal(shared[i % 3][i // 3][0], x) and torch.equal(shared[i % 3][i // 3][1], y)


def test_evaluation_is_in_order_whole_and_not_augmented(make_loader, random_set):
    data = random_set()
    x, y = joined(make_loader(data, **ALL).eval_batches("train"))
    assert torch.equal(y, data.train.labels)
    expected = (data.train.images / 255 - data.mean[:, None, None]) / data.std[:, None, None]
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_the_number_of_threads_is_put_back(make_loader):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        loader = make_loader(**ALL)
        for batches in (loader.train_batches(0), loader.eval_batches("val")):
            next(batches)
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_unknown_split_is_a_mistake_of_ours(make_loader):
    with pytest.raises(KeyError):
        next(make_loader().eval_batches("validation"))


def test_a_split_smaller_than_the_batch_is_one_batch(make_loader):
    loader = make_loader(batch_size=128)
    assert (loader.batch_size, loader.steps_per_epoch) == (50, 1)
    assert [len(y) for _, y in loader.train_batches(0)] == [50]
    shared = make_loader(batch_size=128, options={"rank": 3, "world_size": 4})
    assert (shared.batch_size, shared.steps_per_epoch) == (48, 1)
    assert [len(y) for _, y in shared.train_batches(0)] == [12]


def test_batch_size_must_divide_among_the_processes(make_loader):
    with pytest.raises(UserError, match="trainer.batch_size=8 must be a multiple of the 3 processes"):
        make_loader(options={"world_size": 3})


def test_fewer_examples_than_processes(make_loader, random_set):
    with pytest.raises(UserError, match="random has 2 training examples for 4 processes"):
        make_loader(random_set(train=2), options={"world_size": 4})


@pytest.mark.parametrize("loader", ["device", "dataloader"])
def test_channels_last_changes_the_layout_only(make_loader, loader):
    plain = joined(make_loader(loader=loader, **ALL).train_batches(0))[0]
    batches = list(make_loader(loader=loader, options={"channels_last": True}, **ALL).train_batches(0))
    for x, _ in batches:
        assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(joined(batches)[0], plain)
    (x, _), *_ = make_loader(loader=loader, options={"channels_last": True}).eval_batches("val")
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_auto_takes_the_device_when_the_set_fits(make_loader, monkeypatch):
    needed = 50 * 3 * 12 * 12  # padded
    monkeypatch.setattr("hyperrun.data.loader.free_memory", lambda device: 4 * needed)
    fits = make_loader(loader="auto", crop_padding=2)
    assert fits.path == "device" and "under a quarter of the 0.0 GiB free on cpu" in fits.reason
    monkeypatch.setattr("hyperrun.data.loader.free_memory", lambda device: 4 * needed - 1)
    large = make_loader(loader="auto", crop_padding=2)
    assert large.path == "dataloader" and "over a quarter" in large.reason
    assert make_loader(loader="dataloader").reason == "data.loader=dataloader"


def test_free_memory_of_this_machine_is_plausible():
    free = images_module.free_memory(CPU)
    assert free is None or 2**20 < free < 2**50


def test_stopping_early_leaves_no_worker_behind(make_loader):
    import multiprocessing

    batches = make_loader(loader="dataloader", workers=2).train_batches(0)
    next(batches)
    assert multiprocessing.active_children()
    batches.close()
    assert not multiprocessing.active_children()


def test_an_unreadable_picture_ends_in_one_line(make_loader, random_set, tmp_path):
    data = random_set(side=4)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = FolderSplit([tmp_path / "broken.png"] * 16, torch.zeros(16, dtype=torch.int64), 4)
    data.train = files
    feed = make_loader(data, loader="dataloader", workers=1)
    with pytest.raises(UserError, match=r"^cannot read the picture .*broken\.png: cannot identify image file [^\n]*$"):
        next(feed.train_batches(0))


@pytest.mark.cuda
def test_a_gpu_gives_the_same_bits(make_loader):
    cuda = torch.device("cuda")
    here = joined(make_loader(**ALL).train_batches(0))
    for loader in ("device", "dataloader"):
        there = joined(make_loader(loader=loader, device=cuda, **ALL).train_batches(0))
        assert there[0].device.type == "cuda"
        assert torch.equal(there[0].cpu(), here[0]) and torch.equal(there[1].cpu(), here[1])
