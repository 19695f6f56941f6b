"""hyperrun analyze RUN ...: the paper's figures from any run, as pictures, pages and numbers."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from hyperrun.analyze.findings import SPLITS, Findings
from hyperrun.analyze.studies import analyze
from hyperrun.arguments import FOLDER, Arguments, where
from hyperrun.errors import UserError
from hyperrun.load import load_run
from hyperrun.pictures.style import picture
from hyperrun.runs.folder import write_beside
from hyperrun.runs.metrics_file import plain
from hyperrun.tracking.console import ONE_LINE_EACH, Console, show

NUMBERS = "analysis.json"

ABOUT = """Draw the paper's figures from runs, those of several side by side: kernels, embeddings of layers, and norms
over training, of weights that are generated once; hidden activations, gates, and how the weights change along a text or
a line of handwriting, of recurrent models; weights over tasks or images, and what lies between two. Pictures, pages and
analysis.json replace those of an earlier call in the same place."""


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun analyze", ABOUT)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help=FOLDER)
    parser.add_out("DIR", "where to (default: RUN/analysis; of several runs ./analysis)")
    add(
        "--split",
        choices=list(SPLITS),
        default="val",
        help="which part of a text, of strokes, or of tasks' images (default: val)",
    )
    add("--symbols", type=int, default=5000, metavar="N", help="how many of its symbols, or points (default: 5000)")
    parser.add_where()
    parser.add_checkpoint()
    parser.add_plugins("the runs were made with")
    parser.add_json("print one JSON object: what analysis.json says")
    add("--wandb", action="store_true", help="record pictures and numbers in W&B, too (job_type analyze)")
    args = parser.parse_with_plugins(argv)
    if args.symbols < 2:
        raise UserError(f"--symbols must be at least 2, not {args.symbols}")
    runs = [load_run(run, args.checkpoint, where=where(args)) for run in args.runs]
    folder = args.out or (runs[0].folder.path / "analysis" if len(runs) == 1 else Path("analysis"))
    findings = analyze(runs, args.split, args.symbols)
    make_folder(folder)
    report = plain({**findings.numbers, "notes": findings.notes, "files": files(findings)})
    remove_former(folder)
    written = write_findings(findings, report, folder)
    lines, trouble = [], None
    if args.wandb:
        from hyperrun.analyze.wandb_pictures import log_findings

        lines, trouble = log_findings(findings, runs, folder)
    if args.json:
        print(json.dumps(report, indent=2))
        for line in lines:
            print(line, file=sys.stderr)
    else:
        say(findings, written, lines)
    if trouble is not None:
        print(f"hyperrun: warning: {trouble}", file=sys.stderr)
    return 0


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror} (--out DIR names another place)") from None


def files(findings: Findings) -> list[str]:
    """Return the names of the pictures and pages."""
    return [*(f"{name}.png" for name in findings.pictures), *(f"{name}.html" for name in findings.pages)]


def remove_former(folder: Path) -> None:
    """Remove the pictures and pages of an earlier call, perhaps of other runs, as its analysis.json lists them."""
    try:
        former = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in former if isinstance(former, list) else []:
        path = folder / str(name)
        if path.parent == folder and path.suffix in (".png", ".html"):  # nothing else was written
            path.unlink(missing_ok=True)


def write_findings(findings: Findings, report: dict[str, Any], folder: Path) -> list[Path]:
    """Write NAME.png, NAME.html and analysis.json, the report, into a folder; return their paths."""
    content: dict[str, bytes | str] = {f"{name}.png": picture(p, "png") for name, p in findings.pictures.items()}
    content |= {f"{name}.html": page for name, page in findings.pages.items()}
    content[NUMBERS] = json.dumps(report, indent=2) + "\n"
    for name, what in content.items():
        write_beside(folder / name, what)
    return [folder / name for name in content]


def say(findings: Findings, written: list[Path], lines: list[str]) -> None:
    """Print the figures that a picture stands for, what could not be drawn, and where the files are."""
    console = Console()
    recurrent = findings.numbers.get("recurrent")
    if recurrent:
        show(saturation_table(recurrent, "text", "symbols", "bits_per_symbol"))
    strokes = findings.numbers.get("strokes")
    if strokes:
        show(saturation_table(strokes, "strokes", "points", "nats_per_point"))
    translation = findings.numbers.get("translation")
    if translation:
        show(saturation_table(translation, "pairs", "pieces", "nats_per_piece"))
    of_tasks = {label: found for label, found in findings.numbers.get("conditional", {}).items() if "tasks" in found}
    if of_tasks:
        show(task_table(of_tasks))
    of_images = {label: found for label, found in findings.numbers.get("images", {}).items() if "images" in found}
    if of_images:
        show(image_table(of_images))
    for note in findings.notes:
        console.say(f"note     {note}")
    for path in written:
        console.say(f"{path.suffix[1:]:8} {path}")
    for line in lines:
        console.say(line)


def saturation_table(recurrent: dict, of: str, parts: str, figure: str) -> Table:
    """Return which part of the values is saturated, for each model and layer, and how well it predicts.

    hidden is what the output gate lets through: tanh(c), with layer norm tanh(LN(c)); cell is then tanh(c) itself.
    of: what was read ("text", "strokes", "pairs"); parts: of what it is made; figure: the last column
    ("bits_per_symbol").
    """
    read = next(iter(recurrent.values()))[of]
    about = f"saturated beyond 0.95 (gates: below 0.05, too), {read[parts]:,} {parts} of {read['split']}"
    table = Table(title=about, title_justify="left", **ONE_LINE_EACH)
    values = ["hidden", *(["cell"] if any("cell" in r["layers"][0] for r in recurrent.values()) else []), *"igfo"]
    for column in ("model", *values, figure.replace("_per_", "/")):
        table.add_column(column, justify="left" if column == "model" else "right")
    for label, found in recurrent.items():
        for n, layer in enumerate(found["layers"]):
            number = found["layer_names"][n] if "layer_names" in found else f"layer {n + 1}"
            name = f"{label}, {number}" if len(found["layers"]) > 1 else label
            shares = [share(layer[key]["saturated"]) if key in layer else "" for key in values]
            table.add_row(name, *shares, f"{found[figure]:.3f}")
    return table


def share(part: float) -> str:
    return "not finite" if math.isnan(part) else f"{part:.1%}"


def task_table(of_tasks: dict) -> Table:
    """Return the accuracy with a task's own embedding, with one halfway to that of a neighbour, and with the latter."""
    split = next(iter(of_tasks.values()))["split"]
    about = (
        f"accuracy on {split} images of a task, mean over pairs of neighbours; and std of tensors over tasks / within"
    )
    table = Table(title=about, title_justify="left", **ONE_LINE_EACH)
    for column in ("model", "order", "own embedding", "halfway", "other's", "std over tasks"):
        table.add_column(column, justify="left" if column in ("model", "order") else "right")
    for label, found in of_tasks.items():
        figures = [f"{value:.4f}" for value in found["interpolation"]["accuracy"].values()]
        table.add_row(label, found["order"], *figures, ratio_range(found))
    return table


def image_table(of_images: dict) -> Table:
    """Return the PSNR with an image's own latent, with one halfway to that of another image, and with the latter."""
    about = "PSNR of training images in dB, mean over pairs; and std of tensors over images / within"
    table = Table(title=about, title_justify="left", **ONE_LINE_EACH)
    for column in ("model", "own latent", "halfway", "other's", "std over images"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for label, found in of_images.items():
        table.add_row(label, *(f"{value:.2f}" for value in found["interpolation"]["psnr"].values()), ratio_range(found))
    return table


def ratio_range(found: dict) -> str:
    """Return the least and the largest of a run's ratios."""
    known = [tensor["ratio"] for tensor in found["tensors"].values() if tensor["ratio"] is not None]
    ratios = [ratio for ratio in known if math.isfinite(ratio)]
    return f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else ""
