"""hyperrun ls: every choice on one line, counted; the paper's rows with the paper's numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import REPO, Running

Here = Callable[..., Any]

COUNTS = {"params/trainable", "params/generated", "params/free", "params/target", "params/compression"}

RECURRENT = {"rnn", "hyperrnn", "lstm", "lnlstm", "hyperlstm", "lnhyperlstm"}

GROUPS = {
    "models": ("model", ["cnn", "hypercnn", "hypermlp", "hyperresnet", "hypersiren", "mlp", "resnet", *RECURRENT]),
    "targets": ("target", ["cnn", "mlp", "recurrent", "siren", "torchvision", "wide_resnet"]),
    "hypernets": ("hypernet", ["auto_decoder", "dynamic", "none", "static"]),
    "data": (
        "data",
        ["cifar10", "cifar100", "digits", "fashion_mnist", "image_folder", "mnist", "split_digits", "svhn"],
    ),
    "optim": ("optim", ["adam", "adamw", "muon", "sgd"]),
    "experiments": ("experiment", ["ha2016/mnist_cnn", "ha2016/mnist_hypercnn"]),
    "sweeps": ("sweep", ["equal_params", "layers", "width", "z_dim"]),
}
"""Word -> its folder under conf/, and names that must be there."""


def names_in(folder: str) -> list[str]:
    root = REPO / "conf" / folder
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("[!_]*.yaml"))


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Return everything `hyperrun ls --json` lists."""
    running = Running("ls", "--json", cwd=tmp_path_factory.mktemp("ls"))
    assert running.wait() == 0 and running.err == ""
    return json.loads(running.out)


@pytest.mark.slow
@pytest.mark.parametrize("what", GROUPS)
def test_json_of_each_group(here: Here, listing: dict[str, Any], what: str) -> None:
    folder, some = GROUPS[what]
    found = listing[what]
    if what not in ("models", "experiments"):  # those take a second to count
        assert json.loads(here("ls", what, "--json").out) == found, "one group is a list"
    assert [entry["name"] for entry in found] == names_in(folder)
    assert set(some) <= {entry["name"] for entry in found}
    assert all(entry["about"] for entry in found), "each says in a few words what it is"
    if what in ("models", "experiments"):
        for entry in found:
            assert COUNTS <= entry.keys()
            assert entry["params/target"] == entry["params/generated"] + entry["params/free"]
            assert entry["params/compression"] == pytest.approx(
                entry["params/target"] / entry["params/trainable"], abs=1e-4
            )
            hyper = "hyper" in entry["name"] or entry["name"].startswith(("tasks/", "compression/"))
            assert (entry["params/generated"] > 0) == (hyper and entry["name"] != "compression/direct")


PAPER = {
    "ha2016/mnist_cnn": (21_210, 12_544, 0.72),
    "ha2016/mnist_hypercnn": (12_910, 4_244, 0.76),
    "ha2016/cifar10_wrn40_1": (562_762, 563_000, 6.73),
    "ha2016/cifar10_hyperresnet40_1": (96_602, 97_000, 8.02),
    "ha2016/cifar10_wrn40_2": (2_235_530, 2_236_000, 5.66),
    "ha2016/cifar10_hyperresnet40_2": (147_610, 148_000, 7.23),
}
"""Experiment -> parameters in all (issue 2), the count as printed in the paper, its test error in percent."""


@pytest.mark.slow
def test_experiments_have_the_papers_numbers(listing: dict[str, Any]) -> None:
    found = {entry["name"]: entry for entry in listing["experiments"]}
    assert PAPER.keys() <= found.keys()
    for name, (trainable, printed, error) in PAPER.items():
        entry = found[name]
        assert entry["params/trainable"] == trainable, name
        assert entry["paper/params"] == printed, name
        assert (entry["paper/metric"], entry["paper/value"]) == ("test_error", error), name
        # what we count of the same thing: the whole model, rounded as printed, or the one kernel the paper counts
        ours = entry["params/counted"]
        assert (round(ours, -3) if printed >= 97_000 else ours) == printed, name
    assert found["ha2016/mnist_hypercnn"]["paper/part"] == "conv2.weight"


