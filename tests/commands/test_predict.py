"""hyperrun predict: what a run says of pictures and texts is what its own evaluation would say of them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hyperrun import cli, load_run, prediction
from hyperrun.commands.predict import table
from hyperrun.data import ImageData, load_images
from hyperrun.data.decode import decode
from hyperrun.errors import UserError
from hyperrun.prediction import Answer, preparation_of
from hyperrun.tracking.console import show
from tests.composed import compose_config
from tests.image_folders import SIZE, line, write_folder
from tests.running import FAST, QUIET, only_run, summary

Here = Callable[..., Any]
OLD = Path(__file__).resolve().parent.parent / "old_runs"
OLD_RUN = {name: OLD / "outputs" / name for name in ("digits/hypercnn-s0-83fcb788", "digits/hypersiren-s0-4b068fb9")}


def run_of(place: Path, *words: str) -> Path:
    """Train in this process, in a folder of its own; return the run's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "argv", sys.argv)
        for name in ("HYPERRUN_SWEEP", "HYDRA_FULL_ERROR"):
            patch.setenv(name, "")
            patch.delenv(name)
        assert cli.main(list(words)) == 0
    return only_run(place)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the pictures are that `trained` has learned from, and its outputs."""
    place = tmp_path_factory.mktemp("pictures")
    write_folder(place / "pictures")
    return place


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    return run_of(place, *line("pictures"))


def said(here: Here, *words: str | Path, status: int = 0) -> list[dict[str, Any]]:
    return json.loads(here("predict", *words, "--json", status=status).out)["images"]


def accuracy(images: list[dict[str, Any]]) -> float:
    """Return how often the first class is the name of the picture's folder."""
    return sum(one["classes"][0]["class"] == Path(one["path"]).parent.name for one in images) / len(images)


# ---------------------------------------------------------------- pictures


def test_a_folder_of_pictures_gets_the_run_s_own_figure(here: Here, place: Path, trained: Path) -> None:
    images = said(here, trained, place / "pictures" / "test", "--top", "9")
    assert accuracy(images) == summary(trained)["test/accuracy"]
    paths = [one["path"] for one in images]
    assert len(paths) == 12 and paths == sorted(paths), "the folders in it, too, in an order that is always the same"
    for one in images:
        assert {answer["class"] for answer in one["classes"]} == {"a", "b", "c"}
        values = [answer["probability"] for answer in one["classes"]]
        assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1)


