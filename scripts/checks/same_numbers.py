"""What scripts/same_numbers runs: do two commits train the same numbers? The proof that a refactoring owes.

Each family is trained for some steps with each commit's own code, through its command line alone, and both run folders
are compared: their names (the hash of the config), the rows of metrics.jsonl, the figures of summary.json, everything
in best.pt, and the weights and the optimizers' states in last.pt. Figures and tensors have to be equal to the bit; what
a clock measured is left out. Only data that come with the installed packages are used, so nothing is downloaded.

Exit status: 0 all equal, 1 something differs or failed, 2 asked for something impossible.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from run_differences import Comparison, compare_runs

REPO = Path(__file__).resolve().parents[2]
CODE = ("hyperrun", "conf")
"""The folders of a commit that training needs."""
PRECISIONS = ("float32", "bf16")

COMMON = (
    "seed=3",
    "trainer.log_every=1",
    "trainer.batch_size=8",
    "trainer.eval_batch_size=90",
    "trainer.accumulate=2",
    "trainer.clip_norm=0.1",
    "trainer.ema=0.9",
    "tracking.wandb.mode=disabled",
)
TEXT = (
    "data=pydocs",
    "data.sequence_length=8",
    "data.val_fraction=0.001",
    "data.test_fraction=0.001",
    "data.eval_streams=4",
    "data.eval_burn_in=10",
    "target.hidden_size=32",
)
HYPER = (*TEXT, "hypernet.hyper_size=16", "hypernet.recurrent_dropout=0.1")

STROKES = (
    *(
        "data=font_strokes",
        "target.hidden_size=32",
        "target.mixtures=5",
        "data.scale=0.1",
        "trainer.eval_batch_size=50",
    ),
    *("trainer.ema=0", "trainer.accumulate=1"),
)

FAMILIES: dict[str, tuple[str, ...]] = {
    "cnn": (
        *("model=cnn", "optim=sgd", "schedule=one_cycle", "trainer.label_smoothing=0.1"),
        *("data.crop_padding=1", "data.flip=true", "data.cutout=2"),
    ),
    "hypercnn": ("model=hypercnn", "optim=adamw", "schedule.warmup_steps=4"),
    "hyperresnet": (
        *("model=hyperresnet", "target.depth=10", "target.width=1", "target.dropout=0.1", "hypernet.z_dim=8"),
        *("optim.generated_l2=1e-4", "schedule=multi_step"),
    ),
    "resnet18_chunked": (
        *("target=torchvision", "target.name=resnet18", "target.small_images=false", "hypernet=chunked"),
        *("data.val_size=20", "trainer.ema=0", "trainer.accumulate=1"),
    ),
    "lstm": ("model=lstm", *TEXT, "target.layers=2", "optim=muon"),
    "lnlstm": ("model=lnlstm", *TEXT, "target.embedding=32", "target.tied=true"),
    "hyperlstm": ("model=hyperlstm", *HYPER),  # z_dim=4: the phases make the scaling vectors themselves
    "hyperlstm_z16": ("model=hyperlstm", *HYPER, "hypernet.z_dim=16"),  # above 8 a product of its own makes them
    "hyperlstm_readable": ("model=hyperlstm", *HYPER, "hypernet.fast=never"),
    "lnhyperlstm": ("model=lnhyperlstm", *HYPER, "hypernet.z_from=previous"),
    "lnhyperlstm_z16": ("model=lnhyperlstm", *HYPER, "hypernet.z_dim=16", "target.layers=2"),
    "hyperrnn_scaled": ("model=hyperrnn", *TEXT, "hypernet.hyper_size=16"),
    "hyperrnn_full": ("model=hyperrnn", *TEXT, "hypernet.hyper_size=16", "hypernet.form=full"),
    "lnlstm_strokes": ("model=lnlstm", *STROKES, "data.sequence_length=30"),
    "hyperlstm_strokes": ("model=hyperlstm", *STROKES, "hypernet.hyper_size=16", "target.layers=2"),
    "hypermlp_joint": ("model=hypermlp", "data=split_digits", "target.hidden=[32]"),
    "hypermlp_continual": (
        *("model=hypermlp", "data=split_digits", "target.hidden=[32]", "data.order=continual", "schedule=constant"),
    ),
    "hypersiren": (
        *("model=hypersiren", "hypernet.z_dim=8", "hypernet.hidden=[32]", "hypernet.fit_steps=4"),
        *("hypernet.val_fit_steps=4", "hypernet.val_images=16", "hypernet.test_images=16", "hypernet.points=32"),
    ),
}
"""Name -> what is typed, besides COMMON, so that as much of the code as possible is on the way."""

SHORTER = {"resnet18_chunked": 6}
"""Family -> by how much its runs are shorter: a CPU without instructions for bf16 takes seconds for each step of it."""

NOT_COMPILED = ("hyperlstm_z16", "lnhyperlstm_z16")
"""Families whose phases run operator by operator: compiling takes 10 seconds a run, and two others show it."""

TRAINER = """
import json, os, sys, traceback
import hydra, omegaconf, rich.progress, sklearn.datasets, torch, torch._inductor.compile_fx, torchvision, wandb
import hyperrun
from hyperrun.cli import main

