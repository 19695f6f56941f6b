"""HyperLSTM as a library, and torch's layers with hyper cells: called as torch.nn.LSTM is, in every form it takes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import hyperrun
from hyperrun.errors import UserError
from hyperrun.hypernets.build import hypernet_config
from hyperrun.hypernets.carried_state import CarriedState, plain
from hyperrun.hypernets.recurrent_stack import RecurrentStack, stack_beside
from tests.hypernets.test_dynamic import randomize

FORMS = [
    {},
    {"num_layers": 2, "batch_first": True},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "bidirectional": True},
]


@pytest.fixture(autouse=True)
def eager_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")


def hyper_lstm(**keys: Any) -> hyperrun.HyperLSTM:
    torch.manual_seed(0)
    made = hyperrun.HyperLSTM(3, 4, **{"hyper_size": 5, "z_dim": 2, "dtype": torch.double, **keys})
    randomize(made, 0.2)
    return made


def with_scales_of_one(stack: RecurrentStack) -> RecurrentStack:
    """Make all scaling vectors 1, whatever the hyper cells do: z_h = z_x = 1 and W_d = 1 / Nz, d_b = 0."""
    for layer in stack.layers:
        hypernet: Any = layer.hypernet
        nn.init.zeros_(hypernet.embed.w_z)
        nn.init.constant_(hypernet.w_d, 1 / hypernet.embed.z_dim)
    return stack


def torch_and_ours(kind: type[nn.LSTM] | type[nn.RNN], **keys: Any) -> tuple[Any, RecurrentStack]:
    torch.manual_seed(0)
    theirs = kind(3, 4, **keys).double()
    options = hypernet_config("dynamic", hyper_size=5, z_dim=2)
    return theirs, with_scales_of_one(stack_beside(theirs, options))


def same(found: Any, expected: Any) -> None:
    """Compare outputs (packed or not) and states, CarriedStates as the tensors that they are."""
    (out, last), (theirs, their_last) = found, expected
    if isinstance(theirs, PackedSequence):
        torch.testing.assert_close(out.data, theirs.data)
        for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
            ours, other = getattr(out, name), getattr(theirs, name)
            assert ours is other is None or torch.equal(ours, other), name
    else:
        torch.testing.assert_close(out, theirs)
    assert isinstance(last, Tensor) == isinstance(their_last, Tensor)
    pairs = [(last, their_last)] if isinstance(last, Tensor) else zip(last, their_last, strict=True)
    for state, other in pairs:
        torch.testing.assert_close(state.as_subclass(Tensor), other)


# ---------------------------------------------------------------- torch's interface


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.RNN])
def test_with_scales_of_one_it_is_torchs_layer_in_every_form_of_a_call(kind: Any, form: dict[str, Any], bias: bool):
    theirs, ours = torch_and_ours(kind, bias=bias, **form)
    x = torch.randn(6, 5, 3, dtype=torch.double)
    places = form.get("num_layers", 1) * (2 if form.get("bidirectional") else 1)
    batch = 6 if form.get("batch_first") else 5
    parts = torch.randn(2, places, batch, 4, dtype=torch.double)
    state = tuple(parts) if kind is nn.LSTM else parts[0]
    same(ours(x), theirs(x))
    same(ours(x, state), theirs(x, state))
    alone = tuple(p[:, 1] for p in parts) if kind is nn.LSTM else parts[0][:, 1]
    same(ours(x[0], alone), theirs(x[0], alone))
    lengths = torch.tensor([2, 5, 1, 5, 4, 3][:batch])
    for order in (False, True):
        lengths = lengths.sort(descending=True).values if order else lengths
        packed = pack_padded_sequence(x, lengths, form.get("batch_first", False), enforce_sorted=order)
        same(ours(packed, state), theirs(packed, state))
        same(ours(packed), theirs(packed))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_lengths_packed_sequences_and_sequences_alone_give_the_same(form: dict[str, Any]):
    model = hyper_lstm(layer_norm=True, **form)
    first = form.get("batch_first", False)
    x, lengths = torch.randn(7, 4, 3, dtype=torch.double), torch.tensor([3, 7, 1, 5])
    given = x.transpose(0, 1) if first else x
    output, last = model(given, lengths=lengths)
    packed, packed_last = model(pack_padded_sequence(given, lengths, first, enforce_sorted=False))
    torch.testing.assert_close(pad_packed_sequence(packed, first)[0], output)
    for state, other in zip(last, packed_last, strict=True):
        torch.testing.assert_close((state.as_subclass(Tensor), state.hyper), (other.as_subclass(Tensor), other.hyper))
    for n, length in enumerate(lengths.tolist()):
        alone, (h, _) = model(x[:length, n])  # unbatched
        torch.testing.assert_close(alone, output[n, :length] if first else output[:length, n])
        torch.testing.assert_close(h.as_subclass(Tensor), last[0].as_subclass(Tensor)[:, n])
    whole = torch.autograd.grad(output.sum() + last[1].sum(), list(model.parameters()))
    parts = [model(x[:length, n : n + 1].transpose(0, 1) if first else x[:length, n : n + 1]) for n, length in
             enumerate(lengths.tolist())]  # fmt: skip
    total = sum(out.sum() + c.sum() for out, (_, c) in parts)
    torch.testing.assert_close(whole, torch.autograd.grad(total, list(model.parameters())))


def test_dropout_acts_between_layers_and_in_training_only():
    model = hyper_lstm(num_layers=2, dropout=0.5)
    x = torch.randn(6, 5, 3, dtype=torch.double)
    assert not torch.equal(model(x)[0], model(x)[0])
    one = hyper_lstm(dropout=0.5)
    assert torch.equal(one(x)[0], one(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])


def test_what_torch_refuses_is_refused():
    model = hyper_lstm(num_layers=2)
    x = torch.randn(6, 5, 3, dtype=torch.double)
    with pytest.raises(RuntimeError, match=r"shape \[2, 5, 4\], not \[1, 5, 4\]"):
        model(x, (x.new_zeros(1, 5, 4),) * 2)
    with pytest.raises(ValueError, match="its own lengths"):
        model(pack_padded_sequence(x, torch.tensor([6, 5, 4, 3, 2])), lengths=torch.tensor([1] * 5))
    with pytest.raises(RuntimeError, match="hyper cell has 5 units, not 6"):
        hyper_lstm(num_layers=2, hyper_size=6)(x, model(x)[1])
    with pytest.raises(ValueError, match="hidden_size must be at least 1"):
        hyperrun.HyperLSTM(3, 0)
    with pytest.raises(ValueError, match="dropout must lie"):
        hyperrun.HyperLSTM(3, 4, dropout=1.0)
    with pytest.raises(UserError, match="z_from"):
        hyperrun.HyperLSTM(3, 4, z_from="other")


Z = torch.zeros
WRONG = {
    "4 dimensions": lambda m, x: m(x[None]),
    "1 dimension": lambda m, x: m(x[0, 0]),
    "last size": lambda m, x: m(x[..., :2]),
    "no step": lambda m, x: m(x[:0]),
    "no step, unbatched": lambda m, x: m(x[:0, 0]),
    "one state": lambda m, x: m(x, (Z(2, 5, 4),)),
    "three states": lambda m, x: m(x, (Z(2, 5, 4),) * 3),
    "a tensor": lambda m, x: m(x, Z(2, 5, 4)),
    "no tensors": lambda m, x: m(x, (None, None)),
    "states without a batch": lambda m, x: m(x, (Z(2, 4),) * 2),
    "states with a batch": lambda m, x: m(x[:, 0], (Z(2, 1, 4),) * 2),
    "float64": lambda m, x: m(x.double()),
    "whole numbers": lambda m, x: m(x.long()),
    "states of float64": lambda m, x: m(x, (Z(2, 5, 4).double(),) * 2),
    "one state of float64": lambda m, x: m(x, (Z(2, 5, 4), Z(2, 5, 4).double())),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_inputs_that_torch_refuses_are_refused_in_both_forms(wrong: str):
    x = torch.randn(6, 5, 3)
    with pytest.raises((ValueError, RuntimeError, IndexError, AttributeError)):
        WRONG[wrong](nn.LSTM(3, 4, 2), x)
    said = []
    for fast in ("auto", "never"):
        with pytest.raises((ValueError, RuntimeError), match="input|state|h_0") as refusal:
            WRONG[wrong](hyper_lstm(num_layers=2, dtype=torch.float32, fast=fast), x)
        said.append(str(refusal.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("fast", ["auto", "never"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_autocast_casts_no_float64_and_no_whole_numbers(fast: str, dtype: torch.dtype):
    model = hyper_lstm(dtype=torch.float32, fast=fast)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.ones(6, 5, 3, dtype=torch.float16))[0].isfinite().all()
        with pytest.raises(ValueError, match="the input is torch"):
            model(torch.ones(6, 5, 3, dtype=dtype))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.RNN])
@pytest.mark.parametrize("fast", ["auto", "never"])
def test_an_empty_batch_is_taken_as_torch_takes_it(kind: Any, fast: str):
    theirs = kind(3, 4, 2, bidirectional=True)
    ours = stack_beside(kind(3, 4, 2, bidirectional=True), hypernet_config("dynamic", fast=fast))
    x = Z(6, 0, 3)
    for lengths in (None, [], torch.zeros(0, dtype=torch.int64)):
        output, last = ours(x, lengths=lengths)
        same((output, last), theirs(x))
        output.sum().backward()
    same(ours(x, theirs(x)[1]), theirs(x))


def test_lengths_may_be_a_list():
    model, x = hyper_lstm(), torch.randn(6, 3, 3, dtype=torch.double)
    assert torch.equal(model(x, lengths=[2, 6, 0])[0], model(x, lengths=torch.tensor([2, 6, 0]))[0])
    with pytest.raises(ValueError, match="whole numbers"):
        model(x, lengths=[2.0, 6.0, 0.0])


class TwoPieces(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.model(x[:2])
        return self.model(x[2:], state)[0]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's jvp loads it
def test_transforms_of_torch_func_take_the_single_steps():
    model = hyper_lstm(num_layers=2)
    x, v = torch.randn(2, 3, 5, 2, 3, dtype=torch.double)
    pieces = TwoPieces(model)
    torch.testing.assert_close(torch.func.vmap(pieces)(x), torch.stack([model(part)[0][2:] for part in x]))
    eps = 1e-6
    numeric = (pieces(x[0] + eps * v[0]) - pieces(x[0] - eps * v[0])) / (2 * eps)
    torch.testing.assert_close(torch.func.jvp(pieces, (x[0],), (v[0],))[1], numeric, rtol=1e-5, atol=1e-8)
    leaf = x[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(pieces(leaf).sum(), leaf)
    torch.testing.assert_close(torch.func.grad(lambda x: pieces(x).sum())(x[0]), expected)


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_computes_the_same_and_carries_the_hyper_cells_state(strict: bool):
    pieces = TwoPieces(hyper_lstm())
    x = torch.randn(2, 4, 2, 3, dtype=torch.double)
    program = torch.export.export(pieces, (x[0],), strict=strict)
    torch.testing.assert_close(program.module()(x[1]), pieces(x[1]))


@pytest.mark.parametrize("power", [1, 2])
def test_gradients_of_gradients_need_the_single_steps(power: int):
    def penalized(fast: str) -> Tensor:
        x = torch.ones(4, 2, 3, dtype=torch.double, requires_grad=True)
        output = hyper_lstm(fast=fast)(x)[0]
        (slope,) = torch.autograd.grad((output**power).sum(), x, create_graph=True)
        return torch.autograd.grad(output.sum() + slope.square().sum(), x)[0]

    assert penalized("never").abs().sum() > 0
    with pytest.raises(RuntimeError, match="gradients of gradients need .*fast='never'"):
        penalized("auto")


def test_settings_and_parameters_are_those_of_the_equations():
    defaults: Any = hyperrun.HyperLSTM(3, 4).layers[0]
    cfg = hypernet_config("dynamic")
    assert defaults.hypernet.cell.units == cfg.hyper_size and defaults.hypernet.embed.z_dim == cfg.z_dim
    model = hyperrun.HyperLSTM(
        3, 4, 2, hyper_size=5, z_dim=2, layer_norm=True, recurrent_dropout=0.1, forget_bias=0.5, bidirectional=True,
        hyper_recurrent_dropout=0.2, hyper_forget_bias=2.0, z_from="previous", fast="never", dtype=torch.double,
    )  # fmt: skip
    layer: Any = model.layers[3]
    assert (layer.dropout, layer.forget_bias, layer.z_from, layer.fast) == (0.1, 0.5, "previous", False)
    assert (layer.hypernet.cell.dropout, layer.hypernet.cell.forget_bias) == (0.2, 2.0)
    assert layer.w_x.shape == (8, 16) and layer.w_x.dtype == torch.double and layer.norm is not None
    assert str(model).startswith("HyperLSTM(\n  3, 4, num_layers=2, bidirectional=True")
    one = hyperrun.HyperLSTM(10, 20, hyper_size=8, z_dim=2)
    main, cell, embed, scale = 4 * 20 * (10 + 20 + 1), 4 * 8 * (30 + 8 + 1), 8 * 12 * 2 + 8 * 2, 12 * 2 * 20
    assert sum(p.numel() for p in one.parameters()) == main + cell + embed + scale


def test_bf16_autocast_and_copies():
    torch.manual_seed(0)
    model = hyperrun.HyperLSTM(3, 16, 2, bidirectional=True, layer_norm=True)
    x, lengths = torch.randn(9, 3, 3), torch.tensor([4, 9, 2])
    exact, (h, _) = model(x, lengths=lengths)
    with torch.autocast("cpu", torch.bfloat16):
        rough, (rough_h, _) = model(x, lengths=lengths)
    assert rough.dtype == torch.bfloat16 and rough_h.dtype == torch.float32
    assert (rough.float() - exact).norm() < 0.03 * exact.norm() and (rough_h - h).norm() < 0.03 * h.norm()
    rough.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(x, lengths=lengths)[0], exact)
    fresh = hyperrun.HyperLSTM(3, 16, 2, bidirectional=True, layer_norm=True)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(x, lengths=lengths)[0], exact)


# ---------------------------------------------------------------- the state that is carried


@pytest.mark.parametrize("form", [f for f in FORMS if not f.get("bidirectional")], ids=str)
def test_a_sequence_in_pieces_equals_one_in_one(form: dict[str, Any]):
    model = hyper_lstm(layer_norm=True, **form)
    x = torch.randn(7, 11, 3, dtype=torch.double)
    steps = 1 if form.get("batch_first") else 0
    whole, last = model(x)
    for repackage in (lambda s: s, lambda s: tuple(v.detach() for v in s), lambda s: (s[0].clone(), s[1].data)):
        state, parts = None, []
        for piece in x.split(3, steps):
            out, state = model(piece, state and repackage(state))
            parts.append(out)
        torch.testing.assert_close(torch.cat(parts, steps), whole)
        assert state is not None
        for found, expected in zip(state, last, strict=True):
            torch.testing.assert_close(found.hyper, expected.hyper)
    h, c = model(x.narrow(steps, 0, 3))[1]  # plain tensors: the hyper cell begins anew
    anew, _ = model(x.narrow(steps, 3, 3), (h.as_subclass(Tensor), c.as_subclass(Tensor)))
    assert (anew - whole.narrow(steps, 3, 3)).abs().max() > 1e-3


def test_a_padded_batch_goes_on_where_each_sequence_ended():
    model = hyper_lstm(num_layers=2)
    x = torch.randn(8, 3, 3, dtype=torch.double)
    lengths = torch.tensor([2, 5, 3])
    _, state = model(x, lengths=lengths)
    out, _ = model(x[:2], state)
    for n, length in enumerate(lengths.tolist()):
        expected, _ = model(torch.cat([x[:length, n], x[:2, n]]))
        torch.testing.assert_close(out[:, n], expected[-2:])


def carried() -> CarriedState:
    _, (h, _) = hyper_lstm(num_layers=2)(torch.randn(4, 3, 3, dtype=torch.double))
    return h


OPERATIONS = {
    "detach": lambda h: h.detach(),
    "data": lambda h: h.data,
    "to": lambda h: h.to(torch.float32),
    "float": lambda h: h.float(),
    "one layer": lambda h: h[0],
    "slice of the batch": lambda h: h[:, 1:],
    "index_select": lambda h: h.index_select(1, torch.tensor([2, 2, 0])),
    "index of the batch": lambda h: h[:, torch.tensor([2, 0])],
    "chunk": lambda h: h.chunk(3, 1)[1],
    "unbind": lambda h: h.unbind(0)[1],
    "cat": lambda h: torch.cat([h, h], 1),
    "stack": lambda h: torch.stack([h[0], h[1]]),
    "reset of some": lambda h: h * torch.tensor([1.0, 0.0, 1.0])[:, None],
    "number": lambda h: 2 * h,
    "masked_fill": lambda h: h.masked_fill(torch.tensor([[True], [False], [True]]), 0.0),
    "where": lambda h: torch.where(torch.tensor([[True], [False], [True]]), h, torch.zeros_like(h)),
    "unsqueeze": lambda h: h.unsqueeze(0)[0],
    "last dimension in full": lambda h: h[:, 1:, :],
    "ellipsis": lambda h: h[0, ...],
    "mask of layers and batch": lambda h: h[torch.tensor([[True, False, True], [False, False, True]])],
    "list": lambda h: h[:, [2, 0]],
    "new dimension": lambda h: h[:, None],
    "split": lambda h: h.split([1, 2], dim=1)[1],
    "select": lambda h: h.select(-2, 1),
    "repeat_interleave": lambda h: h.repeat_interleave(2, dim=1),
    "mask first": lambda h: torch.tensor([[1.0], [0.0], [1.0]]) * h,
    "contiguous": lambda h: h.contiguous(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_done_to_a_state_is_done_to_the_hyper_cells_part(name: str):
    h = carried()
    found = OPERATIONS[name](h)
    assert isinstance(found, CarriedState) and found.hyper.shape[-1] == 5
    torch.testing.assert_close(found.as_subclass(Tensor), OPERATIONS[name](h.as_subclass(Tensor)))
    torch.testing.assert_close(found.hyper, OPERATIONS[name](h.hyper))


@pytest.mark.parametrize(
    "operation",
    [
        lambda h: h + 1,
        lambda h: nn.functional.linear(h, h.new_ones(4, 4)),
        lambda h: h[..., :2],
        lambda h: h.mean(),
        lambda h: h * torch.ones(4, dtype=torch.double),
        lambda h: torch.cat([h[0], h[1]], -1),
        lambda h: torch.cat([h, torch.zeros(2, 3, 4, dtype=torch.double)]),
        lambda h: h.sum(0),
        lambda h: h.split(2, -1)[1],
        lambda h: h.split([1, 3], 2)[0],
        lambda h: h.chunk(2, dim=-1)[0],
        lambda h: h.unbind(-1)[0],
        lambda h: h.roll(1, -1),
        lambda h: h.flip(-1),
        lambda h: h.index_select(-1, torch.tensor([3, 2, 1, 0])),
        lambda h: h[..., [3, 2, 1, 0]],
        lambda h: h[:, :, torch.tensor([3, 2, 1, 0])],
        lambda h: h[h == h],
        lambda h: h[0, 1, 2],
        lambda h: h.squeeze(),
        lambda h: h.repeat_interleave(2),
        lambda h: torch.stack([h, h], -1),
        lambda h: torch.cat([h, torch.zeros(2, 1, 4, dtype=torch.double)], 1),
        lambda h: torch.cat([h[:1, :, :1], torch.zeros(1, 3, 1, dtype=torch.double)], 1),
        lambda h: torch.zeros(2, 3, 4, dtype=torch.double).copy_(h),
    ],
)
def test_other_results_are_plain_tensors(operation: Any):
    h = carried()
    found = operation(h)
    assert type(found) is Tensor
    torch.testing.assert_close(found, operation(h.as_subclass(Tensor)))


def test_a_state_is_copied_and_pickled_as_a_whole():
    h = carried().detach()
    for other in (copy.deepcopy(h), pickle.loads(pickle.dumps(h))):
        assert isinstance(other, CarriedState) and other.data_ptr() != h.data_ptr()
        torch.testing.assert_close(other.hyper, h.hyper)
    leaf = h.requires_grad_()
    assert leaf is h and h.requires_grad and h.hyper.requires_grad


def reset_by_index(h: Any) -> None:
    h[:, 1] = 0


def reset_by_mask(h: Any) -> None:
    h[:, torch.tensor([False, True, False])] = 0.0


def reset_by_product(h: Any) -> None:
    h *= torch.tensor([[1.0], [0.0], [1.0]])


def set_to_another(h: Any) -> None:
    h[:, 1] = h[:, 1] * 0


RESETS = [
    reset_by_index,
    reset_by_mask,
    reset_by_product,
    set_to_another,
    lambda h: h.masked_fill_(torch.tensor([[False], [True], [False]]), 0),
    lambda h: h[:, 1].zero_(),
]


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("detached", [True, False])
def test_a_reset_in_place_resets_the_hyper_cells_part_too(reset: Any, detached: bool):
    h = carried()
    h = h.detach() if detached else h
    expected, hyper = h.detach().clone().as_subclass(Tensor), h.hyper.detach().clone()
    expected[:, 1], hyper[:, 1] = 0, 0
    reset(h)
    assert isinstance(h, CarriedState)
    torch.testing.assert_close(h.detach().as_subclass(Tensor), expected)
    torch.testing.assert_close(h.hyper.detach(), hyper)
    if not detached:
        h.sum().backward()


def unit_set(h: Any) -> None:
    h[..., 0] = 0


def some_set(h: Any) -> None:
    h[:, 0] = torch.ones(4, dtype=torch.double)


def added_to(h: Any) -> None:
    h += 1


CHANGES = [
    unit_set,
    some_set,
    added_to,
    lambda h: h.fill_(1),
    lambda h: h.add_(1),
    lambda h: h.copy_(torch.zeros(2, 3, 4)),
    lambda h: h.index_fill_(1, torch.tensor([0]), 0),
    lambda h: h.mul_(torch.ones(4)),
    lambda h: h.masked_fill_(torch.zeros(2, 3, 4, dtype=torch.bool), 0),
    lambda h: torch.add(h, 1, out=h),
    lambda h: nn.init.normal_(h),
    lambda h: nn.functional.relu(h, inplace=True),
]


@pytest.mark.parametrize("change", CHANGES)
def test_another_change_in_place_is_refused_and_changes_nothing(change: Any):
    h = carried().detach()
    before = copy.deepcopy(h)
    with pytest.raises(RuntimeError, match=r"would change a carried state in place.*h\[:, i\] = 0"):
        change(h)
    assert torch.equal(plain(h), plain(before)) and torch.equal(h.hyper, before.hyper)


def test_gradients_pass_through_a_carried_state():
    model = hyper_lstm()
    x = torch.randn(6, 2, 3, dtype=torch.double, requires_grad=True)
    whole = torch.autograd.grad(model(x)[0][3:].sum(), x)[0]
    _, state = model(x[:3])
    pieces = torch.autograd.grad(model(x[3:], tuple(s[:, :] for s in state))[0].sum(), x)[0]
    torch.testing.assert_close(pieces, whole)
