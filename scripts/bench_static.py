"""What a static hypernet costs: a training step, memory, inference, and what the runner adds. Prints a table.

    python scripts/bench_static.py                     # everything; about 10 minutes on two cores
    python scripts/bench_static.py --parts step ops    # some of it

Variants are stepped in turn within each round, in rotating order, so that a machine that speeds up or slows down does
so for all of them. Reported: the median, and the median over rounds of the ratio to the direct network.
Run it on a quiet machine; one process at a time. Where there is none, --cpu-clock takes one thread and its CPU time,
which other processes hardly change.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console as RichConsole
from rich.table import Table
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hyperrun.data import ImageSplit, make_set, register
from hyperrun.data.kinds import ImageData
from hyperrun.data.loader import ImageLoader
from hyperrun.hydra_app.compose import compose_config
from hyperrun.hypernets import HyperModel, with_hypernet
from hyperrun.inputs import Images
from hyperrun.runs.folder import RunFolder
from hyperrun.targets import build_target
from hyperrun.tasks import build_task
from hyperrun.tracking.console import Console
from hyperrun.tracking.environment import device_name, git_commit
from hyperrun.tracking.wandb_run import WandbRun
from hyperrun.training.distributed import World
from hyperrun.training.loop import train
from hyperrun.training.precision import Precision, choose_precision
from hyperrun.training.stop import StopRequest
from hyperrun.training.timing import in_turn, wait

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
clock = time.perf_counter
"""Seconds; --cpu-clock makes it the CPU time of this process."""
PARTS = ("step", "inference", "ops", "memory", "precision", "runner")


def model_of(kind: str, width: int = 2) -> nn.Module:
    """Return Wide ResNet 40-`width` for CIFAR-10: "direct" or "hyper"."""
    torch.manual_seed(0)
    preset = "resnet" if kind == "direct" else "hyperresnet"
    config = compose_config([f"model={preset}", "data=cifar10", f"target.width={width}"])
    return with_hypernet(config.hypernet, build_target(config.target, Images(3, 32, 10, train=0))).to(DEVICE)


def training_step(model: nn.Module, batch: int, precision: Precision) -> Callable[[], None]:
    """Return a function that does one step: forward, backward, Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = torch.randn(batch, 3, 32, 32, device=DEVICE), torch.randint(10, (batch,), device=DEVICE)

    def step() -> None:
        with precision.autocast():
            loss = F.cross_entropy(model(x).float(), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ratio(times: dict[str, list[float]], name: str, base: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def bench_step(rounds: int) -> list[dict]:
    rows = []
    for width in (1, 2):
        for batch in (128, 16):
            precision = Precision("float32", "", DEVICE.type)
            n = rounds if batch == 128 else 3 * rounds
            times = in_turn(
                {k: training_step(model_of(k, width), batch, precision) for k in ("direct", "hyper")}, n, clock
            )
            rows.append(
                {
                    "what": f"training step, 40-{width}, batch {batch}, float32",
                    "direct": statistics.median(times["direct"]) * 1e3,
                    "hyper": statistics.median(times["hyper"]) * 1e3,
                    "unit": "ms",
                    "ratio": ratio(times, "hyper", "direct"),
                    "n": n,
                }
            )
    return rows


def bench_inference(rounds: int) -> list[dict]:
    x = torch.randn(128, 3, 32, 32, device=DEVICE)

    def forward(model: nn.Module) -> Callable[[], None]:
        model.eval()

        def run() -> None:
            with torch.inference_mode():
                model(x)

        return run

    times = in_turn({k: forward(model_of(k)) for k in ("direct", "hyper")}, 2 * rounds, clock)
    return [
        {
            "what": "inference, 40-2, batch 128, float32",
            "direct": statistics.median(times["direct"]) * 1e3,
            "hyper": statistics.median(times["hyper"]) * 1e3,
            "unit": "ms",
            "ratio": ratio(times, "hyper", "direct"),
            "n": 2 * rounds,
        }
    ]


class OperatorCounter(TorchDispatchMode):
    """Counts every operator that reaches a kernel."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def bench_ops(rounds: int) -> list[dict]:
    rows = []
    for width in (1, 2, 4):
        counted = {}
        for kind in ("direct", "hyper"):
            step = training_step(model_of(kind, width), 2, Precision("float32", "", DEVICE.type))
            step()
            with OperatorCounter() as counter:
                step()
            counted[kind] = counter.count
        hyper = model_of("hyper", width)
        assert isinstance(hyper, HyperModel)
        tiles = sum(len(g.z) for g in hyper.hypernet.generators.values())  # type: ignore[union-attr, arg-type]
        with OperatorCounter() as counter:
            hyper.weights()
        rows.append(
            {
                "what": f"operators a step, 40-{width} ({tiles} tiles; {counter.count} to generate)",
                "direct": counted["direct"],
                "hyper": counted["hyper"],
                "unit": "",
                "ratio": counted["hyper"] / counted["direct"],
                "n": 1,
            }
        )
    return rows


def peak_memory(kind: str, batch: int) -> float:
    """Return the peak memory of three steps in MiB: of the device, or of this whole process on a CPU."""
    step = training_step(model_of(kind), batch, Precision("float32", "", DEVICE.type))
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        step()
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be no less than that of the process that began us
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def bench_memory(rounds: int) -> list[dict]:
    peak = {}
    for kind in ("direct", "hyper"):  # a process each: a peak is never given back
        command = [sys.executable, __file__, "--peak-memory", kind]
        peak[kind] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [
        {
            "what": "peak memory of a training step, 40-2, batch 128",
            **peak,
            "unit": "MiB",
            "ratio": peak["hyper"] / peak["direct"],
            "n": 1,
        }
    ]


def bench_precision(rounds: int) -> list[dict]:
    chosen = choose_precision("auto", DEVICE)
    if chosen.name == "float32":
        return []
    rows = []
    for kind in ("direct", "hyper"):
        model = model_of(kind)
        formats = (Precision("float32", "", DEVICE.type), chosen)
        times = in_turn({p.name: training_step(model, 128, p) for p in formats}, rounds, clock)
        rows.append(
            {
                "what": f"{kind} training step, 40-2, batch 128: float32 against {chosen.name}",
                "direct": statistics.median(times["float32"]) * 1e3,
                "hyper": statistics.median(times[chosen.name]) * 1e3,
                "unit": "ms",
                "ratio": ratio(times, chosen.name, "float32"),
                "n": rounds,
            }
        )
    return rows


@register("data", "random_images", ImageData)
def random_images(cfg: ImageData):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2560 + cfg.val_size, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(len(images)) % 10
    split = ImageSplit(images, labels)
    return make_set("random_images", cfg, train=split, test=split, classes=[str(i) for i in range(10)])


def bench_runner(rounds: int) -> list[dict]:
    """Time an epoch (20 steps of 128) in the runner's loop and in a bare one, over the same model and batches."""
    config = compose_config(["model=resnet", "data=cifar10", "data.name=random_images", "data.val_size=128"])
    config.trainer.epochs = 1
    world = World(0, 1, DEVICE)
    precision = choose_precision("auto", DEVICE)
    task = build_task(config, world)
    loader = task.loader  # type: ignore[attr-defined]
    assert isinstance(loader, ImageLoader)
    spent: dict[str, list[float]] = {"bare": [], "runner": []}

    def bare() -> None:
        optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-3)
        start = clock()
        for x, y in loader.train_batches(0):
            with precision.autocast():
                loss = F.cross_entropy(task.model(x).float(), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait()
        spent["bare"].append(clock() - start)

    def runner() -> None:
        with tempfile.TemporaryDirectory() as folder, RunFolder(Path(folder)) as run:
            console, wandb = Console(silent=True), WandbRun(None, print)
            start = clock()
            train(task, config, precision, world, run, console, wandb, StopRequest(print), None)
        spent["runner"].append(clock() - start)  # with one evaluation, on 128 images, and one checkpoint

    bare()
    runner()
    spent = {"bare": [], "runner": []}
    for r in range(max(3, rounds // 3)):
        for run in (bare, runner) if r % 2 else (runner, bare):
            run()
    return [
        {
            "what": f"epoch of 20 steps, direct 40-2, {precision.name}: bare loop against the runner",
            "direct": statistics.median(spent["bare"]),
            "hyper": statistics.median(spent["runner"]),
            "unit": "s",
            "ratio": ratio(spent, "runner", "bare"),
            "n": len(spent["bare"]),
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cpu-clock", action="store_true", help="one thread, CPU time: for a machine that is busy")
    parser.add_argument("--peak-memory", choices=["direct", "hyper"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cpu_clock:
        global clock
        clock = time.process_time
        torch.set_num_threads(1)
    if args.peak_memory:
        print(peak_memory(args.peak_memory, 128))
        return
    rows = [row for part in args.parts for row in globals()[f"bench_{part}"](args.rounds)]
    where = f"{device_name(DEVICE)}, torch {torch.__version__}, commit {git_commit()}"
    if args.json:
        print(json.dumps({"where": where, "rows": rows}, indent=2))
        return
    where += ", CPU time of one thread" if args.cpu_clock else ""
    table = Table("what", "direct", "hyper", "ratio", "n", title=where, title_justify="left")
    for row in rows:
        numbers = [f"{row[k]:,.1f} {row['unit']}" if row["unit"] else f"{row[k]:,}" for k in ("direct", "hyper")]
        table.add_row(row["what"], *numbers, f"{row['ratio']:.3f}", str(row["n"]))
    RichConsole(width=130).print(table)


if __name__ == "__main__":
    main()
