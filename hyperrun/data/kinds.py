"""The kinds of data: what the configs of their sets hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hyperrun.config import DataConfig, check_positive
from hyperrun.errors import choose


@dataclass
class ImageData(DataConfig):
    """A set of labelled images of one size, held as uint8."""

    KIND: ClassVar[str] = "images"

    val_size: int
    """Training examples set aside for validation (model selection, early stop)."""
    split_seed: int
    """Seed of that draw: the same for every run, so that seeds are compared on the same split."""
    image_size: int | None
    """Side in pixels to which an image folder's pictures are scaled and cropped; null where the set fixes it."""
    crop_padding: int
    """Zeros added on each side before a random crop of the original size; 0 turns cropping off."""
    flip: bool
    """Random horizontal flips."""
    cutout: int
    """Side in pixels of a square set to the mean colour at a random place; 0 turns it off."""
    loader: str
    """device: the whole set on the device; dataloader: worker processes; auto: device when it fits."""
    workers: int
    """Worker processes of the dataloader path."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("val_size", self.val_size)
        choose("data.loader", self.loader, ["auto", "device", "dataloader"])
        for name in ("crop_padding", "cutout", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass
class TaskData(ImageData):
    """Several tasks made of one set of images: split_digits, split_mnist, permuted_mnist, rotated_mnist."""

    KIND: ClassVar[str] = "tasks"

    tasks: int
    """How many tasks; for split_... they part the classes among them."""
    task_seed: int
    """0: the usual tasks; other numbers draw others of the same kind (pairs of classes, orders of pixels, angles)."""
    order: str
    """joint: each batch has examples of all tasks; continual: one task after the other, each for an equal part of the
    steps, and no example of an earlier one again."""
    beta: float
    """Continual training: weight of the output regularizer (von Oswald et al. 2020), which holds the weights that the
    hypernet makes for earlier tasks where they were; 0: none. Parameters that are not generated are not held."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("tasks", self.tasks)
        choose("data.order", self.order, ["joint", "continual"])
        if self.beta < 0 or not 0 <= self.task_seed < 2**32:
            raise ValueError("beta must not be negative, and task_seed must lie between 0 and 2**32 - 1")


@dataclass
class TextData(DataConfig):
    """A text as one long row of symbols, read in order by streams that carry their state from chunk to chunk."""

    KIND: ClassVar[str] = "text"

    path: str | None
    """The file that data=text reads; null for every other set."""
    unit: str
    """What a symbol is: char, word (parted by white space; the end of a line is <eos>) or byte."""
    encoding: str
    """How the file's bytes stand for characters (utf-8, latin-1, ...); for byte, how a prompt becomes bytes."""
    val_fraction: float | None
    """Part of the text kept for validation, after the training part; null where the set brings its own split."""
    test_fraction: float | None
    """Part of the text kept for the test, at its end; null where the set brings its own split."""
    sequence_length: int
    """Steps of truncated back-propagation: symbols in one chunk of a stream."""
    eval_streams: int
    """Equal pieces into which an evaluation cuts a split, so that they can be read side by side; 1 reads it in one
    go. Belongs to the figure: it does not depend on trainer.eval_batch_size, which says how many are read at a time."""
    eval_burn_in: int
    """Symbols before each piece that are read to warm the state up and are not scored there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("data.unit", self.unit, ["char", "word", "byte"])
        try:
            "".encode(self.encoding)  # knows only encodings of text, unlike codecs.lookup
        except LookupError:
            raise ValueError(f"encoding '{self.encoding}' is none that Python knows (utf-8, latin-1, ...)") from None
        for name in ("sequence_length", "eval_streams"):
            check_positive(name, getattr(self, name))
        if self.eval_burn_in < 0:
            raise ValueError(f"eval_burn_in must not be negative, not {self.eval_burn_in}")
        parts = [part for part in (self.val_fraction, self.test_fraction) if part is not None]
        if len(parts) == 1 or any(part <= 0 for part in parts) or sum(parts) >= 1:
            raise ValueError(
                "val_fraction and test_fraction must be positive with a sum below 1, or both null where the set brings "
                f"its own split, not {self.val_fraction} and {self.test_fraction}"
            )


@dataclass
class StrokeData(DataConfig):
    """Sequences of pen positions: dx, dy, and whether the pen is lifted after them."""

    KIND: ClassVar[str] = "strokes"

    path: str | None
    """The npz file that data=strokes reads; null for every other set."""
    val_fraction: float | None
    """Part of the sequences of a file without splits that validates; a file with splits keeps them."""
    test_fraction: float | None
    """Part of the sequences of a file without splits that tests; 0: no test split."""
    min_points: int
    """Shorter sequences are dropped, from every split."""
    max_points: int | None
    """Longer sequences are dropped, from every split; null: none."""
    scale: float
    """Augmentation: each training sequence is made larger or smaller by a factor drawn anew in each epoch, uniformly
    from 1 - scale to 1 + scale; 0 turns it off."""
    max_jump: float | None
    """Largest |dx| or |dy| that is no mistake, in the file's own unit; null: any size is right."""
    bad_jumps: str
    """What is done about larger ones: refuse (stop with an error), drop (leave the sequence out) or clip (cut dx and dy
    off at max_jump). summary.json counts them."""
    bad_sequences: str
    """What is done about a sequence with a NaN, an Inf, a pen value other than 0 and 1, or fewer than 2 points: refuse
    or drop. summary.json counts them."""
    sequence_length: int | None
    """Steps of truncated back-propagation, the state carried from chunk to chunk; null: whole sequences."""
    buckets: int
    """Lengths to which whole sequences are padded, so that those of one batch are about equally long. Chosen so that
    there is as little padding as possible."""

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("data.bad_jumps", self.bad_jumps, ["refuse", "drop", "clip"])
        choose("data.bad_sequences", self.bad_sequences, ["refuse", "drop"])
        check_positive("buckets", self.buckets)
        if self.sequence_length is not None:
            check_positive("sequence_length", self.sequence_length)
        if self.min_points < 2:
            raise ValueError(
                f"min_points must be at least 2 (one point to predict the next from), not {self.min_points}"
            )
        if self.max_points is not None and self.max_points < self.min_points:
            raise ValueError(f"max_points={self.max_points} is below min_points={self.min_points}")
        if not 0 <= self.scale < 1:
            raise ValueError(f"scale must lie in [0, 1), not {self.scale}")
        if self.max_jump is not None and self.max_jump <= 0:
            raise ValueError(f"max_jump must be positive, not {self.max_jump}")
        check_fractions(self.val_fraction, self.test_fraction)


