"""Every example in the README and in a docstring runs; every command line in the README is one that composes."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

import hyperrun
from hyperrun import cli
from hyperrun.arguments import Arguments
from hyperrun.hydra_app.compose import compose_config

PACKAGE = Path(hyperrun.__file__).parent
README = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LINES = [line for line in README.splitlines() if line.startswith("    hyperrun ")]
COMMANDS = sorted({line.partition("  #")[0].strip() for line in LINES})
OF_THE_PLUGIN = ("plugins=", "target=tiny", "target.channels=32")
OF_AN_EXTRA = ("sweep=search",)


def is_code(text: str) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Import | ast.ImportFrom | ast.Call | ast.FunctionDef) for node in nodes)


def docstring_examples() -> dict[str, str]:
    """Return "file: name" -> the indented lines of each docstring that has some which are Python."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            text = ast.get_docstring(node) or ""
            # an example is indented and stands between empty lines; "Raises:" and the like have none before
            blocks = re.findall(r"(?<=\n\n)((?:    .*\n|\n)+)", f"\n\n{text}\n")
            code = [b for b in (re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks) if is_code(b)]
            if code:
                found[f"{path.relative_to(PACKAGE)}: {getattr(node, 'name', 'module')}"] = "\n".join(code)
    return found


EXAMPLES = docstring_examples()
BEFORE = {
    "registry.py: module": (
        "from dataclasses import dataclass\nfrom hyperrun.config import TargetConfig\n"
        "from hyperrun.registry import register\n@dataclass\nclass TinyTarget(TargetConfig):\n    units: int = 3\n"
    ),
    "hypernets/build.py: hypernetize": "import torch\nimport torchvision\nfrom hyperrun import hypernetize\n",
    "hypernets/hyper_lstm.py: HyperLSTM": "import torch\nfrom hyperrun import HyperLSTM\n",
    "hypernets/conditional.py: ConditionalHypernet": "import torch\nfrom hyperrun.hypernets import *\n",
    "hypernets/conditional.py: ConditionalModel": (
        "from hyperrun.hypernets import ConditionalModel, ParameterGenerator, select_parameters\n"
        "from torch import nn\ntarget = nn.Sequential(*(nn.Conv2d(2, 2, 3) for _ in range(3)))\n"
    ),
    "data/__init__.py: module": (
        "from torch import zeros\nfrom hyperrun.data import *\n"
        "english, french = ['one', 'two'], ['un', 'deux']\n"
        "images, labels = zeros(4, 1, 8, 8).byte(), zeros(4).long()\n"
    ),
}
"""What a docstring's example takes for granted."""
FILLED_IN = {
    "= ...  ": "= images, labels, images, labels  ",
    "[..., ..., ...]": "['some text', 'some more', 'and more']",
    "RawPairs.of(..., ...)": "RawPairs.of(english, french)",
}
"""What stands for the reader's own data in an example."""


def test_the_examples_are_found():
    assert set(BEFORE) <= set(EXAMPLES)
    assert len(BLOCKS) >= 3 and len(COMMANDS) > 30


@pytest.mark.filterwarnings("ignore:.*more than it has")
@pytest.mark.parametrize("where", EXAMPLES)
def test_a_docstrings_example_runs(where: str):
    code = EXAMPLES[where]
    for placeholder, text in FILLED_IN.items():
        code = code.replace(placeholder, text)
    space: dict[str, Any] = {}
    exec(BEFORE.get(where, "") + code, space)
    if where == "data/__init__.py: module":
        assert len(space["rings"](compose_config(["data.val_size=1"]).data).train) == 3
        assert space["verses"](compose_config(["model=lstm", "data=pydocs"]).data).name == "verses"
        line = ["model=seq2seq", "data=number_words", "data.pieces=24"]
        assert len(space["proverbs"](compose_config(line).data).train) == 2


@pytest.mark.filterwarnings("ignore:.*more than it has")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_readme_example_runs(number: int):
    torch.manual_seed(0)
    exec(BLOCKS[number], {"__name__": "__main__"})


def first_of(word: str) -> str:
    """model=a,b -> model=a; lists keep their commas."""
    key, equals, value = word.partition("=")
    return word if value.startswith("[") else key + equals + value.partition(",")[0]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_is_one(line: str, monkeypatch: pytest.MonkeyPatch):
    for command in line.split("; "):
        program, verb, *words = shlex.split(command)
        assert program == "hyperrun" and verb in cli.COMMANDS, command
        if verb in ("train", "bench"):
            words = [first_of(w) for w in words if not w.startswith(("-", *OF_THE_PLUGIN, *OF_AN_EXTRA))]
            compose_config(words)
            continue
        parsed: list[bool] = []

        def only_parse(self: Arguments, argv: list[str], parsed: list[bool] = parsed) -> None:
            super(Arguments, self).parse_args(argv)
            parsed.append(True)
            raise SystemExit(0)

        monkeypatch.setattr(Arguments, "parse_args", only_parse)
        if verb in ("data", "env", "ls"):
            continue  # have tests of their own, or no Arguments
        with pytest.raises(SystemExit):
            cli.main([verb, *words])
        assert parsed, command
