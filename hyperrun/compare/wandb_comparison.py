"""The comparison in W&B: a run of its own with table, scatter and picture, and a saved view of the project."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from hyperrun.compare.groups import Comparison
from hyperrun.compare.plot import draw
from hyperrun.compare.records import flat, records
from hyperrun.compare.table import notes, shared_line
from hyperrun.errors import UserError
from hyperrun.pictures.style import picture
from hyperrun.runs.folder import CONFIG
from hyperrun.runs.reading import Run
from hyperrun.tracking.wandb_run import begin, choose_mode, first_line

VIEW = "hyperrun comparison"
"""Name under which the saved view stands in the project's list."""


def log_comparison(comparisons: list[Comparison], folder: Path, command: list[str]) -> list[str]:
    """Record the comparison as a W&B run with job_type compare; with a login, make or update the saved view, too.

    folder: where W&B's own files go, if it is no run's folder (else into the folder around it).
    command: the words after `hyperrun`, for the line to run later.

    Returns:
        Lines that say where to look, or what to run once there is a login.

    Raises:
        UserError: W&B is disabled, or cannot begin a run.
    """
    mode, reason = choose_mode("auto")
    if mode == "disabled":
        raise UserError(f"--wandb: {reason}")
    runs = [run for comparison in comparisons for group in comparison.groups for run in group.runs]
    entity, project = project_of(runs)
    try:
        run = begin(
            mode,
            project=project,
            entity=entity,
            job_type="compare",
            name="compare",
            config={"runs": sorted({str(run.path) for run in runs})},
            dir=str(folder.parent if (folder / CONFIG).is_file() else folder),
        )
        with run:
            run.log({key: value for comparison in comparisons for key, value in panels(comparison).items()})
            entity, where = run.entity, str(Path(run.dir).parent)
    except Exception as error:
        raise UserError(f"--wandb: {first_line(error)}") from error
    if mode == "offline":
        again = shlex.join(["hyperrun", *command])
        return [
            f"W&B     offline ({reason}): {where}",
            f"later   wandb login; wandb sync {shlex.quote(where)}",
            f"        {again}  # with a login it saves the view of the project, too",
        ]
    return [f"W&B     {run.url}", f"view    {save_view(entity, project, comparisons)}"]


def project_of(runs: list[Run]) -> tuple[str | None, str]:
    """Return the W&B entity (None: the user's own) and project that most of the runs were recorded in."""
    found = Counter(
        (run.config.get("tracking.wandb.entity"), run.config.get("tracking.wandb.project") or "hyperrun")
        for run in runs
    )
    return found.most_common(1)[0][0]


def panels(comparison: Comparison) -> dict[str, Any]:
    """Return key -> W&B media of one comparison: its table, the scatter that W&B draws, and our plot."""
    import wandb
    from PIL import Image

    rows = [flat(row) for row in records(comparison)]  # nobody can sort or filter by lists
    columns: list[Any] = list(rows[0])
    table = wandb.Table(columns=columns, data=[[row[column] for column in columns] for row in rows])
    name = re.sub(r"[^\w.-]+", "_", comparison.data)
    shown = "test/mean" if comparison.split == "test" else "val/mean"
    image = Image.open(io.BytesIO(picture(draw([comparison]), "png")))
    said = [comparison.title, shared_line(comparison), *notes(comparison)]
    return {
        f"{name}/table": table,
        f"{name}/scatter": wandb.plot.scatter(table, "params/trainable", shown, title=comparison.title),
        f"{name}/plot": wandb.Image(image, caption="\n".join(filter(None, said))),
    }


# ---------------------------------------------------------------- the saved view


def save_view(entity: str, project: str, comparisons: list[Comparison]) -> str:
    """Make the project's saved view, or replace its panels if it is there; return its address, or why there is none."""
    try:
        from wandb_workspaces.workspaces import Workspace, internal
    except ImportError:
        return "needs the package wandb-workspaces (pip install 'hyperrun[workspaces]')"
    try:
        view = build_view(entity, project, comparisons)
        view._internal_name = internal._url_query_str_to_internal_name(view_name(entity, project))
        try:
            old = Workspace.from_url(f"https://view/{entity}/{project}?nw={view_name(entity, project)}")
            view._internal_id = old._internal_id
        except (ValueError, LookupError):  # there is none yet
            pass
        return view.save().url
    except Exception as error:  # the comparison itself is recorded; a view less is no reason to fail
        return f"not saved: {first_line(error)}"


def view_name(entity: str, project: str) -> str:
    """Return the view's name in addresses: the same for every call, so that there is one view for each project."""
    return f"hr{hashlib.sha256(f'{entity}/{project}'.encode()).hexdigest()[:9]}"


def build_view(entity: str, project: str, comparisons: list[Comparison]) -> Any:
    """Return the wandb_workspaces.Workspace: for each data set parameters against the test metric, and validation."""
    from wandb_workspaces import expr
    from wandb_workspaces.reports.v2 import ScatterPlot, SummaryMetric
    from wandb_workspaces.workspaces import RunsetSettings, Section, Workspace

    metrics = dict.fromkeys(comparison.metric.name for comparison in comparisons)
    plots: list[Any] = [
        ScatterPlot(
            title=f"{split} {name} against trainable parameters",
            x=SummaryMetric("params/trainable"),
            y=SummaryMetric(f"{split}/{name}"),
            log_x=True,
        )
        for name in metrics
        for split in ("test", "val")
    ]
    names = sorted({comparison.groups[0].runs[0].summary["data"] for comparison in comparisons})
    return Workspace(
        entity=entity,
        project=project,
        name=VIEW,
        sections=[Section(name="Parameters against accuracy", panels=plots, is_open=True)],
        runset_settings=RunsetSettings(
            filters=expr.And(expr.Config("data.name").isin(names)),
        ),
        auto_generate_panels=True,
    )
