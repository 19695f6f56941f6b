"""Multi30k: captions of 31,000 photographs in English with French translations (Elliott et al. 2016 and 2017)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.files import file_pair, refuse_files
from hyperrun.data.pairs.pieces import BothPieces
from hyperrun.data.pairs.sets import PairSet, make_pairs
from hyperrun.data.sources import Form, Source, data_root, find
from hyperrun.registry import register

PAGE = "https://github.com/multi30k/dataset"
SHA256 = {
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    "test_2017_flickr.en.gz": "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074",
    "test_2017_flickr.fr.gz": "3ba671ceb2299f3304ffafefea7a833d08632fbaf0ba18546f8a2ec2391af496",
    "test_2017_mscoco.en.gz": "aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58",
    "test_2017_mscoco.fr.gz": "754f3072ba9f124569ba5258b32730fc1d214bbf8e0c6dfb2b74401676220db0",
    "test_2018_flickr.en.gz": "ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d",
    "test_2018_flickr.fr.gz": "fb2b83fcceb937a4f7e3e93c1c51c22aba92f1e342391e6b5ba392b16a920501",
}
TESTS = {
    "multi30k": "test_2016_flickr",
    "multi30k_2017": "test_2017_flickr",
    "multi30k_mscoco": "test_2017_mscoco",
    "multi30k_2018": "test_2018_flickr",
}
"""Set -> its test files; training and validation are the same for all."""


def multi30k_source(name: str) -> Source:
    """Return where the files of a set are looked for: in multi30k/, or in a checkout of the repository by that name."""
    parts = ("train", "val", TESTS[name])
    files = [f"{part}.{language}.gz" for part in parts for language in ("en", "fr")]
    folders = ("multi30k/", "multi30k/data/task1/raw/")
    forms = tuple(Form("gz", folder, {folder + file: SHA256[file] for file in files}) for folder in folders)
    by_hand = f"put {', '.join(files)} of data/task1/raw of {PAGE} into multi30k there"
    return Source(name, forms, (), by_hand)


def load_multi30k(cfg: PairData, pieces: BothPieces | None = None) -> PairSet:
    """Return 29,000 captions to train, 1,014 to validate, and those of the name's year and photographs to test: 1,000
    of 2016 and of 2017, 461 of 2017 from MSCOCO, 1,071 of 2018.

    Raises:
        UserError: files are missing, damaged or not the published ones; as make_pairs.
    """
    refuse_files(cfg)
    root = data_root(cfg.root)
    form, verified = find(multi30k_source(cfg.name), root, verify=cfg.verify, explicit_root=cfg.root is not None)
    paths = [root / file for file in form.files]
    train, val, test = (file_pair(source, target, cfg) for source, target in zip(paths[::2], paths[1::2], strict=True))
    return make_pairs(cfg.name, cfg, pieces, train=train, val=val, test=test, verified=verified)


def where(name: str) -> Callable[[], Source]:
    return partial(multi30k_source, name)


for _name in TESTS:
    register("data", _name, PairData, source=where(_name))(load_multi30k)
