"""Translating with a trained model: sentences in, sentences out, with what was attended to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hyperrun.data.pairs.loader import sources
from hyperrun.data.pairs.pieces import BOS, EOS
from hyperrun.errors import UserError
from hyperrun.tasks.beam_search import beam_search
from hyperrun.tasks.translation import LearnedPieces, network_of
from hyperrun.training.precision import Precision

LONGEST = 1000
"""Pieces of a sentence that is translated; a longer one is no sentence, and would be searched for minutes."""


@dataclass(frozen=True)
class Translated:
    """A translation of a sentence."""

    text: str
    score: float
    """By which they are put in order: see beam_search."""
    log_probability: float
    """In nats, that of the end included."""
    pieces: list[int]
    """Without BOS and EOS."""


@dataclass(frozen=True)
class Found:
    """What was made of a sentence."""

    source: str
    translations: list[Translated]
    """The best first; none of a sentence without a piece (an empty one), and of one with trouble."""
    trouble: str | None = None
    """Why it was not translated."""


@dataclass(frozen=True)
class Alignment:
    """What each piece of a translation attended to."""

    source: list[str]
    """The pieces of the sentence, its end included, as they are printed."""
    target: list[str]
    """Those of the translation, its end included."""
    weights: Tensor
    """float32 [target, source] on the CPU; each row sums to 1."""


class Translator:
    """A trained model, its pieces and a search."""

    def __init__(
        self,
        model: nn.Module,
        pieces: LearnedPieces,
        precision: Precision,
        *,
        beam: int,
        alpha: float,
        beta: float,
        tokens: int = 4096,
    ) -> None:
        """model: in evaluation mode. beam, alpha, beta: see beam_search. tokens: padded source pieces of the sentences
        that are translated side by side, at most, if it is more than one."""
        self.network, self.pieces, self.precision = network_of(model), pieces, precision
        self.search = {"beam": beam, "alpha": alpha, "beta": beta}
        self.tokens = tokens
        self.device = next(model.parameters()).device

    def translate(self, texts: Sequence[str]) -> list[Found]:
        """Return what is made of each sentence, in their order."""
        rows = self.pieces.source.encode(texts)
        answers: dict[int, list[Translated]] = {}
        for group in grouped([len(row) if len(row) <= LONGEST else 0 for row in rows], self.tokens):
            source, lengths = sources([rows[i] for i in group], self.device)
            with self.precision.autocast():
                found = beam_search(self.network, source, lengths, **self.search)
            answers |= {i: [self.spelled(*one) for one in best] for i, best in zip(group, found, strict=True)}
        return [
            Found(text, answers.get(i, []), too_long(len(row)) if len(row) > LONGEST else None)
            for i, (text, row) in enumerate(zip(texts, rows, strict=True))
        ]

    def spelled(self, pieces: list[int], log_probability: float, score: float) -> Translated:
        return Translated(self.pieces.target.decode(pieces), score, log_probability, pieces)

    @torch.no_grad()
    def alignment(self, text: str) -> Alignment:
        """Return what each piece of the best translation of a sentence attended to.

        Raises:
            UserError: the sentence is empty or too long.
        """
        found = self.translate([text])[0]
        if not found.translations:
            raise UserError(found.trouble or "an empty sentence has no translation whose attention could be drawn")
        rows, best = self.pieces.source.encode([text]), found.translations[0].pieces
        source, lengths = sources(rows, self.device)
        with self.precision.autocast():
            memory = self.network.encode(source, lengths)
            _, _, weights = self.network.decode(torch.tensor([[BOS, *best]], device=self.device), memory)
        return Alignment(
            self.pieces.source.pieces([*rows[0], EOS]),
            self.pieces.target.pieces([*best, EOS]),
            weights[0].float().cpu(),
        )


def too_long(pieces: int) -> str:
    return f"{pieces:,} pieces are more than the {LONGEST:,} that are translated at a time: cut it into sentences"


def grouped(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return the places of those that are not 0, the longest together and first, in groups of `tokens` padded pieces
    (and an end for each) at most, or of one."""
    order = sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i])
    groups: list[list[int]] = []
    for i in order:
        if not groups or (lengths[groups[-1][0]] + 1) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(i)
    return groups
