"""Rows name what is not their preset's, a table says what all share, and marks what was not trained alike."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hyperrun.compare import Comparison, compare, print_comparison, read_runs
from hyperrun.compare.page import page
from hyperrun.compare.plot import draw
from hyperrun.compare.records import as_csv, as_json, record
from hyperrun.compare.table import markdown, shared_line
from hyperrun.compare.text_plot import print_plot
from hyperrun.compare.wandb_comparison import panels
from hyperrun.pictures.style import picture
from tests.made_up_runs import made_up_run


def trained(outputs: Path, *words: str, **facts: Any) -> Path:
    """Make the run that a command line would have left."""
    device, precision = facts.pop("device", "CPU (1 thread)"), facts.pop("precision", "float32")
    command = shlex.join(["hyperrun", "train", *words])
    return made_up_run(outputs, *words, command=command, device=device, precision=precision, **facts)


def compared(outputs: Path) -> Comparison:
    [comparison] = compare(read_runs([outputs]))
    return comparison


def told(comparison: Comparison) -> dict[str, str]:
    """Return label -> what is marked of it."""
    return {group.label: "; ".join(group.differs_in) for group in comparison.groups}


SHORT = ("data=cifar10", "data.verify=false", "target.depth=16", "target.width=1", "trainer.max_steps=100")


def test_what_all_rows_share_stands_below_the_title(tmp_path: Path) -> None:
    for model, test in (("resnet", 0.4), ("hyperresnet", 0.3)):
        trained(tmp_path, f"model={model}", *SHORT, test=test, data__verified=False)
    comparison = compared(tmp_path)
    assert told(comparison) == {"resnet": "", "hyperresnet": ""}
    # 100 steps are 10 epochs of these runs
    said = "all: target.depth=16, target.width=1, 100 steps (10 epochs), data not checked (data.verify=false)"
    assert shared_line(comparison) == f"{said}, float32, CPU (1 thread)"
    rows = list(csv.DictReader(io.StringIO(as_csv([comparison]))))
    shown = ("target.depth", "target.width", "trainer.max_steps", "data/verified")
    assert [[row[key] for key in shown] for row in rows] == [["16", "1", "100", "False"]] * 2


def test_a_row_names_what_differs_from_its_preset_and_is_not_shared(tmp_path: Path) -> None:
    trained(tmp_path, "model=cnn", "optim.lr=1e-3")
    trained(tmp_path, "model=hypercnn", "optim.lr=1e-3", "hypernet.z_dim=8", "optim=sgd", test=0.8)
    trained(tmp_path, "model=hypercnn", "optim.lr=0.001", "params=2000", "seed=3", "outputs=x", test=0.7)
    comparison = compared(tmp_path)
    # of two networks of a name both have what one of them has of its own
    names = ["cnn", "hypercnn z_dim=8 optim=sgd", "hypercnn z_dim=4 params=2000"]
    assert list(told(comparison)) == names
    assert "optim.lr=0.001" in shared_line(comparison)


def test_what_was_typed_and_is_the_presets_own_value_is_not_said(tmp_path: Path) -> None:
    trained(tmp_path, "model=cnn", "trainer.epochs=null", "optim=adam", "hypernet=none")
    trained(tmp_path, "model=hypercnn", "hypernet.z_dim=4", test=0.8)
    comparison = compared(tmp_path)
    assert list(told(comparison)) == ["cnn", "hypercnn"] and shared_line(comparison) == (
        "all: 60 epochs, float32, CPU (1 thread)"
    )


def test_a_length_that_another_overrides_is_not_said(tmp_path: Path) -> None:
    trained(tmp_path, "experiment=ha2016/mnist_cnn", "trainer.max_steps=10", test=0.9, trainable=21_210)  # 50 epochs
    trained(tmp_path, "model=hypercnn", "data=mnist", "trainer.max_steps=20", test=0.8)
    comparison = compared(tmp_path)
    assert list(told(comparison)) == ["mnist_cnn", "hypercnn max_steps=20"]
    rows = list(csv.DictReader(io.StringIO(as_csv([comparison]))))
    assert [row["trainer.max_steps"] for row in rows] == ["10", "20"] and "trainer.epochs" not in rows[0]
    assert "trainer.epochs" not in page(read_runs([tmp_path]), [comparison])


def test_what_nobody_typed_and_is_not_the_presets_is_said(tmp_path: Path) -> None:
    """It stands in conf/local, in an experiment of one's own, or a program chose it; and commands may be missing."""
    for model, test in (("cnn", 0.9), ("hypercnn", 0.8)):
        made_up_run(tmp_path, f"model={model}", "optim.lr=0.5", test=test)
    made_up_run(tmp_path, "model=hypercnn", "optim.lr=0.5", "trainer.ema=0.9", test=0.7)
    comparison = compared(tmp_path)
    assert list(told(comparison)) == ["cnn", "hypercnn", "hypercnn ema=0.9"]
    assert shared_line(comparison) == "all: optim.lr=0.5, 60 epochs"


