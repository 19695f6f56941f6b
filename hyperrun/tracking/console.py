"""What the terminal shows: a progress bar on a terminal, plain lines elsewhere, and a table at the end."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from hyperrun.metrics import compression_text, symbols_word

Item = TypeVar("Item")


class Console:
    """One for each run. What is said is also written to the run's train.log; a silent one (ranks > 0) says nothing."""

    def __init__(self, silent: bool = False) -> None:
        # a file or a pipe has no width: 100 columns, unless the user says otherwise
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100
        self.rich = RichConsole(
            quiet=silent, width=width, highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty()
        )
        self.progress: Progress | None = None
        self.log: logging.Logger | None = None
        self.last_line = 0.0
        self.validation = ""

    def write_to(self, path: Path) -> None:
        """Also write to this file from now on."""
        self.close_log()
        self.log = logging.Logger(f"hyperrun.{path}")
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        handler.handleError = lambda record: None  # a full disk is reported by whoever stops for it
        self.log.addHandler(handler)

    def close_log(self) -> None:
        if self.log is not None:
            for handler in self.log.handlers:
                handler.close()
            self.log = None

    def say(self, text: str) -> None:
        self.rich.print(text, markup=False)
        self._record(text)

    def warn(self, text: str) -> None:
        self.rich.print(f"warning: {text}", style="yellow", markup=False)
        self._record(f"warning: {text}")

    def record_exception(self) -> None:
        """Write the current exception's traceback to train.log, at once."""
        if self.log is not None:
            self.log.exception("failed")

    def _record(self, text: str) -> None:
        if self.log is not None:
            self.log.info(text)

    # ------------------------------------------------------------ training

    def start(self, total: int, step: int) -> None:
        if self.rich.is_terminal and not self.rich.quiet:
            self.progress = Progress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[numbers]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.rich,
                transient=True,
            )
            self.progress.start()
            self.progress.add_task("train", total=total, completed=step, numbers="")

    def step(self, row: dict[str, Any], total: int, unit: str) -> None:
        """Show a logged step: in the bar on a terminal, elsewhere as a line every ten seconds."""
        if self.progress is not None:
            numbers = f"{describe(row, unit)}{self.validation}"
            self.progress.update(self.progress.task_ids[0], completed=row["step"], numbers=numbers)
        else:
            self._line(row, total, unit)

    def evaluation(self, row: dict[str, Any], total: int) -> None:
        """Show what an evaluation on the validation split gave: in the bar, or as a line every ten seconds."""
        self.validation = "  " + describe({k: v for k, v in row.items() if k != "val/loss"}, "")
        if self.progress is None:
            self._line(row, total, "", always=row["step"] == total)

    def _line(self, row: dict[str, Any], total: int, unit: str, always: bool = False) -> None:
        if always or time.monotonic() - self.last_line > 10:
            self.last_line = time.monotonic()
            self.say(f"step {row['step']}/{total}  {describe(row, unit)}")

    def stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    # ------------------------------------------------------------ the end

    def result(self, summary: dict[str, Any], folder: Path) -> None:
        """Print the table of a finished run and the commands to go on with."""
        metric = summary["metric"]
        table = Table(title=f"{summary['model']} on {summary['data']}", show_header=False, title_justify="left")
        for name, value in result_rows(summary, metric):
            table.add_row(name, value)
            self._record(f"{name}: {value}")
        self.rich.print(table)
        self.say(f"files   {folder}")
        lines = [f"hyperrun {verb} {shlex.quote(str(folder))}" for verb in ("eval", *USED_BY.get(summary["task"], ()))]
        self.say(f"next    {'; '.join(lines)}")


NO_TEST = "no test split: validation is all there is"

USED_BY = {
    **dict.fromkeys(("language_modeling", "image_fitting", "stroke_modeling"), ("sample",)),
    "translation": ("translate",),
}
"""Task -> the verbs that use its models."""
ALSO = ("bleu", "chrf", "exact")
"""Figures that the final table shows of a test besides the one that selected the checkpoint, where there are any."""

ONE_LINE_EACH: dict[str, Any] = {"box": None, "pad_edge": False, "title_style": "bold"}
"""How a table looks whose rows are not to be broken: a path is there to be copied."""


LINE_EVERY_S = 10
"""Seconds between two lines about long work where there is no terminal."""


def watched(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield items, while stderr says how many of `total` are done: in a bar on a terminal, elsewhere now and then."""
    if sys.stderr.isatty():
        columns = (TextColumn(what), BarColumn(), TextColumn("{task.completed:,} of {task.total:,}"))
        console = RichConsole(stderr=True)
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
            yield from progress.track(items, total)
        return
    last = time.monotonic()
    for done, item in enumerate(items, 1):
        if time.monotonic() - last > LINE_EVERY_S:
            last = time.monotonic()
            print(f"{done:,} of {total:,} {what}", file=sys.stderr)
        yield item


def show(table: Table) -> None:
    """Print a table one line for each row, however narrow the terminal is."""
    RichConsole(width=1000, highlight=False, emoji=False).print(table, soft_wrap=True)


def describe(row: dict[str, Any], unit: str) -> str:
    """Return the numbers of a logged row in a few words."""
    words = []
    for key, value in row.items():
        if key.startswith(("train/", "val/")) and isinstance(value, float):
            name = key.removeprefix("train/").replace("/", " ")
            words.append(f"{name} {value:.4f}")
    if "throughput/examples_per_s" in row:
        words.append(f"{row['throughput/examples_per_s']:,.0f} {unit}/s")
    return "  ".join(words)


def result_rows(summary: dict[str, Any], metric: str) -> list[tuple[str, str]]:
    """Return the lines of the final table: what was trained, how many parameters, how well, how long."""
    test = summary[f"test/{metric}"]
    rows = [
        ("trainable parameters", f"{summary['params/trainable']:,}"),
        ("target parameters", f"{summary['params/target']:,}"),
        ("  generated / free", f"{summary['params/generated']:,} / {summary['params/free']:,}"),
        ("compression", compression_text(summary["params/compression"])),
        (f"validation {metric}", f"{summary[f'val/{metric}']:.4f} (step {summary['best/step']})"),
        (f"test {metric}", NO_TEST if test is None else f"{test:.4f}"),
    ]
    for name in ALSO:
        if name != metric and summary.get(f"test/{name}") is not None:
            rows.append((f"test {name}", f"{summary[f'test/{name}']:.4f}"))
    if "paper/value" in summary:
        count = summary["paper/params"]
        of = f" ({count:,} parameters)" if count is not None else ""
        rows.append(("the paper", f"{summary['paper/value']} {summary['paper/metric']}{of}"))
    speed = f"{summary['throughput/examples_per_s']:,.0f} examples/s"
    if "throughput/tokens_per_s" in summary:
        speed = f"{summary['throughput/tokens_per_s']:,.0f} {symbols_word(summary)}/s"
    rows += [
        ("training time", f"{summary['time/train_s'] - summary.get('time/warm_up_s', 0):.1f} s, {speed}"),
        *times_beside(summary),
        ("precision, device", f"{summary['precision']}, {summary['device']}"),
    ]
    return rows


def times_beside(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line of what training took beside its steps; none of a run that did not measure it."""
    what = {"warm-up": "time/warm_up_s", "evaluations": "time/eval_s", "checkpoints": "time/save_s"}
    said = [f"{name} {summary[key]:.1f} s" for name, key in what.items() if key in summary]
    return [("  beside it", ", ".join(said))] if said else []
