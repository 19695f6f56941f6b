"""hypernet=dynamic on any module: which layers get a hyper cell, what they keep, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hyperrun import HyperLSTM, hypernetize
from hyperrun.errors import UserError
from hyperrun.hypernets import DynamicModel, count_parameters, with_hypernet
from hyperrun.hypernets.hyper_layers import HyperLSTMLayer, HyperRNNLayer
from hyperrun.hypernets.recurrent_stack import RecurrentStack
from hyperrun.targets.recurrent import LSTMLayer, RNNLayer
from tests.hypernets.test_dynamic import model_of, settings


@pytest.fixture(autouse=True)
def eager_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")


class Translator(nn.Module):
    """A user's own network: a bidirectional encoder on packed sentences, and a decoder that carries its state."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(6, 4, num_layers=2, bidirectional=True, dropout=0.1)})
        self.decoder = nn.LSTM(6, 8, batch_first=True)
        self.rnn = nn.RNN(8, 5, batch_first=True)
        self.output = nn.Linear(5, 11)

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.words(source).transpose(0, 1), lengths, enforce_sorted=False)
        _, (h, c) = self.encoder["lstm"](packed)
        state: Any = (torch.cat([h[-2], h[-1]], -1)[None], torch.cat([c[-2], c[-1]], -1)[None])
        first, state = self.decoder(self.words(target[:, :2]), state)
        rest, _ = self.decoder(self.words(target[:, 2:]), state)
        return self.output(self.rnn(torch.cat([first, rest], 1))[0])


def translate(model: nn.Module, padding: int = 0) -> Tensor:
    torch.manual_seed(1)
    source, target = torch.randint(11, (3, 6)), torch.randint(11, (3, 5))
    return model(nn.functional.pad(source, (0, padding), value=7), torch.tensor([4, 6, 1]), target)


@pytest.mark.parametrize("training", [True, False])
def test_a_users_network_works_unchanged_with_hyper_cells_in_it(training: bool):
    torch.manual_seed(0)
    plain = Translator().train(training)
    before = sum(p.numel() for p in plain.parameters())
    changing = sum(p.numel() for layer in (plain.encoder, plain.decoder, plain.rnn) for p in layer.parameters())
    shape = translate(plain).shape
    model = hypernetize(plain, "dynamic", hyper_size=3, z_dim=2)
    assert isinstance(model, DynamicModel) and model.target is plain
    out = translate(model)
    assert out.shape == shape and all(m.training == training for m in model.modules())
    out.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    counts = count_parameters(model)
    assert (counts.target, counts.generated, counts.free) == (before, changing, before - changing)
    assert counts.trainable == sum(p.numel() for p in model.parameters())
    model.eval()
    torch.testing.assert_close(translate(copy.deepcopy(model), 3), translate(model))
    other = hypernetize(Translator(), "dynamic", hyper_size=3, z_dim=2).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(translate(other), translate(model))


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], ["encoder.lstm", "decoder", "rnn"]),
        (["encoder"], [], ["encoder.lstm"]),
        (["*coder*"], ["encoder"], ["decoder"]),
        ([], ["*lstm", "rnn"], ["decoder"]),
        (["rnn"], [], ["rnn"]),
    ],
)
def test_include_and_exclude_choose_layers_by_name(include: list[str], exclude: list[str], expected: list[str]):
    model = hypernetize(Translator(), "dynamic", include=include, exclude=exclude)
    assert [n for n, m in model.target.named_modules() if isinstance(m, RecurrentStack)] == expected
    left = [n for n, m in model.target.named_modules() if isinstance(m, nn.LSTM | nn.RNN)]
    assert sorted(left + expected) == ["decoder", "encoder.lstm", "rnn"]
    assert translate(model).shape == (3, 5, 11)


def test_a_run_chooses_layers_of_a_language_model():
    model = model_of("model=hyperlstm", "target.layers=3", "target.hidden_size=6", "hypernet.include=[layers.1]")
    layers: Any = model.target.layers  # type: ignore[union-attr]
    assert [type(layer) for layer in layers] == [LSTMLayer, HyperLSTMLayer, LSTMLayer]
    counts = count_parameters(model)
    assert counts.generated == 4 * 6 * (6 + 6 + 1)
    tokens = torch.randint(7, (2, 6))
    whole, _ = model.eval()(tokens)
    first, state = model(tokens[:, :4])
    torch.testing.assert_close(torch.cat([first, model(tokens[:, 4:], state)[0]], 1), whole)


def test_layers_of_both_families_stand_in_one_module():
    target = nn.ModuleList([LSTMLayer(3, 4, norm=True), RNNLayer(4, 5), nn.LSTM(5, 6), nn.GRU(3, 4), nn.LSTMCell(3, 4)])
    model = with_hypernet(settings(), target)
    kinds = [HyperLSTMLayer, HyperRNNLayer, RecurrentStack, nn.GRU, nn.LSTMCell]
    assert [type(m) for m in model.target] == kinds  # type: ignore[union-attr]


