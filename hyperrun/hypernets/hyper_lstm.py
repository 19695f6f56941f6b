"""HyperLSTM as a library: one layer or several, called as torch.nn.LSTM is."""

from __future__ import annotations

from typing import Any

import torch

from hyperrun.config import check_positive, check_probability
from hyperrun.hypernets.build import hypernet_config
from hyperrun.hypernets.hyper_layers import HyperLSTMLayer
from hyperrun.hypernets.recurrent_stack import RecurrentStack
from hyperrun.targets.recurrent import LSTMLayer


class HyperLSTM(RecurrentStack):
    """The HyperLSTM of Ha et al. 2016 (eqs. 10 to 13), called as torch.nn.LSTM is.

        lstm = HyperLSTM(input_size=10, hidden_size=32, num_layers=2, batch_first=True, layer_norm=True)
        x = torch.randn(3, 7, 10)                                            # [batch, steps, inputs]
        output, (h_n, c_n) = lstm(x)                                         # [3, 7, 32], [2, 3, 32] each
        output, (h_n, c_n) = lstm(x, (h_n, c_n))                             # goes on where the last call ended
        output, (h_n, c_n) = lstm(x, lengths=torch.tensor([7, 2, 5]))        # a padded batch; outputs there are 0

    Beside each layer a smaller LSTM, the hyper cell, reads the layer's input and last output and scales the rows of the
    layer's weight matrices, and makes its bias, anew at each step. A step from x [I] with h, c [H], the hyper cell's
    output a [N] and embeddings z [Nz] is

        a, c' = LSTM(a, c'; [h; x])                                           eq. 10
        z_h, z_x, z_b = a W_zh + b_zh, a W_zx + b_zx, a W_zb                  eq. 11, for each gate
        gate = (z_h W_dh) * (h W_h) + (z_x W_dx) * (x W_x) + z_b W_db + b     eq. 12, with layer_norm LN of it
        c = sigmoid(f) * c + sigmoid(i) * tanh(g),  h = sigmoid(o) * tanh(c)  eq. 13, with layer_norm tanh(LN(c))

    input_size: I. hidden_size: H. num_layers: layers one above the other.
    batch_first: input and output are [B, T, ...] and not [T, B, ...].
    dropout: of what one layer gives to the next.
    bidirectional: a second layer beside each reads backward; outputs are side by side.
    layer_norm: in main and hyper cells, as in the paper.
    recurrent_dropout: of the candidate tanh(g), drawn anew at each step (Semeniuta et al. 2016).
    forget_bias: added to f in the sigmoid; None: as in LSTMLayer.
    hyper_size (N), z_dim (Nz), z_from, init, fast: as in conf/hypernet/dynamic.yaml, which also has their defaults (for
        None). hyper_recurrent_dropout, hyper_forget_bias: its recurrent_dropout and forget_bias, of the hyper cell.
    device, dtype: of the parameters; None: torch's defaults.

    There is no `bias`, since the hyper cell makes one, and no `proj_size`. What a call takes and gives stands in
    `forward`: [T, B, I], [T, I] or a PackedSequence; float32 parameters with float32 or, under autocast, bf16 products.
    Weights start orthogonal, gate by gate; all scaling vectors at 0.1.

    h_n and c_n have the shapes of torch.nn.LSTM's and carry the hyper cells' state with them (CarriedState), so that a
    sequence in pieces gives what it gives in one. It stays with them when they are detached, copied, moved, or picked
    from or joined by batch, and examples may be reset in place (h[:, i] = 0; any other change in place is an error);
    other arithmetic gives a plain tensor, from which hyper cells start at zero, as they do without a state.

    fast="auto" takes the single steps where it has to: under vmap, jvp and grad of torch.func, and in torch.export. (In
    an exported program a state keeps the hyper cells' part only if it is handed on as it is.) Gradients of gradients
    and torch.autograd.forward_ad need fast="never", and raise a RuntimeError or NotImplementedError without it.

    Raises:
        UserError: a setting of the hyper cell that it cannot have.
        ValueError: a size below 1, a dropout outside [0, 1).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        hyper_size: int | None = None,
        z_dim: int | None = None,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        forget_bias: float | None = None,
        hyper_recurrent_dropout: float | None = None,
        hyper_forget_bias: float | None = None,
        z_from: str | None = None,
        init: str | None = None,
        fast: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            check_positive(name, size)
        for name, probability in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            check_probability(name, probability)
        options: dict[str, Any] = {
            "hyper_size": hyper_size,
            "z_dim": z_dim,
            "recurrent_dropout": hyper_recurrent_dropout,
            "forget_bias": hyper_forget_bias,
            "z_from": z_from,
            "init": init,
            "fast": fast,
        }
        cfg = hypernet_config("dynamic", **{name: value for name, value in options.items() if value is not None})
        main: dict[str, Any] = {} if forget_bias is None else {"forget_bias": forget_bias}
        directions = 2 if bidirectional else 1
        layers = []
        for number in range(num_layers):
            inputs = hidden_size * directions if number else input_size
            for _ in range(directions):
                layer = LSTMLayer(inputs, hidden_size, layer_norm, recurrent_dropout, **main)
                layers.append(HyperLSTMLayer(layer, cfg))
        super().__init__(layers, input_size, hidden_size, batch_first, dropout, bidirectional)
        self.to(device, dtype)
