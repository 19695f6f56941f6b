"""Three sets of drawings from hardmaru's sketch-rnn-datasets: Omniglot, kanji, sheep.

hyperrun fetches none of them. Their files are read in the form in which they are published (arrays of arrays, which are
pickles: npz.py) and as flat arrays. The checksums are those of flat copies; none is known of the published files, so
that these take data.verify=false.
"""

from __future__ import annotations

from collections.abc import Callable

from hyperrun.data.kinds import StrokeData
from hyperrun.data.sources import Form, Source, data_root, find
from hyperrun.data.strokes.own_file import read_splits, refuse_path
from hyperrun.data.strokes.sets import StrokeSet, make_strokes
from hyperrun.errors import UserError
from hyperrun.inputs import Strokes
from hyperrun.registry import register

PAGE = "https://github.com/hardmaru/sketch-rnn-datasets"
COMMIT = "7c854dee76090aa18c321c7af2cede815bbd475e"

FILES = {
    "omniglot_strokes": (
        "omniglot/omniglot.npz",
        "f3e3a67618158c42ea843ac70b78437c67a3e97ce0da254910b03b044dff0248",
        "MIT licence, copyright 2015 Brenden Lake",
    ),
    "kanji": (
        "kanji/short_kanji.npz",
        "71ae99dc549df5094ac3cbb6a5598b13042232e41aeb30c4b2a5894074ae429b",
        "CC BY-SA 3.0, copyright 2009-2015 Ulrich Apel (KanjiVG)",
    ),
    "sheep": (
        "aaron_sheep/aaron_sheep.npz",
        "6ad03fe735395be35d56a96e540e6eedaed1507956b68bb7f43974f0615f67be",
        "CC BY-NC 4.0, copyright 2006 Aaron Koblin",
    ),
}
"""Set -> its file in the repository, the sha256 of its flat copy, its licence."""


def source(name: str) -> Source:
    """Return where one of the three sets is looked for: strokes/FILE.npz, or a checkout of the repository."""
    there, checksum, licence = FILES[name]
    file = f"strokes/{there.rpartition('/')[2]}"
    clone = f"sketch-rnn-datasets/{there}"
    forms = (Form("flat", file, {file: checksum}), Form("published", clone, {clone: None}))
    by_hand = (
        f"put {there} of {PAGE} (commit {COMMIT[:8]}; {licence}) there as {file} and add data.verify=false, as no "
        "checksum of that file is known"
    )
    return Source(name, forms, (), by_hand)


def load(name: str, cfg: StrokeData) -> StrokeSet:
    """Read one of the three sets.

    Raises:
        UserError: the file is missing, damaged, has no three splits, or has no checksum that fits and may not be used.
    """
    refuse_path(cfg)
    root = data_root(cfg.root)
    form, verified = find(source(name), root, verify=cfg.verify, explicit_root=cfg.root is not None)
    path = root / next(iter(form.files))
    splits = read_splits(path)
    if len(splits) < 3:
        raise UserError(f"{path} is not {name}: it has no {'valid' if 'val' not in splits else 'test'}")
    return make_strokes(name, cfg, train=splits["train"], val=splits["val"], test=splits.get("test"), verified=verified)


def where(name: str) -> Callable[[], Source]:
    return lambda: source(name)


@register("data", "omniglot_strokes", StrokeData, source=where("omniglot_strokes"), looks=Strokes())
def load_omniglot(cfg: StrokeData) -> StrokeSet:
    """Return characters of 50 alphabets, each written by 20 people: 30,000 / 1,000 / 1,000."""
    return load("omniglot_strokes", cfg)


@register("data", "kanji", StrokeData, source=where("kanji"), looks=Strokes())
def load_kanji(cfg: StrokeData) -> StrokeSet:
    """Return kanji, one drawing each: 10,000 / 600 / 500."""
    return load("kanji", cfg)


@register("data", "sheep", StrokeData, source=where("sheep"), looks=Strokes())
def load_sheep(cfg: StrokeData) -> StrokeSet:
    """Return sheep, each drawn by another visitor of a web page: 7,400 / 300 / 300."""
    return load("sheep", cfg)
