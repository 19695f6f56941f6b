"""Batches of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from hyperrun.data import PairSet
from hyperrun.data.pairs.loader import PairBatch, PairLoader, sources
from hyperrun.data.pairs.pieces import BOS, EOS, PAD
from hyperrun.errors import UserError
from hyperrun.inputs import few_rows
from tests.data.pairs.conftest import PAIR_DEFAULTS, PairData

CPU = torch.device("cpu")


def loader(data: PairSet, *, seed: int = 3, rank: int = 0, world_size: int = 1, **keys: object) -> PairLoader:
    cfg = PairData(**{**PAIR_DEFAULTS, **keys})
    return PairLoader(data, cfg, device=CPU, seed=seed, rank=rank, world_size=world_size)


def pairs_of(batch: PairBatch) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The pieces of each pair, every number beside them checked."""
    source, source_lengths, target, target_lengths = batch
    assert {source.dtype, source_lengths.dtype, target.dtype, target_lengths.dtype} == {torch.int64}
    for read, written, m, n in zip(source, target, source_lengths.tolist(), target_lengths.tolist(), strict=True):
        assert (read[m - 1], written[0], written[n]) == (EOS, BOS, EOS)
        assert (read[m:] == PAD).all() and (written[n + 1 :] == PAD).all()
        yield tuple(read[: m - 1].tolist()), tuple(written[1:n].tolist())


def all_pairs(data: PairSet, split: str) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    part = data.splits[split]
    return Counter((tuple(part.source[i].tolist()), tuple(part.target[i].tolist())) for i in range(len(part)))


@pytest.mark.parametrize("buckets", [1, 3, 50])
def test_an_epoch_has_every_pair_once(pair_set: Callable[..., PairSet], buckets: int) -> None:
    data = pair_set()
    fed = loader(data, buckets=buckets)
    for epoch in (0, 1):
        batches = list(fed.train_batches(epoch))
        assert len(batches) == fed.steps_per_epoch
        assert Counter(pair for batch in batches for pair in pairs_of(batch)) == all_pairs(data, "train")
    assert fed.pairs_per_epoch == 97


def test_a_batch_holds_as_many_as_fit(pair_set: Callable[..., PairSet]) -> None:
    fed = loader(pair_set())
    batches = list(fed.train_batches(0))
    sizes = [(batch.target.shape[1] - 1) * len(batch.target) for batch in batches]
    assert max(sizes) <= 200
    widths = [batch.target.shape[1] - 1 for batch in batches]
    full = [len(batch.target) == few_rows(200 // width) for batch, width in zip(batches, widths, strict=True)]
    assert sum(not one for one in full) <= 1, "the last is smaller, and no other"
    assert len(set(widths)) == 3
    assert sum(int(batch.target_lengths.sum()) for batch in batches) / len(batches) == fed.mean_predicted


def test_shapes_are_few_and_the_same_in_each_epoch(pair_set: Callable[..., PairSet]) -> None:
    fed = loader(pair_set())
    seen = [
        {(len(b.target), b.source.shape[1], b.target.shape[1] - 1) for b in fed.train_batches(epoch)}
        for epoch in (0, 1, 2)
    ]
    assert [sorted(one) for one in seen] == [fed.shapes] * 3
    assert len(fed.shapes) <= 3 * 3 + 1


def test_padding_is_little_where_there_are_buckets(pair_set: Callable[..., PairSet]) -> None:
    def used(buckets: int) -> float:
        batches = list(loader(pair_set(train=500), buckets=buckets, tokens_per_batch=400).train_batches(0))
        return sum(int(b.target_lengths.sum()) for b in batches) / sum(b.target[:, 1:].numel() for b in batches)

    assert used(1) < 0.65 < 0.85 < used(8)


def test_a_batch_is_a_function_of_seed_epoch_and_number(pair_set: Callable[..., PairSet]) -> None:
    data = pair_set()
    before = torch.get_rng_state()
    whole = list(loader(data).train_batches(2))
    for start in (0, 3, len(whole) - 1, len(whole)):
        again = list(loader(data).train_batches(2, start))
        assert len(again) == len(whole) - start
        for one, other in zip(again, whole[start:], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    for other in (loader(data).train_batches(1), loader(data, seed=4).train_batches(2)):
        # which pairs are together, and in what order the batches come, differ
        assert [[*pairs_of(batch)] for batch in other] != [[*pairs_of(batch)] for batch in whole]


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_have_equal_parts_of_every_batch(pair_set: Callable[..., PairSet], world_size: int) -> None:
    data = pair_set()
    fed = [loader(data, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [list(one.train_batches(1)) for one in fed]
    for batch in zip(*parts, strict=True):
        assert len({(one.source.shape, one.target.shape) for one in batch}) == 1
        assert batch[0].target[:, 1:].numel() * world_size <= 200
    seen = Counter(pair for batches in parts for batch in batches for pair in pairs_of(batch))
    missing = all_pairs(data, "train") - seen
    assert seen <= all_pairs(data, "train") and sum(missing.values()) == 97 % world_size
    assert fed[0].pairs_per_epoch == 97 - 97 % world_size


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_has_every_pair_once_with_its_number(
    pair_set: Callable[..., PairSet], split: str, world_size: int
) -> None:
    data = pair_set()
    seen: dict[int, object] = {}
    for rank in range(world_size):
        for numbers, batch in loader(data, rank=rank, world_size=world_size).eval_batches(split, 60):
            assert len(numbers) == 1 or max(batch.source.numel(), batch.target[:, 1:].numel()) <= 60
            for number, pair in zip(numbers.tolist(), pairs_of(batch), strict=True):
                assert number not in seen
                seen[number] = pair
    part = data.splits[split]
    assert seen == {i: (tuple(part.source[i].tolist()), tuple(part.target[i].tolist())) for i in range(len(part))}


def test_sentences_from_elsewhere_look_like_those_of_a_batch(pair_set: Callable[..., PairSet]) -> None:
    data = pair_set()
    for numbers, batch in loader(data).eval_batches("val"):
        texts = [data.val.source.texts[i] for i in numbers.tolist()]
        source, lengths = sources(data.source_pieces.encode(texts), CPU)
        assert torch.equal(source, batch.source) and torch.equal(lengths, batch.source_lengths)
    empty, lengths = sources([[]], CPU)
    assert (empty.tolist(), lengths.tolist()) == ([[EOS]], [1])


def test_what_has_no_room_is_refused(pair_set: Callable[..., PairSet]) -> None:
    data = pair_set()
    longest = int(data.train.target.lengths.max()) + 1
    loader(data, tokens_per_batch=longest)
    with pytest.raises(UserError, match=rf"tokens_per_batch={longest - 1} has no room .* \({longest} pieces\)$"):
        loader(data, tokens_per_batch=longest - 1)
    with pytest.raises(UserError, match="on each of 2 processes"):
        loader(data, tokens_per_batch=longest, world_size=2)
    with pytest.raises(UserError, match="3 training pairs for 4 processes"):
        loader(few(data, 3), world_size=4, tokens_per_batch=9999)


def few(data: PairSet, count: int) -> PairSet:
    sides = [replace(side, offsets=side.offsets[: count + 1]) for side in (data.train.source, data.train.target)]
    return replace(data, train=replace(data.train, source=sides[0], target=sides[1]))
