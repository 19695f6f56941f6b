"""What analyze shows of tasks: every number from a hypernet whose weights can be worked out in the head."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperrun import load_run
from hyperrun.analyze.conditional_study import task_numbers
from hyperrun.analyze.studies import analyze
from hyperrun.analyze.task_pictures import draw_interpolation, draw_spread, draw_task_similarity, shortened
from hyperrun.analyze.task_weights import (
    MOST_PAIRS,
    POINTS,
    Interpolation,
    Spread,
    TaskWeights,
    centred_similarity,
    chosen_pairs,
    interpolate,
    positions,
    spread_over_tasks,
    weights_of_tasks,
)
from hyperrun.cli import main
from hyperrun.data import as_images, load_tasks
from hyperrun.errors import UserError
from hyperrun.hypernets import ConditionalModel, EmbeddedGenerator
from hyperrun.load import LoadedRun
from hyperrun.pictures.style import picture
from hyperrun.runs.metrics_file import plain
from tests.pictures import texts_outside
from tests.running import FAST, Running

SMALL = ("target.hidden=[8]", "hypernet.hidden=[8]", "hypernet.z_dim=4", "hypernet.chunk_size=32", *FAST)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedRun]:
    """Return a joint and a continual run on the digits in five tasks, and one on a single task."""
    lines = {
        "joint": ("data=split_digits",),
        "continual": ("data=split_digits", "data.order=continual"),
        "one": ("data=split_digits", "data.name=permuted_digits", "data.tasks=1"),
    }
    found = {}
    for name, words in lines.items():
        place = tmp_path_factory.mktemp(name)
        running = Running("train", "model=hypermlp", *SMALL, *words, cwd=place, env={})
        assert running.wait() == 0, running.err
        found[name] = load_run(running.folder)
    return found


class Table(nn.Module):
    """A generator whose weights are its condition: as it is the weight of a linear layer [2, 2]."""

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"weight": z.unflatten(-1, (2, 2))}


def linear_model(*embeddings: list[float]) -> ConditionalModel:
    hypernet = EmbeddedGenerator(Table(), len(embeddings), 4, std=1.0)
    hypernet.embedding = nn.Embedding.from_pretrained(torch.tensor(embeddings))
    return ConditionalModel(nn.Linear(2, 2, bias=False), hypernet, ["weight"])


# ---------------------------------------------------------------- numbers


def test_similarity_is_of_how_weights_differ_and_not_of_what_they_share() -> None:
    shared = {"a": torch.tensor([5.0, -7.0, 3.0]), "b": torch.full((2, 2), 9.0)}
    own = torch.tensor([1.0, 0.0, 0.0, -1.0])
    weights = {name: torch.stack([value + t * value.numel() * 0.1 for t in own]) for name, value in shared.items()}
    found = centred_similarity(weights)
    assert found[0, 0] == pytest.approx(1.0) and found[0, 3] == pytest.approx(-1.0), "they differ in opposite ways"
    torch.manual_seed(0)
    unrelated = centred_similarity({"w": torch.randn(5, 3, 20000) + 4})
    torch.testing.assert_close(
        unrelated[~torch.eye(5, dtype=torch.bool)], torch.full((20,), -0.25).double(), atol=0.02, rtol=0
    )
    assert centred_similarity({"w": torch.ones(3, 2)}).isfinite().all(), "tasks that are all the same"


def test_spread_is_zero_of_shared_tensors_and_one_of_independent_draws() -> None:
    torch.manual_seed(0)
    row = torch.randn(40)
    found = spread_over_tasks(
        {
            "same": row.expand(5, 40),
            "draws": torch.randn(5, 100, 100) * 3,
            "single": torch.tensor([[1.0], [3.0]]),
            "two": torch.tensor([[0.0, 2.0], [2.0, 4.0]]),
        }
    )
    assert found["same"].ratio == 0.0 and found["same"].own == pytest.approx(float(row.std(correction=1)))
    assert found["draws"].ratio == pytest.approx(1.0, abs=0.02) and found["draws"].own == pytest.approx(3.0, abs=0.05)
    assert found["single"].ratio is None and found["single"].over_tasks == pytest.approx(2**0.5)
    assert (found["two"].over_tasks, found["two"].own) == (pytest.approx(2**0.5), pytest.approx(2**0.5))
    small = [spread_over_tasks({"bias": torch.randn(5, 2)})["bias"] for _ in range(4000)]
    over, own = (sum(s**2 for s in kind) for kind in zip(*((one.over_tasks, one.own) for one in small), strict=True))
    assert over / own == pytest.approx(1.0, abs=0.06), "small ones, too"


def test_along_the_line_the_weights_go_from_one_task_to_the_other() -> None:
    """Class 0 wins where x is positive; the second task has it the other way round: halfway the weights are zero."""
    model = linear_model([1.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 9.0], [-1.0, 0.0, 1.0, 0.0])
    x = torch.tensor([[2.0, 1.0], [1.0, 0.0], [-3.0, 1.0], [-1.0, 5.0]])
    left, right = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0])
    found = interpolate(model, (0, 2), ([(x[:3], left[:3]), (x[3:], left[3:])], [(x, right)]))
    half = POINTS // 2
    assert found.images == (4, 4) and found.accuracy.shape == (2, POINTS) and positions()[half] == 0.5
    assert found.accuracy[0].tolist() == [1.0] * half + [0.5] + [0.0] * half
    assert found.accuracy[1].tolist() == [0.0] * half + [0.5] + [1.0] * half
    assert (found.own(), found.halfway(), found.other()) == (1.0, 0.5, 0.0)
    backwards = interpolate(model, (2, 0), ([(x, right)], [(x, left)]))
    torch.testing.assert_close(backwards.accuracy, found.accuracy)


def test_each_task_and_the_next_and_of_many_a_few_over_all() -> None:
    assert chosen_pairs(2) == [(0, 1)] and chosen_pairs(4) == [(0, 1), (1, 2), (2, 3)]
    many = chosen_pairs(100)
    assert len(many) == len(set(many)) == MOST_PAIRS and many[0] == (0, 1) and many[-1] == (98, 99)
    assert len(set(chosen_pairs(MOST_PAIRS + 2))) == MOST_PAIRS


# ---------------------------------------------------------------- runs


def test_the_ends_of_the_lines_are_what_the_run_reported(runs: dict[str, LoadedRun]) -> None:
    for name in ("joint", "continual"):
        run = runs[name]
        for split in ("val", "test"):
            found = analyze([run], split).numbers["conditional"]["hypermlp"]
            assert found["tasks"] == ["0, 1", "2, 3", "4, 5", "6, 7", "8, 9"] and found["order"] == name
            for n, pair in enumerate(found["interpolation"]["pairs"]):
                assert (pair["from"], pair["to"]) == (found["tasks"][n], found["tasks"][n + 1])
                assert pair["accuracy_from"][0] == pytest.approx(run.summary[f"{split}/accuracy/task{n}"])
                assert pair["accuracy_to"][-1] == pytest.approx(run.summary[f"{split}/accuracy/task{n + 1}"])
                assert len(pair["accuracy_from"]) == len(pair["accuracy_to"]) == POINTS
    tasks = load_tasks(runs["joint"].config.data).tasks  # type: ignore[arg-type]
    first = analyze([runs["joint"]]).numbers["conditional"]["hypermlp"]["interpolation"]["pairs"][0]
    assert (first["images_from"], first["images_to"]) == (len(tasks[0].val), len(tasks[1].val))


def test_all_generated_tensors_are_there(runs: dict[str, LoadedRun]) -> None:
    run = runs["joint"]
    found = analyze([run]).numbers["conditional"]["hypermlp"]
    weights = weights_of_tasks(run.model)
    assert {name: entry["shape"] for name, entry in found["tensors"].items()} == {
        name: list(value.shape[1:]) for name, value in weights.items()
    }
    assert found["weights_minus_mean_over_tasks"]["size"] == run.summary["params/generated"]
    for key in ("embeddings", "weights_minus_mean_over_tasks"):
        matrix = torch.tensor(found[key]["cosine_similarity"])
        assert matrix.shape == (5, 5) and torch.equal(matrix, matrix.T)
        assert matrix.diagonal().tolist() == pytest.approx([1.0] * 5)
    z = run.model.hypernet.embedding.weight.detach()  # type: ignore[union-attr]
    one = torch.nn.functional.cosine_similarity(z[1], z[3], dim=0)  # type: ignore[index]
    assert found["embeddings"]["cosine_similarity"][1][3] == pytest.approx(float(one), abs=1e-4)


def test_the_command_leaves_pictures_and_a_table(
    runs: dict[str, LoadedRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(runs[name].folder.path) for name in ("joint", "continual", "one")]
    assert main(["analyze", *folders, "--out", str(tmp_path / "seen")]) == 0
    said = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {
        "task_similarity.png", "task_weights.png", "task_interpolation.png", "generated_tensors.png", "analysis.json",
    }  # fmt: skip
    assert re.search(r"\bjoint +0\.\d{4} +0\.\d{4} +0\.\d{4} +\d\.\d\d to \d\.\d\d", said)
    assert "one task, so there is nothing to compare" in said
    written = json.loads((tmp_path / "seen" / "analysis.json").read_text())
    assert all(len(found["over_training"]["layers.0.weight"]["norm"]) >= 1 for found in written["conditional"].values())
    assert len(written["conditional"]) == 3 and [key for key in written if key in ("static", "recurrent")] == []
    assert main(["analyze", folders[2], "--out", str(tmp_path / "one")]) == 0
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["analysis.json", "generated_tensors.png"]


def test_weights_that_are_not_finite_are_said(runs: dict[str, LoadedRun]) -> None:
    run = load_run(runs["joint"].folder.path)
    z = run.model.hypernet.embedding.weight  # type: ignore[union-attr]
    with torch.no_grad():
        z[1] = math.nan  # type: ignore[index]
    findings = analyze([run])
    assert any(note.startswith("hypermlp: weights that are not finite in layers.0.weight") for note in findings.notes)
    heat = findings.pictures["task_similarity"].axes[0]
    assert heat.get_title("left").endswith("grey: not finite") and len(heat.texts) == 16
    assert all(picture(figure, "png").startswith(b"\x89PNG") for figure in findings.pictures.values())
    json.dumps(plain(findings.numbers), allow_nan=False)


def test_conditions_of_another_kind_are_refused_before_anything_is_drawn(runs: dict[str, LoadedRun]) -> None:
    run = runs["joint"]
    data = run.config.data
    other = dataclasses.replace(run, config=dataclasses.replace(run.config, data=as_images(data)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there are no pictures of a ConditionalModel") as caught:
        analyze([runs["continual"], other])
    assert str(other.folder.path) in str(caught.value) and "\n" not in str(caught.value)


# ---------------------------------------------------------------- pictures


def made_up(tasks: int, tensors: int = 3) -> TaskWeights:
    names = [f"{n * 12} degrees" for n in range(tasks)]
    spread = {f"layers.{n}.{kind}": Spread(0.3 + n, 1.0) for n in range(tensors) for kind in ("weight", "bias")}
    shapes = {name: [4, 4] if name.endswith("weight") else [4] for name in spread}
    spread["scale"], shapes["scale"] = Spread(1.0, 0.0), [1]
    lines = [Interpolation(pair, (9, 9), torch.rand(2, POINTS).double()) for pair in chosen_pairs(tasks)]
    eye = torch.eye(tasks).double()
    return TaskWeights(names, 4, eye, 100, eye, spread, shapes, 10, lines)


def texts_do_not_overlap(figure: Any, labels: list[Any]) -> bool:
    figure.canvas.draw()
    boxes = [label.get_window_extent(figure.canvas.get_renderer()) for label in labels if label.get_text()]
    inside = all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    return inside and not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


@pytest.mark.parametrize("tasks", [2, 5, 12, 45])
def test_labels_of_tasks_do_not_overlap(tasks: int) -> None:
    found = {"$run, joint": made_up(tasks)}
    figure = draw_task_similarity(found)
    for panel in figure.axes[:2]:
        assert texts_do_not_overlap(figure, panel.get_xticklabels())
        assert texts_do_not_overlap(figure, panel.get_yticklabels())
    figure = draw_interpolation(found, "val")
    shown = [panel for panel in figure.axes if panel.lines]
    assert len(shown) == min(tasks - 1, MOST_PAIRS)
    assert [panel.get_ylabel() for panel in shown if panel.get_ylabel()][0] == "accuracy"
    assert texts_do_not_overlap(figure, [panel.xaxis.label for panel in shown])


def test_the_lines_of_each_panel_are_its_pairs() -> None:
    seen = made_up(4)
    figure = draw_interpolation({"a": seen, "b": made_up(2)}, "test")
    shown = [panel for panel in figure.axes if panel.lines]
    assert len(shown) == 4
    assert shown[1].get_xlabel() == "from task 12 degrees\nto task 24 degrees"
    for row in (0, 1):
        assert shown[1].lines[row].get_ydata().tolist() == seen.lines[1].accuracy[row].tolist()  # type: ignore[union-attr]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "test images of the task on the left", "test images of the task on the right", "chance",
    ]  # fmt: skip
    assert task_numbers(seen)["tensors"]["scale"]["ratio"] is None


def test_few_tensors_are_bars_and_many_a_line() -> None:
    (panel,) = draw_spread({"few": made_up(3)}, "tasks").axes
    assert [label.get_text() for label in panel.get_yticklabels()][:2] == ["layers.0.weight", "layers.0.bias"]
    widths = {round(bar.get_y() + 0.35): bar.get_width() for bar in panel.patches}  # type: ignore[attr-defined]
    assert [widths[n] for n in range(6)] == pytest.approx([0.3, 0.3, 1.3, 1.3, 2.3, 2.3])
    assert "none" in [text.get_text().strip() for text in panel.texts], "a tensor of one number has no ratio"
    assert panel.get_xlim()[1] > 2.3
    many = draw_spread({"many": made_up(3, 20), "few": made_up(3)}, "tasks")
    assert [len(line.get_xdata()) for line in many.axes[0].lines] == [20, 21, 2]  # type: ignore[arg-type]
    assert picture(many, "png").startswith(b"\x89PNG")


def test_bars_of_all_runs_have_one_scale_and_nothing_is_cut_off() -> None:
    label = "hypermlp beta=0.01 order=continual kind=constant, continual"
    high, low = made_up(5), made_up(5)
    high.spread["layers.1.weight"] = Spread(900.0, 0.5)
    low.spread["layers.1.bias"] = Spread(math.nan, math.nan)
    figure = draw_spread({label: high, "two": low}, "tasks")
    for panel in figure.axes:
        assert panel.get_xlim() == pytest.approx((0, 1.12 * 1800)), "the longest bar of any run fits"
    assert "not finite" in [text.get_text().strip() for text in figure.axes[1].texts]
    assert texts_outside(figure) == []
    right = figure.axes[0].bbox.x1
    assert all(text.get_window_extent().x1 <= right + 1 for panel in figure.axes for text in panel.texts)
    lines = draw_spread({"many": made_up(3, 20), "few": low}, "images")
    assert [panel.get_ylim() for panel in lines.axes] == [(0, 1.06 * 19.3)] * 2


def test_many_tasks_leave_room_for_the_whole_title() -> None:
    for tasks in (2, 12, 45):
        found = {"hypermlp beta=0.01 order=continual kind=constant, continual": made_up(tasks), "two": made_up(tasks)}
        figure = draw_task_similarity(found)
        assert texts_outside(figure) == []
        first, second = (panel._left_title for panel in figure.axes[:2])  # type: ignore[attr-defined]
        assert not first.get_window_extent().overlaps(second.get_window_extent()), "side by side"
        assert texts_outside(draw_interpolation(found, "val")) == []


def test_long_names_are_cut() -> None:
    assert shortened("0, 1") == "0, 1"
    assert shortened("apple, aquarium_fish, baby") == "apple, aquarium_fis…"
