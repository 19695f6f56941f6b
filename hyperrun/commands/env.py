"""hyperrun env: what a bug report needs."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hyperrun.arguments import Arguments

PACKAGES = (
    "torch",
    "torchvision",
    "hydra-core",
    "omegaconf",
    "wandb",
    "rich",
    "numpy",
    "safetensors",
    "scikit-learn",
    "matplotlib",
)


def main(argv: list[str]) -> int:
    parser = Arguments("hyperrun env", "Versions, devices and paths, for a bug report.")
    parser.add_json()
    args = parser.parse_args(argv)
    found = facts()
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}}  {', '.join(value) if isinstance(value, list) else value}")
    return 0


def facts() -> dict[str, Any]:
    """Return names and values, in the order in which they are printed."""
    import torch

    from hyperrun import __version__
    from hyperrun.conf_dir import CONF_DIR
    from hyperrun.data import data_root
    from hyperrun.tracking.environment import cpu_name, git_commit
    from hyperrun.tracking.wandb_run import choose_mode
    from hyperrun.training.precision import choose_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision("auto", device)
    mode, reason = choose_mode("auto")
    root = data_root(None)
    return {
        "hyperrun": f"{__version__} ({git_commit() or 'no git checkout'})",
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
        "cpu": f"{cpu_name()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or "none",
        "cuda": str(torch.version.cuda),
        "precision": f"{precision.name}: {precision.reason}",
        "wandb mode": f"{mode}: {reason}",
        "configs": str(CONF_DIR),
        "data": f"{root} ({'there' if root.is_dir() else 'not there yet'})",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
