"""scripts/quickstart and scripts/test, with a stand-in for uv, so that nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SHELL_FILES = [
    "scripts/_env.sh",
    "scripts/quickstart",
    "scripts/test",
    "scripts/results",
    "scripts/same_numbers",
    "scripts/one_machine_slurm",
    ".ci/run",
]
TOOLS = ["basename", "cat", "cksum", "dirname", "flock", "readlink", "rm", "sh", "sleep"]

# Makes an environment whose python and hyperrun are scripts, and notes each call.
FAKE_UV = f"""#!/bin/sh
echo "uv $1" >>"$LOG"
case $1 in
venv)
    for last; do :; done
    mkdir -p "$last/bin"
    printf '#!/bin/sh\\nexec "{sys.executable}" -I "$@"\\n' >"$last/bin/python"
    chmod +x "$last/bin/python"
    ;;
pip)
    sleep "${{INSTALL_SECONDS:-0}}"
    [ -z "${{FAIL_INSTALL:-}}" ] || exit 1
    for last; do :; done
    echo "$last" >>"$LOG"
    printf '#!/bin/sh\\npwd\\nprintf "<%%s>\\\\n" "$@"\\n' >.venv/bin/hyperrun
    chmod +x .venv/bin/hyperrun
    ;;
esac
"""


@dataclass
class Checkout:
    """A copy of the scripts in a folder with a space in its name, and a PATH with nothing else than stand-ins."""

    path: Path
    bin: Path
    log: Path

    def start(self, script: str | Path, *args: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.path / script, *args],
            cwd=cwd or self.path,
            env={"PATH": str(self.bin), "LOG": str(self.log), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str | Path, *args: str, cwd: Path | None = None, **env: str) -> tuple[int, str, str]:
        process = self.start(script, *args, cwd=cwd, **env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def calls(self) -> list[str]:
        """Return what was installed since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    path, bin = tmp_path / "a checkout", tmp_path / "bin"
    path.mkdir()
    bin.mkdir()
    shutil.copytree(REPO / "scripts", path / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(REPO / name, path)
    for tool in [*TOOLS, "mkdir", "chmod"]:
        if found := shutil.which(tool):
            (bin / tool).symlink_to(found)
    write_script(bin / "uv", FAKE_UV)
    write_script(bin / "python3", f'#!/bin/sh\nexec "{sys.executable}" -I "$@"\n')
    return Checkout(path, bin, tmp_path / "log")


def write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("name", SHELL_FILES)
def test_shell_files_parse(name: str) -> None:
    shells = ["bash"] if "bash" in (REPO / name).read_text().splitlines()[0] else ["sh", "bash"]
    for shell in shells:
        subprocess.run([shell, "-n", REPO / name], check=True)
    assert name == "scripts/_env.sh" or os.access(REPO / name, os.X_OK)


def test_first_run_installs_and_the_second_does_not(checkout: Checkout) -> None:
    code, out, err = checkout.run("scripts/quickstart", "seed=1", "two words")
    assert code == 0, err
    assert out == f"{checkout.path}\n<train>\n<seed=1>\n<two words>\n"
    assert checkout.calls() == ["uv venv", "uv pip", "."]

    start = time.perf_counter()
    code, out, err = checkout.run("scripts/quickstart")
    assert (code, err) == (0, "")
    assert time.perf_counter() - start < 5
    assert checkout.calls() == []


def test_runs_where_the_command_is_typed_and_through_a_symlink(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "go").symlink_to("../a checkout/scripts/quickstart")
    code, out, err = checkout.run(elsewhere / "go", cwd=elsewhere)
    assert code == 0, err
    assert out == f"{elsewhere}\n<train>\n"


def test_tests_add_their_extra_to_the_same_environment(checkout: Checkout) -> None:
    checkout.run("scripts/quickstart")
    checkout.run("scripts/test", "--version")
    assert checkout.calls() == ["uv venv", "uv pip", ".", "uv pip", ".[test]"]
    checkout.run("scripts/quickstart")
    checkout.run("scripts/test", "--version")
    assert checkout.calls() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_installs_again(checkout: Checkout, name: str) -> None:
    checkout.run("scripts/quickstart")
    with (checkout.path / name).open("a") as file:
        file.write("# changed\n")
    checkout.run("scripts/quickstart")
    assert checkout.calls() == ["uv venv", "uv pip", ".", "uv pip", "."]


def test_an_interrupted_installation_is_taken_up_again(checkout: Checkout) -> None:
    code, out, _ = checkout.run("scripts/quickstart", FAIL_INSTALL="1")
    assert code != 0 and out == ""
    assert checkout.calls() == ["uv venv", "uv pip"]
    assert checkout.run("scripts/quickstart")[0] == 0
    assert checkout.calls() == ["uv pip", "."]


@pytest.mark.parametrize("left", ["nothing", "dead link"])
def test_an_environment_without_a_python_is_made_anew(checkout: Checkout, left: str) -> None:
    (checkout.path / ".venv" / "bin").mkdir(parents=True)
    if left == "dead link":
        (checkout.path / ".venv" / "bin" / "python").symlink_to("/nonexistent/python3")
        (checkout.bin / "uv").write_text(FAKE_UV.replace("mkdir -p", 'rm -rf "$last"; mkdir -p'))
    assert checkout.run("scripts/quickstart")[0] == 0
    assert checkout.calls() == ["uv venv", "uv pip", "."]


def test_an_environment_made_by_hand_is_completed(checkout: Checkout) -> None:
    mine = checkout.path / ".venv" / "bin" / "mine"
    mine.parent.mkdir(parents=True)
    mine.touch()
    shutil.copy(checkout.bin / "python3", mine.parent / "python")
    assert checkout.run("scripts/quickstart")[0] == 0
    assert checkout.calls() == ["uv pip", "."]
    assert mine.exists()


def test_an_environment_of_an_old_python_is_left_alone(checkout: Checkout) -> None:
    python = checkout.path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    write_script(python, old_python("3.10.2"))
    code, _, err = checkout.run("scripts/quickstart")
    assert code == 1
    assert "holds Python 3.10.2" in err and len(err.splitlines()) == 1
    assert checkout.calls() == []


def old_python(version: str) -> str:
    """Return a script that passes for a Python too old for hyperrun."""
    return f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}" && exit\ncase $2 in *version_info*) exit 1 ;; esac\n'


