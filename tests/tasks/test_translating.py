"""Sentences in, sentences out: batches, empty and endless ones, attention, and the picture of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hyperrun.analyze.recurrent.alignment import write_alignment
from hyperrun.data import PairSet
from hyperrun.errors import UserError
from hyperrun.tasks import translating
from hyperrun.tasks.beam_search import greedy
from hyperrun.tasks.translating import Alignment, Translator, grouped
from hyperrun.tasks.translation import LearnedPieces
from hyperrun.training.precision import choose_precision
from tests.data.pairs.conftest import pair_cfg, pair_set, sentences  # noqa: F401 (fixtures)
from tests.targets.test_seq2seq import SHAPES, network

TEXTS = [*sentences(7, 3), "", "a dog", " \t"]


@pytest.fixture
def translator(pair_set: Callable[..., PairSet]) -> Callable[..., Translator]:  # noqa: F811
    """Return a function that makes a translator whose network has learned nothing."""
    data = pair_set()
    pieces = LearnedPieces(data.source_pieces, data.target_pieces)
    net = network(60, 60, **SHAPES["1+1 above"]).eval()
    with torch.no_grad():
        for p in net.parameters():
            p *= 1.5  # less alike, whatever was read

    def make(beam: int = 3, tokens: int = 4096) -> Translator:
        precision = choose_precision("float32", torch.device("cpu"))
        return Translator(net, pieces, precision, beam=beam, alpha=0.6, beta=0.1, tokens=tokens)

    return make


def test_every_sentence_is_answered_in_its_place(translator: Callable[..., Translator]) -> None:
    found = translator().translate(TEXTS)
    assert [one.source for one in found] == TEXTS and all(one.trouble is None for one in found)
    assert [len(one.translations) for one in found] == [0 if not text.strip() else 3 for text in TEXTS]
    for one in found:
        scores = [best.score for best in one.translations]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("tokens", [1, 20, 60])
def test_how_many_are_side_by_side_changes_nothing(translator: Callable[..., Translator], tokens: int) -> None:
    for one, other in zip(translator(tokens=tokens).translate(TEXTS), translator().translate(TEXTS), strict=True):
        assert [best.pieces for best in one.translations] == [best.pieces for best in other.translations]


def test_a_beam_of_one_is_greedy(translator: Callable[..., Translator]) -> None:
    made = translator(beam=1)
    for text in TEXTS[:4]:
        source, lengths = translating.sources(made.pieces.source.encode([text]), torch.device("cpu"))
        (best,) = made.translate([text])[0].translations
        assert best.pieces == greedy(made.network, source, lengths)[0]


def test_an_endless_sentence_is_left_out_and_the_others_are_not(
    translator: Callable[..., Translator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translating, "LONGEST", 40)
    found = translator().translate(["a dog", "hill " * 50, "a"])
    assert [bool(one.translations) for one in found] == [True, False, True]
    assert str(found[1].trouble).endswith("are more than the 40 that are translated at a time: cut it into sentences")


def test_what_was_attended_to_is_what_the_search_saw(translator: Callable[..., Translator], tmp_path: Path) -> None:
    made = translator()
    alignment = made.alignment("a dog runs")
    best = made.translate(["a dog runs"])[0].translations[0]
    assert alignment.target == [*made.pieces.target.pieces(best.pieces), "</s>"]
    assert alignment.source == [*made.pieces.source.pieces(made.pieces.source.encode(["a dog runs"])[0]), "</s>"]
    assert alignment.weights.shape == (len(alignment.target), len(alignment.source))
    torch.testing.assert_close(alignment.weights.sum(1), torch.ones(len(alignment.target)))
    write_alignment(alignment, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 100
    with pytest.raises(UserError, match="an empty sentence"):
        made.alignment(" ")


def test_a_weight_is_drawn_where_it_belongs(tmp_path: Path) -> None:
    weights = torch.zeros(2, 3)
    weights[0, 2] = weights[1, 0] = 1
    write_alignment(Alignment(["a", "b", "$c_$"], ["d", "e\x1b"], weights), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        blue = torch.from_numpy(np.array(image.convert("RGB")).astype(int))
    dark = (blue[..., 2] - blue[..., 0] > 60) & (blue[..., 0] < 40)
    panel = dark[:, : int(image.width * 0.65)]  # without the bar
    rows, columns = panel.any(1).nonzero()[:, 0], panel.any(0).nonzero()[:, 0]
    top, bottom = panel[int(rows[0]) + 5], panel[int(rows[-1]) - 5]
    assert top.nonzero().float().mean() > bottom.nonzero().float().mean(), "the first row's is to the right"
    assert len(columns) > 10
    with pytest.raises(UserError, match="too many for a picture"):
        write_alignment(Alignment(["a"] * 201, ["b"], torch.zeros(1, 201)), tmp_path / "b.png")
    with pytest.raises(UserError, match="cannot write"):
        write_alignment(Alignment(["a"], ["b"], torch.ones(1, 1)), tmp_path / "none" / "b.png")


def test_groups_hold_all_that_is_there_once() -> None:
    lengths = [3, 0, 9, 3, 1, 30]
    groups = grouped(lengths, 20)
    assert sorted(i for group in groups for i in group) == [0, 2, 3, 4, 5]
    assert groups[0] == [5] and all(
        len(group) == 1 or len(group) * (max(lengths[i] for i in group) + 1) <= 20 for group in groups
    )
