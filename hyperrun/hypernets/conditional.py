"""Conditional hypernets: conditioning (a vector, a task's embedding, a latent) in, weights for each example out.

ConditionalHypernet makes and applies the weights of an MLP, all examples in one batched product a layer. For any other
target a ParameterGenerator makes the parameters and a ConditionalModel applies them, by vmap over functional_call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_map

from hyperrun.errors import UserError, choose
from hyperrun.hypernets.embedded_generator import EmbeddedGenerator
from hyperrun.hypernets.generated_statistics import statistics_of_conditions
from hyperrun.hypernets.hypernetized import Hypernetized
from hyperrun.hypernets.scale import hyperfan_stds
from hyperrun.hypernets.slots import in_all_slots
from hyperrun.hypernets.weight_generator import WeightGenerator
from hyperrun.targets.mlp import ACTIVATIONS

LayerSizes = Sequence[tuple[int, int]]
"""(inputs, outputs) of each layer of an MLP."""
LayerWeights = Sequence[tuple[Tensor, Tensor]]
"""Of each layer weight [..., outputs, inputs] and bias [..., outputs]; ... is the batch, or nothing."""

# ---------------------------------------------------------------- an MLP, in batched products


def build_weight_generator(
    conditioning_size: int,
    target_layer_sizes: LayerSizes,
    hidden_sizes: Sequence[int] = (256, 256),
    activation: str = "relu",
    init: str = "hyperfan",
    conditioning_variance: float = 1.0,
) -> WeightGenerator:
    """Return the MLP from conditioning to the vector that `split_weights` cuts: layer by layer, weight before bias.

    activation: of the generator's hidden layers, and the one the target will have. For the rest see WeightGenerator.

    Raises:
        ValueError: target_layer_sizes that do not chain.
        UserError: an unknown activation or init.
    """
    _check_layer_sizes(target_layer_sizes)
    shapes = {}
    for i, (inputs, outputs) in enumerate(target_layer_sizes):
        shapes[f"{i}.weight"] = torch.Size([outputs, inputs])
        shapes[f"{i}.bias"] = torch.Size([outputs])
    stds = hyperfan_stds(shapes, init, activation)
    return WeightGenerator(shapes, conditioning_size, hidden_sizes, activation, conditioning_variance, stds=stds)


def split_weights(flat: Tensor, target_layer_sizes: LayerSizes) -> list[tuple[Tensor, Tensor]]:
    """Cut [..., n] into weight [..., outputs, inputs] and bias [..., outputs] of each layer, as views.

    Raises:
        ValueError: a vector of another length than these layers have numbers.
    """
    lengths = [n for inputs, outputs in target_layer_sizes for n in (inputs * outputs, outputs)]
    if flat.shape[-1] != sum(lengths):
        raise ValueError(f"layers {list(target_layer_sizes)} have {sum(lengths)} numbers, not {flat.shape[-1]}")
    parts = iter(flat.split(lengths, dim=-1))  # one operator, whose gradient is one concatenation
    return [(next(parts).unflatten(-1, (outputs, inputs)), next(parts)) for inputs, outputs in target_layer_sizes]


def apply_generated_weights(
    x: Tensor, weights: Tensor | LayerWeights, target_layer_sizes: LayerSizes, activation: str = "relu"
) -> Tensor:
    """Apply an MLP with weights of its own for each example, or with one shared set.

    x: float [batch, inputs], or [batch, points, inputs] where each example has many inputs to the same weights.
    weights: [batch, n] as the generator makes them, or what `split_weights` makes of it. A batch of 1, or none, is one
        set shared by all of x.

    Returns [batch, outputs] or [batch, points, outputs]; `activation` stands between layers, not after the last.

    Raises:
        ValueError: shapes that do not fit together.
        UserError: an unknown activation.
    """
    _check_layer_sizes(target_layer_sizes)
    activate = ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]
    layers = split_weights(weights, target_layer_sizes) if isinstance(weights, Tensor) else weights
    shapes = [tuple(weight.shape[-2:]) for weight, _ in layers]
    if shapes != [(outputs, inputs) for inputs, outputs in target_layer_sizes]:
        raise ValueError(f"weights of shapes {shapes} are not those of layers {list(target_layer_sizes)}")
    if x.dim() not in (2, 3) or x.shape[-1] != target_layer_sizes[0][0]:
        raise ValueError(f"x must be [batch, {target_layer_sizes[0][0]}], not {list(x.shape)}")
    for i, (weight, bias) in enumerate(layers):
        x = _affine(activate(x) if i else x, weight, bias)
    return x


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return weight @ x + bias for each example."""
    if weight.dim() == 2 or len(weight) == 1:
        return F.linear(x, weight.view(weight.shape[-2:]), bias.view(-1))
    if len(weight) != len(x):
        raise ValueError(f"{len(weight)} sets of weights for {len(x)} examples")
    if x.dim() == 2 and x.device.type == "cpu":
        # a batched product of matrices with vectors takes the CPU's libraries 2 to 5 times as long as this
        return (weight * x.unsqueeze(1)).sum(2) + bias
    y = torch.baddbmm(bias.unsqueeze(1), x if x.dim() == 3 else x.unsqueeze(1), weight.mT)
    return y if x.dim() == 3 else y.squeeze(1)


