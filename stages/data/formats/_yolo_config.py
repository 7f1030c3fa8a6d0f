"""What describes a YOLO dataset: data.yaml, or darknet's obj.data and obj.names, or classes.txt."""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.data.formats._files import SPLITS, printable
from stages.data.formats._yolo_lines import Columns

_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt")
LOOKED_FOR = f"a .yaml with names, {', '.join(_LISTS)} or another .names"


@dataclass(frozen=True)
class Config:
    """What the files beside the labels say."""

    path: str
    names: dict[int, str]  # class number -> label
    places: dict[str, list[str]] = field(default_factory=dict)  # split -> folders or lists, as they are written there
    joints: tuple[str, ...] = ()
    joint_numbers: int = 3
    skips_unlabelled: bool = False  # an image without a label file is none of the dataset
    licence: str = ""
    origin: str = ""
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> Columns:
        """What the numbers of a line mean."""
        return Columns(self.names, len(self.joints), self.joint_numbers)


def read_config(root: Path, paths: Iterable[str]) -> Config:
    """The description among `paths`; ValueError when there is none, or more than one that counts."""
    by_depth = sorted(paths, key=lambda path: (path.count("/"), path))
    documents = {path: _load(root / path) for path in by_depth if path.lower().endswith((".yaml", ".yml"))}
    described = [(path, said) for path, said in documents.items() if isinstance(said, dict)]
    nearest = [(path, said) for path, said in described if path.count("/") == described[0][0].count("/")]
    if len(nearest) > 1:
        several = ", ".join(path for path, _ in nearest)
        raise ValueError(f"{root} holds several descriptions, {several}: name the folder of one, and --images if apart")
    if nearest:
        return _read_yaml(root, *nearest[0])
    if broken := next((said for said in documents.values() if isinstance(said, str)), None):
        raise ValueError(broken)
    lists = [path for path in by_depth if posixpath.basename(path) in _LISTS or path.endswith(".names")]
    if not lists:
        raise ValueError(f"no names of YOLO's classes in {root}: looked for {LOOKED_FOR}")
    darknet = next((path for path in by_depth if path.endswith(".data")), None)
    places = _read_darknet(root / darknet) if darknet else {}
    lines = (root / lists[0]).read_text("utf-8-sig", "replace").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return _checked(root, Config(lists[0], dict(enumerate(line.strip() for line in lines)), places))


def _load(file: Path) -> dict[str, Any] | str | None:
    """A YAML file that names classes; None for another one, and words for one that can't be read."""
    try:
        said = YAML(typ="safe").load(file)
    except (YAMLError, ValueError, RecursionError) as error:
        return f"{file} is not YAML: {' '.join(str(error).replace(str(file), file.name).split())}"
    return said if isinstance(said, dict) and "names" in said else None


def _read_yaml(root: Path, path: str, said: dict[str, Any]) -> Config:
    file = root / path
    names = _numbered(file, "names", said["names"])
    joints, joint_numbers = _read_joints(file, said)
    notes = []
    if isinstance(said.get("nc"), int) and said["nc"] != len(names):
        notes.append(f"{path} says nc: {said['nc']} and names {len(names)} classes: the names count")
    roboflow = inner if isinstance(inner := said.get("roboflow"), dict) else {}
    config = Config(
        path,
        names,
        {split: _texts(said[key]) for key, split in SPLITS.items() if said.get(key)},
        joints,
        joint_numbers,
        skips_unlabelled=said.get("skip_if_label_file_missing") is True,
        licence=_first_text("license", said, roboflow),
        origin=_first_text("url", said, roboflow),
        notes=tuple(notes),
    )
    return _checked(root, config)


def _numbered(file: Path, key: str, value: Any) -> dict[int, str]:
    """A list, or a mapping from number to name."""
    pairs = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(pairs, dict) or not all(type(number) is int for number in pairs):
        raise ValueError(f"{file}: {key} must be a list, or a mapping from numbers, is {value!r:.80}")
    return {number: str(pairs[number]).strip() for number in sorted(pairs)}


def _texts(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def _first_text(key: str, *places: Mapping[str, Any]) -> str:
    found = (place.get(key) for place in places)
    return next((text for text in found if isinstance(text, str)), "")


def _read_joints(file: Path, said: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """Names of the joints, and how many numbers each has in a line."""
    shape = said.get("kpt_shape")
    if shape is None:
        return (), 3
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape) and shape[1] in (2, 3)):
        raise ValueError(f"{file}: kpt_shape must be [joints, 2 or 3], is {shape!r:.80}")
    listed = said.get("kpt_names")
    inner = next(iter(listed.values()), None) if isinstance(listed, dict) else listed  # a list for each class
    names = tuple(map(str, inner)) if isinstance(inner, list) else tuple(f"joint {n}" for n in range(1, shape[0] + 1))
    if not 0 < shape[0] <= 1000 or len(names) != shape[0]:
        raise ValueError(f"{file}: kpt_shape has {shape[0]} joints, kpt_names {len(names)}")
    return names, shape[1]


def _read_darknet(file: Path) -> dict[str, list[str]]:
    """The lists that obj.data names, from its lines "train = data/train.txt"."""
    rows = [line.partition("=") for line in file.read_text("utf-8", "replace").splitlines()]
    said = {key.strip(): value.strip() for key, _, value in rows}
    return {split: [said[key]] for key, split in SPLITS.items() if said.get(key)}


def _checked(root: Path, config: Config) -> Config:
    wrong = [number for number, name in config.names.items() if not name or name != printable(name)]
    if wrong or not config.names:
        raise ValueError(f"{root / config.path}: class {wrong[0] if wrong else 0} has no name that can be read")
    if len({*config.names.values()}) < len(config.names):
        raise ValueError(f"{root / config.path}: two classes have one name: make the names unique")
    return config


def matched(place: str, paths: Iterable[str], is_there: Callable[[str, str], bool]) -> set[str]:
    """Those of `paths` that a written place means: its longest end that fits, for what is above it is elsewhere."""
    parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    listed = list(paths)
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        if start and end == "images":  # every image lies in such a folder
            return set()
        if found := {path for path in listed if is_there(path, end)}:
            return found
    return set()
