"""Translation: predict each piece of a sentence in the other language (Wu et al. 2016, Ha et al. 2016 section 4.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import Config
from hyperrun.data import load_pairs
from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.loader import PairBatch, PairLoader, sources
from hyperrun.data.pairs.pieces import Pieces, normalized
from hyperrun.errors import UserError, printable
from hyperrun.hypernets import as_hypernetized, materialize
from hyperrun.inputs import SentencePairs
from hyperrun.models import build_model
from hyperrun.registry import register
from hyperrun.targets.seq2seq import Seq2Seq
from hyperrun.tasks.beam_search import beam_search, greedy
from hyperrun.tasks.recurrent_memory import translation_memory
from hyperrun.tasks.translation_figures import figures_of, signatures
from hyperrun.training.distributed import World, gather_objects, sum_over_ranks
from hyperrun.training.precision import Precision
from hyperrun.training.task import Task, Use

SHOWN = 5
"""Translations that a finished run shows."""


@dataclass(frozen=True)
class LearnedPieces:
    """The vocabularies of a run on translation. In every checkpoint, so that a moved run still translates."""

    source: Pieces
    target: Pieces
    """The same object where both share one."""

    @property
    def inputs(self) -> SentencePairs:
        """What pairs in these pieces look like to a model."""
        return SentencePairs(len(self.source), len(self.target), self.source is self.target)

    def state_dict(self) -> dict[str, Any]:
        """Return it as tensors and strings; the target is None where both share one."""
        target = None if self.source is self.target else self.target.state_dict()
        return {"source": self.source.state_dict(), "target": target}

    @classmethod
    def from_state_dict(cls, task: dict[str, Any], path: Path | str) -> LearnedPieces:
        """Return what the task's part of the checkpoint `path` says.

        Raises:
            UserError: it is of another task.
        """
        try:
            found = task["pieces"]
            source = Pieces.from_state_dict(found["source"])
            return cls(source, source if found["target"] is None else Pieces.from_state_dict(found["target"]))
        except (KeyError, TypeError):
            raise UserError(f"{path} is not of a run on translation") from None


class TranslationLoss(nn.Module):
    """The loss of a batch of pairs."""

    def __init__(self, model: nn.Module, pieces_per_batch: float, label_smoothing: float = 0.0) -> None:
        """pieces_per_batch: predicted pieces of a batch of this process, in the mean over an epoch."""
        super().__init__()
        self.model, self.pieces_per_batch, self.label_smoothing = model, pieces_per_batch, label_smoothing

    def forward(
        self, source: Tensor, source_lengths: Tensor, target: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize and {"loss": nats of a piece in the mean, not smoothed}, detached scalars.

        What is minimized is the sum of the (smoothed) nats of all pieces over pieces_per_batch: every piece counts the
        same, however many there are beside it, so neither padding nor how pairs are spread over batches, processes or
        accumulated batches changes the gradient.

        source, ...: see PairBatch.
        """
        logits, wanted = logits_of_pieces(self.model, source, source_lengths, target, target_lengths)
        nats = F.cross_entropy(logits, wanted, label_smoothing=self.label_smoothing, reduction="sum")
        loss = nats / self.pieces_per_batch
        plain = nats.detach()
        if self.label_smoothing:
            chosen = logits.detach().gather(1, wanted[:, None])[:, 0]
            plain = plain - self.label_smoothing * (chosen - logits.detach().mean(1)).sum()
        return loss, {"loss": plain / max(1, len(wanted))}


