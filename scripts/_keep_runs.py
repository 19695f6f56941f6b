"""Copies the small files of finished runs of experiments into a folder: what docs/results.md is written out of.

    python scripts/_keep_runs.py TO FOLDER ...

TO/DATA/RUN gets config.yaml, summary.json and metrics.jsonl; a run that stands there is replaced. Left out are weights,
logs, the norms of generated tensors in metrics.jsonl (more than half of the file), and where files were on the machine.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from hyperrun.errors import UserError
from hyperrun.runs.folder import CONFIG, METRICS, SUMMARY, write_beside
from hyperrun.runs.reading import Run, read_runs

NOT_KEPT = "generated/"
"""How columns of metrics.jsonl begin that are left out."""

PLACES = ("outputs=", "data.root=", "tracking.")
"""Words of a command that say where files are, or who is logged in."""


def keep(run: Run, to: Path) -> Path:
    """Copy a finished run's small files to `to`/DATA/NAME and return that folder.

    Raises:
        UserError: they name a place on this machine that belongs to what is computed.
    """
    config = without_places(yaml.safe_load((run.path / CONFIG).read_text(encoding="utf-8")))
    summary = json.loads((run.path / SUMMARY).read_text(encoding="utf-8"))
    words = shlex.split(str(summary.get("command", "")))
    summary["command"] = shlex.join(word for word in words if not word.startswith(PLACES))
    for name, content in ((CONFIG, config), (SUMMARY, summary)):
        for value in strings(content):
            if any(word.startswith(("/", "~")) for word in value.replace("=", " ").split()):
                raise UserError(f"{run.path / name} names a place on this machine: {value}")
    rows = (json.loads(line) for line in (run.path / METRICS).read_text(encoding="utf-8").splitlines())
    kept = ({key: value for key, value in row.items() if not key.startswith(NOT_KEPT)} for row in rows)
    folder = to / str(run.summary["data"]) / run.path.name
    folder.mkdir(parents=True, exist_ok=True)
    write_beside(folder / METRICS, "".join(json.dumps(row) + "\n" for row in kept if len(row) > 1))
    write_beside(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    write_beside(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return folder


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's config with what it computes, and of where its files are and who is logged in the defaults."""
    config["outputs"] = "outputs"
    if config["data"]["name"] != "image_folder":  # there, the folder is the data
        config["data"]["root"] = None
    config["tracking"]["wandb"] |= {"project": "hyperrun", "entity": None}
    return config


def strings(value: Any) -> list[str]:
    """Return all strings within plain values."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in strings(each)]


def main(argv: list[str]) -> int:
    try:
        to, *folders = map(Path, argv)
        runs = read_runs(folders)
        for warning in runs.warnings:
            print(f"scripts/results: warning: {warning}", file=sys.stderr)
        kept = [keep(run, to) for run in runs.finished if run.summary.get("experiment")]
    except UserError as error:
        print(f"scripts/results: {error}", file=sys.stderr)
        return 2
    print(f"kept    {len(kept)} of {len(runs.all)} runs in {to}: the finished ones that are of an experiment")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
