"""How much memory training a recurrent network takes, before it takes it."""

from __future__ import annotations

from torch import nn

from hyperrun.hypernets.hyper_layers import HyperLSTMLayer
from hyperrun.targets.recurrent import LSTMLayer

NUMBERS_PER_UNIT = {False: 19, True: 36}
"""Whether there is a layer norm -> float32 numbers that an LSTM keeps for a step of a sequence, gradients included.
Measured as the resident memory of a process, at 256 and 512 units; the estimate is within a quarter of what was
found."""
NUMBERS_PER_HYPER_LSTM_UNIT = 17
"""The same of a HyperLSTM in its fast form, layer norm or not: it makes most again instead of keeping it. With 900
units and 32 x 1,940 points (ha2016/iam_hyperlstm900) the estimate is 4.37 GiB, and training took 3.78 GiB beyond the
0.82 GiB that a process with the data has."""
COPIES_OF_PARAMETERS = 4
"""The parameters, their gradients and Adam's two averages."""


def training_memory(model: nn.Module, rows: int, steps: int, outputs: int) -> int | None:
    """Return about how many bytes training takes in float32, less in bf16: parameters, optimizer, and a batch's layers.

    None where the network has layers for which nobody has measured it.

    rows, steps: of the longest batch. outputs: numbers that the loss keeps for a step of a sequence.
    """
    hyper = [layer for layer in model.modules() if isinstance(layer, HyperLSTMLayer)]
    cells = {cell for layer in hyper for cell in layer.modules() if cell is not layer}
    plain = [layer for layer in model.modules() if isinstance(layer, LSTMLayer) and layer not in cells]
    if not hyper + plain or not all(layer.fast for layer in hyper):
        return None
    numbers = outputs + sum(NUMBERS_PER_UNIT[layer.norm is not None] * layer.units for layer in plain)
    for layer in hyper:
        hypernet = layer.hypernet
        # the blocks of hyperlstm_fast that the hyper cell adds
        numbers += NUMBERS_PER_HYPER_LSTM_UNIT * layer.units + 18 * hypernet.cell.units + 24 * hypernet.embed.z_dim
    parameters = sum(p.numel() for p in model.parameters())
    return 4 * (COPIES_OF_PARAMETERS * parameters + numbers * rows * steps)
