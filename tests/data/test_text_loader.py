from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hyperrun.data.loader import device_or_host
from hyperrun.data.text import make_text
from hyperrun.data.text_loader import TextLoader, stream_bounds
from hyperrun.data.vocabulary import Vocabulary
from hyperrun.errors import UserError

CPU = torch.device("cpu")
SYMBOLS = [chr(97 + i) for i in range(11)]


@pytest.fixture
def text_set():
    """Return a function that makes a text of random symbols; `places` numbers the training symbols by their place."""

    def make(train=300, val=101, test=57, places=False):
        generator = torch.Generator().manual_seed(0)
        ids = [torch.randint(11, (count,), generator=generator) for count in (train, val, test)]
        vocabulary = Vocabulary("char", [chr(0x4E00 + i) for i in range(train)] if places else SYMBOLS)
        if places:
            ids[0] = torch.arange(train)
        return make_text("random", train=ids[0], val=ids[1], test=ids[2], vocabulary=vocabulary)

    return make


@pytest.fixture
def make_loader(text_set, text_cfg):
    def make(data=None, *, batch_size=4, eval_batch_size=3, seed=0, device=CPU, rank=0, world_size=1, **keys):
        return TextLoader(
            text_set() if data is None else data,
            text_cfg(**keys),
            device=device,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )

    return make


# ---------------------------------------------------------------- training


def test_streams_are_contiguous_from_batch_to_batch(make_loader, text_set):
    data = text_set(places=True)
    loader = make_loader(data)
    assert (loader.batch_size, loader.steps_per_epoch, loader.sequence_length) == (4, 9, 8)  # 299 = 4 * 9 * 8 + 11
    batches = list(loader.train_batches(0))
    assert [first for _, _, first in batches] == [True] + [False] * 8
    inputs, targets = (torch.cat([batch[i] for batch in batches], 1) for i in (0, 1))
    assert inputs.dtype == targets.dtype == torch.int64 and inputs.is_contiguous()
    assert inputs.tolist() == [list(range(72 * stream, 72 * stream + 72)) for stream in range(4)]
    assert torch.equal(targets, inputs + 1)


def test_epochs_begin_at_places_that_follow_from_seed_and_epoch(make_loader, text_set):
    data = text_set(places=True)
    loader = make_loader(data)
    offsets = [loader.offset(epoch) for epoch in range(60)]
    assert offsets[0] == 0 and set(offsets) == set(range(12))  # 11 symbols are left over in each epoch
    assert offsets == [make_loader(data).offset(epoch) for epoch in range(60)]
    assert offsets != [make_loader(data, seed=1).offset(epoch) for epoch in range(60)]
    seen = torch.cat([batch[1].flatten() for epoch in range(60) for batch in loader.train_batches(epoch)])
    assert sorted(set(seen.tolist())) == list(range(1, 300))
    epoch = offsets.index(11)
    assert next(loader.train_batches(epoch))[0][0, 0] == 11


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("start", [1, 8, 9])
def test_resuming_inside_an_epoch_gives_the_rest_of_it(make_loader, epoch, start):
    whole, rest = list(make_loader().train_batches(epoch)), list(make_loader().train_batches(epoch, start=start))
    assert len(rest) == 9 - start
    for (x, y, first), (x2, y2, first2) in zip(whole[start:], rest, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2) and first == first2 is False


def test_processes_share_the_streams(make_loader):
    for epoch in (0, 1):
        ranks = [list(make_loader(rank=rank, world_size=2).train_batches(epoch)) for rank in range(2)]
        for (x, y, first), *parts in zip(make_loader().train_batches(epoch), *ranks, strict=True):
            assert torch.equal(torch.cat([part[0] for part in parts]), x)
            assert torch.equal(torch.cat([part[1] for part in parts]), y)
            assert [part[2] for part in parts] == [first, first]


def test_splits_that_are_views_of_one_text(make_loader, text_set):
    whole = torch.arange(200) % 11
    parts = dict(zip(("train", "val", "test"), whole.to(torch.uint8).split([20, 150, 30]), strict=True))
    data = make_text("views", **parts, vocabulary=Vocabulary("char", SYMBOLS))
    data.train, data.val = data.val, data.train  # a training part that does not begin where its memory does
    (x, y, _), *_ = make_loader(data, batch_size=1).train_batches(0)
    assert x[0].tolist() == [(20 + i) % 11 for i in range(8)] and y[0, -1] == 28 % 11
    strided = make_text("strided", train=whole[::2], val=whole, test=whole, vocabulary=Vocabulary("char", SYMBOLS))
    (x, _, _), *_ = make_loader(strided, batch_size=1).train_batches(0)
    assert x[0].tolist() == [2 * i % 11 for i in range(8)]


def test_batches_are_copies(make_loader):
    data = make_loader()
    x, y, _ = next(data.train_batches(0))
    y += 100
    x.zero_()
    again = next(data.train_batches(0))
    assert again[1].max() < 11 and again[0].max() > 0


