"""Makes the run folders of tests/old_runs/ again, with the code of the commit that they are to come from:

    git worktree add --detach /tmp/old 4692f28
    python tests/old_runs/make.py /tmp/old

Of each line one run is finished (seed=0) and one is stopped by SIGTERM on its way (seed=1). A copy of the latter is
then resumed by the same code, and expected/NAME.json says how it ended, and what other commands made of the finished
run: what today's code has to come to as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
TEXT = HERE / "text"
"""Goes to the front of PYTHONPATH: a pydocs that is the same whatever the Python version."""
PLAIN = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HYPERRUN_COMPILE_PHASES": "0"}

COMMON = (
    *("precision=float32", "trainer.matmul_precision=highest", "trainer.clip_norm=1.0", "trainer.log_every=3"),
    *("trainer.batch_size=8", "tracking.wandb.mode=disabled"),
)
LINES = {
    "hypercnn": (
        *("model=hypercnn", "target.channels=[4,4]", "target.kernel_size=3", "hypernet.tile=[4,4]", "hypernet.z_dim=2"),
        *("data.crop_padding=1", "trainer.accumulate=2", "trainer.ema=0.9", "optim.generated_l2=1e-4"),
        *("trainer.max_steps=120", "trainer.eval_every=15"),
    ),
    "hyperlstm": (
        *("model=hyperlstm", "data=pydocs", "data.sequence_length=8", "data.eval_streams=2", "data.eval_burn_in=10"),
        *("target.hidden_size=8", "hypernet.hyper_size=6", "hypernet.z_dim=2", "hypernet.recurrent_dropout=0.1"),
        *("trainer.max_steps=60", "trainer.eval_every=15"),
    ),
    "hypermlp": (
        *("model=hypermlp", "data=split_digits", "data.order=continual", "schedule=constant", "target.hidden=[8]"),
        *("hypernet.z_dim=4", "hypernet.hidden=[8]", "hypernet.chunk_size=64"),
        *("trainer.max_steps=150", "trainer.eval_every=15"),
    ),
    "hypersiren": (
        *("model=hypersiren", "target.hidden_size=8", "target.layers=2", "hypernet.z_dim=2", "hypernet.hidden=[8]"),
        *("hypernet.points=32", "hypernet.val_images=10", "hypernet.val_fit_steps=5", "hypernet.fit_steps=10"),
        *("hypernet.test_images=10", "trainer.max_steps=60", "trainer.eval_every=15"),
    ),
}
"""What is typed behind `hyperrun train`, besides COMMON and the seed."""
STOP_AFTER = {"hypercnn": 40, "hyperlstm": 20, "hypermlp": 33, "hypersiren": 20}
"""The step after which the run is stopped: hypermlp's is in the second of five tasks."""
EXPORT = {"hypercnn": (), "hypermlp": ("--task", "1")}
"""Model -> words that say which plain network to export; the other two have none, and the command says so."""


def machine() -> dict[str, str]:
    """Return what the last bit of a figure depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = sorted(next((line.split()[2:] for line in lines if line.startswith("flags")), []))
    return {
        "torch": str(torch.__version__),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_flags": hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16],
    }


def result(folder: Path) -> dict[str, Any]:
    """Return how a finished run ended, without what a clock measured."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    model = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)["model"]
    return {
        "steps": summary["steps"],
        "best/step": summary["best/step"],
        "figures": {name: value for name, value in summary.items() if name.startswith(("params/", "val/", "test/"))},
        "rows": [{k: v for k, v in row.items() if not k.startswith(("time/", "throughput/"))} for row in rows],
        "best.pt": digest(model),
    }


def digest(model: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a model's tensors: names, types, shapes, bits."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def last_step(metrics: Path) -> int:
    """Return the step of the last row that is written to its end; -1 before the first."""
    whole = [line for line in metrics.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else -1


def train(code: Path, cwd: Path, line: tuple[str, ...], stop_after: int | None = None) -> Path:
    """Train a line in cwd with that code; return its run folder. stop_after: the step after which it gets a SIGTERM."""
    before = set(cwd.glob("outputs/*/*"))
    environment = {**os.environ, **PLAIN, "PYTHONPATH": f"{code}{os.pathsep}{TEXT}"}
    process = subprocess.Popen([sys.executable, "-m", "hyperrun", "train", *line], cwd=cwd, env=environment)
    while stop_after is not None and process.poll() is None:
        files = [folder / "metrics.jsonl" for folder in set(cwd.glob("outputs/*/*")) - before]
        if any(last_step(file) >= stop_after for file in files if file.exists()):
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.001)
    status = process.wait()
    assert status == (0 if stop_after is None else 128 + signal.SIGTERM), status
    (folder,) = set(cwd.glob("outputs/*/*")) - before or before
    return folder


def run(code: Path, *words: str | Path) -> str:
    """Run a command line with that code here; return what it printed."""
    environment = {**os.environ, **PLAIN, "PYTHONPATH": f"{code}{os.pathsep}{TEXT}"}
    command = [sys.executable, "-m", "hyperrun", *map(str, words)]
    return subprocess.run(command, cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def said_of(code: Path, name: str, finished: Path) -> dict[str, Any]:
    """Return what that code's commands make of a finished run."""
    said: dict[str, Any] = {"eval": json.loads(run(code, "eval", finished, "--json"))}
    with tempfile.TemporaryDirectory() as place:
        if name in EXPORT:
            run(code, "export", finished, "--out", place, *EXPORT[name])
            said["exported"] = digest(load_file(Path(place) / "model.safetensors"))
    if name == "hyperlstm":
        said["sample"] = json.loads(run(code, "sample", finished, "--json", "--length", "80"))["text"]
    return said


def main(code: Path) -> None:
    for name in ("outputs", "expected"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / "expected").mkdir()
    for name, line in LINES.items():
        finished = train(code, HERE, (*COMMON, *line, "seed=0"))
        stopped = train(code, HERE, (*COMMON, *line, "seed=1"), STOP_AFTER[name])
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / stopped.relative_to(HERE)
            shutil.copytree(stopped, copy)
            train(code, Path(place), (*COMMON, *line, "seed=1"))
            ended = result(copy)
        runs = {"finished": str(finished.relative_to(HERE)), "stopped": str(stopped.relative_to(HERE))}
        said = {"machine": machine(), **runs, "resumed": ended, **said_of(code, name, finished)}
        (HERE / "expected" / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n")
    for lock in HERE.glob("outputs/*/*/.lock"):
        lock.unlink()
    shutil.rmtree(HERE / "outputs" / ".hydra", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
