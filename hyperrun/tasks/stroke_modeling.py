"""Pen strokes: predict the density of the next point (Graves 2013, Ha et al. 2016 section 4.5), and draw from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyperrun.config import Config
from hyperrun.data import load_strokes
from hyperrun.data.images import seeded
from hyperrun.data.kinds import StrokeData
from hyperrun.data.strokes.loader import Batch, StrokeLoader
from hyperrun.data.strokes.sets import in_unit_of_file
from hyperrun.errors import UserError
from hyperrun.hypernets.hyper_layers import weights_held
from hyperrun.models import build_model
from hyperrun.registry import register
from hyperrun.tasks.carried import State, example_dims, on_tensors, saved, taken_up
from hyperrun.tasks.mixture_density import draw, negative_log_density
from hyperrun.tasks.recurrent_memory import training_memory
from hyperrun.training.distributed import World, sum_over_ranks
from hyperrun.training.precision import Precision
from hyperrun.training.task import Task, Use

EVALUATED_AT_ONCE = 16_384
"""Points: an evaluation reads its sequences in chunks of so many steps that a batch has no more in one of them."""

SIDE_BY_SIDE, DRAWN = 8, 100
"""Sequences that `hyperrun bench` lets a model draw at a time, and points of each."""

NUMBERS_PER_OUTPUT = 8
"""float32 numbers that the density keeps for each output of the network, its gradient included (measured)."""


@dataclass(frozen=True)
class StrokeScale:
    """What turns normalized points into those of the file, and how long its sequences were. In every checkpoint, so
    that a model can be used where its data are not."""

    mean: Tensor
    """float64 [2]: of dx and dy over the training set, in the file's unit."""
    std: Tensor
    """float64 [2]"""
    predicted: float
    """Predicted points of a training sequence, in the mean."""

    def raw(self, points: Tensor) -> Tensor:
        """Return normalized points [..., 3] in the file's unit, float64; the first of a sequence is (0, 0) no more."""
        return in_unit_of_file(points, self.mean, self.std)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "predicted": self.predicted}

    @classmethod
    def from_state_dict(cls, task: dict[str, Any], path: Path) -> StrokeScale:
        """Return what the task's part of the checkpoint `path` says.

        Raises:
            UserError: it is of another task.
        """
        try:
            found = task["scale"]
            mean, std = (torch.tensor(found[name], dtype=torch.float64) for name in ("mean", "std"))
            return cls(mean, std, float(found["predicted"]))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path} is not of a run on pen strokes") from None


