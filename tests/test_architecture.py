"""The house drawn from its imports: who may know whom, no circle, no verb that imports another, nothing too large."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import pytest

from hyperrun.hydra_app.replaced import BORROWED, is_there

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hyperrun"

EVERYBODY_KNOWS = {"errors", "metrics", "conf_dir", "inputs", "paths", "registry"}
"""Words, rules and lists without a part of their own; they know none but each other."""

KNOWS: dict[str, set[str]] = {
    # the face: what `import hyperrun` offers, imported when it is asked for; the version is known to all
    "": {"hypernets", "load"},
    # the verbs, and what is around Hydra
    "__main__": {"cli"},
    "cli": {"", "hydra_app", "streams"},
    "streams": set(),
    "commands": {
        "", "arguments", "hydra_app", "analyze", "compare", "prediction", "load", "models", "tasks", "training",
        "hypernets", "targets", "data", "pictures", "tracking", "runs", "config",
    },
    "arguments": {"hydra_app"},
    "hydra_app": {"compare", "models", "training", "data", "tracking", "runs", "config"},
    # of finished runs
    "analyze": {"load", "tasks", "training", "hypernets", "targets", "data", "pictures", "tracking", "runs", "config"},
    "compare": {"", "pictures", "tracking", "runs", "config"},
    "prediction": {"load", "training", "hypernets", "data"},
    "load": {"models", "tasks", "training", "hypernets", "targets", "data", "runs", "config"},
    # what is trained
    "tasks": {"models", "training", "hypernets", "targets", "data", "config"},
    "training": {"hypernets", "data", "tracking", "runs", "config"},
    "models": {"training", "hypernets", "targets", "data", "config"},
    "hypernets": {"targets", "config"},  # and no data set
    "targets": {"config"},  # and nothing that generates their weights
    # what knows no model
    "data": {"config"},
    "tracking": {"runs", "config"},
    "runs": {"config"},
    "pictures": set(),
    "config": set(),
    **{name: set() for name in EVERYBODY_KNOWS},
}  # fmt: skip
"""Part of hyperrun (a folder or a file) -> the parts it may import, besides those that everybody knows."""

NOT_YET: dict[tuple[str, str], str] = {}
"""Arrows that run wrong and are to be mended: (module, what it imports) -> why. This list only becomes shorter."""

MOST_FILES, MOST_LINES = 20, 400


class Import(NamedTuple):
    module: str
    """The file that imports."""
    names: str
    """What it imports: a module of hyperrun."""
    at_once: bool
    """Whether that happens when the file is imported, not in a function, nor for type checkers alone."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
"""Module -> what stands in it."""


def part_of(module: str) -> str:
    """hyperrun.data.images -> data; hyperrun -> the face."""
    return (module.split(".") + [""])[1]


def imports_of(module: str) -> Iterator[Import]:
    """Yield what a file imports of hyperrun: of `from hyperrun.x import y` the module y where y is one, else x."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, at_once) for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            if is_ours(node.module or ""):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield Import(module, inner if inner in FILES else str(node.module), at_once)
        for child in ast.iter_child_nodes(node):
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from visit(child, at_once and not later and not for_types)

    yield from visit(FILES[module], True)


def is_ours(name: str) -> bool:
    return name.partition(".")[0] == "hyperrun"


IMPORTS = [found for module in FILES for found in imports_of(module)]


def test_a_module_knows_only_those_below_it() -> None:
    wrong = []
    for module, names, _ in IMPORTS:
        mine, theirs = part_of(module), part_of(names)
        if theirs != mine and theirs not in KNOWS[mine] | EVERYBODY_KNOWS and (module, names) not in NOT_YET:
            wrong.append(f"{module} imports {names}")
    assert wrong == []


def test_the_order_is_one() -> None:
    """No part is above another that is above it."""
    TopologicalSorter(KNOWS).prepare()
    assert {part_of(module) for module in FILES} == set(KNOWS), "every folder and file has its place"


def test_what_is_mended_is_taken_off_the_list() -> None:
    arrows = {(module, names) for module, names, _ in IMPORTS}
    assert set(NOT_YET) <= arrows


def test_no_circle_of_modules() -> None:
    """Imported in any order, no file meets a half-made one."""
    graph = {module: set[str]() for module in FILES}
    for module, names, at_once in IMPORTS:
        if at_once and (module, names) not in NOT_YET:
            graph[module].add(names)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_a_verb_imports_no_other_verb() -> None:
    verbs = [found for found in IMPORTS if part_of(found.names) == "commands"]
    assert verbs == [], "not even one verb another"


def test_measuring_does_not_import_drawing() -> None:
    """In analyze/, what draws is imported by what draws, and by the studies, which put both together."""
    mine = [found for found in IMPORTS if part_of(found.module) == "analyze"]
    drawing = {found.module for found in mine if part_of(found.names) == "pictures"}
    wrong = [
        f"{module} imports {names}"
        for module, names, _ in mine
        if names in drawing and module not in drawing and not module.endswith(("_study", "studies"))
    ]
    assert wrong == []


def test_runs_are_read_and_compared_without_torch() -> None:
    modules = [module for module in FILES if part_of(module) in ("config", "runs", "pictures", "compare", "arguments")]
    assert "hyperrun.runs.folder" in modules and "hyperrun.compare.table" in modules
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("top", ["hyperrun", "scripts", "examples"])
def test_nothing_grows_beyond_what_is_read_at_one_sitting(top: str) -> None:
    folders = [path for path in (ROOT / top, *(ROOT / top).rglob("*")) if path.is_dir() and path.name != "__pycache__"]
    for folder in folders:
        files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".pyc"]
        assert len(files) <= MOST_FILES, folder
        for file in files:
            assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, file


# ---------------------------------------------------------------- private names of others

OWN = {"_replace", "_exit", "_target_"}
"""Documented in spite of the underscore: of named tuples, of os, a key of Hydra's."""


