"""font_strokes: short words as a pen that follows the outlines of their letters would write them.

The fonts are some that ship with matplotlib, so there is nothing to fetch. Every word is written several times, each
time in another slant and size and with a slightly unsteady hand, as drawn from generators of its own: everybody with
the same matplotlib has the same strokes. Validation and test have words that are not in the training set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperrun.data.images import seeded
from hyperrun.data.kinds import StrokeData
from hyperrun.data.strokes.own_file import refuse_path
from hyperrun.data.strokes.sets import RawStrokes, StrokeSet, make_strokes
from hyperrun.inputs import Strokes
from hyperrun.registry import register

if TYPE_CHECKING:
    from matplotlib.path import Path as MatplotlibPath

FONTS = ("DejaVuSans.ttf", "cmss10.ttf", "STIXGeneralItalic.ttf")
"""Files in matplotlib's own folder of fonts."""
SIZE = 100.0
"""Of the letters, in points of print: the unit of the strokes."""
STEP = 13.0
"""Between two points, about: smooth parts of an outline are cut into equal steps, and corners stay."""
CORNER = 0.6
"""Radians by which the pen turns where an outline has a corner."""
TIMES = 2
"""How often each word is written in each font."""
SLANT, STRETCH, UNSTEADY = 0.2, 0.1, 0.5
"""Largest slant (dx for dy) and change of size; standard deviation of the hand, in points of print."""

WORDS = """
able about act add after again age ago air all also am an and any are area arm art as ask at away baby back bad bag
ball bank bar base be beat bed best big bird bit black blue body bone book born both box boy break brown bus but buy
by call can car card care case cat cause cell child city claim class clear close coach cold come cook cost could court
cover cup cut dark data day deal deep desk dog door down draw dream drive drop drug each early earth east easy eat
edge eight else end enjoy enter even ever eye face fact fall far farm fast fear feel few field fill film find fine
fire first fish five floor fly focus food foot for force form four free from front full game gas girl give glass go
goal good great green group grow guy hair half hand hang happy hard have he head hear heart heat help her here high
him his hit hold home hope horse hot hour house how huge human idea if image in into issue it item its job join jump
just keep key kid kind king know lake land large last late laugh law lay lead learn leave left leg less let level lie
life light like line list live local long look lose loss lot love low main make man many map mark maybe me mean media
meet mind miss model money month more most move movie much music must my name near need never new news next nice night
no none nor north not note now of off offer often oil ok old on once one only onto open or order other our out over
own page pain paper park part party past path pay peace phone pick piece place plan plant play point poor power press
price prove pull push put quick quite race radio raise range rate reach read ready real rest rich right rise risk road
rock role room rule run safe same save say scene score sea seat see seek seem sell send sense serve seven shake share
she short show side sign since sing sit site six size skill skin small smile so some son song soon sort sound south
space speak staff stage stand star start state stay step still stock stop store story study style such sun sure table
take talk task teach team tell ten tend term test than thank that the their them then there these they thing think
third this those three throw thus time to today too top total tough town trade train tree trial trip true truth try
turn two type under unit until up upon us use usual value very view visit voice vote wait walk wall want watch water
way we wear week well west what when where which while white who whole whom whose why wide wife will win wind wish
with woman word work world worry would wrong yard yeah year yes yet you young your zero zone
""".split()


