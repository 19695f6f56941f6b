"""hyperrun sample RUN: what a trained model makes. A language model writes a text, a hypersiren draws images."""

from __future__ import annotations

import argparse
import json
import sys

from hyperrun.arguments import Arguments
from hyperrun.data.kinds import TextData
from hyperrun.errors import UserError, printable
from hyperrun.load import load_run, take_precision
from hyperrun.runs.folder import find_run
from hyperrun.targets import takes_coordinates
from hyperrun.tasks.language_modeling import sample
from hyperrun.training.distributed import join_world

OF_TEXT = {"prompt": "", "length": 400, "temperature": 0.8}
OF_IMAGES = {"resolution": None, "columns": 10, "out": None}
"""Options of one kind of run only, with what they are where they are not typed."""


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun sample", "Let a trained model make something: a language model text, a SIREN images.")
    parser.add_run("run folder of a language model or a hypersiren")
    parser.add_seed("of all that is drawn")
    parser.add_checkpoint()
    parser.add_plugins()
    parser.add_json()
    text = parser.add_argument_group("text")
    text.add_argument("--prompt", metavar="TEXT", help="how the text begins (default: empty)")
    text.add_argument("--length", type=int, metavar="N", help="further symbols (default: 400)")
    text.add_argument("--temperature", type=float, metavar="T", help="0: the likeliest (default: 0.8)")
    images = parser.add_argument_group("images")
    images.add_argument("--resolution", type=int, metavar="N", help="pixels of a side (default: 4 times the data's)")
    images.add_argument("--columns", type=int, metavar="N", help="images in a row (default: 10)")
    parser.add_out("FILE", "the PNG (default: RUN/samples.png)", images)
    args = parser.parse_with_plugins(argv)
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed must be at least 0 and below 2**63, not {args.seed}")
    config = find_run(args.run).read_config()
    if isinstance(config.data, TextData):
        take_options(args, OF_TEXT, OF_IMAGES, "runs of a hypersiren, and this one is on text")
        write_text(args)
    elif takes_coordinates(config.target):
        take_options(args, OF_IMAGES, OF_TEXT, "runs on text, and this one makes images")
        draw_images(args)
    else:
        raise UserError(
            f"hyperrun sample needs a run that models text, or one of model=hypersiren, not model={config.model} on "
            f"data={config.data.name}"
        )
    return 0


def take_options(args: argparse.Namespace, ours: dict, others: dict, whose: str) -> None:
    """Fill in what was not typed.

    Raises:
        UserError: an option of another kind of run was typed.
    """
    for name in others:
        if getattr(args, name) is not None:
            raise UserError(f"--{name} is for {whose}")
    for name, value in ours.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def write_text(args: argparse.Namespace) -> None:
    if args.length < 1:
        raise UserError(f"--length must be at least 1, not {args.length}")
    if not args.temperature >= 0:
        raise UserError(f"--temperature must not be negative, not {args.temperature}")
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
    made = sample_images(args.run, args.checkpoint, args.resolution, args.columns, args.seed, args.out)
    if args.json:
        found = {"resolution": made.resolution, "images": made.images, "psnr": made.psnr}
        print(json.dumps({"run": args.run, "path": str(made.path), **found}))
    else:
        print(made.path)
        print(f"{made.images} held-out images are reconstructed at {made.psnr:.2f} dB")
