"""Versions of a dataset: those that git remembers, and the index of any of them without checking it out."""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from stages.data import objects

if TYPE_CHECKING:
    import pyarrow as pa

INDEX, SHARDS = "index/", "shards/"
_POINTER = re.compile(r"^[-\s]\s+?md5: ([0-9a-f]{32}\.dir)\b", re.MULTILINE)


@dataclass(frozen=True)
class Version:
    """One state of a dataset that git remembers."""

    dataset: str
    hash: str  # DVC's, ends in `.dir`
    commit: str  # the first that holds it
    when: str  # of that commit, ISO 8601
    subject: str


def all_versions() -> dict[str, list[Version]]:
    """Dataset -> its versions, oldest first, over all refs: branches, tags and the snapshots of runs.

    Deleted datasets are among them; a version whose commits were squashed away and that no run used is not.
    """
    return _versions("data/*.dvc")


def versions(name: str) -> list[Version]:
    """Versions of one dataset, oldest first; none where git knows no pointer of it."""
    return _versions(f"data/{name}.dvc").get(name, [])


def _versions(paths: str) -> dict[str, list[Version]]:
    # -m: a merge may hold a version that neither of its parents has.
    order = ("-m", "--all", "--full-history", "--date-order", "--reverse", "--no-renames")
    listed = _git("log", *order, "--name-only", "--format=%x00%H%x09%cI%x09%s", "--", paths)
    changes = []  # of a pointer: commit, time, subject, path
    for entry in listed.split("\0")[1:]:
        told, *files = entry.strip().splitlines()
        changes += [(*told.split("\t", 2), path) for path in files if path]
    found: dict[str, dict[str, Version]] = {}
    pointers = _pointers([(commit, path) for commit, _, _, path in changes])
    for (commit, when, subject, path), digest in zip(changes, pointers, strict=True):
        name = path.removeprefix("data/").removesuffix(".dvc")
        if digest and digest not in found.setdefault(name, {}):
            found[name][digest] = Version(name, digest, commit, when, subject)
    return {name: list(found[name].values()) for name in sorted(found) if found[name]}


def version_at(name: str, revision: str) -> str | None:
    """The hash that a dataset's pointer holds in a commit, branch or tag; None where there is none."""
    return next(_pointers([(revision, f"data/{name}.dvc")]))


def known_commits(commits: Iterable[str]) -> set[str]:
    """Those of the commits that git still has."""
    asked = sorted({commit for commit in commits if commit})
    lines = _objects("--batch-check", asked).decode(errors="replace").splitlines()
    return {commit for commit, line in zip(asked, lines, strict=True) if line.split()[1:2] == ["commit"]}


def _pointers(places: Sequence[tuple[str, str]]) -> Iterator[str | None]:
    """The hash in a pointer at (commit, path); None where it is not there or can't be read."""
    answer, start = _objects("--batch", [f"{commit}:{path}" for commit, path in places]), 0
    for _ in places:
        end = answer.index(b"\n", start)
        words = answer[start:end].split()
        if len(words) != 3 or not words[2].isdigit():  # "... missing"
            yield None
            start = end + 1
            continue
        size = int(words[2])
        match = _POINTER.search(answer[end + 1 : end + 1 + size].decode(errors="replace"))
        yield match[1] if match else None
        start = end + 2 + size


def _objects(how: str, names: Sequence[str]) -> bytes:
    """What git says of objects, in their order."""
    asked = "".join(f"{name}\n" for name in names).encode()
    return subprocess.run(["git", "cat-file", how], input=asked, capture_output=True, check=False).stdout


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


def version_index(name: str, dir_hash: str, columns: Sequence[str]) -> "pa.Table":
    """Columns of the index of a version, read from the cache or from a remote, sorted by key; nothing is checked out.

    A sample that two merged branches both added counts once. FileNotFoundError, which names the dataset and what is
    missing, when the version or a part of its index is nowhere.
    """
    import pyarrow as pa

    from stages.data import index  # brings Pillow along, which a search for an image does without

    wanted = list(dict.fromkeys(["key", *columns]))
    try:
        files = list(index_files(dir_hash).values())
        missing = objects.fetch(files)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"dataset {name}: version {dir_hash} can't be read: {error}") from None
    if missing:
        raise FileNotFoundError(f"dataset {name}: {len(missing)} index files of version {dir_hash} are nowhere")
    with ThreadPoolExecutor() as pool:
        parts = pool.map(lambda md5: index.completed(read_index(md5, wanted), wanted), files)
        table = pa.concat_tables([index.SCHEMA.empty_table().select(wanted), *parts])
    return _once(table.sort_by("key")).select(list(columns))


def read_index(md5: str, columns: Sequence[str]) -> "pa.Table":
    """Those of the columns that an index file has, which the cache holds."""
    import pyarrow as pa  # here: what only asks git does without Arrow
    import pyarrow.parquet

    # Opened here: pyarrow takes the name's suffix for a compression. Reading ahead costs a small file time.
    with pa.OSFile(str(objects.cached(md5))) as file:
        table = pyarrow.parquet.ParquetFile(file, pre_buffer=False).read(list(columns), use_threads=False)
    return table.select([column for column in columns if column in table.column_names])


def _once(table: "pa.Table") -> "pa.Table":
    """Rows of a table sorted by key without those that repeat the key before them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = table["key"].combine_chunks()
    if len(keys) < 2:
        return table
    is_repeat = pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1))
    return (
        table.filter(pa.concat_arrays([pa.array([True]), pc.invert(is_repeat)])) if pc.any(is_repeat).as_py() else table
    )
