"""Hypersirens from the command line: trained, killed, resumed, evaluated, loaded, and asked for pictures."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hyperrun import load_run
from hyperrun.analyze.image_samples import enlarged, render, shown
from hyperrun.data import load_images
from hyperrun.errors import UserError
from hyperrun.pictures.image_grid import GAP, GROUP_GAP, LABELS, SMALLEST
from hyperrun.targets.siren import pixel_centres
from tests.running import QUIET, Running, assert_same_run, checkpoint, leftovers, rows, summary

Here = Callable[..., Any]
Start = Callable[..., Running]

LINE = (
    *QUIET,
    "model=hypersiren",
    "target.hidden_size=12",
    "target.layers=1",
    "hypernet.hidden=[24]",
    "hypernet.z_dim=8",
    "hypernet.points=40",
    "hypernet.fit_steps=30",
    "hypernet.val_images=20",
    "hypernet.val_fit_steps=10",
    "hypernet.test_images=50",
    "optim.lr=1e-2",
    "trainer.max_steps=120",
    "trainer.log_every=10",
    "trainer.eval_every=30",
    "trainer.save_every_s=0.02",
    "trainer.ema=0.9",
)
ROWS = 7


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    running = Running("train", *LINE, cwd=tmp_path_factory.mktemp("images"))
    assert running.wait() == 0, running.err
    return running.folder


@pytest.fixture
def sample(here: Here, trained: Path, tmp_path: Path) -> Callable[..., Any]:
    return lambda *words, **options: here("sample", trained, "--out", tmp_path / "grid.png", *words, **options)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


# ---------------------------------------------------------------- a run


def test_a_run_learns_and_says_what_to_do_next(trained: Path) -> None:
    said, log = summary(trained), (trained / "train.log").read_text()
    assert (said["status"], said["task"], said["metric"]) == ("finished", "image_fitting", "psnr")
    assert 11 < said["test/psnr"] < 40, "the mean image has 8.6 dB"
    assert said["params/latents"] == 1257 * 8 < said["params/trainable"]
    assert said["params/generated"] == said["params/target"] == 2 * 12 + 12 + 12 + 1
    assert (said["fit/test_images"], said["fit/val_images"]) == (50, 20)
    assert "hyperrun sample outputs" in log and "40 of 64 pixels a step" in log
    trajectory = [row["val/psnr"] for row in rows(trained) if "val/psnr" in row]
    assert len(trajectory) == 4 and trajectory[-1] > trajectory[0] + 0.5


DIE = """
import os, signal
from hyperrun.training import checkpoint
save, left = checkpoint.save, [{number}]
def save_and_die(path, *args, **kwargs):
    save(path, *args, **kwargs)
    left[0] -= path.name == "last.pt"
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save = save_and_die
"""


def test_killed_and_resumed_is_the_run_at_one_go(start: Start, trained: Path) -> None:
    killed = start("train", *LINE, before=DIE.format(number=2))
    assert killed.wait() == -signal.SIGKILL
    step = checkpoint(killed.folder / "checkpoints" / "last.pt")["loop"]["step"]
    assert 0 < step < 120
    done = start("train", *LINE)
    assert done.wait() == 0, done.err
    assert f"resume   from step {step}" in done.out
    assert_same_run(done.folder, trained)


@pytest.mark.parametrize(
    "words",
    [
        ["hypernet.generator=chunked", "hypernet.chunk_size=16"],
        ["hypernet.generate=linear", "target.layers=2"],
        ["precision=bf16", "optim=adamw", "optim.weight_decay=0.1", "optim.decay_on=[hypernet,embeddings]"],
    ],
)
def test_other_ways(here: Here, words: list[str]) -> None:
    here("train", *LINE, "trainer.max_steps=60", *words)
    (folder,) = Path("outputs/digits").iterdir()
    assert summary(folder)["test/psnr"] > 9.5


def test_eval_gives_the_figures_again(here: Here, trained: Path) -> None:
    found = json.loads(here("eval", trained, "--json").out)
    for split in ("val", "test"):
        assert found[split]["psnr"] == pytest.approx(summary(trained)[f"{split}/psnr"], abs=1e-4)


def test_training_images_that_have_changed_are_warned_of(here: Here, trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("val_size: 180", "val_size: 181"))
    done = here("eval", copy)
    assert "data=digits has changed since this run was trained: train (1,257, now 1,256)" in done.err


def test_a_loaded_run_takes_coordinates_and_latents(trained: Path) -> None:
    model = load_run(trained).model
    with torch.no_grad():
        colours = model(pixel_centres(5).expand(2, -1, -1), torch.tensor([0, 7]))
        assert colours.shape == (2, 25, 1)
        latents = model.hypernet.embedding(torch.tensor([0, 7]))  # pyright: ignore
        torch.testing.assert_close(model(pixel_centres(5).expand(2, -1, -1), latents), colours)


def test_it_is_listed_planned_and_compared(here: Here, trained: Path, tmp_path: Path) -> None:
    (listed,) = (e for e in json.loads(here("ls", "models", "--data", "digits", "--json").out) if "siren" in e["name"])
    assert listed["params/generated"] == listed["params/target"] == 2241
    assert f"{summary(trained)['params/trainable']:,}" in here("train", *LINE, "--dry-run").out
    out = here("compare", trained, "--json").out
    assert "psnr" in out
    assert "test psnr dB" in here("compare", trained).out


def test_a_width_can_be_chosen_by_the_number_of_parameters(here: Here) -> None:
    line = [word for word in LINE if "hidden_size" not in word]
    out = here("train", *line, "params=40000", "--dry-run").out
    assert "target.hidden_size=" in out


# ---------------------------------------------------------------- sample


@pytest.mark.parametrize(("resolution", "columns"), [(None, 10), (8, 3), (5, 2), (50, 4)])
def test_the_picture_has_the_size_asked_for(
    sample: Callable[..., Any], tmp_path: Path, resolution: int | None, columns: int
) -> None:
    words = ["--resolution", str(resolution)] if resolution else []
    found = json.loads(sample(*words, "--columns", str(columns), "--json").out)
    side = resolution or 32
    assert found["path"] == str(tmp_path / "grid.png") and found["resolution"] == side and found["images"] == columns
    cell = side * -(-SMALLEST // side) + GAP
    pairs = min(3, columns // 2)
    height = GAP + (4 + pairs) * cell + 2 * GROUP_GAP
    assert pixels(tmp_path / "grid.png").shape == (height, LABELS + columns * cell, 3)


def test_what_stands_in_the_picture(sample: Callable[..., Any], tmp_path: Path) -> None:
    found = json.loads(sample("--resolution", "48", "--json").out)
    grid = pixels(tmp_path / "grid.png")
    cell = 48 + GAP

    def image(row: int, column: int) -> np.ndarray:
        top = GAP + row * cell + GROUP_GAP * ((row > 1) + (row > 4))
        left = LABELS + column * cell
        return grid[top : top + 48, left : left + 48].astype(float) / 255

    held_out = image(0, 0)
    assert np.array_equal(held_out[::6, ::6].repeat(6, 0).repeat(6, 1), held_out), "8 pixels, each 6 times as large"
    # pixel (i, j) of 8 has its centre between pixels 6 i + 2 and 6 i + 3 of 48
    own = np.stack([image(1, c)[a::6, b::6] for c in range(10) for a in (2, 3) for b in (2, 3)])
    mse = (own.reshape(10, 4, 8, 8, 3).mean(1) - np.stack([image(0, c)[::6, ::6] for c in range(10)])) ** 2
    assert -10 * np.log10(mse.mean((1, 2, 3))).mean() == pytest.approx(found["psnr"], abs=0.7)
    for pair in range(3):
        assert np.abs(image(2 + pair, 0) - image(1, 2 * pair)).max() < 0.01
        assert np.abs(image(2 + pair, 9) - image(1, 2 * pair + 1)).max() < 0.01
    assert len({image(row, c).tobytes() for row in (5, 6) for c in range(10)}) == 20, "no two new images are the same"
    labels = grid[:, : LABELS - GAP]
    for row in range(ROWS):
        top = GAP + row * cell + GROUP_GAP * ((row > 1) + (row > 4))
        assert (labels[top : top + 48] < 100).any(), "every row is labelled"
    assert (labels[:, :8] == 255).all(), "and no label is cut off"


def test_a_seed_draws_the_same_and_another_others(sample: Callable[..., Any], tmp_path: Path) -> None:
    made = {}
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        sample("--seed", seed)
        made[name] = (tmp_path / "grid.png").read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_the_picture_lies_in_the_run_folder_and_nothing_half_made_beside_it(here: Here, trained: Path) -> None:
    out = here("sample", trained, "--columns", "2").out.splitlines()
    assert out[0] == str(trained / "samples.png") and "2 held-out images are reconstructed at" in out[1]
    assert (trained / "samples.png").exists() and leftovers(trained) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resolution", "0"], "--resolution must be at least 1, not 0"),
        (["--resolution", "many"], "invalid int value: 'many'"),
        (["--resolution", "20000"], "is too large: a lower --resolution"),
        (["--columns", "1"], "--columns must be at least 2, not 1"),
        (["--resolutoin", "8"], "did you mean '--resolution'?"),
        (["--prompt", "The"], "--prompt is for runs on text"),
        (["--length", "3"], "--length is for runs on text"),
        (["--temperature", "1"], "--temperature is for runs on text"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--out", "grid.jpg"], "must be a file that ends in .png, not grid.jpg"),
        (["--out", "nowhere/grid.png"], "cannot write nowhere/grid.png: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(sample: Callable[..., Any], words: list[str], message: str) -> None:
    done = sample(*words, status=2)
    assert done.err.startswith("hyperrun: error: ") and done.err.count("\n") == 1
    assert message in done.err


def test_export_needs_to_know_which_image(here: Here, trained: Path) -> None:
    done = here("export", trained, status=2)
    assert done.err.count("\n") == 1 and "has a network for each latent" in done.err


def test_the_line_in_the_readme_gives_the_figure_in_the_readme(here: Here) -> None:
    here("train", "model=hypersiren", "data=digits", "tracking.wandb.mode=disabled")
    (folder,) = Path("outputs/digits").iterdir()
    said = summary(folder)
    assert said["test/psnr"] == pytest.approx(28.9, abs=0.5) and said["fit/test_images"] == 360
    here("sample", folder, "--resolution", "64", "--seed", "1")
    assert pixels(folder / "samples.png").shape[1] == LABELS + 10 * (64 + GAP)


# ---------------------------------------------------------------- its parts


def test_images_are_the_same_at_once_and_in_parts(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_run(trained).model
    latents = model.hypernet.embedding.weight[:3].detach()  # pyright: ignore
    whole = render(model, latents, 9)  # pyright: ignore
    monkeypatch.setattr("hyperrun.analyze.image_samples.POINTS_AT_ONCE", 30)
    torch.testing.assert_close(render(model, latents, 9), whole)  # pyright: ignore


def test_enlarged_pixels_are_squares() -> None:
    image = torch.arange(4.0).view(1, 4, 1)
    assert torch.equal(enlarged(image, 4).view(4, 4), image.view(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert torch.equal(enlarged(image, 2), image)
    assert shown(torch.tensor([[[-1.0], [0.2], [0.5], [2.0]]]))[0, :, :, 0].tolist() == [[0, 51], [128, 255]]


def test_a_picture_too_large_is_refused_by_its_size() -> None:
    from hyperrun.pictures.image_grid import size_of

    with pytest.raises(UserError, match="at most 100,000,000 pixels"):
        size_of(4000, 10, [True] * 7)


# ---------------------------------------------------------------- analyze


def test_analyze_draws_what_lies_between_two_images(here: Here, trained: Path, tmp_path: Path) -> None:
    here("analyze", trained, "--out", "seen")
    names = {"image_weights.png", "image_interpolation.png", "generated_tensors.png", "analysis.json"}
    assert {path.name for path in (tmp_path / "seen").iterdir()} == names
    (found,) = json.loads((tmp_path / "seen" / "analysis.json").read_text())["images"].values()
    assert (found["images"], found["training_images"], found["latents"]["size"]) == (200, 1257, 8)
    assert found["weights"]["size"] == summary(trained)["params/generated"]
    assert set(found["tensors"]) == set(found["over_training"]) and found["tensors"]["layers.1.bias"]["ratio"] is None
    assert all(len(curve["norm"]) == 4 for curve in found["over_training"].values())

    run = load_run(trained)
    images = load_images(run.config.data).train  # type: ignore[arg-type]
    between = found["interpolation"]
    assert [pair["from"] for pair in between["pairs"]] == [0, 314, 628, 942]
    pair = between["pairs"][1]
    wanted = images.fetch(torch.tensor([pair["from"], pair["to"]])).flatten(1) / 255
    latents = run.model.hypernet.embedding.weight.detach()[[pair["from"], pair["to"]]]  # type: ignore[union-attr,index]
    for at, drawn_from, drawn_to in zip(between["position"], pair["psnr_from"], pair["psnr_to"], strict=True):
        with torch.no_grad():
            drawn = run.model(pixel_centres(8)[None], ((1 - at) * latents[0] + at * latents[1])[None])[0, :, 0]
        errors = (drawn.clamp(0, 1) - wanted).square().mean(1)
        assert (-10 * errors.log10()).tolist() == pytest.approx([drawn_from, drawn_to], abs=1e-3)
    psnr = between["psnr"]
    assert psnr["own_latent"] > psnr["halfway"] > psnr["other_latent"]


def test_an_image_run_and_another_kind_stand_in_one_call(here: Here, trained: Path, tmp_path: Path) -> None:
    other = here("train", "model=hypercnn", "trainer.max_steps=4", *QUIET)
    assert "finished" in json.dumps(summary(next(tmp_path.glob("outputs/digits/hypercnn*")))), other.err
    here("analyze", trained, next(tmp_path.glob("outputs/digits/hypercnn*")), "--out", "seen")
    report = json.loads((tmp_path / "seen" / "analysis.json").read_text())
    assert set(report) >= {"images", "static"} and "kernels.png" in report["files"]
    assert all("over_training" in found for kind in ("images", "static") for found in report[kind].values())


def test_of_one_training_image_there_is_nothing_to_compare(here: Here, tmp_path: Path) -> None:
    here("train", *LINE, "data.val_size=1436", "trainer.max_steps=3")
    (run,) = tmp_path.glob("outputs/digits/*")
    assert "one training image, so there is nothing to compare" in here("analyze", run).out
    assert {path.name for path in (run / "analysis").iterdir()} == {"analysis.json", "generated_tensors.png"}
