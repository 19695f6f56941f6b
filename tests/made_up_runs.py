"""Run folders that nobody trained, as hyperrun would have left them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from hyperrun.config import to_dict
from tests.composed import compose_config


@functools.cache
def choices_composed(*choices: str) -> dict[str, Any]:
    return to_dict(compose_config(list(choices)))


@functools.cache
def composed(*overrides: str) -> str:
    """Return the config of a command line as YAML. Composing takes a third of a second, so that the choices of groups
    are composed once, and what is typed as group.key=value is merged into what they give."""
    keys = [word for word in overrides if "." in word.partition("=")[0]]
    config = OmegaConf.create(choices_composed(*(word for word in overrides if word not in keys)))
    OmegaConf.set_struct(config, True)
    config.merge_with_dotlist(keys)
    return yaml.safe_dump(OmegaConf.to_container(config), sort_keys=False)


def made_up_run(
    outputs: Path,
    *overrides: str,
    test: float = 0.9,
    trainable: int = 1000,
    status: str | None = "finished",
    name: str | None = None,
    steps: int = 100,
    **summary: Any,
) -> Path:
    """Make a run folder and return it; `summary` replaces entries of summary.json (a value of ... takes one out).

    status: None leaves summary.json out.
    """
    seed = next((int(word[5:]) for word in overrides if word.startswith("seed=")), 0)
    others = tuple(word for word in overrides if not word.startswith("seed="))
    text = composed(*others).replace("\nseed: 0\n", f"\nseed: {seed}\n")
    config = yaml.load(text, yaml.CSafeLoader)
    data = config["data"]["name"]
    folder = outputs / data / (name or f"{config['model']}-s{seed}-{len(list(outputs.glob('*/*'))):08x}")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(text)
    kind = config["data"]["kind"]
    metric, task = {"text": ("bpc", "language_modeling"), "strokes": ("nats", "stroke_modeling")}.get(
        kind, ("accuracy", "classification")
    )
    rows = [{"step": step, "epoch": step / 10, "lr": 1e-3} for step in range(20, steps + 1, 20)]
    rows += [{"step": step, f"val/{metric}": test * step / steps} for step in range(20, steps + 1, 20)]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in sorted(rows, key=lambda r: r["step"]))
    )
    facts: dict[str, Any] = {
        "model": config["model"],
        "experiment": config["experiment"],
        "target": config["target"].get("name", config["target"]["kind"]),
        "hypernet": config["hypernet"]["kind"],
        "data": data,
        "task": task,
        "seed": seed,
        "params/trainable": trainable,
        "params/generated": 0,
        "params/free": trainable,
        "params/target": 4000,
        "params/compression": 4000 / trainable,
        "metric": metric,
        "status": status,
        "steps": steps,
        "time/train_s": 20.0,
        "throughput/examples_per_s": 5000.0,
    }
    if kind in ("text", "strokes"):
        facts["throughput/tokens_per_s"] = 320000.0
    if config["paper"]:
        facts |= {f"paper/{key}": config["paper"][key] for key in ("params", "metric", "value")}
    if status == "finished":
        facts |= {f"val/{metric}": test - 0.01, f"test/{metric}": test}
    facts |= {key.replace("__", "/"): value for key, value in summary.items()}
    facts = {key: value for key, value in facts.items() if value is not ...}
    if status is not None:
        (folder / "summary.json").write_text(json.dumps(facts, indent=2) + "\n")
    return folder
