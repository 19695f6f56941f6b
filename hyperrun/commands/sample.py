"""hyperrun sample RUN: what a trained model makes. For a language model, text."""

from __future__ import annotations

import json
import sys

from hyperrun.commands.arguments import Arguments
from hyperrun.commands.eval_run import take_precision
from hyperrun.commands.hydra_app import import_plugins
from hyperrun.config import TextData
from hyperrun.errors import UserError, printable
from hyperrun.tasks.language_modeling import sample
from hyperrun.tracking.run_folder import find_run
from hyperrun.trained import load_run
from hyperrun.training.distributed import join_world


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun sample", "Let a trained language model write.")
    parser.add_argument("run", metavar="RUN", help="run folder of a language model")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="how the text begins (default: empty)")
    parser.add_argument("--length", type=int, default=400, metavar="N", help="further symbols (default: 400)")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0: the likeliest (default: 0.8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draws (default: 0)")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best", help="which one (default: best)")
    parser.add_argument("--plugins", metavar="MODULES", help="modules the run was made with, separated by commas")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if args.length < 1:
        raise UserError(f"--length must be at least 1, not {args.length}")
    if not args.temperature >= 0:
        raise UserError(f"--temperature must not be negative, not {args.temperature}")
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed must be at least 0 and below 2**63, not {args.seed}")
    if args.plugins:
        import_plugins([f"plugins={args.plugins}"])
    folder = find_run(args.run)
    config = folder.read_config()
    if not isinstance(config.data, TextData):
        raise UserError(f"hyperrun sample needs a run that models text, not data={config.data.name}")
    with join_world() as world:
        precision = take_precision(config, folder.read_summary() or {}, world.device)
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
    return 0