def private_names(module: str) -> Iterator[str]:
    """Yield the private names of other packages, or of other objects than self, that a file uses."""
    for node in ast.walk(FILES[module]):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            yield from filter(is_private, [node.attr])
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            folders, names = str(node.module).split("."), [alias.name for alias in node.names]
            inside = any(map(is_private, folders))  # whatever a private module has is private
            yield from (name for name in (*folders, *names) if is_private(name) or (inside and name in names))
        elif isinstance(node, ast.Import):
            yield from (part for alias in node.names for part in alias.name.split(".") if is_private(part))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_every_private_name_of_another_package_is_listed() -> None:
    listed = {
        part
        for borrowed in BORROWED.values()
        for name in (*borrowed.needed, *borrowed.guarded, *borrowed.of_instances)
        for part in name.replace(":", ".").split(".")
    }
    for module in FILES:
        unlisted = set(private_names(module)) - listed - OWN
        assert not unlisted, f"{module}: hyperrun/hydra_app/replaced.py does not know of {unlisted}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of packages about each other, as they are imported
@pytest.mark.parametrize("package", BORROWED)
def test_the_listed_names_are_there(package: str) -> None:
    found = look_for(package, BORROWED[package].needed)
    assert all(found.values()), found


@pytest.mark.slow  # inductor takes seconds to import
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("package", [package for package, borrowed in BORROWED.items() if borrowed.guarded])
def test_names_that_can_be_done_without_are_there(package: str) -> None:
    found = look_for(package, BORROWED[package].guarded)
    assert all(found.values()), found


def look_for(package: str, names: tuple[str, ...]) -> dict[str, bool]:
    try:
        version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    return {name: is_there(name) for name in names}


# ---------------------------------------------------------------- a name that is gone

REMOVED = """
import importlib, sys
module, path = "{name}".split(":")
owner = importlib.import_module(module)
*inner, last = path.split(".")
for part in inner:
    owner = getattr(owner, part)
delattr(owner, last)
from hyperrun.cli import main
sys.exit(main({argv}))
"""


def without(name: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run hyperrun where another package has a name no longer."""
    code = REMOVED.format(name=name, argv=list(argv))
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name", "argv"),
    [
        ("hydra-core", "hydra.plugins.sweeper:Sweeper.validate_batch_is_legal", ["ls", "models"]),
        ("torch", "torch.utils._pytree:tree_map", ["export", "nowhere"]),
        ("torch", "torch.cpu:_is_amx_tile_supported", ["env"]),
    ],
)
def test_a_name_that_is_gone_is_one_line(package: str, name: str, argv: list[str]) -> None:
    """Said at the start, and not by an AttributeError in the middle; of torch when the failure is there."""
    ended = without(name, *argv)
    known = BORROWED[package].seen_in
    assert ended.returncode == 2
    assert ended.stderr == (
        f"hyperrun: error: {package} {version(package)} has no {name.replace(':', '.')}, which hyperrun relies on; "
        f"known to have it: {package} {', '.join(known)} (pip install {package}=={known[0]})\n"
    )


def test_an_error_of_another_kind_stays_as_it_is() -> None:
    ended = without("hyperrun.metrics:compression_text", "ls", "optim")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("ImportError: cannot import name 'compression_text'")
