"""metrics.jsonl: one object for each logged step, exact across kills and resumes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


class MetricsFile:
    """Appends rows to a JSON-lines file.

    `position` (bytes) goes into every checkpoint. A resumed run first cuts the file back to it, so that the rows of
    steps that are trained again do not stand there twice.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self.last_step_before = max((row["step"] for row in read_metrics(path)), default=-1)
        """Last step that stood in the file when it was opened: what W&B has seen already."""
        self.file = open(path, "a+b")
        self.file.truncate(min(position, self.file.seek(0, 2)))

    @property
    def position(self) -> int:
        return self.file.seek(0, 2)

    def write(self, row: dict[str, Any]) -> None:
        self.file.write(json.dumps(plain(row), allow_nan=False).encode() + b"\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl; a last line cut short by a kill is left out. None: a number not finite."""
    rows = []
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and "step" in row:
                rows.append(row)
    return rows


def plain(numbers: Any) -> Any:
    """Return numbers, in dicts and lists within each other, as JSON can hold them: None for each that is not finite.

    Python would write NaN and Infinity, which are no JSON: other languages refuse the whole file.
    """
    if isinstance(numbers, dict):
        return {key: plain(value) for key, value in numbers.items()}
    if isinstance(numbers, list | tuple):
        return [plain(value) for value in numbers]
    return None if isinstance(numbers, float) and not math.isfinite(numbers) else numbers