def test_of_a_preset_of_ones_own_what_was_typed_is_said(tmp_path: Path) -> None:
    """Nobody knows what it says of itself."""
    own = {"model": "mine"}
    for words, test in ((["optim.lr=0.5"], 0.9), ([], 0.8)):
        folder = trained(tmp_path, "model=cnn", "target.channels=[3,3]", *words, test=test, **own)
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("model: cnn", "model: mine"))
        summary = folder / "summary.json"
        summary.write_text(summary.read_text().replace("model=cnn 'target.channels=[3,3]'", "model=mine"))
    assert list(told(compared(tmp_path))) == ["mine lr=0.5", "mine"]


def test_a_name_made_of_target_and_hypernet_says_these(tmp_path: Path) -> None:
    words = ["target=torchvision", "target.name=resnet34", "hypernet=chunked"]
    config = trained(tmp_path, *words, "hypernet.z_dim=8", model="chunked-resnet34") / "config.yaml"
    trained(tmp_path, "model=cnn", test=0.5)
    config.write_text(config.read_text().replace("model: hypercnn", "model: chunked-resnet34"))
    assert list(told(compared(tmp_path))) == ["chunked-resnet34 z_dim=8", "cnn"]


def test_labels_of_equal_words_have_what_differs_otherwise(tmp_path: Path) -> None:
    """Settings of a config file of one's own are not typed."""
    for lr in ("0.1", "0.2"):
        made_up_run(tmp_path, "model=cnn", f"optim.lr={lr}", command="hyperrun train model=cnn")
    assert set(told(compared(tmp_path))) == {"cnn lr=0.1", "cnn lr=0.2"}


def test_rows_that_were_not_trained_alike_are_marked(tmp_path: Path) -> None:
    for seed in ("seed=0", "seed=1"):
        trained(tmp_path, "model=cnn", seed, test=0.9)
    trained(tmp_path, "model=hypercnn", test=0.8)
    trained(tmp_path, "model=hypercnn", "hypernet.z_dim=8", "trainer.epochs=3", test=0.7, device="GPU")
    trained(tmp_path, "model=mlp", test=0.6, precision="bf16", data__verified=False)
    trained(tmp_path, "model=hypermlp", test=0.5, data__verified=True)
    comparison = compared(tmp_path)
    assert told(comparison) == {
        "cnn": "",
        "hypercnn z_dim=4": "",
        "hypercnn z_dim=8 epochs=3": "length; hardware",
        "mlp": "data check; precision",
        "hypermlp": "",
    }
    assert comparison.alike.note == (
        "† unlike most of these in length: 60 epochs, † 3 epochs; in data check: checked, † not checked; "
        "in precision: float32, † bf16; in hardware: CPU (1 thread), † GPU"
    )


def test_equal_passes_are_equal_however_they_were_asked_for(tmp_path: Path) -> None:
    trained(tmp_path, "model=cnn", "trainer.epochs=10")
    trained(tmp_path, "model=hypercnn", "trainer.max_steps=100")  # 10 epochs
    trained(tmp_path, "model=mlp", "trainer.epochs=10", "trainer.patience=3", "seed=0", steps=40)
    trained(tmp_path, "model=mlp", "trainer.epochs=10", "trainer.patience=3", "seed=1", steps=80)
    comparison = compared(tmp_path)
    assert not any(group.differs_in for group in comparison.groups)
    lengths = {
        row["model"]: row["trained"] for row in as_json(read_runs([tmp_path]), [comparison])["comparisons"][0]["groups"]
    }
    assert lengths == {"cnn": "10 epochs", "hypercnn": "100 steps (10 epochs)", "mlp": "4 to 8 of 10 epochs"}


@pytest.fixture
def unequal(tmp_path: Path) -> Path:
    trained(tmp_path, "model=cnn", test=1.0)
    trained(tmp_path, "model=hypercnn", "hypernet.z_dim=8", test=0.9)
    trained(tmp_path, "model=hypercnn", "trainer.max_steps=50", test=0.8)
    return tmp_path


NOTE = "† unlike most of these in length: 60 epochs, † 50 steps (5 epochs)"


