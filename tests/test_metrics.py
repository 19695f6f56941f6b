"""One place knows which way is better; the tasks and the comparison ask it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hyperrun.errors import UserError
from hyperrun.metrics import METRICS, from_paper, higher_is_better
from hyperrun.tasks.classification import Classification
from hyperrun.tasks.image_fitting import ImageFitting


def test_the_table_knows_the_metrics_of_the_tasks() -> None:
    assert higher_is_better(Classification.metric) and higher_is_better(ImageFitting.metric)
    assert not higher_is_better("bpc") and not higher_is_better("perplexity")
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        higher_is_better("acuracy")


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_better_follows_the_direction(metric) -> None:
    assert metric.better(2.0, 1.0) is metric.higher_is_better
    assert metric.better(1.0, 2.0) is not metric.higher_is_better
    assert not metric.better(1.0, 1.0)


def test_figures_are_shown_in_their_unit() -> None:
    assert METRICS["accuracy"].text(0.98765) == "98.77" and METRICS["accuracy"].heading == "accuracy %"
    assert METRICS["psnr"].text(26.1782) == "26.18" and METRICS["psnr"].heading == "psnr dB"
    assert METRICS["bpc"].text(1.26543) == "1.2654" and METRICS["bpc"].heading == "bpc"


def test_the_papers_figures_in_our_unit() -> None:
    assert from_paper("test_error", 0.76) == ("accuracy", pytest.approx(0.9924))
    assert from_paper("test_bpc", 1.265) == ("bpc", 1.265)
    assert from_paper("log_likelihood", -1096) is None


def test_without_torch() -> None:
    code = "import sys, hyperrun.metrics; assert not {'torch', 'hydra', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
