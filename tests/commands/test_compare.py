"""hyperrun compare from the command line: files, mistakes in one line, real runs, a thousand folders."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.made_up_runs import made_up_run
from tests.running import FAST, REPO, Running

Here = Callable[..., Any]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Return ./outputs with two groups of two seeds, a failed run and a damaged one."""
    outputs = tmp_path / "outputs"
    for seed in (0, 1):
        made_up_run(outputs, "model=cnn", f"seed={seed}", test=0.97 + seed / 100, trainable=21210)
        made_up_run(outputs, "model=hypercnn", f"seed={seed}", test=0.94 + seed / 100, trainable=8000)
    made_up_run(outputs, "model=cnn", "seed=5", name="failed", status="failed", error="the loss is not finite")
    (made_up_run(outputs, "model=cnn", "seed=6", name="damaged") / "summary.json").write_text("{")
    return outputs


def test_the_table(here: Here, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    done = here("compare")
    lines = [line.split() for line in done.out.splitlines()]
    assert "1● cnn 21,210 4,000 0.19 96.50 ± 0.71 (2) 97.50 ± 0.71 (2) 60 epochs ≤2 5,000".split() in lines
    assert "2● hypercnn 8,000 4,000 0.50 93.50 ± 0.71 (2) 94.50 ± 0.71 (2) 60 epochs ≤2 5,000".split() in lines
    assert ["digits/failed", "failed", "100", "the", "loss", "is", "not", "finite"] in lines
    [warning] = done.err.splitlines()
    assert warning.startswith("hyperrun: warning: outputs/digits/damaged: summary.json cannot be read: ")
    assert here("compare", "outputs").out == here("compare", "outputs/digits").out == done.out


def test_where(here: Here, outputs: Path) -> None:
    found = json.loads(here("compare", "--where", "data=digits", "--where", "seed<1", "--json").out)
    assert [(g["label"], g["n"]) for g in found["comparisons"][0]["groups"]] == [("cnn", 1), ("hypercnn", 1)]
    assert found["unfinished"] == []


def test_files(here: Here, outputs: Path, tmp_path: Path) -> None:
    files = {"--plot": "p.png", "--html": "p.html", "--csv": "c.csv"}
    done = here("compare", *(word for pair in files.items() for word in pair), "--text-plot")
    assert [line.split() for line in done.out.splitlines()[-3:]] == [
        ["plot", "p.png"],
        ["page", "p.html"],
        ["csv", "c.csv"],
    ]
    assert "trainable parameters" in done.out and "  1● cnn: 97.50" in done.out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "p.html").read_text().startswith("<!DOCTYPE html>")
    assert [row["label"] for row in csv.DictReader((tmp_path / "c.csv").read_text().splitlines())] == [
        "cnn",
        "hypercnn",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "outputs", "p.html", "p.png"]
    for name, magic in (("P.SVG", b"<?xml"), ("q.pdf", b"%PDF")):
        here("compare", "--plot", name)
        assert (tmp_path / name).read_bytes().startswith(magic)


@pytest.mark.slow
def test_results(here: Here, outputs: Path, tmp_path: Path) -> None:
    made_up_run(outputs, "experiment=ha2016/mnist_hypercnn", test=0.9916, trainable=12910)
    (tmp_path / "R.md").write_text("# R\n")
    done = here("compare", "--results", "r.md", "--readme", "R.md", status=2)
    assert "--readme R.md: it needs regions, each between" in done.err
    assert not (tmp_path / "r.md").exists(), "nothing is written where not all can be"
    (tmp_path / "R.md").write_text("<!-- results: begin ha2016/mnist_* -->\n<!-- results: end -->\n")
    done = here("compare", "--results", "r.md", "--readme", "R.md")
    first, *others = done.out.splitlines()[-3:]
    assert first == "results r.md (4 runs of no experiment left out)"
    assert others == ["plot    r.png", "tables  R.md"]
    assert "| `ha2016/mnist_hypercnn` | 12,910 / 4,000 | 99.16 (1) | 99.24 |" in (tmp_path / "R.md").read_text()
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "r.md").read_text()
    assert "\n    hyperrun compare outputs --results r.md\n" in text
    assert "| `mnist_hypercnn` | 12,910 | 0.31 | 99.16 (1) | 99.24 | 4,244 (`conv2.weight`) | ≤ 20.0 s |" in text
    not_run = [line for line in text.splitlines() if "| not run |" in line]
    assert len(not_run) == len(list((REPO / "conf" / "experiment").rglob("[!_]*.yaml"))) - 1
    assert "| `cifar10_hyperresnet40_2` | 147,610 | 15.14 | not run | 92.77 | 148,000 |" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["R.md", "outputs", "r.md", "r.png"]


@pytest.mark.parametrize(
    ("flags", "start"),
    [(["--json"], "{"), (["--markdown"], "**digits: test accuracy"), (["--csv", "-"], "data,metric,label")],
)
def test_what_goes_to_other_programs_is_alone_on_standard_output(
    here: Here, outputs: Path, flags: list[str], start: str
) -> None:
    done = here("compare", *flags, "--plot", "p.svg")
    assert done.out.startswith(start) and "p.svg" not in done.out and "warning" in done.err


# ---------------------------------------------------------------- mistakes


