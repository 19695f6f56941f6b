"""hyperrun adapt RUN: a new task for a trained hypernet, by a new embedding alone; beside fine-tuning everything."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.arguments import Arguments
from hyperrun.config import DataConfig, typed_choice
from hyperrun.data import FORMS, ImageSet, as_images, form_and_base, load_images, load_tasks
from hyperrun.data.images import seeded
from hyperrun.data.kinds import ImageData, TaskData
from hyperrun.data.loader import ImageLoader
from hyperrun.data.tasks import classes_of
from hyperrun.errors import UserError
from hyperrun.hydra_app.compose import compose_config
from hyperrun.hypernets import NoHypernet, as_hypernetized
from hyperrun.load import LoadedRun, load_run
from hyperrun.models import build_model
from hyperrun.runs.folder import write_beside
from hyperrun.tracking.console import Console, show


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun adapt", "Learn a new task with a trained hypernet: a new embedding, nothing else.")
    parser.add_run("run folder of a hypernet trained on tasks (model=hypermlp)")
    parser.add_argument("overrides", nargs="*", metavar="data.KEY=VALUE", help="keys of the new data set")
    parser.add_argument(
        "--data", metavar="NAME", help="the new tasks: a set of tasks or of images (default: the run's, other tasks)"
    )
    parser.add_argument("--task", type=int, metavar="N", help="only this one of a set of tasks (default: each)")
    parser.add_argument("--examples", type=int, metavar="N", help="training examples of a task (default: all)")
    parser.add_argument("--steps", type=int, default=300, metavar="N", help="steps of Adam (default: 300)")
    parser.add_argument("--lr", type=float, default=0.1, metavar="LR", help="for the embedding (default: 0.1)")
    parser.add_argument(
        "--fine-tune-lr", type=float, default=0.001, metavar="LR", help="for everything, and from scratch (0.001)"
    )
    parser.add_seed("of order and initialization")
    parser.add_checkpoint()
    parser.add_out("FILE", "figures and embeddings (default: RUN/adapt.json)")
    parser.add_plugins()
    parser.add_json()
    args = parser.parse_with_plugins(argv)
    for name in ("steps", "examples"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(args, name)}")
    for name, value in (("lr", args.lr), ("fine-tune-lr", args.fine_tune_lr)):
        if not 0 < value < math.inf:
            raise UserError(f"--{name} must be a positive number, not {value}")
    if args.out is not None and not args.out.resolve().parent.is_dir():
        raise UserError(f"--out: there is no folder {args.out.parent}")
    for word in args.overrides:
        if not word.startswith("data.") or "=" not in word:
            raise UserError(f"'{word}' is no data.KEY=VALUE")
    loaded = load_run(args.run, args.checkpoint)
    data = new_data(loaded, args.data, args.overrides)
    tasks = new_tasks(loaded, data)
    if args.task is not None:
        if not 0 <= args.task < len(tasks):
            raise UserError(f"--task must lie between 0 and {len(tasks) - 1}, not {args.task}")
        tasks = [tasks[args.task]]
    results = []
    for name, task in tasks:
        results.append(adapt(loaded, task, data, args.steps, args.lr, args.fine_tune_lr, args.seed, args.examples))
        results[-1]["task"] = name
    report = {"run": str(loaded.folder.path), "data": data.name, "steps": args.steps, "tasks": results}
    out = args.out or loaded.folder.path / "adapt.json"
    write_beside(out, json.dumps(report, indent=2) + "\n")
    if args.json:
        print(json.dumps(report))
        return 0
    show(table(report))
    Console().say(f"files   {out} (with the embeddings)")
    return 0


# ---------------------------------------------------------------- the new tasks


def new_data(loaded: LoadedRun, name: str | None, overrides: Iterable[str]) -> ImageData:
    """Return the config of the new set: the one named, or the run's own with other tasks of the same kind.

    Raises:
        UserError: a run that was not trained on tasks, or without a hypernet; data that are not images.
    """
    own = loaded.config.data
    hyper = as_hypernetized(loaded.model)
    if not isinstance(own, TaskData) or hyper is None:
        raise UserError("hyperrun adapt needs a hypernet trained on tasks, e.g. model=hypermlp data=split_digits")
    data: DataConfig = own
    if name in (None, own.name):
        data = dataclasses.replace(own, task_seed=own.task_seed + (name is None))
    elif name.partition("_")[0] in FORMS:
        data = dataclasses.replace(own, name=name)
    else:
        data = compose_config([f"data={name}"]).data
        data = dataclasses.replace(data, root=own.root, verify=own.verify)
    typed = OmegaConf.from_dotlist([word.removeprefix("data.") for word in overrides])
    data = typed_choice("data", OmegaConf.to_container(OmegaConf.merge(dataclasses.asdict(data), typed)))
    if not isinstance(data, ImageData):
        raise UserError(f"data={data.name} are no images")
    if isinstance(data, TaskData) and (data.name, data.task_seed) == (own.name, own.task_seed):
        raise UserError(f"the run was trained on these tasks; data.task_seed={own.task_seed + 1} makes others")
    return data


def new_tasks(loaded: LoadedRun, data: ImageData) -> list[tuple[str, ImageSet]]:
    """Return the name and the images of each new task, to be normalised as the run's own were.

    Raises:
        UserError: images of another shape, or another number of classes, than the run's.
    """
    own = loaded.config.data
    assert isinstance(own, TaskData)
    if isinstance(data, TaskData):
        made = load_tasks(data)
        tasks = list(zip(made.names, made.tasks, strict=True))
    else:
        tasks = [(data.name, load_images(data))]
    base, new = load_images(as_images(own)), tasks[0][1]
    shape, classes = base.train.shape, classes_of(base.num_classes, form_and_base(own.name)[0], own)
    if (new.train.shape, new.num_classes) != (shape, classes):
        raise UserError(
            f"data={data.name} has images of {list(new.train.shape)} in {new.num_classes} classes; the run was trained "
            f"on {list(shape)} in {classes}"
        )
    return [(name, dataclasses.replace(task, mean=base.mean, std=base.std)) for name, task in tasks]


# ---------------------------------------------------------------- learning one


def adapt(
    loaded: LoadedRun,
    task: ImageSet,
    data: ImageData,
    steps: int = 300,
    lr: float = 0.1,
    fine_tune_lr: float = 0.001,
    seed: int = 0,
    examples: int | None = None,
) -> dict[str, Any]:
    """Learn one new task in four ways, each for `steps` steps of Adam, and measure each on the task's test split.

    - nearest: no step; the embedding of the task trained on that fits the new training examples best.
    - embedding: a new embedding, begun there; the hypernet and all else stay as they are.
    - everything: such an embedding and all the hypernet's parameters, of a copy.
    - scratch: the target on its own, from a new initialization.

    Returns {"examples": how many were trained on, "embedding": what was learned, [z_dim] numbers, "rows": [{"learned",
    "parameters", "test/accuracy"}]}. The model of `loaded` is not changed; materialize(loaded.model, embedding) is the
    new task's network.

    task: normalised as those of the run. data: how it is fed (augmentation).
    """
    if examples is not None and examples < len(task.train):
        chosen = torch.randperm(len(task.train), generator=seeded("examples", seed))[:examples]
        task = dataclasses.replace(task, train=task.train.select(chosen.sort().values))
    trainer = loaded.config.trainer
    feed = ImageLoader(
        task,
        dataclasses.replace(data, loader="device"),
        device=torch.device("cpu"),
        batch_size=trainer.batch_size,
        eval_batch_size=trainer.eval_batch_size,
        seed=seed,
    )
    model = as_hypernetized(copy.deepcopy(loaded.model).requires_grad_(False))
    assert model is not None and model.embedded is not None
    known = model.embedded.embedding.weight

    def logits_of(embedding: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: model.call_with(model.weights(embedding), x)

    def fixed(embedding: Tensor) -> Callable[[Tensor], Tensor]:
        weights = model.weights(embedding)  # once, not for each batch
        return lambda x: model.call_with(weights, x)

    def measured(learned: str, logits: Callable[[Tensor], Tensor], parameters: Iterable[Tensor]) -> dict[str, Any]:
        with torch.no_grad():
            figure = accuracy(logits, feed.eval_batches("test"))
        return {"learned": learned, "parameters": sum(p.numel() for p in parameters), "test/accuracy": figure}

    with torch.no_grad():
        fits = [accuracy(fixed(embedding), feed.eval_batches("train")) for embedding in known]
    start = known[max(range(len(fits)), key=fits.__getitem__)]
    rows = [measured("nearest", fixed(start), [])]

    embedding = nn.Parameter(start.clone())
    learn(logits_of(embedding), [embedding], feed, steps, lr)
    rows.append(measured("embedding", fixed(embedding), [embedding]))
    learned = embedding.detach().clone()

    everything = [nn.Parameter(start.clone()), *model.requires_grad_(True).parameters()]
    everything = [p for p in everything if p is not known]
    learn(logits_of(everything[0]), everything, feed, steps, fine_tune_lr)
    rows.append(measured("everything", fixed(everything[0]), everything))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = build_model(dataclasses.replace(loaded.config, hypernet=NoHypernet("none")), task.inputs)
    learn(plain, list(plain.parameters()), feed, steps, fine_tune_lr)
    rows.append(measured("scratch", plain.eval(), plain.parameters()))
    return {"examples": len(task.train), "embedding": learned.tolist(), "rows": rows}


def learn(
    logits: Callable[[Tensor], Tensor], parameters: list[nn.Parameter], feed: ImageLoader, steps: int, lr: float
) -> None:
    """Change the parameters by `steps` steps of Adam on the cross-entropy."""
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for (x, y), _ in zip(feed.stream(), range(steps), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(logits(x), y).backward()
        optimizer.step()


def accuracy(logits: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    correct = [(logits(x).argmax(1) == y) for x, y in batches]
    return torch.cat(correct).double().mean().item()


# ---------------------------------------------------------------- shown


def table(report: dict[str, Any]) -> Table:
    """Return accuracy by task and by what was learned, with the number of parameters that took."""
    tasks = report["tasks"]
    made = Table(title=f"{report['data']}: test accuracy % after {report['steps']} steps", title_justify="left")
    made.add_column("learned")
    made.add_column("parameters", justify="right")
    for task in tasks:
        made.add_column(task["task"], justify="right")
    if len(tasks) > 1:
        made.add_column("mean", justify="right")
    for i, row in enumerate(tasks[0]["rows"]):
        figures = [100 * task["rows"][i]["test/accuracy"] for task in tasks]
        figures += [sum(figures) / len(figures)] if len(tasks) > 1 else []
        made.add_row(row["learned"], f"{row['parameters']:,}", *(f"{figure:.2f}" for figure in figures))
    return made
