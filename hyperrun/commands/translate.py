"""hyperrun translate RUN TEXT: what a trained model makes of sentences, from the line, a file or standard input."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hyperrun.arguments import Arguments
from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.learn import chunks
from hyperrun.data.pairs.lines import TextFile
from hyperrun.errors import UserError, printable
from hyperrun.load import load_run, take_precision
from hyperrun.paths import expanded
from hyperrun.runs.folder import find_run
from hyperrun.tasks.translating import Found, Translator
from hyperrun.training.distributed import join_world

SEARCH = ("beam", "alpha", "beta")
"""Options of the search: as in the run's config where they are not typed."""
AT_ONCE = 1000
"""Lines of a file that are put in order of their lengths before they are translated."""


def main(argv: list[str]) -> int:
    parser = Arguments(
        "hyperrun translate",
        "Translate sentences with a trained model: those on the line, or the lines of a file, or, with neither, those "
        "of standard input, each answered as soon as it is read.",
    )
    parser.add_run("run folder of a model of translation")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="a sentence, in quotes")
    parser.add_argument("--file", type=expanded, metavar="F", help="its lines instead (plain, .gz, .bz2, .xz or .zst)")
    parser.add_argument("--beam", type=int, metavar="K", help="translations that are followed (default: the run's)")
    parser.add_argument("--alpha", type=float, metavar="A", help="length normalization (default: the run's)")
    parser.add_argument("--beta", type=float, metavar="B", help="coverage penalty (default: the run's)")
    parser.add_argument("--nbest", type=int, default=1, metavar="N", help="the N best of each (default: 1)")
    parser.add_argument("--scores", action="store_true", help="before each its score and its log-probability in nats")
    parser.add_argument("--attention", type=expanded, metavar="F.png", help="draw what the translation attends to")
    parser.add_checkpoint()
    parser.add_argument("--precision", choices=["bf16", "fp16", "float32"], help="default: the run's own")
    parser.add_plugins()
    parser.add_json("print one JSON object a sentence, one a line")
    args = parser.parse_with_plugins(argv)
    folder = find_run(args.run)
    config = folder.read_config()
    if not isinstance(config.data, PairData):
        raise UserError(
            f"hyperrun translate needs a run on pairs of sentences, not one of model={config.model} on "
            f"data={config.data.name}"
        )
    check(args, config.data)
    lines = sentences(args)
    with join_world() as world:
        precision = take_precision(config, folder.read_summary() or {}, world.device, args.precision)
        loaded = load_run(folder.path, args.checkpoint, world.device)
        assert loaded.pieces is not None
        search = {name: getattr(args, name) for name in SEARCH}
        tokens = config.data.tokens_per_batch
        translator = Translator(loaded.model, loaded.pieces, precision, **search, tokens=tokens)
        if args.attention is not None:
            draw(translator, args.text[0], args.attention)
        number = 0
        for batch in lines:
            for found in translator.translate(batch):
                number += 1
                say(found, number, args)
            sys.stdout.flush()
    return 0


def check(args: argparse.Namespace, data: PairData) -> None:
    """Fill in what was not typed.

    Raises:
        UserError: a number that cannot be, or options that do not go together.
    """
    for name in SEARCH:
        if getattr(args, name) is None:
            setattr(args, name, getattr(data, name))
    if args.beam < 1:
        raise UserError(f"--beam must be at least 1, not {args.beam}")
    if not 1 <= args.nbest <= args.beam:
        raise UserError(f"--nbest must be from 1 to the beam, which is {args.beam} (--beam), not {args.nbest}")
    for name in ("alpha", "beta"):
        if not 0 <= getattr(args, name) < float("inf"):
            raise UserError(f"--{name} must be a number that is not negative, not {getattr(args, name)}")
    if args.text and args.file is not None:
        raise UserError("TEXT and --file both say what to translate: type one of them")
    if args.attention is not None:
        if len(args.text) != 1:
            raise UserError("--attention draws one sentence: type it as TEXT")
        if args.attention.suffix.lower() != ".png":
            raise UserError(f"--attention must be a file that ends in .png, not {args.attention}")


def sentences(args: argparse.Namespace) -> Iterator[list[str]]:
    """Return the sentences, as many at a time as are translated side by side.

    Raises:
        UserError: a file that is missing or empty.
    """
    if args.text:
        # what the shell handed over in another encoding is replaced, as it is on standard input
        return iter([[text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in args.text]])
    if args.file is not None:
        return chunks(TextFile(args.file), AT_ONCE)
    return ([line] for line in read_lines(getattr(sys.stdin, "buffer", sys.stdin)))


def read_lines(stream: Iterable[bytes | str]) -> Iterator[str]:
    """Yield the lines of a stream as they come; bytes that are no UTF-8 become U+FFFD."""
    for line in stream:
        text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
        yield text.removesuffix("\n").removesuffix("\r")


def say(found: Found, number: int, args: argparse.Namespace) -> None:
    """Print the translations of a sentence, the `number`-th; of an empty one, an empty line, so that lines stay beside
    each other."""
    if found.trouble is not None:
        print(f"hyperrun: warning: sentence {number:,}: {found.trouble}", file=sys.stderr)
    best = found.translations[: args.nbest]
    if args.json:
        rows = [{"text": one.text, "score": one.score, "log_probability": one.log_probability} for one in best]
        about: dict[str, Any] = {"source": found.source, "translations": rows}
        print(json.dumps(about if found.trouble is None else {**about, "trouble": found.trouble}, ensure_ascii=False))
        return
    if not best:
        print()
    for one in best:
        columns = [str(number)] if args.nbest > 1 else []
        columns += [f"{one.score:.4f}", f"{one.log_probability:.4f}"] if args.scores else []
        text = printable(one.text) if sys.stdout.isatty() else one.text
        print("\t".join([*columns, text]))


def draw(translator: Translator, text: str, path: Path) -> None:
    """Write the picture of what the best translation attends to.

    Raises:
        UserError: a sentence that has no translation, or a place that cannot be written.
    """
    from hyperrun.analyze.recurrent.alignment import write_alignment  # matplotlib takes half a second

    write_alignment(translator.alignment(text), path)
    print(path, file=sys.stderr)
