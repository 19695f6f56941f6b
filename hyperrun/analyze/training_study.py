"""What training logged of the generated tensors: their norms and standard deviations over the steps."""

from __future__ import annotations

from hyperrun.analyze.findings import Findings, Runs
from hyperrun.analyze.generated_curves import draw_generated, generated_curves


def study_training(runs: Runs, findings: Findings) -> None:
    """Norms and deviations over training, beside what the study of the runs' kind has found. Of runs that log them."""
    curves = {label: generated_curves(run.folder.metrics) for label, run in runs.items()}
    for label in [label for label, curve in curves.items() if not curve]:
        findings.notes.append(f"{label}: its metrics.jsonl has no norms of generated tensors (an older run)")
        del curves[label]
    if not curves:
        return
    words = {"best": "selected checkpoint", "last": "last checkpoint"}
    marks = {
        label: (words[run.checkpoint], run.step)
        for label, run in runs.items()
        if label in curves and run.step is not None
    }
    findings.pictures["generated_tensors"] = draw_generated(curves, marks)
    for label, curve in curves.items():
        kind = next(kind for kind in ("static", "conditional", "images") if label in findings.numbers.get(kind, {}))
        findings.numbers[kind][label]["over_training"] = curve
