"""hyperrun predict RUN PATH: classes of pictures with their probabilities; of a language model, a text's score."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hyperrun.arguments import FOLDER, Arguments
from hyperrun.config import Config
from hyperrun.data.folder import is_picture, walk
from hyperrun.data.kinds import ImageData, TextData
from hyperrun.data.text import UNITS
from hyperrun.errors import UserError, printable
from hyperrun.load import load_run, take_precision
from hyperrun.paths import expanded
from hyperrun.prediction import Answer, classify, network_for, preparation_of, score, symbols_of
from hyperrun.runs.folder import RunFolder, find_run
from hyperrun.targets import takes_coordinates
from hyperrun.tracking.console import ONE_LINE_EACH, show, watched
from hyperrun.training.distributed import join_world

ABOUT = """Say what a trained classifier sees in a picture, or in every picture of a folder, prepared as the run's own
were; of a language model, how well it foresees a text."""
OUTCOME = "Exit status: 0 done, 1 some pictures could not be read, 2 a mistake in what was typed."
TOP = 3


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun predict", ABOUT)
    parser.epilog = OUTCOME
    parser.add_run(f"{FOLDER}: of a classifier, or of a language model")
    parser.add_argument(
        "path", nargs="?", metavar="PATH", type=expanded, help="a picture, a folder of them; a text file"
    )
    parser.add_argument("--top", type=int, metavar="N", help=f"of pictures: the N likeliest classes (default: {TOP})")
    parser.add_argument("--task", type=int, metavar="N", help="of pictures, for a run on tasks: which one")
    parser.add_argument("--text", metavar="TEXT", help="for a language model: the text itself, in place of a file")
    parser.add_checkpoint()
    parser.add_argument("--precision", choices=["bf16", "fp16", "float32"], help="default: the run's own")
    parser.add_plugins()
    parser.add_argument("--csv", action="store_true", help="print one line for each picture, separated by commas")
    parser.add_json()
    args = parser.parse_with_plugins(argv)
    if args.csv and args.json:
        raise UserError("--csv and --json both want standard output: type one of them")
    folder = find_run(args.run)
    config = folder.read_config()
    check_kind(config)
    if isinstance(config.data, TextData):
        return score_text(args, folder, config, config.data)
    return classify_pictures(args, folder, config)


def check_kind(config: Config) -> None:
    """Refuse a run that neither classifies pictures nor models text.

    Raises:
        UserError: says which verb is for it.
    """
    data = config.data
    if isinstance(data, ImageData) and takes_coordinates(config.target):
        raise UserError(
            f"model={config.model} draws images and knows no classes: hyperrun sample RUN draws, hyperrun eval RUN "
            "says how well"
        )
    if not isinstance(data, ImageData | TextData):
        raise UserError(
            f"hyperrun predict is for runs on images and on text, not for data={data.name}: hyperrun sample RUN makes "
            "more of them, hyperrun eval RUN says how well"
        )


# ---------------------------------------------------------------- pictures


def classify_pictures(args: argparse.Namespace, folder: RunFolder, config: Config) -> int:
    if args.text is not None:
        raise UserError("--text is for runs on text, and this one is on images: name a picture or a folder of them")
    if args.path is None:
        raise UserError("which picture? hyperrun predict RUN PATH takes a picture or a folder of them")
    top = TOP if args.top is None else args.top
    if top < 1:
        raise UserError(f"--top must be at least 1, not {top}")
    paths, notes = pictures_in(args.path)
    with join_world() as world:
        precision = take_precision(config, folder.read_summary() or {}, world.device, args.precision)
        loaded = load_run(folder.path, args.checkpoint, world.device)
        network, prepared = network_for(loaded, args.task), preparation_of(loaded, args.task)
        said = classify(
            network,
            prepared,
            paths,
            device=world.device,
            precision=precision,
            batch_size=config.trainer.eval_batch_size,
            top=top,
            channels_last=config.trainer.channels_last,
        )
        answers = list(watched(said, len(paths), "pictures"))
    if not args.path.is_dir() and answers[0].trouble is not None:
        raise UserError(answers[0].trouble)
    found = [answer for answer in answers if answer.trouble is None]
    troubles = [str(answer.trouble) for answer in answers if answer.trouble is not None]
    if args.json:
        about = {"run": args.run, "model": config.model, "data": config.data.name, "checkpoint": args.checkpoint}
        about |= {} if args.task is None else {"task": args.task}
        print(json.dumps({**about, "precision": precision.name, "images": as_objects(answers)}, indent=2))
    elif args.csv:
        write_csv(as_rows(found))
    elif found:
        show(table(found))
    for line in (*filter(None, [prepared.note]), *troubles, *notes):
        print(f"hyperrun: warning: {printable(line)}", file=sys.stderr)
    if troubles:
        print(f"hyperrun: {len(troubles):,} of {len(answers):,} pictures could not be read", file=sys.stderr)
    return 1 if troubles else 0


def pictures_in(path: Path) -> tuple[list[Path], list[str]]:
    """Return a picture, or those of a folder and the folders in it, sorted, as data=image_folder finds them; and a line
    about the files that are left out.

    Raises:
        UserError: nothing of that name, or no picture in it.
    """
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"there is no file {path}")
        return [path], []
    files = [base / name for base, names in walk(path) for name in names]
    pictures = sorted(file for file in files if is_picture(file.name))
    kinds = Counter(file.suffix.lower() or "no ending" for file in files if not is_picture(file.name))
    said = ", ".join(f"{kind}: {count:,}" for kind, count in kinds.most_common(4))
    notes = [f"{kinds.total():,} files are skipped, which are no pictures by their names ({said})"] if kinds else []
    if not pictures:
        raise UserError(f"{path} holds no pictures{f': {notes[0]}' if notes else ''}")
    return pictures, notes


def table(answers: list[Answer]) -> Table:
    """Return one row for each picture: its classes, the likeliest first, each with its probability."""
    made = Table(**ONE_LINE_EACH)
    made.add_column("picture")
    for rank in range(len(answers[0].classes)):
        made.add_column("class" if rank == 0 else f"{rank + 1}.")
        made.add_column("probability" if rank == 0 else "", justify="right")
    for answer in answers:
        cells = [cell for name, value in answer.classes for cell in (printable(name), f"{value:.4f}")]
        made.add_row(*map(Text, (printable(answer.path), *cells)))  # a name may look like rich's markup
    return made


def as_objects(answers: list[Answer]) -> list[dict[str, Any]]:
    """Return what --json says of each picture: its classes, or why it could not be read."""
    return [
        {"path": str(answer.path)}
        | (
            {"classes": [{"class": name, "probability": value} for name, value in answer.classes]}
            if answer.trouble is None
            else {"error": answer.trouble}
        )
        for answer in answers
    ]


def as_rows(answers: list[Answer]) -> list[dict[str, Any]]:
    """Return what --csv says of each picture: class, probability, class_2, probability_2, ..."""
    rows = []
    for answer in answers:
        row: dict[str, Any] = {"path": str(answer.path)}
        for rank, (name, value) in enumerate(answer.classes):
            rank_said = "" if rank == 0 else f"_{rank + 1}"
            row |= {f"class{rank_said}": name, f"probability{rank_said}": f"{value:.6g}"}
        rows.append(row)
    return rows


# ---------------------------------------------------------------- text


def score_text(args: argparse.Namespace, folder: RunFolder, config: Config, data: TextData) -> int:
    for name in ("top", "task"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} is for runs on images, and this one is on text")
    if (args.path is None) == (args.text is None):
        raise UserError("a run on text takes a text file, or --text TEXT")
    if args.path is not None and args.path.is_dir():
        raise UserError(f"{args.path} is a folder: name a text file in it")
    with join_world() as world:
        precision = take_precision(config, folder.read_summary() or {}, world.device, args.precision)
        loaded = load_run(folder.path, args.checkpoint, world.device)
        assert loaded.vocabulary is not None
        unit = loaded.vocabulary.unit
        ids, unknown = symbols_of(loaded, args.path or args.text)
        found = score(loaded.model, ids, unit=unit, chunk=data.sequence_length, precision=precision)
    if args.json:
        about = {"run": args.run, "model": config.model, "data": data.name, "checkpoint": args.checkpoint}
        about |= {"precision": precision.name, "path": None if args.path is None else str(args.path), "unit": unit}
        print(json.dumps({**about, **found, "unknown": unknown}, indent=2))
        return 0
    if args.csv:
        write_csv([{"path": "" if args.path is None else str(args.path), **found, "unknown": unknown}])
        return 0
    what = "the text" if args.path is None else printable(args.path)
    bits = f"{found['bpc']:.4f} bits per {unit if unit == 'byte' else 'character'}, " if "bpc" in found else ""
    print(f"{what}: {bits}perplexity {found['perplexity']:.4f} ({found['symbols']:,} {UNITS[unit]})")
    if unknown:
        print(f"{unknown:,} words are not in the vocabulary and were read as <unk>")
    return 0


def write_csv(rows: list[dict[str, Any]]) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