def test_a_picture_is_prepared_as_in_training(here: Here, place: Path, trained: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    (one,) = said(here, trained, "wide.png")
    data = load_images(load_run(trained).config.data)  # type: ignore[arg-type]
    x = decode(tmp_path / "wide.png", SIZE)[None].float() / 255
    with torch.no_grad():
        logits = load_run(trained).model((x - data.mean.view(-1, 1, 1)) / data.std.view(-1, 1, 1))
    expected = dict(zip(data.classes, logits.softmax(1)[0].tolist(), strict=True))
    assert {answer["class"]: answer["probability"] for answer in one["classes"]} == pytest.approx(expected, abs=1e-6)


def test_the_pictures_learned_from_may_be_gone(here: Here, place: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "pictures" / "test", tmp_path / "seen")
    before = said(here, trained, "seen")
    (place / "pictures").rename(place / "elsewhere")
    try:
        assert said(here, trained, "seen") == before
    finally:
        (place / "elsewhere").rename(place / "pictures")


def test_csv_and_text_say_the_same(here: Here, place: Path, trained: Path) -> None:
    test = place / "pictures" / "test"
    images = said(here, trained, test, "--top", "2")
    rows = list(csv.DictReader(io.StringIO(here("predict", trained, test, "--top", "2", "--csv").out)))
    lines = here("predict", trained, test, "--top", "2").out.splitlines()[1:]
    assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2"]
    for one, row, text in zip(images, rows, lines, strict=True):
        first, second = one["classes"]
        assert (row["path"], row["class"], row["class_2"]) == (one["path"], first["class"], second["class"])
        assert float(row["probability_2"]) == pytest.approx(second["probability"], abs=1e-5)
        words = [one["path"], first["class"], f"{first['probability']:.4f}"]
        assert text.split() == [*words, second["class"], f"{second['probability']:.4f}"]


def test_what_cannot_be_read_is_named_and_counted(here: Here, place: Path, trained: Path, tmp_path: Path) -> None:
    good = place / "pictures" / "test" / "a" / "00.png"
    for name in ("x/2.png", "x/1.PNG", "x/.hidden.png", ".dots/3.png", "0.png"):
        (tmp_path / "mixed" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good, tmp_path / "mixed" / name)
    (tmp_path / "mixed" / "bad.png").write_text("no picture")
    for name in ("notes.txt", "x/more.txt", "x/README"):
        (tmp_path / "mixed" / name).write_text("nothing")
    done = here("predict", trained, "mixed", status=1)
    assert [row.split()[0] for row in done.out.splitlines()[1:]] == ["mixed/0.png", "mixed/x/1.PNG", "mixed/x/2.png"]
    assert "cannot read the picture mixed/bad.png" in done.err
    assert "3 files are skipped, which are no pictures by their names (.txt: 2, no ending: 1)" in done.err
    assert "hyperrun: 1 of 4 pictures could not be read" in done.err and "Traceback" not in done.err
    images = said(here, trained, "mixed", status=1)
    assert ["error" in one for one in images] == [False, True, False, False]
    assert len(here("predict", trained, "mixed", "--csv", status=1).out.splitlines()) == 4
    done = here("predict", trained, "mixed/bad.png", status=2)
    assert done.err.startswith("hyperrun: error: cannot read the picture mixed/bad.png") and done.out == ""
    (tmp_path / "mixed" / "bad.png").unlink()
    here("predict", trained, "mixed", status=0)


def test_a_name_that_looks_like_markup_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show(table([Answer(Path("[red]a.png"), [("[bold]x", 0.75), ("two words\n", 0.25)])]))
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2 and "[red]a.png" in shown[1] and "[bold]x" in shown[1] and "two words" in shown[1]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["PICTURE", "--top", "0"], "--top must be at least 1, not 0"),
        (["PICTURE", "--csv", "--json"], "--csv and --json both want standard output"),
        (["PICTURE", "--task", "1"], "--task is for runs on tasks"),
        (["PICTURE", "--precision", "fp16"], "fp16 needs a GPU"),
        (["nowhere.png"], "there is no file nowhere.png"),
        (["empty"], "empty holds no pictures"),
        (["--text", "abc"], "--text is for runs on text"),
        ([], "which picture?"),
        (["PICTURE", "--tap", "3"], "did you mean '--top'?"),
    ],
)
def test_mistakes_are_one_line(
    here: Here, place: Path, trained: Path, tmp_path: Path, words: list[str], wanted: str
) -> None:
    if wanted.startswith("fp16") and torch.cuda.is_available():
        pytest.skip("this machine has one")
    (tmp_path / "empty").mkdir()
    picture = str(place / "pictures" / "test" / "a" / "00.png")
    done = here("predict", trained, *(picture if word == "PICTURE" else word for word in words), status=2)
    assert wanted in done.err and done.err.count("\n") == 1 and done.out == ""


# ---------------------------------------------------------------- grey, tasks, old runs


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the digits' 360 test images, grey/CLASS/*.png, and six as colour/CLASS/*.png."""
    place = tmp_path_factory.mktemp("digits")
    data = load_images(compose_config(["data=digits"]).data)  # type: ignore[arg-type]
    images = data.test.fetch(torch.arange(len(data.test)))[:, 0].numpy()
    for i, (pixels, label) in enumerate(zip(images, data.test.labels.tolist(), strict=True)):
        for kind in ("grey", "colour")[: 2 if i < 6 else 1]:
            (place / kind / str(label)).mkdir(parents=True, exist_ok=True)
            mode = {"grey": "L", "colour": "RGB"}[kind]
            Image.fromarray(pixels).convert(mode).save(place / kind / str(label) / f"{i:03}.png")
    return place


