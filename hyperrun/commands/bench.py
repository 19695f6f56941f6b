"""hyperrun bench: what models cost on this machine, a training step of each in turn."""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table

from hyperrun.arguments import Arguments
from hyperrun.config import Config, to_dict
from hyperrun.data import PairData, published_name
from hyperrun.data.fetch import fetch_if_missing
from hyperrun.errors import UserError
from hyperrun.hydra_app.plan import jobs_of
from hyperrun.hypernets import NoHypernet, count_parameters
from hyperrun.runs.naming import NAMES, labels
from hyperrun.runs.reading import computed_keys
from hyperrun.targets import takes_coordinates
from hyperrun.tasks import Task, build_task
from hyperrun.tracking.console import ONE_LINE_EACH, show
from hyperrun.tracking.environment import device_name, git_commit
from hyperrun.training.distributed import World, join_world
from hyperrun.training.meter import Meter
from hyperrun.training.precision import Precision, choose_matmul_precision, choose_precision
from hyperrun.training.seeds import seed_everything
from hyperrun.training.step import TrainingStep
from hyperrun.training.task import Use
from hyperrun.training.timing import WARM_UP_STEPS, compilations, in_turn, wait

USES = {
    "drawn_points_per_s": ("draws side by side", "points/s"),
    "translated_sentences_per_s": ("translates greedily", "sentences/s"),
}
"""What a model may be used for, as the report calls it -> the column and the unit in the table."""
QUIET_STEPS = 12
"""Steps without a compilation after which batches of pairs, which have several numbers of rows, have shown them all."""


def main(argv: list[str]) -> int:
    parser = Arguments(
        "hyperrun bench",
        "Time training steps of models in turn: each hypernet beside the same target trained directly.",
    )
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="as for hyperrun train -m: KEY=A,B are two models")
    add("--rounds", type=int, default=10, metavar="N", help="steps of each that are timed (default: 10)")
    parser.add_json()
    args = parser.parse_intermixed_args(argv)
    if args.rounds < 1:
        raise UserError(f"--rounds must be at least 1, not {args.rounds}")
    configs = []
    for _, config in jobs_of(args.overrides):
        if isinstance(config, UserError):
            raise config
        configs.append(config)
    with join_world() as world:
        report = bench(configs, world, args.rounds)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        show(table(report))
        commit = f", commit {report['commit']}" if report["commit"] else ""
        print(f"medians (quartiles), n = {args.rounds}; {report['device']}, torch {report['torch']}{commit}")
    return 0


def with_twins(configs: Sequence[Config]) -> list[tuple[Config, Config | None]]:
    """Return each config with the same target trained directly, which stands there, too; None where there is none.

    Configs that differ in the seed only cost the same and stand there once.
    """
    found: dict[str, tuple[Config, Config | None]] = {}
    for config in configs:
        twin = None
        if has_twin(config):
            name = getattr(config.target, "name", getattr(config.target, "cell", config.target.kind))
            direct = dataclasses.replace(config, hypernet=NoHypernet(kind="none"), model=name)
            same = next((other for other in configs if identity(other) == identity(direct)), direct)
            twin, _ = found.setdefault(identity(direct), (same, None))
        found.setdefault(identity(config), (config, twin))
    return list(found.values())


def has_twin(config: Config) -> bool:
    """Return whether it has a hypernet and its target could do without: for several tasks or images it could not."""
    conditional = config.data.kind == "tasks" or takes_coordinates(config.target)
    return config.hypernet.kind != "none" and not conditional


def identity(config: Config) -> str:
    """Return what is alike in configs that compute the same but for the seed, whatever they are called."""
    return json.dumps(settings(config), sort_keys=True)


def settings(config: Config) -> dict[str, Any]:
    keys = computed_keys(to_dict(config))
    return {key: value for key, value in keys.items() if key.partition(".")[0] not in NAMES}


@dataclass
class Contender:
    """A model that is timed."""

    step: Callable[[], None]
    trainable: int
    examples: int
    """Of an optimizer step."""
    unit: str
    """What is counted as examples: images, sequences."""
    precision: str
    memory: float | None
    """MiB of GPU memory that its first steps took at most; None on a CPU."""
    use: Use | None
    """See Task.use."""


