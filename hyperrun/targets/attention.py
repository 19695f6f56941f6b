"""Additive attention (Bahdanau et al. 2015; GNMT's "feed forward network with one hidden layer", Wu et al. 2016 eq. 4).

    score(q, k) = v . tanh(W_q q + W_k m + b)        weights = softmax of the scores over the source's pieces

Plain, not normalized: v is used as it is, where TensorFlow's "normed Bahdanau" has g v / |v|.

The sum within the tanh is as large as queries times keys times units. It is made a few queries at a time, and made
again in backward instead of being kept, so that memory grows with queries plus keys, and the numbers that are worked on
stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK_BYTES = {"cpu": 2 * 2**20, "cuda": 128 * 2**20}
"""What is worked on at a time: on a CPU about what its caches hold, on a GPU enough to keep it busy."""


class Memory(NamedTuple):
    """A batch of sources as the decoder sees it; each tensor has the sources along its first dimension."""

    values: Tensor
    """What the encoder's last layer gives, [B, S, M]; zeros beyond a source's end."""
    keys: Tensor
    """W_k of these, [B, S, A]."""
    beyond: Tensor
    """Where there is nothing to attend to, bool [B, S]."""

    def select(self, rows: Tensor) -> Memory:
        """Return the memory of these sources, int64 [n]."""
        return Memory(*(part.index_select(0, rows) for part in self))


class Attention(nn.Module):
    """Additive attention: 2 * size + (queries + values) * size parameters."""

    def __init__(self, queries: int, values: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(queries, size)
        self.key = nn.Linear(values, size, bias=False)
        bound = size**-0.5
        self.v = nn.Parameter(torch.empty(size).uniform_(-bound, bound))

    def memory(self, values: Tensor, lengths: Tensor) -> Memory:
        """Return what to attend to, from the encoder's outputs [B, S, M] and the sources' lengths, int64 [B].

        A source without a piece is attended to as one zero.
        """
        places = torch.arange(values.shape[1], device=values.device)
        beyond = places >= lengths.to(values.device).clamp(min=1)[:, None]
        return Memory(values, self.key(values), beyond)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return contexts [R, T, M] and weights [R, T, S] (float32 at least) of queries [R, T, H].

        R is a multiple K of the memory's B sources: rows 0 to K - 1 attend to the first, and so on.
        """
        rows, steps, _ = queries.shape
        sources, pieces, _ = memory.values.shape
        asked = self.query(queries).view(sources, -1, self.v.shape[0])  # K * T queries of each source
        scores: Any = AdditiveScores.apply(asked, memory.keys, self.v.to(asked.dtype))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(
            memory.beyond[:, None], -torch.inf
        )
        weights = torch.softmax(scores, -1)
        contexts = weights.to(memory.values.dtype) @ memory.values
        return contexts.view(rows, steps, -1), weights.view(rows, steps, pieces)


class AdditiveScores(torch.autograd.Function):
    """(queries [B, T, A], keys [B, S, A], v [A]) -> v . tanh(query + key), [B, T, S]."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(queries, keys, v)
        scores = queries.new_empty(*queries.shape[:2], keys.shape[1])
        for part, found, place in zip(*in_chunks(queries, keys, scores), strict=True):
            found.copy_(hidden(part, keys, place) @ v)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        queries, keys, v = ctx.saved_tensors
        d_scores = d_scores.to(v.dtype)
        d_queries, d_keys, d_v = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(v)
        chunks = in_chunks(queries, keys, d_scores, d_queries)
        for part, d_part, d_found, place in zip(*chunks, strict=True):
            h = hidden(part, keys, place)
            d_v.add_(d_part.flatten() @ h.flatten(0, 2))
            slope = h.square_().neg_().add_(1).mul_(d_part[..., None])
            d_found.copy_(slope.sum(2))
            d_keys.add_(slope.sum(1) if slope.shape[1] > 1 else slope[:, 0])
        return d_queries.mul_(v), d_keys.mul_(v), d_v


def in_chunks(queries: Tensor, keys: Tensor, *others: Tensor) -> tuple[Sequence[Tensor], ...]:
    """Return queries [B, T, A] and others [B, T, ...], a few queries at a time, and for each of these parts room for
    what `hidden` makes of it.

    The room is the same for all parts. Made anew for each, with small results in between, it would not fit where the
    last one was, and a process would grow by hundreds of megabytes.
    """
    size = at_once(queries, keys)
    parts = [tensor.split(size, 1) for tensor in (queries, *others)]
    (sources, pieces, units), most = keys.shape, min(size, queries.shape[1])
    kind = torch.promote_types(queries.dtype, keys.dtype)  # one may be of an autocast, the other not
    room = keys.new_empty(sources * most * pieces * units, dtype=kind)
    shapes = [(sources, part.shape[1], pieces, units) for part in parts[0]]
    return *parts, [room[: math.prod(shape)].view(shape) for shape in shapes]


def hidden(queries: Tensor, keys: Tensor, room: Tensor) -> Tensor:
    """Return tanh(query + key) of all pairs, [B, T, S, A], made in `room`."""
    return torch.add(queries[:, :, None], keys[:, None], out=room).tanh_()


def at_once(queries: Tensor, keys: Tensor) -> int:
    """Return how many queries of each source are worked on at a time: one at least."""
    return max(1, chunk_bytes(queries.device) // max(1, keys.numel() * keys.element_size()))


def chunk_bytes(device: torch.device) -> int:
    return CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"])


def room_bytes(device: torch.device, sources: int, pieces: int, queries: int, units: int) -> int:
    """Return how many bytes `in_chunks` takes in float32 at most: of one query of each source at least."""
    each = 4 * sources * pieces * units
    return max(each, min(queries * each, chunk_bytes(device)))
