"""The text with a strip under it: what is shown, where lines break, and a page that needs no network."""

from __future__ import annotations

import html
import math
import re

import pytest
import torch

from hyperrun.analyze.recurrent.character_strip import (
    MOST_IN_PAGE,
    Strip,
    broken_into_lines,
    draw_strip,
    make_strip,
    strip_page,
)
from hyperrun.data import Vocabulary
from hyperrun.pictures.style import picture
from tests.pictures import texts_outside

LETTERS = Vocabulary("char", list("\n\t <&ab$"))


def strip_of(text: str, vocabulary: Vocabulary = LETTERS) -> Strip:
    ids = vocabulary.encode(text)
    changes = {gate: torch.arange(len(ids)) / 10 * (n + 1) for n, gate in enumerate("igfo")}
    return make_strip("a model", ids, vocabulary, changes)


def test_each_symbol_stands_with_its_own_change() -> None:
    strip = strip_of("ab\n\t<")
    assert strip.symbols == ["b", "↵", "→", "<"], "at the first symbol nothing has changed yet"
    assert strip.changes["g"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert strip.full("g") == pytest.approx(0.794) and strip.full("i") == pytest.approx(0.397)
    assert strip.strength("g").tolist() == pytest.approx([0.2519, 0.5038, 0.7557, 1.0], abs=1e-4)


def test_a_long_text_loses_its_cold_beginning() -> None:
    assert len(strip_of("a" * 300).symbols) == 200


def texts(strip: Strip) -> str:
    (panel,) = draw_strip(strip).axes
    return "\n".join(text.get_text() for text in panel.texts)


@pytest.mark.parametrize(("length", "left_out"), [(5, "first symbol is"), (300, "first 100 symbols are")])
def test_what_is_left_out_and_what_the_colours_mean_is_said(length: int, left_out: str) -> None:
    strip = strip_of("a" * length)
    for said in (texts(strip), strip_page(strip)):
        assert f"The {left_out} left out." in said
        assert "a scale of its own: its colour is full from the 99th percentile" in said


def test_all_numbers_are_of_the_same_symbols_however_many_are_shown() -> None:
    ids = LETTERS.encode("a" * (MOST_IN_PAGE + 1100))
    changes = {"h": torch.arange(len(ids)) / 10}
    strip = make_strip("a model", ids, LETTERS, changes)
    later = changes["h"][100:].double()
    assert strip.numbers["h"] == pytest.approx(
        {"mean": float(later.mean()), "max": float(later.max()), "full": float(later.quantile(0.99))}
    )
    assert (strip.left_out, strip.count) == (100, MOST_IN_PAGE + 1000)
    page = strip_page(strip)
    assert f"full colour from {strip.full('h'):.3g} (mean {later.mean():.3g}, maximum {later.max():.3g})" in page
    assert "the same 3,000 symbols; the first 2,000 of them are shown" in page and page.count("<span") == MOST_IN_PAGE


def test_changes_that_are_not_finite_are_white_and_said() -> None:
    ids = LETTERS.encode("ababab")
    strip = make_strip(
        "broken", ids, LETTERS, {"i": torch.tensor([0, 1, math.nan, math.inf, 2, 3]), "g": torch.ones(6)}
    )
    assert strip.numbers["i"]["mean"] == 2 and strip.numbers["i"]["max"] == 3
    assert strip.strength("i").tolist() == pytest.approx([1 / 2.98, 0, 0, 2 / 2.98, 1], abs=1e-6)
    for said in (texts(strip), strip_page(strip)):
        assert "Not finite, and white, at 2 of the symbols here." in said
    nothing = make_strip("broken", ids, LETTERS, {"i": torch.full((6,), math.nan)})
    assert nothing.strength("i").tolist() == [0] * 5 and "--i:0.00" in strip_page(nothing)
    assert picture(draw_strip(nothing), "png").startswith(b"\x89PNG")
    assert "W_h of i: not finite" in strip_page(nothing)
    assert texts_outside(draw_strip(nothing)) == []


def test_nothing_of_the_picture_is_cut_off() -> None:
    for length in (3, 40, 500, 3000):
        assert texts_outside(draw_strip(strip_of("a" * length))) == []


def test_weights_that_never_change_are_white() -> None:
    ids = LETTERS.encode("abab")
    strip = make_strip("still", ids, LETTERS, {"h": torch.zeros(4)})
    assert strip.strength("h").tolist() == [0, 0, 0]
    assert picture(draw_strip(strip), "png").startswith(b"\x89PNG")


def test_lines_break_at_their_width_and_lose_nothing() -> None:
    assert broken_into_lines(["a"] * 7, 3) == [[0, 1, 2], [3, 4, 5], [6]]
    words = ["one ", "two ", "a_very_long_one ", "x "]
    assert broken_into_lines(words, 9) == [[0, 1], [2], [3]]


def test_the_page_is_escaped_complete_and_needs_no_network() -> None:
    text = "a<b>&a\n$a".replace(">", "a")
    strip = strip_of(text)
    page = strip_page(strip)
    shown = re.findall(r'<span title="([^"]*)" style="([^"]*)">([^<]*)</span>', page)
    assert "".join(html.unescape(symbol) for _, _, symbol in shown) == "<ba&a↵$a"
    title, style, _ = shown[2]
    assert title.endswith("i 0.3, g 0.6, f 0.9, o 1.2") and style.startswith("--i:0.38;--g:0.38")
    assert "default-src 'none'" in page and not re.search(r"https?://|<script|src=", page)
    assert "full colour from" in page, "the legend"


def test_the_picture_has_eight_lines_at_most_and_takes_dollars_for_text() -> None:
    short, long, endless = (draw_strip(strip_of("a$" * n)).get_figheight() for n in (20, 300, 3000))
    assert short < long < endless
    eight = draw_strip(strip_of("ab" * 2000)).get_figheight()
    assert endless == eight


def test_words_are_as_wide_as_they_are_long() -> None:
    words = Vocabulary("word", ["the", "<eos>", "cat"])
    strip = make_strip("words", torch.tensor([0, 2, 1, 0]), words, {"i": torch.ones(4)})
    assert strip.symbols == ["cat ", "↵ ", "the "]
    draw_strip(strip)