MISTAKES = [
    (["nowhere"], "there is no folder nowhere"),
    (["output"], "there is no folder output; did you mean 'outputs'?"),
    (["--where", "hypernet.zdim=4"], "no run has the key 'hypernet.zdim'; did you mean 'hypernet.z_dim'?"),
    (["--where", "modle=cnn"], "no run has the key 'modle'; did you mean 'model'?"),
    (["--where", "seed~3"], "--where seed~3: must be KEY=VALUE, or with one of != < <= > >= between them"),
    (["--where", "seed=<3"], "--where seed=<3: "),
    (["--where", "seed<few"], "< compares numbers, and 'few' is none"),
    (["--where", "data=cifar10"], "none of 5 runs fulfils --where 'data=cifar10'"),
    (["--plot", "p.jpg"], "unknown kind of picture 'jpg'"),
    (["--plot", "no/p.png"], "--plot no/p.png: there is no folder no"),
    (["--results", "page.html"], "--results page.html: the page is Markdown, its name ends in .md"),
    (["--results", "no/p.md"], "--results no/p.md: there is no folder no"),
    (["--readme", "R.md"], "--readme has tables of the page that --results writes: it needs that, too"),
    (["--html", "outputs"], "--html outputs: is a folder"),
    (["--where", "status=failed", "--plot", "p.png"], "--plot needs a run that is finished; here is none"),
    (["--json", "--markdown"], "--json and --markdown cannot share standard output"),
    (["--json", "--text-plot"], "--json and --text-plot cannot share standard output"),
    (["--polt", "p.png"], "did you mean '--plot'?"),
]


@pytest.mark.parametrize(
    ("argv", "said"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_mistakes_are_one_line_and_status_2(here: Here, outputs: Path, argv: list[str], said: str) -> None:
    done = here("compare", *argv, status=2)
    [line] = done.err.splitlines()
    assert line.startswith("hyperrun: error: ") and said in line and done.out == ""
    assert not list(outputs.parent.glob("p*")), "nothing is left behind"


def test_without_runs(here: Here, tmp_path: Path) -> None:
    assert "there is no folder outputs; hyperrun train makes it" in here("compare", status=2).err
    (tmp_path / "outputs").mkdir()
    assert "there are no runs in outputs; hyperrun train makes them" in here("compare", status=2).err


# ---------------------------------------------------------------- for real


def test_real_runs_of_two_kinds_together(here: Here, start: Callable[..., Running], tmp_path: Path) -> None:
    for argv in (["model=cnn"], ["model=hypercnn"], ["model=hypercnn", "seed=1"], ["model=lstm", "data=pydocs"]):
        extra = ["target.hidden_size=8", "data.sequence_length=10"] if "model=lstm" in argv else []
        running = start("train", *argv, *FAST, *extra)
        assert running.wait() == 0, running.err
    found = json.loads(here("compare", "--json", "--html", "p.html", "--plot", "p.svg").out)
    assert found["unfinished"] == found["warnings"] == []
    digits, pydocs = found["comparisons"]
    groups = {group["label"]: group for group in digits["groups"]}
    assert groups["hypercnn"]["seeds"] == [0, 1] and groups["hypercnn"]["twin"] == "cnn" and pydocs["metric"] == "bpc"
    [path] = groups["cnn"]["runs"]
    summary = json.loads((tmp_path / path / "summary.json").read_text())
    assert groups["cnn"]["test/mean"] == summary["test/accuracy"]
    assert groups["cnn"]["params/trainable"] == summary["params/trainable"]
    assert groups["cnn"]["time/epoch_s"] > 0


def thousand(outputs: Path) -> None:
    """Make 200 groups of five seeds."""
    run = made_up_run(outputs, "model=hypercnn", "hypernet.z_dim=77", name="pattern", trainable=8000)
    config, summary = (run / "config.yaml").read_text(), json.loads((run / "summary.json").read_text())
    rows = (run / "metrics.jsonl").read_text() * 40  # as long as a real one
    for i in range(999):
        folder = run.parent / f"hypercnn-s{i % 5}-{i:08x}"
        folder.mkdir()
        text = config.replace("z_dim: 77", f"z_dim: {100 + i // 5}").replace("\nseed: 0\n", f"\nseed: {i % 5}\n")
        (folder / "config.yaml").write_text(text)
        facts = summary | {"seed": i % 5, "test/accuracy": 0.5 + i / 3000, "params/trainable": 9000 + 40 * (i // 5)}
        (folder / "summary.json").write_text(json.dumps(facts))
        (folder / "metrics.jsonl").write_text(rows)


@pytest.mark.slow
def test_a_thousand_run_folders_in_three_seconds(tmp_path: Path) -> None:
    """From the start of the interpreter to its end; the better of three, as other tests may be running beside."""
    thousand(tmp_path / "outputs")
    command, times, printed = [sys.executable, "-m", "hyperrun", "compare", "--json"], [], ""
    while not times or (min(times) >= 3 and len(times) < 3):
        begin = time.perf_counter()
        printed = subprocess.check_output(command, cwd=tmp_path, env=_environment(), text=True)
        times.append(time.perf_counter() - begin)
    groups = json.loads(printed)["comparisons"][0]["groups"]
    assert len(groups) == 201 and sum(group["n"] for group in groups) == 1000
    assert min(times) < 3, times


def test_neither_torch_nor_matplotlib_is_loaded_for_a_table(outputs: Path) -> None:
    code = (
        "import sys; from hyperrun.cli import main; main(['compare'])\n"
        "assert not {'torch', 'matplotlib', 'wandb', 'numpy'} & set(sys.modules), 'loaded'"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=outputs.parent, env=_environment(), capture_output=True, check=True
    )


def test_a_reader_that_goes_away(outputs: Path) -> None:
    command = f"{sys.executable} -m hyperrun compare --json | head -n 1"
    done = subprocess.run(command, shell=True, cwd=outputs.parent, env=_environment(), capture_output=True, text=True)
    assert done.stdout == "{\n" and "Traceback" not in done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO)}