@register("data", "font_strokes", StrokeData, looks=Strokes())
def load_font_strokes(cfg: StrokeData) -> StrokeSet:
    """Return the words, each in every font, TIMES times: about four fifths to train, a tenth each to validate and test.

    The unit is a point of print at a size of 100.
    """
    refuse_path(cfg)
    import matplotlib

    glyphs = {font: Glyphs(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / font) for font in FONTS}
    order = sorted(WORDS, key=lambda word: hashlib.sha256(word.encode()).digest())
    tenth = len(order) // 10
    parts = {"val": order[:tenth], "test": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
    train, val, test = (write(split, parts[split], glyphs) for split in ("train", "val", "test"))
    edition = f"matplotlib {matplotlib.__version__}"
    return make_strokes("font_strokes", cfg, train=train, val=val, test=test, edition=edition)


def write(split: str, words: Sequence[str], glyphs: dict[str, Glyphs]) -> RawStrokes:
    """Return the words in every font, each TIMES times."""
    every = [(word, font) for word in words for font in FONTS for _ in range(TIMES)]
    generator = seeded("font_strokes", split)
    slant, stretch = (torch.rand(2, len(every), generator=generator, dtype=torch.float64) * 2 - 1).numpy()
    drawn = []
    for i, (word, font) in enumerate(every):
        places, lifted = glyphs[font].word(word)
        places = places * (1 + STRETCH * stretch[i])
        places[:, 0] += SLANT * slant[i] * places[:, 1]
        drawn.append((places, lifted))
    offsets = np.cumsum([0, *(len(lifted) for _, lifted in drawn)])
    places, lifted = (np.concatenate(column) for column in zip(*drawn, strict=True))
    places = places + UNSTEADY * torch.randn(places.shape, generator=generator, dtype=torch.float64).numpy()
    moves = np.diff(places, axis=0, prepend=places[:1]) * [1, -1]  # fonts have y upwards
    texts = [word for word, _ in every]
    return RawStrokes(np.column_stack([moves, lifted]), offsets, "font_strokes", texts, texts)


class Glyphs:
    """The letters of one font, as places that a pen visits."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, tuple[np.ndarray, np.ndarray, float]] = {}
        self._bar = self._left_of_bar("|")

    def word(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of a word, float64 [N, 2] in points of print, y upwards, and where the pen is lifted, bool
        [N]: after each outline, letter by letter."""
        right, places, lifted = 0.0, [], []
        for letter in word:
            outline, up, advance = self._letter(letter)
            places.append(outline + [right, 0.0])
            lifted.append(up)
            right += advance
        return np.concatenate(places), np.concatenate(lifted)

    def _letter(self, letter: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Return a letter's places, where the pen is lifted, and how far the next letter is to the right."""
        if letter not in self._known:
            traced = [even(contour) for contour in contours(self._outline(letter))]
            lifted = [np.arange(len(one)) == len(one) - 1 for one in traced]
            advance = self._left_of_bar(letter + "|") - self._bar  # a bar shows where the next letter stands
            self._known[letter] = np.concatenate(traced), np.concatenate(lifted), advance
        return self._known[letter]

    def _left_of_bar(self, text: str) -> float:
        return contours(self._outline(text))[-1][:, 0].min()

    def _outline(self, text: str) -> MatplotlibPath:
        from matplotlib.font_manager import FontProperties
        from matplotlib.textpath import TextPath

        return TextPath((0, 0), text, size=SIZE, prop=FontProperties(fname=self._file))


def contours(outline: MatplotlibPath) -> list[np.ndarray]:
    """Return the closed lines of an outline, float64 [n, 2] each, curves as many short pieces, the first place again at
    the end."""
    found: list[list[np.ndarray]] = []
    segments: Any = outline.iter_bezier()
    for bezier, code in segments:
        if code == outline.MOVETO:
            found.append([bezier.control_points])
        elif code == outline.CLOSEPOLY:
            found[-1].append(found[-1][0])
        else:
            pieces = 1 if code == outline.LINETO else 12
            found[-1].append(bezier(np.linspace(0, 1, pieces + 1)[1:]))
    lines = [np.concatenate(parts) for parts in found]
    moving = [line[np.append(True, np.abs(np.diff(line, axis=0)).max(1) > 1e-9)] for line in lines]
    return [line for line in moving if len(line) > 3]  # Computer Modern's u has a single place beside its outline


def even(line: np.ndarray) -> np.ndarray:
    """Return places along a closed line [n, 2]: its corners, and between them equal steps of about STEP."""
    moves = np.diff(line, axis=0)
    along = np.append(0, np.hypot(*moves.T).cumsum())
    direction = np.arctan2(moves[:, 1], moves[:, 0])
    turn = np.abs((np.diff(direction) + np.pi) % (2 * np.pi) - np.pi)
    corners = along[np.concatenate([[0], 1 + np.flatnonzero(turn > CORNER), [len(moves)]])]
    step = min(STEP, along[-1] / 4)  # a small dot has four places, too
    steps = np.maximum(np.round(np.diff(corners) / step), 1).astype(int)
    at = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(corners, corners[1:], steps, strict=False)]
    at = np.append(np.concatenate(at), along[-1])
    return np.column_stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)])
