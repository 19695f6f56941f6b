"""Where the configs are: inside the installed package, or at the top of the repository; and what there is to choose."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CONF_DIR = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def is_base(choice: str) -> bool:
    """Say whether a file of a config group only holds what others of it share: `_images`, `ha2016/_ptb`. No choice."""
    return choice.rpartition("/")[2].startswith("_")


def choices(group: str) -> dict[str, Path]:
    """Return name -> file of every choice in a config group, sorted by name."""
    folder = CONF_DIR / group
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return {name: found[name] for name in sorted(found) if not is_base(name)}