@dataclass
class PairData(DataConfig):
    """Sentences and their translations, cut into pieces of words."""

    KIND: ClassVar[str] = "pairs"

    source: str | None
    """The file of sentences to learn from, one a line, that data=parallel reads (data=wmt14_enfr: the files that it
    trains on, where they stand elsewhere); null for every other set."""
    target: str | None
    """The file of their translations, line by line."""
    val_source: str | None
    """The file of sentences that validate; null: val_fraction of the first file."""
    val_target: str | None
    """The file of their translations."""
    test_source: str | None
    """The file of sentences that test; null: test_fraction of the first file."""
    test_target: str | None
    """The file of their translations."""
    val_fraction: float | None
    """Part of the training file that validates where there is no file for it; null where the set brings its own."""
    test_fraction: float | None
    """Part of the training file that tests where there is no file for it; 0: no test split."""
    pieces: int
    """Size of a vocabulary, the four of padding, beginning, end and unknown included. The training text must yield
    exactly so many."""
    shared_vocabulary: bool
    """One vocabulary, of both languages' text, for source and target; else one for each."""
    byte_fallback: bool
    """Write characters that no piece has as bytes, for which 256 of the pieces are set aside, so that no text is
    outside the model; else they are one piece, unknown."""
    normalization: str
    """Unicode's form of what is read and typed: nfc, nfkc or none. White space is one blank in any case."""
    max_length: int
    """Pairs with more pieces than this on a side are left out of training, and counted; evaluation has them all."""
    tokens_per_batch: int
    """Target pieces of a training batch over all processes, padding included, at most."""
    buckets: int
    """Lengths to which targets are padded, and as many to which sources are, chosen for little padding."""
    select: str
    """What selects the checkpoint: loss (per target piece) or bleu (of greedy translations) on the validation split."""
    beam: int
    """Translations that the search of the test and of `hyperrun translate` goes on with side by side; 1: greedy."""
    alpha: float
    """Length normalization of that search (Wu et al. 2016, equation 14): 0 none, 1 the mean per piece."""
    beta: float
    """Coverage penalty of that search (the same equation); 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("data.normalization", self.normalization, ["nfc", "nfkc", "none"])
        choose("data.select", self.select, ["loss", "bleu"])
        for name in ("max_length", "tokens_per_batch", "buckets", "beam"):
            check_positive(name, getattr(self, name))
        if self.buckets > 255:
            raise ValueError(f"buckets must be at most 255, not {self.buckets}")
        for split in ("", "val_", "test_"):
            source, target = f"{split}source", f"{split}target"
            if (getattr(self, source) is None) != (getattr(self, target) is None):
                there, lacks = (target, source) if getattr(self, source) is None else (source, target)
                raise ValueError(f"{there}={getattr(self, there)} needs {lacks}=FILE, whose lines belong to its lines")
        least = 5 + 256 * self.byte_fallback
        if self.pieces < least:
            raise ValueError(
                f"pieces must be at least {least}: {4 + 256 * self.byte_fallback} are set aside, not {self.pieces}"
            )
        if self.alpha < 0 or self.beta < 0:
            raise ValueError(f"alpha and beta must not be negative, not {self.alpha} and {self.beta}")
        check_fractions(self.val_fraction, self.test_fraction)


def check_fractions(val: float | None, test: float | None) -> None:
    """Refuse fractions that leave nothing to train on or nothing to validate by.

    Raises:
        ValueError: such fractions, or one alone.
    """
    if (val is None) != (test is None):
        raise ValueError("val_fraction and test_fraction must both be numbers, or both null")
    if val is not None and test is not None and (val <= 0 or test < 0 or val + test >= 1):
        raise ValueError(
            f"val_fraction must be positive and test_fraction not negative, with a sum below 1, not {val} and {test}"
        )
