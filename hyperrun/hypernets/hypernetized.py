"""What every model with a hypernet can be asked, whatever its kind. Callers ask; they do not tell the kinds apart."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hyperrun.errors import UserError
from hyperrun.hypernets.embedded_generator import EmbeddedGenerator
from hyperrun.hypernets.slots import empty_slots, in_all_slots, set_slot


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters, in DESIGN's words."""

    trainable: int
    """Updated by the optimizer: free parameters and the hypernet's own."""
    generated: int
    """Made by the hypernet."""
    free: int
    """Target parameters that stay learned directly."""

    @property
    def target(self) -> int:
        """What the target has on its own."""
        return self.generated + self.free

    @property
    def compression(self) -> float:
        return self.target / self.trainable

    def as_dict(self) -> dict[str, float]:
        return {
            "params/trainable": self.trainable,
            "params/generated": self.generated,
            "params/free": self.free,
            "params/target": self.target,
            "params/compression": round(self.compression, 4),
        }


class Hypernetized(nn.Module):
    """A target with a hypernet.

    Attributes:
        target: the network whose weights are generated, or changed at every step.
        hypernet: what generates them; one that changes recurrent layers has none of its own: each layer holds its part.
        shapes: name in the target -> shape of each parameter that is generated or changed.
        conditional: the weights are others for each condition (an example, a task, a latent).
        dynamic: the weights are others at every step of a sequence.
    """

    target: nn.Module
    hypernet: nn.Module
    shapes: dict[str, torch.Size]
    conditional = False
    dynamic = False
    free_count: int
    """Target parameters that stay learned directly."""
    tied: dict[str, list[str]]
    """Name -> the other places where the target holds the same parameter."""

    def take_over(self, target: nn.Module, names: Iterable[str]) -> None:
        """Keep the target without these parameters: they will be handed in at every call."""
        self.shapes = {name: target.get_parameter(name).shape for name in names}
        self.tied = empty_slots(target, self.shapes)
        self.free_count = sum(p.numel() for p in target.parameters())
        self.target = target

    @property
    def names(self) -> tuple[str, ...]:
        """Names, in the target, of what is generated or changed."""
        return tuple(self.shapes)

    @property
    def counts(self) -> ParameterCounts:
        """How many parameters are trained, generated and free."""
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return ParameterCounts(trainable, sum(shape.numel() for shape in self.shapes.values()), self.free_count)

    @property
    def embedded(self) -> EmbeddedGenerator | None:
        """The hypernet, where it has a learned embedding for each condition: of tasks, of training images."""
        return None

    @property
    def from_embeddings(self) -> bool:
        """Whether the weights are made from learned embeddings alone: for all inputs, for each task, for each image."""
        return not self.dynamic and (not self.conditional or self.embedded is not None)

    def weights(self, condition: Tensor | None = None) -> dict[str, Tensor]:
        """Return the generated parameters by name, float32, with gradients where those are enabled.

        condition: what a conditional hypernet makes them from; each is then [batch, *shape].

        Raises:
            UserError: they are others at every step.
        """
        raise UserError("a dynamic hypernet changes the weights at every step: there is no plain network equal to it")

    def call_with(self, weights: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """Run the target with these weights (from `weights()`, so that a penalty on them is computed on the same)."""
        return functional_call(self.target, in_all_slots(weights, self.tied), args, kwargs)

    def statistics(self) -> dict[str, float]:
        """Return norm and deviation of every generated tensor; see generated_statistics.py. Changes nothing."""
        return {}

    def layer_embeddings(self) -> dict[str, dict[str, Tensor]]:
        """Return what may be compared -> name of a generated parameter -> its embeddings, [rows, size].

        Nothing where the hypernet has no embedding for each layer (or does not say so by a method of this name).
        """
        return {}

    def materialize(self, condition: Tensor | int | None = None) -> nn.Module:
        """Return the plain target with the generated weights written in; see `materialize`."""
        weights = self.weights_for_materialize(condition)
        plain = copy.deepcopy(self.target)
        for name, weight in weights.items():
            shaped = weight.detach().reshape(self.shapes[name]).clone(memory_format=torch.contiguous_format)
            parameter = nn.Parameter(shaped)
            for slot in (name, *self.tied[name]):
                set_slot(plain, slot, parameter)
        return plain

    def weights_for_materialize(self, condition: Tensor | int | None) -> dict[str, Tensor]:
        """Return one set of weights, made anew.

        Raises:
            UserError: a condition too many, or none where one is needed.
        """
        refuse_condition(condition)
        return self.weights()


def as_hypernetized(model: nn.Module) -> Hypernetized | None:
    """Return the model itself if it has a hypernet; None for a plain network."""
    return model if isinstance(model, Hypernetized) else None


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count the parameters of a model with a hypernet of any kind, or of a plain network (all free)."""
    hyper = as_hypernetized(model)
    if hyper is not None:
        return hyper.counts
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return ParameterCounts(trainable, generated=0, free=trainable)


@torch.no_grad()
def materialize(model: nn.Module, condition: Tensor | int | None = None) -> nn.Module:
    """Return the plain target of a model with the generated weights written in, as a module of its own.

    The result needs nothing of hyperrun's: the target's own class, its parameters ordinary nn.Parameters, in the mode
    (training, evaluation) and on the device of `model`. In eval mode under no_grad its outputs are bit for bit those of
    a HyperModel; of a ConditionalModel they are those for this condition. A plain network is returned as a copy.

    condition: of a conditional hypernet, what it makes the weights from: one row, [conditioning_size], or the number of
        a task or of a training image.

    Raises:
        UserError: a dynamic hypernet, whose weights are others at every step; a condition too many, or none where one
            is needed, or one that the hypernet does not take.
    """
    hyper = as_hypernetized(model)
    if hyper is not None:
        return hyper.materialize(condition)
    refuse_condition(condition)
    return copy.deepcopy(model)


def refuse_condition(condition: Tensor | int | None) -> None:
    if condition is not None:
        raise UserError("this hypernet has no condition: its weights are the same for every input")
