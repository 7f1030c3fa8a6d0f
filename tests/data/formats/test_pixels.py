"""stages/data/formats/_pixels.py: PNG files whose bytes no zlib decides."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.data.formats._pixels import Pixels
from stages.data.images import inspect


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(1, 1, 1), (28, 20, 1), (32, 32, 3), (5, 7, 3), (300, 301, 3)]
)
def test_pillow_reads_the_same_pixels(height: int, width: int, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    data = Pixels(pixels.tobytes(), width, height, channels).read()
    image = Image.open(io.BytesIO(data))
    assert image.mode == {1: "L", 3: "RGB"}[channels]
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    assert inspect(data).format == "PNG"


def test_the_bytes_are_those_of_the_specification() -> None:
    """One white grey pixel, written out by hand: nothing is left to a library but its checksums."""
    idat = b"\x78\x01" + b"\x01\x02\x00\xfd\xff" + b"\x00\xff" + zlib.adler32(b"\x00\xff").to_bytes(4, "big")
    data = Pixels(b"\xff", 1, 1).read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[8:33] == b"\0\0\0\x0dIHDR" + b"\0\0\0\1\0\0\0\1\x08\0\0\0\0" + zlib.crc32(data[12:29]).to_bytes(
        4, "big"
    )
    assert data[33:-12] == len(idat).to_bytes(4, "big") + b"IDAT" + idat + zlib.crc32(b"IDAT" + idat).to_bytes(4, "big")
