"""The model that a config describes: built here and nowhere else, with every check of whether its parts fit together.

Training, --dry-run, ls, bench, eval, load_run, export, sample and adapt get the same model or the same refusal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hyperrun.config import WIDTHS, Config, TargetConfig
from hyperrun.data import inputs_of
from hyperrun.data.kinds import TaskData
from hyperrun.errors import UserError
from hyperrun.hypernets import ParameterCounts, count_parameters, with_hypernet, with_latents, with_task_hypernet
from hyperrun.inputs import Images, Inputs, Strokes, Tasks
from hyperrun.targets import build_target, takes_coordinates
from hyperrun.training.optim import build_optimizers


def build_model(config: Config, inputs: Inputs) -> nn.Module:
    """Return the model that a config describes, for data that look like this, with its own initialization, in float32.

    Called with images, it gives logits [B, classes]; with images and the numbers of their tasks, too, if it has a
    hypernet on tasks; with token ids int64 [B, T], (logits [B, T, vocabulary], state); with pen strokes [B, T, 3],
    (outputs [B, T, 6 * mixtures + 1], state); with pairs of sentences, what Seq2Seq.forward says; with coordinates
    [B, P, 2] and latents [B, z_dim] or numbers of training images [B], colours [B, P, C].

    Raises:
        UserError: parts that do not fit together or settings that mean nothing for them.
    """
    check_settings(config, inputs)
    target = build_target(config.target, inputs)
    if isinstance(inputs, Tasks) and config.hypernet.kind != "none":
        refuse_shared_statistics(target, config.target.kind)
        return with_task_hypernet(config.hypernet, target, inputs.count)
    if isinstance(inputs, Images) and takes_coordinates(config.target):
        return with_latents(config.hypernet, target, inputs.train)
    return with_hypernet(config.hypernet, target)


def check_settings(config: Config, inputs: Inputs) -> None:
    """Refuse settings of optimizer, trainer and data that mean nothing for what is learned.

    Raises:
        UserError: such a setting.
    """
    trainer, l2 = config.trainer, config.optim.generated_l2
    if isinstance(inputs, Tasks):
        check_tasks(config, inputs)
    elif isinstance(inputs, Images) and takes_coordinates(config.target):
        if l2 or trainer.label_smoothing:
            raise UserError("optim.generated_l2 and trainer.label_smoothing are for classifiers; images have latent_l2")
    elif not isinstance(inputs, Images) and l2:
        raise UserError("optim.generated_l2 is for generated kernels; a recurrent network's weights are only scaled")
    if isinstance(inputs, Strokes) and trainer.label_smoothing:
        raise UserError("trainer.label_smoothing is for classes and symbols; a pen stroke's next point has a density")


def check_tasks(config: Config, inputs: Tasks) -> None:
    trainer, data = config.trainer, config.data
    assert isinstance(data, TaskData)
    if config.optim.generated_l2:
        raise UserError("optim.generated_l2 is for one set of generated kernels, not for one for each task")
    if data.order == "joint" and trainer.batch_size < inputs.count:
        raise UserError(f"trainer.batch_size={trainer.batch_size} has no example for each of the {inputs.count} tasks")
    if trainer.max_steps is not None:
        check_steps_for_tasks(data.order, trainer.max_steps * trainer.accumulate, inputs.count)


def check_steps_for_tasks(order: str, batches: int, tasks: int) -> None:
    """Refuse to train continually for fewer batches than there are tasks."""
    if order == "continual" and batches < tasks:
        raise UserError(f"so few steps leave none for some of the {tasks} tasks; raise trainer.max_steps")


def refuse_shared_statistics(target: nn.Module, kind: str) -> None:
    """Raise a UserError for batch norms: all tasks would be evaluated with one mean and variance, which fit none."""
    for name, module in target.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            raise UserError(
                f"target={kind} has batch norms ({name}), whose running statistics all tasks would share; "
                "targets without them: mlp, cnn"
            )


# ---------------------------------------------------------------- counted without being built


def model_of_shapes(config: Config, inputs: Inputs | None = None) -> nn.Module:
    """Return the model on the meta device. Only a set of unknown shape (a folder, a file, a plugin's) is looked at.

    Raises:
        UserError: such a set is not there, or the model does not fit the data.
    """
    inputs = inputs or inputs_of(config.data)
    with torch.device("meta"):
        return build_model(config, inputs)


def counted(config: Config) -> ParameterCounts:
    """Return the parameter counts of what a config describes, after every check that training would make.

    Raises:
        UserError: as training.
    """
    model = model_of_shapes(config)
    build_optimizers(config.optim, model)
    return count_parameters(model)


# ---------------------------------------------------------------- as many parameters as asked for


def choose_width(config: Config, typed: Iterable[str]) -> None:
    """Make the target as wide as brings the trainable parameters nearest to config.params.

    Raises:
        UserError: the target has no width, or one that was typed; even the narrowest has more parameters.
    """
    asked, key = config.params, width_key(config.target)
    assert asked is not None
    if key is None:
        raise UserError(f"params={asked} chooses a width, and target={config.target.kind} has no {' or '.join(WIDTHS)}")
    if any(word.partition("=")[0].lstrip("+") == f"target.{key}" for word in typed):
        raise UserError(f"params={asked} chooses target.{key}: type one of the two")
    inputs = inputs_of(config.data)

    def trainable(width: int) -> int:
        set_width(config.target, key, width)
        return count_parameters(model_of_shapes(config, inputs)).trainable

    narrowest = set_width(config.target, key, 1)
    high = narrowest
    while trainable(high) < asked:
        high *= 2
        if high > 2**16:
            raise UserError(f"params={asked}: even target.{width_of(config.target)} has fewer")
    if trainable(narrowest) > asked:
        smallest = f"target.{width_of(config.target)} has {trainable(narrowest):,} trainable parameters"
        raise UserError(f"params={asked}: even {smallest}")
    above = narrowest + bisect_left(range(narrowest, high + 1), asked, key=trainable)
    near = range(max(above - 1, narrowest), above + 1)
    set_width(config.target, key, min(near, key=lambda width: abs(trainable(width) - asked)))


def width_key(target: TargetConfig) -> str | None:
    return next((key for key in WIDTHS if hasattr(target, key)), None)


def set_width(target: Any, key: str, width: int) -> int:
    """Make the target that wide (a list of n numbers: of that sum) but 1 at least; return how wide it is."""
    value = getattr(target, key)
    if isinstance(value, list):
        n = len(value)
        value = [max((width + i) // n, 1) for i in range(n)]  # one at a time, the last first: finer steps
        width = sum(value)
    else:
        value = width
    setattr(target, key, value)
    if getattr(target, "tied", False):
        target.embedding = width
    return width


def width_of(target: TargetConfig) -> str:
    """Return the width as it would be typed: channels=[16,16]."""
    key = width_key(target)
    return f"{key}={getattr(target, key or '')}".replace(" ", "")
