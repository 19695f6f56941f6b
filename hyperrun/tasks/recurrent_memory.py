"""How much memory training a recurrent network takes, before it takes it."""

from __future__ import annotations

from torch import nn

from hyperrun.hypernets.hyper_layers import HyperLSTMLayer
from hyperrun.targets.attention import Attention, room_bytes
from hyperrun.targets.recurrent import LSTMLayer
from hyperrun.targets.seq2seq import Seq2Seq

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

NUMBERS_PER_LOGIT = 3
"""float32 numbers that the loss of a translation keeps for each logit: itself, its log-probability, its gradient."""
NUMBERS_PER_WEIGHT = 4
"""The same that attention keeps for each query and key: score, weight, and the gradients of both."""


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


def translation_memory(network: Seq2Seq, rows: int, source: int, target: int, vocabulary: int) -> int | None:
    """Return the same of a sequence-to-sequence network, on a batch of so many rows padded to these lengths.

    Within a quarter of what was found as resident memory beyond that of a process without model and batch, one layer
    each of 256 units: of seq2seq 684 MiB on 64 x 64 x 64 (rows, source, target) with 8,000 pieces (the estimate is
    720), 296 on 16 x 256 x 256 with 200 (336), 273 on 4 x 800 x 800 (296), with context=all 189 on 16 x 128 x 128
    (188); of lnhyperseq2seq 492 on 16 x 256 x 256 (378). None as above.
    """
    encoder = training_memory(network.encoder, rows, source, 0)
    decoder = training_memory(network.decoder, rows, target, NUMBERS_PER_LOGIT * vocabulary)
    if encoder is None or decoder is None:
        return None
    rest = nn.ModuleList([network.source_embedding, network.target_embedding, network.output])
    parameters = 4 * COPIES_OF_PARAMETERS * sum(p.numel() for p in rest.parameters())
    return encoder + decoder + parameters + attention_memory(network.decoder.attention, rows, source, target)


def attention_memory(attention: Attention, rows: int, source: int, target: int) -> int:
    """Return about how many bytes attention keeps for a training step besides its parameters: values, keys, queries
    and contexts with their gradients, the weights, and the queries times keys times units that are worked on."""
    units, values = attention.v.shape[0], attention.key.in_features
    kept = 2 * (source + target) * (units + values) + NUMBERS_PER_WEIGHT * source * target
    return 4 * rows * kept + room_bytes(attention.v.device, rows, source, target, units)
