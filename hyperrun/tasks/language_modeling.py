"""Language modelling: predict the next symbol of a text, with the state carried along the text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import Config
from hyperrun.data import load_text
from hyperrun.data.images import larger_than_training
from hyperrun.data.kinds import TextData
from hyperrun.data.text import UNITS
from hyperrun.data.text_loader import TextLoader
from hyperrun.data.vocabulary import Vocabulary
from hyperrun.errors import UserError, printable
from hyperrun.metrics import text_figures
from hyperrun.models import build_model
from hyperrun.registry import register
from hyperrun.tasks.carried import State, example_dims, on_tensors, saved, taken_up
from hyperrun.training.distributed import World, sum_over_ranks
from hyperrun.training.precision import Precision
from hyperrun.training.task import Task

SAMPLE_LENGTH = 240
"""Symbols of the sample that a finished run shows."""


class LanguageLoss(nn.Module):
    """The loss of one chunk, and the state that is carried on to the next (truncated back-propagation through time)."""

    def __init__(self, model: nn.Module, words: bool = False, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model, self.words, self.label_smoothing = model, words, label_smoothing
        self.state: State = None

    def forward(self, inputs: Tensor, targets: Tensor, first: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize and {"loss", "bpc" if not of words}, detached scalars; keep the state, detached.

        The loss is the mean cross-entropy in nats, smoothed if that was asked for.

        inputs, targets: int64 [B, T]; first: the state begins anew.
        """
        logits, state = self.model(inputs, None if first else self.state)
        self.state = on_tensors(Tensor.detach, state)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), label_smoothing=self.label_smoothing)
        stats = {"loss": loss.detach()}
        return loss, stats if self.words else {**stats, "bpc": loss.detach() / math.log(2)}


@register("task", "language_modeling", data="text", takes="text")
class LanguageModeling(Task):
    """What the training loop needs to know about modelling text."""

    name = "language_modeling"
    unit = "sequences"
    loss: LanguageLoss

    def __init__(self, config: Config, world: World) -> None:
        assert isinstance(config.data, TextData)
        trainer = config.trainer
        self.text = load_text(config.data)
        self.metric = "perplexity" if self.text.unit == "word" else "bpc"
        self.model = build_model(config, self.text.inputs).to(world.device)
        self.loss = LanguageLoss(self.model, self.text.unit == "word", trainer.label_smoothing)
        self.example_dims = example_dims(self.model, torch.zeros(1, 1, dtype=torch.int64), world)
        self.world, self.wanted_streams = world, trainer.batch_size
        self.loader = TextLoader(
            self.text,
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
        self.tokens_per_example = self.loader.sequence_length

    def describe_data(self) -> str:
        """Return in a few words what is learned from and how it is fed."""
        streams = f"{self.loader.batch_size} streams of {self.loader.sequence_length}"
        if self.loader.batch_size < self.wanted_streams:
            streams += f" (too short for trainer.batch_size={self.wanted_streams})"
        return f"{self.text.describe()}; {streams}; {self.loader.path} ({self.loader.reason})"

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data."""
        return self.text.facts()

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Yield the chunks of an epoch from its chunk `start` on: what LanguageLoss.forward takes."""
        return self.loader.train_batches(epoch, start)

    @torch.no_grad()
    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        """Return nats, bits (not of words) and perplexity per symbol over all symbols of a split; carries the state."""
        self.model.eval()
        sums = torch.zeros(2, device=self.world.device, dtype=torch.float64)
        state: State = None
        for inputs, targets, scored, first in self.loader.eval_batches(split):
            with precision.autocast():
                logits, state = self.model(inputs, None if first else state)
            nats = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
            sums += torch.stack([(nats.double() * scored.flatten()).sum(), scored.sum().double()])
        self.model.train()
        total, count = sum_over_ranks(sums, self.world).tolist()
        return text_figures(total / count, self.text.unit)

    def closing_words(self, precision: Precision) -> str | None:
        """Return what is shown after the result: a short sample of the model's own text."""
        text = sample(self.model, self.text.vocabulary, SAMPLE_LENGTH, precision=precision)
        shown = printable(text, keep="\n\t")
        return f"{SAMPLE_LENGTH} {UNITS[self.text.unit]} of its own, at temperature 0.8:\n{shown}"

    def state_dict(self) -> dict[str, Any]:
        """Return what besides the model a resumed run, an evaluation or a sample needs. All processes must call it.

        The state is that of all processes' streams, in order.
        """
        return {
            "state": saved(self.loss.state, self.world, self.example_dims),
            "vocabulary": self.text.vocabulary.state_dict(),
            "text": self.text.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the carried state again, this process's rows of it, to go on training.

        Raises:
            UserError: the checkpoint is of another vocabulary or another text.
        """
        self.check_fits(state)
        if state["text"] != self.text.fingerprint:
            raise UserError(f"the text of data={self.text.name} has changed since this run began; resume=never")
        self.loss.state = taken_up(state["state"], self.world, self.example_dims)

    def warnings(self) -> list[str]:
        return larger_than_training(len(self.text.val), len(self.text.train), "data.val_fraction")

    def changes(self, state: dict[str, Any]) -> list[str]:
        return [] if state.get("text") in (None, self.text.fingerprint) else ["its symbols or their split"]

    def check_fits(self, state: dict[str, Any]) -> None:
        """Refuse a checkpoint whose model reads other symbols.

        Raises:
            UserError: the checkpoint is of another vocabulary.
        """
        vocabulary = Vocabulary.from_state_dict(state["vocabulary"])
        vocabulary.check_same(self.text.vocabulary, "the checkpoint", f"data={self.text.name}")


@torch.no_grad()
def sample(
    model: nn.Module,
    vocabulary: Vocabulary,
    length: int,
    *,
    precision: Precision,
    prompt: str = "",
    temperature: float = 0.8,
    seed: int = 0,
) -> str:
    """Return `prompt` and `length` further symbols, each drawn from softmax(logits / temperature).

    Temperature 0 takes the likeliest. Drawn on the CPU in float64 from a generator of its own, so that a seed gives the
    same text wherever the logits are the same.

    Raises:
        UserError: the prompt has symbols the vocabulary lacks.
    """
    device = next(model.parameters()).device
    given = vocabulary.encode(prompt)
    start = given if len(given) else torch.zeros(1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    state: State = None
    inputs, drawn = start[None].to(device), []
    for _ in range(length):
        with precision.autocast():
            logits, state = model(inputs, state)
        last = logits[0, -1].double().cpu()
        if temperature > 0:
            choice = int(torch.multinomial(torch.softmax((last - last.max()) / temperature, 0), 1, generator=generator))
        else:
            choice = int(last.argmax())
        drawn.append(choice)
        inputs = torch.tensor([[choice]], device=device)
    model.train(was_training)
    ids = torch.cat([given, torch.tensor(drawn, dtype=torch.int64)])
    return vocabulary.decode(ids)
