"""The translation network: equality with a literal reference, padding, one step after the other, counts, attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperrun.errors import UserError
from hyperrun.hypernets import count_parameters, with_hypernet
from hyperrun.hypernets.hyper_layers import HyperLSTMLayer
from hyperrun.inputs import SentencePairs, few_rows
from hyperrun.targets import attention, build_target
from hyperrun.targets.attention import AdditiveScores, Attention
from hyperrun.targets.seq2seq import Seq2Seq, Seq2SeqTarget, reverse_within
from tests.hypernets.test_dynamic import randomize, settings

SOURCE = torch.tensor([[5, 6, 7, 2], [4, 2, 0, 0], [9, 8, 2, 0]])
SOURCE_LENGTHS = torch.tensor([4, 2, 3])
TARGET = torch.tensor([[1, 4, 0, 0, 0], [1, 6, 5, 4, 6], [1, 0, 0, 0, 0]])
TARGET_LENGTHS = torch.tensor([2, 5, 1])
BATCH = (SOURCE, SOURCE_LENGTHS, TARGET, TARGET_LENGTHS)


@pytest.fixture(autouse=True)
def eager_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERRUN_COMPILE_PHASES", "0")


def config(**keys: Any) -> Seq2SeqTarget:
    values: dict[str, Any] = {
        "kind": "seq2seq",
        "cell": "lstm",
        "hidden_size": 6,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "embedding": 5,
        "attention_size": 4,
        "context": "above",
        "tied": False,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "forget_bias": 1.0,
    }
    return Seq2SeqTarget(**{**values, **keys})


def network(source: int = 10, target: int = 7, shared: bool = False, **keys: Any) -> Seq2Seq:
    torch.manual_seed(0)
    made = build_target(config(**keys), SentencePairs(source, target, shared))
    assert isinstance(made, Seq2Seq)
    randomize(made.double())
    return made


SHAPES: dict[str, dict[str, Any]] = {
    "1+1 above": {},
    "1+1 all": {"context": "all"},
    "4+4 above": {"encoder_layers": 4, "decoder_layers": 4},
    "4+3 all, layer norm": {"encoder_layers": 4, "decoder_layers": 3, "context": "all", "cell": "lnlstm"},
}


def hyper(made: Seq2Seq, **keys: Any) -> nn.Module:
    model = with_hypernet(settings(**keys), made)
    randomize(model.double())
    return model


# ---------------------------------------------------------------- a literal reference


def run(layer: Any, x: list[Tensor]) -> list[Tensor]:
    """Return a layer's outputs for one sequence, a step at a time."""
    state, found = layer.zero_state(x[0][None, None]), []
    for one in x:
        state = layer.step(one[None] @ layer.w_x, state, None)
        found.append(state[0][0])
    return found


def attend(a: Attention, query: Tensor, values: list[Tensor]) -> Tensor:
    scores = [a.v @ torch.tanh(a.query.weight @ query + a.query.bias + a.key.weight @ m) for m in values]
    weights = torch.softmax(torch.stack(scores), 0)
    return sum((w * m for w, m in zip(weights, values, strict=True)), torch.zeros_like(values[0]))


def literal(net: Seq2Seq, source: list[int], target: list[int]) -> Tensor:
    """Return the logits of one pair [T, vocabulary], with Python's loops."""
    x = [net.source_embedding.weight[i] for i in source]
    first: Any = net.encoder.layers[0]
    there, back = run(first.left_to_right, x), run(first.right_to_left, x[::-1])[::-1]
    x = [torch.cat(both) for both in zip(there, back, strict=True)]
    for n, layer in enumerate(list(net.encoder.layers)[1:], start=1):
        out = run(layer, x)
        x = [a + b for a, b in zip(out, x, strict=True)] if n >= 2 else out
    memory, decoder = x, net.decoder
    embedded = [net.target_embedding.weight[i] for i in target]
    bottom: Any = decoder.layers[0]
    below, contexts = [], []
    if decoder.step_by_step:
        state, context = bottom.zero_state(embedded[0][None, None]), torch.zeros_like(memory[0])
        for one in embedded:
            state = bottom.step(torch.cat([one, context])[None] @ bottom.w_x, state, None)
            context = attend(decoder.attention, state[0][0], memory)
            below.append(state[0][0])
            contexts.append(context)
    else:
        below = run(bottom, embedded)
        contexts = [attend(decoder.attention, one, memory) for one in below]
    for n, layer in enumerate(list(decoder.layers)[1:], start=1):
        out = run(layer, [torch.cat(both) for both in zip(below, contexts, strict=True)])
        below = [a + b for a, b in zip(out, below, strict=True)] if n >= 2 else out
    if decoder.combine is not None:
        below = [torch.tanh(decoder.combine(torch.cat(both))) for both in zip(below, contexts, strict=True)]
    return torch.stack([net.output(one) for one in below])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_padded_batch_equals_a_literal_reference_sentence_by_sentence(shape: str) -> None:
    net = network(**SHAPES[shape])
    logits = net(*BATCH)
    parameters = list(net.parameters())
    directions = [torch.randn(int(n), 7, dtype=torch.double) for n in TARGET_LENGTHS]
    pairs = zip(*(part.unbind() for part in BATCH), strict=True)
    expected = [literal(net, source[:s].tolist(), target[:t].tolist()) for source, s, target, t in pairs]
    for found, wanted in zip(logits, expected, strict=True):
        torch.testing.assert_close(found[: len(wanted)], wanted)
    cut = [row[: len(d)] for row, d in zip(logits, directions, strict=True)]
    ours = torch.autograd.grad(cut, parameters, directions)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, parameters, directions))


