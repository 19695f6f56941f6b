"""What can be seen in a trained model, by kind of model: pictures, pages and numbers of runs side by side.

findings = analyze([load_run("outputs/ptb_char/lstm-s0-..."), load_run("outputs/ptb_char/hyperlstm-s0-...")])
findings.pictures["hidden_activations"]  # a matplotlib figure
findings.numbers["recurrent"]["hyperlstm"]["layers"][0]["hidden"]["saturated"]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure as Picture
from torch import Tensor, nn

from hyperrun.analysis.character_strip import draw_strip, make_strip, strip_page
from hyperrun.analysis.embedding_pictures import Embeddings, draw_projection, draw_similarity, layer_embeddings
from hyperrun.analysis.generated_curves import draw_generated, generated_curves
from hyperrun.analysis.kernel_pictures import Kernel, chosen_layers, draw_kernels
from hyperrun.analysis.naming import labelled
from hyperrun.analysis.recurrent_states import Histogram, Reading, read_text, recurrent_target
from hyperrun.analysis.state_pictures import draw_gates, draw_hidden
from hyperrun.analysis.task_pictures import draw_interpolation, draw_spread, draw_task_similarity
from hyperrun.analysis.task_weights import TaskWeights, positions, read_tasks
from hyperrun.config import TaskData, TextData
from hyperrun.data import load_text
from hyperrun.errors import UserError
from hyperrun.hypernets import ConditionalModel, DynamicModel, HyperModel, materialize
from hyperrun.hypernets.generated_statistics import tensor_statistics
from hyperrun.targets.recurrent import RecurrentLM
from hyperrun.trained import LoadedRun

SPLITS = ("val", "test")
"""Parts of a text, or of the images of tasks, that a model was not trained on."""


@dataclass(frozen=True)
class Reader:
    """What a study may choose."""

    split: str = "val"
    symbols: int = 5000
    """Of the split that a recurrent model reads, from its beginning."""


@dataclass
class Findings:
    """What was seen."""

    pictures: dict[str, Picture] = field(default_factory=dict)
    """Name of the file without its ending -> figure."""
    pages: dict[str, str] = field(default_factory=dict)
    """Name of the file without its ending -> HTML."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """What analysis.json says: plain numbers, lists and dicts."""
    notes: list[str] = field(default_factory=list)
    """What is not there, and why."""


Runs = Mapping[str, LoadedRun]
"""Label -> run, in the order in which they were given."""


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
            raise UserError(f"{run.folder.path}: {what_is_not_drawn(run)}")
    for applies, study in STUDIES.values():
        mine = {label: run for label, run in by_label.items() if applies(run)}
        if mine:
            study(mine, Reader(split, symbols), findings)
    return findings


def what_is_not_drawn(run: LoadedRun) -> str:
    """Return why there is nothing to see in a run that no study is for."""
    allowed = ", ".join(STUDIES)
    if isinstance(run.model, ConditionalModel):
        return f"no pictures of model={run.config.model} here; hyperrun sample draws what it makes"
    return f"there are no pictures of a {type(run.model).__name__} (there are of: {allowed})"


# ---------------------------------------------------------------- weights that are the same for every input


def has_fixed_weights(run: LoadedRun) -> bool:
    """Whether the weights are the same for every input, and generated or those of a network that reads images."""
    return not isinstance(run.model, DynamicModel | ConditionalModel | RecurrentLM)


def study_static(runs: Runs, reader: Reader, findings: Findings) -> None:
    """Kernels, generated beside learned; embeddings of the layers; norms and deviations over training."""
    weights = {label: dict(materialize(run.model).named_parameters()) for label, run in runs.items()}
    generated = {label: made_by_hypernet(run.model) for label, run in runs.items()}
    found: dict[str, Any] = {}
    for label in runs:
        drawable = {name: w.detach() for name, w in weights[label].items() if w.ndim >= 2}
        found[label] = {
            "tensors": {
                name: {"generated": name in generated[label], "shape": list(drawable[name].shape), **numbers}
                for name, numbers in tensor_statistics(drawable).items()
            }
        }
        broken = [name for name, w in drawable.items() if not w.isfinite().all()]
        if broken:
            findings.notes.append(f"{label}: weights that are not finite in {some_of(broken)}")
    findings.numbers["static"] = found
    blocks = kernels_side_by_side(weights, generated)
    if blocks:
        findings.pictures["kernels"] = draw_kernels(blocks)
    study_embeddings(runs, found, findings)
    curves = {label: generated_curves(run.folder.metrics) for label, run in runs.items() if generated[label]}
    for label in [label for label, found in curves.items() if not found]:
        findings.notes.append(f"{label}: its metrics.jsonl has no norms of generated tensors (an older run)")
        del curves[label]
    if curves:
        steps = {label: runs[label].summary.get("best/step") for label in curves}
        selected = {label: step for label, step in steps.items() if step is not None}
        findings.pictures["generated_tensors"] = draw_generated(curves, selected)
        for label, curve in curves.items():
            found[label]["over_training"] = curve


def some_of(names: Sequence[str], most: int = 3) -> str:
    """Return names for a sentence, of many the first."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def made_by_hypernet(model: nn.Module) -> tuple[str, ...]:
    return model.names if isinstance(model, HyperModel) else ()