def test_a_layer_in_two_places_gets_one_hyper_cell():
    shared = nn.LSTM(3, 3)
    model = hypernetize(nn.Sequential(shared, nn.ModuleDict({"again": shared, "and again": shared})), "dynamic")
    first, others = model.target  # type: ignore[misc]
    assert isinstance(first, RecurrentStack) and first is others["again"] is others["and again"]
    assert count_parameters(model).generated == 4 * 3 * (3 + 3 + 2)


def test_a_layer_alone_is_replaced_itself_and_keeps_type_freezing_and_weights():
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4).double()
    lstm.weight_hh_l0.requires_grad_(False)
    weight = lstm.weight_ih_l0.detach().clone()
    model = hypernetize(lstm, "dynamic", hyper_size=3)
    assert isinstance(model.target, RecurrentStack)
    layer: Any = model.target.layers[0]
    i, f, g, o = weight.chunk(4)
    assert torch.equal(layer.w_x, torch.cat([i, g, f, o]).T) and layer.w_x.is_contiguous()
    assert not layer.w_h.requires_grad and layer.w_x.requires_grad
    out, (h, _) = model(torch.randn(5, 2, 3, dtype=torch.double))
    assert out.dtype == torch.double and all(p.dtype == torch.double for p in model.parameters())
    out.sum().backward()
    assert layer.w_h.grad is None and layer.hypernet.w_d.grad is not None
    torch.testing.assert_close(h.as_subclass(Tensor)[0], out[-1])
    model.target.flatten_parameters()


def test_hyper_cells_that_stand_there_already_get_none_of_their_own():
    module = nn.ModuleList([HyperLSTM(3, 4, hyper_size=2), nn.LSTM(4, 4)])
    model = hypernetize(module, "dynamic", hyper_size=2)
    assert not any(isinstance(m.cell, HyperLSTMLayer) for m in model.modules() if hasattr(m, "cell"))
    assert sum(isinstance(m, HyperLSTMLayer) for m in model.modules()) == 2
    with pytest.raises(UserError, match="recurrent layers"):
        hypernetize(nn.Sequential(HyperLSTM(3, 4, hyper_size=2)), "dynamic")


class OwnForward(nn.LSTM):
    def forward(self, *args: Any) -> Any:
        return super().forward(*args)[0]


def sharing() -> nn.Module:
    module = nn.ModuleList([nn.LSTM(3, 4), nn.LSTM(3, 4)])
    module[1].weight_hh_l0 = module[0].weight_hh_l0  # type: ignore[union-attr]
    return module


REFUSED = {
    "proj_size": (lambda: nn.Sequential(nn.LSTM(3, 4, proj_size=2)), {}, r"beside 0 \(LSTM\): proj_size is not 0"),
    "relu": (lambda: nn.RNN(3, 4, nonlinearity="relu"), {}, r"beside this module \(RNN\): its nonlinearity is relu"),
    "forward": (lambda: OwnForward(3, 4), {}, "its forward is not that of torch.nn.LSTM"),
    "parametrized": (lambda: weight_norm(nn.LSTM(3, 4), "weight_hh_l0"), {}, "its weights are parametrized"),
    "shared": (sharing, {}, r"beside 0 \(LSTM\): 1.weight_hh_l0 is one of its weights"),
    "none": (lambda: nn.Sequential(nn.GRU(3, 4), nn.Linear(3, 3)), {}, r"\(this one has GRU, Linear\)"),
    "no match": (Translator, {"include": ["encoder.lst"]}, r"matches 'encoder.lst'; did you mean 'encoder.lstm'\?"),
    "names": (Translator, {"include": ["x"]}, r"\(there are: encoder.lstm, decoder, rnn\)"),
    "no match to leave out": (
        Translator,
        {"exclude": ["encoder.lst"]},
        r"hypernet.exclude: no recurrent layer matches 'encoder.lst'; did you mean 'encoder.lstm'\?",
    ),
    "none left": (Translator, {"exclude": ["*"]}, "leaves no recurrent layer"),
    "full": (Translator, {"form": "full"}, "use scaled"),
    "dropout": (lambda: nn.RNN(3, 4), {"recurrent_dropout": 0.1}, "must be 0"),
    "generate": (Translator, {"generate": "all"}, "takes no generate"),
    "option": (Translator, {"hyper_sizes": 3}, "did you mean 'hyper_size'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_have_a_hyper_cell_is_named(case: str):
    make, options, message = REFUSED[case]
    module = make()
    names = list(module.state_dict())
    with pytest.raises(UserError, match=message) as error:
        hypernetize(module, "dynamic", **options)
    assert "\n" not in str(error.value)
    assert list(module.state_dict()) == names  # as it was


def test_packed_results_can_be_read_by_torchs_functions():
    model = hypernetize(nn.LSTM(3, 4, bidirectional=True), "dynamic", hyper_size=3)
    packed = pack_padded_sequence(torch.randn(5, 3, 3), torch.tensor([2, 5, 4]), enforce_sorted=False)
    out, lengths = pad_packed_sequence(model(packed)[0])
    assert out.shape == (5, 3, 8) and lengths.tolist() == [2, 5, 4] and out[2:, 0].eq(0).all()
