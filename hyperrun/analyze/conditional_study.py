"""Runs with weights for each task, or for each image: how they differ, and what lies between two embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hyperrun.analyze.findings import Findings, Reader, Runs, rounded
from hyperrun.analyze.image_pictures import draw_image_lines
from hyperrun.analyze.image_weights import POINTS, ImageWeights, read_images
from hyperrun.analyze.task_pictures import draw_interpolation, draw_spread, draw_task_similarity
from hyperrun.analyze.task_weights import Line, Spread, TaskWeights, positions, read_tasks
from hyperrun.data.kinds import TaskData
from hyperrun.hypernets import AutoDecoderConfig, as_hypernetized
from hyperrun.load import LoadedRun
from hyperrun.tasks.image_fitting import hypernet_of

# ---------------------------------------------------------------- tasks


def is_of_tasks(run: LoadedRun) -> bool:
    """Whether the weights are generated from the embedding of a task."""
    hyper = as_hypernetized(run.model)
    return hyper is not None and hyper.conditional and isinstance(run.config.data, TaskData)


def study_tasks(runs: Runs, reader: Reader, findings: Findings) -> None:
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
        findings.note_broken(label, broken_in(seen.spread))
        if len(seen.lines) < data.tasks - 1:
            drawn = f"{len(seen.lines)} of {data.tasks - 1} pairs of neighbours"
            findings.notes.append(f"{label}: interpolation between {drawn}, spread over all tasks")
    findings.numbers["conditional"] = numbers
    if found:
        findings.pictures["task_similarity"] = draw_task_similarity(found)
        findings.pictures["task_weights"] = draw_spread(found, "tasks")
        findings.pictures["task_interpolation"] = draw_interpolation(found, reader.split)


def task_numbers(seen: TaskWeights) -> dict[str, Any]:
    """Return what analysis.json says of the tasks of one run."""
    lines = seen.lines
    return {
        "tasks": seen.names,
        "embeddings": {"size": seen.embedding_size, "cosine_similarity": rounded(seen.embeddings)},
        "weights_minus_mean_over_tasks": {"size": seen.weight_count, "cosine_similarity": rounded(seen.weights)},
        "tensors": tensor_numbers(seen, "tasks"),
        "interpolation": {
            "accuracy": means_along(lines, "embedding"),
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


# ---------------------------------------------------------------- images as networks


def is_of_images(run: LoadedRun) -> bool:
    """Whether the weights are generated from the latent of an image."""
    return isinstance(run.config.hypernet, AutoDecoderConfig)


def study_images(runs: Runs, reader: Reader, findings: Findings) -> None:
    """Which layers differ between training images, and what is drawn between the latents of two of them."""
    found: dict[str, ImageWeights] = {}
    numbers: dict[str, Any] = {}
    for label, run in runs.items():
        numbers[label] = {"data": run.config.data.name}
        if hypernet_of(run.model).embedding.num_embeddings < 2:
            findings.notes.append(f"{label}: one training image, so there is nothing to compare")
            continue
        seen = found[label] = read_images(run)
        numbers[label] |= image_numbers(seen)
        findings.note_broken(label, broken_in(seen.spread))
        if seen.count < seen.known:
            counts = f"{seen.count} of {seen.known:,} training images"
            findings.notes.append(f"{label}: weights of {counts}, spread over all")
    findings.numbers["images"] = numbers
    if found:
        findings.pictures["image_weights"] = draw_spread(found, "images")
        findings.pictures["image_interpolation"] = draw_image_lines(found)


def image_numbers(seen: ImageWeights) -> dict[str, Any]:
    """Return what analysis.json says of the images of one run."""
    lines = seen.lines
    return {
        "images": seen.count,
        "training_images": seen.known,
        "latents": {"size": seen.latent_size},
        "weights": {"size": seen.weight_count},
        "tensors": tensor_numbers(seen, "images"),
        "interpolation": {
            "psnr": means_along(lines, "latent"),
            "position": [round(at, 4) for at in positions(POINTS).tolist()],
            "pairs": [
                {
                    "from": line.images[0],
                    "to": line.images[1],
                    "psnr_from": line.psnr[0].tolist(),
                    "psnr_to": line.psnr[1].tolist(),
                }
                for line in lines
            ],
        },
    }


# ---------------------------------------------------------------- both


def tensor_numbers(seen: TaskWeights | ImageWeights, what: str) -> dict[str, Any]:
    """Return how much each generated tensor differs over tasks or images: what."""
    return {
        name: {
            "shape": seen.shapes[name],
            f"std_over_{what}": spread.over_tasks,
            "std_within": spread.own,
            "ratio": spread.ratio,
        }
        for name, spread in seen.spread.items()
    }


def means_along(lines: Sequence[Line], what: str) -> dict[str, float]:
    """Return the means over the lines, at their ends and halfway; what: "embedding" or "latent"."""
    return {
        f"own_{what}": sum(line.own() for line in lines) / len(lines),
        "halfway": sum(line.halfway() for line in lines) / len(lines),
        f"other_{what}": sum(line.other() for line in lines) / len(lines),
    }


def broken_in(spread: Mapping[str, Spread]) -> list[str]:
    """Return the tensors that hold a number that is not finite."""
    return [name for name, one in spread.items() if not math.isfinite(one.over_tasks)]
