"""How a version of a dataset comes back: the commit, the command, and whether all its bytes are still somewhere."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from stages.data import history, objects
from stages.data.splits import SPLITS


def recall(name: str, digest: str, known: history.Version | None) -> dict[str, Any]:
    """Facts of a version for people: counts a split, commit, what brings it back, and what is lost."""
    facts: dict[str, Any] = {"commit": known.commit if known else None, "committed": known.when if known else None}
    try:
        files = history.listing(digest)
    except FileNotFoundError as error:
        return facts | {"samples": None, "brings it back": None, "missing": str(error)}
    absent = {md5 for md5 in files.values() if not objects.cached(md5).is_file()}
    held = objects.holders(absent) if absent else {}
    lost = absent.difference(*held.values())
    return facts | {
        "samples": _counts(name, digest),
        "brings it back": None if lost else command(name, digest, known, bool(absent)),
        "missing": f"{len(lost)} of {len(files)} files are in neither cache nor remote" if lost else None,
    }


def command(name: str, digest: str, known: history.Version | None, is_remote: bool) -> str:
    """The shell command that makes data/NAME this version."""
    verb = "pull" if is_remote else "checkout"
    if known:
        return f"git checkout {known.commit[:12]} -- data/{name}.dvc && dvc {verb} data/{name}"
    # No commit holds the pointer any more, but the pointer says no more than this.
    return (
        rf"printf 'outs:\n- md5: {digest}\n  hash: md5\n  path: {name}\n' > data/{name}.dvc && dvc {verb} data/{name}"
    )


def _counts(name: str, digest: str) -> dict[str, int] | None:
    """Split -> number of samples; None when the index is nowhere."""
    import pyarrow.compute as pc  # here: what becomes of one sample is told without Arrow

    try:
        column = history.version_index(name, digest, ["split"])["split"]
    except FileNotFoundError:
        return None
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
    return {split: counts[split] for split in SPLITS if split in counts}


def remains(name: str, shard: str, versions: Collection[str]) -> dict[str, Any]:
    """Where the bytes of a sample still are, by the shard that it lies in: working tree, cache, remotes."""
    tars = {history.listing(v).get(f"{history.SHARDS}{shard}.tar") for v in versions}
    md5s = {md5 for md5 in tars if md5}
    held = objects.holders(md5s)
    return {
        "working tree": Path(f"data/{name}/shards/{shard}.tar").is_file(),
        "cache": any(objects.cached(md5).is_file() for md5 in md5s),
        "remotes": sorted(remote for remote, there in held.items() if there),
    }
