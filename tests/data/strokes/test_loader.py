"""Every training sequence once in each epoch, whole, padded; a pure function of seed, epoch and number."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch

from hyperrun.data.strokes.loader import StrokeLoader, batch_sizes, best_tops, padded_lengths, spread
from hyperrun.errors import UserError

CPU = torch.device("cpu")
CHUNKS = [None, 1, 7, 100]


@pytest.fixture
def make_loader(stroke_set, stroke_cfg):
    def make(data=None, *, batch_size=8, eval_batch_size=5, seed=0, rank=0, world_size=1, **keys):
        return StrokeLoader(
            stroke_set() if data is None else data,
            stroke_cfg(**keys),
            device=CPU,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )

    return make


def sequences_of(batches, total=None):
    """Put the rows of batches together again, chunks included: a list of what each row held, float32 [n, 3]."""
    found, rows = [], []
    for points, lengths, first in batches:
        assert points.dtype == torch.float32 and lengths.dtype == torch.int64 and lengths.device == CPU
        assert points.shape[0] == len(lengths) and points.shape[2] == 3
        if first:
            found, rows = found + rows, [None] * len(lengths)
        for i, (row, length) in enumerate(zip(points, lengths.tolist(), strict=True)):
            assert not row[length + 1 if length else 0 :].any(), "padding is zero"
            if length and rows[i] is None:
                assert first
                rows[i] = row[: length + 1]
            elif length:
                assert torch.equal(rows[i][-1], row[0]), "a chunk begins where the last one ended"
                rows[i] = torch.cat([rows[i], row[1 : length + 1]])
    found = [row for row in found + rows if row is not None]
    return found


def same(found, split):
    """Whether these are the sequences of a split, each once, in any order."""
    keys = [sorted(one.numpy().tobytes() for one in some) for some in (found, [split[i] for i in range(len(split))])]
    return keys[0] == keys[1]


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("batch_size", "buckets"), [(1, 1), (8, 4), (8, 100), (16, 1), (36, 4), (37, 2), (64, 3)])
def test_every_sequence_comes_once_in_each_epoch(make_loader, stroke_set, chunk, batch_size, buckets):
    data = stroke_set()
    loader = make_loader(data, batch_size=batch_size, buckets=buckets, sequence_length=chunk)
    for epoch in (0, 1):
        batches = list(loader.train_batches(epoch))
        assert len(batches) == loader.steps_per_epoch
        assert same(sequences_of(batches), data.train)
        assert {len(points) for points, _, _ in batches} == {loader.batch_size} == {min(batch_size, 37)}
        assert {points.shape[1] for points, _, _ in batches} == set(loader.lengths)
        assert len(loader.lengths) <= (buckets if chunk is None else 1)
        assert sum(int(lengths.sum()) for _, lengths, _ in batches) == data.train.predicted
        assert all(bool((lengths > 0).any()) for _, lengths, _ in batches), "no batch and no chunk is empty"
    assert loader.sequences_per_step * loader.steps_per_epoch == pytest.approx(37)


def test_batches_differ_by_one_sequence_at_most(make_loader):
    counts = [int((lengths > 0).sum()) for _, lengths, _ in make_loader(batch_size=8).train_batches(0)]
    assert sorted(counts) == [7, 7, 7, 8, 8]
    for count, most in itertools.product(range(1, 40), range(1, 12)):
        sizes = batch_sizes(count, most)
        assert sum(sizes) == count and len(sizes) == -(-count // most)
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= most


def test_empty_rows_are_spread_evenly():
    assert spread(torch.arange(4), 8).tolist() == [0, -1, 1, -1, 2, -1, 3, -1]
    for count in range(1, 13):
        rows = spread(torch.arange(count), 12)
        assert rows[rows >= 0].tolist() == list(range(count))


def test_sequences_are_beside_others_of_about_their_length(make_loader, stroke_set):
    data = stroke_set(train=[3] * 16 + [50] * 16)
    loader = make_loader(data, buckets=2)
    shapes = [(points.shape[1], set(lengths.tolist())) for points, lengths, _ in loader.train_batches(0)]
    assert sorted(shapes, key=lambda shape: shape[0]) == [(3, {2}), (3, {2}), (50, {49}), (50, {49})]


def test_leftovers_of_a_bucket_go_with_the_next(make_loader, stroke_set):
    data = stroke_set(train=[3] * 10 + [50] * 6)
    batches = list(make_loader(data, buckets=2).train_batches(0))
    assert sorted(points.shape[1] for points, _, _ in batches) == [3, 50]
    assert (
        sorted(next(lengths for points, lengths, _ in batches if points.shape[1] == 50).tolist()) == [2, 2] + [49] * 6
    )


@pytest.mark.parametrize("chunk", [None, 7])
@pytest.mark.parametrize("epoch", [0, 2])
def test_resuming_at_any_batch_gives_the_rest(make_loader, chunk, epoch):
    keys = {"sequence_length": chunk, "scale": 0.1}
    whole = list(make_loader(**keys).train_batches(epoch))
    for start in range(len(whole) + 1):
        rest = list(make_loader(**keys).train_batches(epoch, start))
        assert len(rest) == len(whole) - start
        for one, other in zip(whole[start:], rest, strict=True):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) and one[2] == other[2]


def test_order_follows_from_seed_and_epoch(make_loader):
    def order(epoch=0, **keys):
        return torch.cat([lengths for _, lengths, _ in make_loader(**keys).train_batches(epoch)]).tolist()

    assert order() == order()
    assert order() != order(epoch=1) and order() != order(seed=1) and sorted(order()) == sorted(order(epoch=1))


@pytest.mark.parametrize("chunk", [None, 7])
@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_processes_partition_each_batch(make_loader, chunk, world_size):
    keys = {"sequence_length": chunk, "scale": 0.1}
    whole = make_loader(**keys)
    ranks = [make_loader(**keys, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {loader.steps_per_epoch for loader in ranks} == {whole.steps_per_epoch}
    for (points, lengths, first), *parts in zip(
        whole.train_batches(1), *(loader.train_batches(1) for loader in ranks), strict=True
    ):
        assert torch.equal(torch.cat([part[0] for part in parts]), points)
        assert torch.equal(torch.cat([part[1] for part in parts]), lengths)
        assert [part[2] for part in parts] == [first] * world_size


def test_each_sequence_is_scaled_by_a_factor_of_its_own(make_loader, stroke_set):
    data = stroke_set(train=list(range(2, 39)))  # lengths that tell the sequences apart
    plain = {len(row): row for row in sequences_of(make_loader(data).train_batches(0))}
    factors = []
    for epoch in range(12):
        for row in sequences_of(make_loader(data, scale=0.1).train_batches(epoch)):
            assert row[0, :2].tolist() == [0, 0] and torch.equal(row[:, 2], plain[len(row)][:, 2])
            raw, before = (data.raw(one)[1:, :2] for one in (row, plain[len(row)]))
            factor = float((raw * before).sum() / (before**2).sum())
            torch.testing.assert_close(raw, factor * before, atol=1e-4, rtol=1e-4)
            factors.append(factor)
    assert 0.9 <= min(factors) < 0.91 and 1.09 < max(factors) <= 1.1 and len({round(f, 6) for f in factors}) > 400
    again, others = (make_loader(data, scale=0.1, batch_size=size, buckets=size) for size in (8, 2))
    assert same(sequences_of(again.train_batches(3)), sequences_of(others.train_batches(3)))
    assert not same(sequences_of(again.train_batches(3)), sequences_of(others.train_batches(4)))


def test_evaluation_is_not_scaled(make_loader, stroke_set):
    assert same(sequences_of(make_loader(scale=0.5).eval_batches("train")), stroke_set().train)


@pytest.mark.parametrize("buckets", [1, 2, 3, 5, 50])
def test_buckets_have_the_least_padding(buckets):
    rng = random.Random(buckets)
    for _ in range(5):
        lengths = torch.tensor([rng.randint(2, 12) for _ in range(12)])
        padded = padded_lengths(lengths, buckets)
        different = lengths.unique().tolist()
        assert bool((padded >= lengths).all()) and len(padded.unique()) == min(buckets, len(different))
        choices = itertools.combinations(different[:-1], min(buckets, len(different)) - 1)
        totals = [sum(min(t for t in (*c, different[-1]) if t >= n) for n in lengths.tolist()) for c in choices]
        assert int(padded.sum()) == min(totals)
    assert best_tops((5,), (3,), buckets) == [5]


def test_global_random_state_and_threads_are_left_alone(make_loader):
    before, numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    threads = torch.get_num_threads()
    loader = make_loader(scale=0.1)
    assert list(loader.train_batches(3)) and list(loader.eval_batches("val"))
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    assert np.array_equal(np.random.get_state()[1], numpy)


def test_batches_are_copies(make_loader, stroke_set):
    data = stroke_set()
    before = data.train.points.clone()
    for points, _, _ in make_loader(data).train_batches(0):
        points.fill_(7)
    assert torch.equal(data.train.points, before)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"world_size": 3}, "^trainer.batch_size=8 must be a multiple of the 3 processes$"),
        ({"batch_size": 64, "world_size": 64}, "^random has 37 training sequences for 64 processes$"),
    ],
)
def test_what_cannot_be_fed(make_loader, keys, message):
    with pytest.raises(UserError, match=message):
        make_loader(**keys)


def test_a_batch_is_no_larger_than_the_set(make_loader):
    assert make_loader(batch_size=64).batch_size == 37
    assert make_loader(batch_size=64, world_size=2).batch_size == 38  # one row is empty


def test_strokes_lie_in_memory_on_a_cpu(make_loader):
    loader = make_loader()
    assert loader.path == "device" and loader.reason.endswith("MiB in memory")


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("chunk", [None, 1, 6])
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_evaluation_covers_each_sequence_once(make_loader, stroke_set, split, chunk, size):
    data = stroke_set()
    batches = list(make_loader(data, eval_batch_size=size).eval_batches(split, chunk))
    assert same(sequences_of(batches), data.splits[split])
    assert max(len(points) for points, _, _ in batches) <= size
    assert max(points.shape[1] for points, _, _ in batches) - 1 <= (chunk or 256)
    assert all(bool((lengths > 0).any()) for _, lengths, _ in batches)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_processes_share_the_evaluation(make_loader, stroke_set, world_size):
    data = stroke_set(val=[4, 9, 3])
    loaders = [make_loader(data, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [sequences_of(loader.eval_batches("val")) for loader in loaders]
    assert same([row for part in parts for row in part], data.val)