def test_first_suitable_python_is_taken(checkout: Checkout) -> None:
    (checkout.bin / "python3").rename(checkout.bin / "python3.12")
    write_script(checkout.bin / "python3", old_python("3.9.1"))
    code, _, err = checkout.run("scripts/quickstart")
    assert code == 0
    assert "with python3.12\n" in err


@pytest.mark.parametrize("there", [True, False])
def test_no_suitable_python_is_one_clear_line(checkout: Checkout, there: bool) -> None:
    (checkout.bin / "python3").unlink()
    if there:
        write_script(checkout.bin / "python3", old_python("3.9.1"))
    code, out, err = checkout.run("scripts/quickstart")
    assert (code, out) == (1, "")
    found = "Python 3.9.1" if there else "no python3"
    assert err == f"quickstart: needs Python 3.11, 3.12 or 3.13 on the PATH: found {found}\n"


@pytest.mark.skipif(shutil.which("flock") is None, reason="no flock here (macOS): the scripts go without the lock")
def test_two_at_once_install_once(checkout: Checkout) -> None:
    both = [checkout.start("scripts/quickstart", INSTALL_SECONDS="1") for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert checkout.calls() == ["uv venv", "uv pip", "."]


def test_packages_that_lack_files_are_forgotten(checkout: Checkout) -> None:
    venv = checkout.path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = next(venv.glob("lib/python3*/site-packages"))
    records = {
        "rich-1.0.dist-info": "rich.py,,2\nrich-1.0.dist-info/RECORD,,\nrich.pyc,,\n",  # whole
        "numpy-1.0.dist-info": "numpy.py,,2\nnumpy_too.py,,2\n",  # a file is missing
        "torch-1.0.dist-info": "torch.py,,99\n",  # a file is cut short
        "typing_extensions-1.0.dist-info": "",  # nothing noted yet
        "wandb-1.0.dist-info": None,  # not even the note
        "mine-1.0.dist-info": None,  # none of ours
    }
    for name, record in records.items():
        (site / name).mkdir()
        if record is not None:
            (site / name / "RECORD").write_text(record)
    for name in ("rich.py", "numpy.py", "torch.py"):
        (site / name).write_text("#\n")
    code, _, err = checkout.run("scripts/quickstart")
    assert code == 0, err
    assert sorted(path.name for path in site.glob("*.dist-info")) == ["mine-1.0.dist-info", "rich-1.0.dist-info"]


def test_results_are_kept_and_then_written(checkout: Checkout, tmp_path: Path) -> None:
    keep = checkout.path / "scripts" / "_keep_runs.py"
    keep.write_text("import os, sys\nprint(os.getcwd(), *sys.argv[1:], sep='|')\n")  # tests/test_kept_results.py
    page = "<compare>\n<docs/results>\n<--results>\n<docs/results.md>\n<--readme>\n<README.md>\n"
    code, out, err = checkout.run("scripts/results", cwd=tmp_path)
    assert (code, out) == (0, f"{checkout.path}\n{page}"), err
    code, out, err = checkout.run("scripts/results", "runs", "more runs", cwd=tmp_path)
    kept = f"{tmp_path}|{checkout.path}/docs/results|runs|more runs\n"
    assert (code, out) == (0, f"{kept}{checkout.path}\n{page}"), err
    keep.write_text("raise SystemExit(2)\n")
    assert checkout.run("scripts/results", "no", cwd=tmp_path)[:2] == (2, ""), "then nothing is written"
