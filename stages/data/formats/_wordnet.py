"""Classes named by WordNet ids (n01443537): their names for people, and images in folders of that name."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from stages.data.formats._files import files, folders, has_image, is_image, stem, walk
from stages.data.records import Blob, Record, Rejected

WNID = re.compile(r"n\d{8}")
_NAMED = re.compile(r"(n\d{8})_(?:(?P<words>[^\d].*)\.)?")  # n01440764_tench.JPEG, or n01440764_10026.JPEG
_LISTS = frozenset({".txt", ".csv", ".xml", ".md", ".mat"})


def read_words(file: Path) -> dict[str, str]:
    """wnid -> names, from lines "n01443537 goldfish, Carassius auratus" (words.txt, LOC_synset_mapping.txt)."""
    rows = (line.split(maxsplit=1) for line in file.read_text("utf-8", "replace").splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2 and WNID.fullmatch(row[0])}


def is_class(folder: str) -> bool:
    """Whether a folder is named by a wnid."""
    return WNID.fullmatch(posixpath.basename(folder)) is not None


def words_in_name(path: str) -> dict[str, str]:
    """{wnid: name} of an image named "n01491361_tiger_shark.JPEG"; {} for another."""
    match = _NAMED.match(posixpath.basename(path))
    return {match[1]: match["words"].replace("_", " ")} if match and match["words"] else {}


def titles(wnids: Iterable[str], words: Mapping[str, str]) -> dict[str, str]:
    """wnid -> the first of its names, sorted by wnid; longer where two classes share it, as ImageNet's cranes do."""
    full = {wnid: words.get(wnid, wnid) for wnid in sorted(wnids)}
    short = {wnid: name.split(",")[0].strip() for wnid, name in full.items()}
    num_short, num_full = Counter(short.values()), Counter(full.values())
    return {
        wnid: short[wnid] if num_short[short[wnid]] == 1 else name if num_full[name] == 1 else f"{name} ({wnid})"
        for wnid, name in full.items()
    }


def read_val_annotations(file: Path) -> dict[str, str]:
    """Image name without suffix -> wnid, from the lines "val_0.JPEG<tab>n03444034<tab>box" of tiny-imagenet."""
    rows = (line.split("\t") for line in file.read_text("utf-8", "replace").splitlines())
    return {stem(row[0].strip()): row[1].strip() for row in rows if len(row) > 1}


@dataclass(frozen=True)
class WordNetTree:
    """Images whose class is a wnid: that of a folder above them, of a list, or the first part of their own name."""

    root: Path
    base: str = ""  # the folder, relative to root, that holds the split folders; "" for root itself
    splits: Mapping[str, str] = field(default_factory=dict)  # folder in base -> split; {}: all of base, no split
    listed: Mapping[str, str] = field(default_factory=dict)  # image name without suffix -> wnid

    def label(self, path: str) -> str | None:
        """The wnid of one image."""
        *above, name = path.split("/")
        in_name = _NAMED.match(name)
        inner = next(filter(WNID.fullmatch, above), None) or self.listed.get(stem(name))
        return inner or (in_name.group(1) if in_name else None)

    def wnids(self) -> set[str]:
        """The classes that have an image."""
        found: set[str | None] = set()
        for top in [posixpath.join(self.base, name) for name in self.splits] or [self.base]:
            inner = [posixpath.join(top, name) for name in folders(self.root, top)]
            found |= {posixpath.basename(path) for path in inner if is_class(path) and has_image(self.root, path)}
            loose = chain(files(self.root, top), *(walk(self.root, path) for path in inner if not is_class(path)))
            found |= {self.label(path) for path in loose if isinstance(path, str) and is_image(path)}
        return {wnid for wnid in found if wnid is not None}

    def records(self) -> Iterator[Record | Rejected]:
        """Every image below the split folders, sorted by path."""
        for path in walk(self.root, self.base):
            item = path if isinstance(path, Rejected) else self._item(path)
            if item is not None:
                yield item

    def _item(self, path: str) -> Record | Rejected | None:
        top, *inner = path.removeprefix(f"{self.base}/").split("/")
        if self.splits and top not in self.splits:
            return Rejected(path, "image outside the split folders") if is_image(path) and not inner else None
        if not is_image(path):
            is_list = posixpath.splitext(path)[1].lower() in _LISTS
            return None if is_list else Rejected(path, "not an image file")
        if (wnid := self.label(path)) is None:
            return Rejected(path, "image without a label: no wnid in its folders or its name, and in no list")
        return Record(path, Blob(self.root / path), self.splits.get(top), labels=(wnid,))
