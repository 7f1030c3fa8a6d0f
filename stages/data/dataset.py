"""A dataset on disk: what dataset.yaml says of it, its index as a table, and any image by one read."""

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from ruamel.yaml import YAML

from stages.data import index
from stages.data.records import Source
from stages.data.splits import SPLITS
from stages.params.skeleton import Skeleton

OPEN_SHARDS = 64


@dataclass(frozen=True)
class Description:
    """dataset.yaml: what holds for the whole dataset; no counts, so that branches which only add samples merge."""

    task: str
    classes: dict[str, str]  # label -> name for people; the order is the class number, so it only grows at the end
    skeleton: tuple[str, ...] = ()
    skeleton_edges: tuple[tuple[int, int], ...] = ()
    licence: str = ""
    origin: str = ""
    sigmas: tuple[float, ...] = ()  # of OKS, one a joint; (): those that the joints' names tell
    flip_pairs: tuple[tuple[int, int], ...] | None = None  # joints that a mirror swaps; None: left and right

    def __post_init__(self) -> None:
        if self.skeleton:
            object.__setattr__(self, "sigmas", self.joints.sigmas)
            object.__setattr__(self, "flip_pairs", self.joints.flip_pairs)

    @property
    def joints(self) -> Skeleton:
        """The joints with all that is known of them; ValueError when that does not fit together."""
        return Skeleton(self.skeleton, self.skeleton_edges, self.sigmas, self.flip_pairs)

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """What FOLDER/dataset.yaml says; FileNotFoundError when it is not there."""
        said = YAML(typ="safe").load(folder / "dataset.yaml")
        return cls(
            task=said["task"],
            classes={entry["name"]: entry["title"] for entry in said["classes"]},
            skeleton=tuple(said["skeleton"]),
            skeleton_edges=tuple((a, b) for a, b in said["skeleton_edges"]),
            licence=said["licence"],
            origin=said["origin"],
            sigmas=tuple(said.get("sigmas", ())),
            flip_pairs=tuple((a, b) for a, b in said["flip_pairs"]) if "flip_pairs" in said else None,
        )

    @classmethod
    def of(cls, source: Source) -> "Description":
        """What a source says of itself."""
        return cls(
            source.task,
            dict(source.classes),
            tuple(source.skeleton),
            tuple(source.skeleton_edges),
            source.licence,
            source.origin,
        )

    def joined(self, other: "Description") -> "Description":
        """This with another's classes after its own; a known class keeps its title, and the first origin stays.

        Another licence is added to the first. ValueError when the tasks or the skeletons differ.
        """
        if other.task != self.task:
            raise ValueError(f"the source is for {other.task}, the dataset for {self.task}: ingest under another name")
        if self.skeleton and other.skeleton and self.skeleton != other.skeleton:
            raise ValueError(f"joints {other.skeleton} are not those of the dataset: ingest under another name")
        joints = self if self.skeleton else other
        licences = dict.fromkeys([*self.licence.split("; "), other.licence])
        return replace(
            self,
            classes=self.classes | other.classes | self.classes,  # the order of the first, then what is new; own titles
            skeleton=joints.skeleton,
            skeleton_edges=self.skeleton_edges or other.skeleton_edges,
            sigmas=joints.sigmas,
            flip_pairs=joints.flip_pairs,
            licence="; ".join(filter(None, licences)),
            origin=self.origin or other.origin,
        )

    def encoded(self) -> bytes:
        """The bytes of dataset.yaml."""
        yaml = YAML(typ="safe")
        yaml.default_flow_style = None  # a class a line
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.width = 100_000
        text = io.BytesIO()
        yaml.dump(self._document(), text)
        return text.getvalue()

    def _document(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "classes": [{"name": name, "title": title} for name, title in self.classes.items()],
            "skeleton": list(self.skeleton),
            "skeleton_edges": [list(edge) for edge in self.skeleton_edges],
            **(self._of_joints() if self.skeleton else {}),
            "licence": self.licence,
            "origin": self.origin,
        }

    def _of_joints(self) -> dict[str, Any]:
        return {"sigmas": list(self.sigmas), "flip_pairs": [list(pair) for pair in self.flip_pairs or ()]}


