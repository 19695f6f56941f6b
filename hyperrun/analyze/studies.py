"""What can be seen in a trained model, by kind of model: pictures, pages and numbers of runs side by side.

findings = analyze([load_run("outputs/ptb_char/lstm-s0-..."), load_run("outputs/ptb_char/hyperlstm-s0-...")])
findings.pictures["hidden_activations"]  # a matplotlib figure
findings.numbers["recurrent"]["hyperlstm"]["layers"][0]["hidden"]["saturated"]
"""

from __future__ import annotations

from collections.abc import Callable

from hyperrun.analyze.conditional_study import is_of_images, is_of_tasks, study_images, study_tasks
from hyperrun.analyze.findings import Findings, Reader, Runs
from hyperrun.analyze.recurrent.pair_study import reads_pairs, study_pairs
from hyperrun.analyze.recurrent.stroke_study import reads_strokes, study_strokes
from hyperrun.analyze.recurrent.text_study import is_recurrent, study_recurrent
from hyperrun.analyze.static_study import has_fixed_weights, study_static
from hyperrun.analyze.training_study import study_training
from hyperrun.errors import UserError, printable
from hyperrun.hypernets import as_hypernetized
from hyperrun.load import LoadedRun
from hyperrun.runs.naming import labels
from hyperrun.runs.reading import Unreadable, read_run

STUDIES: dict[str, tuple[Callable[[LoadedRun], bool], Callable[[Runs, Reader, Findings], None]]] = {
    "static": (has_fixed_weights, study_static),
    "recurrent": (is_recurrent, study_recurrent),
    "strokes": (reads_strokes, study_strokes),
    "translation": (reads_pairs, study_pairs),
    "conditional": (is_of_tasks, study_tasks),
    "images": (is_of_images, study_images),
}
"""Kind -> (whether a run is of it, what adds the pictures, pages and numbers). A run may be of several kinds."""

LONGEST_LABEL = 48
"""Characters of the label of a run that is analyzed: it stands above panels."""


def analyze(runs: list[LoadedRun], split: str = "val", symbols: int = 5000) -> Findings:
    """Return the pictures, pages and numbers of runs, those of one kind side by side.

    split: "val" or "test", the part of a text, of pen strokes or of pairs of sentences that recurrent models read, and
        of the images of tasks; symbols: how much of a text, from its beginning, or how many points of strokes or pieces
        of translations.

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
    study_training({label: run for label, run in by_label.items() if logs_statistics(run)}, findings)
    return findings


def logs_statistics(run: LoadedRun) -> bool:
    """Whether training logs norms of what the hypernet generates."""
    hyper = as_hypernetized(run.model)
    return hyper is not None and hyper.from_embeddings


def labelled(runs: list[LoadedRun]) -> tuple[dict[str, LoadedRun], list[str]]:
    """Return a label for each run, one named twice taken once, and a note for each that is not finished.

    The label is the model's name (behind that of the data, where it is on several) and the settings in which it differs
    from others of that name, or the name of its folder where these are many or none.

    Raises:
        UserError: a folder is damaged.
    """
    folders = {run.folder.path.resolve(): run for run in runs}
    try:
        said = [read_run(path) for path in folders]
    except Unreadable as error:
        raise UserError(str(error)) from None
    pairs = [(folders[path].config.data.name, run.summary["model"]) for run, path in zip(said, folders, strict=True)]
    places = {model: len({data for data, other in pairs if other == model}) for _, model in pairs}
    names = [f"{data} {model}" if places[model] > 1 else model for data, model in pairs]
    settings = [{**run.computed, "seed": run.summary["seed"]} for run in said]
    short = labels(list(zip(names, settings, strict=True)))
    found: dict[str, LoadedRun] = {}
    notes = []
    for label, run, path in zip(short, said, folders, strict=True):
        if short.count(label) > 1 or len(label) > LONGEST_LABEL:
            label = printable(path.name)
        label = label if label not in found else printable(path)
        found[label], step = folders[path], folders[path].step
        if run.status != "finished":
            notes.append(f"{label}: not a finished run, {run.status}: {run.reason}; its checkpoint is of step {step}")
    return found, notes
