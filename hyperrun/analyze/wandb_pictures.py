"""Pictures and numbers of `hyperrun analyze` as a W&B run of their own (job_type analyze)."""

from __future__ import annotations

import io
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hyperrun.analyze.findings import Findings
from hyperrun.load import LoadedRun
from hyperrun.pictures.style import picture
from hyperrun.tracking.wandb_run import begin, choose_mode, first_line


def log_findings(findings: Findings, runs: list[LoadedRun], folder: Path) -> tuple[list[str], str | None]:
    """Record every picture as an image, every page, and every number in the summary; return lines that say where.

    folder: where W&B's own files go. The run goes to the project that most of the runs were recorded in.

    Returns:
        Lines to print, and what was wrong (None: nothing): the files are there all the same, so it is no error.
    """
    mode, reason = choose_mode("auto")
    if mode == "disabled":
        return [], f"--wandb: {reason}"
    settings = [run.config.tracking.wandb for run in runs]
    (entity, project), _ = Counter((one.entity, one.project) for one in settings).most_common(1)[0]
    try:
        import wandb
        from PIL import Image

        run = begin(
            mode,
            project=project,
            entity=entity,
            job_type="analyze",
            name="analyze",
            config={"runs": [str(run.folder.path) for run in runs]},
            dir=str(folder),
        )
        with run:
            media: dict[str, Any] = {
                name: wandb.Image(Image.open(io.BytesIO(picture(figure, "png"))), caption=name)
                for name, figure in findings.pictures.items()
            }
            media |= {f"{name}/page": wandb.Html(page, inject=False) for name, page in findings.pages.items()}
            run.log(media)
            run.summary.update(dict(scalars(findings.numbers)))
            where = str(Path(run.dir).parent)
            address = run.url if mode == "online" else None
    except Exception as error:
        return [], f"--wandb: {first_line(error)}"
    if mode == "offline":
        return [
            f"W&B     offline ({reason}): {where}",
            f"later   wandb login; wandb sync {shlex.quote(where)}",
        ], None
    return [f"W&B     {address}"], None


def scalars(numbers: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield key/key/... and value of every number in nested dicts and lists of dicts; lists of numbers are left out."""
    if isinstance(numbers, Mapping):
        for key, value in numbers.items():
            yield from scalars(value, f"{prefix}/{key}" if prefix else str(key))
    elif isinstance(numbers, list) and any(isinstance(value, Mapping) for value in numbers):
        for place, value in enumerate(numbers):
            yield from scalars(value, f"{prefix}/{place}")
    elif isinstance(numbers, int | float) and not isinstance(numbers, bool):
        yield prefix, numbers
