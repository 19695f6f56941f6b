"""Language models from the command line: trained, killed, resumed, evaluated, and asked for a text."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import (
    QUIET,
    Running,
    assert_same_run,
    checkpoint,
    rows,
    summary,
)

Here = Callable[..., Any]
Start = Callable[..., Running]

CHORUS = "".join(f"{n} bottles of beer on the wall, {n} bottles of beer.\n" for n in range(99, 0, -1))
"""About 4,700 characters, 26 different, that a model of 16 units learns something about in a second."""

LINE = (
    *QUIET,
    "data=text",
    "data.path=../chorus.txt",
    "data.sequence_length=20",
    "data.eval_streams=2",
    "data.eval_burn_in=30",
    "target.hidden_size=16",
    "trainer.batch_size=8",
    "trainer.max_steps=60",
    "trainer.log_every=5",
    "trainer.eval_every=7",
    "trainer.save_every_s=0.02",
    "trainer.clip_norm=1.0",
)
HYPER = (*LINE, "model=lnhyperlstm", "hypernet.hyper_size=6", "hypernet.z_dim=2", "hypernet.recurrent_dropout=0.1")
PLAIN = {"HYPERRUN_COMPILE_PHASES": "0"}
"""Compiling takes longer than these runs."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of a layer-norm HyperLSTM."""
    place = tmp_path_factory.mktemp("text")
    (place / "chorus.txt").write_text(CHORUS)
    (place / "here").mkdir()
    running = Running("train", *HYPER, cwd=place / "here", env=PLAIN)
    assert running.wait() == 0, running.err
    return running.folder


@pytest.fixture
def chorus(tmp_path: Path) -> Path:
    path = tmp_path / "chorus.txt"
    path.write_text(CHORUS)
    return path


# ---------------------------------------------------------------- a run


def test_a_run_learns_and_ends_in_a_table_and_a_sample(trained: Path) -> None:
    said, log = summary(trained), (trained / "train.log").read_text()
    assert said["status"] == "finished" and (said["metric"], said["task"]) == ("bpc", "language_modeling")
    assert 0 < said["test/bpc"] < 4.5, "26 symbols at random are 4.7 bits each"
    assert said["test/bpc"] == pytest.approx(said["test/loss"] / 0.6931471805599453)
    assert said["test/perplexity"] == pytest.approx(2 ** said["test/bpc"])
    assert said["throughput/tokens_per_s"] == pytest.approx(20 * said["throughput/examples_per_s"], rel=0.01)
    assert (said["data/vocabulary"], said["data/unit"]) == (len(set(CHORUS)), "char")
    assert said["params/generated"] == 4 * 16 * (26 + 16), "both matrices of the LSTM"
    assert "240 characters of its own" in log
    assert "test bpc" in log.replace("│", " ") or "bpc" in log
    trajectory = [row["val/bpc"] for row in rows(trained) if "val/bpc" in row]
    assert trajectory[-1] < trajectory[0] - 0.3