def test_a_network_of_grey_images(here: Here, digits: Path, tmp_path: Path) -> None:
    here("train", "model=cnn", "target.channels=[4,4]", *FAST)
    run = only_run(tmp_path)
    images = said(here, run, digits / "grey")
    assert len(images) == 360 and accuracy(images) == pytest.approx(summary(run)["test/accuracy"])
    by_name = {Path(one["path"]).name: one["classes"] for one in images}
    for one in said(here, run, digits / "colour"):
        assert [answer["class"] for answer in one["classes"]] == [
            answer["class"] for answer in by_name[Path(one["path"]).name]
        ]


@pytest.mark.parametrize("form", ["permuted", pytest.param("rotated", marks=pytest.mark.slow)])
def test_a_task_changes_pictures_as_its_own_were(here: Here, digits: Path, tmp_path: Path, form: str) -> None:
    few = ("target.hidden=[16]", "trainer.max_steps=60", "trainer.batch_size=32", "data.tasks=2", *QUIET)
    here("train", "model=hypermlp", "data=split_digits", f"data.name={form}_digits", *few)
    run = only_run(tmp_path)
    for task in (0, 1):
        found = accuracy(said(here, run, digits / "grey", "--task", str(task)))
        assert found == pytest.approx(summary(run)[f"test/accuracy/task{task}"])
    assert summary(run)["test/accuracy/task1"] > 0.3, "without its change it would be a tenth"


def test_a_task_s_classes_have_their_own_names(here: Here, digits: Path) -> None:
    run = OLD / "outputs" / "split_digits" / "hypermlp-s0-7503d0be"
    (one,) = said(here, run, digits / "grey" / "2" / only_name(digits / "grey" / "2"), "--task", "1")
    assert {answer["class"] for answer in one["classes"]} == {"2", "3"}
    done = here("predict", run, digits / "grey", status=2)
    assert "--task must say which of the tasks" in done.err and "1: 2, 3" in done.err and done.err.count("\n") == 1


def only_name(folder: Path) -> str:
    return sorted(path.name for path in folder.iterdir())[0]


