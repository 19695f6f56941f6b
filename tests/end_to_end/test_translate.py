"""hyperrun translate: sentences from the line, a file and standard input."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hyperrun.cli import main
from tests.end_to_end.test_text_runs import PLAIN
from tests.end_to_end.test_translation_runs import LINE, write_pairs
from tests.running import Running, leftovers

pytestmark = pytest.mark.slow  # trains a model

Here = Callable[..., Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short run, whose data are gone: its pieces are in its checkpoint."""
    place = tmp_path_factory.mktemp("translate")
    write_pairs(place)
    (place / "here").mkdir()
    running = Running("train", *LINE, "model=seq2seq", cwd=place / "here", env=PLAIN)
    assert running.wait() == 0, running.err
    for name in ("a.txt", "b.txt"):
        (place / name).unlink()
    return running.folder


TEXTS = ["a dog runs", "", "two children", "☃"]


def test_sentences_of_the_line(here: Here, run: Path) -> None:
    lines = here("translate", run, *TEXTS).out.split("\n")
    assert len(lines) == 4 + 1 and lines[0] and lines[1] == "" and lines[2]
    assert here("translate", run, TEXTS[0]).out == lines[0] + "\n", "it stands alone as it stands beside others"
    assert here("translate", run, TEXTS[0], "--beam", 2).out == lines[0] + "\n", "the run's own beam"


def test_a_file_gives_what_the_line_gives(here: Here, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "sentences.txt.gz"
    path.write_bytes(gzip.compress("\n".join(TEXTS).encode()))
    assert here("translate", run, "--file", path).out == here("translate", run, *TEXTS).out


def test_standard_input_is_answered_line_by_line(here: Here, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is answered before the next is read."""
    answered: list[str] = []
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)

    class Typing:
        @property
        def buffer(self) -> Iterator[bytes]:
            for text in TEXTS:
                yield f"{text}\r\n".encode()
                answered.append(out.getvalue())
            yield b"caf\xe9"

    monkeypatch.setattr("sys.stdin", Typing())
    assert main(["translate", str(run)]) == 0
    assert [said.count("\n") for said in answered] == [1, 2, 3, 4] and out.getvalue().count("\n") == 5
    monkeypatch.undo()
    monkeypatch.chdir(run)
    assert answered[-1] == here("translate", run, *TEXTS).out


def test_the_n_best_with_their_scores(here: Here, run: Path) -> None:
    line = ("translate", run, *TEXTS, "--beam", 3, "--nbest", 3)
    said = [row.split("\t") for row in here(*line, "--scores").out.splitlines()]
    assert [row[0] for row in said] == ["1"] * 3 + [""] + ["3"] * 3 + ["4"] * 3, "an empty sentence has an empty line"
    for number in ("1", "3", "4"):
        scores = [float(row[1]) for row in said if row[0] == number]
        assert scores == sorted(scores, reverse=True)
        assert all(float(row[2]) < 0 for row in said if row[0] == number)
    assert [row.split("\t")[-1] for row in here(*line).out.splitlines()] == [row[-1] for row in said]
    objects = [json.loads(row) for row in here(*line, "--json").out.splitlines()]
    assert [one["source"] for one in objects] == TEXTS
    assert [best["text"] for one in objects for best in one["translations"]] == [
        row[-1] for row in said if len(row) > 1
    ]


def test_the_search_follows_its_options(here: Here, run: Path) -> None:
    def best(*words: object) -> dict[str, Any]:
        return json.loads(here("translate", run, TEXTS[0], "--json", *words).out)["translations"][0]

    plain = best("--alpha", 0, "--beta", 0)
    assert plain["score"] == pytest.approx(plain["log_probability"])
    normalized = best("--alpha", 1, "--beta", 0)
    assert normalized["score"] > normalized["log_probability"]


def test_the_attention_is_drawn(here: Here, run: Path, tmp_path: Path) -> None:
    done = here("translate", run, "a dog runs", "--attention", tmp_path / "a.png")
    assert done.out == here("translate", run, "a dog runs").out and str(tmp_path / "a.png") in done.err
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.width > 100
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--beam", 0], "--beam must be at least 1"),
        (["a", "--nbest", 3], "--nbest must be from 1 to the beam, which is 2"),
        (["a", "--alpha", -1], "--alpha must be a number that is not negative"),
        (["a", "--beta", "nan"], "--beta must be a number that is not negative"),
        (["a", "--file", "b"], "TEXT and --file both"),
        (["--file", "nothing"], "there is no file nothing"),
        (["a", "b", "--attention", "a.png"], "--attention draws one sentence"),
        (["a", "--attention", "a.jpg"], "ends in .png"),
        (["", "--attention", "a.png"], "an empty sentence"),
        (["a", "--attention", "none/a.png"], "cannot write none/a.png"),
        (["a", "--bream", 3], "did you mean '--beam'"),
    ],
)
def test_bad_input_is_one_line(here: Here, run: Path, words: list[object], message: str) -> None:
    done = here("translate", run, *words, status=2)
    assert message in done.err and done.err.count("\n") == 1 and done.out == ""
