"""What is shipped: every config, in the right place, and an installed hyperrun that finds them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())
CONFIGS = sorted(path.relative_to(REPO).as_posix() for path in REPO.glob("conf/**/*.yaml") if "local" not in path.parts)
"""All but conf/local/, a user's own settings."""


def repo_files() -> list[str]:
    """Return the files a commit of everything would hold: tracked ones, and new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return sorted({name for name in listing.stdout.split("\0") if name and (REPO / name).is_file()})


def test_gitignore_hides_no_config() -> None:
    assert len(CONFIGS) > 20
    in_git = set(repo_files())
    hidden = [name for name in CONFIGS if name not in in_git]
    assert not hidden, "an unanchored line of .gitignore, such as data/, also matches in conf/"


def test_every_package_is_listed() -> None:
    on_disk = {path.parent.relative_to(REPO).as_posix().replace("/", ".") for path in REPO.glob("hyperrun/**/*.py")}
    listed = set(PYPROJECT["tool"]["setuptools"]["packages"])
    assert listed == on_disk | {"hyperrun.conf"}, "a folder with code that pyproject.toml lacks, or the other way round"


def test_extras_and_ranges_are_those_promised() -> None:
    requirements = PYPROJECT["project"]["dependencies"]
    assert {"torch>=2.11", "torchvision>=0.26", "hydra-core>=1.3.8,<1.5"} <= set(requirements)
    names = {re.split(r"[<>=\[]", line)[0] for line in requirements}
    assert names == {
        "torch", "torchvision", "hydra-core", "wandb", "rich", "numpy", "safetensors", "scikit-learn", "matplotlib",
        "sentencepiece", "sacrebleu",
    }  # fmt: skip


def test_constraints_are_names_and_versions_only() -> None:
    lines = [line for line in (REPO / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    wrong = [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9-]*==[\w.]+( ; [\w '\"<>=.]+)?", line)]
    assert not wrong
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))
    extras = PYPROJECT["project"]["optional-dependencies"]
    direct = PYPROJECT["project"]["dependencies"] + [line for lines in extras.values() for line in lines]
    assert {re.split(r"[<>=\[]", line)[0] for line in direct} - {"hyperrun"} <= set(names)


def test_the_test_extra_has_all_others() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    (own,) = (line for line in extras["test"] if line.startswith("hyperrun["))
    assert set(own.removeprefix("hyperrun[").removesuffix("]").split(",")) == extras.keys() - {"test"}


def test_no_file_names_a_package_registry() -> None:
    hosts = [r"pypi\.org", r"pythonhosted\.org", r"download\.pytorch\.org", r"registry\.npmjs", r"conda\.anaconda\.org"]
    options = [r"--(extra-)?index-url", r"--find-links", r"-index-url\b", r"\[\[tool\.uv\.index"]
    pattern = re.compile("|".join(hosts + options))
    this = Path(__file__).relative_to(REPO).as_posix()
    naming = []
    for name in repo_files():
        try:
            text = (REPO / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        if name != this and pattern.search(text):
            naming.append(name)
    assert not naming


# ---------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build sdist and, from it, wheel out of a copy of what git holds; return the folder with both."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in repo_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a clean environment, which borrows this one's other packages; return its folder."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", next(built.glob("*.whl")))
    # A .pth file adds a folder to the path without reading the .pth files in it: an editable hyperrun stays unseen.
    (site_packages(venv) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def site_packages(venv: Path) -> Path:
    return next(venv.glob("lib/python3*/site-packages"))


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout


@pytest.mark.slow
def test_wheel_and_sdist_hold_every_config(built: Path) -> None:
    wheel = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    assert [f"hyperrun/{name}" for name in CONFIGS] == sorted(name for name in wheel if name.endswith(".yaml"))
    assert "hyperrun/py.typed" in wheel
    assert {name.split("/")[0] for name in wheel} == {"hyperrun", "hyperrun-0.1.0.dist-info"}
    code = {path.relative_to(REPO).as_posix() for path in REPO.glob("hyperrun/**/*.py")}
    assert code == {name for name in wheel if name.endswith(".py")}

    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert set(CONFIGS) <= names


@pytest.mark.slow
def test_installation_adds_hyperrun_and_nothing_else(installed: Path) -> None:
    there = {path.name for path in site_packages(installed).iterdir()}
    from_venv = {
        name for name in there if name.startswith(("pip", "setuptools", "pkg_resources", "_distutils", "distutils"))
    }
    assert there - from_venv == {"hyperrun", "hyperrun-0.1.0.dist-info", "borrowed.pth"}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [[], ["model=hyperresnet", "data=cifar10"], ["experiment=ha2016/mnist_hypercnn"]])
def test_installed_hyperrun_composes_from_another_folder(installed: Path, tmp_path: Path, overrides: list[str]) -> None:
    from omegaconf import OmegaConf

    printed = run(installed / "bin" / "hyperrun", "train", "--cfg", "job", *overrides, cwd=tmp_path)
    config = OmegaConf.create(printed)
    assert {"model", "target", "hypernet", "data", "optim", "schedule", "trainer", "tracking"} <= set(config)
    assert config.data.name == ("cifar10" if "data=cifar10" in overrides else "mnist" if overrides else "digits")
    assert list(tmp_path.iterdir()) == []

    where = run(installed / "bin" / "python", "-c", "import hyperrun; print(hyperrun.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed)
