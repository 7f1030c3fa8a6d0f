"""Every colour mode to its true colours, every orientation upright, every broken file to a reason."""

import hashlib
import io
import struct
import zlib

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageOps

from stages.data.images import SUFFIXES, decode_rgb, inspect, phash

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encoded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def scene(width=60, height=40):
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1)
    rgb[: height // 3, : width // 2] = (250, 20, 20)
    return Image.fromarray(rgb.astype(np.uint8))


def colour(data):
    """The one colour of a flat image."""
    pixels = decode_rgb(data)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert (pixels == pixels[0, 0]).all()
    return tuple(int(v) for v in pixels[0, 0])


def test_facts_of_a_jpeg():
    data = encoded(scene(), "JPEG", quality=90)
    facts = inspect(data)
    assert (facts.width, facts.height, facts.mode, facts.format, facts.orientation) == (60, 40, "RGB", "JPEG", 1)
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert facts.phash == str(imagehash.phash(Image.open(io.BytesIO(data)))) and len(facts.phash) == 16
    assert facts.defects == ()
    assert np.array_equal(decode_rgb(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("fmt", SUFFIXES)
def test_every_format_is_named_and_decoded(fmt):
    data = encoded(Image.new("RGB", (24, 16), RED), fmt)
    assert inspect(data).format == fmt
    np.testing.assert_allclose(decode_rgb(data)[8, 12], RED, atol=4)


def test_phash_is_that_of_imagehash():
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)) for _ in range(200)]
    flat, stripes = Image.new("L", (50, 40), 90), Image.fromarray(np.tile(np.uint8([[0, 255]]), (32, 16)))
    for image in (*images, flat, stripes, scene(), scene().rotate(180)):
        assert phash(image) == str(imagehash.phash(image))


def test_phone_jpeg_with_a_second_view_is_a_jpeg():
    data = encoded(scene(), "MPO", save_all=True, append_images=[scene()])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert (inspect(data).format, inspect(data).defects) == ("JPEG", ())


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 90), (90, 90, 90)),
        (Image.new("RGB", (4, 4), (10, 20, 30)), (10, 20, 30)),
        (Image.new("1", (4, 4), 1), WHITE),
        (Image.new("1", (4, 4), 0), (0, 0, 0)),
        (Image.new("LA", (4, 4), (100, 255)), (100, 100, 100)),
        (Image.new("LA", (4, 4), (100, 0)), WHITE),
        (Image.new("RGBA", (4, 4), (*RED, 255)), RED),
        (Image.new("RGBA", (4, 4), (*RED, 0)), WHITE),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("I;16", (4, 4), 65535), WHITE),
        (Image.new("I;16", (4, 4), 32768), (128, 128, 128)),
        (Image.new("I;16", (4, 4), 257 * 7), (7, 7, 7)),
    ],
    ids=lambda v: v.mode if isinstance(v, Image.Image) else str(v),
)
def test_png_modes(image, expected):
    data = encoded(image)
    assert inspect(data).mode == image.mode
    assert colour(data) == expected


def test_palette_with_and_without_transparency():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*GREEN, *RED])
    assert colour(encoded(image)) == RED
    assert colour(encoded(image, transparency=1)) == WHITE
    assert colour(encoded(image, transparency=0)) == RED
    assert colour(encoded(image, transparency=bytes([255, 128]))) == (255, 127, 127)


def test_key_colour_of_an_rgb_png_is_transparent():
    assert colour(encoded(Image.new("RGB", (4, 4), RED), transparency=RED)) == WHITE
    assert colour(encoded(Image.new("RGB", (4, 4), RED), transparency=GREEN)) == RED


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((4, 4), 0.5, np.float32), 128),  # 0..1
        (np.full((4, 4), 200.4, np.float32), 200),  # 0..255
        (np.full((4, 4), 65535, np.int32), 255),  # 16 bits in 32
    ],
)
def test_deep_tiff(values, expected):
    assert colour(encoded(Image.fromarray(values), "TIFF")) == (expected,) * 3


