"""Made-up runs of three data sets whose table can be worked out in the head."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyperrun.compare import Comparison, Runs, compare, read_runs
from tests.made_up_runs import made_up_run


@pytest.fixture(scope="session")
def mixed_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 12 finished runs, three that are not, and one that is damaged."""
    outputs = tmp_path_factory.mktemp("mixed") / "outputs"
    for seed, test in enumerate((0.97, 0.98, 0.99)):
        made_up_run(outputs, "model=cnn", f"seed={seed}", test=test, trainable=21210)
    for seed, test in enumerate((0.94, 0.96)):
        made_up_run(outputs, "model=hypercnn", "hypernet.z_dim=4", f"seed={seed}", test=test, trainable=8000)
    made_up_run(outputs, "model=hypercnn", "hypernet.z_dim=16", test=0.96, trainable=23000)
    made_up_run(outputs, "experiment=ha2016/mnist_hypercnn", test=0.9916, trainable=12910)
    made_up_run(outputs, "model=cnn", "data=mnist", test=0.9928, trainable=21210)
    made_up_run(outputs, "model=lstm", "data=pydocs", test=2.4, trainable=327218)
    made_up_run(outputs, "model=lnlstm", "data=pydocs", test=2.1, trainable=328754)
    made_up_run(outputs, "model=hyperlstm", "data=pydocs", test=2.2, trainable=437586)
    made_up_run(outputs, "model=lnhyperlstm", "data=pydocs", test=1.8, trainable=440530)
    made_up_run(
        outputs, "model=hypercnn", "seed=7", name="f", status="failed", error="the loss is not finite", steps=40
    )
    made_up_run(outputs, "model=hypercnn", "seed=8", name="p", status="preempted", error="stopped by SIGTERM", steps=60)
    made_up_run(outputs, "model=hypercnn", "seed=9", name="k", status=None, steps=80)
    (made_up_run(outputs, "model=cnn", "seed=10", name="damaged") / "summary.json").write_text("{")
    return outputs


@pytest.fixture
def mixed(mixed_outputs: Path) -> Runs:
    return read_runs([mixed_outputs])


@pytest.fixture
def comparisons(mixed: Runs) -> list[Comparison]:
    """Return digits, mnist and pydocs."""
    return compare(mixed)
