"""The splits of a YOLO dataset: folders or lists that data.yaml or obj.data name, or the names of the folders."""

import posixpath
from dataclasses import dataclass, field
from pathlib import Path

from stages.data.formats._coco_json import split_of
from stages.data.formats._files import Catalogue, stem
from stages.data.formats._yolo_config import Config, matched
from stages.data.records import Rejected

# An image in two splits stays in the held-out one, so that no test image is trained on.
_RISING = ("train", "val", "test")


@dataclass
class Splits:
    """Which split each image is in."""

    by_path: dict[str, str] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, path: str) -> str | None:
        """As described, or else as the image's folders say."""
        named = [split for part in path.split("/")[:-1] if (split := split_of(part))]
        return self.by_path.get(path) or (named[-1] if named else None)


def read_splits(files: Catalogue, pictures: Catalogue, config: Config) -> Splits:
    """The split of each image of `pictures` that the description gives one."""
    splits = Splits()
    num_twice = 0
    for split in _RISING:
        for place in config.places.get(split, []):
            found = _members(place, files, pictures, splits)
            if found and split != "train" and found <= {path for path, of in splits.by_path.items() if of == "train"}:
                splits.notes.append(f"{split} of {config.path} is all in train: it holds nothing out, and train counts")
                continue
            num_twice += sum(path in splits.by_path for path in found)
            splits.by_path.update(dict.fromkeys(sorted(found), split))
            if not found:
                splits.notes.append(f"{split}: {place} of {config.path} names no image that is here")
    if num_twice:
        splits.notes.append(f"{num_twice} images are in two splits of {config.path}: the held-out one counts")
    return splits


def _members(place: str, files: Catalogue, pictures: Catalogue, splits: Splits) -> set[str]:
    """The images in a folder, or in a list of paths of which only the end needs to be true."""
    if not place.lower().endswith(".txt"):
        return matched(place, pictures.images, lambda path, end: f"/{end}/" in f"/{posixpath.dirname(path)}/")
    lists = sorted(matched(place, files.paths, lambda path, end: f"/{path}".endswith(f"/{end}")))
    found: set[str] = set()
    for path in lists[:1]:
        found |= _listed(files.root / path, path, pictures, splits)
    return found


def _listed(file: Path, path: str, pictures: Catalogue, splits: Splits) -> set[str]:
    found: set[str] = set()
    for line in filter(None, map(str.strip, file.read_text("utf-8-sig", "replace").splitlines())):
        name = posixpath.basename(line.replace("\\", "/"))
        same = [item for item in pictures.stemmed(stem(name)) if posixpath.basename(item) == name]
        fitting = matched(line, same, lambda item, end: f"/{item}".endswith(f"/{end}"))
        if not fitting:
            splits.rejected.append(Rejected(line, f"listed in {path}, but not there"))
        found |= fitting
    return found
