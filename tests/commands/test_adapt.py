"""hyperrun adapt: a new task by a new embedding, from the command line to the file it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hyperrun import cli, load_run, materialize
from hyperrun.commands.adapt import adapt, new_data, new_tasks
from hyperrun.commands.export import export
from hyperrun.hypernets import ConditionalModel


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("adapt")
    words = ["trainer.max_steps=250", "precision=float32", f"outputs={outputs}"]
    assert cli.main(["train", "model=hypermlp", "data=split_digits", *words]) == 0
    (folder,) = (outputs / "split_digits").iterdir()
    return folder


def test_a_run_on_tasks_ends_with_its_figures(run: Path):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished" and summary["task"] == "multitask_classification"
    assert summary["data/tasks"] == ["0, 1", "2, 3", "4, 5", "6, 7", "8, 9"]
    assert summary["test/accuracy"] > 0.9
    mean = sum(summary[f"test/accuracy/task{t}"] for t in range(5)) / 5
    assert summary["test/accuracy"] == pytest.approx(mean)


@pytest.mark.slow
def test_the_embedding_alone_learns_other_tasks(run: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["adapt", str(run), "--steps", "150", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((run / "adapt.json").read_text())
    assert len(report["tasks"]) == 5 and {task["task"] for task in report["tasks"]}.isdisjoint({"0, 1", "2, 3"})
    means = {}
    for row in range(4):
        figures = [task["rows"][row] for task in report["tasks"]]
        means[figures[0]["learned"]] = sum(figure["test/accuracy"] for figure in figures) / 5
    parameters = {row["learned"]: row["parameters"] for row in report["tasks"][0]["rows"]}
    trainable = json.loads((run / "summary.json").read_text())["params/trainable"]
    assert parameters == {"nearest": 0, "embedding": 16, "everything": trainable - 4 * 16, "scratch": 16_802}
    assert means["embedding"] > means["nearest"] + 0.1, means
    assert means["everything"] > 0.95 and means["scratch"] > 0.95, means


def test_only_the_embedding_changes_and_makes_the_network_of_the_report(run: Path):
    loaded = load_run(run)
    model = loaded.model
    assert isinstance(model, ConditionalModel)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = new_data(loaded, None, [])
    _, task = new_tasks(loaded, data)[2]
    result = adapt(loaded, task, data, steps=30)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    embedding = torch.tensor(result["embedding"])
    images = ((task.test.fetch(torch.arange(len(task.test))) / 255) - task.mean[:, None, None]) / task.std[
        :, None, None
    ]
    with torch.no_grad():
        guesses = materialize(model, embedding)(images).argmax(1)
    accuracy = (guesses == task.test.labels).double().mean().item()
    assert accuracy == pytest.approx(result["rows"][1]["test/accuracy"])


def test_fewer_examples_and_one_task(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    out = tmp_path / "few.json"
    words = ["--examples", "10", "--task", "1", "--steps", "3", "--out", str(out)]
    assert cli.main(["adapt", str(run), *words]) == 0
    assert "learned" in capsys.readouterr().out
    (task,) = json.loads(out.read_text())["tasks"]
    assert task["examples"] == 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "permuted_digits"], "images of [1, 8, 8] in 10 classes"),
        (["--data", "digits"], "images of [1, 8, 8] in 10 classes; the run was trained on [1, 8, 8] in 2"),
        (["--data", "split_digitz"], "split_digits"),
        (["--data", "pydocs"], "are no images"),
        (["--task", "5"], "--task must lie between 0 and 4"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["task_seed=3"], "is no data.KEY=VALUE"),
        (["--stepps", "3"], "--steps"),
        (["--lr", "nan"], "--lr must be a positive number"),
        (["--out", "nowhere/adapt.json"], "there is no folder nowhere"),
        (["--data", "split_digits"], "trained on these tasks; data.task_seed=1 makes others"),
        (["data.tasks=3"], "cannot part the 10 classes"),
        (["data.taskz=3"], "did you mean 'tasks'"),
    ],
)
def test_mistakes_are_one_line(run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["adapt", str(run), *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1, err


def test_a_run_on_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["train", "trainer.max_steps=2", f"outputs={tmp_path}"]) == 0
    (folder,) = (tmp_path / "digits").iterdir()
    capsys.readouterr()
    assert cli.main(["adapt", str(folder)]) == 2
    assert "needs a hypernet trained on tasks" in capsys.readouterr().err


def test_one_tasks_network_is_exported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from safetensors.torch import load_file

    model = load_run(run).model
    file, _ = export(str(run), out=tmp_path, task=3)
    assert isinstance(model, ConditionalModel)
    with torch.no_grad():
        weights = model.weights(torch.tensor(3))
    for name, value in load_file(file).items():
        assert torch.equal(value, weights[name])
    card = (tmp_path / "README.md").read_text()
    assert "task 3 (6, 7)" in card and "materialize(load_run(RUN).model, 3)" in card
    assert "test accuracy/task3" in card
    assert cli.main(["export", str(run)]) == 2
    assert "--task must say which network to write: 0 to 4" in capsys.readouterr().err