LANGUAGE = {
    "ha2016/ptb_lstm1000": (4_254_050, 4.25, 1.312),
    "ha2016/ptb_lstm1250": (6_567_550, 6.57, 1.306),
    "ha2016/ptb_lstm1000x2": (12_258_050, 12.26, 1.281),
    "ha2016/ptb_lnlstm1000": (4_260_050, 4.26, 1.267),
    "ha2016/ptb_hyperlstm1000": (4_911_874, 4.91, 1.265),
    "ha2016/ptb_lnhyperlstm1000": (4_922_642, 4.92, 1.250),
    "ha2016/ptb_lnhyperlstm1000_z16": (5_085_170, 5.06, 1.233),
    "ha2016/ptb_lnhyperlstm1000x2": (14_406_690, 14.41, 1.219),
    "ha2016/enwik8_lstm1800": (14_812_405, 14.81, 1.470),
    "ha2016/enwik8_lstm2000": (18_058_205, 18.06, 1.461),
    "ha2016/enwik8_lnlstm1800": (14_823_205, 14.82, 1.402),
    "ha2016/enwik8_hyperlstm1800": (18_708_213, 18.71, 1.391),
    "ha2016/enwik8_lnhyperlstm1800": (18_727_749, 18.78, 1.353),
    "ha2016/enwik8_lnhyperlstm2048": (26_539_725, 26.54, 1.340),
}
"""Experiment -> our parameters, millions as printed in the paper, its test bits per character."""
SLIPS = {"ha2016/ptb_lnhyperlstm1000_z16": 5.09, "ha2016/enwik8_lnhyperlstm1800": 18.73}
"""Where the printed count is not what the paper's own description gives: millions by arithmetic."""


@pytest.mark.slow
def test_language_models_have_the_papers_numbers(listing: dict[str, Any]) -> None:
    found = {entry["name"]: entry for entry in listing["experiments"]}
    assert {name for name in found if "/ptb" in name or "/enwik8" in name} == LANGUAGE.keys()
    for name, (trainable, printed, value) in LANGUAGE.items():
        entry = found[name]
        assert entry["params/trainable"] == trainable, name
        assert entry["paper/params"] == pytest.approx(printed * 1e6), name
        assert (entry["paper/metric"], entry["paper/value"]) == ("test_bpc", value), name
        assert round(trainable / 1e6, 2) == SLIPS.get(name, printed), name


STROKES = {
    "ha2016/iam_lstm900": (3_363_421, 3.36, -1055),
    "ha2016/iam_lstm1000": (4_137_121, 4.14, -1048),
    "ha2016/iam_lstm400x3": (3_258_121, 3.26, -1068),
    "ha2016/iam_lstm650x2": (5_161_771, 5.16, -1135),
    "ha2016/iam_lnlstm900": (3_368_821, 3.37, -1096),
    "ha2016/iam_lnlstm1000": (4_143_121, 4.14, -1106),
    "ha2016/iam_lnhyperlstm900": (3_950_949, 3.95, -1067),
    "ha2016/iam_hyperlstm900": (3_941_181, 3.94, -1162),
    "ha2016/iam_lstm900_plain": (3_363_421, 3.36, -1026),
    "ha2016/iam_lstm400x3_plain": (3_258_121, 3.26, -1039),
}
"""Experiment -> our parameters, millions as printed in the paper, its nats of a validation line."""


@pytest.mark.slow
def test_models_of_strokes_have_the_papers_numbers(listing: dict[str, Any]) -> None:
    found = {entry["name"]: entry for entry in listing["experiments"]}
    assert {name for name in found if "/iam" in name} == STROKES.keys()
    for name, (trainable, printed, value) in STROKES.items():
        entry = found[name]
        assert entry["params/trainable"] == trainable, name
        assert entry["paper/params"] == pytest.approx(printed * 1e6) and round(trainable / 1e6, 2) == printed, name
        assert (entry["paper/metric"], entry["paper/value"]) == ("val_nats", value), name


