"""What can be seen in a trained model, by kind of model: pictures, pages and numbers of runs side by side.

findings = analyze([load_run("outputs/ptb_char/lstm-s0-..."), load_run("outputs/ptb_char/hyperlstm-s0-...")])
findings.pictures["hidden_activations"]  # a matplotlib figure
findings.numbers["recurrent"]["hyperlstm"]["layers"][0]["hidden"]["saturated"]
"""

from __future__ import annotations

from collections.abc import Callable

from hyperrun.analysis.conditional_study import is_of_images, is_of_tasks, study_images, study_tasks
from hyperrun.analysis.findings import Findings, Reader, Runs
from hyperrun.analysis.naming import labelled
from hyperrun.analysis.recurrent_study import is_recurrent, study_recurrent
from hyperrun.analysis.static_study import has_fixed_weights, study_static
from hyperrun.analysis.training_study import study_training
from hyperrun.errors import UserError
from hyperrun.hypernets.generated_statistics import generates_from_embeddings
from hyperrun.trained import LoadedRun

STUDIES: dict[str, tuple[Callable[[LoadedRun], bool], Callable[[Runs, Reader, Findings], None]]] = {
    "static": (has_fixed_weights, study_static),
    "recurrent": (is_recurrent, study_recurrent),
    "conditional": (is_of_tasks, study_tasks),
    "images": (is_of_images, study_images),
}
"""Kind -> (whether a run is of it, what adds the pictures, pages and numbers). A run may be of several kinds."""


def analyze(runs: list[LoadedRun], split: str = "val", symbols: int = 5000) -> Findings:
    """Return the pictures, pages and numbers of runs, those of one kind side by side.

    split: "val" or "test", the part of a text that recurrent models read, and of the images of tasks; symbols: how much
        of a text, from its beginning.

    Raises:
        UserError: a run of a kind for which there is nothing to see; a text that is missing or another than the run's;
            images that are missing.
    """
    by_label, notes = labelled(runs)
    findings = Findings(notes=notes)
    findings.numbers["runs"] = {
        label: {
            "folder": str(run.folder.path),
            "model": run.config.model,
            "hypernet": run.config.hypernet.kind,
            "data": run.config.data.name,
            "seed": run.config.seed,
            "checkpoint": run.checkpoint,
            "checkpoint_step": run.step,
        }
        for label, run in by_label.items()
    }
    for run in by_label.values():
        if not any(applies(run) for applies, _ in STUDIES.values()):
            kind, allowed = type(run.model).__name__, ", ".join(STUDIES)
            raise UserError(f"{run.folder.path}: there are no pictures of a {kind} (there are of: {allowed})")
    for applies, study in STUDIES.values():
        mine = {label: run for label, run in by_label.items() if applies(run)}
        if mine:
            study(mine, Reader(split, symbols), findings)
    study_training({label: run for label, run in by_label.items() if generates_from_embeddings(run.model)}, findings)
    return findings
