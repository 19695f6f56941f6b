"""hyperrun eval RUN: the figures of a run again, from its checkpoint."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from hyperrun.arguments import Arguments
from hyperrun.config import Config
from hyperrun.data.kinds import TextData
from hyperrun.errors import UserError
from hyperrun.hydra_app.compose import compose_config, import_plugins
from hyperrun.load import load_parameters
from hyperrun.runs.folder import find_run
from hyperrun.tasks import Task, build_task
from hyperrun.tracking.console import Console
from hyperrun.training import checkpoint
from hyperrun.training.distributed import join_world
from hyperrun.training.precision import Precision, choose_matmul_precision, choose_precision


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun eval", "Measure a run again from its checkpoint.")
    parser.add_argument("run", metavar="RUN", help="run folder, such as outputs/digits/hypercnn-s0-3a1ade54")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best", help="which one (default: best)")
    parser.add_argument("--data", metavar="NAME", help="another data set of the same shape and classes")
    parser.add_argument("--precision", choices=["bf16", "fp16", "float32"], help="default: the run's own")
    parser.add_argument("--plugins", metavar="MODULES", help="modules the run was made with, separated by commas")
    parser.add_argument("--streams", type=int, metavar="N", help="data.eval_streams of a text; 1 reads it in one go")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if args.plugins:
        import_plugins([f"plugins={args.plugins}"])
    folder = find_run(args.run)
    result = evaluate_run(folder.path.as_posix(), args.checkpoint, args.data, args.precision, args.streams)
    if args.json:
        print(json.dumps(result, indent=2))
        return 0
    table = Table(title=f"{result['model']} on {result['data']}, {args.checkpoint} checkpoint", title_justify="left")
    for column in ("split", *result["val"]):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in ("val", "test"):
        table.add_row(split, *(f"{value:.4f}" for value in result[split].values()))
    Console().rich.print(table)
    return 0


def evaluate_run(
    run: str,
    which: str = "best",
    data: str | None = None,
    precision: str | None = None,
    streams: int | None = None,
) -> dict:
    """Return {"val": {metric: value}, "test": {...}, "model", "data", "checkpoint", "precision"} of a run folder.

    Raises:
        UserError: no run folder, a damaged or foreign checkpoint, data the model does not fit.
    """
    with task_of_run(run, which, data, precision, streams) as (config, task, chosen):
        return {
            "model": config.model,
            "data": config.data.name,
            "checkpoint": which,
            "precision": chosen.name,
            **{split: task.evaluate(split, chosen) for split in ("val", "test")},
        }


@contextmanager
def task_of_run(
    run: str,
    which: str = "best",
    data: str | None = None,
    precision: str | None = None,
    streams: int | None = None,
) -> Iterator[tuple[Config, Task, Precision]]:
    """Give the config of a run, its task with the checkpoint's model, and the precision it was trained in.

    Raises:
        UserError: no run folder, a damaged or foreign checkpoint, data the model does not fit.
    """
    folder = find_run(run)
    config = folder.read_config()
    if data is not None:
        config = dataclasses.replace(config, data=compose_config([f"data={data}"]).data)
    if streams is not None:
        if streams < 1:
            raise UserError(f"--streams must be at least 1, not {streams}")
        if not isinstance(config.data, TextData):
            raise UserError(f"--streams is for runs on text, not for data={config.data.name}")
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, eval_streams=streams))
    with join_world() as world:
        summary = folder.read_summary() or {}
        chosen = take_precision(config, summary, world.device, precision)
        task = build_task(config, world)
        load_model(task, folder.checkpoints / f"{which}.pt", world.device)
        now, then = (facts.get("data/fingerprint") for facts in (task.facts(), summary))
        if data is None and then is not None and now != then:
            what = (
                f"data={config.data.name} has changed since this run was trained: the figures are of what is there now"
            )
            print(f"hyperrun: warning: {what}", file=sys.stderr)
        yield config, task, chosen


def take_precision(
    config: Config, summary: dict[str, Any], device: torch.device, wanted: str | None = None
) -> Precision:
    """Return the precision that is wanted, else that which the run was trained in; set that of matrix products."""
    torch.set_float32_matmul_precision(choose_matmul_precision(config.trainer.matmul_precision, device)[0])
    return choose_precision(wanted or summary.get("precision") or config.precision, device)


def load_model(task: Task, path: Path, device: torch.device) -> None:
    """Load a checkpoint's parameters and buffers into the task's model.

    Raises:
        UserError: the checkpoint belongs to another model, or to data of another shape.
    """
    state = checkpoint.load(path, device)
    if "task" in state:
        try:
            task.check_fits(state["task"])
        except (RuntimeError, TypeError, KeyError, ValueError) as error:
            raise UserError(f"{path} does not fit this model and data: {error}") from None
    load_parameters(task.model, state, path)