@pytest.mark.parametrize("model", ["rnn", "hyperrnn", "lstm", "lnlstm", "hyperlstm", "lnhyperlstm"])
def test_every_model_trains_with_two_layers(
    here: Here, chorus: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    chorus.rename(chorus.parent.parent / "chorus.txt")
    here("train", *LINE, f"model={model}", "target.layers=2", "trainer.max_steps=30")
    (folder,) = Path("outputs/text").iterdir()
    assert folder.name.startswith(f"{model}-s0-")
    said = summary(folder)
    assert said["model"] == model and said["test/bpc"] < 4.7
    assert (said["params/generated"] > 0) == ("hyper" in model)


def test_words_are_measured_in_perplexity(here: Here, chorus: Path) -> None:
    chorus.rename(chorus.parent.parent / "chorus.txt")
    done = here("train", *LINE, "model=lstm", "data.unit=word", "target.embedding=16", "target.tied=true")
    (folder,) = Path("outputs/text").iterdir()
    assert summary(folder)["metric"] == "perplexity" and "240 words of its own" in done.out
    assert not [key for row in (*rows(folder), summary(folder)) for key in row if "bpc" in key], "not characters"
    said = here("sample", folder, "--prompt", "  ", "--length", "3", "--temperature", "0").out
    assert said.split() == here("sample", folder, "--length", "3", "--temperature", "0").out.split()


def test_the_fast_path_says_why_it_is_not_fast(start: Start, chorus: Path) -> None:
    running = start("train", *[w.replace("../", "") for w in HYPER], "trainer.max_steps=2", env=PLAIN)
    assert running.wait() == 0
    assert (running.out + running.err).count("HYPERRUN_COMPILE_PHASES=0") == 1


# ---------------------------------------------------------------- resume


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


@pytest.mark.parametrize("number", [1, 3])
def test_killed_and_resumed_is_the_run_at_one_go(start: Start, trained: Path, tmp_path: Path, number: int) -> None:
    """State, masks and all: a carried state that began anew would change every later bit."""
    line = (*HYPER, f"data.path={trained.parents[3] / 'chorus.txt'}")
    killed = start("train", *line, cwd=tmp_path / "here", env=PLAIN, before=DIE.format(number=number))
    assert killed.wait() == -signal.SIGKILL
    step = checkpoint(killed.folder / "checkpoints" / "last.pt")["loop"]["step"]
    assert 0 < step < 60
    done = start("train", *line, cwd=tmp_path / "here", env=PLAIN)
    assert done.wait() == 0, done.err
    assert f"resume   from step {step}" in done.out
    assert_same_run(done.folder, trained)


def test_a_checkpoint_holds_the_state_of_every_stream(trained: Path) -> None:
    state = checkpoint(trained / "checkpoints" / "last.pt")["task"]["state"]
    ((h, c, a, hyper_c),) = state
    assert (h.shape, c.shape, a.shape, hyper_c.shape) == ((8, 16), (8, 16), (8, 6), (8, 6))
    assert all(bool(part.abs().sum(1).gt(0).all()) for part in (h, c, a, hyper_c))


def test_a_text_that_has_changed_is_not_trained_on_further(start: Start, tmp_path: Path) -> None:
    text = tmp_path / "chorus.txt"
    text.write_text(CHORUS)
    killed = start("train", *HYPER, cwd=tmp_path / "here", env=PLAIN, before=DIE.format(number=1))
    assert killed.wait() == -signal.SIGKILL
    text.write_text(CHORUS[::-1])
    again = start("train", *HYPER, cwd=tmp_path / "here", env=PLAIN)
    assert again.wait() == 2
    assert again.err == "hyperrun: error: the text of data=text has changed since this run began; resume=never\n"
    text.write_text(CHORUS.replace("w", "v"))
    other = start("train", *HYPER, cwd=tmp_path / "here", env=PLAIN)
    assert other.wait() == 2
    assert "vocabulary" in other.err and other.err.count("\n") == 1


# ---------------------------------------------------------------- eval


def test_eval_gives_the_summarys_figures(here: Here, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    monkeypatch.chdir(trained.parents[2])
    found, said = json.loads(here("eval", trained, "--json").out), summary(trained)
    for split in ("val", "test"):
        assert found[split].keys() == {"loss", "bpc", "perplexity"}
        for name, value in found[split].items():
            assert value == pytest.approx(said[f"{split}/{name}"], rel=1e-6)


def test_the_whole_split_in_one_go(here: Here, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    monkeypatch.chdir(trained.parents[2])
    one = json.loads(here("eval", trained, "--streams", "1", "--json").out)
    two = json.loads(here("eval", trained, "--streams", "2", "--json").out)
    assert two["test"]["bpc"] == pytest.approx(summary(trained)["test/bpc"], rel=1e-6)
    assert one["test"]["bpc"] != two["test"]["bpc"], "without a burn-in that reaches to the beginning they differ"
    assert one["test"]["bpc"] == pytest.approx(two["test"]["bpc"], rel=0.02)
    wrong = here("eval", trained, "--streams", "0", status=2)
    assert wrong.err == "hyperrun: error: --streams must be at least 1, not 0\n"


@pytest.fixture
def changed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Return a function that puts another text in the place of the run's, until the test ends; it returns the run."""
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    file = trained.parents[3] / "chorus.txt"

    def change(text: str) -> Path:
        file.write_text(text)
        return trained

    yield change
    file.write_text(CHORUS)


def test_the_text_is_found_from_another_folder(here: Here, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    Path("../chorus.txt").resolve().unlink(missing_ok=True)
    found = json.loads(here("eval", trained, "--json").out)
    assert found["test"]["bpc"] == pytest.approx(summary(trained)["test/bpc"], rel=1e-6)


def test_eval_says_that_the_text_has_changed(here: Here, changed: Callable[[str], Path]) -> None:
    done = here("eval", changed(CHORUS[::-1]), "--json")
    assert done.err.startswith("hyperrun: warning: data=text has changed since this run was trained")
    assert json.loads(done.out)["test"]["bpc"] != summary(changed(CHORUS))["test/bpc"]


# ---------------------------------------------------------------- sample


@pytest.fixture
def sample(here: Here, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")
    monkeypatch.chdir(trained.parents[2])
    return lambda *words, **options: here("sample", trained, *words, **options)


def test_sample_writes_the_prompt_and_as_much_as_asked(sample: Callable[..., Any]) -> None:
    out = sample("--prompt", "99 bottles", "--length", "50", "--seed", "3").out
    assert out.startswith("99 bottles") and len(out) == len("99 bottles") + 50 + 1
    assert set(out) <= set(CHORUS)
    assert sample("--prompt", "99 bottles", "--length", "50", "--seed", "3").out == out
    assert sample("--prompt", "99 bottles", "--length", "50", "--seed", "4").out != out
    found = json.loads(sample("--prompt", "99 bottles", "--length", "50", "--seed", "3", "--json").out)
    assert found["text"] == out[:-1]


def test_temperature_zero_is_the_likeliest_and_has_no_luck(sample: Callable[..., Any]) -> None:
    cold = {sample("--temperature", "0", "--length", "40", "--seed", str(seed)).out for seed in range(3)}
    assert len(cold) == 1
    for little in ("1e-4", "1e-308"):
        assert {sample("--temperature", little, "--length", "40").out} == cold, "the limit is reached smoothly"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "Zażółć"], "unknown chars 'Z', 'ż', 'ó', 'ł', 'ć'"),
        (["--length", "0"], "--length must be at least 1, not 0"),
        (["--length", "many"], "invalid int value: 'many'"),
        (["--temperature", "-1"], "--temperature must not be negative, not -1"),
        (["--temperature", "nan"], "--temperature"),
        (["--temprature", "1"], "did you mean '--temperature'?"),
        (["--seed", "-1"], "--seed must be at least 0"),
    ],
)
def test_what_is_wrong_with_a_sample_is_said_in_one_line(
    sample: Callable[..., Any], words: list[str], message: str
) -> None:
    done = sample(*words, status=2)
    assert done.err.startswith("hyperrun: error: ") and done.err.count("\n") == 1
    assert message in done.err


def test_a_sample_needs_no_text(here: Here, changed: Callable[[str], Path]) -> None:
    run = changed(CHORUS)
    out = here("sample", run, "--length", "20").out
    (run.parents[3] / "chorus.txt").unlink()
    assert here("sample", run, "--length", "20").out == out


def test_a_terminal_that_lacks_a_character_shows_another(start: Start, trained: Path) -> None:
    text = json.dumps("".join(sorted(set(CHORUS))[:5]) + "é")
    running = start(
        *("sample", trained, "--length", "5"),
        env=PLAIN,
        before='import sys; sys.stdout.reconfigure(encoding="ascii"); '
        f"from hyperrun.data.vocabulary import Vocabulary; Vocabulary.decode = lambda self, ids: {text}",
    )
    assert running.wait() == 0, running.err
    assert running.out.endswith("?\n")


def test_sample_is_for_text(here: Here) -> None:
    here("train", *QUIET, "trainer.max_steps=2", "model=cnn")
    (folder,) = Path("outputs/digits").iterdir()
    done = here("sample", folder, status=2)
    assert done.err.count("\n") == 1 and "models text" in done.err


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.sequence_length=9000"], "fewer than one chunk of data.sequence_length=9000"),
        (["data.path=../empty.txt"], "empty.txt is empty"),
        (["data.path=../nowhere.txt"], "there is no file"),
        (["data.path=../latin.txt"], "is not utf-8: byte 0xe9 at position"),
        (["data.path=null"], "data=text needs data.path=FILE"),
        (["data=digits"], "recurrent"),
        (["model=lstm", "hypernet=static"], "hypernet"),
        (["target.cell=gru"], "target.cell"),
        (["hypernet.form=full"], "hypernet.form=full"),
    ],
)
def test_what_is_wrong_with_a_run_is_said_in_one_line(here: Here, chorus: Path, words: list[str], message: str) -> None:
    outside = chorus.parent.parent
    chorus.rename(outside / "chorus.txt")
    (outside / "empty.txt").write_bytes(b"")
    (outside / "latin.txt").write_bytes(("café " * 2000).encode("latin-1"))
    line = [word for word in HYPER if not (words[0] == "data=digits" and word.startswith("data"))]
    done = here("train", *line, *words, status=2)
    assert done.err.startswith("hyperrun: error: ") and done.err.count("\n") == 1, done.err
    assert message in done.err
    assert not Path("outputs").exists() or not list(Path("outputs").glob("*/*/summary.json"))


