"""Models of pen strokes from the command line: what they draw, and what can be seen in them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hyperrun.analyze.recurrent.pen_strip import COLD
from tests.end_to_end.test_text_runs import CHORUS, PLAIN
from tests.end_to_end.test_text_runs import LINE as TEXT
from tests.running import QUIET, leftovers, train_in

pytestmark = pytest.mark.slow  # trains three models

Here = Callable[..., Any]

LINE = (*QUIET, "data=font_strokes", "target.hidden_size=8", "target.mixtures=2", "trainer.max_steps=3")
LINES = {
    "lstm": ("model=lstm", *LINE),
    "hyperlstm": ("model=hyperlstm", *LINE, "hypernet.hyper_size=6", "hypernet.z_dim=2"),
    "text": ("model=lstm", *TEXT, "trainer.max_steps=3"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the run folders of LINES."""
    place = tmp_path_factory.mktemp("strokes")
    (place / "chorus.txt").write_text(CHORUS)
    found = {}
    for name, line in LINES.items():
        found[name] = train_in(place / name, *line, env=PLAIN)
    return found


def test_a_sample_is_a_png_and_an_svg(here: Here, runs: dict[str, Path]) -> None:
    folder = runs["hyperlstm"]
    said = here("sample", folder, "--svg").out.splitlines()
    assert said[:2] == [str(folder / "samples.png"), str(folder / "samples.svg")]
    assert said[2].startswith("8 drawings of 9") and said[2].endswith("points, at temperature 0.5")
    with Image.open(folder / "samples.png") as image:
        assert image.width == 1600
    texts = [text.text for text in ET.parse(folder / "samples.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert [str(n) for n in range(1, 9)] == [text for text in texts if str(text).isdigit()]
    assert sum(text in ("i", "g", "f", "o") for text in texts) == 4 * 8, "a strip of four rows below each"
    assert leftovers(folder) == []


def test_a_seed_draws_the_same_and_another_others(here: Here, runs: dict[str, Path], tmp_path: Path) -> None:
    def drawn(*words: str) -> bytes:
        found = json.loads(
            here("sample", runs["lstm"], "--n", "2", "--length", "20", "--out", "a.png", "--svg", "--json", *words).out
        )
        assert found == {
            "run": str(runs["lstm"]), "path": "a.png", "svg": "a.svg", "sequences": 2, "points": 20,
        }  # fmt: skip
        return (tmp_path / "a.svg").read_bytes()

    assert drawn() == drawn("--seed", "0") != drawn("--seed", "1")
    assert drawn() != drawn("--temperature", "1")
    assert b"W_h" not in drawn()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n", "0"], "--n must be from 1 to 64, not 0"),
        (["--n", "65"], "--n must be from 1 to 64, not 65"),
        (["--length", "0"], "--length must be at least 1, not 0"),
        (["--temperature", "nan"], "--temperature must not be negative, not nan"),
        (["--temperature", "inf"], "--temperature must be finite"),
        (["--prompt", "a"], "--prompt is for runs on text, and this one is on pen strokes"),
        (["--columns", "3"], "--columns is for runs of a hypersiren, and this one is on pen strokes"),
        (["--out", "a.svg"], "--out must be a file that ends in .png, not a.svg"),
        (["--out", "nowhere/a.png"], "cannot write nowhere/a.png: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(here: Here, runs: dict[str, Path], words: list[str], message: str) -> None:
    done = here("sample", runs["lstm"], *words, status=2)
    assert message in done.err and done.err.count("\n") == 1


def test_options_of_strokes_are_of_strokes_only(here: Here, runs: dict[str, Path]) -> None:
    for words, whose in ((["--svg"], "pen strokes"), (["--n", "3"], "pen strokes")):
        done = here("sample", runs["text"], *words, status=2)
        assert f"{words[0]} is for runs on {whose}, and this one is on text" in done.err
    done = here("sample", runs["text"], "--out", "a.png", status=2)
    assert "--out is for runs of a hypersiren or runs on pen strokes, and this one is on text" in done.err


def test_models_are_analyzed_side_by_side(
    here: Here, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = here("analyze", *runs.values(), "--symbols", "300", "--split", "test", "--out", "seen")
    names = {path.name for path in (tmp_path / "seen").iterdir()}
    assert names == {
        "hidden_activations.png", "gates.png", "hidden_activations_strokes.png", "gates_strokes.png",
        "next_point-font_strokes_lstm.png", "next_point-hyperlstm.png", "weight_changes-hyperlstm.png",
        "weight_changes-hyperlstm.html", "analysis.json",
    }  # fmt: skip
    found = json.loads((tmp_path / "seen" / "analysis.json").read_text())["strokes"]
    assert list(found) == ["font_strokes lstm", "hyperlstm"]
    assert found["hyperlstm"]["strokes"]["split"] == "test" and found["hyperlstm"]["strokes"]["points"] >= 300
    table = done.out.splitlines()
    head = next(n for n, line in enumerate(table) if line.endswith("nats/point"))
    assert table[head - 1].startswith("saturated beyond 0.95") and table[head - 1].endswith("points of test")
    assert table[head + 2].split()[-1] == f"{found['hyperlstm']['nats_per_point']:.3f}"
    assert "bits/symbol" in done.out and f"the first {COLD} of each line" in (
        tmp_path / "seen" / "weight_changes-hyperlstm.html"
    ).read_text().replace("\n", " ")
