"""hyperrun sample RUN: what a trained model makes: a language model a text, a hypersiren images, a model of pen strokes
drawings."""

from __future__ import annotations

import argparse
import json
import math
import sys

from hyperrun.arguments import Arguments, where
from hyperrun.data.kinds import StrokeData, TextData
from hyperrun.errors import UserError, printable
from hyperrun.load import load_run, take_precision
from hyperrun.runs.folder import find_run
from hyperrun.targets import takes_coordinates
from hyperrun.tasks.language_modeling import sample
from hyperrun.tasks.stroke_modeling import sample_strokes
from hyperrun.training.distributed import join_world

OPTIONS = {
    "text": {"prompt": "", "length": 400, "temperature": 0.8},
    "images": {"resolution": None, "columns": 10, "root": None, "out": None},
    "strokes": {"n": 8, "length": None, "temperature": 0.5, "svg": False, "out": None},
}
"""Kind of run -> options that not every kind has, with what they are where they are not typed."""
RUNS = {"text": "runs on text", "images": "runs of a hypersiren", "strokes": "runs on pen strokes"}
THIS = {"text": "this one is on text", "images": "this one makes images", "strokes": "this one is on pen strokes"}


def main(argv: list[str]) -> int:
    about = (
        "Let a trained model make something: a language model text, a SIREN images, a model of pen strokes drawings."
    )
    parser = Arguments("hyperrun sample", about)
    parser.add_run("run folder of a language model, a hypersiren or a model of pen strokes")
    parser.add_seed("of all that is drawn")
    parser.add_checkpoint()
    parser.add_plugins()
    parser.add_json()
    both = parser.add_argument_group("text and pen strokes")
    both.add_argument("--temperature", type=float, metavar="T", help="0: the likeliest (default: 0.8; of strokes 0.5)")
    both.add_argument(
        "--length", type=int, metavar="N",
        help="further symbols (default: 400); points of each drawing (default: the mean of the training data)",
    )  # fmt: skip
    text = parser.add_argument_group("text")
    text.add_argument("--prompt", metavar="TEXT", help="how the text begins (default: empty)")
    strokes = parser.add_argument_group("pen strokes")
    strokes.add_argument("--n", type=int, metavar="N", help="drawings (default: 8)")
    strokes.add_argument("--svg", action="store_true", default=None, help="an SVG beside the PNG, too")
    images = parser.add_argument_group("images")
    images.add_argument("--resolution", type=int, metavar="N", help="pixels of a side (default: 4 times the data's)")
    images.add_argument("--columns", type=int, metavar="N", help="images in a row (default: 10)")
    images.add_argument("--root", metavar="DIR", help="where the held-out images are, if not where the run found them")
    parser.add_out("FILE", "the PNG (default: RUN/samples.png)", parser.add_argument_group("images and pen strokes"))
    args = parser.parse_with_plugins(argv)
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed must be at least 0 and below 2**63, not {args.seed}")
    config = find_run(args.run).read_config()
    if isinstance(config.data, TextData):
        kind, make = "text", write_text
    elif isinstance(config.data, StrokeData):
        kind, make = "strokes", draw_strokes
    elif takes_coordinates(config.target):
        kind, make = "images", draw_images
    else:
        raise UserError(
            f"hyperrun sample needs a run that models text or pen strokes, or one of model=hypersiren, not "
            f"model={config.model} on data={config.data.name}"
        )
    take_options(args, kind)
    make(args)
    return 0


def take_options(args: argparse.Namespace, kind: str) -> None:
    """Fill in what was not typed.

    Raises:
        UserError: an option of another kind of run was typed, or a number that is none of this kind's.
    """
    ours = OPTIONS[kind]
    for name in dict.fromkeys(name for others in OPTIONS.values() for name in others if name not in ours):
        if getattr(args, name) is not None:
            whose = " or ".join(RUNS[other] for other in OPTIONS if name in OPTIONS[other])
            raise UserError(f"--{name} is for {whose}, and {THIS[kind]}")
    for name, value in ours.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if "length" in ours and args.length is not None and args.length < 1:
        raise UserError(f"--length must be at least 1, not {args.length}")
    if "temperature" in ours and not args.temperature >= 0:
        raise UserError(f"--temperature must not be negative, not {args.temperature}")
    if kind == "strokes" and args.temperature == math.inf:
        raise UserError("--temperature must be finite: the Gaussians of a pen stroke's next point grow with it")


def write_text(args: argparse.Namespace) -> None:
    folder = find_run(args.run)
    with join_world() as world:
        precision = take_precision(folder.read_config(), folder.read_summary() or {}, world.device)
        loaded = load_run(folder.path, args.checkpoint, world.device)
        assert loaded.vocabulary is not None
        text = sample(
            loaded.model,
            loaded.vocabulary,
            args.length,
            prompt=args.prompt,
            temperature=args.temperature,
            seed=args.seed,
            precision=precision,
        )
    if args.json:
        text = json.dumps({"run": args.run, "text": text})
    elif sys.stdout.isatty():
        text = printable(text, keep="\n\t")
    print(text)


def draw_images(args: argparse.Namespace) -> None:
    from hyperrun.analyze.image_samples import sample_images  # matplotlib takes half a second

    if args.resolution is not None and args.resolution < 1:
        raise UserError(f"--resolution must be at least 1, not {args.resolution}")
    if args.columns < 2:
        raise UserError(f"--columns must be at least 2, not {args.columns}")
    made = sample_images(args.run, args.checkpoint, args.resolution, args.columns, args.seed, args.out, where(args))
    if args.json:
        found = {"resolution": made.resolution, "images": made.images, "psnr": made.psnr}
        print(json.dumps({"run": args.run, "path": str(made.path), **found}))
    else:
        print(made.path)
        print(f"{made.images} held-out images are reconstructed at {made.psnr:.2f} dB")


def draw_strokes(args: argparse.Namespace) -> None:
    from hyperrun.analyze.image_samples import samples_path
    from hyperrun.analyze.recurrent.stroke_samples import MOST, write_samples  # matplotlib takes half a second

    path = samples_path(args.run, args.out)
    if not 1 <= args.n <= MOST:
        raise UserError(f"--n must be from 1 to {MOST}, not {args.n}")
    folder = find_run(args.run)
    with join_world() as world:
        precision = take_precision(folder.read_config(), folder.read_summary() or {}, world.device)
        loaded = load_run(folder.path, args.checkpoint, world.device)
        assert loaded.scale is not None
        points = args.length or max(1, round(loaded.scale.predicted))
        drawn = sample_strokes(
            loaded.model, args.n, temperature=args.temperature, seed=args.seed, max_points=points, precision=precision
        )
        title = (
            f"{loaded.config.model} on {loaded.config.data.name}, temperature {args.temperature:g}, seed {args.seed}"
        )
        written = write_samples(loaded, drawn, title, path, args.svg)
    if args.json:
        places = dict(zip(("path", "svg"), map(str, written), strict=False))
        print(json.dumps({"run": args.run, **places, "sequences": args.n, "points": points}))
    else:
        print(*written, sep="\n")
        print(f"{args.n} drawings of {points:,} points, at temperature {args.temperature:g}")
