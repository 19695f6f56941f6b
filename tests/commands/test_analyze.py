"""hyperrun analyze: the files it leaves for runs of each kind, side by side, in W&B, and what it says of mistakes."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hyperrun import load_run
from hyperrun.analyze.studies import analyze, labelled
from hyperrun.analyze.wandb_pictures import scalars
from hyperrun.pictures.style import picture
from hyperrun.runs.metrics_file import plain
from tests.end_to_end.test_text_runs import CHORUS, LINE, PLAIN
from tests.running import FAST, REPO, TINY, Running, leftovers, rows, summary, train_in
from tests.tracking.test_wandb import inspect, records

Here = Callable[..., Any]

SHORT = (*LINE, "trainer.max_steps=12", "trainer.save_every_s=10")
SMALL = ("hypernet.hyper_size=6", "hypernet.z_dim=2")
LINES = {
    "CNN": ("model=cnn", *FAST),
    "HYPERCNN": ("model=hypercnn", "trainer.eval_every=4", *FAST),
    "RESNET": (*TINY, *FAST),
    "LSTM": ("model=lstm", *SHORT),
    "LNLSTM": ("model=lnlstm", *SHORT),
    "HYPERLSTM": ("model=hyperlstm", *SHORT, *SMALL),
    "LNHYPERLSTM": ("model=lnhyperlstm", "target.layers=2", *SHORT, *SMALL),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the run folders of LINES."""
    place = tmp_path_factory.mktemp("analyzed")
    (place / "chorus.txt").write_text(CHORUS)
    found = {}
    for name, line in LINES.items():
        found[name] = train_in(place / name, *line, env=PLAIN)
    return found


def numbers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "analysis.json").read_text())


def is_picture(path: Path) -> bool:
    with Image.open(path) as image:
        low, high = image.convert("L").getextrema()  # type: ignore[misc]
        return image.width > 400 and low < 100 and high == 255  # type: ignore[operator]


