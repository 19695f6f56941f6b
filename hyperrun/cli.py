"""The command line: a table of verbs. Picks one, imports it, hands on the rest of the line. No torch here."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from hyperrun.errors import Preempted, RunFailed, SweepFailed, UserError, nearest
from hyperrun.streams import going_on_unread, open_missing

COMMANDS = {
    "train": "train a model; Hydra overrides choose everything (hyperrun train --help)",
    "eval": "measure a run again from its checkpoint",
    "predict": "the classes of pictures with their probabilities; of a language model, the score of a text",
    "compare": "parameters against accuracy of many runs: tables, plot, CSV, HTML",
    "export": "the trained network as a plain one: safetensors, ONNX or torch.export, with a model card",
    "adapt": "a new task for a hypernet trained on tasks, by a new embedding alone",
    "sample": "let a trained model write a text, or draw images or pen strokes",
    "translate": "sentences in another language, from the line, a file or standard input",
    "analyze": "the paper's figures from runs: kernels, embeddings, saturation, how weights change along a text",
    "bench": "time training steps on this machine, each hypernet beside its target trained directly",
    "ls": "list models, targets, hypernets, data sets, optimizers, experiments, sweeps",
    "data": "say where a data set is looked for and what is there; --download gets it",
    "env": "versions, devices and paths: what a bug report needs",
}
"""Verb -> what it does; hyperrun.commands.VERB.main(argv) does it."""

MODULES = {"eval": "eval_run"}
"""Verbs whose module cannot have the verb's own name."""

USAGE = """usage: hyperrun VERB ...

{verbs}

first steps
  hyperrun train                                       a hyper CNN on small digits, under a minute
  hyperrun train model=hyperresnet data=cifar10        a Wide ResNet whose kernels are generated
  hyperrun train -m model=resnet,hyperresnet seed=0,1,2
  hyperrun compare outputs                             parameters against accuracy, over all runs
  hyperrun ls experiments                              the paper's rows, by name

hyperrun VERB --help says more. HYPERRUN_DATA=DIR is where data sets are looked for.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit status (0 done, 1 failed, 2 asked for something impossible)."""
    open_missing()
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or pipe that cannot show a character shows ? for it
            stream.reconfigure(errors="replace")
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE.format(verbs="\n".join(f"  {verb:9} {text}" for verb, text in COMMANDS.items())))
        return 0
    if args[0] in ("-V", "--version"):
        from hyperrun import __version__

        print(f"hyperrun {__version__}")
        return 0
    if args[0] in ("-sc", "--shell-completion"):
        offered = verbs_to_complete()
        if offered is not None:
            print(" ".join(offered))
            return 0
        args.insert(0, "train")  # Hydra's completion script calls the program without the verb
    verb = args[0]
    try:
        if verb not in COMMANDS:
            raise UserError(f"unknown verb '{verb}'{nearest(verb, COMMANDS)} (allowed: {', '.join(COMMANDS)})")
        module = importlib.import_module(f"hyperrun.commands.{MODULES.get(verb, verb)}")
        with going_on_unread() if verb == "train" else nullcontext():
            return module.main(args[1:])
    except UserError as error:
        return _fail(str(error), 2)
    except (RunFailed, SweepFailed) as error:
        return _fail(str(error), 1)
    except Preempted as error:
        print(f"hyperrun: {error}; the same command goes on", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("hyperrun: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # hyperrun ls | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ImportError, AttributeError):
        from hyperrun.hydra_app.replaced import missing_in_what_is_loaded

        missing = missing_in_what_is_loaded()
        if missing is None:
            raise
        return _fail(missing, 2)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            return _fail(f"{error.strerror}: {error.filename or 'while writing'}", 2)
        raise


def verbs_to_complete() -> list[str] | None:
    """Return the verbs that fit the line being completed; None if it is for Hydra, from whose line the verb is taken.

    The shell hands the line over in $COMP_LINE: "hyperrun tr", "hyperrun train model=".
    """
    program, _, rest = os.environ.get("COMP_LINE", "").partition(" ")
    if not program:
        return None  # hyperrun -sc install=bash
    verb, space, line = rest.lstrip().partition(" ")
    if not space:
        return [name for name in COMMANDS if name.startswith(verb)]
    if verb != "train":
        return []
    os.environ["COMP_LINE"] = f"{program} {line}"
    return None


def _fail(message: str, status: int) -> int:
    print(f"hyperrun: error: {message}", file=sys.stderr)
    return status
