"""Pieces of words: learned, and back and forth."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable

import pytest
import torch

from hyperrun.data import PairData, Pieces
from hyperrun.data.pairs.learn import LONGEST_LINE, learned
from hyperrun.data.pairs.lines import ListedTexts
from hyperrun.data.pairs.pieces import BOS, EOS, PAD, UNK, normalized
from hyperrun.errors import UserError
from tests.data.pairs.conftest import sentences

TEXTS = [*sentences(200, 3), "Où est l'été ?", "où est l'été ?"]


def learn(cfg: PairData, texts: list[str] = TEXTS) -> Pieces:
    return Pieces(learned([ListedTexts(texts)], cfg, "the text", lambda *_: None), cfg.normalization)


@pytest.fixture(scope="module")
def of_characters() -> Pieces:
    """Without bytes: a character that is in no piece is unknown."""
    from tests.data.pairs.conftest import PAIR_DEFAULTS

    return learn(PairData(**PAIR_DEFAULTS))


@pytest.fixture(scope="module")
def of_bytes() -> Pieces:
    from tests.data.pairs.conftest import PAIR_DEFAULTS

    return learn(PairData(**{**PAIR_DEFAULTS, "pieces": 320, "byte_fallback": True}))


def test_there_are_as_many_as_asked_for_and_the_first_four_are_set_aside(of_characters: Pieces) -> None:
    assert len(of_characters) == 60
    assert of_characters.pieces([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert len({*of_characters.pieces(range(60))}) == 60


def test_a_text_comes_back(of_characters: Pieces, of_bytes: Pieces) -> None:
    for pieces in (of_characters, of_bytes):
        rows = pieces.encode(TEXTS)
        assert [pieces.decode(row) for row in rows] == TEXTS
        assert min(min(row) for row in rows) > UNK, "no sentence has the four that are set aside"
    assert sum(map(len, of_characters.encode(TEXTS))) < 0.6 * sum(map(len, TEXTS)), "pieces are longer than characters"


@pytest.mark.parametrize("text", ["", "   ", "\t\n", "\u00a0"])
def test_an_empty_text_has_no_pieces(of_bytes: Pieces, text: str) -> None:
    assert of_bytes.encode([text]) == [[]] and of_bytes.decode([]) == ""


def test_white_space_is_one_blank(of_bytes: Pieces) -> None:
    assert of_bytes.decode(of_bytes.encode(["\ta  dog\u00a0runs\r\nover "])[0]) == "a dog runs over"


@pytest.mark.parametrize("text", ["☃ 漢字 🦊", "a\x00b", "\ufffd", "<s>a</s><pad><0x41>", "a▁b"])
def test_with_bytes_no_text_is_outside(of_bytes: Pieces, text: str) -> None:
    row = of_bytes.encode([text])[0]
    assert UNK not in row and min(row) > UNK
    assert of_bytes.decode(row) == text.replace("▁", " "), "U+2581 stands for a blank"


def test_without_bytes_it_is_unknown(of_characters: Pieces) -> None:
    row = of_characters.encode(["a ☃ dog"])[0]
    assert row.count(UNK) == 1 and of_characters.decode(row) == "a ⁇ dog"
    assert EOS not in of_characters.encode(["</s>"])[0], "what is written does not end a sentence"


def test_bytes_that_are_no_character_are_shown_as_such(of_bytes: Pieces) -> None:
    snowman = of_bytes.encode(["☃"])[0]
    assert of_bytes.decode([*of_bytes.encode(["a"])[0], *snowman[-3:-1]]).startswith("a\ufffd")


def test_what_follows_the_end_is_not_read(of_bytes: Pieces) -> None:
    a, dog = of_bytes.encode(["a", "dog"])
    assert of_bytes.decode([BOS, *a, EOS, *dog, PAD]) == "a"


def test_both_forms_of_an_accent_are_one(of_bytes: Pieces) -> None:
    text = "Où est l'été ?"
    apart = unicodedata.normalize("NFD", text)
    assert apart != text and of_bytes.encode([apart]) == of_bytes.encode([text])
    as_it_is = Pieces(of_bytes.model, "none")
    assert as_it_is.decode(as_it_is.encode([apart])[0]) == apart
    assert normalized("ﬁn²", "nfkc") == "fin2" and normalized("ﬁn²", "nfc") == "ﬁn²"


def test_a_very_long_line_is_cut_into_pieces_but_not_learned_from(
    of_bytes: Pieces, pair_cfg: Callable[..., PairData]
) -> None:
    long = "zq" * LONGEST_LINE
    assert of_bytes.decode(of_bytes.encode([long])[0]) == long
    assert learn(pair_cfg(), [*TEXTS, long]).model == learn(pair_cfg()).model


def test_they_travel_in_a_checkpoint(of_bytes: Pieces) -> None:
    stream = io.BytesIO()
    torch.save(of_bytes.state_dict(), stream)
    stream.seek(0)
    again = Pieces.from_state_dict(torch.load(stream, weights_only=True))
    assert again == of_bytes and again.encode(TEXTS) == of_bytes.encode(TEXTS)
    assert again != Pieces(of_bytes.model, "none")


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (5000, r"data\.pieces=5000: the text yields (\d+) pieces at most; lower data\.pieces$"),
        (12, r"data\.pieces=12: with the characters of the text alone there are (\d\d); raise data\.pieces$"),
    ],
)
def test_a_size_that_the_text_cannot_have(pair_cfg: Callable[..., PairData], pieces: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        learn(pair_cfg(pieces=pieces))
    found = re.search(message, str(refusal.value))
    assert found is not None
    assert len(learn(pair_cfg(pieces=int(found[1])))) == int(found[1]), "the size that is named can be had"


def test_progress_and_what_is_read(pair_cfg: Callable[..., PairData], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperrun.data.pairs.learn.MOST_SENTENCES", 51)
    told: list[tuple[str, int, int]] = []
    texts = [ListedTexts(TEXTS), ListedTexts(["quand le chat dort"] * 10)]
    learned(texts, pair_cfg(pieces=60), "the text", lambda *one: told.append(one))
    reading = [one for one in told if one[0].startswith("reading")]
    assert reading[-1][1:] == (51 + 10, 51 + 10), "every fourth of the 202, and all of the 10"
    assert any(what == "learning pieces" and 0 < done <= total == 60 for what, done, total in told)


def test_a_text_that_cannot_be_read_ends_it(pair_cfg: Callable[..., PairData]) -> None:
    class Broken(ListedTexts):
        def __iter__(self):
            yield "a dog"
            raise UserError("the file is damaged")

    with pytest.raises(UserError, match="the file is damaged"):
        learned([Broken(["a dog", "b"])], pair_cfg(), "the text", lambda *_: None)