def test_a_model_of_images_is_not_for_text(here: Here) -> None:
    for model in ("cnn", "hyperresnet"):
        done = here("train", *QUIET, f"model={model}", "data=pydocs", status=2)
        assert done.err.count("\n") == 1 and "does not take text" in done.err


def test_checkpoint_of_another_vocabulary(here: Here, changed: Callable[[str], Path]) -> None:
    done = here("eval", changed(CHORUS.replace("w", "v")), status=2)
    assert "vocabulary" in done.err and done.err.count("\n") == 1


# ---------------------------------------------------------------- two processes


def test_the_state_of_two_processes_goes_on_in_one(start: Start, tmp_path: Path) -> None:
    """Two processes share the streams; stopped and gone on by one, the run ends where one alone ends."""
    from tests.end_to_end.test_distributed import assert_close

    (tmp_path / "chorus.txt").write_text(CHORUS)
    line = [*LINE, "model=hyperlstm", "hypernet.hyper_size=6"]
    line += [f"target.{name}=0" for name in ("dropout_in", "dropout_out", "recurrent_dropout")]
    alone = start("train", *line, cwd=tmp_path / "alone", env=PLAIN)
    assert alone.wait() == 0, alone.err
    die = DIE.format(number=2)
    shared = PLAIN | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}
    ranks = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    both = [start("train", *line, cwd=tmp_path / "both", env=env, before=die) for env in ranks]
    both[0].until(lambda: both[0].poll() is not None)
    both[1].send(signal.SIGKILL)
    assert both[0].poll() == -signal.SIGKILL
    state = checkpoint(both[0].folder / "checkpoints" / "last.pt")["task"]["state"]
    assert state[0][0].shape == (8, 16), "the rows of both"
    done = start("train", *line, cwd=tmp_path / "both", env=PLAIN)
    assert done.wait() == 0, done.err
    assert_close(done.folder, alone.folder)
