"""Which parameters of a target are generated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvNd

from hyperrun.config import HypernetConfig
from hyperrun.errors import UserError, choose, nearest

GENERATE = ["conv", "linear", "all", "everything"]

Choice = str | Callable[[str, nn.Parameter], bool]
"""Which parameters to generate: conv, linear, all, everything, or what a function of name and parameter says."""


@dataclass
class SelectingConfig(HypernetConfig):
    """A hypernet for any target, with the choice of what is generated."""

    generate: str
    """Which weights are generated: conv, linear or all (both), of which the first and last layer stay free;
    or everything: all parameters that `exclude` does not match, with biases and norm scales."""
    include: list[str]
    """Name patterns (conv2.weight, groups.0): if any are given, the matching weights are generated, and no others."""
    exclude: list[str]
    """Name patterns of parameters that stay free, also among those that `include` matches."""

    def __post_init__(self) -> None:
        choose("hypernet.generate", self.generate, GENERATE)


def select_parameters(
    target: nn.Module, generate: Choice = "conv", include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> list[str]:
    """Return the names of the parameters to generate, in the target's order; of tied ones the first name.

    generate: "conv" (kernels of ungrouped convolutions), "linear" (matrices of linear layers) or "all" (both). The
        first and the last of all such layers stay free, as in the paper, and so does every bias and norm scale.
        "everything": all parameters, these too. Or a function of name and parameter, which may choose any.
    include: shell-style name patterns. If any are given, the matching weights (parameters of two dimensions or more)
        are generated, whatever their kind or place, but for those that `exclude` matches.
    exclude: name patterns of parameters that stay free; those with wildcards may match none.

    Raises:
        UserError: a pattern that matches nothing, or no parameter left to generate.
    """
    include, exclude = list(include), list(exclude)
    parameters = dict(target.named_parameters())  # of tied ones, the first
    weights = [name for name, p in parameters.items() if p.ndim >= 2]
    if include:
        for pattern in include:
            if not any(matches(name, pattern) for name in weights):
                raise UserError(f"hypernet.include: no weight matches '{pattern}'{nearest(pattern, weights)}")
        chosen = [n for n in weights if any(matches(n, p) for p in include)]
    elif generate == "everything":
        chosen = list(parameters)
    elif callable(generate):
        chosen = [name for name, p in parameters.items() if generate(name, p)]
    else:
        layers = [(n, m) for n, m in target.named_modules() if isinstance(m, _ConvNd | nn.Linear)]
        owners = {f"{n}.weight" if n else "weight": m for n, m in layers}
        kinds = {"conv": _ConvNd, "linear": nn.Linear, "all": (_ConvNd, nn.Linear)}[generate]
        inner = [n for n in list(owners)[1:-1] if n in parameters]
        chosen = [n for n in inner if isinstance(owners[n], kinds) and getattr(owners[n], "groups", 1) == 1]
    for pattern in exclude:  # one with wildcards may be meant for other targets (*shortcut*)
        if not re.search(r"[*?[]", pattern) and not any(matches(name, pattern) for name in parameters):
            raise UserError(f"hypernet.exclude: no parameter matches '{pattern}'{nearest(pattern, parameters)}")
    chosen = [n for n in chosen if not any(matches(n, p) for p in exclude)]
    if not chosen:
        raise UserError(
            f"hypernet.generate={generate} leaves nothing to generate in this target: "
            f"name weights with hypernet.include (hypernet.exclude={exclude} still applies), e.g. "
            f"{', '.join(weights[:3])}"
        )
    return chosen


def matches(name: str, pattern: str) -> bool:
    """Match the full name of a parameter or module, or one above it (`groups.0` stands for all that is in it)."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
