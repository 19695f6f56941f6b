"""hyperrun ls: what there is to choose from, with parameter counts and the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from hyperrun.arguments import Arguments
from hyperrun.conf_dir import choices
from hyperrun.errors import UserError, choose
from hyperrun.metrics import compression_text
from hyperrun.tracking.console import ONE_LINE_EACH, show

GROUPS = {
    "models": "model",
    "targets": "target",
    "hypernets": "hypernet",
    "data": "data",
    "optim": "optim",
    "experiments": "experiment",
    "sweeps": "sweep",
}
"""Word on the command line -> folder under conf/."""


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun ls", "List what there is to choose from.")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"any of {', '.join(GROUPS)} (default: all)")
    parser.add_argument(
        "--data", default="cifar10", metavar="NAME", help="count models for this data (default: cifar10)"
    )
    parser.add_argument("--text", default="ptb_char", metavar="NAME", help="and language models for this (ptb_char)")
    parser.add_json("print one JSON object (a list, when one WHAT is named)")
    args = parser.parse_args(argv)
    what = [choose("group", name, GROUPS) for name in args.what] or list(GROUPS)
    listing = {name: entries(name, args.data, args.text) for name in what}
    if args.json:
        print(json.dumps(listing[what[0]] if len(args.what) == 1 else listing, indent=2))
        return 0
    for name, rows in listing.items():
        show(table(name, rows))
    return 0


def entries(what: str, data: str, text: str) -> list[dict[str, Any]]:
    """Return one dict for each choice of a group; models and experiments with their counts."""
    from hyperrun.hydra_app.compose import compose_config
    from hyperrun.targets import taken_by

    group = GROUPS[what]
    found = [{"name": name, "about": about(path)} for name, path in choices(group).items()]
    if what == "models":
        for entry in found:
            takes = taken_by(compose_config([f"model={entry['name']}"]).target.kind)
            fits = text if "text" in takes else "number_words" if "pairs" in takes else data
            entry |= counts([f"model={entry['name']}", f"data={fits}"])
    if what == "experiments":
        for entry in found:
            entry |= counts([f"experiment={entry['name']}"])
    return found


def about(path: Path) -> str:
    """Return the first comment of a config file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.removeprefix("#").strip()
    return ""


def counts(overrides: list[str]) -> dict[str, Any]:
    """Return params/... of a composed config, and paper/... where it names a published figure. Builds shapes only.

    params/counted is our number for what the paper counts: the whole model, or the part that paper.part names (the
    hypernet that makes this parameter, where it is generated).
    """
    from hyperrun.data import PairData, StrokeData, TextData, inputs_of, looks_of, names_of, published_name
    from hyperrun.hydra_app.compose import compose_config
    from hyperrun.hypernets import as_hypernetized, count_parameters
    from hyperrun.models import model_of_shapes

    config = compose_config(overrides)
    if not isinstance(config.data, TextData | StrokeData | PairData):
        choose("data set", published_name(config.data), [name for name in names_of("images") if looks_of(name)])
    inputs = inputs_of(config.data)
    try:
        model = model_of_shapes(config, inputs)
    except UserError:  # it does not take these data
        return {"data": config.data.name}
    result: dict[str, Any] = {"data": config.data.name, **count_parameters(model).as_dict()}
    paper = config.paper
    if paper is not None:
        counted = int(result["params/trainable"])
        if paper.part is not None:
            hyper = as_hypernetized(model)
            counted = (
                sum(p.numel() for p in hyper.hypernet.parameters())
                if hyper is not None and paper.part in hyper.names
                else model.get_parameter(paper.part).numel()
            )
        result |= {
            "params/counted": counted,
            "paper/params": paper.params,
            "paper/part": paper.part,
            "paper/metric": paper.metric,
            "paper/value": paper.value,
            "paper/source": paper.source,
        }
    return result


def table(what: str, rows: list[dict[str, Any]]) -> Table:
    title = f"{what}, counted for {' and '.join(dict.fromkeys(r['data'] for r in rows))}" if what == "models" else what
    result = Table(title=title, title_justify="left", **ONE_LINE_EACH)
    result.add_column("name", no_wrap=True)
    if not any("params/trainable" in row for row in rows):
        result.add_column("about", no_wrap=True)
        for row in rows:
            result.add_row(row["name"], row["about"])
        return result
    numbers = ["trainable", "generated", "free", "target"]
    for name in [*numbers, "compression"]:
        result.add_column(name, justify="right", no_wrap=True)
    with_paper = any("paper/value" in row for row in rows)
    if with_paper:
        result.add_column("the paper", no_wrap=True)
    for row in rows:
        if "params/trainable" not in row:  # does not take these data
            result.add_row(row["name"], *["-"] * (len(numbers) + 1))
            continue
        cells = [f"{row[f'params/{name}']:,}" for name in numbers] + [compression_text(row["params/compression"])]
        result.add_row(row["name"], *cells, *([paper_cell(row)] if with_paper else []))
    return result


def paper_cell(row: dict[str, Any]) -> str:
    if "paper/value" not in row:
        return ""
    value = row["paper/value"]
    figures = {
        "test_error": f"{value}% error",
        "test_bpc": f"{value:.3f} bits per character",
        "val_nats": f"{value:,.0f} nats",
        "test_bleu": f"{value:.2f} BLEU",
    }
    figure = str(figures.get(row["paper/metric"], value))
    part = row["paper/part"]
    of = f" for {part} (ours {row['params/counted']:,})" if part else ""
    return f"{figure}, {row['paper/params']:,}{of}" if row["paper/params"] is not None else figure