def bench(configs: Sequence[Config], world: World, rounds: int) -> dict[str, Any]:
    """Return what bench --json prints: where it was measured, and a row for each model."""
    found = with_twins(configs)
    names = labels([(config.model, settings(config)) for config, _ in found])
    contenders = {name: contender(config, world) for name, (config, _) in zip(names, found, strict=True)}
    times = in_turn({name: one.step for name, one in contenders.items()}, rounds, warm_up=0)
    rows = []
    for name, (_, twin) in zip(names, found, strict=True):
        one, seconds = contenders[name], times[name]
        direct = next((other for other, (config, _) in zip(names, found, strict=True) if config is twin), None)
        ratios = [a / b for a, b in zip(seconds, times[direct], strict=True)] if direct is not None else []
        rows.append(
            {
                "model": name,
                "trainable": one.trainable,
                "batch": one.examples,
                "unit": one.unit,
                "precision": one.precision,
                "step_s": statistics.median(seconds),
                "step_s_quartiles": quartiles(seconds),
                "examples_per_s": one.examples / statistics.median(seconds),
                "gpu_memory_mib": one.memory,
                **dict.fromkeys(USES),
                **({f"{one.use.what}_per_s": one.use.count / used_s(one.use, rounds)} if one.use is not None else {}),
                "direct": direct,
                "ratio": statistics.median(ratios) if ratios else None,
                "ratio_quartiles": quartiles(ratios),
            }
        )
    where = {"device": device_name(world.device), "torch": torch.__version__, "commit": git_commit()}
    return {**where, "rounds": rounds, "rows": rows}


def quartiles(values: Sequence[float]) -> list[float] | None:
    """Return the first and the third; None for fewer than two values."""
    if len(values) < 2:
        return None
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [first, third]


def contender(config: Config, world: World) -> Contender:
    """Build a model as train does, and take its first steps."""
    seed_everything(config.seed, config.deterministic)
    torch.set_float32_matmul_precision(choose_matmul_precision(config.trainer.matmul_precision, world.device)[0])
    fetch_if_missing(published_name(config.data), config.data.root)
    cuda = world.device.type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    task = build_task(config, world)
    precision = choose_precision(config.precision, world.device)
    step = training_step(task, config, precision, world)
    warm_up(step, QUIET_STEPS if isinstance(config.data, PairData) else WARM_UP_STEPS)
    wait()
    memory = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda else None
    trainable = count_parameters(task.model).trainable
    examples = task.examples_per_batch * config.trainer.accumulate
    return Contender(step, trainable, examples, task.unit, precision.name, memory, task.use(precision))


def used_s(use: Use, rounds: int) -> float:
    """Return how many seconds a use takes: the median of so many rounds, after one in which things are made."""
    use.run()
    return statistics.median(in_turn({"use": use.run}, rounds, warm_up=0)["use"])


def warm_up(step: Callable[[], None], quiet: int) -> None:
    """Take steps until so many in a row have compiled nothing, or for so long that the rest is rare shapes."""
    left = quiet
    for _ in range(10 * quiet):
        before = compilations()
        step()
        left = left - 1 if compilations() == before else quiet
        if not left:
            return


def training_step(task: Task, config: Config, precision: Precision, world: World) -> Callable[[], None]:
    """Return what does the next optimizer step of a run that starts afresh, at each call."""
    step, meter = TrainingStep(task, config, precision, world), Meter(world)
    numbers, batches = itertools.count(), task.batches(0)
    task.model.train()

    def one() -> None:
        step(next(numbers), batches, meter)

    return one


def table(report: dict[str, Any]) -> Table:
    """Return the rows as they are read: medians, and quartiles of the ratio."""
    found = Table(title="a training step, in turn", title_justify="left", **ONE_LINE_EACH)
    memory = any(row["gpu_memory_mib"] is not None for row in report["rows"])
    uses = [what for what in USES if any(row[what] is not None for row in report["rows"])]
    columns = ["model", "trainable", "batch", "precision", "step", "per second", "of direct"]
    columns += ["GPU memory"] * memory + [USES[what][0] for what in uses]
    for column in columns:
        found.add_column(column, justify="left" if column in ("model", "precision") else "right")
    for row in report["rows"]:
        cells = [row["model"], f"{row['trainable']:,}", f"{row['batch']:,}", row["precision"]]
        cells += [f"{row['step_s'] * 1e3:,.1f} ms", f"{row['examples_per_s']:,.0f} {row['unit']}"]
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
        if row["ratio_quartiles"]:
            ratio += " ({:.2f} to {:.2f})".format(*row["ratio_quartiles"])
        cells.append(ratio)
        if memory:
            cells.append(f"{row['gpu_memory_mib']:,.0f} MiB")
        cells += [f"{row[what]:,.0f} {USES[what][1]}" if row[what] is not None else "" for what in uses]
        found.add_row(*cells)
    return found