def _check_layer_sizes(sizes: LayerSizes) -> None:
    chained = all(left[1] == right[0] for left, right in pairwise(sizes))
    if not sizes or not chained or min(n for pair in sizes for n in pair) < 1:
        raise ValueError(
            "target_layer_sizes must be (inputs, outputs) pairs, each with the outputs of the one before as inputs, "
            f"such as [(128, 64), (64, 32)], not {list(sizes)}"
        )


class ConditionalHypernet(nn.Module):
    """An MLP whose weights are generated from conditioning, for each example its own.

    conditioning_size: numbers in the conditioning of an example.
    target_layer_sizes: (inputs, outputs) of each of the MLP's layers.
    hidden_sizes: of the generator.
    input_size: inputs of the MLP, for those who want them checked; they are target_layer_sizes[0][0].
    activation: of the generator and of the MLP: relu, leaky_relu, elu, gelu, silu or tanh.
    init: hyperfan or hyperfan_out, for conditioning whose numbers have the mean square `conditioning_variance`.

    Weights are generated in float32 also under autocast, and cast where they are used.

        hypernet = ConditionalHypernet(conditioning_size=16)
        y = hypernet(torch.randn(32, 128), torch.randn(32, 16))  # [32, 32]

    Raises:
        ValueError: sizes that do not chain, or another input_size than the first layer's inputs.
        UserError: an unknown activation or init.
    """

    def __init__(
        self,
        conditioning_size: int,
        target_layer_sizes: LayerSizes = ((128, 64), (64, 32)),
        hidden_sizes: Sequence[int] = (256, 256),
        input_size: int | None = None,
        activation: str = "relu",
        init: str = "hyperfan",
        conditioning_variance: float = 1.0,
    ) -> None:
        super().__init__()
        self.generator = build_weight_generator(
            conditioning_size, target_layer_sizes, hidden_sizes, activation, init, conditioning_variance
        )
        if input_size not in (None, target_layer_sizes[0][0]):
            raise ValueError(
                f"input_size={input_size}, but the first of target_layer_sizes takes {target_layer_sizes[0][0]} inputs"
            )
        self.target_layer_sizes = [(inputs, outputs) for inputs, outputs in target_layer_sizes]
        self.activation = activation

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x float [batch, inputs] or [batch, points, inputs], conditioning float [batch, conditioning_size].

        One set of weights is shared by all of x where the conditioning is [1, conditioning_size] or unbatched.
        """
        return apply_generated_weights(x, self.generator(conditioning), self.target_layer_sizes, self.activation)


# ---------------------------------------------------------------- any target, by vmap


class ConditionalModel(Hypernetized):
    """Any target, whose parameters `names` are generated for each example from its conditioning.

    hypernet: a module that makes {name: [batch, *shape]} of the conditioning (ParameterGenerator, or one's own; an
        nn.Embedding before it makes a task's number the conditioning).

    Called with x and conditioning, both of the same batch: torch.func.vmap applies the target to each example, as a
    batch of one, with its own weights. Where the hypernet makes one set ([1, *shape] or [*shape]) all examples share
    it, and the call is a plain functional_call. The module takes the target over: the generated nn.Parameters are
    removed from it.

        names = select_parameters(target)
        reference = {name: target.get_parameter(name).detach() for name in names}
        model = ConditionalModel(target, ParameterGenerator(reference, conditioning_size=16), names)

    Per-example calls differ from plain ones in these ways:

    - A batch norm (or instance norm) that would update running statistics cannot run: every example would change them.
      Without running statistics it takes those of each example alone.
    - Dropout draws a mask for each example.
    - Under autocast the target runs in float32: inside vmap autocast reaches some operators and not others (no
      convolutions), and these do not take each other's results. One shared set runs under autocast as usual.
    """

    conditional = True

    def __init__(self, target: nn.Module, hypernet: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.take_over(target, names)
        self.hypernet = hypernet

    def forward(self, x: Tensor, conditioning: Tensor) -> Any:
        """Return the target's outputs for x [batch, ...] and whatever conditioning the hypernet takes."""
        return self.call_with(self.weights(conditioning), x)

    @property
    def embedded(self) -> EmbeddedGenerator | None:
        return self.hypernet if isinstance(self.hypernet, EmbeddedGenerator) else None

    def weights(self, condition: Tensor | None = None) -> dict[str, Tensor]:
        """Return the generated parameters by name, each [batch, *shape].

        Raises:
            UserError: no condition.
        """
        if condition is None:
            raise UserError("a conditional hypernet makes other weights for each condition: which one?")
        return self.hypernet(condition)

    def weights_for_materialize(self, condition: Tensor | int | None) -> dict[str, Tensor]:
        try:
            weights = self.weights(None if condition is None else torch.as_tensor(condition))
            return {name: weight.reshape(self.shapes[name]) for name, weight in weights.items()}
        except (IndexError, RuntimeError, ValueError) as error:
            raise UserError(f"the hypernet makes no network of this condition: {error}") from None

    def statistics(self) -> dict[str, float]:
        return {} if self.embedded is None else statistics_of_conditions(self.embedded)

    def call_with(self, weights: Mapping[str, Tensor], *inputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run the target on inputs [batch, ...] with weights {name: [batch, *shape]}, or one shared set.

        Raises:
            ValueError: weights of other names or shapes, or of another batch than the inputs.
            UserError: a norm layer that would update running statistics from each example.
        """
        sets = self._sets(weights)
        if sets == 1:
            shared = {name: w.reshape(self.shapes[name]) for name, w in weights.items()}
            return functional_call(self.target, in_all_slots(shared, self.tied), inputs)
        if any(len(value) != sets for value in inputs):
            raise ValueError(f"{sets} sets of weights for {len(inputs[0])} examples")
        if sets == 0:  # vmap over convolutions refuses it; there is no example whose weights would matter
            none = in_all_slots({name: w.sum(0) for name, w in weights.items()}, self.tied)
            return functional_call(self.target, none, inputs)
        self._check_norms()
        dtype = next(iter(weights.values())).dtype
        inputs = tuple(value.to(dtype) if value.is_floating_point() else value for value in inputs)
        with torch.autocast(inputs[0].device.type, enabled=False):
            return vmap(self._one_example, randomness="different")(in_all_slots(weights, self.tied), *inputs)

    def _one_example(self, weights: dict[str, Tensor], *inputs: Tensor) -> Any:
        outputs = functional_call(self.target, weights, tuple(value.unsqueeze(0) for value in inputs))
        return tree_map(lambda value: value.squeeze(0), outputs)

    def _sets(self, weights: Mapping[str, Tensor]) -> int:
        """Return how many sets of weights these are: 1 too for one without a batch dimension."""
        if weights.keys() != self.shapes.keys():
            raise ValueError(f"the hypernet made {list(weights)}, not {list(self.shapes)}")
        batches = set()
        for name, shape in self.shapes.items():
            value = weights[name].shape
            batch = value[: len(value) - len(shape)]
            if len(batch) > 1 or value[len(batch) :] != shape:
                raise ValueError(f"{name}: the hypernet made {list(value)}, not [batch, *{list(shape)}]")
            batches.add(batch[0] if batch else 1)
        if len(batches) != 1:
            raise ValueError(f"the hypernet made parameters of different batches: {sorted(batches)}")
        return batches.pop()

    def _check_norms(self) -> None:
        for name, module in self.target.named_modules():
            if isinstance(module, _NormBase) and module.training and module.running_mean is not None:
                raise UserError(
                    f"{name or 'the target'} ({type(module).__name__}) would update its running statistics from every "
                    "example on its own, which cannot be done with weights for each example; use "
                    "track_running_stats=False, a group or layer norm, eval(), or one set of weights for the batch"
                )
