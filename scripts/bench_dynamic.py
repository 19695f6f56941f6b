"""What a HyperLSTM costs beside torch's own LSTM: forward and backward of one layer over a sequence. Prints a table.

    python scripts/bench_dynamic.py                                # both sizes; about 5 minutes on two cores
    python scripts/bench_dynamic.py --sizes small --rounds 15      # one of them
    OMP_NUM_THREADS=1 python scripts/bench_dynamic.py --clock cpu  # nearly deaf to other processes

ours: hyperrun's HyperLSTM on its fast path; readable: the same layer step by step, with autograd; the base of every
ratio is torch.nn.LSTM of the same hidden size in float32, in the same process with the same threads and the same
trainer.matmul_precision. bound: the ratio of floating-point operations, below which nothing of this kind can come.
Variants take turns within each round, in rotating order; a turn is one step that is not timed, since the caches are
still those of the variant before, and then steps for a fifth of a second. Reported: the median over rounds of the mean
step, and the median of the ratio. Run it on a quiet machine; one process at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console as RichConsole
from rich.table import Table
from torch import Tensor, nn

from hyperrun.hypernets import DynamicConfig
from hyperrun.hypernets.hyper_layers import HyperLSTMLayer
from hyperrun.hypernets.hyperlstm_fast.compiled_phases import why_not_compiled
from hyperrun.targets.recurrent import LSTMLayer
from hyperrun.tracking.environment import device_name, git_commit

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZES = {"large": (50, 1000, 128, 4, 32, 100), "small": (50, 256, 64, 4, 16, 100)}
"""inputs, hidden, hyper_size, z_dim, batch, steps: the paper's PTB model with a smaller batch, and a quarter of it."""
TURN = 0.2
"""Seconds for which a variant is stepped when its turn comes; at least one step."""


def hyper_lstm(size: str, norm: bool, fast: str) -> nn.Module:
    inputs, hidden, hyper_size, z_dim, _, _ = SIZES[size]
    cfg = DynamicConfig("dynamic", hyper_size, z_dim, "scaled", "new", "symmetry_broken", 0.0, 1.0, fast)
    return HyperLSTMLayer(LSTMLayer(inputs, hidden, norm), cfg)


VARIANTS: dict[str, tuple[Callable[[str], nn.Module], bool]] = {
    "torch.nn.LSTM": (lambda size: nn.LSTM(SIZES[size][0], SIZES[size][1]), False),
    "ours": (lambda size: hyper_lstm(size, False, "auto"), False),
    "ours, layer norm": (lambda size: hyper_lstm(size, True, "auto"), False),
    "ours, bf16": (lambda size: hyper_lstm(size, False, "auto"), True),
    "ours, layer norm, bf16": (lambda size: hyper_lstm(size, True, "auto"), True),
    "readable": (lambda size: hyper_lstm(size, False, "never"), False),
    "readable, layer norm": (lambda size: hyper_lstm(size, True, "never"), False),
}
"""name -> (function of the size that makes the layer, whether it runs under bf16 autocast)."""


def step_of(name: str, size: str) -> Callable[[], None]:
    """Return a function that does one forward and backward pass of a variant."""
    make, bf16 = VARIANTS[name]
    inputs, _, _, _, batch, steps = SIZES[size]
    torch.manual_seed(0)
    layer = make(size).to(DEVICE)
    x = torch.randn(steps, batch, inputs, device=DEVICE)

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            out: Tensor = layer(x)[0]
        out.backward(torch.ones_like(out))
        layer.zero_grad(set_to_none=True)

    return step


def operations(size: str, hyper: bool) -> float:
    """Return the multiply-adds of one step of one example in the forward pass; backward is twice that in either."""
    inputs, hidden, hyper_size, z_dim, _, _ = SIZES[size]
    count = 4 * hidden * (inputs + hidden)
    if hyper:
        count += 4 * hyper_size * (inputs + hidden + hyper_size) + 12 * z_dim * (hyper_size + hidden)
    return count


def in_turn(names: list[str], size: str, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Return name -> seconds of a step in each round."""
    steps = {name: step_of(name, size) for name in names}
    repeats = {}
    for name, step in steps.items():
        step()
        step()
        wait()
        start = time.perf_counter()
        step()
        wait()
        repeats[name] = math.ceil(TURN / (time.perf_counter() - start))
    times: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            steps[name]()
            wait()
            start = clock()
            for _ in range(repeats[name]):
                steps[name]()
            wait()
            times[name].append((clock() - start) / repeats[name])
    return times


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def peak_memory(name: str, size: str) -> float:
    """Return the peak memory of three steps in MiB: of the device, or of this whole process on a CPU."""
    step = step_of(name, size)
    for _ in range(3):
        step()
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be no less than that of the process that began us
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def bench(size: str, names: list[str], args: argparse.Namespace) -> list[dict]:
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    times = in_turn(names, size, args.rounds, clock)
    base = names[0]
    rows = []
    for name in names:
        row = {"size": size, "what": name, "ms": statistics.median(times[name]) * 1e3, "rounds": args.rounds}
        row["ratio"] = statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))
        row["bound"] = 1.0 if name == base else operations(size, True) / operations(size, False)
        if not args.no_memory:  # a process each: a peak is never given back
            command = [sys.executable, __file__, "--precision", args.precision, "--peak-memory", name, "--sizes", size]
            row["MiB"] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help="torch.nn.LSTM is always among them")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", choices=["highest", "high", "medium"], default="medium")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak-memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_float32_matmul_precision(args.precision)
    if args.peak_memory:
        print(peak_memory(args.peak_memory, args.sizes[0]))
        return
    names = ["torch.nn.LSTM", *(n for n in args.variants if n != "torch.nn.LSTM")]
    rows = [row for size in args.sizes for row in bench(size, names, args)]
    where = (
        f"{device_name(DEVICE)}, {torch.get_num_threads()} threads, {args.clock} time, torch {torch.__version__}, "
        f"matmul precision {args.precision}, commit {git_commit()}, phases: {why_not_compiled() or 'compiled'}"
    )
    if args.json:
        print(json.dumps({"where": where, "rows": rows}, indent=2))
        return
    table = Table("size", "what", "ms", "ratio", "bound", "MiB", "rounds", title=where, title_justify="left")
    for row in rows:
        memory = f"{row['MiB']:.0f}" if "MiB" in row else ""
        table.add_row(
            row["size"], row["what"], f"{row['ms']:.1f}", f"{row['ratio']:.2f}", f"{row['bound']:.2f}", memory,
            str(row["rounds"]),
        )  # fmt: skip
    RichConsole(width=110).print(table)


if __name__ == "__main__":
    main()