def test_fewer_streams_where_the_text_is_short(make_loader, text_set):
    loader = make_loader(text_set(train=42), batch_size=128)  # 41 = 5 * 8 + 1
    assert (loader.batch_size, loader.steps_per_epoch) == (5, 1)
    shared = make_loader(text_set(train=42), batch_size=128, rank=1, world_size=2)
    assert (shared.batch_size, shared.steps_per_epoch) == (4, 1)
    assert [x.shape for x, _, _ in shared.train_batches(0)] == [(2, 8)]


@pytest.mark.parametrize(("train", "length"), [(9, 8), (2, 1)])
def test_one_chunk_is_enough(make_loader, text_set, train, length):
    loader = make_loader(text_set(train=train), sequence_length=length)
    assert [x.shape for x, _, _ in loader.train_batches(0)] == [(1, length)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"sequence_length": 300},
            "^random has 300 characters to train on, fewer than one chunk of data.sequence_length=300 and the one "
            "after it: lower data.sequence_length$",
        ),
        ({"sequence_length": 200, "world_size": 2}, "and the one after it for each of 2 processes: lower"),
        ({"world_size": 3}, "^trainer.batch_size=4 must be a multiple of the 3 processes$"),
    ],
)
def test_what_cannot_be_fed(make_loader, keys, message):
    with pytest.raises(UserError, match=message):
        make_loader(**keys)


def test_global_random_state_and_threads_are_left_alone(make_loader):
    before, python, numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    threads = torch.get_num_threads()
    loader = make_loader()
    assert list(loader.train_batches(3)) and list(loader.eval_batches("val"))
    assert torch.equal(torch.get_rng_state(), before) and random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy) and torch.get_num_threads() == threads


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize("count", [2, 3, 9, 10, 100])
@pytest.mark.parametrize("streams", [1, 2, 3, 7, 99, 500])
@pytest.mark.parametrize("burn_in", [0, 4, 1000])
def test_streams_score_every_symbol_but_the_first_once(count, streams, burn_in):
    begin, score, end = (bound.tolist() for bound in stream_bounds(count, streams, burn_in))
    scored = [place for first, last in zip(score, end, strict=True) for place in range(first, last)]
    assert scored == list(range(1, count))
    assert len(score) == min(streams, count - 1)
    lengths = [last - first for first, last in zip(score, end, strict=True)]
    assert max(lengths) - min(lengths) <= 1
    assert begin == [max(first - 1 - burn_in, 0) for first in score]


@pytest.mark.parametrize("chunk", [1, 7, None])
def test_evaluation_batches_hold_each_target_after_its_input(make_loader, text_set, chunk):
    data = text_set()
    loader = make_loader(data)
    groups: list[list] = []
    for inputs, targets, scored, first in loader.eval_batches("val", chunk):
        assert inputs.shape == targets.shape == scored.shape and inputs.shape[1] == (chunk or 8)
        assert inputs.dtype == targets.dtype == torch.int64 and scored.dtype == torch.bool
        groups += [[]] if first else []
        groups[-1].append((inputs, targets, scored))
    assert [len(group[0][0]) for group in groups] == [3, 1]
    begin, score, end = stream_bounds(101, 4, 3)
    stream = 0
    for group in groups:
        inputs, targets, scored = (torch.cat([part[i] for part in group], 1) for i in range(3))
        for x, y, mask in zip(inputs, targets, scored, strict=True):
            first, from_, last = (int(bound[stream]) for bound in (begin, score, end))
            length = last - 1 - first
            assert torch.equal(x[:length], data.val[first : last - 1].long()) and not x[length:].any()
            assert torch.equal(y[:length], data.val[first + 1 : last].long()) and not y[length:].any()
            assert mask.tolist() == [from_ <= first + 1 + i < last for i in range(len(mask))]
            stream += 1
        assert scored[:, -(chunk or 8) :].any()  # no chunk without a purpose
    assert stream == 4


def test_processes_share_the_evaluation(make_loader):
    counts = [
        sum(
            int(scored.sum()) for _, _, scored, _ in make_loader(rank=r, batch_size=6, world_size=6).eval_batches("val")
        )
        for r in range(6)
    ]
    assert counts == [25, 25, 25, 25, 0, 0]