def test_lab_tiff():
    np.testing.assert_allclose(colour(encoded(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF")), WHITE, atol=2)


def test_other_ranges_are_stretched():
    heights = np.array([[-1000.0, 0.0], [1000.0, np.nan]], np.float32)
    assert decode_rgb(encoded(Image.fromarray(heights), "TIFF"))[..., 0].tolist() == [[0, 128], [255, 128]]
    counts = np.array([[0, 2**30]], np.int32)
    assert decode_rgb(encoded(Image.fromarray(counts), "TIFF"))[..., 0].tolist() == [[0, 255]]


def test_big_endian_16_bit_tiff():
    value = 0x8001
    tags = [(256, 3, 1), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 98), (278, 3, 1), (279, 4, 2)]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", v, 0) if kind == 3 else struct.pack(">I", v))
        for tag, kind, v in tags
    )
    data = b"MM\0*" + struct.pack(">IH", 8, len(tags)) + entries
    data = data.ljust(98, b"\0") + struct.pack(">H", value)
    data = data.replace(struct.pack(">I", 98), struct.pack(">I", len(data) - 2))
    assert inspect(data).mode == "I;16B"
    assert colour(data) == (128, 128, 128)


def ink(cyan, magenta, yellow, key):
    return encoded(Image.new("CMYK", (16, 16), (cyan, magenta, yellow, key)), "JPEG", quality=100)


@pytest.mark.parametrize(
    ("inks", "expected"), [((0, 255, 255, 0), RED), ((0, 0, 0, 255), (0, 0, 0)), ((0,) * 4, WHITE)]
)
def test_adobe_cmyk_jpeg(inks, expected):
    data = ink(*inks)
    assert b"Adobe" in data and inspect(data).mode == "CMYK"
    np.testing.assert_allclose(decode_rgb(data)[8, 8], expected, atol=2)


def test_ycck_jpeg():
    """The four planes of a CMYK file, declared as YCCK: R, G, B follow JFIF's formulas, K darkens."""
    planes = (255 - 76, 255 - 85, 255 - 255, 0)  # stored inverted: Y 76, Cb 85, Cr 255, K full light
    data = ink(*planes)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    ycck = data[:at] + b"\x02" + data[at + 1 :]
    assert inspect(ycck).mode == "CMYK"
    y, cb, cr = 76, 85 - 128, 255 - 128
    rgb = np.clip([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], 0, 255)
    # libjpeg answers C = 255 - R; Pillow inverts, so C = R and the shown value is 255 - R.
    np.testing.assert_allclose(decode_rgb(ycck)[8, 8], 255 - rgb, atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation(fmt, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(fmt, {})
    data = encoded(scene(), fmt, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    facts = inspect(data)
    assert facts.orientation == orientation
    assert (facts.width, facts.height) == upright.size == ((40, 60) if orientation >= 5 else (60, 40))
    assert np.array_equal(decode_rgb(data), np.asarray(upright.convert("RGB")))
    assert facts.phash == str(imagehash.phash(upright))


@pytest.mark.parametrize("value", [0, 9, 60000])
def test_impossible_orientation_counts_as_upright(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert inspect(encoded(scene(), "JPEG", exif=exif)).orientation == 1


def test_damaged_exif_does_not_lose_the_image():
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert inspect(data).orientation == 1
    assert decode_rgb(data).shape == (40, 60, 3)


def test_real_file_with_orientation_6(shared_data):
    data = (shared_data / "imagenet-sample" / "n02951585_can_opener.JPEG").read_bytes()
    stored = Image.open(io.BytesIO(data))
    facts = inspect(data)
    assert facts.orientation == 6
    assert (facts.width, facts.height) == stored.size[::-1]
    assert np.array_equal(decode_rgb(data), np.rot90(np.asarray(stored), -1))


@pytest.mark.parametrize("fmt", ["GIF", "TIFF", "PNG", "WEBP"])
def test_moving_picture_gives_its_first_frame(fmt):
    frames = [Image.new("RGB", (16, 16), c) for c in (RED, GREEN, WHITE)]
    options = {"WEBP": {"lossless": True}}.get(fmt, {})
    data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:], **options)
    assert inspect(data).defects == ("3 frames, only the first is used",)
    assert colour(data) == RED


def bomb(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image"),
        (encoded(scene(), "JPEG")[:-60], "truncated"),
        (encoded(scene(), "JPEG")[:30], "broken header"),
        (encoded(scene(), "PNG")[:200], "truncated"),
        (encoded(scene(), "GIF")[:-100], "truncated"),
        (encoded(scene(), "TIFF")[:300], "broken|truncated|not an image"),
        (bomb(60000, 60000), "bomb"),
        (bomb(0, 5), "zero size|broken|not an image"),
    ],
    ids=["empty", "html", "eps", "jpeg", "jpeg-header", "png", "gif", "tiff", "bomb", "zero"],
)
def test_unusable_files_have_a_reason(data, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        inspect(data)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=reason):
        decode_rgb(data)


def test_bomb_is_refused_before_decoding():
    assert inspect(encoded(scene()), max_pixels=2400).width == 60
    with pytest.raises(ValueError, match="60x40 pixels, at most 2399"):
        inspect(encoded(scene()), max_pixels=2399)


def test_every_real_file_decodes(shared_data):
    for file in sorted((shared_data / "imagenet-sample").glob("*.JPEG"))[::10]:
        data = file.read_bytes()
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        assert np.array_equal(decode_rgb(data), np.asarray(upright))
        assert inspect(data).phash == str(imagehash.phash(upright))
