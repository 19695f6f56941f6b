"""hyperrun sample RUN: what a trained model makes. For a language model, text."""

from __future__ import annotations

import json
import sys

from hyperrun.commands.arguments import Arguments
from hyperrun.commands.eval_run import load_run
from hyperrun.errors import UserError
from hyperrun.tasks.language_modeling import LanguageModeling, printable, sample


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun sample", "Let a trained language model write.")
    parser.add_argument("run", metavar="RUN", help="run folder of a language model")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="how the text begins (default: empty)")
    parser.add_argument("--length", type=int, default=400, metavar="N", help="further symbols (default: 400)")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0: the likeliest (default: 0.8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draws (default: 0)")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best", help="which one (default: best)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if args.length < 1:
        raise UserError(f"--length must be at least 1, not {args.length}")
    if not args.temperature >= 0:
        raise UserError(f"--temperature must not be negative, not {args.temperature}")
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed must be at least 0 and below 2**63, not {args.seed}")
    with load_run(args.run, args.checkpoint) as (_, task, precision):
        if not isinstance(task, LanguageModeling):
            raise UserError(f"hyperrun sample needs a run that models text, not {task.name}")
        text = sample(
            task.model,
            task.text.vocabulary,
            args.length,
            prompt=args.prompt,
            temperature=args.temperature,
            seed=args.seed,
            precision=precision,
        )
    if args.json:
        text = json.dumps({"run": args.run, "text": text})
    elif sys.stdout.isatty():
        text = printable(text)
    print(text)
    return 0
