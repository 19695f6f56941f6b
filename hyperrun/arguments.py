"""Ordinary flags: those that several verbs have, and mistakes answered in one line like every other mistake."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from hyperrun.errors import UserError, nearest
from hyperrun.paths import expanded

FOLDER = "run folder, such as outputs/digits/hypercnn-s0-3a1ade54"


class Arguments(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are UserErrors that name the nearest option."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        options = [o for action in self._actions for o in action.option_strings if o.startswith("--")]
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        hint = nearest(unknown.group(1).partition("=")[0], options) if unknown else ""
        raise UserError(f"{message}{hint} ({self.prog} --help)")

    def add_run(self, help: str = FOLDER) -> None:
        """Take RUN, the folder of a run (or a file in it)."""
        self.add_argument("run", metavar="RUN", help=help)

    def add_checkpoint(self) -> None:
        self.add_argument("--checkpoint", choices=["best", "last"], default="best", help="which one (default: best)")

    def add_where(self) -> None:
        """Take --root DIR or --path FILE; `where` says which was typed."""
        moved = self.add_mutually_exclusive_group()
        moved.add_argument(
            "--root", metavar="DIR", help="where the data (files of pairs, too) are, if not where the run found them"
        )
        moved.add_argument("--path", metavar="FILE", help="where a file of your own is, if not where the run found it")

    def add_plugins(self, made: str = "the run was made with") -> None:
        """Take --plugins A,B; `parse_with_plugins` imports them."""
        self.add_argument("--plugins", metavar="MODULES", help=f"modules {made}, separated by commas")

    def add_json(self, help: str = "print one JSON object") -> None:
        self.add_argument("--json", action="store_true", help=help)

    def add_seed(self, help: str) -> None:
        self.add_argument("--seed", type=int, default=0, metavar="S", help=f"{help} (default: 0)")

    def add_out(self, metavar: str, help: str, group: Any = None) -> None:
        """Take --out PATH, with ~ as the home folder; in a group of options, where one is given."""
        (group or self).add_argument("--out", metavar=metavar, type=expanded, help=help)

    def parse_with_plugins(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return what was typed; the modules of --plugins, which a run's config may need to be read, are imported.

        Raises:
            UserError: a mistake, or a module that cannot be imported.
        """
        args = self.parse_args(argv)
        if args.plugins:
            from hyperrun.hydra_app.plugins import import_plugins  # which checks Hydra: not for --help

            import_plugins([f"plugins={args.plugins}"])
        return args


def where(args: argparse.Namespace) -> dict[str, str]:
    """Return what was typed of --root and --path, where a verb takes them: {"root": DIR}, {"path": FILE} or nothing."""
    return {key: found for key in ("root", "path") if (found := getattr(args, key, None)) is not None}
