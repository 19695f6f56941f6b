from __future__ import annotations

import pytest
import torch

from hyperrun.data import vocabulary as module
from hyperrun.data.vocabulary import Vocabulary, number_bytes, number_characters, number_words
from hyperrun.errors import UserError

TEXT = "the cat\nsat on  the mat\n"


def test_characters_are_numbered_by_code_point_over_all_texts():
    vocabulary, (first, second) = number_characters(["banana", "cé€😀"])
    assert vocabulary.symbols == ["a", "b", "c", "n", "é", "€", "😀"]
    assert first.tolist() == [1, 0, 3, 0, 3, 0] and second.tolist() == [2, 4, 5, 6]
    assert first.dtype == second.dtype == torch.uint8
    assert vocabulary.decode(second) == "cé€😀" and torch.equal(vocabulary.encode("cé€😀"), second.long())


def test_words_are_numbered_by_frequency_then_alphabet():
    vocabulary, (ids, more) = number_words([TEXT, "zoo"])
    assert vocabulary.symbols == ["<eos>", "the", "cat", "mat", "on", "sat", "zoo"]
    assert ids.tolist() == [1, 2, 0, 5, 4, 1, 3, 0] and more.tolist() == [6]
    assert vocabulary.decode(ids) == "the cat\nsat on the mat\n"
    assert vocabulary.decode(vocabulary.encode("mat\n\nthe  cat")) == "mat\n\nthe cat"
    assert vocabulary.encode("cat <eos> sat").tolist() == vocabulary.encode("cat\nsat").tolist() == [2, 0, 5]


def test_bytes_are_numbered_by_value_over_all_contents():
    vocabulary, (first, empty, second) = number_bytes([b"\xffa\x00a", b"", "é".encode()], "utf-8")
    assert vocabulary.symbols == ["\x00", "a", "\xa9", "\xc3", "\xff"] and vocabulary.unit == "byte"
    assert first.tolist() == [4, 1, 0, 1] and empty.tolist() == [] and second.tolist() == [3, 2]
    assert first.dtype == torch.uint8
    assert vocabulary.encode("aé").tolist() == [1, 3, 2]
    assert vocabulary.decode([1, 3, 2]) == "aé" and vocabulary.decode([3, 1]) == "\ufffda"


def test_bytes_of_another_encoding():
    vocabulary, (ids,) = number_bytes(["naïf".encode("latin-1")], "latin-1")
    assert torch.equal(vocabulary.encode("naïf"), ids.long()) and vocabulary.decode(ids) == "naïf"
    with pytest.raises(UserError, match="^'€' cannot be written in latin-1, the text's encoding$"):
        vocabulary.encode("10 €")


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_numbering_in_chunks_changes_nothing(monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    vocabulary, (ids,) = number_characters(["abc€cba"])
    assert ids.tolist() == [0, 1, 2, 3, 2, 1, 0] and vocabulary.decode(ids) == "abc€cba"


@pytest.mark.parametrize(("size", "dtype"), [(256, torch.uint8), (257, torch.int16), (32769, torch.int32)])
def test_the_smallest_type_that_holds_all_numbers(size, dtype):
    text = "".join(chr(0x4E00 + i) if i < 20000 else chr(0x20000 + i) for i in range(size))
    vocabulary, (ids,) = number_characters([text])
    assert ids.dtype == dtype and ids.tolist() == list(range(size)) and len(vocabulary) == size
    assert number_words([" ".join(text)])[1][0].dtype == dtype


def test_nothing_at_all_is_an_empty_row():
    for number in (number_characters, number_words):
        vocabulary, (ids,) = number([""])
        assert len(ids) == len(vocabulary) == 0
    assert vocabulary.encode("").shape == (0,) and vocabulary.encode("").dtype == torch.int64


@pytest.mark.parametrize(
    ("vocabulary", "text", "message"),
    [
        (
            number_characters(["abc"])[0],
            "abd",
            "unknown char 'd': not among the 3 symbols of the text that was learned ",
        ),
        (number_characters(["abc"])[0], "a€\nd€", r"unknown chars '€', '\\n', 'd': not among"),
        (number_characters(["z"])[0], "abcdefghijk", "'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h' and 3 more: not"),
        (number_words(["a <unk>"])[0], "a dog", "unknown word 'dog': .*; <unk> stands for words it does not know"),
        (number_bytes([b"ab"], "utf-8")[0], "é", "unknown bytes 0xc3, 0xa9: not among"),
    ],
)
def test_unknown_symbols_are_named_in_one_line(vocabulary, text, message):
    with pytest.raises(UserError, match=message) as caught:
        vocabulary.encode(text)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_goes_through_a_checkpoint(tmp_path):
    for vocabulary in (
        number_characters(["né"])[0],
        number_words([TEXT])[0],
        number_bytes([b"\xe9"], "latin-1")[0],
    ):
        torch.save(vocabulary.state_dict(), tmp_path / "x.pt")
        again = Vocabulary.from_state_dict(torch.load(tmp_path / "x.pt", weights_only=True))
        assert again == vocabulary
        again.check_same(vocabulary, "x.pt", "data=text")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (number_characters(["abcd"])[0], "^x.pt has another vocabulary than data=text: 3 chars, not 4 chars$"),
        (number_words(["a b c"])[0], "3 chars, not 3 words"),
        (number_characters(["abd"])[0], "both have 3 chars, but number 2 is 'c', not 'd'"),
    ],
)
def test_another_vocabulary_is_refused(other, message):
    with pytest.raises(UserError, match=message):
        number_characters(["abc"])[0].check_same(other, "x.pt", "data=text")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (number_characters(["\ufeffabc"])[0], number_characters(["abc"])[0]),
        (number_words(["\ufeffthe end"])[0], number_words(["the end"])[0]),
        (number_bytes([b"\xef\xbb\xbfabc"], "utf-8")[0], number_bytes([b"abc"], "utf-8")[0]),
    ],
    ids=["char", "word", "byte"],
)
def test_a_run_from_before_byte_order_marks_were_left_out(old, new):
    """Its model has weights for the mark: the figures cannot be had again, and why is said."""
    with pytest.raises(UserError, match="learned from a text with a byte order mark, which an earlier version"):
        old.check_same(new, "the checkpoint", "data=text")
    with pytest.raises(UserError, match="has another vocabulary"):
        new.check_same(old, "the checkpoint", "data=text")
