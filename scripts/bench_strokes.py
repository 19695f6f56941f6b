"""What handwriting costs beside text: a training step at the paper's size, and the share of the mixture loss in it.

Prints a table.

    python scripts/bench_strokes.py                    # 900 units, batches of 32, 200 steps; some minutes on two cores
    python scripts/bench_strokes.py --steps 700        # the mean length of a line of IAM-OnDB

Each step is forward, loss and backward without an optimizer, on made-up data: pen strokes with the mixture density
(Graves 2013, eq. 26) and text of 50 symbols with the cross-entropy; each with torch.nn.LSTM, our LSTM and our HyperLSTM
below the same output layer; strokes also as a batch whose sequences have half to all of the steps. "the loss alone" is
the forward and backward pass of the mixture density on given outputs. Variants take turns within each round, in
rotating order. Reported: the median over rounds, and the median of the ratio to torch.nn.LSTM with the same loss. Run
it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console as RichConsole
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.hydra_app.compose import compose_config
from hyperrun.hypernets.hyperlstm_fast.compiled_phases import why_not_compiled
from hyperrun.inputs import Inputs, Strokes, Symbols
from hyperrun.models import build_model
from hyperrun.tasks.mixture_density import negative_log_density
from hyperrun.tracking.environment import device_name, git_commit
from hyperrun.training.precision import choose_matmul_precision
from hyperrun.training.timing import in_turn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
VOCABULARY = 50
LOSS = "strokes: the loss alone"
BASES = {"strokes": "strokes: torch.nn.LSTM", "text": "text: torch.nn.LSTM"}


class OfTorch(nn.Module):
    """torch.nn.LSTM under a linear output layer, called as our recurrent targets are."""

    def __init__(self, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        self.one_hot = inputs if inputs == outputs else None
        self.lstm, self.output = nn.LSTM(inputs, units, batch_first=True), nn.Linear(units, outputs)

    def forward(self, x: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        x, last = self.lstm(x if self.one_hot is None else F.one_hot(x, self.one_hot).float(), state)
        return self.output(x), last


def ours(preset: str, inputs: Inputs, units: int) -> nn.Module:
    data = "iam_online" if isinstance(inputs, Strokes) else "ptb_char"
    dropouts = [f"target.{name}=0" for name in ("dropout_in", "dropout_out", "recurrent_dropout")]
    return build_model(
        compose_config([f"model={preset}", f"data={data}", f"target.hidden_size={units}", *dropouts]), inputs
    )


def variants(units: int, batch: int, steps: int) -> dict[str, Callable[[], None]]:
    """Return name -> a function that does one step."""
    torch.manual_seed(0)
    points = torch.cat([torch.randn(batch, steps + 1, 2), torch.randint(2, (batch, steps + 1, 1)).float()], -1)
    points, symbols = points.to(DEVICE), torch.randint(VOCABULARY, (batch, steps + 1), device=DEVICE)
    lengths = torch.linspace(steps // 2, steps, batch).long()
    there = (torch.arange(steps) < lengths[:, None]).to(DEVICE)

    def strokes(model: nn.Module, padded: bool) -> Callable[[], None]:
        def step() -> None:
            outputs, _ = model(points[:, :-1], None, lengths if padded else None)
            nats = negative_log_density(outputs, points[:, 1:])
            (nats * there if padded else nats).mean().backward()
            model.zero_grad(set_to_none=True)

        return step

    def text(model: nn.Module) -> Callable[[], None]:
        def step() -> None:
            logits, _ = model(symbols[:, :-1])
            F.cross_entropy(logits.flatten(0, 1), symbols[:, 1:].flatten()).backward()
            model.zero_grad(set_to_none=True)

        return step

    outputs = torch.randn(batch, steps, 121, device=DEVICE, requires_grad=True)

    def loss_alone() -> None:
        negative_log_density(outputs, points[:, 1:]).mean().backward()
        outputs.grad = None

    hyper = ours("hyperlstm", Strokes(), units).to(DEVICE)
    return {
        BASES["strokes"]: strokes(OfTorch(3, units, 121).to(DEVICE), False),
        "strokes: lstm": strokes(ours("lstm", Strokes(), units).to(DEVICE), False),
        "strokes: hyperlstm": strokes(hyper, False),
        "strokes: hyperlstm, padded": strokes(hyper, True),
        LOSS: loss_alone,
        BASES["text"]: text(OfTorch(VOCABULARY, units, VOCABULARY).to(DEVICE)),
        "text: lstm": text(ours("lstm", Symbols(VOCABULARY), units).to(DEVICE)),
        "text: hyperlstm": text(ours("hyperlstm", Symbols(VOCABULARY), units).to(DEVICE)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=900)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    precision, _ = choose_matmul_precision("auto", DEVICE)
    torch.set_float32_matmul_precision(precision)
    times = in_turn(variants(args.units, args.batch, args.steps), args.rounds)
    rows = []
    for name, seconds in times.items():
        base = times[BASES[name.partition(":")[0]]]
        ratio = statistics.median(a / b for a, b in zip(seconds, base, strict=True))
        rows.append({"what": name, "ms": statistics.median(seconds) * 1e3, "ratio": ratio})
    of_step = statistics.median(a / b for a, b in zip(times[LOSS], times["strokes: hyperlstm"], strict=True))
    where = (
        f"{args.units} units, batch {args.batch}, {args.steps} steps, n = {args.rounds}; {device_name(DEVICE)}, "
        f"torch {torch.__version__}, matmul precision {precision}, commit {git_commit()}, "
        f"phases: {why_not_compiled() or 'compiled'}"
    )
    if args.json:
        print(json.dumps({"where": where, "rows": rows, "loss_of_hyperlstm_step": of_step}, indent=2))
        return
    table = Table("what", "ms", "ratio", title=where, title_justify="left")
    for row in rows:
        table.add_row(row["what"], f"{row['ms']:.1f}", f"{row['ratio']:.2f}")
    RichConsole(width=110).print(table)
    print(f"the loss takes {of_step:.1%} of a HyperLSTM's step")


if __name__ == "__main__":
    main()