@pytest.mark.parametrize("fast", ["auto", "never"])
@pytest.mark.parametrize("shape", SHAPES)
def test_with_hyper_cells_a_padded_batch_equals_its_sentences_alone(shape: str, fast: str) -> None:
    model = hyper(network(**SHAPES[shape]), fast=fast)
    logits = model(*BATCH)
    for row, (source, s, target, t) in enumerate(zip(*(part.unbind() for part in BATCH), strict=True)):
        alone = model(source[None, :s], s[None], target[None, :t], t[None])
        torch.testing.assert_close(logits[row, :t], alone[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fast_form_has_the_gradient_of_single_steps(shape: str) -> None:
    fast = hyper(network(**SHAPES[shape]), fast="auto")
    slow = hyper(network(**SHAPES[shape]), fast="never")
    slow.load_state_dict(fast.state_dict())
    there = torch.arange(5) < TARGET_LENGTHS[:, None]
    gradients = [torch.autograd.grad(m(*BATCH)[there].square().sum(), list(m.parameters())) for m in (fast, slow)]
    torch.testing.assert_close(*gradients)


def test_places_choose_among_the_logits() -> None:
    net = network()
    places = torch.tensor([0, 1, 5, 14])
    torch.testing.assert_close(net(*BATCH, places), net(*BATCH).flatten(0, 1)[places])


# ---------------------------------------------------------------- one step after the other


@pytest.mark.parametrize("with_hyper", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_decoding_step_by_step_equals_all_at_once(shape: str, with_hyper: bool) -> None:
    net = network(**SHAPES[shape])
    if with_hyper:
        hyper(net)
    memory, state = net.encode(SOURCE, SOURCE_LENGTHS), None
    wanted, parts = net(*BATCH), []
    for tokens in TARGET.split(2, 1):
        logits, state, weights = net.decode(tokens, memory, state)
        parts.append(logits)
        assert weights.shape == (3, tokens.shape[1], 4)
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert weights[1, :, 2:].eq(0).all() and weights[2, :, 3:].eq(0).all()
    found = torch.cat(parts, 1)
    for row, length in enumerate(TARGET_LENGTHS):
        torch.testing.assert_close(found[row, :length], wanted[row, :length])


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_the_same_source_share_its_memory(shape: str) -> None:
    net = network(**SHAPES[shape])
    tokens = torch.tensor([[1, 4], [1, 5], [1, 6], [4, 4], [2, 1], [0, 3]])
    memory = net.encode(SOURCE, SOURCE_LENGTHS)
    logits, state, _ = net.decode(tokens, memory)
    twice = net.encode(SOURCE.repeat_interleave(2, 0), SOURCE_LENGTHS.repeat_interleave(2))
    alone, last, _ = net.decode(tokens, twice)
    torch.testing.assert_close(logits, alone)
    picked = torch.tensor([4, 1, 1])
    again, _, _ = net.decode(tokens[picked], memory.select(picked // 2), state.select(picked))
    torch.testing.assert_close(again, net.decode(tokens, twice, last)[0][picked])


def test_a_source_of_no_piece_is_finite() -> None:
    net = network(context="all")
    logits = net(SOURCE, torch.tensor([4, 0, 3]), TARGET, TARGET_LENGTHS)
    logits.sum().backward()
    assert logits.isfinite().all() and all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_sequences_are_reversed_within_their_length() -> None:
    x = torch.arange(12.0).view(4, 3)
    assert reverse_within(x, torch.tensor([4, 2, 0])).T.tolist() == [[9, 6, 3, 0], [4, 1, 7, 10], [2, 5, 8, 11]]


# ---------------------------------------------------------------- what there is


def test_the_counts_of_gnmt() -> None:
    """8 + 8 layers of 1024 units, 32,000 pieces for each language, the context to every decoder layer."""
    h, v = 1024, 32_000
    lstm = {inputs: 4 * h * (inputs + h + 1) for inputs in (h, 2 * h)}
    encoder = 2 * lstm[h] + lstm[2 * h] + 6 * lstm[h]  # both directions, the layer that reads both, six more
    decoder = 8 * lstm[2 * h]  # each reads what is below it and the context
    attention_part = h * h + h + h * h + h  # query with bias, key, v
    wanted = 2 * v * h + encoder + decoder + attention_part + v * h + v
    assert wanted == 280_859_904
    shape = {"hidden_size": h, "encoder_layers": 8, "decoder_layers": 8, "embedding": None, "attention_size": None}
    with torch.device("meta"):
        net = build_target(config(**shape, context="all"), SentencePairs(v, v, False))
        assert count_parameters(net).trainable == wanted
        above = build_target(config(**shape), SentencePairs(v, v, False))
        assert wanted - count_parameters(above).trainable == lstm[2 * h] - lstm[h]
        hyper_cells = with_hypernet(settings(hyper_size=128, z_dim=32), net)
    # beside each of the 17 LSTMs: a cell that reads h and x, embeddings of 8 with and 4 without a bias, 12 scalings
    n, z = 128, 32
    added = sum(4 * n * (h + inputs + n + 1) + 12 * n * z + 8 * z + 12 * z * h for inputs in [h] * 8 + [2 * h] * 9)
    assert count_parameters(hyper_cells).trainable == wanted + added == 312_051_712


def test_one_vocabulary_is_one_embedding_and_tying_makes_it_the_output_layer_too() -> None:
    net = network(7, 7, shared=True, embedding=None, tied=True)
    assert net.source_embedding is net.target_embedding and net.output.weight is net.target_embedding.weight
    apart = network(7, 7, embedding=None, tied=True)
    assert apart.source_embedding is not apart.target_embedding
    assert count_parameters(apart).trainable - count_parameters(net).trainable == 7 * 6


def test_every_recurrent_layer_can_have_a_hyper_cell_and_be_chosen_by_name() -> None:
    def names(model: nn.Module) -> list[str]:
        return [name.removeprefix("target.") for name, m in model.named_modules() if isinstance(m, HyperLSTMLayer)]

    both = ["encoder.layers.0.left_to_right", "encoder.layers.0.right_to_left"]
    shape: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2}
    assert names(hyper(network(**shape))) == [*both, "encoder.layers.1", "decoder.layers.0", "decoder.layers.1"]
    assert names(hyper(network(**shape), exclude=["decoder.*"])) == [*both, "encoder.layers.1"]
    assert names(hyper(network(**shape), include=["*_to_left"])) == [both[1]]


def test_dropout_is_at_work_in_training_alone() -> None:
    net = network(dropout=0.5, encoder_layers=3, decoder_layers=3)
    assert not torch.equal(net(*BATCH), net(*BATCH))
    torch.testing.assert_close(net.eval()(*BATCH), network(encoder_layers=3, decoder_layers=3)(*BATCH))


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="tied needs embedding = hidden_size = 6, not 5"):
        config(tied=True)
    with pytest.raises(UserError, match=r"target\.context"):
        config(context="below")
    with pytest.raises(UserError, match=r"target\.cell"):
        config(cell="rnn")
    with pytest.raises(ValueError, match="decoder_layers"):
        config(decoder_layers=0)


# ---------------------------------------------------------------- attention


@pytest.fixture(params=["one query at a time", "all queries at once"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(attention.CHUNK_BYTES, "cpu", 1 if request.param.startswith("one") else 2**20)
    yield


@pytest.mark.usefixtures("chunks")
def test_scores_and_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(*shape, dtype=torch.double, requires_grad=True) for shape in ((2, 5, 4), (2, 3, 4), (4,)))
    wanted = torch.tanh(q[:, :, None] + k[:, None]) @ v
    found: Any = AdditiveScores.apply(q, k, v)
    torch.testing.assert_close(found, wanted)
    direction = torch.randn_like(wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found, (q, k, v), direction), torch.autograd.grad(wanted, (q, k, v), direction)
    )


def test_numbers_of_rows_are_few() -> None:
    assert [few_rows(n) for n in (1, 2, 3, 4, 5, 100, 127, 128)] == [1, 2, 2, 4, 4, 64, 64, 128]
    assert [few_rows(n, up=True) for n in (1, 2, 3, 4, 5, 100, 128, 129)] == [1, 2, 4, 4, 8, 128, 128, 256]


def test_float32_queries_attend_to_keys_of_bfloat16():
    """Encoded under autocast and asked without it; the sum within the tanh is float32, as any sum of the two is."""
    keys = torch.randn(2, 5, 8, dtype=torch.bfloat16, requires_grad=True)
    queries, v = torch.randn(2, 3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    scores: Any = AdditiveScores.apply(queries, keys, v)
    wanted = (queries[:, :, None] + keys[:, None]).tanh() @ v
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, wanted)
    given = torch.randn_like(wanted)
    found, expected = (torch.autograd.grad(out, (queries, keys, v), given) for out in (scores, wanted))
    torch.testing.assert_close(found, expected)
