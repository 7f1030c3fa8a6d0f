"""One IDX file: a magic number, a header of sizes, bytes (yann.lecun.com/exdb/mnist); gzipped or not."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

_UNSIGNED_BYTE = 0x08  # the third byte of the magic number is the type, the fourth the number of dimensions
_MAX_ITEMS = 1 << 28


class Content(Protocol):
    """An open file, compressed or not."""

    def read(self, size: int) -> bytes:
        """The next bytes, less of them at the end."""
        ...


@contextmanager
def opened(file: Path) -> Iterator[Content]:
    """A file's content, decompressed where it is gzip, whatever its name says; ValueError where that is damaged."""
    with file.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
    with gzip.open(file) if is_gzip else file.open("rb") as content:
        try:
            yield content
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{file}: cut or damaged gzip: {error}") from error


def read_sizes(content: Content, file: Path, num_dimensions: int) -> tuple[int, ...]:
    """The sizes in the header; ValueError when it is none of unsigned bytes in so many dimensions."""
    header = content.read(4 + 4 * num_dimensions)
    magic = struct.unpack(">I", header[:4])[0] if len(header) >= 4 else None
    expected = (_UNSIGNED_BYTE << 8) + num_dimensions
    if magic != expected or len(header) < 4 + 4 * num_dimensions:
        found = "its header is cut" if magic in (None, expected) else f"its magic number is {magic}"
        raise ValueError(f"{file} is not IDX of bytes in {num_dimensions} dimensions: {found}, must be {expected}")
    sizes: tuple[int, ...] = struct.unpack(f">{num_dimensions}I", header[4:])
    return sizes


def read_labels(file: Path) -> bytes:
    """The numbers in an idx1 file; ValueError when there are more or less than its header says."""
    with opened(file) as content:
        (num,) = read_sizes(content, file, 1)
        labels = content.read(min(num, _MAX_ITEMS) + 1)
    if len(labels) != num:
        held = "more" if len(labels) > num else f"{len(labels)}"
        raise ValueError(f"{file}: its header says {num} labels, it holds {held}")
    return labels