def test_a_run_from_before_names_were_kept(here: Here, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = OLD_RUN["digits/hypercnn-s0-83fcb788"]
    images = said(here, run, digits / "grey")
    assert accuracy(images) == pytest.approx(summary(run)["test/accuracy"], abs=0.01)

    def gone(cfg: ImageData) -> None:
        raise UserError("there are none")

    monkeypatch.setattr(prediction, "load_images", gone)
    prepared = preparation_of(load_run(run))
    assert prepared.mean == summary(run)["data/mean"] and prepared.classes == [str(n) for n in range(10)]
    assert prepared.note is not None and "no names" in here("predict", run, digits / "grey" / "0").err


def test_images_as_networks_have_other_verbs(here: Here, digits: Path) -> None:
    done = here("predict", OLD_RUN["digits/hypersiren-s0-4b068fb9"], digits / "grey", status=2)
    assert "hyperrun sample RUN" in done.err and done.err.count("\n") == 1


# ---------------------------------------------------------------- text

LINES = "".join(f"{n} bottles of beer on the wall.\n" for n in range(99, 0, -1)).replace("50 bottles", "<unk> bottles")
TEXT = (
    "train", "model=lstm", "target.hidden_size=8", "data=text", "data.path=text.txt", "data.sequence_length=100",
    "data.eval_streams=1", "trainer.batch_size=4", "trainer.max_steps=2", *QUIET,
)  # fmt: skip


@pytest.mark.parametrize("unit", ["char", "word", pytest.param("byte", marks=pytest.mark.slow)])
def test_a_text_gets_the_run_s_own_figure(here: Here, tmp_path: Path, unit: str) -> None:
    (tmp_path / "text.txt").write_text(LINES)
    here(*TEXT, f"data.unit={unit}")
    run = only_run(tmp_path)
    found = summary(run)
    text = LINES[-found["data/test"] :]
    if unit == "word":
        text = " ".join(LINES.replace("\n", " <eos> ").split()[-found["data/test"] :]).replace("<eos>", "\n")
    (tmp_path / "test.txt").write_text(text, encoding="utf-8-sig")  # with a byte order mark, which is no symbol
    scored = json.loads(here("predict", run, "test.txt", "--json").out)
    assert scored["symbols"] == found["data/test"] and scored["unit"] == unit
    for name in ("loss", "perplexity", *(["bpc"] if unit != "word" else [])):
        assert scored[name] == pytest.approx(found[f"test/{name}"], rel=1e-4), name
    typed = json.loads(here("predict", run, "--text", text, "--json").out)
    assert typed["loss"] == scored["loss"] and typed["path"] is None
    shown = here("predict", run, "test.txt").out
    assert f"perplexity {scored['perplexity']:.4f}" in shown and ("bits per" in shown) == (unit != "word")
    (row,) = csv.DictReader(io.StringIO(here("predict", run, "test.txt", "--csv").out))
    assert float(row["loss"]) == scored["loss"]
    if unit == "word":
        done = here("predict", run, "--text", "9 barrels of wine")
        assert "2 words are not in the vocabulary and were read as <unk>" in done.out
        assert here("predict", run, "--text", "9 <unk> of <unk>").out == done.out.splitlines()[0] + "\n"


def test_a_text_run_from_before_and_mistakes(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")  # compiling takes longer than this
    run = OLD / "outputs" / "pydocs" / "hyperlstm-s0-bda05df7"
    scored = json.loads(here("predict", run, "--text", "a list of names", "--json").out)
    assert scored["bpc"] == pytest.approx(math.log2(scored["perplexity"])) and scored["symbols"] == 15
    (tmp_path / "latin.txt").write_bytes("Übung".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    for words, wanted in (
        (["--text", "\N{SNOWMAN}"], "not among the"),
        (["--text", "a"], "it takes two characters"),
        (["--text", "ab", "--top", "2"], "--top is for runs on images"),
        (["latin.txt", "--text", "ab"], "a text file, or --text TEXT"),
        ([], "a text file, or --text TEXT"),
        (["latin.txt"], "latin.txt is not utf-8"),
        (["folder"], "folder is a folder"),
        (["nowhere.txt"], "there is no file nowhere.txt"),
    ):
        done = here("predict", run, *words, status=2)
        assert wanted in done.err and done.err.count("\n") == 1 and "data.encoding" not in done.err


# ---------------------------------------------------------------- what is exported

PLUGIN = """
from dataclasses import dataclass
from torch import nn
from hyperrun.config import TargetConfig
from hyperrun.registry import register


@dataclass
class OneLayer(TargetConfig):
    kind: str = "one_layer"


@register("target", "one_layer", OneLayer, takes="images")
def build(cfg, inputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs.channels * inputs.size**2, inputs.classes))
"""


def test_the_card_says_classes_preparation_and_what_a_plugin_needs(
    here: Here, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_layers.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    own = ("target=one_layer", "hypernet=none", "plugins=[my_layers]")
    here(*line(place / "pictures", *own))
    run = only_run(tmp_path)
    here("export", run, "--plugins", "my_layers")
    card = (run / "export" / "README.md").read_text()
    assert "Classes, in the order of the logits: 0 a, 1 b, 2 c." in card
    assert f"scaled to {SIZE} pixels" in card and str(summary(run)["data/mean"]) in card
    assert "`--plugins my_layers`" in card and "import my_layers" in card
    picture = place / "pictures" / "test" / "a" / "00.png"
    assert "class" in here("predict", run, picture, "--plugins", "my_layers").out


def test_the_card_of_our_own_network_needs_nothing(here: Here, trained: Path, tmp_path: Path) -> None:
    here("export", trained, "--out", "there")
    assert "--plugins" not in (tmp_path / "there" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_holds_names_and_preparation_and_its_card_runs(
    here: Here, place: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    here("export", trained, "--format", "onnx", "--out", ".")
    held = onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(held["classes"]) == ["a", "b", "c"]
    prepared = json.loads(held["preprocessing"])
    assert prepared["size"] == SIZE and prepared["color"] == "RGB"
    assert [round(value, 6) for value in prepared["mean"]] == summary(trained)["data/mean"]
    shutil.copy(place / "pictures" / "test" / "b" / "01.png", "some.png")
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    theirs = torch.from_numpy(names["logits"]).softmax(1)[0].tolist()
    (one,) = said(here, trained, "some.png")
    ours = {answer["class"]: answer["probability"] for answer in one["classes"]}
    assert dict(zip("abc", theirs, strict=True)) == pytest.approx(ours, abs=1e-4)
