"""Images that a source keeps as raw pixels, which become PNG files."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}  # channels -> grey, RGB (PNG specification 11.2.2)
_MAX_STORED = 0xFFFF  # bytes of one uncompressed block (RFC 1951, 3.2.4)


@dataclass(frozen=True)
class Pixels:
    """Raw pixels of an image: rows from the top, 8 bits a channel, channels side by side."""

    data: bytes = field(repr=False)
    width: int
    height: int
    channels: int = 1  # 1 grey, 3 RGB

    def read(self) -> bytes:
        """A PNG of them, the same bytes on every machine.

        Its pixels are stored without compression: what zlib and its replacements make of them differs.
        """
        colour = _COLOUR_TYPES[self.channels]
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, colour, 0, 0, 0)
        return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(self._filtered())) + _chunk(b"IEND", b"")

    def num_bytes(self) -> int:
        """Of the pixels; the PNG has some more."""
        return len(self.data)

    def _filtered(self) -> bytes:
        """Each row behind the number of its filter: 0, none."""
        row = self.width * self.channels
        return b"".join(b"\0" + self.data[start : start + row] for start in range(0, row * self.height, row))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _stored(data: bytes) -> bytes:
    """A zlib stream (RFC 1950) of uncompressed blocks."""
    return b"\x78\x01" + b"".join(_blocks(data)) + struct.pack(">I", zlib.adler32(data))


def _blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _MAX_STORED):
        block = data[start : start + _MAX_STORED]
        is_last = start + _MAX_STORED >= len(data)
        yield struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block
