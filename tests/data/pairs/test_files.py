"""number_words, Multi30k, WMT'14, and files of one's own."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hyperrun.data import PairData, PairSet, inputs_of, load, load_pairs, names_of
from hyperrun.data.pairs import multi30k, wmt14
from hyperrun.data.pairs.number_names import english, french
from hyperrun.errors import UserError
from hyperrun.hydra_app.compose import compose_config
from hyperrun.inputs import SentencePairs
from tests.data.pairs.conftest import mirrored, sentences

Cfg = Callable[..., PairData]

NAMES = {
    0: ("zero", "zéro"),
    17: ("seventeen", "dix-sept"),
    21: ("twenty-one", "vingt et un"),
    60: ("sixty", "soixante"),
    71: ("seventy-one", "soixante et onze"),
    79: ("seventy-nine", "soixante-dix-neuf"),
    80: ("eighty", "quatre-vingts"),
    81: ("eighty-one", "quatre-vingt-un"),
    91: ("ninety-one", "quatre-vingt-onze"),
    100: ("one hundred", "cent"),
    200: ("two hundred", "deux cents"),
    201: ("two hundred and one", "deux cent un"),
    1000: ("one thousand", "mille"),
    1001: ("one thousand and one", "mille un"),
    1100: ("one thousand one hundred", "mille cent"),
    80_000: ("eighty thousand", "quatre-vingt mille"),
    200_080: ("two hundred thousand and eighty", "deux cent mille quatre-vingts"),
    999_999: (
        "nine hundred and ninety-nine thousand nine hundred and ninety-nine",
        "neuf cent quatre-vingt-dix-neuf mille neuf cent quatre-vingt-dix-neuf",
    ),
}


@pytest.mark.parametrize("number", NAMES)
def test_names_of_numbers(number: int) -> None:
    assert (english(number), french(number)) == NAMES[number]


def test_no_two_numbers_have_one_name() -> None:
    for name in (english, french):
        assert len({name(n) for n in [*range(10_000), *range(0, 1_000_000, 997)]}) == len(
            {*range(10_000), *range(0, 1_000_000, 997)}
        )


def test_number_words_tests_by_numbers_that_it_does_not_train_on() -> None:
    cfg = compose_config(["data=number_words"]).data
    assert isinstance(cfg, PairData)
    found = load_pairs(cfg)
    train = set(found.source_pieces.processor.decode([found.train.source[i].tolist() for i in range(len(found.train))]))
    assert len(train) == len(found.train) > 20_000
    for split in (found.val, found.test):
        assert split is not None and len(split) == 1000 and train.isdisjoint(split.source.texts)
    assert len({english(n) for n in range(1000)} - train) <= 5, "but for a few, it trains on all the small ones"


def test_what_pairs_look_like_is_known_without_reading_them(pair_cfg: Cfg) -> None:
    cfg = pair_cfg(name="wmt14_enfr", pieces=32_000, shared_vocabulary=False)
    assert inputs_of(cfg) == SentencePairs(32_000, 32_000, False)
    assert names_of("pairs") == ["number_words", *multi30k.TESTS, "wmt14_enfr", "parallel"]


# ---------------------------------------------------------------- files of one's own


def lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def own(folder: Path, count: int = 100, ending: str = "") -> dict[str, str]:
    """Two files of so many lines, as keys of the config."""
    texts = sentences(count, 0)
    for name, part in (("en", texts), ("fr", mirrored(texts))):
        (folder / f"text.{name}{ending}").write_bytes(gzip.compress(lines(part)) if ending else lines(part))
    return {"source": str(folder / f"text.en{ending}"), "target": str(folder / f"text.fr{ending}")}


def texts_of(found: PairSet, split: str) -> list[str]:
    side = found.splits[split].source
    return [found.source_pieces.decode(side[i].tolist()) for i in range(len(side))]


def test_a_part_of_the_file_validates_and_tests(tmp_path: Path, pair_cfg: Cfg) -> None:
    found = load(pair_cfg(**own(tmp_path), val_fraction=0.1, test_fraction=0.05))
    parts = {split: texts_of(found, split) for split in ("train", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 85, "val": 10, "test": 5}
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == sorted(sentences(100, 0))
    assert parts["val"] != sentences(100, 0)[:10], "drawn, and not the first lines"
    assert found.val.target.texts == mirrored(parts["val"])
    packed = load(pair_cfg(**own(tmp_path, ending=".gz"), val_fraction=0.1, test_fraction=0.05))
    assert packed.fingerprint == found.fingerprint
    assert load(pair_cfg(**own(tmp_path), val_fraction=0.1, test_fraction=0.0)).test is None


def test_files_for_the_other_splits(tmp_path: Path, pair_cfg: Cfg) -> None:
    (tmp_path / "val").mkdir()
    val = {f"val_{side}": path for side, path in own(tmp_path / "val", 7).items()}
    test = {f"test_{side}": path for side, path in own(tmp_path / "val", 7).items()}
    found = load(pair_cfg(**own(tmp_path), **val))
    assert [len(split) for split in found.splits.values()] == [100, 7]
    found = load(pair_cfg(**own(tmp_path), **test, val_fraction=0.1, test_fraction=0.1))
    assert [len(split) for split in found.splits.values()] == [90, 10, 7]


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path, pair_cfg: Cfg) -> None:
    cfg = pair_cfg(**own(tmp_path), val_fraction=0.1, test_fraction=0.0)
    first = load(cfg)
    assert load(replace(cfg, tokens_per_batch=999, beam=1)) is first
    own(tmp_path, 120)
    assert len(load(cfg).train) == 108


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "data=parallel needs data.source=FILE and data.target=FILE"),
        ({"source": "SOURCE"}, "source=.* needs target=FILE"),
        ({"val_target": "SOURCE"}, "val_target=.* needs val_source=FILE"),
        ({"source": "SOURCE", "target": "SHORT"}, r"text\.en has 100 lines and .*short 99: line by line"),
        ({"source": "SOURCE", "target": "EMPTY"}, "empty is empty"),
        ({"source": "SOURCE", "target": "NOTHING"}, "there is no file .*nothing"),
        (
            {"source": "SOURCE", "target": "LATIN", "val_fraction": 0.1, "test_fraction": 0.0},
            "latin is not UTF-8: byte 0xe9 in line 3",
        ),
        ({"source": "SOURCE", "target": "SOURCE"}, "nothing to validate by"),
        (
            {"source": "SOURCE", "target": "SOURCE", "val_fraction": 0.001, "test_fraction": 0.0},
            "of 100 lines that leaves 100 for train, 0 for val",
        ),
        ({"val_fraction": 0.1}, "both be numbers"),
        ({"pieces": 4}, "pieces must be at least 5"),
        ({"pieces": 260, "byte_fallback": True}, "pieces must be at least 261"),
        ({"normalization": "nfd"}, "unknown data.normalization 'nfd'"),
        ({"select": "blue"}, "did you mean 'bleu'"),
        ({"beam": 0}, "beam must be at least 1"),
        ({"alpha": -1.0}, "must not be negative"),
        ({"buckets": 300}, "buckets must be at most 255"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, pair_cfg: Cfg, keys: dict[str, object], message: str) -> None:
    files = {"SOURCE": own(tmp_path)["source"]}
    contents = {"SHORT": b"a\n" * 99, "EMPTY": b"", "LATIN": b"a\nb\n" + b"\xe9\n" * 98}
    for name, content in contents.items():
        (tmp_path / name.lower()).write_bytes(content)
    files |= {name: str(tmp_path / name.lower()) for name in (*contents, "NOTHING")}
    with pytest.raises((UserError, ValueError), match=message) as refusal:
        load(pair_cfg(**{key: files.get(str(value), value) for key, value in keys.items()}))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["number_words", "multi30k", "wmt14_enfr"])
def test_other_sets_read_no_such_files(tmp_path: Path, pair_cfg: Cfg, name: str) -> None:
    files = {f"test_{side}": path for side, path in own(tmp_path).items()}
    with pytest.raises(UserError, match=f"test_source=.*: {name} reads no such file"):
        load(pair_cfg(name=name, **files))
    with pytest.raises(UserError, match=f"{name} brings its own split"):
        load(pair_cfg(name=name, val_fraction=0.1, test_fraction=0.1))


# ---------------------------------------------------------------- published files


def test_multi30k_in_small(tmp_path: Path, pair_cfg: Cfg) -> None:
    (tmp_path / "multi30k").mkdir()
    counts = {"train": 80, "val": 6, "test_2016_flickr": 5, "test_2017_mscoco": 4}
    for name, count in counts.items():
        own(tmp_path / "multi30k", count, ".gz")
        for language in ("en", "fr"):
            (tmp_path / "multi30k" / f"text.{language}.gz").rename(tmp_path / "multi30k" / f"{name}.{language}.gz")
    root = {"root": str(tmp_path), "pieces": 55}
    with pytest.raises(UserError, match="is not the published file"):
        load(pair_cfg(name="multi30k", **root))
    found = load(pair_cfg(name="multi30k", verify=False, **root))
    assert [len(split) for split in found.splits.values()] == [80, 6, 5] and not found.verified
    other = load(pair_cfg(name="multi30k_mscoco", verify=False, **root))
    assert len(other.test) == 4 and other.source_pieces == found.source_pieces
    with pytest.raises(UserError, match="multi30k_2018 is incomplete .* put .* of data/task1/raw"):
        load(pair_cfg(name="multi30k_2018", verify=False, **root))


SGM = '<{set} setid="newstest2014"><doc docid="d" genre="news">{segments}</doc></{set}>'


def as_sgm(texts: list[str], kind: str) -> bytes:
    return SGM.format(set=kind, segments="".join(f'<seg id="{i}">{t}</seg>\n' for i, t in enumerate(texts))).encode()


@pytest.mark.parametrize("form", ["plain", "sgm", "sgm.xz"])
def test_wmt14_in_small(tmp_path: Path, pair_cfg: Cfg, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wmt14, "VALIDATE", 8)
    root, texts = tmp_path / "newstest2014", sentences(5, 3)
    root.mkdir()
    for (plain, sgm), part in zip(zip(wmt14.PLAIN, wmt14.SGM, strict=True), (texts, mirrored(texts)), strict=True):
        content = lines(part) if form == "plain" else as_sgm(part, "srcset")
        name = {"plain": plain, "sgm": sgm.removesuffix(".xz"), "sgm.xz": sgm}[form]
        (root / name).write_bytes(lzma.compress(content) if form == "sgm.xz" else content)
    cfg = pair_cfg(name="wmt14_enfr", root=str(tmp_path), verify=False)
    with pytest.raises(UserError, match="has no training text: put train.en and train.fr"):
        load(cfg)
    (tmp_path / "wmt14_enfr").mkdir()
    own(tmp_path, 60, ".gz")
    for language in ("en", "fr"):
        (tmp_path / f"text.{language}.gz").rename(tmp_path / "wmt14_enfr" / f"train.{language}.gz")
    found = load(cfg)
    assert [len(split) for split in found.splits.values()] == [52, 8, 5]
    assert (found.test.source.texts, found.test.target.texts) == (texts, mirrored(texts))
    named = load(replace(cfg, **{f"val_{side}": path for side, path in own(tmp_path, 9).items()}))
    assert [len(split) for split in named.splits.values()] == [60, 9, 5]
    # to evaluate a run, its pieces and the test are enough
    for language in ("en", "fr"):
        (tmp_path / "wmt14_enfr" / f"train.{language}.gz").unlink()
    again = load_pairs(cfg, (found.source_pieces, found.target_pieces))
    assert [len(split) for split in again.splits.values()] == [0, 5, 5]


def test_segments_that_do_not_belong_together(tmp_path: Path, pair_cfg: Cfg) -> None:
    (tmp_path / "newstest2014").mkdir()
    for name, texts in zip(wmt14.SGM, (["a", "b"], ["a"]), strict=True):
        (tmp_path / "newstest2014" / name).write_bytes(lzma.compress(as_sgm(texts, "srcset")))
    with pytest.raises(UserError, match="has no segment 1 of the document d"):
        load(pair_cfg(name="wmt14_enfr", root=str(tmp_path), verify=False))


@pytest.mark.data
@pytest.mark.parametrize(("name", "test"), [("multi30k", 1000), ("multi30k_mscoco", 461)])
def test_the_published_multi30k(name: str, test: int) -> None:
    cfg = compose_config([f"data={name}"]).data
    assert isinstance(cfg, PairData)
    found = load_pairs(cfg)
    assert [len(split) for split in found.splits.values()] == [29_000, 1_014, test] and found.verified
    assert found.inputs == SentencePairs(8000, 8000, True)
    assert found.val.target.texts[0] == "Un groupe d'hommes chargent du coton dans un camion"


@pytest.mark.data
def test_the_published_newstest2014() -> None:
    cfg = compose_config(["data=number_words"]).data
    assert isinstance(cfg, PairData)
    numbers = load_pairs(cfg)
    cfg = compose_config(["data=wmt14_enfr"]).data
    assert isinstance(cfg, PairData)
    found = load_pairs(cfg, (numbers.source_pieces, numbers.target_pieces))
    assert found.test is not None and len(found.test) == 3003 and found.verified
    assert found.test.target.texts[3] == "Une boîte noire dans votre voiture\u00a0?"