class Dataset:
    """A dataset opened for reading; safe to use from several threads.

    FileNotFoundError when the folder holds no dataset.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        if not (folder / "dataset.yaml").is_file() or not index.files(folder):
            raise FileNotFoundError(
                f"dataset {self.name} has no data in {folder}: visionline ingest {self.name} SOURCE --format FORMAT"
            )
        self.description = Description.read(folder)
        self._shard = lru_cache(maxsize=OPEN_SHARDS)(self._open)

    @property
    def task(self) -> str:
        """What the labels are for: classification, detection or segmentation."""
        return self.description.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the class numbers."""
        return tuple(self.description.classes)

    @property
    def titles(self) -> dict[str, str]:
        """Label -> name for people."""
        return dict(self.description.classes)

    @property
    def skeleton(self) -> Skeleton:
        """The joints, in the order of the keypoints; none without keypoints."""
        return self.description.joints

    @cached_property
    def splits(self) -> dict[str, int]:
        """Split -> number of samples, for those that have any."""
        counts = self.table(columns=["split"])["split"].value_counts().to_pylist()
        found = {entry["values"]: entry["counts"] for entry in counts}
        return {split: found[split] for split in SPLITS if split in found}

    def table(self, split: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of the index sorted by key, the same order whatever the shards; schema index.SCHEMA.

        A sample that two merged branches both added counts once; ValueError when they disagree on it.
        """
        wanted = list(columns if columns is not None else index.SCHEMA.names)
        table = index.read(self.folder, list(dict.fromkeys(["key", *wanted])), split)
        table = table.take(pc.sort_indices(table["key"]))
        if self._repeats and len(table):
            is_repeat = pc.equal(table["key"].slice(1), table["key"].slice(0, len(table) - 1))
            table = table.filter(pa.chunked_array([[True], *pc.invert(is_repeat).chunks]))
        return table.select(wanted)

    def split_hash(self, split: str) -> str:
        """What pins a split: 16 hex over keys, images and annotations, whatever the shards; '' when it is empty."""
        table = self.table(split, ["key", "sha256", "annotation_hash"])
        if not len(table):
            return ""
        rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
        return hashlib.sha256("\n".join(map(" ".join, rows)).encode()).hexdigest()[:16]

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """The bytes of an image or a mask, by one positioned read at the place that its row gives."""
        data = self._shard(shard).read(offset, size)
        if len(data) != size:
            raise OSError(f"{self._path(shard)} ends before {offset + size} bytes: get it again with `dvc checkout`")
        return data

    @cached_property
    def _repeats(self) -> bool:
        """Whether samples lie in more than one shard, as after a merge of branches that overlap."""
        keys = index.read(self.folder, ["key"])["key"]
        if pc.count_distinct(keys).as_py() == len(keys):
            return False
        told = index.read(self.folder, ["key", "annotation_hash", "split", "source"])
        told = told.group_by(["key", "annotation_hash", "split"]).aggregate([("source", "min")]).sort_by("key")
        seen = told["key"].to_pylist()
        if len(set(seen)) < len(seen):
            at = next(i for i in range(1, len(seen)) if seen[i] == seen[i - 1])
            path = told["source_min"][at].as_py()
            raise ValueError(f"dataset {self.name} holds {path} twice, with different annotations: ingest it again")
        return True

    def _path(self, shard: str) -> Path:
        return self.folder / "shards" / f"{shard}.tar"

    def _open(self, shard: str) -> "_Shard":
        try:
            return _Shard(self._path(shard))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self._path(shard)} is not there: get it with `dvc pull`") from None


class _Shard:
    """An open file that closes when its last reader lets go, so that dropping it from the cache cuts nobody off."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        # A method, so that the caller's thread holds this object, and with it the descriptor, until the read has ended.
        return os.pread(self.number, size, offset)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)
