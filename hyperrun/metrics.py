"""What the figures of runs are: which way is better, how they are shown, how the paper prints them. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hyperrun.errors import choose


@dataclass(frozen=True)
class Metric:
    """A figure that runs are compared by."""

    name: str
    higher_is_better: bool
    percent: bool = False
    """A fraction, shown in percent."""
    unit: str = ""
    """What it is measured in, where it is no bare number."""
    digits: int = 4
    """Decimals that are shown."""

    @property
    def heading(self) -> str:
        return f"{self.name} {'%' if self.percent else self.unit}".rstrip()

    def shown(self, value: float) -> float:
        """Return the value in the unit it is shown in."""
        return 100 * value if self.percent else value

    def text(self, value: float) -> str:
        return f"{self.shown(value):.{self.digits}f}"

    def better(self, a: float, b: float) -> bool:
        """Return whether a is better than b."""
        return a > b if self.higher_is_better else a < b


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", higher_is_better=True, percent=True, digits=2),
        Metric("bpc", higher_is_better=False),
        Metric("perplexity", higher_is_better=False),
        Metric("psnr", higher_is_better=True, unit="dB", digits=2),
        Metric("nats", higher_is_better=False, digits=2),  # of a whole sequence of points; may be negative
        Metric("bleu", higher_is_better=True, digits=2),  # sacrebleu's, from 0 to 100
        Metric("loss", higher_is_better=False),
    )
}
"""Every figure a task may select its checkpoint by (Task.metric). A task of one's own has the loss at least."""


def text_figures(loss: float, unit: str) -> dict[str, float]:
    """Return the figures of a text from its nats a symbol: loss, bpc (not of words) and perplexity."""
    bits = {} if unit == "word" else {"bpc": loss / math.log(2)}
    return {"loss": loss, **bits, "perplexity": math.exp(min(loss, 700.0))}


def symbols_word(summary: Mapping[str, Any]) -> str:
    """Return what the symbols of a run's sequences are called, which throughput/tokens_per_s counts."""
    return {"stroke_modeling": "points", "translation": "target pieces"}.get(summary.get("task", ""), "symbols")


def compression_text(ratio: float) -> str:
    """Return the parameters of a target for each one that is trained: two decimals, of a small ratio two digits."""
    return f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.2g}"


def higher_is_better(metric: str) -> bool:
    """Return whether more of it is better.

    Raises:
        UserError: a metric that METRICS lacks.
    """
    return METRICS[choose("metric", metric, METRICS)].higher_is_better


def from_paper(paper_metric: str, value: float) -> tuple[str, float] | None:
    """Return (our metric, its value) for a printed figure (PaperConfig.metric, .value); None where none is the same.

    test_error is in percent, accuracy a fraction: 0.76 is ("accuracy", 0.9924). val_ says that it was measured on the
    validation split, of data that have no other.
    """
    if paper_metric == "test_error":
        return "accuracy", 1 - value / 100
    name = paper_metric.removeprefix("test_").removeprefix("val_")
    return (name, value) if name in METRICS else None
