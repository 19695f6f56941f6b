"""Pairs of one's own: data=parallel data.source=FILE data.target=FILE, two files that belong together line by line."""

from __future__ import annotations

from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.files import file_pair, named, parts_of
from hyperrun.data.pairs.pieces import BothPieces
from hyperrun.data.pairs.sets import PairSet, RawPairs, make_pairs
from hyperrun.errors import UserError
from hyperrun.registry import register


@register("data", "parallel", PairData)
def load_parallel(cfg: PairData, pieces: BothPieces | None = None) -> PairSet:
    """Return the pairs of the config's files. What no file is named for is a part of the training file, drawn once and
    for all.

    Raises:
        UserError: no files; one that is missing, empty, damaged or not UTF-8; two of unequal numbers of lines; no
            validation; as make_pairs.
    """
    if cfg.source is None or cfg.target is None:
        raise UserError(
            "data=parallel needs data.source=FILE and data.target=FILE, sentences and their translations, one a line "
            "(plain, .gz, .bz2, .xz or .zst)"
        )
    whole = file_pair(cfg.source, cfg.target, cfg)
    val, test = named(cfg, "val"), named(cfg, "test")
    parts = drawn(whole, cfg, {"val": val is None, "test": test is None})
    if val is None and "val" not in parts:
        raise UserError(
            "data=parallel has nothing to validate by: set data.val_source and data.val_target, or data.val_fraction "
            "and data.test_fraction"
        )
    return make_pairs(
        "parallel",
        cfg,
        pieces,
        train=parts["train"],
        val=val or parts["val"],
        test=test or parts.get("test"),
    )


def drawn(whole: RawPairs, cfg: PairData, wanted: dict[str, bool]) -> dict[str, RawPairs]:
    """Return the training part of two files, and those of "val" and "test" that are wanted and for which the config
    gives a fraction above 0.

    Raises:
        UserError: so few lines that a part has none.
    """
    count = len(whole.source)
    fractions = {"val": cfg.val_fraction, "test": cfg.test_fraction}
    sizes = {split: count * fraction for split, fraction in fractions.items() if wanted[split] and fraction}
    return parts_of(whole, {split: int(size) for split, size in sizes.items()})
