"""Parameters counted from a config alone: shapes are built, no numbers, and as a rule no data is read."""

from __future__ import annotations

import torch
from torch import nn

from hyperrun.config import Config, TextData
from hyperrun.data import SHAPES, load_images, vocabulary_size
from hyperrun.hypernets import ParameterCounts, count_parameters, with_hypernet
from hyperrun.targets import build_language_target, build_target


def model_of_shapes(config: Config) -> nn.Module:
    """Return the model on the meta device. Only a set of unknown shape (a folder, a file, a plugin's) is looked at.

    Raises:
        UserError: such a set is not there, or the model does not fit the data.
    """
    if isinstance(config.data, TextData):
        symbols = vocabulary_size(config.data)
        with torch.device("meta"):
            return with_hypernet(config.hypernet, build_language_target(config.target, symbols))
    channels, size, classes = image_shape(config)
    with torch.device("meta"):
        return with_hypernet(config.hypernet, build_target(config.target, channels, classes, size))


def image_shape(config: Config) -> tuple[int, int, int]:
    """Return (channels, side, classes) of an image set."""
    if config.data.name in SHAPES:
        return SHAPES[config.data.name]
    images = load_images(config.data)  # pyright: ignore[reportArgumentType]
    return images.channels, images.train.shape[-1], images.num_classes


def counted(config: Config) -> ParameterCounts:
    """Return the parameter counts of the model that a config describes."""
    return count_parameters(model_of_shapes(config))