def logits_of_pieces(
    model: nn.Module, source: Tensor, source_lengths: Tensor, target: Tensor, target_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Return logits float32 [N, vocabulary] of all predicted pieces of a batch, and these pieces, int64 [N]."""
    there = torch.arange(target.shape[1] - 1, device=target_lengths.device) < target_lengths[:, None]
    places = there.flatten().nonzero()[:, 0].to(target.device)
    logits = model(source, source_lengths, target[:, :-1], target_lengths, places)
    return logits.float(), target[:, 1:].flatten()[places]


def network_of(model: nn.Module) -> Seq2Seq:
    """Return what translates piece by piece: the network that a hypernet changes at every step, or, where it generates
    weights, a copy with these weights; in evaluation mode where the model is."""
    hyper = as_hypernetized(model)
    network = model if hyper is None else hyper.target if hyper.dynamic else materialize(model)
    assert isinstance(network, Seq2Seq)
    return network


@register("task", "translation", data="pairs", takes="pairs")
class Translation(Task):
    """What the training loop needs to know about translation."""

    name = "translation"
    unit = "pairs"
    loss: TranslationLoss

    def __init__(self, config: Config, world: World, pieces: LearnedPieces | None = None) -> None:
        """pieces: those that a run has learned, instead of learning them."""
        assert isinstance(config.data, PairData)
        self.config, self.world = config.data, world
        self.metric = config.data.select
        self.pairs = load_pairs(config.data, None if pieces is None else (pieces.source, pieces.target))
        self.pieces = LearnedPieces(self.pairs.source_pieces, self.pairs.target_pieces)
        self.splits = tuple(self.pairs.splits)[1:]
        self.model = build_model(config, self.pairs.inputs).to(world.device)
        self.loader = PairLoader(
            self.pairs, config.data, device=world.device, seed=config.seed, rank=world.rank, world_size=world.size
        )
        mean = self.loader.mean_predicted / world.size
        self.loss = TranslationLoss(self.model, mean, config.trainer.label_smoothing)
        self.batches_per_epoch = self.loader.steps_per_epoch
        self.examples_per_batch = round(self.loader.pairs_per_step)

    @classmethod
    def of_run(cls, config: Config, world: World, state: dict[str, Any]) -> Translation:
        """Return the task with the pieces that a run has learned."""
        return cls(config, world, LearnedPieces.from_state_dict(state, "the checkpoint") if "pieces" in state else None)

    # ---------------------------------------------------------------- data

    def describe_data(self) -> str:
        """Return in a few words what is learned from and how it is fed."""
        rows = [rows for rows, _, _ in self.loader.shapes]
        size = f"{min(rows)} to {max(rows)} pairs at a time ({self.config.tokens_per_batch:,} target pieces at most)"
        return f"{self.pairs.describe()}; {size}"

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says about the data, and how the figures are reckoned."""
        return {**self.pairs.facts(), **signatures()}

    def memory(self) -> int | None:
        """Return about how many bytes of memory this process's training takes; None where that is not foreseen."""
        hyper = as_hypernetized(self.model)
        network = self.model if hyper is None else hyper.target
        if not isinstance(network, Seq2Seq):
            return None
        found = [
            translation_memory(network, rows // self.world.size, source, target, self.pairs.inputs.target)
            for rows, source, target in self.loader.shapes
        ]
        return None if None in found else max(size for size in found if size is not None)

    def epoch(self, epoch: int, start: int) -> Iterator[PairBatch]:
        """Yield the batches of an epoch from its batch `start` on: what TranslationLoss.forward takes."""
        return self.loader.train_batches(epoch, start)

    def examples_in(self, batch: Any) -> int:
        """Return the pairs of a training batch; of other processes, as many as in this one."""
        return len(batch[0]) * self.world.size

    def tokens_in(self, batch: Any) -> int:
        """Return the pieces that are predicted in a training batch; of other processes, as many as in this one."""
        return int(batch[3].sum()) * self.world.size

    # ---------------------------------------------------------------- results

    @torch.no_grad()
    def evaluate(self, split: str, precision: Precision) -> dict[str, float]:
        """Return the nats of a target piece ("loss"), and of the translations BLEU, chrF and the part that is the
        reference to the letter ("exact"). Greedy translations on the validation split, a beam's on the test split; of
        the training split the loss alone."""
        self.model.eval()
        sums = torch.zeros(2, device=self.world.device, dtype=torch.float64)
        found: dict[int, str] = {}
        network = network_of(self.model)
        for numbers, batch in self.loader.eval_batches(split):
            with precision.autocast():
                logits, wanted = logits_of_pieces(self.model, *batch)
                nats = F.cross_entropy(logits, wanted, reduction="sum")
                sums += torch.stack([nats.double(), torch.tensor(float(len(wanted)), device=nats.device).double()])
                if split == "val":
                    rows = greedy(network, batch.source, batch.source_lengths)
                elif split == "test":
                    rows = self.best(network, batch.source, batch.source_lengths)
                else:
                    continue
            found |= zip(numbers.tolist(), map(self.pieces.target.decode, rows), strict=True)
        self.model.train()
        total, count = sum_over_ranks(sums, self.world).tolist()
        figures = {"loss": total / count}
        if split == "train":
            return figures
        for part in gather_objects(found, self.world):
            found |= part
        references = self.pairs.splits[split].target.texts
        form = self.pieces.target.normalization
        translations = [found[number] for number in range(len(references))]
        return figures | figures_of(translations, [normalized(text, form) for text in references])

    def best(self, network: Seq2Seq, source: Tensor, source_lengths: Tensor) -> list[list[int]]:
        """Return the pieces of the best translation of each source that data.beam, alpha and beta find."""
        cfg = self.config
        found = beam_search(network, source, source_lengths, beam=cfg.beam, alpha=cfg.alpha, beta=cfg.beta)
        return [translations[0].pieces for translations in found]

    def closing_words(self, precision: Precision) -> str | None:
        """Return what is shown after the result: some translations from the validation split."""
        split = self.pairs.splits["val"]
        numbers = [n * len(split) // SHOWN for n in range(min(SHOWN, len(split)))]
        texts = [split.source.texts[n] for n in numbers]
        was_training = self.model.training
        self.model.eval()
        found = self.translated(network_of(self.model), texts, precision)
        self.model.train(was_training)
        lines = []
        for n, text, translation in zip(numbers, texts, found, strict=True):
            reference = normalized(split.target.texts[n], self.pieces.target.normalization)
            lines += [f"  {printable(text.strip())}", f"    {printable(translation)}"]
            if translation != reference:
                lines.append(f"    (reference: {printable(reference)})")
        return "\n".join([f"{len(numbers)} translations from the validation split:", *lines])

    def translated(self, network: Seq2Seq, texts: Sequence[str], precision: Precision) -> list[str]:
        """Return the best translation of each of these sentences; the network must be in evaluation mode."""
        source, lengths = sources(self.pieces.source.encode(texts), self.world.device)
        with precision.autocast():
            rows = self.best(network, source, lengths)
        return [self.pieces.target.decode(row) for row in rows]

    def use(self, precision: Precision) -> Use:
        @torch.no_grad()
        def translate() -> None:
            """Translate the validation split greedily, each sentence as long as its reference: it may be untrained."""
            self.model.eval()
            network = network_of(self.model)
            for _, batch in self.loader.eval_batches("val"):
                with precision.autocast():
                    rows = greedy(network, batch.source, batch.source_lengths, batch.target_lengths)
                for row in rows:
                    self.pieces.target.decode(row)
            self.model.train()

        return Use("translated_sentences", len(self.pairs.val), translate)

    # ---------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return what besides the model an evaluation or a translation needs."""
        return {"pieces": self.pieces.state_dict(), "pairs": self.pairs.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on training: nothing is carried from batch to batch.

        Raises:
            UserError: the checkpoint is of other pieces or other pairs.
        """
        self.check_fits(state)
        if self.changes(state):
            raise UserError(f"the pairs of data={self.pairs.name} have changed since this run began; resume=never")

    def changes(self, state: dict[str, Any]) -> list[str]:
        """Return in a few words what of the data is no longer as it was."""
        return [] if state.get("pairs") in (None, self.pairs.fingerprint) else ["its sentences or their split"]

    def check_fits(self, state: dict[str, Any]) -> None:
        """Refuse a checkpoint whose model reads or writes other pieces.

        Raises:
            UserError: such a checkpoint.
        """
        if LearnedPieces.from_state_dict(state, "the checkpoint") != self.pieces:
            raise UserError(f"the checkpoint has other pieces of words than data={self.pairs.name}")
