"""Two files that belong together line by line, and parts of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hyperrun.data.images import seeded
from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.cache import cache_root
from hyperrun.data.pairs.lines import SomeTexts, TextFile
from hyperrun.data.pairs.sets import RawPairs
from hyperrun.errors import UserError
from hyperrun.paths import expanded

FILES = ("source", "target", "val_source", "val_target", "test_source", "test_target")
"""Keys of the config that name files."""


def named(cfg: PairData, split: str) -> RawPairs | None:
    """Return the pairs of the files that the config names for a split ("val", "test"); None where it names none."""
    source, target = getattr(cfg, f"{split}_source"), getattr(cfg, f"{split}_target")
    return None if source is None or target is None else file_pair(source, target, cfg)


def file_pair(source: str | Path, target: str | Path, cfg: PairData) -> RawPairs:
    """Return two files that belong together line by line.

    Raises:
        UserError: one is missing, empty or damaged, or they have unequal numbers of lines.
    """
    root = cache_root(cfg.root)
    one, two = (TextFile(expanded(path), remember_in=root) for path in (source, target))
    if len(one) != len(two):
        raise UserError(
            f"{one.path} has {len(one):,} lines and {two.path} {len(two):,}: line by line, sentence and translation "
            "must belong together"
        )
    return RawPairs(one, two, f"{one.path} and {two.path}")


def parts_of(whole: RawPairs, sizes: dict[str, int]) -> dict[str, RawPairs]:
    """Return parts of two files of so many lines each, drawn once and for all, and what is left as "train".

    Raises:
        UserError: so few lines that a part has none.
    """
    if not sizes:
        return {"train": whole}
    count = len(whole.source)
    left = count - sum(sizes.values())
    if left < 1 or min(sizes.values()) < 1:
        said = ", ".join(f"{size:,} for {split}" for split, size in {"train": left, **sizes}.items())
        raise UserError(f"{whole.where}: of {count:,} lines that leaves {said}, and each part needs one")
    order = torch.randperm(count, generator=seeded("pairs", "split"), dtype=torch.int64).numpy()
    found, at = {}, 0
    which = np.ones(count, bool)
    for split, size in sizes.items():
        here = np.zeros(count, bool)
        here[order[at : at + size]] = True
        which &= ~here
        found[split] = some(whole, here)
        at += size
    return {"train": some(whole, which), **found}


def some(whole: RawPairs, which: np.ndarray) -> RawPairs:
    """Return the pairs of these lines (bool [N])."""
    return RawPairs(SomeTexts(whole.source, which), SomeTexts(whole.target, which), whole.where)


def refuse_files(cfg: PairData, allowed: tuple[str, ...] = ()) -> None:
    """Refuse files and fractions for a set that has its own; `allowed`: keys of files that it does read.

    Raises:
        UserError: one of them was given.
    """
    for key in FILES:
        if key not in allowed and getattr(cfg, key) is not None:
            raise UserError(
                f"data.{key}={getattr(cfg, key)}: {cfg.name} reads no such file; leave it at null, or choose "
                "data=parallel"
            )
    if cfg.val_fraction is not None:
        raise UserError(f"{cfg.name} brings its own split: leave data.val_fraction and data.test_fraction at null")
