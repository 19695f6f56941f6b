"""hyperrun eval RUN: the figures of a run again, from its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.table import Table

from hyperrun.arguments import Arguments, where
from hyperrun.hydra_app.compose import compose_config
from hyperrun.load import task_of_run
from hyperrun.runs.folder import find_run
from hyperrun.tracking.console import Console


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun eval", "Measure a run again from its checkpoint.")
    parser.add_run()
    parser.add_checkpoint()
    parser.add_argument("--data", metavar="NAME", help="another data set of the same shape and classes")
    parser.add_where()
    parser.add_argument("--precision", choices=["bf16", "fp16", "float32"], help="default: the run's own")
    parser.add_plugins()
    parser.add_argument("--streams", type=int, metavar="N", help="data.eval_streams of a text; 1 reads it in one go")
    parser.add_json()
    args = parser.parse_with_plugins(argv)
    folder = find_run(args.run)
    result = evaluate_run(folder.path.as_posix(), args.checkpoint, args.data, args.precision, args.streams, where(args))
    if args.json:
        print(json.dumps(result, indent=2))
        return 0
    table = Table(title=f"{result['model']} on {result['data']}, {args.checkpoint} checkpoint", title_justify="left")
    for column in ("split", *result["val"]):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in ("val", "test"):
        found = result[split]
        table.add_row(split, *(f"{value:.4f}" for value in found.values()) if found else ["no such split"])
    Console().rich.print(table)
    return 0


def evaluate_run(
    run: str,
    which: str = "best",
    data: str | None = None,
    precision: str | None = None,
    streams: int | None = None,
    moved_to: Mapping[str, str] | None = None,
) -> dict:
    """Return {"val": {metric: value}, "test": {...}, "model", "data", "checkpoint", "precision"} of a run folder.

    Of data without a test split "test" is None.

    Raises:
        UserError: no run folder, a damaged or foreign checkpoint, data the model does not fit.
    """
    other = compose_config([f"data={data}"]).data if data is not None else None
    with task_of_run(run, which, other, precision, streams, moved_to) as (config, task, chosen):
        return {
            "model": config.model,
            "data": config.data.name,
            "checkpoint": which,
            "precision": chosen.name,
            **{split: task.evaluate(split, chosen) if split in task.splits else None for split in ("val", "test")},
        }
