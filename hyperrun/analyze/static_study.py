"""Runs whose weights are the same for every input: kernels, embeddings of layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hyperrun.analyze.embedding_pictures import draw_projection, draw_similarity
from hyperrun.analyze.embeddings import Embeddings, layer_embeddings
from hyperrun.analyze.findings import Findings, Reader, Runs, rounded, some_of
from hyperrun.analyze.kernel_pictures import Kernel, chosen_layers, draw_kernels
from hyperrun.analyze.recurrent.states import recurrent_target
from hyperrun.hypernets import as_hypernetized, materialize
from hyperrun.hypernets.generated_statistics import tensor_statistics
from hyperrun.load import LoadedRun


def has_fixed_weights(run: LoadedRun) -> bool:
    """Whether the weights are the same for every input, and generated or those of a network that reads images."""
    hyper = as_hypernetized(run.model)
    if hyper is None:
        return recurrent_target(run.model) is None
    return not hyper.conditional and not hyper.dynamic


def study_static(runs: Runs, reader: Reader, findings: Findings) -> None:
    """Kernels, generated beside learned; embeddings of the layers."""
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
        findings.note_broken(label, [name for name, w in drawable.items() if not w.isfinite().all()])
    findings.numbers["static"] = found
    blocks = kernels_side_by_side(weights, generated)
    if blocks:
        findings.pictures["kernels"] = draw_kernels(blocks)
    study_embeddings(runs, found, findings)


def made_by_hypernet(model: nn.Module) -> tuple[str, ...]:
    hyper = as_hypernetized(model)
    return () if hyper is None else hyper.names


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
