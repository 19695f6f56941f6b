"""Sets of pairs: what is dropped, counted, kept in files, and found again."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hyperrun.data import BothPieces, PairData, PairSet, RawPairs, inputs_of, load_pairs, make_pairs, register
from hyperrun.data.pairs import cache, sets
from hyperrun.data.pairs.cache import FOLDER, kept
from hyperrun.errors import UserError
from hyperrun.hydra_app.compose import compose_config
from hyperrun.inputs import SentencePairs
from tests.data.pairs.conftest import mirrored, raw_pairs, sentences

Cfg = Callable[..., PairData]


def test_every_pair_is_there_as_pieces(pair_set: Callable[..., PairSet]) -> None:
    found = pair_set()
    assert [len(split) for split in found.splits.values()] == [97, 23, 5]
    for split, texts in (("train", sentences(97, 0)), ("val", sentences(23, 1))):
        pairs = found.splits[split]
        for side, pieces, expected in (
            (pairs.source, found.source_pieces, texts),
            (pairs.target, found.target_pieces, mirrored(texts)),
        ):
            assert [pieces.decode(side[i].tolist()) for i in range(len(side))] == expected
            assert side.lengths.tolist() == [len(row) for row in pieces.encode(expected)]
            assert (side.ids.dtype, side.offsets.dtype) == (np.int32, np.int64)
    assert (list(found.train.target.texts), list(found.val.target.texts)) == ([], mirrored(sentences(23, 1)))
    assert found.val.predicted == sum(map(len, found.target_pieces.encode(found.val.target.texts))) + 23


def test_one_vocabulary_or_two(pair_set: Callable[..., PairSet]) -> None:
    shared, apart = pair_set(), pair_set(shared_vocabulary=False, pieces=50)
    assert shared.inputs == SentencePairs(60, 60, True) and shared.source_pieces is shared.target_pieces
    assert apart.inputs == SentencePairs(50, 50, False) and apart.source_pieces != apart.target_pieces


def test_what_is_left_out_of_training_is_counted_and_evaluation_has_it_all(pair_cfg: Cfg) -> None:
    texts = [*sentences(60, 0, most=5), "", "   ", "a dog", " ".join(["hill"] * 50)]
    translations = [*mirrored(texts[:60]), "ihi", "olleh", "\t", "llih"]
    pairs = RawPairs.of(texts, translations)
    found = make_pairs("made_up", pair_cfg(max_length=30), train=pairs, val=pairs)
    assert (len(found.train), len(found.val)) == (60, 64)
    facts = found.facts()
    assert (facts["data/dropped_empty"], facts["data/dropped_long"]) == (3, 1)
    assert (facts["data/train"], facts["data/val"], facts["data/test"]) == (60, 64, 0)
    assert found.val.source.lengths[60:62].tolist() == [0, 0]
    assert "3 dropped empty, 1 dropped long" in found.describe() and "no test split" in found.describe()
    pieces, long = (found.source_pieces, found.target_pieces), RawPairs.of(["a dog runs"], ["a god snur"])
    with pytest.raises(UserError, match="nothing is left to train on"):
        make_pairs("made_up", pair_cfg(max_length=1), pieces, train=long, val=pairs)


def test_unequal_sides_are_refused(pair_cfg: Cfg) -> None:
    with pytest.raises(UserError, match="made up: 2 sentences and 1 translations"):
        make_pairs("made_up", pair_cfg(), train=RawPairs.of(["a", "b"], ["a"]), val=raw_pairs(3, 0))


def test_the_second_time_nothing_is_learned_or_cut(
    pair_set: Callable[..., PairSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYPERRUN_DATA", str(tmp_path))
    first = pair_set()
    for name in ("learned", "write_split"):
        monkeypatch.setattr(sets, name, lambda *_, name=name, **__: pytest.fail(f"{name} again"))
    again = pair_set()
    assert again.fingerprint == first.fingerprint and again.source_pieces == first.source_pieces
    assert np.array_equal(again.train.target.ids, first.train.target.ids)
    assert again.val.target.texts == first.val.target.texts
    assert not list((tmp_path / FOLDER).glob("*.part"))


def test_the_fingerprint_differs_where_sentences_split_or_pieces_do(pair_set: Callable[..., PairSet]) -> None:
    prints = [
        pair_set().fingerprint,
        pair_set(train=96).fingerprint,
        pair_set(pieces=61).fingerprint,
        pair_set(max_length=9).fingerprint,
        pair_set(normalization="nfkc").fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    fed_otherwise = pair_set(buckets=7, tokens_per_batch=999, beam=2, alpha=0.3, beta=0.1, select="bleu", epochs=4)
    assert fed_otherwise.fingerprint == prints[0]


def test_pieces_of_a_run_are_used_instead_of_learning(
    pair_set: Callable[..., PairSet], pair_cfg: Cfg, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pair_set()
    monkeypatch.setattr(sets, "learned", lambda *_: pytest.fail("learned"))
    pieces = (first.source_pieces, first.target_pieces)
    other = make_pairs("other", pair_cfg(), pieces, train=None, val=raw_pairs(4, 7))
    assert other.inputs == first.inputs and (len(other.train), len(other.val)) == (0, 4)
    assert other.val.source[0].tolist() == first.source_pieces.encode(sentences(4, 7))[0]


def test_a_set_of_a_plugin() -> None:
    @register("data", "proverbs", PairData, values={"epochs": 20, "pieces": 60, "byte_fallback": False})
    def proverbs(cfg: PairData, pieces: BothPieces | None = None) -> PairSet:
        return make_pairs("proverbs", cfg, pieces, train=raw_pairs(97, 0), val=raw_pairs(9, 1))

    cfg = compose_config(["data=proverbs"]).data
    assert isinstance(cfg, PairData)
    found = load_pairs(cfg)
    assert found is load_pairs(cfg) and inputs_of(cfg) == found.inputs and len(found.val) == 9
    again = load_pairs(cfg, (found.source_pieces, found.target_pieces))
    assert again.fingerprint == found.fingerprint


# ---------------------------------------------------------------- files of what was prepared


def test_what_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def fails(part: Path) -> None:
        (part / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        kept(tmp_path, "key", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert (kept(tmp_path, "key", lambda part: (part / "whole").write_text("x")) / "whole").exists()


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "key.1234.part").mkdir()
    kept(tmp_path, "other", lambda part: None)
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "other"}


def test_another_process_waits_and_takes_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(part: Path) -> None:
        raise AssertionError("made twice")

    with ThreadPoolExecutor(1) as pool:
        with cache.alone(tmp_path):  # a lock is that of an open file: it keeps this process out as it does others
            waiting = pool.submit(kept, tmp_path, "key", fails)
            while "waiting for another process" not in capsys.readouterr().err:
                time.sleep(0.01)
            (tmp_path / "key").mkdir()
        assert waiting.result() == tmp_path / "key"


def test_where_nothing_can_be_written_it_lies_in_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setattr(cache, "user_cache", lambda: in_the_way)
    cache.temporary_root.cache_clear()
    root = cache.cache_root(str(in_the_way))
    assert root.is_dir() and root == cache.cache_root(str(in_the_way))
    assert capsys.readouterr().err.count(str(root)) == 1
    cache.temporary_root.cache_clear()


def test_the_folder_of_data_sets_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "user_cache", lambda: tmp_path / "user")
    assert cache.cache_root(str(tmp_path / "sets")) == tmp_path / "sets" / FOLDER
    (tmp_path / "file").write_text("")
    assert cache.cache_root(str(tmp_path / "file")) == tmp_path / "user" / FOLDER