def kernels_side_by_side(
    weights: Mapping[str, Mapping[str, Tensor]], generated: Mapping[str, tuple[str, ...]]
) -> list[list[list[Kernel]]]:
    """Return which kernels are drawn: for each group of runs whose tensors have the same names and shapes its layers,
    for each layer the kernels of these runs.

    The layers are those that are generated in any of the group's runs, and for a single run the first of all, too,
    which is learned directly as a rule; where nothing is generated, all kernels.
    """
    groups: dict[Any, list[str]] = {}
    for label, tensors in weights.items():
        groups.setdefault(frozenset((name, w.shape) for name, w in tensors.items()), []).append(label)
    blocks = []
    for together in groups.values():
        tensors = {name: w.ndim for name, w in weights[together[0]].items() if w.ndim >= 2}
        made = [name for name in tensors if any(name in generated[label] for label in together)]
        kernels = [name for name, dimensions in tensors.items() if dimensions > 2]
        layers = chosen_layers(made or kernels or list(tensors))
        if len(together) == 1 and tensors:
            layers = list(dict.fromkeys([next(iter(tensors)), *layers]))
        block = [
            [Kernel(label, name, weights[label][name], name in generated[label]) for label in together]
            for name in layers
        ]
        blocks += [block] if block else []
    return blocks


def study_embeddings(runs: Runs, found: dict[str, Any], findings: Findings) -> None:
    """Similarity of layers' embeddings, and their projection."""
    several: dict[str, Embeddings] = {}
    projected: dict[str, Embeddings] = {}
    for label, run in runs.items():
        for embeddings in layer_embeddings(run.model):
            tiles = {name: len(z) for name, z in embeddings.layers.items()}
            numbers: dict[str, Any] = {"layers": tiles}
            title = f"{label}: {embeddings.what}"
            if len(tiles) > 1:
                several[title] = embeddings
                numbers["cosine_similarity"] = rounded(embeddings.similarity())
            sound, broken = embeddings.finite(), embeddings.broken()
            if sum(map(len, sound.layers.values())) > 2:
                projected[title] = embeddings
                numbers["explained_variance"] = sound.projected()[1]
            if broken:
                findings.notes.append(f"{title}: embeddings that are not finite of {some_of(broken)}")
            found[label].setdefault("embeddings", {})[embeddings.what] = numbers
            if len(tiles) < 2:
                findings.notes.append(f"{title}: one generated layer, so there is no similarity between layers")
    if several:
        findings.pictures["embedding_similarity"] = draw_similarity(several)
    if projected:
        findings.pictures["embedding_projection"] = draw_projection(projected)


def rounded(values: Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in values.tolist()]


# ---------------------------------------------------------------- recurrent models


def is_recurrent(run: LoadedRun) -> bool:
    """Whether the model reads text with layers that can be watched."""
    return isinstance(run.model, DynamicModel) or recurrent_target(run.model) is not None


def study_recurrent(runs: Runs, reader: Reader, findings: Findings) -> None:
    """Hidden activations and gates over a held-out text, and how much the weights change at each of its symbols."""
    panels: dict[str, dict[str, Histogram]] = {}
    numbers: dict[str, Any] = {}
    for label, run in runs.items():
        target = recurrent_target(run.model)
        assert target is not None
        assert run.vocabulary is not None
        ids = held_out(run, reader)
        reading = read_text(target, ids)
        numbers[label] = {
            "text": {"data": run.config.data.name, "split": reader.split, "symbols": reading.symbols},
            "bits_per_symbol": reading.bits,
            "layers": [{name: found.numbers() for name, found in layer.items()} for layer in reading.layers],
            **study_changes(label, run, reading, ids, reader, findings),
        }
        for n, layer in enumerate(reading.layers):
            panels[layer_label(label, n, reading)] = layer
        if any(found.broken for layer in reading.layers for found in layer.values()):
            findings.notes.append(f"{label}: hidden activations or gates that are not finite, which are in no bar")
    findings.numbers["recurrent"] = numbers
    texts = [found["text"] for found in numbers.values()]
    read = dict.fromkeys(f"{text['data']}, {text['split']} split, {text['symbols']:,} symbols" for text in texts)
    findings.pictures["hidden_activations"] = draw_hidden(panels, "; ".join(read))
    gates = draw_gates(panels, "; ".join(read))
    if gates is not None:
        findings.pictures["gates"] = gates


