"""ILSVRC2012's tar files, read in place: an image is an offset in the tar as it was downloaded."""

import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.data.formats._files import files, is_image, printable, relative, stem
from stages.data.formats._wordnet import WNID
from stages.data.records import Blob, Record, Rejected

_NAMES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def find_tars(root: Path) -> dict[str, str]:
    """split -> name of the tar in `root`; ValueError for one that is compressed, for its images have no offsets."""
    found = {}
    for split, name in _NAMES.items():
        for path in files(root):
            if path.startswith(name) and (method := _compression(Blob(root / path))):
                raise ValueError(f"{root / path} is compressed ({method}): unpack it to {name}, it is read in place")
            if path == name:
                found[split] = path
    return found


def _compression(blob: Blob) -> str | None:
    start = Blob(blob.file, blob.offset, 6).read()
    return next((method for magic, method in _COMPRESSIONS.items() if start.startswith(magic)), None)


@dataclass(frozen=True)
class Member:
    """One file in a tar."""

    path: str  # of the tar, then of the member in it
    blob: Blob


@dataclass(frozen=True)
class Tars:
    """The train tar (of one tar a class) and the flat val tar, whichever there are."""

    root: Path
    names: Mapping[str, str]  # split -> file name
    listed: Mapping[str, str]  # name of a val image without suffix -> wnid

    def wnids(self) -> set[str]:
        """Classes that have a tar in train or a listed image in val."""
        members = (member for name in self.names.values() for member in self._members(name))
        labels = (self._label(member.path) for member in members if isinstance(member, Member))
        return {label for label in labels if label}

    def records(self) -> Iterator[Record | Rejected]:
        """Every image, sorted by path: tar, inner tar and member, with '/' between."""
        for split, name in sorted(self.names.items()):
            for member in self._members(name):
                yield from [member] if isinstance(member, Rejected) else self._samples(member, split)

    def _members(self, name: str) -> list[Member | Rejected]:
        return list_tar(name, Blob(self.root / name))

    def _label(self, path: str) -> str | None:
        name = stem(path)
        return name[:-4] if name.endswith(".tar") and WNID.fullmatch(name[:-4]) else self.listed.get(name)

    def _samples(self, member: Member, split: str) -> Iterator[Record | Rejected]:
        label = self._label(member.path)
        if label is None:
            expected = "a tar named by a wnid" if split == "train" else "an image in the ground truth"
            yield Rejected(member.path, f"not {expected}")
            return
        for image in list_tar(member.path, member.blob) if split == "train" else [member]:
            if isinstance(image, Rejected) or not is_image(image.path):
                yield image if isinstance(image, Rejected) else Rejected(image.path, "not an image file")
            else:
                yield Record(image.path, image.blob, split, labels=(label,))


def list_tar(path: str, blob: Blob) -> list[Member | Rejected]:
    """The files of the tar in `blob`, sorted by path, from its headers alone; what is damaged is among them."""
    if method := _compression(blob):
        return [Rejected(path, f"compressed ({method}): its images can't be read in place")]
    end = blob.file.stat().st_size if blob.size is None else blob.offset + blob.size
    found: dict[str, Member | Rejected] = {}
    try:
        for item in _walk_headers(path, blob, end):
            found[item.path] = item  # of two members of one name a tar means the last
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        found[path] = Rejected(path, f"damaged tar: {error}")
    return sorted(found.values() or [Rejected(path, "a tar without files")], key=lambda item: item.path)


def _walk_headers(path: str, blob: Blob, end: int) -> Iterator[Member | Rejected]:
    with blob.file.open("rb") as file:
        file.seek(blob.offset)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                if info.offset >= end:
                    return
                yield from _member(path, info, blob.file, end)
            # tarfile takes a header that it can't parse for the end of the tar: what follows must be zeros.
            if tar.offset < end and os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset).strip(b"\0"):
                raise tarfile.ReadError(f"no header at byte {tar.offset - blob.offset}, the rest is not read")


def _member(path: str, info: tarfile.TarInfo, file: Path, end: int) -> Iterator[Member | Rejected]:
    name = relative(info.name)
    inner = f"{path}/{printable(name or info.name)}"
    if name is None or name != printable(name):
        yield Rejected(inner, "member name leaves the tar" if name is None else "member name is not UTF-8")
    elif info.offset_data + info.size > end:
        yield Rejected(inner, "reaches beyond the end of its tar, which is cut short")
    elif info.isreg() and not info.issparse():
        yield Member(inner, Blob(file, info.offset_data, info.size))
    elif not info.isdir():
        yield Rejected(inner, "not a regular file")
