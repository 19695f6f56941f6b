"""WMT'14 English to French, as Ha et al. 2016 (section 4.6) have it: 36 million pairs to train, newstest2014 to test.

The training text is of several corpora (Europarl, Common Crawl, UN, News Commentary, Giga), which their user puts
together in two files; hyperrun has no checksum of those.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.files import file_pair, named, parts_of, refuse_files
from hyperrun.data.pairs.lines import sgm_segments
from hyperrun.data.pairs.pieces import BothPieces
from hyperrun.data.pairs.sets import PairSet, RawPairs, make_pairs
from hyperrun.data.sources import Form, Source, data_root, find
from hyperrun.errors import UserError
from hyperrun.registry import register

PAGE = "https://www.statmt.org/wmt14/translation-task.html"
SGM = {
    "newstest2014-fren-src.en.sgm.xz": "8d69be0bcb4bcd796434659740fdf6ba70147721d437004aa72e0fbf293db9f8",
    "newstest2014-fren-ref.fr.sgm.xz": "f6326301f21d2a3269197bbd3a26cbfa121879ca37e6aae0829bc265cab5957d",
}
PLAIN = {
    "newstest2014.en": "967dca935c7cde4ffc2fc8c9424c682335e1690440dbda104948eb1ffa537fc2",
    "newstest2014.fr": "82526d36ae1cd4d5f20919fbf8130e519cc68a0e57fe47bb205d199626457de9",
}
ENDINGS = ("", ".gz", ".xz", ".bz2", ".zst")
"""Of train.en and train.fr in the folder wmt14_enfr; the first that is there is read."""
VALIDATE = 3_000
"""Training pairs that validate where the config names no files for it."""


def wmt14_enfr_source() -> Source:
    """Return where newstest2014 is looked for: one sentence a line, or SGM, packed or not."""
    files = [("plain", PLAIN), ("sgm", SGM), ("sgm", {name.removesuffix(".xz"): None for name in SGM})]
    forms = [
        Form(kind, f"newstest2014/{next(iter(names))}", {f"newstest2014/{file}": sha for file, sha in names.items()})
        for kind, names in files
    ]
    by_hand = (
        f"put {' and '.join(PLAIN)} (one sentence a line, as `sacrebleu -t wmt14/full -l en-fr --echo src` and `ref` "
        f"print them) or the two .sgm files of test-full.tgz of {PAGE} into newstest2014 there"
    )
    besides = (
        f"to train, put the corpora of {PAGE} together as train.en and train.fr (packed or not) in wmt14_enfr, or "
        "name two files with data.source and data.target"
    )
    return Source("wmt14_enfr", tuple(forms), (), by_hand, besides)


@register("data", "wmt14_enfr", PairData, source=wmt14_enfr_source)
def load_wmt14_enfr(cfg: PairData, pieces: BothPieces | None = None) -> PairSet:
    """Return the user's training pairs, their validation files or 3,000 of the training pairs, and newstest2014's
    3,003 to test. With the pieces of a run, to evaluate it, newstest2014 alone is enough: it then validates, too.

    Raises:
        UserError: files are missing, damaged or not the published ones; as make_pairs.
    """
    refuse_files(cfg, ("source", "target", "val_source", "val_target"))
    root = data_root(cfg.root)
    form, verified = find(wmt14_enfr_source(), root, verify=cfg.verify, explicit_root=cfg.root is not None)
    test = read_test(form, root, cfg)
    val, found = named(cfg, "val"), training_files(cfg, root)
    if found is None and pieces is not None:
        return make_pairs("wmt14_enfr", cfg, pieces, train=None, val=val or test, test=test, verified=verified)
    if found is None:
        raise UserError(
            f"wmt14_enfr has no training text: put train.en and train.fr (packed or not) into {root / 'wmt14_enfr'}, "
            f"or name two files with data.source and data.target; the corpora are on {PAGE}"
        )
    parts = parts_of(file_pair(*found, cfg), {} if val is not None else {"val": VALIDATE})
    val = val or parts["val"]
    return make_pairs("wmt14_enfr", cfg, pieces, train=parts["train"], val=val, test=test, verified=verified)


def training_files(cfg: PairData, root: Path) -> tuple[str | Path, str | Path] | None:
    """Return the files that the config names, or those in the folder wmt14_enfr; None where there are none."""
    if cfg.source is not None and cfg.target is not None:
        return cfg.source, cfg.target
    folder = root / "wmt14_enfr"
    found = [
        [path for ending in ENDINGS if (path := folder / f"train.{language}{ending}").is_file()]
        for language in ("en", "fr")
    ]
    return (found[0][0], found[1][0]) if all(found) else None


def read_test(form: Form, root: Path, cfg: PairData) -> RawPairs:
    """Return newstest2014.

    Raises:
        UserError: a file is damaged, or source and reference have other segments.
    """
    source, target = (root / file for file in form.files)
    if form.kind == "plain":
        return file_pair(source, target, cfg)
    sentences, translations = sgm_segments(source), sgm_segments(target)
    for (doc, number), missing in ((key, key not in translations) for key in sentences):
        if missing:
            raise UserError(f"{target} has no segment {number} of the document {doc}, which {source} has")
    references = [translations[key] for key in sentences]
    return replace(RawPairs.of(list(sentences.values()), references), where=f"{source} and {target}")
