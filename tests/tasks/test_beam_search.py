"""Searching for translations: a naive beam search, one sentence at a time with Python's lists, is the oracle."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperrun.data.pairs.pieces import BOS, EOS, PAD
from hyperrun.tasks import beam_search as searching
from hyperrun.tasks.beam_search import Translation, beam_search, greedy, most_pieces
from tests.targets.test_seq2seq import SHAPES, network

VOCABULARY = 9


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No translation is longer than its source and six pieces, so that some are cut off."""
    monkeypatch.setattr(searching, "most_pieces", lambda lengths: lengths + 6)


def sources() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([3, 1, 6, 2, 6, 4, 1, 5])
    ids = torch.randint(3, 10, (8, 6), generator=generator)
    return ids.masked_fill(torch.arange(6) >= lengths[:, None], PAD), lengths


def searched(shape: str, ends: float = 0.0) -> Any:
    """Return a network in evaluation mode. ends: added to the logit of an end, so that some come early."""
    net = network(10, VOCABULARY, **SHAPES[shape]).eval()
    with torch.no_grad():
        for p in net.parameters():
            p *= 1.5  # less alike, whatever was read
        net.output.bias[EOS] += ends
    return net


def naive(net: Any, source: Tensor, beam: int, alpha: float, beta: float) -> list[Translation]:
    """Return the translations of one source [S]: every beginning read anew from its first piece at every step."""
    length = torch.tensor([len(source)])
    live: list[tuple[list[int], float]] = [([], 0.0)]
    finished: list[Translation] = []
    for step in itertools.count(1):
        candidates = []
        read = torch.tensor([[BOS, *pieces] for pieces, _ in live])
        logits, _, weights = net.decode(read, net.encode(source[None], length))
        for (pieces, total), last, attended in zip(live, logits[:, -1].clone(), weights.sum(1), strict=True):
            last[[PAD, BOS]] = -math.inf
            covered = attended.clamp(max=1)
            for piece, log_p in enumerate(torch.log_softmax(last, 0).tolist()):
                if piece not in (PAD, BOS) and (piece == EOS or step < len(source) + 6):
                    candidates.append((total + log_p, piece, pieces, covered))
        candidates.sort(key=lambda one: -one[0])
        for total, piece, pieces, covered in candidates[:beam]:
            if piece == EOS:
                score = total / ((5 + len(pieces) + 1) / 6) ** alpha + beta * float(covered.log().sum())
                finished.append(Translation(pieces, total, score))
        going = [one for one in candidates if one[1] != EOS][:beam]
        live = [([*pieces, piece], total) for total, piece, pieces, _ in going]
        hopes = [t / ((5 + step) / 6) ** alpha + beta * float(covered.log().sum()) for t, _, _, covered in going]
        best = max((one.score for one in finished), default=-math.inf)
        if not live or (len(finished) >= beam and best >= max(hopes)):
            return sorted(finished, key=lambda one: -one.score)[:beam]
    raise AssertionError("never ends")


@pytest.mark.parametrize(
    ("shape", "beam", "alpha", "beta"),
    [
        ("1+1 above", 1, 1.0, 0.0),
        ("1+1 above", 2, 0.0, 0.0),
        ("1+1 above", 5, 1.0, 0.0),
        ("1+1 above", 12, 0.6, 0.4),
        ("4+3 all, layer norm", 3, 0.6, 0.4),
    ],
)
def test_a_batch_is_searched_as_each_sentence_alone_would_be(shape: str, beam: int, alpha: float, beta: float) -> None:
    net, (source, lengths) = searched(shape), sources()
    with torch.no_grad():
        found = beam_search(net, source, lengths, beam=beam, alpha=alpha, beta=beta)
        for ours, row, length in zip(found, source, lengths.tolist(), strict=True):
            wanted = naive(net, row[:length], beam, alpha, beta)
            assert [one.pieces for one in ours] == [one.pieces for one in wanted]
            for a, b in zip(ours, wanted, strict=True):
                assert a.log_probability == pytest.approx(b.log_probability, abs=1e-5)
                assert a.score == pytest.approx(b.score, abs=1e-5)
    assert len({tuple(ours[0].pieces) for ours in found}) > 3, "the sentences differ"


@pytest.mark.parametrize(("shape", "ends"), [*zip(SHAPES, (-2.0, 0.0, 1.0, 0.5), strict=True)])
def test_a_beam_of_one_is_greedy(shape: str, ends: float) -> None:
    net, (source, lengths) = searched(shape, ends), sources()
    found = beam_search(net, source, lengths, beam=1, alpha=1.0, beta=0.2)
    assert [one[0].pieces for one in found] == greedy(net, source, lengths)
    assert all(len(one) == 1 for one in found)


def test_nothing_is_longer_than_it_may_be_and_no_end_is_needed_for_that() -> None:
    net, (source, lengths) = searched("1+1 above", ends=-50.0), sources()
    by_beam = [found[0].pieces for found in beam_search(net, source, lengths, beam=3, alpha=1, beta=0)]
    for rows in (greedy(net, source, lengths), by_beam):
        assert [len(row) for row in rows] == (lengths + 5).tolist()  # and the end
        assert not {PAD, BOS, EOS} & {piece for row in rows for piece in row}


def test_greedy_stops_where_it_is_told_to() -> None:
    net, (source, lengths) = searched("1+1 above", ends=-50.0), sources()
    most = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8])
    assert [len(row) for row in greedy(net, source, lengths, most)] == (most - 1).tolist()


def test_a_wider_beam_finds_what_is_likelier() -> None:
    net, (source, lengths) = searched("1+1 above"), sources()
    narrow, wide = (beam_search(net, source, lengths, beam=beam, alpha=0, beta=0) for beam in (1, 60))
    gains = [b[0].log_probability - a[0].log_probability for a, b in zip(narrow, wide, strict=True)]
    assert min(gains) > -1e-5 and max(gains) > 0.01


def test_alpha_favours_long_translations() -> None:
    net, (source, lengths) = searched("1+1 above", ends=1.0), sources()
    mean = [
        sum(len(one[0].pieces) for one in beam_search(net, source, lengths, beam=8, alpha=alpha, beta=0)) / len(source)
        for alpha in (0.0, 2.0)
    ]
    assert mean[0] < mean[1]


class Counting:
    """A network that counts the rows it decodes."""

    def __init__(self, net: Any) -> None:
        self.net, self.rows = net, 0
        self.encode = net.encode

    def decode(self, tokens: Tensor, memory: Any, state: Any = None) -> Any:
        self.rows += len(tokens)
        return self.net.decode(tokens, memory, state)


@pytest.mark.parametrize("beam", [None, 2])
def test_sentences_that_are_done_are_no_longer_worked_on(beam: int | None) -> None:
    source, lengths = sources()
    lengths[1:] = 1
    net = Counting(searched("1+1 above", ends=-50.0))
    if beam is None:
        greedy(net, source, lengths)
    else:
        beam_search(net, source, lengths, beam=beam, alpha=1, beta=0)
    longest, others = 3 + 6, 1 + 6
    assert net.rows == (beam or 1) * (7 * others + longest)


def test_there_is_room_for_any_translation() -> None:
    assert most_pieces(torch.tensor([1, 30])).tolist() == [22, 80]
