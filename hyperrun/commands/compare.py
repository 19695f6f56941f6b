"""hyperrun compare: parameters against accuracy of many runs, as tables, plot, page."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from rich.console import Console

from hyperrun.arguments import Arguments
from hyperrun.compare.filters import Condition, filter_runs
from hyperrun.compare.groups import compare
from hyperrun.compare.records import as_csv, as_json
from hyperrun.compare.table import markdown, print_comparison
from hyperrun.errors import UserError, choose
from hyperrun.paths import expanded
from hyperrun.runs.folder import write_beside
from hyperrun.runs.reading import Runs, computed_keys, read_runs

PLOT_FORMATS = ("png", "svg", "pdf")
WITHOUT_TERMINAL = 160
"""Characters in a line where no terminal limits them (a pipe, a file) and COLUMNS does not either."""


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun compare", "Compare finished runs: parameters against accuracy, over seeds.")
    add = parser.add_argument
    add("runs", nargs="*", default=["outputs"], metavar="RUNS", help="run folders, or folders of them (outputs)")
    add("--where", action="append", default=[], metavar="KEY=V", help="only such runs (also != < <= > >=); repeatable")
    add("--plot", metavar="FILE", help="parameters against the metric, as .png, .svg or .pdf")
    add("--html", metavar="FILE", help="one page: sortable tables, plots, learning curves, differences of the configs")
    add("--csv", metavar="FILE", help="one line for each group of seeds; - is standard output")
    parser.add_json()
    add("--markdown", action="store_true", help="print Markdown tables")
    add("--results", metavar="FILE", help="a page (.md) of all experiments, those not run, too, and its plot beside it")
    add("--readme", metavar="FILE", help="with --results: a Markdown file whose marked tables are written again, too")
    add("--text-plot", action="store_true", help="draw the plot in the terminal, too")
    add("--wandb", action="store_true", help="record the comparison in W&B; with a login save a view of the project")
    args = parser.parse_args(argv)
    alone = [name for name in ("--json", "--markdown") if vars(args)[name[2:]]] + ["--csv -"] * (args.csv == "-")
    if len(alone) + args.text_plot > 1 and alone:
        raise UserError(f"{' and '.join([*alone, *['--text-plot'] * args.text_plot])} cannot share standard output")
    for flag in ("plot", "html", "csv", "results", "readme"):
        check_writable(flag, getattr(args, flag))
    if args.readme and not args.results:
        raise UserError("--readme has tables of the page that --results writes: it needs that, too")
    conditions = [Condition.parse(text) for text in args.where]

    runs = filter_runs(read_runs(args.runs), conditions)
    comparisons = compare(runs)
    for flag in ("plot", "html", "wandb"):
        if getattr(args, flag) and not comparisons:
            raise UserError(f"--{flag} needs a run that is finished; here is none")
    for warning in runs.warnings:
        print(f"hyperrun: warning: {warning}", file=sys.stderr)

    written: list[str] = []
    if args.plot:
        from hyperrun.compare.plot import draw
        from hyperrun.pictures.style import picture

        write_beside(Path(args.plot), picture(draw(comparisons), Path(args.plot).suffix[1:].lower()))
        written.append(f"plot    {args.plot}")
    if args.html:
        from hyperrun.compare.page import page

        write_beside(Path(args.html), page(runs, comparisons))
        written.append(f"page    {args.html}")
    if args.results:
        written += write_results(args.runs, Path(args.results), Path(args.readme) if args.readme else None, runs)
    if args.wandb:
        from hyperrun.compare.wandb_comparison import log_comparison

        written += log_comparison(comparisons, Path(args.runs[0]), ["compare", *argv])
    if args.csv == "-":
        sys.stdout.write(as_csv(comparisons))
    elif args.csv:
        write_beside(Path(args.csv), as_csv(comparisons))
        written.append(f"csv     {args.csv}")

    if args.json:
        print(json.dumps(as_json(runs, comparisons), indent=2))
    elif args.markdown:
        print(markdown(runs, comparisons))
    elif not alone:
        limited = sys.stdout.isatty() or "COLUMNS" in os.environ
        console = Console(highlight=False, emoji=False, width=None if limited else WITHOUT_TERMINAL)
        print_comparison(runs, console, comparisons)
        if args.text_plot:
            from hyperrun.compare.text_plot import print_plot

            for comparison in comparisons:
                console.print()
                print_plot(comparison, console)
        for line in written:
            console.print(line, markup=False, soft_wrap=True)
    if alone and written:
        print(*written, sep="\n", file=sys.stderr)
    return 0


def write_results(folders: list[str], path: Path, readme: Path | None, runs: Runs) -> list[str]:
    """Write the page of all experiments, the plot of those that were run, and the tables of a README.

    Returns:
        Lines that say what was written.

    Raises:
        UserError: a README without marked regions, or with one that names nothing that was run.
    """
    from hyperrun.compare.experiments import Experiment, sections
    from hyperrun.compare.gone import gone_group, read_gone, with_gone
    from hyperrun.compare.plot import draw
    from hyperrun.compare.readme import filled_in
    from hyperrun.compare.results import TYPED, results_page
    from hyperrun.conf_dir import choices
    from hyperrun.config import to_dict
    from hyperrun.hydra_app.compose import compose_config
    from hyperrun.models import counted
    from hyperrun.pictures.style import picture

    experiments = []
    for name in choices("experiment"):
        config = compose_config([f"experiment={name}"])
        count, computed = counted(config), computed_keys(to_dict(config))
        experiments.append(Experiment(name, config.data.name, count.trainable, count.target, config.paper, computed))
    known = {experiment.name for experiment in experiments}
    theirs = Runs([run for run in runs.finished if run.summary.get("experiment") in known], runs.unfinished)
    gone_from, rows = read_gone(folders)
    configs = [compose_config(row.overrides) for row in rows]
    gone = [gone_group(row, config, counted(config).target) for row, config in zip(rows, configs, strict=True)]
    comparisons = with_gone(compare(theirs), gone)

    tables = None
    if readme is not None:
        try:
            tables = filled_in(readme.read_text(encoding="utf-8"), sections(comparisons, experiments))
        except (OSError, ValueError, UserError) as error:
            raise UserError(f"--readme {readme}: {error}") from None
    plot = path.with_suffix(".png") if comparisons else None
    typed = shlex.join(["hyperrun", "compare", *folders, "--results", str(path)])
    if any(expanded(name).is_absolute() for name in (*folders, path)):
        typed = TYPED  # where files are on this machine is nobody's business
    link = plot.name if plot else None
    page = results_page(theirs, comparisons, experiments, link, typed=typed, gone_from=gone_from)
    if plot is not None:
        # where all have as many parameters, the tables say it better
        varied = [found for found in comparisons if len({group.trainable for group in found.groups}) > 1]
        write_beside(plot, picture(draw(varied or comparisons), "png"))
    write_beside(path, page)
    if readme is not None and tables is not None:
        write_beside(readme, tables)
    others = len(runs.finished) - len(theirs.finished)
    beside = f" ({others} runs of no experiment left out)" if others else ""
    lines = [f"results {path}{beside}", *([f"plot    {plot}"] if plot else [])]
    return lines + ([f"tables  {readme}"] if readme is not None else [])


def check_writable(flag: str, name: str | None) -> None:
    """Raise a UserError if a file cannot be made there, before any work is done."""
    if name is None or (flag == "csv" and name == "-"):
        return
    path = Path(name)
    if flag == "plot":
        choose("kind of picture", path.suffix[1:].lower(), PLOT_FORMATS)
    if flag == "results" and path.suffix != ".md":
        raise UserError(f"--results {name}: the page is Markdown, its name ends in .md")
    if path.is_dir():
        raise UserError(f"--{flag} {name}: is a folder")
    if not path.parent.is_dir():
        raise UserError(f"--{flag} {name}: there is no folder {path.parent}")
