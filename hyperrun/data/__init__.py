"""Data sets by name.

A data set of your own is a function from its config to what was read, in a module named by `plugins=[my.module]`:

    from hyperrun.data import ImageData, ImageSplit, make_set, register

    @register("data", "rings", ImageData, values={"epochs": 20, "val_size": 100})
    def rings(cfg):
        x, y, x_test, y_test = ...          # uint8 [N, C, H, W] and int64 [N]
        return make_set("rings", cfg, train=ImageSplit(x, y), test=ImageSplit(x_test, y_test), classes=["in", "out"])

`data=rings` is then a choice; its keys have the values of conf/data/_images.yaml, those in `values` excepted. A text of
your own that is more than a file (data=text reads those) is a function to a `TextSet`:

    @register("data", "verses", TextData)
    def verses(cfg):
        vocabulary, (train, val, test) = number_characters([..., ..., ...])     # three texts
        return make_text("verses", train=train, val=val, test=test, vocabulary=vocabulary)

Pen strokes of your own that are more than a file (data=strokes reads those) are a function to a `StrokeSet`, which
`make_strokes` makes of `RawStrokes`. Pairs of sentences that are more than two files (data=parallel reads those) are a
function of a config and of the pieces that a run has learned, or None, to a `PairSet`:

    @register("data", "proverbs", PairData, values={"epochs": 20})
    def proverbs(cfg, pieces=None):
        return make_pairs("proverbs", cfg, pieces, train=RawPairs.of(english, french), val=RawPairs.of(..., ...))

`looks=Images(1, 28, 10, train=60_000)`, where it is known beforehand, lets hyperrun count parameters without reading
the set; `source`, a function to a `Source`, says where its files come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from hyperrun.config import DataConfig

# They register, in the order in which lists show them.
# isort: off
from hyperrun.data import digits, mnist, cifar, svhn, folder, text, corpora  # noqa: F401
from hyperrun.data.strokes import font_strokes, sketch_rnn, iam_online, own_file  # noqa: F401
from hyperrun.data.pairs import number_names, multi30k, wmt14, own_files as own_pairs  # noqa: F401

# isort: on
from hyperrun.data.images import FolderSplit, ImageSet, ImageSplit, left_to_train_on, make_set
from hyperrun.data.kinds import ImageData, PairData, StrokeData, TaskData, TextData
from hyperrun.data.learned import LearnedImages
from hyperrun.data.pairs.encoded import PairSplit
from hyperrun.data.pairs.files import FILES
from hyperrun.data.pairs.pieces import BothPieces, Pieces
from hyperrun.data.pairs.sets import PairSet, RawPairs, make_pairs
from hyperrun.data.sources import Source, data_root
from hyperrun.data.strokes.sets import RawStrokes, StrokeSet, StrokeSplit, make_strokes
from hyperrun.data.tasks import TaskSet, classes_of, make_tasks
from hyperrun.data.text import TextSet, make_text
from hyperrun.data.vocabulary import Vocabulary, number_bytes, number_characters, number_words
from hyperrun.errors import choose
from hyperrun.inputs import Images, Inputs, SentencePairs, Tasks
from hyperrun.paths import expanded
from hyperrun.registry import choices, register

__all__ = [
    "FORMS",
    "BothPieces",
    "FolderSplit",
    "ImageData",
    "ImageSet",
    "ImageSplit",
    "LearnedImages",
    "PairData",
    "PairSet",
    "PairSplit",
    "Pieces",
    "RawPairs",
    "RawStrokes",
    "StrokeData",
    "StrokeSet",
    "StrokeSplit",
    "TaskData",
    "TaskSet",
    "TextData",
    "TextSet",
    "Vocabulary",
    "data_root",
    "form_and_base",
    "inputs_of",
    "load",
    "load_images",
    "load_pairs",
    "load_strokes",
    "load_tasks",
    "load_text",
    "looks_of",
    "make_pairs",
    "make_set",
    "make_strokes",
    "make_text",
    "names_of",
    "number_bytes",
    "number_characters",
    "number_words",
    "published_name",
    "register",
    "source_of",
]

ONLY_FEEDING = (
    "crop_padding",
    "flip",
    "cutout",
    "workers",
    "epochs",
    "sequence_length",
    "eval_streams",
    "eval_burn_in",
    "scale",
    "buckets",
    "tokens_per_batch",
    "select",
    "beam",
    "alpha",
    "beta",
)
"""Keys that do not change what is read, so that a sweep over them reads the set once."""
KEPT = 2
"""Sets kept in memory for the next job of a sweep in this process."""
_kept: dict[tuple[object, ...], Any] = {}

Cfg = TypeVar("Cfg", bound=DataConfig)
Set = TypeVar("Set")


def names_of(kind: str) -> list[str]:
    """Return the names of the registered sets of a kind (images, text, strokes, pairs), as they were registered."""
    return [name for name, one in choices("data").items() if one.schema.KIND == kind]


def source_of(name: str) -> Source | None:
    """Return where the files of a set come from; None for one that is not fetched."""
    one = choices("data").get(name)
    return one.facts["source"]() if one is not None and "source" in one.facts else None


def looks_of(name: str) -> Inputs | None:
    """Return what a set looks like, before anything is set aside; None where that is not known beforehand."""
    one = choices("data").get(name)
    return one.facts.get("looks") if one is not None else None


def load_images(cfg: ImageData, learned: LearnedImages | None = None) -> ImageSet:
    """Read the data set cfg.name, or return it from memory where this process has just read it.

    learned: what a run keeps of its images, whose normalization, numbers of classes and validation files then hold.

    Raises:
        UserError: an unknown name; files that are missing, damaged or not the published ones; a val_size that leaves
            nothing to train on.
    """
    read = choices("data")[choose("data set", cfg.name, names_of("images"))].build
    if learned is None:
        return _read_or_kept(read, cfg)
    if cfg.name == "image_folder":
        return read(cfg, learned)
    return learned.applied(_read_or_kept(read, cfg))


def load_text(cfg: TextData) -> TextSet:
    """Read the text cfg.name, or return it from memory where this process has just read it.

    Raises:
        UserError: an unknown name; files that are missing, empty, in another encoding or not the published ones; a
            unit or fractions that the set does not have; a text too short to be split.
    """
    return _read_or_kept(choices("data")[choose("text", cfg.name, names_of("text"))].build, cfg)


def load_strokes(cfg: StrokeData) -> StrokeSet:
    """Read the pen strokes cfg.name, or return them from memory where this process has just read them.

    Raises:
        UserError: an unknown name; files that are missing, damaged or not the published ones; sequences that the config
            refuses; a split of which nothing is left.
    """
    return _read_or_kept(choices("data")[choose("set of strokes", cfg.name, names_of("strokes"))].build, cfg)


def load_pairs(cfg: PairData, pieces: BothPieces | None = None) -> PairSet:
    """Read the pairs of sentences cfg.name, or return them from memory where this process has just read them.

    pieces: those of source and target that a run has learned, instead of learning them from the set.

    Raises:
        UserError: an unknown name; files that are missing, damaged, of unequal lengths or not the published ones; a
            vocabulary that the text has not got; a split of which nothing is left.
    """
    read = choices("data")[choose("set of pairs", cfg.name, names_of("pairs"))].build
    return _read_or_kept(read, cfg) if pieces is None else read(cfg, pieces)


FORMS = ("split", "permuted", "rotated")
"""What tasks are made of a set of images: FORM_NAME."""


@register("data", "split_digits", TaskData)
@register("data", "split_mnist", TaskData)
@register("data", "permuted_mnist", TaskData)
@register("data", "rotated_mnist", TaskData)
def load_tasks(cfg: TaskData) -> TaskSet:
    """Read the set that cfg.name speaks of and make the tasks of it.

    Raises:
        UserError: as load_images; a name or a number of tasks that cannot be.
    """
    form, base = form_and_base(cfg.name)
    return make_tasks(load_images(as_images(cfg)), form, cfg)


def form_and_base(name: str) -> tuple[str, str]:
    """Return ("split", "mnist") for split_mnist.

    Raises:
        UserError: no such form or set.
    """
    form, _, base = name.partition("_")
    sets = names_of("images")
    allowed = [f"{form}_{base}" for form in FORMS for base in sets if looks_of(base) is not None]
    if form not in FORMS or base not in sets:
        choose("set of tasks", name, allowed)
    return form, base


def as_images(cfg: TaskData) -> ImageData:
    """Return the config of the set of images that tasks are made of."""
    own: dict[str, Any] = {f.name: getattr(cfg, f.name) for f in fields(ImageData)}
    own |= {"kind": "images", "name": form_and_base(cfg.name)[1]}
    return ImageData(**own)


def published_name(cfg: DataConfig) -> str:
    """Return the name under which the files of a set are known: of tasks, that of the images they are made of."""
    return form_and_base(cfg.name)[1] if isinstance(cfg, TaskData) else cfg.name


def inputs_of(cfg: DataConfig) -> Inputs:
    """Return what the data look like to a model. Only a set that hyperrun does not know beforehand (a folder, a file,
    a plugin's) is read.

    Raises:
        UserError: such a set is not there; a val_size that leaves nothing to train on, tasks that cannot be, or a unit
            or split that a text has not got.
    """
    if isinstance(cfg, TaskData):
        form, base = form_and_base(cfg.name)
        images = inputs_of(as_images(cfg))
        assert isinstance(images, Images)
        return Tasks(replace(images, classes=classes_of(images.classes, form, cfg), train=0), cfg.tasks)
    if isinstance(cfg, TextData) and cfg.name in corpora.UNIT_OF:
        corpora.expect_published(cfg)
    if isinstance(cfg, PairData):  # their text must yield so many
        return SentencePairs(cfg.pieces, cfg.pieces, cfg.shared_vocabulary)
    looks = looks_of(cfg.name)
    if isinstance(looks, Images) and isinstance(cfg, ImageData):
        return replace(looks, train=left_to_train_on(cfg.name, cfg, looks.train))
    if looks is not None:
        return looks
    return load(cfg).inputs


def load(cfg: DataConfig) -> Any:
    """Read the set that a config describes, of whatever kind; see load_images and its neighbours."""
    if isinstance(cfg, TaskData):
        return load_tasks(cfg)
    return _read_or_kept(choices("data")[choose("data set", cfg.name, choices("data"))].build, cfg)


def _read_or_kept(read: Callable[[Cfg], Set], cfg: Cfg) -> Set:
    where = data_root(cfg.root)  # $HYPERRUN_DATA may change between two calls
    settings = [(key, value) for key, value in asdict(cfg).items() if key not in ONLY_FEEDING]
    key = (read, where, str(_state_of_file(cfg)), *settings)
    found = _kept.pop(key, None)
    if found is None:
        while len(_kept) >= KEPT:  # before reading, so that there are never more than KEPT in memory
            del _kept[next(iter(_kept))]
        found = read(cfg)
    _kept[key] = found  # last in the dict: the one used most recently
    return found


def _state_of_file(cfg: DataConfig) -> list[tuple[int, int]] | int | None:
    """Return what changes when files of one's own, or pictures of a folder, are written anew; None for sets that are
    neither."""
    if cfg.name == "image_folder" and cfg.root is not None and (root := expanded(cfg.root)).is_dir():
        return folder.state_of(root)
    named: list[str | None] = []
    if isinstance(cfg, TextData | StrokeData):
        named = [cfg.path]
    elif isinstance(cfg, PairData):
        named = [getattr(cfg, key) for key in FILES]
    paths = [expanded(path) for path in named if path is not None]
    return [(found.st_size, found.st_mtime_ns) for path in paths if path.exists() and (found := path.stat())] or None
