"""conf/sweep: each study end to end at tiny size, what is typed beside it, and params=N, which chooses a width."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hyperrun.conf_dir import CONF_DIR
from hyperrun.models import choose_width, counted
from tests.composed import compose_config
from tests.running import QUIET, summary

Here = Callable[..., Any]

TINY = ("trainer.max_steps=2", "trainer.eval_every=2", *QUIET)


def runs(cwd: Path) -> list[dict[str, Any]]:
    return [summary(path.parent) for path in sorted(cwd.glob("outputs/digits/*/summary.json"))]


def configs(cwd: Path) -> list[Any]:
    return [OmegaConf.load(path) for path in sorted(cwd.glob("outputs/digits/*/config.yaml"))]


def grid(cwd: Path, *keys: str) -> list[Any]:
    """Return what the runs have under these keys, sorted."""
    found = [[OmegaConf.select(cfg, key) for key in keys] for cfg in configs(cwd)]
    plain = [[OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for v in values] for values in found]
    return sorted(values if len(keys) > 1 else values[0] for values in plain)


def test_z_dim(here: Here, tmp_path: Path) -> None:
    here("train", "-m", "sweep=z_dim", "seed=0", *TINY)
    assert grid(tmp_path, "hypernet.z_dim") == [1, 2, 4, 8, 16, 32]
    assert sorted(run["params/trainable"] for run in runs(tmp_path)) == [3067, 3916, 5710, 9682, 19162, 44266]
    assert {run["status"] for run in runs(tmp_path)} == {"finished"}


def test_width(here: Here, tmp_path: Path) -> None:
    here("train", "-m", "sweep=width", "seed=0", *TINY)
    widths = [[4, 4], [8, 8], [16, 16], [32, 32]]
    assert grid(tmp_path, "model", "target.channels") == [[m, w] for m in ("cnn", "hypercnn") for w in widths]
    assert {run["status"] for run in runs(tmp_path)} == {"finished"}


def test_layers(here: Here, tmp_path: Path) -> None:
    here("train", "-m", "sweep=layers", "seed=0", *TINY)
    conv1, conv2, fc = "conv1.weight", "conv2.weight", "fc.weight"
    sizes = {conv1: 49 * 16, conv2: 49 * 256, fc: 640}
    wanted = [[conv1], [conv1, conv2], [conv1, conv2, fc], [conv2], [fc]]
    assert grid(tmp_path, "hypernet.include") == wanted
    generated = sorted(run["params/generated"] for run in runs(tmp_path))
    assert generated == sorted(sum(sizes[name] for name in names) for names in wanted)


def test_equal_params(here: Here, tmp_path: Path) -> None:
    out = here("train", "-m", "sweep=equal_params", "seed=0", *TINY).out
    found = {(cfg.params, cfg.model): run for cfg, run in zip(configs(tmp_path), runs(tmp_path), strict=True)}
    assert sorted(found) == [(n, model) for n in (5000, 7000, 10000, 14000) for model in ("cnn", "hypercnn")]
    for (asked, _), run in found.items():
        assert abs(run["params/trainable"] / asked - 1) < 0.05
        assert run["status"] == "finished"
    assert found[10000, "cnn"]["params/target"] < found[10000, "hypercnn"]["params/target"] / 10
    assert "params   10,000 asked for: target.channels=[13,14] is +1.5% off" in out


@pytest.mark.slow
def test_every_study_tells_its_line_and_how_many_jobs_it_is(here: Here) -> None:
    for path in sorted((CONF_DIR / "sweep").glob("*.yaml")):
        text = path.read_text()
        assert f"#   hyperrun train -m sweep={path.stem}\n" in text
        if path.stem != "search":
            jobs = here("train", "-m", f"sweep={path.stem}", "seed=0", "--dry-run").out.splitlines()[-1]
            assert "seed: 0,1,2" in text and f"# {3 * int(jobs.partition(' ')[0])} jobs." in text, path


# ---------------------------------------------------------------- what is typed beside a study


def test_what_is_typed_takes_the_place_of_what_the_study_sweeps(here: Here) -> None:
    out = here("train", "-m", "sweep=z_dim", "hypernet.z_dim=3,5", "seed=7", "--dry-run").out
    assert "2 jobs: 2 missing" in out and "hypernet.z_dim=3 " in out and "hypernet.z_dim=5 " in out


def test_a_study_of_another_model(here: Here) -> None:
    small = ("target.depth=10", "target.width=1")
    out = here("train", "-m", "sweep=z_dim", "model=hyperresnet", "seed=0", *small, "--dry-run").out
    assert "6 jobs: 6 missing" in out and out.count(" hyperresnet ") == 6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sweep=z_dim", "sweep=z_dim is many jobs: hyperrun train -m sweep=z_dim"),
        ("sweep=z_dim --dry-run", "sweep=z_dim is many jobs: hyperrun train -m sweep=z_dim"),
        ("-m sweep=z_dim,width", "sweep takes one study at a time"),
        ("-m sweep=zdim", "sweep has no choice 'zdim'; did you mean 'z_dim'?"),
        ("params=100 model=hypercnn", "params=100: even target.channels=[1,1] has 4,345 trainable parameters"),
        ("params=10000 target.channels=[8,8]", "params=10000 chooses target.channels: type one of the two"),
        ("params=10000 target=torchvision", "params=10000 chooses a width, and target=torchvision has no width or"),
        ("params=0", "params must be at least 1, not 0"),
    ],
)
def test_mistakes_are_one_line(here: Here, tmp_path: Path, line: str, said: str) -> None:
    done = here("train", *line.split(), status=2)
    assert done.err.count("\n") == 1 and said in done.err and runs(tmp_path) == []


# ---------------------------------------------------------------- params=N


@pytest.mark.parametrize(
    "line",
    [
        "model=cnn",
        "model=hypercnn",
        "model=lstm data=ptb_char",
        "model=hyperlstm data=ptb_char target.layers=2",
        "model=lstm data=ptb_char target.tied=true target.embedding=256",
    ],
)
@pytest.mark.parametrize("asked", [12_345, 400_000])
def test_no_other_width_is_nearer(line: str, asked: int) -> None:
    if "hyperlstm" in line and asked < 100_000:
        asked = 100_000
    config = compose_config([*line.split(), f"params={asked}"])
    choose_width(config, [])
    off = abs(counted(config).trainable - asked)
    target: Any = config.target
    if hasattr(target, "channels"):
        first, last = target.channels
        assert last - first in (0, 1)
        beside = [[first, last - 1] if last > first else [first - 1, last], [first, last + 1]]
        beside[1] = [first + 1, last] if last > first else beside[1]
        for channels in beside:
            target.channels = channels
            assert abs(counted(config).trainable - asked) >= off
        return
    width = target.hidden_size
    for other in (width - 1, width + 1):
        target.hidden_size = other
        if target.tied:
            assert target.embedding == width
            target.embedding = other
        assert abs(counted(config).trainable - asked) >= off
        target.embedding = width if target.tied else None


def test_the_width_of_a_wide_resnet_is_whole() -> None:
    config = compose_config(["model=hyperresnet", "data=cifar10", "params=155626"])
    choose_width(config, [])
    assert config.target.width == 2 and counted(config).trainable == 155_626  # pyright: ignore[reportAttributeAccessIssue]


def test_a_width_chosen_or_typed_is_the_same_run(here: Here, tmp_path: Path) -> None:
    here("train", "model=cnn", "params=14000", *TINY)
    assert "this run is finished already" in here("train", "model=cnn", *TINY).out
    (run,) = runs(tmp_path)
    assert run["params/trainable"] == 14_010
    folder = next(tmp_path.glob("outputs/digits/*"))
    assert f"{run['test/accuracy']:.4f}" in here("eval", folder).out, "a saved width is not chosen again"