print(json.dumps(hyperrun.__file__), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    pid = os.fork()  # so that a run starts at once and inherits nothing of the one before
    if pid == 0:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(request["env"])
        status = 1
        try:
            status = main(request["argv"])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)
"""
"""The process of one commit: torch and the other packages are imported once, every run is a fork of it."""


class Refused(Exception):
    """What the user asked for cannot be done; the message says why."""


# ---------------------------------------------------------------- two commits' code


def code_of(revision: str, into: Path, repo: Path = REPO) -> str:
    """Write the code of a commit, or of the working tree for ".", below `into`; return its short name.

    Raises:
        Refused: there is no such commit, or no git checkout.
    """
    into.mkdir()
    if revision == ".":
        names = git(repo, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *CODE).split("\0")
        for name in filter(None, names):
            if (repo / name).is_file():  # deleted files are still in the index
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).write_bytes((repo / name).read_bytes())
        return f"the working tree at {git(repo, 'rev-parse', '--short', 'HEAD')}"
    try:
        commit = git(repo, "rev-parse", "--verify", "--quiet", "--short", f"{revision}^{{commit}}")
    except Refused:
        git(repo, "rev-parse", "--git-dir")  # says so if it is no checkout at all
        raise Refused(f"there is no commit '{revision}' in {repo}") from None
    archive = into / "code.tar"
    git(repo, "archive", "--output", str(archive), commit, "--", *CODE)
    subprocess.run(["tar", "-xf", archive, "-C", into], check=True)
    archive.unlink()
    return commit


def git(repo: Path, *args: str) -> str:
    """Return what a git command printed.

    Raises:
        Refused: it failed, or there is no git; with its own first line.
    """
    try:
        done = subprocess.run(["git", "-C", str(repo), *args], capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused("needs git, which is not on the PATH") from None
    if done.returncode:
        raise Refused((done.stderr.strip().splitlines() or [f"git {args[0]} failed"])[0])
    return done.stdout.strip()


class Trainer:
    """A process with one commit's code, which trains what it is told."""

    def __init__(self, code: Path, cwd: Path) -> None:
        cwd.mkdir()
        self.cwd = cwd
        hidden = ("HYPERRUN_", "HYDRA_", "WANDB_")  # the user's own settings are not to decide anything
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        environment |= {"PYTHONPATH": str(code), "WANDB_MODE": "disabled", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.errors: IO[str] = open(cwd / "errors.log", "w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAINER],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,  # so that close() ends the run, too, that it may be in
        )
        imported = Path(self._answer())
        if not imported.is_relative_to(code):
            raise Refused(f"{imported} was imported in place of the code in {code}")

    def train(self, name: str, argv: Sequence[str], env: dict[str, str]) -> Made:
        """Train one line in a folder of its own; return what became of it."""
        assert self.process.stdin is not None
        log, outputs = self.cwd / f"{name}.log", self.cwd / name
        begin = time.perf_counter()
        request = {"argv": ["train", *argv, f"outputs={outputs}"], "env": env, "log": str(log)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        status = self._answer()
        seconds = time.perf_counter() - begin
        folders = [path.parent for path in outputs.glob("*/*/config.yaml")]
        if status != 0 or len(folders) != 1:
            said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
            return Made(None, seconds, f"status {status}: {said[-1] if said else 'nothing was printed'}")
        return Made(folders[0], seconds)

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines()
            raise Refused(f"the process that trains ended: {said[-1] if said else 'it said nothing'}")
        return json.loads(line)

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.errors.close()


@dataclass
class Made:
    """What one line of training left."""

    folder: Path | None
    """Its run folder; None if it failed."""
    seconds: float
    error: str = ""


@dataclass
class Result(Comparison):
    """One row of the table."""

    family: str = ""
    precision: str = ""
    old_s: float = 0.0
    new_s: float = 0.0
    """Seconds that training took, for information: the first to compile a phase takes longer."""

    @classmethod
    def of(cls, family: str, precision: str, old: Made, new: Made) -> Result:
        """Compare what two commits made of one line."""
        if old.folder is not None and new.folder is not None:
            found = compare_runs(old.folder, new.folder)
        else:
            sides = {"old": old, "new": new}
            errors = [f"{side} failed, {made.error}" for side, made in sides.items() if made.folder is None]
            found = Comparison(difference="; ".join(errors))
        return cls(**asdict(found), family=family, precision=precision, old_s=old.seconds, new_s=new.seconds)


# ---------------------------------------------------------------- the command line


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("same_numbers", description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("old", metavar="OLD", help="a commit (any name git knows), or . for the working tree as it is")
    add("new", metavar="NEW", help="another one")
    add("--families", type=names_of(FAMILIES), default=list(FAMILIES), metavar="A,B", help=", ".join(FAMILIES))
    add("--precisions", type=names_of(PRECISIONS), default=list(PRECISIONS), metavar="A,B", help=", ".join(PRECISIONS))
    add("--steps", type=int, default=24, metavar="N", help="optimizer steps of each run (default: 24)")
    add("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error("--steps: at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that nothing is left behind
    try:
        return same_numbers(args.old, args.new, args.families, args.precisions, args.steps, args.json)
    except Refused as error:
        print(f"same_numbers: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def names_of(known: Sequence[str] | dict[str, Any]) -> Any:
    """Return argparse's type for names separated by commas, of those that are known."""

    def names(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no '{name}' (allowed: {', '.join(known)})")
        return text.split(",")

    return names


def same_numbers(
    old: str, new: str, families: Sequence[str], precisions: Sequence[str], steps: int, as_json: bool
) -> int:
    """Train, compare and print the table; return the exit status."""
    begin = time.perf_counter()
    table = Table(families, sys.stderr if as_json else sys.stdout)
    with two_trainers(old, new) as (names, trainers):
        results: list[Result] = []
        for family in families:
            for precision in precisions:
                line = (*COMMON, *FAMILIES[family], f"precision={precision}")
                length = max(1, steps // SHORTER.get(family, 1))
                line += (f"trainer.max_steps={length}", f"trainer.eval_every={max(1, length // 3)}")
                env = {"HYPERRUN_COMPILE_PHASES": "0"} if family in NOT_COMPILED else {}
                made = [trainer.train(f"{family}-{precision}", line, env) for trainer in trainers]
                results.append(Result.of(family, precision, *made))
                table.add(results[-1])
    equal = sum(result.difference is None for result in results)
    seconds = round(time.perf_counter() - begin)
    table.say(f"{equal} of {len(results)} equal: {names[0]} and {names[1]}, {steps} steps each, {seconds} s")
    if as_json:
        rows = [asdict(result) for result in results]
        print(
            json.dumps({"old": names[0], "new": names[1], "steps": steps, "seconds": seconds, "runs": rows}, indent=2)
        )
    return 0 if equal == len(results) else 1


@contextmanager
def two_trainers(old: str, new: str) -> Iterator[tuple[list[str], list[Trainer]]]:
    """Give the names of two commits and a process for each, in a folder that is removed at the end."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="same-numbers-")))
        sides = {"old": old, "new": new}
        names = [code_of(revision, root / side) for side, revision in sides.items()]
        trainers = []
        for side in sides:
            trainers.append(Trainer(root / side, root / f"{side}-runs"))
            stack.callback(trainers[-1].close)
        yield names, trainers


class Table:
    """Lines of text, each printed as soon as it is known."""

    def __init__(self, families: Sequence[str], to: IO[str]) -> None:
        self.width, self.to = max(map(len, families)), to
        self.say(f"{'family':{self.width}}  precision  rows  tensors  old s  new s  result")

    def add(self, c: Result) -> None:
        numbers = f"{c.precision:9}  {c.rows:4}  {c.tensors:7}  {c.old_s:5.1f}  {c.new_s:5.1f}"
        self.say(f"{c.family:{self.width}}  {numbers}  {c.difference or 'equal'}")

    def say(self, line: str) -> None:
        print(line, file=self.to, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
