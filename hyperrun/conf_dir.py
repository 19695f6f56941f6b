"""Where the configs are: inside the installed package, or at the top of the repository."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CONF_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def choices(group: str) -> list[tuple[str, Path]]:
    """Return (name, file) of every choice in a config group, sorted by name."""
    folder = CONF_DIR / group
    return sorted((p.relative_to(folder).with_suffix("").as_posix(), p) for p in folder.rglob("*.yaml"))
