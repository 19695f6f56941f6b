"""Translations of many sources at once: the likeliest piece at each step (greedy), or a beam (Wu et al. 2016, part 7).

A beam search keeps the `beam` likeliest beginnings of each translation. At every step all their continuations are put
in order of probability. An end among the first `beam` of them is a finished translation; the first `beam` that are no
end go on. A sentence is done when it has `beam` finished translations of which the best has a better score than every
beginning that goes on (a sure model finishes many bad ones before the right one is at its end), or when it is as long
as it may be, where an end is all that can come. Its translations are then put in order of

    log P(Y | X) / lp(Y) + cp(X, Y)     lp(Y) = ((5 + |Y|) / 6)^alpha     cp(X, Y) = beta * sum over the source's pieces
                                                                          of log(min(what was attended to it, 1))

with |Y| the predicted pieces, the end among them. A beam of 1 gives what greedy gives. Sentences that are done leave
the batch, which becomes smaller, so that nothing waits for the longest. PAD and BOS are never chosen.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hyperrun.data.pairs.pieces import BOS, EOS, PAD
from hyperrun.targets.attention import Memory
from hyperrun.targets.seq2seq import DecoderState

SMALLER_FROM = 0.8
"""Part of the sentences still at work below which those that are done are taken out: copying costs, too."""


class Translator(Protocol):
    """What is searched with: a Seq2Seq, in evaluation mode."""

    def encode(self, source: Tensor, source_lengths: Tensor) -> Memory: ...
    def decode(
        self, tokens: Tensor, memory: Memory, state: DecoderState | None = None
    ) -> tuple[Tensor, DecoderState, Tensor]: ...


class Translation(NamedTuple):
    """One translation of a sentence."""

    pieces: list[int]
    """Without BOS and EOS."""
    log_probability: float
    """In nats, that of the end included."""
    score: float
    """What translations of a sentence are put in order by."""


def most_pieces(source_lengths: Tensor) -> Tensor:
    """Return how many pieces a translation may have, its end included, int64 [B]: far more than one needs."""
    return 2 * source_lengths + 20


@torch.no_grad()
def greedy(network: Translator, source: Tensor, source_lengths: Tensor, most: Tensor | None = None) -> list[list[int]]:
    """Return for each source the pieces of the translation that takes the likeliest piece at each step.

    source: int64 [B, S] on the network's device; source_lengths: int64 [B] on the CPU. most: int64 [B] on the CPU, how
    many pieces each may have, its end included; what most_pieces says where it is not given.
    """
    device = source.device
    memory, state = network.encode(source, source_lengths), None
    numbers, most = torch.arange(len(source)), most_pieces(source_lengths) if most is None else most
    done = torch.zeros(len(source), dtype=torch.bool)
    found: list[list[int]] = [[] for _ in range(len(source))]
    tokens = torch.full((len(source), 1), BOS, device=device)
    step = 0
    while not bool(done.all()):
        logits, state, _ = network.decode(tokens, memory, state)
        step += 1
        tokens = possible(logits[:, -1]).argmax(-1, keepdim=True)
        chosen = tokens[:, 0].cpu()
        goes_on = ~done & (chosen != EOS) & (step < most)
        for n, piece in zip(numbers[goes_on].tolist(), chosen[goes_on].tolist(), strict=True):
            found[n].append(piece)
        done |= (chosen == EOS) | (step >= most)
        if int(done.sum()) > (1 - SMALLER_FROM) * len(done):
            left = torch.nonzero(~done).flatten()
            numbers, most, done = numbers[left], most[left], done[left]
            there = left.to(device)
            memory, state, tokens = memory.select(there), state.select(there), tokens[there]
    return found


@torch.no_grad()
def beam_search(
    network: Translator, source: Tensor, source_lengths: Tensor, *, beam: int, alpha: float, beta: float
) -> list[list[Translation]]:
    """Return for each source at most `beam` translations, the best first.

    source: int64 [B, S] on the network's device; source_lengths: int64 [B] on the CPU. alpha, beta: see the top.
    """
    search = BeamSearch(network, source, source_lengths, beam, alpha, beta)
    while len(search.numbers):
        search.step()
    return [sorted(found, key=lambda one: -one.score)[:beam] for found in search.finished]


class BeamSearch:
    """A beam search at work.

    Attributes:
        numbers: which sources are still at work, int64 [A] on the CPU.
        finished: for each source its finished translations, in the order in which they were.
    """

    def __init__(
        self, network: Translator, source: Tensor, source_lengths: Tensor, beam: int, alpha: float, beta: float
    ) -> None:
        self.network, self.beam, self.alpha, self.beta = network, beam, alpha, beta
        self.device, count = source.device, len(source)
        self.memory, self.state = network.encode(source, source_lengths), None
        self.numbers, self.most = torch.arange(count), most_pieces(source_lengths).to(self.device)
        self.finished: list[list[Translation]] = [[] for _ in range(count)]
        self.tokens = torch.full((count, beam, 1), BOS, device=self.device)
        """What each beginning is made of so far, [A, K, 1 + steps]."""
        self.log_p = torch.zeros(count, beam, device=self.device)
        self.log_p[:, 1:] = -torch.inf  # all beginnings are alike: one of them is enough
        self.attended = torch.zeros(count, beam, source.shape[1], device=self.device)

    def step(self) -> None:
        """Take every beginning one piece further, and the sentences out that are done with it."""
        at_work, beam, made = self.tokens.shape
        last = self.tokens[..., -1:].flatten(0, 1)
        logits, self.state, weights = self.network.decode(last, self.memory, self.state)
        log_p = torch.log_softmax(possible(logits[:, -1]), -1).view(at_work, beam, -1)
        ending = log_p[..., EOS].clone()
        log_p.masked_fill_((made >= self.most)[:, None, None], -torch.inf)
        log_p[..., EOS] = ending
        attended = self.attended + weights[:, -1].view(at_work, beam, -1)

        vocabulary = log_p.shape[-1]
        best, place = (self.log_p[..., None] + log_p).flatten(1).topk(min(2 * beam, beam * vocabulary))
        came_from, piece = place // vocabulary, place % vocabulary
        ends = (piece == EOS) | (best == -torch.inf)
        self.finish(torch.nonzero(ends[:, :beam] & (best[:, :beam] > -torch.inf)), best, came_from, attended)

        goes_on = torch.sort(ends, dim=1, stable=True).indices[:, :beam]
        came_from, piece = came_from.gather(1, goes_on), piece.gather(1, goes_on)
        self.log_p = best.gather(1, goes_on).masked_fill(ends.gather(1, goes_on), -torch.inf)
        rows = torch.arange(at_work, device=self.device)[:, None]
        hopes = self.score(self.log_p, made, attended[rows, came_from], self.memory.beyond[:, None]).max(1).values
        full = torch.tensor(
            [
                len(found := self.finished[n]) >= beam and max(one.score for one in found) >= hope
                for n, hope in zip(self.numbers.tolist(), hopes.tolist(), strict=True)
            ],
            device=self.device,
        )
        left = torch.nonzero(~(full | (made >= self.most))).flatten()
        if len(left) < len(full):
            self.numbers, self.most = self.numbers[left.cpu()], self.most[left]
            self.memory = self.memory.select(left)
            came_from, piece, self.log_p = came_from[left], piece[left], self.log_p[left]
        rows = left[:, None] * beam + came_from  # of what was decoded, for each beginning that goes on
        self.state = self.state.select(rows.flatten())
        self.attended = attended.flatten(0, 1)[rows]
        self.tokens = torch.cat([self.tokens.flatten(0, 1)[rows], piece[..., None]], -1)

    def finish(self, places: Tensor, best: Tensor, came_from: Tensor, attended: Tensor) -> None:
        """Put down the translations that end at these places (sentence, rank), int64 [n, 2]."""
        if not len(places):
            return
        sentence, rank = places.unbind(1)
        parent = came_from[sentence, rank]
        log_p, pieces = best[sentence, rank], self.tokens[sentence, parent, 1:]
        score = self.score(log_p, pieces.shape[1] + 1, attended[sentence, parent], self.memory.beyond[sentence])
        numbers = self.numbers[sentence.cpu()].tolist()
        for n, *one in zip(numbers, pieces.tolist(), log_p.tolist(), score.tolist(), strict=True):
            self.finished[n].append(Translation(*one))

    def score(self, log_p: Tensor, length: int, attended: Tensor, beyond: Tensor) -> Tensor:
        """Return what translations [...] of so many predicted pieces are put in order by; attended: [..., S]."""
        # a piece that nothing was attended to is as bad as a float32 can say
        covered = attended.clamp(torch.finfo(torch.float32).tiny, 1).log().masked_fill(beyond, 0)
        return log_p / ((5 + length) / 6) ** self.alpha + self.beta * covered.sum(-1)


def possible(logits: Tensor) -> Tensor:
    """Return logits [R, vocabulary] in float32, those of what is no piece of a translation at minus infinity; changes
    what it is given, where that is float32, too."""
    logits = logits.float()
    logits[:, PAD] = -torch.inf
    logits[:, BOS] = -torch.inf
    return logits
