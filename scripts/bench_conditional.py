"""What weights of its own for each example cost: against one set for the batch, and against a loop over examples.

    python scripts/bench_conditional.py [--batch 32] [--rounds 30] [--cpu-clock] [--json]

Two targets: the default MLP of ConditionalHypernet, in batched products, and the CNN of Ha et al. on 28x28 images, with
all parameters generated, by vmap over functional_call. For each, forward and backward:

    apply               the target, up to the gradients of given weights
    training step       the generator (hidden sizes 256, 256), the target, Adam
    generate and apply  the same without Adam

The loop does the whole of it for one example after the other. Variants run in turn within each round, in rotating
order; printed are medians, and the median over rounds of the ratio to the shared set. Exit status 1 if weights for each
example cost more than 3 times one set to apply, or in a training step.

`generate and apply` is printed but not judged: it says how well a device multiplies. The generator's matrices meet 32
vectors instead of one, 32 times the products for the same memory traffic, and those take most of the time on a CPU.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hyperrun.hypernets.conditional import ConditionalHypernet, ConditionalModel, apply_generated_weights
from hyperrun.hypernets.weight_generator import ParameterGenerator
from hyperrun.targets.cnn import CNN
from hyperrun.tracking.environment import device_name, git_commit
from hyperrun.training.timing import in_turn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CONDITIONING = 16
HIGHEST = 3.0
clock = time.perf_counter


Weights = dict[str, Tensor]
Apply = Callable[[Weights, Tensor], Tensor]
"""(weights, inputs of the target) -> its outputs"""


class FlatWeights(nn.Module):
    """A generator whose vector has a name, as the parameters of a ParameterGenerator have."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, conditioning: Tensor) -> Weights:
        return {"flat": self.generator(conditioning)}


def mlp_case(batch: int) -> tuple[nn.Module, Apply, Tensor]:
    hypernet = ConditionalHypernet(CONDITIONING).to(DEVICE)
    sizes = hypernet.target_layer_sizes
    x = torch.randn(batch, sizes[0][0], device=DEVICE)
    return FlatWeights(hypernet.generator), lambda weights, x: apply_generated_weights(x, weights["flat"], sizes), x


def cnn_case(batch: int) -> tuple[nn.Module, Apply, Tensor]:
    target = CNN(1, 10, 28)
    reference = {name: p.detach() for name, p in target.named_parameters()}
    model = ConditionalModel(target, ParameterGenerator(reference, CONDITIONING), reference).to(DEVICE)
    return model.hypernet, model.call_with, torch.randn(batch, 1, 28, 28, device=DEVICE)


def apply_only(hypernet: nn.Module, apply: Apply, x: Tensor, conditioning: Tensor, loop: bool) -> Callable[[], None]:
    weights = {name: value.detach().clone().requires_grad_() for name, value in hypernet(conditioning).items()}

    def run() -> None:
        if loop:
            sets = zip(*weights.values(), strict=True)
            examples = zip(sets, x.split(1), strict=True)
            y = torch.cat([apply(dict(zip(weights, values, strict=True)), one) for values, one in examples])
        else:
            y = apply(weights, x)
        torch.autograd.grad(y.square().mean(), list(weights.values()))

    return run


def whole(
    hypernet: nn.Module, apply: Apply, x: Tensor, conditioning: Tensor, loop: bool, update: bool
) -> Callable[[], None]:
    hypernet = copy.deepcopy(hypernet)
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=1e-4)

    def run() -> None:
        if loop:
            examples = zip(conditioning.split(1), x.split(1), strict=True)
            y = torch.cat([apply(hypernet(one), example) for one, example in examples])
        else:
            y = apply(hypernet(conditioning), x)
        y.square().mean().backward()
        if update:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


MEASURES = {
    "apply": apply_only,
    "training step": functools.partial(whole, update=True),
    "generate and apply": functools.partial(whole, update=False),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cpu-clock", action="store_true", help="one thread, CPU time: for a machine that is busy")
    args = parser.parse_args()
    if args.cpu_clock:
        global clock
        clock = time.process_time
        torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    cases = {"MLP, batched products": mlp_case(args.batch), "CNN, vmap": cnn_case(args.batch)}
    for target, (hypernet, apply, x) in cases.items():
        for what, measure in MEASURES.items():
            conditioning = torch.randn(args.batch, CONDITIONING, device=DEVICE)
            variants = {
                "shared": measure(hypernet, apply, x, conditioning[:1], loop=False),
                "per example": measure(hypernet, apply, x, conditioning, loop=False),
                "loop": measure(hypernet, apply, x, conditioning, loop=True),
            }
            times = in_turn(variants, args.rounds, clock)
            row: dict[str, Any] = {"what": f"{target}: {what}"}
            for name, spent in times.items():
                row[f"{name} ms"] = statistics.median(spent) * 1e3
                row[f"{name} ratio"] = statistics.median(a / b for a, b in zip(spent, times["shared"], strict=True))
            row["judged"] = what != "generate and apply"
            rows.append(row)
    highest = max(row["per example ratio"] for row in rows if row["judged"])
    where = f"{device_name(DEVICE)}, torch {torch.__version__}, commit {git_commit()}, load {os.getloadavg()[0]:.1f}"
    where += ", CPU time of one thread" if args.cpu_clock else ""
    if args.json:
        print(json.dumps({"where": where, "batch": args.batch, "rounds": args.rounds, "rows": rows}, indent=2))
    else:
        table = Table("what", "shared", "per example", "ratio", "loop", "ratio", title=where, title_justify="left")
        for row in rows:
            times = [f"{row[f'{name} ms']:.2f} ms" for name in ("shared", "per example", "loop")]
            ratios = [f"{row[f'{name} ratio']:.2f}" for name in ("per example", "loop")]
            table.add_row(row["what"], times[0], times[1], ratios[0], times[2], ratios[1])
        Console(width=120).print(table)
    return 0 if highest <= HIGHEST else 1


if __name__ == "__main__":
    raise SystemExit(main())
