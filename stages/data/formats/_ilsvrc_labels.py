"""What ILSVRC2012 says of its classes and of its flat validation images: devkit, Kaggle's lists, val_annotations."""

import csv
import posixpath
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from stages.data.formats._files import files, folders, inside
from stages.data.formats._wordnet import read_val_annotations, read_words

LOOKED_FOR = "LOC_val_solution.csv, val_annotations.txt, ILSVRC2012_devkit_t12.tar.gz, data/meta.mat"
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_MAX_BYTES = 64 << 20  # of one file in the devkit, which has 1 MB: a gzip bomb stops here


@dataclass(frozen=True)
class Labels:
    """The names of the classes, and the class of each validation image."""

    words: dict[str, str]  # wnid -> "tench, Tinca tinca"
    val: dict[str, str]  # image name without suffix -> wnid


def find_labels(root: Path, val_folder: str = "val") -> Labels:
    """All that lies in `root`: lists are taken before the devkit; ValueError for one that can't be read."""
    words, val = _read_devkit(root)
    for name in ("LOC_synset_mapping.txt", "words.txt"):
        if file := inside(root, name):
            words |= read_words(file)
    for path in ("val_annotations.txt", posixpath.join(val_folder, "val_annotations.txt")):
        if file := inside(root, path):
            val = read_val_annotations(file)
    if file := inside(root, "LOC_val_solution.csv"):
        val = _read_kaggle_solution(file)
    return Labels(words, val)


def _read_kaggle_solution(file: Path) -> dict[str, str]:
    """Rows "ILSVRC2012_val_00048981,n03995372 85 1 499 272": the first wnid is the label."""
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        rows = [(row["ImageId"], (row["PredictionString"] or "").split()) for row in csv.DictReader(lines)]
    return {image: boxes[0] for image, boxes in rows if boxes}


def _read_devkit(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    found = _packed_devkit(root) or _unpacked_devkit(root)
    if not found:
        return {}, {}
    where, meta, truth = found
    try:
        # Parents in the hierarchy have ids above 1000, so the ground truth never names them.
        synsets = np.atleast_1d(loadmat(BytesIO(meta), squeeze_me=True)["synsets"])
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        words = {str(row["WNID"]): str(row["words"]) for row in synsets}
        ids = [int(line) for line in truth.decode("ascii").split()]
        return words, {f"ILSVRC2012_val_{n:08d}": wnids[i] for n, i in enumerate(ids, start=1)}
    except (ValueError, TypeError, LookupError, NotImplementedError, MatReadError) as error:
        raise ValueError(f"the devkit {where} is not ILSVRC2012's: {type(error).__name__} {error}") from error


def _packed_devkit(root: Path) -> tuple[str, bytes, bytes] | None:
    archives = [path for path in files(root) if path.startswith("ILSVRC2012_devkit") and ".t" in path]
    if not archives:
        return None
    try:
        with tarfile.open(root / archives[0]) as tar:
            return archives[0], _member(tar, _META), _member(tar, _TRUTH)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"the devkit {root / archives[0]} can't be read: {error}") from error


def _member(tar: tarfile.TarFile, suffix: str) -> bytes:
    member: Any = next((member for member in tar if member.name.endswith(suffix) and member.isreg()), None)
    if member is None or member.size > _MAX_BYTES:
        raise tarfile.TarError(f"holds no {suffix} of at most {_MAX_BYTES} bytes")
    stream: Any = tar.extractfile(member)
    return stream.read()


def _unpacked_devkit(root: Path) -> tuple[str, bytes, bytes] | None:
    for folder in ["", *folders(root)]:
        meta, truth = (inside(root, posixpath.join(folder, path)) for path in (_META, _TRUTH))
        if meta and truth:
            return f"{folder}/data".lstrip("/"), meta.read_bytes(), truth.read_bytes()
    return None
