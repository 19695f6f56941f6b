"""What the studies share: lines of `hyperrun train -m`, one after the other, and the table of what they made."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hyperrun.arguments import Arguments
from hyperrun.config import Config, to_dict
from hyperrun.errors import UserError
from hyperrun.hydra_app.plan import jobs_of
from hyperrun.runs.folder import RunFolder
from hyperrun.runs.reading import computed_keys

BUDGETS = ("small", "paper")

LENGTH = {"trainer.epochs", "trainer.max_steps"}
"""Of these one is typed: steps, where both are given, are what counts."""


def study(
    about: str | None, data: str, small: Sequence[str], paper: Sequence[str], analyze: Sequence[str] | None = None
) -> int:
    """Train every line of the budget that is asked for, then print `hyperrun compare`; return the exit status.

    Finished runs are skipped and interrupted ones resumed, as in every sweep: the same line again goes on.

    about: what --help says. data: the data set that the lines are on, unless they say data=NAME. small, paper: what
    stands behind `hyperrun train -m` in each line. analyze: options of `hyperrun analyze`, which then looks into one
    run of each model, side by side; its pictures are in OUTPUTS/DATA/analysis.
    """
    parser = Arguments(Path(sys.argv[0]).name, about or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--budget", choices=BUDGETS, default="small", help="small: 2 CPU cores, a few hours; paper: a GPU (small)")
    add("--dry-run", action="store_true", help="show the jobs and which of them are done; train nothing")
    add(
        "override",
        nargs="*",
        metavar="KEY=VALUE",
        help="goes to the lines that give this key, in its place, and where none does to all: outputs=DIR seed=0",
    )
    try:
        args = parser.parse_intermixed_args()
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    lines = with_overrides([shlex.split(line) for line in {"small": small, "paper": paper}[args.budget]], args.override)
    status = 0
    for line in lines:
        ended = hyperrun("train", "-m", *line, *["--dry-run"] * args.dry_run)
        if ended not in (0, 1):  # 1: some jobs failed, which is no reason to leave out the others
            return ended
        status = max(status, ended)
    folders = [
        f"{typed(line, 'outputs') or 'outputs'}/{name}"
        for line in lines
        for name in (typed(line, "data") or data).split(",")
    ]
    made = [folder for folder in dict.fromkeys(folders) if Path(folder).expanduser().is_dir()]
    if args.dry_run or not made:
        return status
    status = max(status, hyperrun("compare", *made))
    if analyze is not None and (runs := one_of_each(lines)):
        status = max(status, hyperrun("analyze", *map(str, runs), *analyze, "--out", f"{made[0]}/analysis"))
    return status


def one_of_each(lines: Sequence[Sequence[str]]) -> list[Path]:
    """Return the folders of finished runs, of those that differ in the seed only the first."""
    found: dict[str, Path] = {}
    for _, config in (job for line in lines for job in jobs_of(line)):
        if isinstance(config, Config) and (folder := RunFolder.of(config)).state() == "done":
            found.setdefault(json.dumps(computed_keys(to_dict(config)), sort_keys=True), folder.path)
    return list(found.values())


def with_overrides(lines: Sequence[Sequence[str]], overrides: Sequence[str]) -> list[list[str]]:
    """Return lines with overrides in the place of those of their words that are about the same keys (one for length).

    A key that only some lines give stays theirs: the other lines' models may not know it.
    """
    changed = [list(line) for line in lines]
    for override in overrides:
        meant = [line for line in lines if keys(line) & keys([override])]
        for line, before in zip(changed, lines, strict=True):
            if before in meant or not meant:
                line[:] = [*(word for word in line if not keys([word]) & keys([override])), override]
    return changed


def keys(words: Sequence[str]) -> set[str]:
    """Return the keys of `key=value` words, with both of LENGTH for one of them."""
    found = {word.partition("=")[0] for word in words}
    return found | LENGTH if found & LENGTH else found


def typed(line: Sequence[str], key: str) -> str | None:
    """Return the value that a line gives to a key; None where it gives none."""
    return next((word.removeprefix(f"{key}=") for word in line if word.startswith(f"{key}=")), None)


def hyperrun(*words: str) -> int:
    """Say and run a command line of hyperrun; return its exit status, 128 + n where signal n ended it."""
    print(f"\n$ hyperrun {shlex.join(words)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "hyperrun", *words])
    # Ctrl-C reaches both processes: the other one saves its run, and this one waits for it
    handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: lambda *_: process.send_signal(signal.SIGTERM)}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    ended = process.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    return ended if ended >= 0 else 128 - ended
