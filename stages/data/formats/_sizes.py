"""Width and height of an image without decoding it, for formats that count in shares of them."""

from pathlib import Path

from PIL import ExifTags, Image

from stages.data.images import SUFFIXES


def upright_size_px(file: Path) -> tuple[int, int]:
    """Of the image as a viewer shows it; ValueError when its header can't be read, OSError when the file can't."""
    with file.open("rb") as data:
        try:
            with Image.open(data, formats=tuple(SUFFIXES)) as image:
                width, height = image.size
                # A PNG would be decoded to look for EXIF behind its pixels.
                exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
                orientation = exif.get(ExifTags.Base.Orientation, 1)
        except Exception as error:  # a plugin raises whatever its parser stumbles on
            raise ValueError(f"not an image, or a broken header: {' '.join(str(error).split())}") from None
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)
