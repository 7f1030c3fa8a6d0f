"""What differs between two versions of a dataset: samples added, removed, relabelled or moved to another split."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stages.data import history, objects

COLUMNS = ("key", "sha256", "split", "labels", "source", "annotation_hash")


@dataclass(frozen=True)
class Changes:
    """Rows (source, sha256, split, labels) of what changed; `relabelled` and `moved` as they are after it."""

    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    relabelled: list[dict[str, Any]]
    moved: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """Counts, and the rows themselves."""
        kinds = {kind: getattr(self, kind) for kind in ("added", "removed", "relabelled", "moved")}
        return {
            "counts": {kind: len(rows) for kind, rows in kinds.items()},
            "splits": {kind: dict(Counter(row["split"] for row in rows)) for kind, rows in kinds.items() if rows},
            **kinds,
        }


def changes(name: str, before: str, after: str) -> Changes:
    """From one version of a dataset to another; FileNotFoundError when an index is nowhere.

    Shards are immutable, so only index files that one of the versions has alone are read: the cost follows the change.
    """
    old, new = (set(history.index_files(digest).values()) for digest in (before, after))
    missing = objects.fetch(old ^ new)
    if missing:
        raise FileNotFoundError(f"dataset {name}: {len(missing)} index files are in neither cache nor remote")
    gone, come = _rows(old - new), _rows(new - old)
    both = [come[key] for key in sorted(come.keys() & gone.keys())]
    return Changes(
        added=[_shown(come[key]) for key in sorted(come.keys() - gone.keys())],
        removed=[_shown(gone[key]) for key in sorted(gone.keys() - come.keys())],
        relabelled=[_shown(row) for row in both if row["annotation_hash"] != gone[row["key"]]["annotation_hash"]],
        moved=[_shown(row) for row in both if row["split"] != gone[row["key"]]["split"]],
    )


def _rows(md5s: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Key -> row, of several index files."""
    return {row["key"]: row for md5 in sorted(md5s) for row in history.read_index(md5, COLUMNS).to_pylist()}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {column: row[column] for column in ("source", "sha256", "split", "labels")}
