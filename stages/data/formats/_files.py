"""The files of a source folder: walked in a fixed order, found by name, never outside the folder."""

import os
import posixpath
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from stages.data.records import Blob, Rejected

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_LEFT_BY_SYSTEMS = frozenset({"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"})


def is_listed(name: str) -> bool:
    """Whether a file or folder of this name counts: not hidden, and not what a system leaves behind."""
    return not name.startswith(".") and name not in _LEFT_BY_SYSTEMS


def is_image(path: str) -> bool:
    """Whether the suffix is one of an image; the bytes are looked at later."""
    return posixpath.splitext(path)[1].lower() in IMAGE_SUFFIXES


def stem(path: str) -> str:
    """The last part of a path, without an image's suffix ("a/b.v2.jpg" -> "b.v2", "b.v2" stays)."""
    name = posixpath.basename(path)
    return posixpath.splitext(name)[0] if is_image(name) else name


def printable(path: str) -> str:
    """A name with escapes for what is not UTF-8 in it, for it can be neither stored nor printed."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def walk(root: Path, under: str = "") -> Iterator[str | Rejected]:
    """Every file below a folder of `root`, as a path relative to `root`, sorted; hidden ones are left out."""
    home = Path(os.path.realpath(root))
    pending: list[str | Rejected] = [_start(home, under)]
    while pending:
        item = pending.pop()
        if isinstance(item, Rejected) or (item and not item.endswith("/")):
            yield item
        else:
            pending.extend(reversed(_listing(home, item)))


def folders(root: Path, under: str = "") -> list[str]:
    """Names of the folders that lie directly in a folder of `root`, sorted; links are left out."""
    return [posixpath.basename(path[:-1]) for path in _paths(root, under) if path.endswith("/")]


def files(root: Path, under: str = "") -> list[str]:
    """Paths of the files that lie directly in a folder of `root`, sorted; links out of it are left out."""
    return [path for path in _paths(root, under) if not path.endswith("/")]


def has_image(root: Path, under: str) -> bool:
    """Whether an image lies somewhere below a folder of `root`."""
    return any(isinstance(path, str) and is_image(path) for path in walk(root, under))


def count_images(root: Path, under: str) -> int:
    """How many images lie below a folder of `root`."""
    return sum(isinstance(path, str) and is_image(path) for path in walk(root, under))


def _paths(root: Path, under: str) -> list[str]:
    home = Path(os.path.realpath(root))
    start = _start(home, under)
    items = _listing(home, start) if isinstance(start, str) else []
    return [item for item in items if isinstance(item, str)]


def _start(home: Path, under: str) -> str | Rejected:
    """A folder to begin with. Those below it are reached without links, so this one check is enough."""
    if not _is_inside(home, home / under):
        return Rejected(under, "a link that leaves the source folder")
    return f"{under}/" if under else ""


def _listing(home: Path, folder: str) -> list[str | Rejected]:
    """What lies in a folder; folders end with a slash, which also makes the order that of whole paths."""
    try:
        with os.scandir(home / folder) as entries:
            items = [_item(home, folder, entry) for entry in entries if is_listed(entry.name)]
    except OSError as error:
        return [Rejected(folder.rstrip("/") or ".", f"folder can't be listed: {error.strerror}")]
    return sorted(items, key=lambda item: item.path if isinstance(item, Rejected) else item)


def _item(home: Path, folder: str, entry: os.DirEntry[str]) -> str | Rejected:
    path = folder + entry.name
    if path != printable(path):
        return Rejected(printable(path), "file name is not UTF-8")
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if not _is_inside(home, Path(entry.path)):
            return Rejected(path, "a link that leaves the source folder")
        if os.path.isdir(target):  # noqa: PTH112 - unlike Path's, never raises on a loop of links
            return Rejected(path, "a link to a folder is not followed: its files are read where they lie")
        return path if os.path.isfile(target) else Rejected(path, "a link to nothing")  # noqa: PTH113
    if entry.is_dir():
        return f"{path}/"
    return path if entry.is_file() else Rejected(path, "not a regular file")


def inside(root: Path, path: str) -> Path | None:
    """A file at `path` in the folder `root`; None where there is none, or only a link that leads out."""
    file = root / path
    return file if _is_inside(Path(os.path.realpath(root)), file) and file.is_file() else None


def _is_inside(home: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(home)


def relative(name: str) -> str | None:
    """A file name out of an annotation as a relative path with '/'; None when it leaves the folder."""
    name = name.replace("\\", "/")
    path = posixpath.normpath(name)
    is_absolute = name.startswith("/") or re.match(r"[A-Za-z]:/", name) is not None
    return None if is_absolute or not name or "\0" in name or path.split("/")[0] in {".", ".."} else path


def shared_folders(a: str, b: str) -> int:
    """How many leading and trailing folders two paths share: how likely they belong together."""
    a_parts, b_parts = a.split("/")[:-1], b.split("/")[:-1]
    leading = _num_equal(a_parts, b_parts)
    return leading + _num_equal(a_parts[leading:][::-1], b_parts[leading:][::-1])


def _num_equal(a: list[str], b: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def refuse_images(fmt: str, images: Path | None) -> None:
    """ValueError when a folder of images is named beside a format that keeps no annotations apart from them."""
    if images is not None:
        raise ValueError(f"{fmt} has no annotations apart from its images: leave out the image folder {images}")


class Catalogue:
    """All files of a folder in memory, to look images up that an annotation names.

    Where some images lie in folders named `image_folder`, the others (masks, thumbnails) are not looked at.
    """

    def __init__(self, root: Path, image_folder: str = "") -> None:
        self.root = root
        found = list(walk(root))
        self.rejected = [item for item in found if isinstance(item, Rejected)]
        self.paths = [item for item in found if isinstance(item, str)]
        images = [path for path in self.paths if is_image(path)]
        self.images = [path for path in images if image_folder in path.split("/")[:-1]] or images
        self._by_stem: dict[str, list[str]] = {}
        for path in self.images:
            self._by_stem.setdefault(stem(path), []).append(path)

    def named(self, name: str) -> list[str]:
        """Images whose path is `name` or ends with it ("a.jpg" finds "train/a.jpg")."""
        return [path for path in self.stemmed(stem(name)) if f"/{path}".endswith(f"/{name}")]

    def stemmed(self, stem: str) -> list[str]:
        """Images with this file name, whatever their folder and suffix."""
        return self._by_stem.get(stem, [])

    def blob(self, path: str) -> Blob:
        """The bytes of one file."""
        return Blob(self.root / path)