def study_changes(
    label: str, run: LoadedRun, reading: Reading, ids: Tensor, reader: Reader, findings: Findings
) -> dict[str, Any]:
    """Add the strips of how much one run's weights change; return what analysis.json says of that."""
    assert run.vocabulary is not None
    numbers: dict[str, Any] = {"weight_changes": []}
    for n, changes in enumerate(reading.changes):
        if not changes:
            numbers["weight_changes"].append({})
            continue
        name = layer_label(label, n, reading)
        strip = make_strip(f"{name} reads {run.config.data.name}, {reader.split}", ids, run.vocabulary, changes)
        numbers["weight_changes"].append(strip.numbers)
        numbers["weight_changes_left_out"] = strip.left_out
        findings.pictures[file_name(f"weight_changes-{name}")] = draw_strip(strip)
        findings.pages[file_name(f"weight_changes-{name}")] = strip_page(strip)
    if isinstance(run.model, DynamicModel) and not any(reading.changes):
        findings.notes.append(
            f"{label}: no strip of weight changes: hypernet.form=full mixes whole matrices and has no scaling vectors"
        )
    return numbers


def held_out(run: LoadedRun, reader: Reader) -> Tensor:
    """Return the beginning of the part of the run's text that is to be read, int64 [N].

    Raises:
        UserError: the text is missing, or has other symbols than the run's.
    """
    assert isinstance(run.config.data, TextData) and run.vocabulary is not None
    text = load_text(run.config.data)
    run.vocabulary.check_same(text.vocabulary, f"the run {run.folder.path}", f"data={text.name}")
    return getattr(text, reader.split)[: reader.symbols].long()


def layer_label(label: str, number: int, reading: Reading) -> str:
    return f"{label}, layer {number + 1}" if len(reading.layers) > 1 else label


def file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in text)


# ---------------------------------------------------------------- weights for each task


def is_of_tasks(run: LoadedRun) -> bool:
    """Whether the weights are generated from the embedding of a task."""
    return isinstance(run.model, ConditionalModel) and isinstance(run.config.data, TaskData)


def study_conditional(runs: Runs, reader: Reader, findings: Findings) -> None:
    """How alike the tasks' embeddings and weights are, which layers differ, and accuracies between two embeddings."""
    found: dict[str, TaskWeights] = {}
    numbers: dict[str, Any] = {}
    for label, run in runs.items():
        data = run.config.data
        assert isinstance(data, TaskData)
        numbers[label] = {"data": data.name, "order": data.order, "split": reader.split}
        if data.tasks < 2:
            findings.notes.append(f"{label}: one task, so there is nothing to compare")
            continue
        seen = found[f"{label}, {data.order}"] = read_tasks(run, reader.split)
        numbers[label] |= task_numbers(seen)
        broken = [name for name, spread in seen.spread.items() if not math.isfinite(spread.over_tasks)]
        if broken:
            findings.notes.append(f"{label}: weights that are not finite in {some_of(broken)}")
        if len(seen.lines) < data.tasks - 1:
            drawn = f"{len(seen.lines)} of {data.tasks - 1} pairs of neighbours"
            findings.notes.append(f"{label}: interpolation between {drawn}, spread over all tasks")
    findings.numbers["conditional"] = numbers
    if found:
        findings.pictures["task_similarity"] = draw_task_similarity(found)
        findings.pictures["task_weights"] = draw_spread(found)
        findings.pictures["task_interpolation"] = draw_interpolation(found, reader.split)


def task_numbers(seen: TaskWeights) -> dict[str, Any]:
    """Return what analysis.json says of the tasks of one run."""
    lines = seen.lines
    return {
        "tasks": seen.names,
        "embeddings": {"size": seen.embedding_size, "cosine_similarity": rounded(seen.embeddings)},
        "weights_minus_mean_over_tasks": {"size": seen.weight_count, "cosine_similarity": rounded(seen.weights)},
        "tensors": {
            name: {
                "shape": seen.shapes[name],
                "std_over_tasks": spread.over_tasks,
                "std_within": spread.own,
                "ratio": spread.ratio,
            }
            for name, spread in seen.spread.items()
        },
        "interpolation": {
            "accuracy": {
                "own_embedding": sum(line.own() for line in lines) / len(lines),
                "halfway": sum(line.halfway() for line in lines) / len(lines),
                "other_embedding": sum(line.other() for line in lines) / len(lines),
            },
            "position": [round(at, 4) for at in positions().tolist()],
            "pairs": [
                {
                    "from": seen.names[line.tasks[0]],
                    "to": seen.names[line.tasks[1]],
                    "images_from": line.images[0],
                    "images_to": line.images[1],
                    "accuracy_from": line.accuracy[0].tolist(),
                    "accuracy_to": line.accuracy[1].tolist(),
                }
                for line in lines
            ],
        },
    }


# ---------------------------------------------------------------- the table

STUDIES: dict[str, tuple[Callable[[LoadedRun], bool], Callable[[Runs, Reader, Findings], None]]] = {
    "static": (has_fixed_weights, study_static),
    "recurrent": (is_recurrent, study_recurrent),
    "conditional": (is_of_tasks, study_conditional),
}
"""Kind -> (whether a run is of it, what adds the pictures, pages and numbers). A run may be of several kinds.

Of conditional models it is those of tasks; what others make (images) is drawn by `hyperrun sample`.
"""