class StrokeLoss(nn.Module):
    """The loss of a batch, and the state that is carried on to its next chunk (truncated back-propagation)."""

    def __init__(self, model: nn.Module, points_per_sequence: float, carries: bool) -> None:
        """points_per_sequence: what the sum over a batch is divided by, times its sequences. carries: there are chunks
        that begin where others ended."""
        super().__init__()
        self.model, self.points_per_sequence, self.carries = model, points_per_sequence, carries
        self.state: State = None

    def forward(self, points: Tensor, lengths: Tensor, first: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize and {"loss", "nats_per_point", of whole sequences "nats"}, detached scalars.

        The loss is the sum of the nats of all points over (rows * points_per_sequence): about the nats of a point, and
        a sum over the sequences, so that neither padding nor how they are spread over batches changes it.

        points, lengths, first: see Batch.
        """
        nats, state = nats_of_points(self.model, points, lengths, None if first else self.state)
        self.state = on_tensors(Tensor.detach, state) if self.carries else None
        # divided before the sum: the nats of one point may be as large as a float can be
        loss = (nats / (len(points) * self.points_per_sequence)).sum()
        total = loss.detach() * len(points) * self.points_per_sequence
        there, sequences = (count.clamp(min=1).to(total.device) for count in (lengths.sum(), (lengths > 0).sum()))
        stats = {"loss": loss.detach(), "nats_per_point": total / there}
        return loss, stats if self.carries else {**stats, "nats": total / sequences}


def nats_of_points(model: nn.Module, points: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """Return the nats of each predicted point, float32 [B, T] with zeros in the padding, and the state behind them."""
    outputs, state = model(points[:, :-1], state, lengths)
    there = torch.arange(points.shape[1] - 1, device=points.device) < lengths.to(points.device)[:, None]
    wanted = points[:, 1:].masked_fill(~there[..., None], 0)
    # the outputs too: what no gradient may come from must not be multiplied by a zero that meets an Inf
    outputs = outputs.masked_fill(~there[..., None], 0)
    return negative_log_density(outputs, wanted) * there, state


@register("task", "stroke_modeling", data="strokes", takes="strokes")
class StrokeModeling(Task):
    """What the training loop needs to know about modelling pen strokes."""

    name = "stroke_modeling"
    metric = "nats"
    unit = "sequences"
    loss: StrokeLoss

    def __init__(self, config: Config, world: World) -> None:
        assert isinstance(config.data, StrokeData)
        trainer, steps = config.trainer, config.data.sequence_length
        self.strokes = load_strokes(config.data)
        self.splits = tuple(self.strokes.splits)[1:]
        self.model = build_model(config, self.strokes.inputs).to(world.device)
        self.example_dims = example_dims(self.model, torch.zeros(1, 1, 3), world)
        mean = self.strokes.mean_predicted
        self.loss = StrokeLoss(self.model, mean if steps is None else min(mean, steps), steps is not None)
        self.outputs = 6 * getattr(config.target, "mixtures", 0) + 1
        self.world, self.eval_batch_size = world, trainer.eval_batch_size
        self.loader = StrokeLoader(
            self.strokes,
            config.data,
            device=world.device,
            batch_size=trainer.batch_size,
            eval_batch_size=trainer.eval_batch_size,
            seed=config.seed,
            rank=world.rank,
            world_size=world.size,
        )
        self.batches_per_epoch = self.loader.steps_per_epoch
        self.examples_per_batch = self.loader.batch_size

    def describe_data(self) -> str:
        """Return in a few words what is learned from and how it is fed."""
        lengths, size = self.loader.lengths, f"{self.loader.batch_size} at a time"
        if self.loss.carries:
            size += f" in chunks of {lengths[0] - 1}"
        else:
            size += f", padded to {', '.join(map(str, lengths))}"
        return f"{self.strokes.describe()}; {size}; {self.loader.path} ({self.loader.reason})"

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data."""
        return self.strokes.facts()

    def warnings(self) -> list[str]:
        return list(self.strokes.notes)

    def memory(self) -> int | None:
        """Return about how many bytes of memory this process's training takes; None where that is not foreseen."""
        rows, steps = self.loader.batch_size // self.world.size, self.loader.lengths[-1] - 1
        return training_memory(self.model, rows, steps, NUMBERS_PER_OUTPUT * self.outputs)

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield the batches of an epoch from its batch `start` on: what StrokeLoss.forward takes."""
        return self.loader.train_batches(epoch, start)

    def tokens_in(self, batch: Batch) -> int:
        """Return the points that are predicted in a training batch; of other processes, as many as in this one."""
        return int(batch[1].sum()) * self.world.size

    @torch.no_grad()
    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        """Return the nats of a sequence (the mean over the split's sequences; Ha et al. call it log-loss) and of a
        point."""
        self.model.eval()
        total = torch.zeros((), device=self.world.device, dtype=torch.float64)
        state: State = None
        chunk = max(1, EVALUATED_AT_ONCE // self.eval_batch_size)
        for points, lengths, first in self.loader.eval_batches(split, chunk):
            with precision.autocast():
                nats, state = nats_of_points(self.model, points, lengths, None if first else state)
            total += nats.double().sum()
        self.model.train()
        sum_over_ranks(total, self.world)
        of = self.strokes.splits[split]
        return {"nats": total.item() / len(of), "nats_per_point": total.item() / of.predicted}

    def use(self, precision: Precision) -> Use:
        def draw() -> None:
            sample_strokes(self.model, SIDE_BY_SIDE, temperature=1.0, seed=0, max_points=DRAWN, precision=precision)

        return Use("drawn_points", SIDE_BY_SIDE * DRAWN, draw)

    def state_dict(self) -> dict[str, Any]:
        """Return what besides the model a resumed run, an evaluation or a sample needs. All processes must call it."""
        return {
            "state": saved(self.loss.state, self.world, self.example_dims),
            "scale": StrokeScale(self.strokes.mean, self.strokes.std, self.strokes.mean_predicted).state_dict(),
            "strokes": self.strokes.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the carried state again, this process's rows of it, to go on training.

        Raises:
            UserError: the checkpoint is of other strokes.
        """
        self.check_fits(state)
        if state["strokes"] != self.strokes.fingerprint:
            raise UserError(f"the strokes of data={self.strokes.name} have changed since this run began; resume=never")
        self.loss.state = taken_up(state["state"], self.world, self.example_dims)

    def check_fits(self, state: dict[str, Any]) -> None:
        """Refuse a checkpoint that is of no model of strokes.

        Raises:
            UserError: such a checkpoint.
        """
        if "strokes" not in state:
            raise UserError("the checkpoint is not of a run on pen strokes")


@torch.no_grad()
def sample_strokes(
    model: nn.Module, n: int, *, temperature: float, seed: int, max_points: int, precision: Precision
) -> list[Tensor]:
    """Return n sequences of max_points points, drawn side by side: float32 [max_points + 1, 3] on the CPU each.

    Normalized, as the model has learned them; the first point is (0, 0) with the pen down, where every sequence begins.
    Sequence i depends on the seed and on i, not on how many are drawn (but for rounding). temperature: see
    mixture_density.draw.
    """
    device = next(model.parameters()).device
    uniform, normal = (
        torch.stack([kind(max_points, 2, generator=seeded(seed, i, kind.__name__)) for i in range(n)], 1)
        for kind in (torch.rand, torch.randn)
    )
    was_training = model.training
    model.eval()
    state: State = None
    drawn = [torch.zeros(n, 3)]
    with weights_held(model):
        for step in range(max_points):
            with precision.autocast():
                outputs, state = model(drawn[-1][:, None].to(device), state)
            drawn.append(draw(outputs[:, -1].cpu(), uniform[step], normal[step], temperature))
    model.train(was_training)
    return list(torch.stack(drawn, 1).unbind())
