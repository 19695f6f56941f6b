"""Sentences in files, one a line, however they are packed; and some of the lines of a file."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import html
import json
import lzma
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import IO, Any

import numpy as np

from hyperrun.data.sources import unreadable
from hyperrun.errors import UserError

CHUNK = 1 << 20
REMEMBERED_FROM = 1 << 25
"""Bytes: the checksum of a larger file is kept, so that a run of 36 million pairs does not begin with reading them."""


class Texts(ABC):
    """Sentences that can be gone through again and again."""

    @cached_property
    def digest(self) -> str:
        """Hexadecimal; differs where the sentences do."""
        return self._digest()

    @abstractmethod
    def _digest(self) -> str: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[str]: ...


class ListedTexts(Texts):
    """Sentences in memory."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def _digest(self) -> str:
        return hashlib.sha256("\n".join(self.texts).encode("utf-8", "surrogatepass")).hexdigest()

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)


class SomeTexts(Texts):
    """Some of the sentences, in their order."""

    def __init__(self, texts: Texts, which: np.ndarray) -> None:
        """which: bool [N], one for each."""
        self.texts, self.which = texts, which

    def _digest(self) -> str:
        return hashlib.sha256(self.texts.digest.encode() + np.packbits(self.which).tobytes()).hexdigest()

    def __len__(self) -> int:
        return int(self.which.sum())

    def __iter__(self) -> Iterator[str]:
        return compress(self.texts, self.which)


class TextFile(Texts):
    """The lines of a file in UTF-8: plain, or packed as .gz, .bz2, .xz or .zst.

    Only a line feed ends a line (and a carriage return before it is no part of it): other characters at which Python
    would cut may stand within a sentence. A byte order mark is left out.
    """

    def __init__(self, path: Path, remember_in: Path | None = None) -> None:
        """remember_in: a folder for checksums of large files.

        Raises:
            UserError: there is no such file, it is empty, or packed in a way that this Python does not read.
        """
        if not path.exists():
            raise UserError(f"there is no file {path}")
        self.path, self._remember_in = path, remember_in
        if not len(self):
            raise UserError(f"{path} is empty")

    def _digest(self) -> str:
        return self._known[0]

    def __len__(self) -> int:
        return self._known[1]

    @cached_property
    def _known(self) -> tuple[str, int]:
        """sha256 of the unpacked text, and how many lines it has."""
        size = self.path.stat().st_size
        if self._remember_in is None or size < REMEMBERED_FROM:
            return self._counted()
        state = f"{self.path.resolve()}\0{size}\0{self.path.stat().st_mtime_ns}"
        memory = self._remember_in / f"{hashlib.sha256(state.encode()).hexdigest()[:16]}.file.json"
        with suppress(OSError, ValueError, KeyError):
            found = json.loads(memory.read_text())
            return str(found["sha256"]), int(found["lines"])
        digest, lines = self._counted()
        with suppress(OSError):  # the next run reads the file again
            memory.parent.mkdir(parents=True, exist_ok=True)
            part = memory.with_name(f"{memory.name}.{os.getpid()}.part")
            part.write_text(json.dumps({"path": str(self.path), "sha256": digest, "lines": lines}))
            os.replace(part, memory)
        return digest, lines

    def _counted(self) -> tuple[str, int]:
        digest, lines, last = hashlib.sha256(), 0, b"\n"
        for chunk in self._reading(lambda stream: iter(lambda: stream.read(CHUNK), b"")):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk
        return digest.hexdigest(), lines + (not last.endswith(b"\n"))

    def __iter__(self) -> Iterator[str]:
        for i, line in enumerate(self._reading(iter)):
            try:
                text = line.decode("utf-8-sig" if i == 0 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{self.path} is not UTF-8: byte 0x{line[error.start]:02x} in line {i + 1:,}; bring the file into "
                    "UTF-8 (iconv -f latin1 -t utf-8)"
                ) from None
            yield text.removesuffix("\n").removesuffix("\r")

    def _reading(self, pieces: Callable[[IO[bytes]], Iterator[bytes]]) -> Iterator[bytes]:
        try:
            with opened(self.path) as stream:
                yield from pieces(stream)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise unreadable(self.path, error) from None


def opened(path: Path) -> IO[bytes]:
    """Return a stream of what is in a file, unpacked.

    Raises:
        UserError: a .zst file, and nothing that reads it.
    """
    packed: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zst}
    found = packed.get(path.suffix)
    return path.open("rb") if found is None else found(path)


def _zst(path: Path) -> IO[bytes]:
    try:
        import zstandard  # pyright: ignore[reportMissingImports] (who has such files installs it)
    except ImportError:
        raise UserError(f"{path}: pip install zstandard reads .zst files; or unpack it (zstd -d)") from None
    return zstandard.open(path, "rb")


def sgm_segments(path: Path) -> dict[tuple[str, str], str]:
    """Return the segments of a file in WMT's SGM, (name of the document, number in it) -> sentence, in their order.

    Raises:
        UserError: the file is missing, damaged, no UTF-8, or has no segments.
    """
    text = "\n".join(TextFile(path))
    found = {}
    for document in re.finditer(r'<doc\b[^>]*\bdocid="([^"]*)"[^>]*>(.*?)</doc>', text, re.DOTALL | re.IGNORECASE):
        name, content = document.groups()
        for segment in re.finditer(r'<seg\b[^>]*\bid="([^"]*)"[^>]*>(.*?)</seg>', content, re.DOTALL | re.IGNORECASE):
            found[name, segment[1]] = html.unescape(segment[2]).strip()
    if not found:
        raise UserError(f"{path} has no <seg> in a <doc>: it is no SGM file of WMT")
    return found
