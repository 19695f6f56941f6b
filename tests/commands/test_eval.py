"""hyperrun eval: the figures of a run again, equal to its summary's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperrun.data.images import ImageSet, ImageSplit, make_set
from hyperrun.data.kinds import ImageData
from hyperrun.registry import choices
from tests.running import FAST, TINY, Running, only_run, rows, summary

Here = Callable[..., Any]

WAYS = {
    "default": [*FAST, "precision=bf16"],
    "everything": [*FAST, *TINY, "trainer.ema=0.9", "target.dropout=0.2", "data.flip=true", "trainer.eval_every=3"],
    "channels_last": [*FAST, "trainer.channels_last=true", "trainer.eval_batch_size=7", "model=cnn"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the run folders of WAYS."""
    folders = {}
    for name, line in WAYS.items():
        running = Running("train", *line, cwd=tmp_path_factory.mktemp(name))
        assert running.wait() == 0, running.err
        folders[name] = running.folder
    return folders


@pytest.mark.parametrize("way", WAYS)
def test_equal_to_the_summary(here: Here, trained: dict[str, Path], way: str) -> None:
    found = json.loads(here("eval", trained[way], "--json").out)
    said = summary(trained[way])
    for split in ("val", "test"):
        assert found[split].keys() == {"loss", "accuracy"}
        for name, value in found[split].items():
            assert value == said[f"{split}/{name}"], f"{split}/{name}"
    assert (found["model"], found["data"], found["checkpoint"]) == (said["model"], "digits", "best")
    assert found["precision"] == said["precision"]


def test_text_says_the_same(here: Here, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    said = summary(trained["default"])
    for columns in ("100", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        text = here("eval", trained["default"]).out
        assert "hypercnn on digits, best checkpoint" in " ".join(text.split())
        for key in ("val/accuracy", "test/accuracy", "val/loss", "test/loss"):
            assert f"{said[key]:.4f}" in text
        assert "\x1b" not in text


@pytest.mark.parametrize("way", ["default", "everything"])
def test_last_checkpoint_is_the_last_evaluation(here: Here, trained: dict[str, Path], way: str) -> None:
    found = json.loads(here("eval", trained[way], "--checkpoint", "last", "--json").out)
    last = [row for row in rows(trained[way]) if "val/accuracy" in row][-1]
    assert last["step"] == summary(trained[way])["steps"]
    assert found["checkpoint"] == "last"
    assert found["val"] == {"loss": last["val/loss"], "accuracy": last["val/accuracy"]}


def test_precision_can_be_chosen(here: Here, trained: dict[str, Path]) -> None:
    found = json.loads(here("eval", trained["default"], "--precision", "float32", "--json").out)
    said = summary(trained["default"])
    assert found["precision"] == "float32" and said["precision"] == "bf16"
    assert found["test"]["loss"] != said["test/loss"]
    assert found["test"]["loss"] == pytest.approx(said["test/loss"], rel=0.05)


def test_run_is_named_in_many_ways_and_left_as_it_is(
    here: Here, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained["default"], tmp_path / "moved" / "anywhere")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    first = here("eval", "moved/anywhere", "--json").out
    for name in ("moved/anywhere/", "moved/anywhere/config.yaml", "moved/anywhere/checkpoints/best.pt"):
        assert here("eval", name, "--json").out == first
    monkeypatch.setenv("HOME", str(tmp_path))
    assert here("eval", "~/moved/anywhere", "--json").out == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "and nothing new"


def test_run_that_is_not_finished_can_be_evaluated(here: Here, trained: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(trained["default"].parents[1], tmp_path / "outputs")
    folder = only_run(tmp_path)
    (folder / "summary.json").unlink()
    found = json.loads(here("eval", folder, "--json").out)
    assert found["test"]["accuracy"] == pytest.approx(summary(trained["default"])["test/accuracy"], abs=0.02)


# ---------------------------------------------------------------- other data


def images(channels: int, side: int, classes: int) -> Callable[[ImageData], ImageSet]:
    """Return what reads a data set of random images of this shape."""

    def read(cfg: ImageData) -> ImageSet:
        generator = torch.Generator().manual_seed(0)

        def split(count: int) -> ImageSplit:
            shape = (count, channels, side, side)
            pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
            return ImageSplit(pixels, torch.randint(classes, (count,), generator=generator))

        names = [str(label) for label in range(classes)]
        return make_set(cfg.name, cfg, train=split(5050), test=split(40), classes=names)

    return read


def in_place_of_fashion_mnist(monkeypatch: pytest.MonkeyPatch, read: Callable[[ImageData], ImageSet]) -> None:
    registered = choices("data")
    made_up = replace(registered["fashion_mnist"], build=read, facts={})
    monkeypatch.setitem(registered, "fashion_mnist", made_up)  # pyright: ignore[reportArgumentType]


def test_other_data_of_the_same_shape(here: Here, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of_fashion_mnist(monkeypatch, images(1, 8, 10))
    found = json.loads(here("eval", trained["default"], "--data", "fashion_mnist", "--json").out)
    assert found["data"] == "fashion_mnist"
    assert found["test"]["accuracy"] < 0.5, "these are random images"
    assert found["test"]["loss"] != summary(trained["default"])["test/loss"]


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((1, 28, 10), id="side", marks=pytest.mark.slow),
        pytest.param((3, 8, 10), id="channels"),
        pytest.param((1, 8, 7), id="classes"),
    ],
)
@pytest.mark.parametrize("way", ["default", "everything"])
def test_other_data_of_another_shape(
    here: Here, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch, way: str, shape: tuple[int, int, int]
) -> None:
    in_place_of_fashion_mnist(monkeypatch, images(*shape))
    if (way, shape[1]) == ("everything", 28):
        here("eval", trained[way], "--data", "fashion_mnist")  # its last layer averages over pixels: any side fits
        return
    done = here("eval", trained[way], "--data", "fashion_mnist", status=2)
    assert done.err.startswith("hyperrun: error: ") and done.err.count("\n") == 1 and "Traceback" not in done.err
    assert "does not fit" in done.err and "best.pt" in done.err
    assert "size mismatch for target." in done.err, "it says which layer"