def test_a_static_run_beside_its_twin(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    done = here("analyze", runs["CNN"], runs["HYPERCNN"])
    out = tmp_path / "analysis"
    assert {path.name for path in out.iterdir()} == {"kernels.png", "generated_tensors.png", "analysis.json"}
    assert is_picture(out / "kernels.png") and is_picture(out / "generated_tensors.png")
    assert "png      analysis/kernels.png" in done.out and "one generated layer" in done.out
    found = numbers(out)["static"]
    assert not any(tensor["generated"] for tensor in found["cnn"]["tensors"].values())
    made = found["hypercnn"]["tensors"]
    assert [name for name, tensor in made.items() if tensor["generated"]] == ["conv2.weight"]
    logged = [row for row in rows(runs["HYPERCNN"]) if "val/accuracy" in row]
    over = found["hypercnn"]["over_training"]["conv2.weight"]
    assert over["step"] == [4, 8] and over["norm"] == [row["generated/conv2.weight/norm"] for row in logged]
    best = found["hypercnn"]["tensors"]["conv2.weight"]["norm"]
    assert best == pytest.approx(over["norm"][over["step"].index(numbers(out)["runs"]["hypercnn"]["checkpoint_step"])])


def test_a_deeper_run_has_the_similarity_of_its_layers(here: Here, runs: dict[str, Path]) -> None:
    here("analyze", runs["RESNET"])
    out = runs["RESNET"] / "analysis"
    assert is_picture(out / "embedding_similarity.png") and is_picture(out / "embedding_projection.png")
    (found,) = numbers(out)["static"]["hyperresnet"]["embeddings"].values()
    similarity, count = found["cosine_similarity"], len(found["layers"])
    assert count == 6 and len(similarity) == count
    assert all(row[n] == pytest.approx(1.0, abs=1e-3) for n, row in enumerate(similarity))
    assert leftovers(out) == []


@pytest.mark.slow
def test_language_models_side_by_side(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    models = [runs[name] for name in ("LSTM", "LNLSTM", "HYPERLSTM", "LNHYPERLSTM")]
    done = here("analyze", *models, "--symbols", "150", "--out", "seen")
    out = tmp_path / "seen"
    assert all(is_picture(out / name) for name in ("hidden_activations.png", "gates.png"))
    strips = ["hyperlstm", "lnhyperlstm__layer_1", "lnhyperlstm__layer_2"]
    assert sorted(path.stem for path in out.glob("*.html")) == [f"weight_changes-{name}" for name in strips]
    assert all(is_picture(out / f"weight_changes-{name}.png") for name in strips)
    found = numbers(out)["recurrent"]
    assert list(found) == ["lstm", "lnlstm", "hyperlstm", "lnhyperlstm"]
    assert found["lstm"]["text"] == {"data": "text", "split": "val", "symbols": 150}
    assert [len(model["layers"]) for model in found.values()] == [1, 1, 1, 2]
    for model in found.values():
        assert 0 < model["bits_per_symbol"] < 5
        for layer in model["layers"]:
            assert {"hidden", "i", "g", "f", "o"} <= layer.keys()
            for parts in layer.values():
                assert parts["saturated"] == pytest.approx(parts["below"] + parts["above"]) and parts["saturated"] <= 1
    assert found["lstm"]["weight_changes"] == [{}]
    changes = found["hyperlstm"]["weight_changes"][0]
    assert set(changes) == set("igfo") and found["hyperlstm"]["weight_changes_left_out"] == 1
    page = (out / "weight_changes-hyperlstm.html").read_text()
    for gate in changes.values():
        said = f"full colour from {gate['full']:.3g} (mean {gate['mean']:.3g}, maximum {gate['max']:.3g})"
        assert said in page and gate["mean"] <= gate["full"] <= gate["max"]
    assert "saturated" in done.out and "lnhyperlstm, layer 2" in done.out


def test_another_split_is_another_text_and_a_short_one_is_read_whole(here: Here, runs: dict[str, Path]) -> None:
    val, test = (
        json.loads(here("analyze", runs["LSTM"], "--split", split, "--json", "--symbols", "1000000").out)
        for split in ("val", "test")
    )
    bits = [found["recurrent"]["lstm"]["bits_per_symbol"] for found in (val, test)]
    assert bits[0] != bits[1]
    assert val["recurrent"]["lstm"]["text"]["symbols"] < 1000


def test_a_text_that_moved(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    text = runs["LSTM"].parents[3] / "chorus.txt"
    text.rename(tmp_path / "elsewhere.txt")
    try:
        line = ("analyze", runs["LSTM"], "--symbols", "50", "--out", "there")
        assert "there is no file" in here(*line, status=2).err
        here(*line, "--path", "elsewhere.txt")
        assert "--path FILE says where the file of data=text is" in here(*line, "--root", ".", status=2).err
    finally:
        (tmp_path / "elsewhere.txt").rename(text)
    assert numbers(tmp_path / "there")["recurrent"]["lstm"]["text"]["symbols"] == 50


def test_kinds_may_be_mixed_and_one_run_named_twice_is_one(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    here("analyze", runs["HYPERCNN"], runs["LSTM"], f"{runs['LSTM']}/config.yaml", "--symbols", "50")
    found = numbers(tmp_path / "analysis")
    assert list(found["static"]) == ["hypercnn"] and list(found["recurrent"]) == ["lstm"]


def test_runs_of_one_model_are_told_apart_by_settings_else_by_folders(runs: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.symlink_to(runs["CNN"], target_is_directory=True)
    cnn = load_run(runs["CNN"])
    assert list(labelled([cnn, load_run(copy)])[0]) == ["cnn"], "the same folder by another name"
    (tmp_path / "other").mkdir()
    for name in ("config.yaml", "checkpoints"):
        (tmp_path / "other" / name).symlink_to(runs["CNN"] / name)
    found, notes = labelled([cnn, load_run(tmp_path / "other")])
    assert list(found) == [runs["CNN"].name, "other"], "nothing else tells them apart"
    assert len(notes) == 1 and notes[0].startswith("other: not a finished run, interrupted")
    assert notes[0].endswith(f"its checkpoint is of step {cnn.step}")
    config = (runs["CNN"] / "config.yaml").read_text()
    (tmp_path / "other" / "config.yaml").unlink()
    changed = config.replace("\nseed: 0", "\nseed: 1").replace("label_smoothing: 0.0", "label_smoothing: 0.1")
    (tmp_path / "other" / "config.yaml").write_text(changed)
    assert list(labelled([cnn, load_run(tmp_path / "other")])[0]) == [
        "cnn seed=0 label_smoothing=0",
        "cnn seed=1 label_smoothing=0.1",
    ]


def test_runs_on_several_data_sets_are_told_apart_by_these(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.yaml", "checkpoints"):
        (tmp_path / name).symlink_to(runs["CNN"] / name)
    other = load_run(tmp_path)
    other.config.data.name = "sky"
    found, _ = labelled([load_run(runs["CNN"]), other, load_run(runs["HYPERCNN"])])
    assert list(found) == ["digits cnn", "sky cnn", "hypercnn"]


def test_what_an_earlier_call_drew_of_other_runs_is_gone(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    here("analyze", runs["LSTM"], "--symbols", "50", "--out", "seen")
    (tmp_path / "seen" / "notes.png").write_text("mine")
    assert (tmp_path / "seen" / "gates.png").exists()
    here("analyze", runs["CNN"], "--out", "seen")
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"kernels.png", "analysis.json", "notes.png"}


def test_which_checkpoint_was_seen_is_said(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    steps = {}
    for which in ("best", "last"):
        here("analyze", runs["CNN"], "--checkpoint", which, "--out", which)
        (seen,) = numbers(tmp_path / which)["runs"].values()
        assert seen["checkpoint"] == which
        steps[which] = seen["checkpoint_step"]
    assert steps == {"best": summary(runs["CNN"])["best/step"], "last": summary(runs["CNN"])["steps"]}
    figure = analyze([load_run(runs["HYPERCNN"], "last")]).pictures["generated_tensors"]
    assert "last checkpoint, step 8" in [line.get_label() for line in figure.axes[0].lines]


def test_without_a_selected_checkpoint_the_last_one_is_named(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["CNN"], tmp_path / "begun")
    (tmp_path / "begun" / "checkpoints" / "best.pt").unlink()
    assert here("analyze", "begun", status=2).err.endswith("but there is last.pt (--checkpoint last)\n")


def test_as_a_library(runs: dict[str, Path]) -> None:
    findings = analyze([load_run(runs["HYPERLSTM"])], symbols=60)
    assert set(findings.pictures) == {"hidden_activations", "gates", "weight_changes-hyperlstm"}
    assert findings.numbers["recurrent"]["hyperlstm"]["layers"][0]["hidden"]["saturated"] >= 0


def test_an_older_run_without_norms_is_drawn_all_the_same(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.yaml", "checkpoints"):
        (tmp_path / name).symlink_to(runs["HYPERCNN"] / name)
    done = here("analyze", tmp_path, "--out", "seen")
    assert (tmp_path / "seen" / "kernels.png").exists() and not (tmp_path / "seen" / "generated_tensors.png").exists()
    assert "has no norms of generated tensors (an older run)" in done.out


@pytest.mark.slow
def test_the_readmes_lines_run(here: Here, runs: dict[str, Path]) -> None:
    text = (REPO / "README.md").read_text()
    lines = [line.partition("#")[0] for line in re.findall(r"^    (hyperrun analyze .*)$", text, re.MULTILINE)]
    assert len(lines) >= 4
    names = {"RUN": runs["HYPERCNN"], **runs}
    for line in lines:
        words = [str(names.get(word, word)) for word in shlex.split(line)[1:] if word != "--wandb"]
        here(*words)


def test_a_form_without_scaling_vectors_has_a_note_instead_of_a_strip(tmp_path: Path) -> None:
    (tmp_path / "chorus.txt").write_text(CHORUS)
    (tmp_path / "run").mkdir()
    line = ("train", "model=hyperrnn", "hypernet.form=full", *SHORT, *SMALL)
    running = Running(*line, cwd=tmp_path / "run", env=PLAIN)
    assert running.wait() == 0, running.err
    findings = analyze([load_run(running.folder)], symbols=60)
    assert set(findings.pictures) == {"hidden_activations"} and not findings.pages
    assert findings.notes == [
        "hyperrnn: no strip of weight changes: hypernet.form=full mixes whole matrices and has no scaling vectors"
    ]


@pytest.mark.parametrize("name", ["HYPERCNN", "RESNET", "HYPERLSTM"])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_said_and_stop_no_picture(
    runs: dict[str, Path], name: str, broken: float
) -> None:
    run = load_run(runs[name])
    pictures = set(analyze([run], symbols=60).pictures)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.fill_(broken)
    findings = analyze([run], symbols=60)
    assert pictures - set(findings.pictures) <= {"embedding_projection"}, "no point is left"
    assert any("not finite" in note for note in findings.notes)
    for figure in findings.pictures.values():
        assert picture(figure, "png").startswith(b"\x89PNG")
    json.dumps(plain(findings.numbers), allow_nan=False)


def test_runs_of_other_targets_are_all_drawn(runs: dict[str, Path]) -> None:
    kernels = analyze([load_run(runs["RESNET"]), load_run(runs["CNN"])]).pictures["kernels"]
    titles = [panel.get_title("left").partition("\n")[0] for panel in kernels.axes]
    assert {"hyperresnet", "cnn"} == set(titles) - {""}


# ---------------------------------------------------------------- W&B


@pytest.mark.slow
def test_pictures_and_numbers_go_to_wandb(run_cli: Callable[..., Any], runs: dict[str, Path], tmp_path: Path) -> None:
    line = ("analyze", str(runs["HYPERLSTM"]), "--symbols", "50", "--out", "seen", "--wandb")
    # in a new process: W&B's service would outlive the test, and the first of forked ones takes W&B's folder with it
    done = run_cli(*line, env={"WANDB_MODE": "offline"})
    (offline,) = (tmp_path / "seen" / "wandb").glob("offline-run-*")
    assert f"wandb sync seen/wandb/{offline.name}" in done.stdout
    (run,) = records(offline, "run")
    assert run["job_type"] == "analyze" and run["project"] == "hyperrun"
    assert json.loads(inspect(offline, "--summary"))["state"] == "finished"
    (logged,) = records(offline, "history")
    for name in ("hidden_activations", "gates", "weight_changes-hyperlstm"):
        assert logged["item"][f"{name}._type"] == "image-file"
        assert (offline / "files" / logged["item"][f"{name}.path"]).read_bytes().startswith(b"\x89PNG")
    assert "recurrent/hyperlstm/layers/0/hidden/saturated" in json.dumps(records(offline, "summary"))


def test_trouble_with_wandb_is_a_warning(
    here: Here, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    done = here("analyze", runs["CNN"], "--wandb", "--out", "seen")
    assert done.err == "hyperrun: warning: --wandb: $WANDB_MODE is disabled\n"
    assert (tmp_path / "seen" / "kernels.png").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("wandb.init", lambda **_: 1 / 0)
    done = here("analyze", runs["CNN"], "--wandb", "--out", "seen")
    assert done.err == "hyperrun: warning: --wandb: division by zero\n"


def test_every_number_but_tables_has_a_key() -> None:
    nested = {"a": {"b": 1, "c": [1.0, 2.0]}, "d": [{"e": 2.5}, {}], "f": "text", "g": True}
    assert dict(scalars(nested)) == {"a/b": 1, "d/0/e": 2.5}


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("analyze", "the following arguments are required: RUN"),
        ("analyze . --symbols 1", "--symbols must be at least 2, not 1"),
        ("analyze . --split tets", "invalid choice: 'tets'"),
        ("analyze . --sybols 3", "did you mean '--symbols'?"),
        ("analyze .", "is no run folder"),
    ],
)
def test_mistakes_are_one_line(here: Here, line: str, said: str) -> None:
    done = here(*line.split(), status=2)
    assert done.err.startswith("hyperrun: error: ") and said in done.err and done.err.count("\n") == 1


def test_a_place_that_cannot_be_written_to(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = here("analyze", runs["CNN"], "--out", "file/deeper", status=2)
    assert "cannot write to file/deeper" in done.err and "--out DIR" in done.err