@pytest.mark.slow
def test_pairs_of_experiments_have_the_same_target(listing: dict[str, Any]) -> None:
    found = {entry["name"]: entry for entry in listing["experiments"]}
    for generated, direct in [("mnist_hypercnn", "mnist_cnn"), ("cifar10_hyperresnet40_2", "cifar10_wrn40_2")]:
        ours, theirs = found[f"ha2016/{generated}"], found[f"ha2016/{direct}"]
        assert ours["params/target"] == theirs["params/target"] == theirs["params/trainable"]


@pytest.mark.slow
def test_compression_experiments_are_of_one_target(here: Here, listing: dict[str, Any]) -> None:
    found = {entry["name"]: entry for entry in listing["experiments"]}
    assert found["compression/direct"]["params/trainable"] == 691_386
    for name in ("compression/static", "compression/chunked"):
        assert (found[name]["params/target"], found[name]["params/generated"]) == (691_386, 677_376)
    # what the files' headers say
    static, chunked = (f"experiment=compression/{name}" for name in ("static", "chunked"))
    for line, ends in (
        (f"{static} hypernet.z_dim=4,256", ["16,226", "1,178,954"]),
        (f"{chunked} hypernet.chunk_size=288,4608", ["38,010", "314,970"]),
    ):
        out = here("train", "-m", *line.split(), "--dry-run").out
        header = (REPO / "conf" / "experiment" / f"{line.split()[0].removeprefix('experiment=')}.yaml").read_text()
        assert all(f" {count} " in out and count in header for count in ends)


@pytest.mark.slow
def test_models_are_counted_for_the_data_asked_for(here: Here, listing: dict[str, Any]) -> None:
    digits = {entry["name"]: entry for entry in json.loads(here("ls", "models", "--data", "digits", "--json").out)}
    cifar = {entry["name"]: entry for entry in listing["models"]}
    assert digits["hypercnn"]["params/trainable"] == 5710
    # the modern Wide ResNet 40-2: 2,243,546 and 155,626 for CIFAR-10 (paper_facts.md, 1.5)
    assert (cifar["resnet"]["params/trainable"], cifar["hyperresnet"]["params/trainable"]) == (2_243_546, 155_626)
    assert {entry["data"] for entry in digits.values()} == {"digits", "ptb_char", "number_words"}
    assert {name for name, entry in digits.items() if entry["data"] == "ptb_char"} == RECURRENT
    words = {entry["name"]: entry for entry in json.loads(here("ls", "models", "--text", "ptb", "--json").out)}
    assert {entry["data"] for entry in words.values()} == {"cifar10", "ptb", "number_words"}
    assert words["lstm"]["params/trainable"] == 4 * 256 * (10_000 + 256 + 1) + 257 * 10_000


@pytest.mark.slow
def test_json_of_several_groups_is_an_object(here: Here, listing: dict[str, Any]) -> None:
    assert list(json.loads(here("ls", "hypernets", "optim", "--json").out)) == ["hypernets", "optim"]
    assert list(listing) == list(GROUPS)


@pytest.mark.parametrize("columns", ["40", *(pytest.param(width, marks=pytest.mark.slow) for width in ("200", None))])
@pytest.mark.slow
def test_one_line_for_each_choice(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: str | None
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    out = here("ls").out
    lines = out.splitlines()
    wanted = {
        name: sum(name in names_in(folder) for folder, _ in GROUPS.values())
        for f, _ in GROUPS.values()
        for name in names_in(f)
    }
    firsts = [line.split()[0] for line in lines if line.strip()]
    assert {name: firsts.count(name) for name in wanted} == wanted
    headings = 2 * len(GROUPS)  # the group's title and its columns
    assert len([line for line in lines if line.strip()]) == sum(len(names_in(f)) for f, _ in GROUPS.values()) + headings
    row = next(line for line in lines if line.startswith("ha2016/cifar10_hyperresnet40_2"))
    assert "147,610" in row and "2,235,530" in row and "7.23% error" in row and "148,000" in row
    assert not any(line != line.rstrip() and len(line) > 200 for line in lines), "padding would wrap a terminal's lines"
    assert "\x1b" not in out and list(tmp_path.iterdir()) == []


def test_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m hyperrun ls optim | true"
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stderr == ""
