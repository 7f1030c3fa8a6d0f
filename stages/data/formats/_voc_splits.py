"""The split lists of a VOCdevkit: {train,val,trainval,test}.txt of ImageSets/Main or Segmentation, an image a line."""

import posixpath
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from stages.data.formats._files import stem
from stages.data.records import Rejected

_LISTS = "ImageSets/Main/"
# A name in two lists stays in the held-out one, so that no test image is trained on.
_RISING = ("train", "val", "test")


@dataclass(frozen=True)
class SplitLists:
    """The lists of one VOC folder."""

    base: str  # the folder that holds ImageSets: "" or "BCCD/"
    folder: str  # of the lists in it: "ImageSets/Main/"
    splits: dict[str, str]  # image name without suffix -> split
    notes: tuple[str, ...] = ()

    def find(self, annotation: str) -> str | None:
        """The name under which the lists have an annotation file; None when they don't name it."""
        name = posixpath.splitext(annotation)[0].removeprefix(self.base).removeprefix("Annotations/")
        return next((key for key in (name, posixpath.basename(name)) if key in self.splits), None)


def read_split_lists(root: Path, paths: list[str], folder: str = _LISTS) -> list[SplitLists]:
    """The lists of every VOC folder below `root`, inner folders first."""
    lists = [path for path in paths if posixpath.dirname(f"/{path}").endswith(f"/{folder[:-1]}")]
    bases = {path[: path.rindex(folder)] for path in lists}
    return [_read_lists(root, base, lists, folder) for base in sorted(bases, key=lambda base: (-len(base), base))]


def missing(lists: Iterable[SplitLists], there: Container[str], file: str) -> list[Rejected]:
    """Names that are in a list and not `there`, told as a `file` ("Annotations/{}.xml") of their VOC folder."""
    return [
        Rejected(f"{item.base}{file.format(name)}", f"listed in {item.folder[:-1]}, but not there")
        for item in lists
        for name in item.splits
        if posixpath.basename(name) not in there
    ]


def _read_lists(root: Path, base: str, paths: list[str], folder: str) -> SplitLists:
    names = {
        split: _read_names(root / path)
        for split in (*_RISING, "trainval")
        if (path := f"{base}{folder}{split}.txt") in paths
    }
    trainval = names.pop("trainval", [])
    notes = []
    if trainval and not {"train", "val"} & set(names) and "test" in names:
        names["train"] = trainval
        notes.append(f"{base}{folder}trainval.txt is taken as train: there is no list that divides it")
    num_twice = sum(map(len, map(set, names.values()))) - len({name for listed in names.values() for name in listed})
    if num_twice:
        notes.append(f"{num_twice} names are in two lists of {base}{folder}: the held-out one counts")
    return SplitLists(base, folder, {name: split for split in _RISING for name in names.get(split, [])}, tuple(notes))


def _read_names(file: Path) -> list[str]:
    lines = (line.strip().removeprefix("JPEGImages/") for line in file.read_text("utf-8-sig", "replace").splitlines())
    return [posixpath.join(posixpath.dirname(line), stem(line)) for line in lines if line]
