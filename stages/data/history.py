"""Versions of a dataset: those that git remembers, and the index of any of them without checking it out."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet

from stages.data import index, objects

INDEX, SHARDS = "index/", "shards/"
_POINTER = re.compile(r"^- md5: ([0-9a-f]{32}\.dir)\b|^\s+md5: ([0-9a-f]{32}\.dir)\b", re.MULTILINE)


@dataclass(frozen=True)
class Version:
    """One state of a dataset that git remembers."""

    dataset: str
    hash: str  # DVC's, ends in `.dir`
    commit: str  # the first that holds it
    when: str  # of that commit, ISO 8601
    subject: str


def names() -> list[str]:
    """Datasets that any commit of any ref has a pointer of, also those that were deleted since."""
    listed = _git("log", "--all", "--full-history", "--format=", "--name-only", "--", "data/*.dvc")
    return sorted({line.removeprefix("data/").removesuffix(".dvc") for line in listed.splitlines() if line})


def versions(name: str) -> list[Version]:
    """Versions of a dataset, oldest first, over all refs: branches, tags and the snapshots of runs.

    A version whose commits were squashed away and that no run used is not among them.
    """
    path = f"data/{name}.dvc"
    listed = _git("log", "--all", "--full-history", "--date-order", "--reverse", "--format=%H%x09%cI%x09%s", "--", path)
    told = [line.split("\t", 2) for line in listed.splitlines()]
    found: dict[str, Version] = {}
    for (commit, when, subject), digest in zip(told, _pointers([row[0] for row in told], path), strict=True):
        if digest and digest not in found:
            found[digest] = Version(name, digest, commit, when, subject)
    return list(found.values())


def _pointers(commits: Sequence[str], path: str) -> Iterator[str | None]:
    """The hash that a pointer holds in each commit; None where the commit deletes it or it can't be read."""
    done = subprocess.run(
        ["git", "cat-file", "--batch"],
        input="".join(f"{commit}:{path}\n" for commit in commits).encode(),
        capture_output=True,
        check=False,
    )
    answer, start = done.stdout, 0
    for _ in commits:
        end = answer.index(b"\n", start)
        words = answer[start:end].split()
        if len(words) != 3 or not words[2].isdigit():  # "... missing"
            yield None
            start = end + 1
            continue
        size = int(words[2])
        match = _POINTER.search(answer[end + 1 : end + 1 + size].decode(errors="replace"))
        yield (match[1] or match[2]) if match else None
        start = end + 2 + size


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


@lru_cache(maxsize=8)
def listing(dir_hash: str) -> dict[str, str]:
    """Relative path -> md5 of each file of a version; FileNotFoundError when neither cache nor remote has it."""
    return {entry["relpath"]: entry["md5"] for entry in json.loads(objects.read(dir_hash))}


def index_files(dir_hash: str) -> dict[str, str]:
    """Shard -> md5 of its index file, for each shard of a version; FileNotFoundError likewise."""
    return {
        path.removeprefix(INDEX).removesuffix(".parquet"): md5
        for path, md5 in sorted(listing(dir_hash).items())
        if path.startswith(INDEX)
    }


def version_index(name: str, dir_hash: str, columns: Sequence[str]) -> pa.Table:
    """Columns of the index of a version, read from the cache or from a remote, sorted by key; nothing is checked out.

    A sample that two merged branches both added counts once. FileNotFoundError, which names the dataset and what is
    missing, when the version or a part of its index is nowhere.
    """
    wanted = list(dict.fromkeys(["key", *columns]))
    try:
        files = list(index_files(dir_hash).values())
        missing = objects.fetch(files)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"dataset {name}: version {dir_hash} can't be read: {error}") from None
    if missing:
        raise FileNotFoundError(f"dataset {name}: {len(missing)} index files of version {dir_hash} are nowhere")
    with ThreadPoolExecutor() as pool:
        parts = pool.map(lambda md5: read_index(md5, wanted), files)
        table = pa.concat_tables([index.SCHEMA.empty_table().select(wanted), *parts])
    return _once(table.sort_by("key")).select(list(columns))


def read_index(md5: str, columns: Sequence[str]) -> pa.Table:
    """Columns of an index file that the cache holds."""
    # The file is opened here: pyarrow takes the name's suffix for a compression.
    with objects.cached(md5).open("rb") as f:
        return pyarrow.parquet.ParquetFile(f).read(list(columns), use_threads=False).select(list(columns))


def _once(table: pa.Table) -> pa.Table:
    """Rows of a table sorted by key without those that repeat the key before them."""
    import pyarrow.compute as pc

    keys = table["key"].combine_chunks()
    if len(keys) < 2:
        return table
    is_repeat = pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1))
    return (
        table.filter(pa.concat_arrays([pa.array([True]), pc.invert(is_repeat)])) if pc.any(is_repeat).as_py() else table
    )