def test_every_format_has_the_marks(unequal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = read_runs([unequal])
    comparisons = compare(runs)
    shared = "all: float32, CPU (1 thread)"
    file = io.StringIO()
    console = Console(file=file, width=200)
    print_comparison(runs, console, comparisons)
    print_plot(comparisons[0], console)
    table, _, plot = file.getvalue().partition("Pareto front")
    for text in (table, plot, markdown(runs, comparisons).replace("\\_", "_")):
        assert NOTE in text and shared in text and "hypercnn z_dim=4 max_steps=50 †" in text
    html = page(runs, comparisons)
    assert NOTE in html.replace("&nbsp;", " ") and shared in html and "hypercnn z_dim=4 max_steps=50&nbsp;†" in html
    svg = picture(draw(comparisons), "svg").decode()
    assert NOTE in svg and shared in svg and "hypercnn z_dim=4 max_steps=50 †" in svg
    rows = list(csv.DictReader(io.StringIO(as_csv(comparisons))))
    assert [row["differs_in"] for row in rows] == ["", "", "length"]
    [found] = as_json(runs, comparisons)["comparisons"]
    assert found["unequal"] == {"length": {"most": "60 epochs", "others": ["50 steps (5 epochs)"]}}
    assert found["shared"] == ["float32", "CPU (1 thread)"]
    assert [group["differs_in"] for group in found["groups"]] == ["", "", "length"]
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr(wandb, "Table", lambda columns, data: [dict(zip(columns, row, strict=True)) for row in data])
    monkeypatch.setattr(wandb.plot, "scatter", lambda *_, **__: None)
    monkeypatch.setattr(wandb, "Image", lambda _, caption: caption)
    media = panels(comparisons[0])
    assert NOTE in media["digits/plot"] and shared in media["digits/plot"]
    assert [row["differs_in"] for row in media["digits/table"]] == ["", "", "length"]


def test_each_differing_setting_is_a_column(unequal: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(compare(read_runs([unequal]))))))
    assert [row["hypernet.z_dim"] for row in rows] == ["", "8", "4"]
    assert [row["trainer.max_steps"] for row in rows] == ["", "", "50"]
    assert [row["steps"] for row in rows] == ["100"] * 3 or [float(row["steps"]) for row in rows] == [100.0] * 3
    assert "optim.lr" not in rows[0], "it is the same in all of them"


def test_times_without_warm_up_beside_those_of_an_older_version(tmp_path: Path) -> None:
    new = {"time__train_s": 1581.0, "time__warm_up_s": 1114.0, "time__epoch_s": 46.7, "time__eval_s": 9.0}
    trained(tmp_path, "model=cnn", **new)
    trained(tmp_path, "model=hypercnn", test=0.8)
    trained(tmp_path, "model=mlp", test=0.7, time__warm_up_s=20.0, name="all of it was warm-up")
    comparison = compared(tmp_path)
    file = io.StringIO()
    print_comparison(read_runs([tmp_path]), Console(file=file, width=220), [comparison])
    [heads, _, one, two, three] = file.getvalue().splitlines()[2:7]
    assert "s/epoch  examples/s  warm-up s  evaluation s" in heads
    assert " 46.7 " in one and " 1,114 " in one and " ≤2 " in two and "≤" not in three
    assert "≤ with warm-up and compilation" in file.getvalue()
    records = as_json(read_runs([tmp_path]), [comparison])["comparisons"][0]["groups"]
    assert [row["time/steady_s"] for row in records] == [467.0, None, 0.0]
    assert [row["time/with_warm_up"] for row in records] == [False, True, False]


@pytest.mark.parametrize(
    ("words", "name", "paper"),
    [
        (["experiment=ha2016/ptb_lstm1000"], "ptb_lstm1000", 1.312),
        (["experiment=ha2016/ptb_lstm1000", "trainer.epochs=4"], "ptb_lstm1000", 1.312),
        (["experiment=ha2016/ptb_lstm1000", "target.hidden_size=96"], "lstm", None),
        (["experiment=ha2016/ptb_lstm1000", "data=pydocs"], "lstm", None),
        (["experiment=ha2016/ptb_lstm1000", "data=pydocs", "paper=null"], "lstm", None),  # as training leaves it
        (["experiment=compression/static", "data=mnist"], "static", None),
        (["experiment=ha2016/mnist_hypercnn"], "mnist_hypercnn", 0.9924),
        (["experiment=ha2016/mnist_hypercnn", "hypernet.z_dim=8"], "hypercnn", None),
        (["experiment=ha2016/mnist_hypercnn", "optim.lr=0.1"], "mnist_hypercnn", 0.9924),
    ],
    ids=str,
)
def test_the_papers_figure_goes_with_its_count(
    tmp_path: Path, words: list[str], name: str, paper: float | None
) -> None:
    count = 61_298 if "target.hidden_size=96" in words else 4_254_050
    trained(tmp_path, *words, trainable=12_910 if "mnist" in words[0] else count)
    comparison = compared(tmp_path)
    [group] = comparison.groups
    assert group.name == name and group.paper == (paper and pytest.approx(paper))
    assert (group.paper_params is None) == (paper is None)
    if "ha2016" in words[0]:  # so that nobody pools a changed run with the paper's in pandas
        in_files = words[0].removeprefix("experiment=") if paper is not None else None
        assert record(comparison, group)["experiment"] == in_files
