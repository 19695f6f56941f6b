"""A run on an image folder that is changed, moved or gone after training: its figures stay, or it is said why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperrun.load import load_run
from hyperrun.training import checkpoint
from tests.image_folders import SIZE, line, write, write_folder
from tests.running import Running, only_run, summary

Here = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a folder with `pictures` and outputs of a run on them, and a copy: a run knows its folder's whole path."""
    home = tmp_path_factory.mktemp("trained")
    write_folder(home / "pictures")
    running = Running(*line("pictures"), cwd=home)
    assert running.wait() == 0, running.err
    return home, shutil.copytree(home, tmp_path_factory.mktemp("copy") / "of")


@pytest.fixture
def run(here: Here, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of that run, with everything as it was; command lines start beside `pictures`."""
    home, copy = trained
    shutil.rmtree(home)
    shutil.copytree(copy, home)
    monkeypatch.chdir(home)
    return only_run(home)


def figures(here: Here, *words: str | Path) -> tuple[dict[str, dict[str, float]], str]:
    """Return what eval prints as JSON, and its warnings."""
    done = here("eval", *words, "--json")
    return json.loads(done.out), done.err


def said(run: Path) -> dict[str, dict[str, float]]:
    return {part: {name: summary(run)[f"{part}/{name}"] for name in ("loss", "accuracy")} for part in ("val", "test")}


def test_summary_and_checkpoint_hold_what_belongs_to_the_run(run: Path) -> None:
    found = summary(run)
    assert found["data/classes"] == ["a", "b", "c"]
    assert [found[f"data/{part}"] for part in ("train", "val", "test")] == [27, 9, 12]
    assert len(found["data/fingerprint"]) == 8
    for name in ("best", "last"):
        kept = checkpoint.load(run / "checkpoints" / f"{name}.pt")["task"]["images"]
        assert kept["classes"] == ["a", "b", "c"] and len(kept["val_files"]) == 9
        assert all(file.startswith("train/") and file.endswith(".png") for file in kept["val_files"])
        assert [round(value, 6) for value in kept["mean"]] == found["data/mean"]
        assert [round(value, 6) for value in kept["std"]] == found["data/std"]


def test_untouched_folder_gives_the_figures_without_a_word(here: Here, run: Path) -> None:
    found, words = figures(here, run)
    assert {part: found[part] for part in ("val", "test")} == said(run) and words == ""


def test_figures_stay_when_training_pictures_go(here: Here, run: Path) -> None:
    kept = set(checkpoint.load(run / "checkpoints" / "best.pt")["task"]["images"]["val_files"])
    for path in Path("pictures/train/c").iterdir():
        if f"train/c/{path.name}" not in kept:
            path.unlink()
    found, words = figures(here, run)
    assert {part: found[part] for part in ("val", "test")} == said(run)
    assert words.startswith(
        "hyperrun: warning: data=image_folder has changed since this run was trained: train (27, now "
    )
    assert words.count("\n") == 1


def test_figures_stay_when_training_pictures_come(here: Here, run: Path) -> None:
    for i in range(20):
        write(Path(f"pictures/train/a/00more{i}.png"), np.full((SIZE, SIZE, 3), 255, np.uint8))
    found, words = figures(here, run)
    assert {part: found[part] for part in ("val", "test")} == said(run)
    assert "train (27, now 47)" in words


def test_changed_test_pictures_are_warned_of(here: Here, run: Path) -> None:
    for path in Path("pictures/test/a").iterdir():
        write(path, np.full((SIZE, SIZE, 3), 255, np.uint8))
    found, words = figures(here, run)
    assert found["val"] == said(run)["val"] and found["test"] != said(run)["test"]
    assert "has changed since this run was trained: test; the figures are of what is there now" in words


def test_validation_pictures_that_are_gone(here: Here, run: Path) -> None:
    kept = checkpoint.load(run / "checkpoints" / "best.pt")["task"]["images"]["val_files"]
    (Path("pictures") / kept[0]).unlink()
    _, words = figures(here, run)
    assert "val (9, now 8)" in words
    for name in kept[1:]:
        (Path("pictures") / name).unlink()
    done = here("eval", run, status=2)
    assert "none of the 9 pictures that this run validated on is in" in done.err


@pytest.mark.parametrize("parts", [("train", "test"), ("test",)])
def test_renamed_class_is_refused(here: Here, run: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        (Path("pictures") / part / "a").rename(Path("pictures") / part / "z")
    done = here("eval", run, status=2)
    assert "test has classes that the run has not learned: z (it learned a, b, c)" in done.err


def test_class_without_pictures_any_more_keeps_the_numbers_of_the_others(here: Here, run: Path) -> None:
    shutil.rmtree("pictures/test/a")
    found, words = figures(here, run)
    assert found["val"] == said(run)["val"] and "test (12, now 8)" in words


def test_changed_folder_is_refused_on_resume(here: Here, run: Path) -> None:
    (run / "summary.json").unlink()
    write(Path("pictures/train/a/more.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    done = here(*line("pictures"), status=2)
    assert "the images of data=image_folder have changed since this run began: train (27, now 28)" in done.err
    assert "resume=never starts afresh" in done.err and done.err.count("\n") == 1


def test_class_more_is_refused_on_resume_with_the_true_reason(here: Here, run: Path) -> None:
    (run / "summary.json").unlink()
    write(Path("pictures/train/d/more.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    done = here(*line("pictures"), status=2)
    assert "have changed since this run began: the classes' names" in done.err


def test_altered_picture_of_the_same_size_in_bytes_is_refused_on_resume(here: Here, run: Path) -> None:
    (run / "summary.json").unlink()
    path = Path("pictures/test/a/00.png")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")  # behind what is decoded
    assert "since this run began: test;" in here(*line("pictures"), status=2).err
    path.write_bytes(content)
    shutil.copytree("pictures", "copied")  # other times of writing
    shutil.rmtree("pictures")
    Path("copied").rename("pictures")
    here(*line("pictures"))


def test_moved_folder(here: Here, run: Path) -> None:
    shutil.move("pictures", "elsewhere")
    assert "pictures/train is not a folder" in here("eval", run, status=2).err
    found, words = figures(here, run, "--root", "elsewhere")
    assert {part: found[part] for part in ("val", "test")} == said(run) and words == ""
    assert "--root DIR says where data=image_folder is" in here("eval", run, "--path", "x", status=2).err


def test_export_and_load_need_no_data(here: Here, run: Path) -> None:
    shutil.rmtree("pictures")
    here("export", run)
    assert f"float32 [batch, 3, {SIZE}, {SIZE}]; logits [batch, 3]" in (run / "export" / "README.md").read_text()
    loaded = load_run(run)
    assert loaded.images is not None and loaded.images.classes == ["a", "b", "c"]
    assert loaded.model(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 3)


def test_run_from_before_they_were_kept(here: Here, run: Path) -> None:
    for name in ("best", "last"):
        path = run / "checkpoints" / f"{name}.pt"
        state = checkpoint.load(path)
        checkpoint.save(path, {**state, "task": {}})
    found, words = figures(here, run)
    assert {part: found[part] for part in ("val", "test")} == said(run) and words == ""
    assert load_run(run).images is None
    write(Path("pictures/train/a/more.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    assert "has changed since this run was trained: data/fingerprint, data/mean, data/std" in figures(here, run)[1]


def test_folder_that_brings_its_own_validation(here: Here, tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures")
    for name in "abc":
        (tmp_path / "pictures" / "val" / name).mkdir(parents=True)
        (tmp_path / "pictures" / "train" / name / "00.png").rename(tmp_path / "pictures" / "val" / name / "00.png")
    Path("pictures/train/a/notes.txt").touch()
    done = here(*line("pictures"))
    assert "pictures/train: skipped what is no picture in a class: 1 (.txt: 1)" in done.out
    run = only_run(tmp_path)
    assert checkpoint.load(run / "checkpoints" / "best.pt")["task"]["images"]["val_files"] is None
    shutil.rmtree("pictures/train/a")
    found, words = figures(here, run)
    assert {part: found[part] for part in ("val", "test")} == said(run) and "train (33, now 22)" in words


@pytest.mark.slow
def test_latents_of_images_that_are_others_now(here: Here, tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", train=4)
    small = ["target.hidden_size=8", "hypernet.fit_steps=2", "hypernet.val_fit_steps=2", "hypernet.z_dim=4"]
    here(*line("pictures", "model=hypersiren", *small))
    run = only_run(tmp_path)
    write(Path("pictures/train/a/more.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    done = here("eval", run, "--json")
    assert json.loads(done.out)["test"]["psnr"] == summary(run)["test/psnr"], (
        "there is a latent for each it learned from"
    )
    assert "train (3, now 4)" in done.err
    assert "the training images of data=image_folder have changed" in here("analyze", run, status=2).err
    Path("pictures/train/a/more.png").unlink()
    shutil.move("pictures", "elsewhere")
    for verb in ("analyze", "sample"):
        assert "pictures/train is not a folder" in here(verb, run, status=2).err
        here(verb, run, "--root", "elsewhere")
    assert (run / "analysis" / "image_weights.png").is_file() and (run / "samples.png").is_file()