class Small(nn.Module):
    """A language model of any recurrent cell of torch, in float64."""

    def __init__(self, cell: type[nn.RNNBase], hidden: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.cell = cell(5, hidden, num_layers=2, batch_first=True)
        self.out = nn.Linear(hidden, 11)
        self.double()

    def forward(self, inputs, state):
        hidden, state = self.cell(self.embed(inputs), state)
        return self.out(hidden), state


@pytest.fixture(params=[nn.RNN, nn.LSTM, nn.GRU], ids=["rnn", "lstm", "gru"])
def model(request):
    torch.manual_seed(0)
    return Small(request.param).eval()


@torch.no_grad()
def figure(model, loader, chunk=None, split="val"):
    """Return the mean loss over a split as a task measures it, and how many symbols were scored."""
    total, count, state = torch.zeros((), dtype=torch.float64), 0, None
    for inputs, targets, scored, first in loader.eval_batches(split, chunk):
        logits, state = model(inputs, None if first else state)
        loss = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        total += loss[scored].sum()
        count += int(scored.sum())
    return total.item() / count, count


@torch.no_grad()
def in_one_go(model, ids):
    """Return the mean loss over a row of symbols read one by one, from a state of zeros."""
    total, state = 0.0, None
    for at in range(len(ids) - 1):
        logits, state = model(ids[at : at + 1].long()[None], state)
        total += F.cross_entropy(logits[0], ids[at + 1 : at + 2].long()).item()
    return total / (len(ids) - 1)


def test_the_figure_depends_on_neither_batch_size_nor_chunk_length(make_loader, model):
    keys = {"eval_streams": 7, "eval_burn_in": 5}
    figures = [
        figure(model, make_loader(eval_batch_size=size, sequence_length=length, **keys), chunk)
        for size in (1, 2, 3, 7, 500)
        for length, chunk in ((1, None), (8, None), (8, 13), (101, None), (8, 1000))
    ]
    assert {count for _, count in figures} == {100}
    values = [value for value, _ in figures]
    assert max(values) - min(values) < 1e-13


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_one_stream_carries_its_state_over_the_whole_split(make_loader, text_set, model, split):
    value, count = figure(model, make_loader(eval_streams=1), split=split)
    ids = getattr(text_set(), split)
    assert count == len(ids) - 1 and value == pytest.approx(in_one_go(model, ids), abs=1e-13)


def test_streams_warmed_up_by_all_that_precedes_them_equal_one_stream(make_loader, text_set, model):
    one, _ = figure(model, make_loader(eval_streams=1))
    assert figure(model, make_loader(eval_streams=7, eval_burn_in=1000))[0] == pytest.approx(one, abs=1e-13)
    cold, _ = figure(model, make_loader(eval_streams=7, eval_burn_in=0))
    warm, _ = figure(model, make_loader(eval_streams=7, eval_burn_in=10))
    assert abs(warm - one) < abs(cold - one) / 3


def test_the_figure_of_several_processes_is_that_of_one(make_loader, model):
    value, count = figure(model, make_loader(eval_streams=7))
    parts = [figure(model, make_loader(eval_streams=7, rank=rank, world_size=2)) for rank in range(2)]
    assert sum(number for _, number in parts) == count
    assert sum(mean * number for mean, number in parts) / count == pytest.approx(value, abs=1e-13)


def test_training_in_chunks_carries_the_state_like_one_long_chunk(make_loader, model):
    """The loss of each chunk, from the state the last one left, is that of the same place in one long chunk."""

    def losses(length):
        found, state = [], None
        with torch.no_grad():
            for inputs, targets, first in make_loader(sequence_length=length).train_batches(0):
                logits, state = model(inputs, None if first else state)
                found.append(F.cross_entropy(logits.transpose(1, 2), targets, reduction="none"))
        return torch.cat(found, 1)

    torch.testing.assert_close(losses(8), losses(72), atol=1e-13, rtol=0)


# ---------------------------------------------------------------- where it lies


def test_what_would_fill_the_device_stays_on_the_host(text_set, monkeypatch):
    device, text = torch.device("cuda"), text_set()
    parts = text.train, text.val, text.test
    monkeypatch.setattr("hyperrun.data.loader.free_memory", lambda device: 4 * 458)
    assert device_or_host(parts, device)[0] == "device"
    monkeypatch.setattr("hyperrun.data.loader.free_memory", lambda device: 4 * 458 - 1)
    path, reason = device_or_host(parts, device)
    assert path == "host" and "is over a quarter of the 0.0 GiB free on cuda" in reason
    assert device_or_host(parts, CPU) == ("device", "0.0 MiB in memory")


def test_unknown_split_is_a_mistake_of_ours(make_loader):
    with pytest.raises(KeyError):
        next(make_loader().eval_batches("validation"))


@pytest.mark.cuda
def test_a_gpu_gives_the_same_batches(make_loader, monkeypatch):
    cuda = torch.device("cuda")
    for free in (None, 1):
        monkeypatch.setattr("hyperrun.data.text_loader.free_memory", lambda device, free=free: free)
        here, there = make_loader(), make_loader(device=cuda)
        assert there.path == ("device" if free is None else "host")
        for epoch in (0, 1):
            for (x, y, first), (x2, y2, first2) in zip(
                here.train_batches(epoch), there.train_batches(epoch), strict=True
            ):
                assert x2.device.type == y2.device.type == "cuda" and first == first2
                assert torch.equal(x, x2.cpu()) and torch.equal(y, y2.cpu())
        for ours, theirs in zip(here.eval_batches("val"), there.eval_batches("val"), strict=True):
            assert theirs[2].device.type == "cuda" and ours[3] == theirs[3]
            assert all(torch.equal(a, b.cpu()) for a, b in zip(ours[:3], theirs[:3], strict=True))
