"""A hyper cell beside every recurrent layer of a module, wherever it stands: what hypernet=dynamic makes of a target.

Of hyperrun's own layers, LSTMLayer and RNNLayer, and of torch.nn.LSTM and torch.nn.RNN. The layer that takes the place
has the weights of the one before, and is called like it (hyper_layers.py, recurrent_stack.py).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from hyperrun.errors import UserError, nearest
from hyperrun.hypernets.hyper_layers import DynamicConfig, HyperLSTMLayer, HyperRNNLayer
from hyperrun.hypernets.hypernetized import Hypernetized
from hyperrun.hypernets.recurrent_stack import stack_beside, why_not_taken
from hyperrun.hypernets.select import matches
from hyperrun.registry import register
from hyperrun.targets.recurrent import LSTMLayer, RNNLayer

RECURRENT = (LSTMLayer, RNNLayer, nn.LSTM, nn.RNN)


class DynamicModel(Hypernetized):
    """A target whose recurrent layers' weights change at every step; called like the target itself.

    layers: the names of the layers that get a hyper cell, as `choose_layers` returns them.

    The module takes the target over. What changes at every step (all weights and biases of a torch.nn.LSTM; w_x, w_h
    and, as far as it has one on its own, the gate bias of an LSTMLayer) counts as generated; the target's other
    parameters (norms, embedding, output layer, layers not chosen) are free.
    """

    dynamic = True

    def __init__(self, target: nn.Module, cfg: DynamicConfig, layers: list[str]) -> None:
        super().__init__()
        before = sum(p.numel() for p in target.parameters())
        self.shapes = {}
        for name in layers:
            layer = target.get_submodule(name)
            self.shapes |= {f"{name}.{leaf}".lstrip("."): p.shape for leaf, p in changing(layer).items()}
            target = replaced(target, layer, beside(layer, cfg))
        self.free_count = before - sum(shape.numel() for shape in self.shapes.values())
        self.target = target
        self.training = target.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.target(*args, **kwargs)


@register("hypernet", "dynamic", DynamicConfig, layers=True)
def make_dynamic(cfg: DynamicConfig, target: nn.Module) -> DynamicModel:
    """Return the target with a hyper cell beside each of its recurrent layers that cfg.include and cfg.exclude choose.

    Raises:
        UserError: no such layer, a pattern that matches none, or a layer that cannot have a hyper cell: the full form
            of an LSTM, an LSTM with projections, an RNN with relu, weights that stand elsewhere, too.
    """
    layers = choose_layers(cfg, target)
    chosen = [target.get_submodule(name) for name in layers]
    if any(isinstance(layer, LSTMLayer | nn.LSTM) for layer in chosen):
        if cfg.form == "full":
            raise UserError("hypernet.form=full mixes whole matrices and exists for target.cell=rnn only; use scaled")
    elif cfg.recurrent_dropout:
        raise UserError("hypernet.recurrent_dropout acts on an LSTM's candidate; with target.cell=rnn it must be 0")
    for name, layer in zip(layers, chosen, strict=True):
        reason = why_not_taken(layer) or why_not_alone(target, layer)
        if reason:
            what = f"{name or 'this module'} ({type(layer).__name__})"
            raise UserError(f"no hyper cell can stand beside {what}: {reason}")
    return DynamicModel(target, cfg, layers)


def choose_layers(cfg: DynamicConfig, target: nn.Module) -> list[str]:
    """Return the names of the target's recurrent layers that get a hyper cell, in its order ("": the target itself).

    Raises:
        UserError: a target without recurrent layers, a pattern that matches none, or none left.
    """
    hyper_layers = [m for m in target.modules() if isinstance(m, HyperLSTMLayer | HyperRNNLayer)]
    cells = {inside for layer in hyper_layers for inside in layer.modules()}  # hyper cells that stand there already
    names = [n for n, module in target.named_modules() if isinstance(module, RECURRENT) and module not in cells]
    if not names:
        kinds = dict.fromkeys(type(m).__name__ for m in target.modules() if next(m.children(), None) is None)
        raise UserError(
            "hypernet=dynamic changes the weights of recurrent layers: it needs target=recurrent, or a module with an "
            f"LSTM or RNN in it (this one has {', '.join(kinds)})"
        )
    for key, patterns in (("include", cfg.include), ("exclude", cfg.exclude)):
        for pattern in patterns:
            if not any(matches(name, pattern) for name in names):
                said = f"hypernet.{key}: no recurrent layer matches '{pattern}'{nearest(pattern, names)}"
                raise UserError(f"{said} (there are: {', '.join(names)})")
    chosen = [n for n in names if not cfg.include or any(matches(n, pattern) for pattern in cfg.include)]
    chosen = [n for n in chosen if not any(matches(n, pattern) for pattern in cfg.exclude)]
    if not chosen:
        raise UserError(f"hypernet.exclude={cfg.exclude} leaves no recurrent layer (there are: {', '.join(names)})")
    return chosen


def changing(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a recurrent layer that change at every step once it has a hyper cell, by name."""
    if isinstance(layer, LSTMLayer | RNNLayer):
        return {name: p for name, p in layer.named_parameters() if name in ("w_x", "w_h", "bias")}
    return dict(layer.named_parameters())


def beside(layer: nn.Module, cfg: DynamicConfig) -> nn.Module:
    """Return what takes the layer's place: the same with a hyper cell, on its device, in its type and mode."""
    if isinstance(layer, LSTMLayer):
        made = HyperLSTMLayer(layer, cfg).to(layer.w_x)
    elif isinstance(layer, RNNLayer):
        made = HyperRNNLayer(layer, cfg).to(layer.w_x)
    else:
        assert isinstance(layer, nn.LSTM | nn.RNN)
        made = stack_beside(layer, cfg)
    return made.train(layer.training)


def replaced(target: nn.Module, layer: nn.Module, other: nn.Module) -> nn.Module:
    """Put another module in every place where the target has this one; return the target, or the other if it is it."""
    if target is layer:
        return other
    places = [name for name, module in target.named_modules(remove_duplicate=False) if module is layer]
    for name in places:
        target.set_submodule(name, other)
    return target


def why_not_alone(target: nn.Module, layer: nn.Module) -> str | None:
    """Return why a layer of torch's cannot be taken apart if one of its weights stands in another module, too."""
    if isinstance(layer, LSTMLayer | RNNLayer):
        return None  # keeps its parameters
    own = {id(p) for p in layer.parameters()}
    inside = set(layer.modules())
    for name, module in target.named_modules():
        shared = [leaf for leaf, p in module.named_parameters(recurse=False) if id(p) in own]
        if module not in inside and shared:
            return f"{name}.{shared[0]} is one of its weights"
    return None
