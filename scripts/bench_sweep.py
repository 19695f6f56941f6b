"""What a sweep costs besides training: seconds from a job's config to its first step, share of the time spent training.

Start-up: in new processes, a sweep of one digits run until its optimizer takes its first step, less what torch alone
takes for that. (torch imports its compiler, torch._dynamo, in the first step of any optimizer: that counts as torch.)
Share: one process with 20 digits runs of the default model; time/train_s of the runs over the time of the whole line
without `import torch`: composing, evaluation, checkpoints and the closing table are not training.
`python scripts/bench_sweep.py [--rounds N] [--epochs N] [--wandb] [--json]`; exit status 1 above 1.5 s or below 80%.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHILD = """
import json, sys, time
start = time.perf_counter()
import torch
imported = time.perf_counter()
from torch.optim.optimizer import register_optimizer_step_pre_hook
first = []
register_optimizer_step_pre_hook(lambda *args: None if first else first.append(time.perf_counter()))
from hyperrun.cli import main
status = main(sys.argv[1:])
end = time.perf_counter()
print(json.dumps({"torch": imported - start, "startup": first[0] - imported, "rest": end - imported, "status": status}))
"""


ALONE = """
import time
start = time.perf_counter()
import torch
imported = time.perf_counter()
model = torch.nn.Linear(64, 10)
optimizer = torch.optim.Adam(model.parameters())
torch.nn.functional.cross_entropy(model(torch.ones(8, 64)), torch.zeros(8, dtype=torch.long)).backward()
optimizer.step()
print(imported - start, time.perf_counter() - imported)
"""


def torch_alone() -> tuple[float, float]:
    """Return the seconds of `import torch`, and from there to the end of a first step without hyperrun."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    imported, step = map(float, done.stdout.split())
    return imported, step


def sweep(folder: Path, *words: str) -> dict[str, float]:
    """Run one line in a new process; return its times in seconds."""
    line = [sys.executable, "-c", CHILD, "train", "-m", "data=digits", *words]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    if found["status"]:
        raise SystemExit(done.stdout + done.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--wandb", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    wandb = f"tracking.wandb.mode={'offline' if args.wandb else 'disabled'}"
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    rounds = []
    for _ in range(args.rounds + 1):  # the first fills the disk's cache
        with tempfile.TemporaryDirectory() as folder:
            rounds.append((*torch_alone(), sweep(Path(folder), wandb, "trainer.max_steps=1")["startup"]))
    imports, steps, starts = ([round(x, 2) for x in column] for column in zip(*rounds[1:], strict=True))
    added = statistics.median(start - step for start, step in zip(starts, steps, strict=True))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.perf_counter()
        whole = sweep(folder, wandb, f"trainer.epochs={args.epochs}", "seed=range(0,20)")
        wall = time.perf_counter() - begin
        runs = [json.loads(path.read_text()) for path in folder.glob("outputs/digits/*/summary.json")]
    trained = sum(run["time/train_s"] for run in runs)
    found = {
        "import_torch_s": statistics.median(imports),
        "torch_first_step_s": statistics.median(steps),
        "our_first_step_s": statistics.median(starts),
        "added_s": round(added, 2),
        "jobs": len(runs),
        "wall_s": round(wall, 1),
        "trained_s": round(trained, 1),
        "share": round(trained / whole["rest"], 3),
    }
    if args.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:18} {value}" for name, value in found.items()))
    return int(added > 1.5 or found["share"] < 0.8)


if __name__ == "__main__":
    sys.exit(main())
