"""--where: numbers as numbers, keys of summary and config, mistakes in one line."""

from __future__ import annotations

import pytest

from hyperrun.compare import Runs, read_runs
from hyperrun.compare.filters import Condition, filter_runs
from hyperrun.errors import UserError
from tests.made_up_runs import made_up_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    outputs = tmp_path_factory.mktemp("where")
    made_up_run(outputs, "model=cnn", "seed=0", name="cnn")
    made_up_run(outputs, "model=hypercnn", "seed=2", "hypernet.z_dim=4", name="z4", test=0.5)
    made_up_run(outputs, "model=hypercnn", "seed=10", "hypernet.z_dim=16", "trainer.clip_norm=0.5", name="z16")
    made_up_run(outputs, "model=lstm", "data=pydocs", "optim.lr=1e-3", "compile=true", name="lstm", status="failed")
    return read_runs([outputs])


def left(runs: Runs, *conditions: str) -> set[str]:
    return {run.path.name for run in filter_runs(runs, map(Condition.parse, conditions)).all}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("data=pydocs", {"lstm"}),
        ("data!=pydocs", {"cnn", "z4", "z16"}),
        ("model=hypercnn", {"z4", "z16"}),
        ("seed<3", {"cnn", "z4", "lstm"}),
        ("seed<=2", {"cnn", "z4", "lstm"}),
        ("seed>2", {"z16"}),  # as text, 10 is less than 2
        ("seed >= 2", {"z4", "z16"}),
        ("seed==10", {"z16"}),
        ("seed=1e1", {"z16"}),
        ("seed=2.0", {"z4"}),
        ("hypernet.z_dim=16", {"z16"}),
        ("hypernet.z_dim!=16", {"cnn", "z4", "lstm"}),  # which has none, has not 16
        ("hypernet.z_dim<100", {"z4", "z16"}),
        ("hypernet=none", {"cnn", "lstm"}),
        ("optim=adam", {"cnn", "z4", "z16", "lstm"}),
        ("optim.lr=0.001", {"lstm"}),
        ("trainer.clip_norm=null", {"cnn", "z4", "lstm"}),
        ("trainer.clip_norm>0", {"z16"}),
        ("compile=true", {"lstm"}),
        ("compile=False", {"cnn", "z4", "z16"}),
        ("target.channels=[16,16]", {"cnn", "z4", "z16"}),
        ("target.channels=[16,17]", None),
        ("test/accuracy>0.8", {"cnn", "z16"}),
        ("status=failed", {"lstm"}),
        ("seed=two", None),
    ],
)
def test_conditions(runs: Runs, condition: str, expected: set[str] | None) -> None:
    if expected is None:
        with pytest.raises(UserError, match="^none of 4 runs fulfils --where '"):
            left(runs, condition)
    else:
        assert left(runs, condition) == expected


def test_a_value_that_no_run_has_is_answered_with_the_nearest(runs: Runs) -> None:
    with pytest.raises(UserError, match="fulfils --where 'data=digts'; did you mean 'digits'\\?$"):
        left(runs, "data=digts")
    with pytest.raises(UserError, match="'data=digts'; did you mean 'digits'\\?$"):
        left(runs, "test/accuracy>0.1", "data=digts")


def test_conditions_that_no_run_fulfils_together(runs: Runs) -> None:
    with pytest.raises(UserError, match="; each of these holds for some of them$"):
        left(runs, "test/accuracy>0.8", "status=failed")


def test_all_conditions_must_hold(runs: Runs) -> None:
    assert left(runs, "model=hypercnn", "seed<3") == {"z4"}
    assert left(runs) == {"cnn", "z4", "z16", "lstm"}


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("hypernet.zdim=4", r"^--where hypernet\.zdim=4: no run has the key 'hypernet\.zdim'; did you mean 'hypernet"),
        ("z_dim<4", r"did you mean 'hypernet\.z_dim'\?$"),
        ("seed", "^--where seed: must be KEY=VALUE"),
        ("=3", "must be KEY=VALUE"),
        ("seed=<3", "must be KEY=VALUE"),
        ("seed<>3", "must be KEY=VALUE"),
        ("seed===3", "must be KEY=VALUE"),
        ("seed<few", "^--where seed<few: < compares numbers, and 'few' is none$"),
    ],
)  # fmt: skip
def test_mistakes(runs: Runs, condition: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        left(runs, condition)
