"""Images as they come: checked once at ingest, and decoded to upright RGB whatever their mode."""

import hashlib
import io
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

# Formats that are read, with the suffix of their files; Pillow's others run foreign programs (EPS) or have no
# signature of their own (TGA), so that anything would pass for them.
SUFFIXES = {
    "JPEG": "jpg",
    "PNG": "png",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "WEBP": "webp",
    "PPM": "ppm",
    "JPEG2000": "jp2",
}

# EXIF 2.32, tag 0x0112: what turns the stored image upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Rows of the type II discrete cosine transform that a perceptual hash needs: 8 frequencies of 32 samples.
DCT_SIDE = 32
COSINES = 2 * np.cos(np.pi / (2 * DCT_SIDE) * np.outer(np.arange(8), 2 * np.arange(DCT_SIDE) + 1))


@dataclass(frozen=True)
class ImageFacts:
    """What ingest learns of an image by decoding it."""

    sha256: str
    phash: str  # 16 hex: imagehash.phash of the upright image
    width: int  # pixels of the upright image
    height: int
    mode: str  # Pillow's, as stored
    format: str  # a key of SUFFIXES
    orientation: int  # EXIF, 1 to 8; 1 is upright
    defects: tuple[str, ...] = ()


def inspect(data: bytes, max_pixels: int = 178_956_970) -> ImageFacts:
    """Facts of an image, decoded in full; ValueError with a short reason when it can't be used."""
    image = opened(data, max_pixels)
    num_frames, orientation = loaded(image)
    picture = _shown(image, orientation)
    return ImageFacts(
        sha256=hashlib.sha256(data).hexdigest(),
        phash=phash(picture),
        width=picture.width,
        height=picture.height,
        mode=image.mode,
        format=_format(image),
        orientation=orientation,
        defects=(f"{num_frames} frames, only the first is used",) if num_frames > 1 else (),
    )


def phash(image: Image.Image) -> str:
    """Perceptual hash, 16 hex: the signs of the 64 lowest frequencies against their median.

    The bits of imagehash.phash in a third of its time; where rounding could decide a bit, imagehash does.
    """
    pixels = np.asarray(image.convert("L").resize((DCT_SIDE, DCT_SIDE), Image.Resampling.LANCZOS), np.float64)
    waves = (COSINES @ pixels @ COSINES.T).ravel()
    ordered = np.sort(waves)
    if ordered[32] - ordered[31] < 1e-6:
        return str(imagehash.phash(image))
    bits = waves > (ordered[31] + ordered[32]) / 2
    return np.packbits(bits).tobytes().hex()


def decode_rgb(data: bytes) -> NDArray[np.uint8]:
    """The upright image, uint8 [H, W, 3]; ValueError when it can't be decoded.

    Transparent parts are shown on white, as a page would show them. 16-bit values are scaled to 8 bits. 32-bit integers
    count as 16-bit ones when they fit, floats as 0..1 or 0..255 when they fit; other ranges are stretched to 0..255.
    CMYK and YCCK JPEGs are taken as inverted (Adobe's way, also without Adobe's marker).
    """
    image = opened(data, max_pixels=None)
    _, orientation = loaded(image)
    return np.array(_shown(image, orientation).convert("RGB"))


def opened(data: bytes, max_pixels: int | None) -> Image.Image:
    """The image with only its header read."""
    if not data:
        raise ValueError("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=tuple(SUFFIXES))
    except UnidentifiedImageError:
        raise ValueError(f"not an image, or a broken header; read are {', '.join(SUFFIXES)}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"decompression bomb: {error}") from None
    except Exception as error:  # a plugin raises whatever its parser stumbles on
        raise ValueError(f"broken header: {_line(error)}") from None
    if min(image.size) < 1:
        raise ValueError(f"zero size: {image.width}x{image.height} pixels")
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise ValueError(f"decompression bomb: {image.width}x{image.height} pixels, at most {max_pixels} are decoded")
    return image


def loaded(image: Image.Image) -> tuple[int, int]:
    """Decode the first frame in place; number of frames and EXIF orientation."""
    try:
        # An MPO is a JPEG with a second view (a phone's depth map), not a moving picture.
        num_frames = getattr(image, "n_frames", 1) if image.format not in ("JPEG", "MPO") else 1
        # Pillow turns a TIFF while it decodes it and forgets the tag; a PNG may have its EXIF after the pixels.
        before = _orientation(image) if image.format == "TIFF" else None
        image.load()
    except Exception as error:  # as above
        raise ValueError(f"truncated or corrupt: {_line(error)}") from None
    return num_frames, before or _orientation(image)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block says nothing of the picture
        return 1
    return int(value) if value in range(1, 9) else 1


def _shown(image: Image.Image, orientation: int) -> Image.Image:
    """The loaded image as a viewer shows it: upright, mode L or RGB."""
    picture = _plain(image)
    turned_by_pillow = image.format == "TIFF"
    return picture if orientation == 1 or turned_by_pillow else picture.transpose(UPRIGHT[orientation])


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_scaled(np.asarray(image)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB") if image.mode != "RGB" else image


def _scaled(values: NDArray) -> NDArray[np.uint8]:
    """Deep grey values as 8 bits; see decode_rgb for the ranges."""
    finite = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    known_ranges = (1.0, 255.0) if values.dtype.kind == "f" else (65535.0,)
    if low >= 0.0 and high <= known_ranges[-1]:
        low, high = 0.0, next(r for r in known_ranges if high <= r)
    return np.round((finite - low) * (255.0 / max(high - low, 1e-300))).astype(np.uint8)


def _format(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
