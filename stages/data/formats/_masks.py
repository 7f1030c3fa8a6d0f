"""What formats with masks share: pairs of image and mask by name, and the files that name values."""

import posixpath
import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.data.formats._files import Catalogue, inside, printable, stem
from stages.data.records import Blob, Mask, Record, Rejected, Source

VOID_NAMES = re.compile(r"void|ignored?|unlabell?ed", re.IGNORECASE)  # such a class is none
COLOUR_FILES = ("class_dict.csv", "label_colors.txt")
NAME_FILES = ("classes.txt", "labels.txt")
YAML_FILES = ("config.yaml", "data.yaml", "dataset.yaml")
_COLOUR_FIRST = re.compile(r"(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;]+(\S.*)")
_NAME_FIRST = re.compile(r"(\S.*?)\s*[,;]\s*(\d+)\s*[,;]\s*(\d+)\s*[,;]\s*(\d+)")
_NUMBERED = re.compile(r"(\d+)\s*[:,;\s]\s*(\S.*)")

Outcomes = list[Record | Rejected]


def find_names(root: Path) -> dict[int, str] | None:
    """Value -> name, from the first of the files at the top of `root` that name values; None without one."""
    for names, read in ((COLOUR_FILES, read_colours), (NAME_FILES, read_names), (YAML_FILES, _read_yaml)):
        for name in names:
            if (file := inside(root, name)) and (found := read(file)):
                return found
    return None


def read_colours(file: Path) -> dict[int, str]:
    """Value -> name of `64 128 64 Animal` or `Animal,64,128,64` a line; ValueError for a line that is neither."""
    found: dict[int, str] = {}
    for number, line in _lines(file):
        if match := _COLOUR_FIRST.fullmatch(line):
            *colour, name = match.groups()
        elif match := _NAME_FIRST.fullmatch(line):
            name, *colour = match.groups()
        elif number == 1 and not re.search(r"\d", line):  # "name,r,g,b"
            continue
        else:
            raise ValueError(f"{file}, line {number}: {line!r:.60} is no name with a colour, as in 64 128 64 Animal")
        red, green, blue = map(int, colour)
        if max(red, green, blue) > 255:
            raise ValueError(f"{file}, line {number}: {line!r:.60} has a number over 255")
        if found.setdefault(red + 256 * green + 65536 * blue, name) != name:
            raise ValueError(f"{file}, line {number}: {line!r:.60} has the colour of another name")
    return found


def read_names(file: Path) -> dict[int, str]:
    """Value -> name of one name a line, counted from 0, or of a number and a name (`7: road`) on every line.

    ValueError for a number that comes twice.
    """
    lines = [line for _, line in _lines(file)]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    found: dict[int, str] = {}
    for value, match in enumerate(numbered):
        is_numbered = all(numbered) and match is not None
        key, name = (int(match[1]), match[2]) if is_numbered and match else (value, lines[value])
        if found.setdefault(key, name) != name:
            raise ValueError(f"{file}: {key} is both {found[key]!r} and {name!r}")
    return found


def _read_yaml(file: Path) -> dict[int, str] | None:
    """`classes` or `names` of a YAML file, a list or a mapping of numbers; None where it has neither."""
    try:
        content = YAML(typ="safe").load(file.read_text("utf-8-sig", "replace"))
    except YAMLError as error:
        raise ValueError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    listed = next((content[key] for key in ("classes", "names") if content.get(key)), None) if content else None
    entries = dict(enumerate(listed)) if isinstance(listed, list) else listed
    if entries is None:
        return None
    if not isinstance(entries, dict) or not all(isinstance(key, int) and key >= 0 for key in entries):
        raise ValueError(f"{file}: classes must be a list of names, or map numbers to names")
    return {value: printable(str(name)) for value, name in entries.items()}


def _lines(file: Path) -> list[tuple[int, str]]:
    """Numbers and texts of the lines that say something."""
    texts = enumerate(file.read_text("utf-8-sig", "replace").splitlines(), start=1)
    return [(number, line.strip()) for number, line in texts if line.strip() and not line.lstrip().startswith("#")]


def paired(
    images: Iterable[tuple[Hashable, str]], masks: Iterable[tuple[Hashable, str]]
) -> tuple[list[tuple[str, str]], list[Rejected]]:
    """(image, mask) of equal names, from (name, path) of each, and what has no partner, or one that is taken."""
    found: dict[Hashable, str] = {}
    rejected = []
    for name, path in masks:
        if found.setdefault(name, path) != path:
            rejected.append(Rejected(path, f"masks the same image as {found[name]}, which counts"))
    pairs, taken = [], set()
    for name, path in images:
        if name not in found or name in taken:
            reason = f"another image has the mask {found[name]}" if name in taken else "image without mask"
            rejected.append(Rejected(path, reason))
        else:
            taken.add(name)
            pairs.append((path, found[name]))
    rejected += [Rejected(path, "mask without image") for name, path in found.items() if name not in taken]
    return pairs, rejected


def masked(root: Path, mask: str, names: Mapping[int, str], void: Iterable[int] = ()) -> Mask:
    """A mask of the source; names that say that nothing is labelled become void."""
    unlabelled = {value for value, name in names.items() if VOID_NAMES.fullmatch(name)}
    named = {value: name for value, name in names.items() if value not in unlabelled}
    return Mask(Blob(root / mask), named, frozenset(unlabelled.union(void)))


def source(
    outcomes: Outcomes, names: Iterable[str], notes: Iterable[str] = (), licence: str = "", origin: str = ""
) -> Source:
    """A source of masks: its classes are the names in their order, but for those that say that nothing is labelled."""
    ordered = sorted(outcomes, key=lambda item: item.path)
    classes = {name: name for name in names if not VOID_NAMES.fullmatch(name)}
    return Source("segmentation", classes, lambda: iter(ordered), licence=licence, origin=origin, notes=tuple(notes))


def images_under(files: Catalogue, folder: str) -> list[str]:
    """Images whose path begins with a folder ("train/")."""
    return [path for path in files.images if path.startswith(folder)]


def without_suffix(path: str, suffix: str) -> str | None:
    """The stem of a path without what it ends with; None where it ends otherwise."""
    name = stem(path)
    return name.removesuffix(suffix) if name.endswith(suffix) else None


def folder_of(path: str) -> str:
    """The name of the folder that a file lies in; empty at the top."""
    return posixpath.basename(posixpath.dirname(path))
