"""Learning pieces from sentences (byte pair encoding), by sentencepiece in a process of its own.

Of its own, because sentencepiece says how far it is only on its stderr, answers no signal while it works, and would
leave the process that trains with the memory of millions of sentences.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO

from hyperrun.data.kinds import PairData
from hyperrun.data.pairs.lines import Texts
from hyperrun.data.pairs.pieces import BOS, EOS, PAD, UNK, UNKNOWN, normalized
from hyperrun.data.pairs.progress import Counted
from hyperrun.errors import UserError, printable

MOST_SENTENCES = 1_000_000
"""Of each language: of more, every k-th is taken."""
LONGEST_LINE = 4192
"""Bytes of UTF-8: longer lines are not among those that pieces are learned from."""
COVERAGE = 0.9999
"""With byte_fallback, part of the text's characters that have a piece of their own; others are written as bytes."""

LEARN = """
import json, sys
from sentencepiece import SentencePieceTrainer
sentences = (line[:-1] for line in open(0, encoding="utf-8", newline="\\n"))
try:
    SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=sys.stdout.buffer, **json.loads(sys.argv[1]))
except RuntimeError as error:
    sys.exit(f"failed: {error}")
"""


def learned(texts: list[Texts], cfg: PairData, where: str, progress: Counted) -> bytes:
    """Return a model of cfg.pieces pieces, as sentencepiece writes it, learned from several lists of sentences.

    The same sentences and settings give the same pieces. where: how errors name the text.

    Raises:
        UserError: the text yields fewer pieces, has more characters than there are pieces, or cannot be read.
    """
    settings = {
        "model_type": "bpe",
        "vocab_size": cfg.pieces,
        "character_coverage": COVERAGE if cfg.byte_fallback else 1.0,
        "byte_fallback": cfg.byte_fallback,
        "max_sentence_length": LONGEST_LINE,
        "normalization_rule_name": "identity",  # `normalized` has done it
        "pad_id": PAD,
        "bos_id": BOS,
        "eos_id": EOS,
        "unk_id": UNK,
        "unk_surface": UNKNOWN,
        "num_threads": 1,  # whatever the machine, the same pieces
    }
    command = [sys.executable, "-c", LEARN, json.dumps(settings)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        said: deque[str] = deque(maxlen=20)
        listener = threading.Thread(target=listen, args=(process.stderr, said, progress, cfg.pieces))
        listener.start()
        try:
            feed(process.stdin, texts, cfg.normalization, progress)
            model = process.stdout.read()
        except BaseException:
            process.kill()
            raise
        finally:
            listener.join()
    if process.returncode:
        raise UserError(refusal("\n".join(said), cfg, where))
    return model


def feed(stream: IO[bytes], texts: list[Texts], form: str, progress: Counted) -> None:
    """Hand the sentences to sentencepiece, normalized, without empty ones."""
    steps = [-(-len(some) // MOST_SENTENCES) for some in texts]
    total, done = sum(-(-len(some) // step) for some, step in zip(texts, steps, strict=True)), 0
    try:
        with stream:
            for some, step in zip(texts, steps, strict=True):
                for chunk in chunks(islice(some, 0, None, step)):
                    lines = [line for text in chunk if (line := normalized(text, form))]
                    stream.write("".join(f"{line}\n" for line in lines).encode())
                    done += len(chunk)
                    progress("reading sentences to learn pieces from", done, total)
    except BrokenPipeError:  # it has ended, and said why
        pass


def listen(stream: IO[bytes], said: deque[str], progress: Counted, pieces: int) -> None:
    """Keep the last lines of what sentencepiece says; some of them tell how many pieces it has."""
    for line in stream:
        text = line.decode(errors="replace").rstrip()
        said.append(text)
        if found := re.search(r"\bsize=(\d+)", text):
            progress("learning pieces", min(int(found[1]), pieces), pieces)


def refusal(said: str, cfg: PairData, where: str) -> str:
    """Return what to tell the user where sentencepiece has failed."""
    if found := re.search(r"set it to a value <= (\d+)", said):
        return f"data.pieces={cfg.pieces}: {where} yields {int(found[1]):,} pieces at most; lower data.pieces"
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", said):
        return (
            f"data.pieces={cfg.pieces}: with the characters of {where} alone there are {int(found[1]):,}; raise "
            "data.pieces"
        )
    why = said.rpartition("failed: ")[2].strip().splitlines()
    return f"cannot learn pieces from {where}: {printable(why[-1]) if why else 'sentencepiece was killed'}"


def chunks(texts: Iterable[str], size: int = 10_000) -> Iterator[list[str]]:
    """Yield lists of `size` sentences; the last may be shorter."""
    rest = iter(texts)
    while chunk := list(islice(rest, size)):
        yield chunk
