"""number_words: English names of numbers, to be translated into French ones; nothing to fetch.

The names are made here and not by a library: two short rules, the same for everybody.
"""

from __future__ import annotations

import torch

from hyperrun.data.images import seeded
from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.files import refuse_files
from hyperrun.data.pairs.pieces import BothPieces
from hyperrun.data.pairs.sets import PairSet, RawPairs, make_pairs
from hyperrun.registry import register

MOST = 1_000_000
"""Numbers are smaller than this."""
TRAIN, HELD_OUT = 20_000, 1_000
"""Numbers drawn to train on, and to validate and to test by."""
ALWAYS = 1_000
"""Smaller numbers train as well, unless they were drawn to validate or test."""

ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
FRENCH = (
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf"
).split()
FRENCH_TENS = "vingt trente quarante cinquante soixante".split()


@register("data", "number_words", PairData)
def load_number_words(cfg: PairData, pieces: BothPieces | None = None) -> PairSet:
    """Return names of numbers below a million: 1,000 to validate and 1,000 to test, none of which is in training."""
    refuse_files(cfg)
    order = torch.randperm(MOST, generator=seeded("number_words")).tolist()
    val, test = order[:HELD_OUT], order[HELD_OUT : 2 * HELD_OUT]
    held_out = {*val, *test}
    small = [n for n in range(ALWAYS) if n not in held_out]
    train = small + [n for n in order[2 * HELD_OUT :][:TRAIN] if n >= ALWAYS]
    splits = [
        RawPairs.of([english(n) for n in numbers], [french(n) for n in numbers], "number_words")
        for numbers in (train, val, test)
    ]
    return make_pairs("number_words", cfg, pieces, train=splits[0], val=splits[1], test=splits[2])


def english(n: int) -> str:
    """Return the British name of a number below a million: one hundred and twenty-three thousand and four."""
    if n >= 1000:
        rest = n % 1000
        joint = "" if not rest else " and " + english(rest) if rest < 100 else " " + english(rest)
        return f"{english(n // 1000)} thousand{joint}"
    if n >= 100:
        return f"{ENGLISH[n // 100]} hundred" + (f" and {english(n % 100)}" if n % 100 else "")
    if n >= 20:
        return ENGLISH_TENS[n // 10 - 2] + (f"-{ENGLISH[n % 10]}" if n % 10 else "")
    return ENGLISH[n]


def french(n: int) -> str:
    """Return the French name of a number below a million, in France's words and the spelling before 1990."""
    if n >= 1000:
        thousands = "mille" if n < 2000 else f"{french_below_1000(n // 1000, plural=False)} mille"
        return thousands + (f" {french_below_1000(n % 1000)}" if n % 1000 else "")
    return french_below_1000(n)


def french_below_1000(n: int, plural: bool = True) -> str:
    """plural: cents and quatre-vingts have their s where nothing follows, which is not so before mille."""
    if n >= 100:
        hundreds = "cent" if n < 200 else f"{FRENCH[n // 100]} cent"
        if n % 100:
            return f"{hundreds} {french_below_1000(n % 100, plural)}"
        return hundreds + ("s" if plural and n >= 200 else "")
    if n < 20:
        return FRENCH[n]
    if n >= 80:
        return "quatre-vingt" + (f"-{FRENCH[n - 80]}" if n > 80 else "s" if plural else "")
    tens = min(n // 10, 6)
    rest, name = n - 10 * tens, FRENCH_TENS[tens - 2]
    return name if not rest else f"{name} et {FRENCH[rest]}" if rest in (1, 11) else f"{name}-{FRENCH[rest]}"
