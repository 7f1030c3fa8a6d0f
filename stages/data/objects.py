"""DVC's objects by their md5: read from the cache, or from a remote where the cache lacks them."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.params.files import write_atomically
from stages.tracking.process import LOCAL_STATE

PLACES = LOCAL_STATE / "trace" / "places.json"
TRANSFERS = 8  # objects asked of a remote at once


@dataclass(frozen=True)
class Places:
    """Where objects lie: the cache's folder and the address of each remote, the default one first."""

    cache: str
    remotes: dict[str, str]


@cache
def places() -> Places:
    """Where this repository keeps objects, as DVC's configuration says.

    Kept under .visionline/ while no file of the configuration changes: to start DVC takes longer than to trace.
    """
    here = str(Path.cwd())  # a repository that was copied holds what was found in the first one
    if PLACES.is_file():
        kept = json.loads(PLACES.read_text(encoding="utf8"))
        now = {file: _mark(Path(file)) for file in kept.get("configuration", ())}
        if (kept.get("repository"), kept.get("configuration")) == (here, now):
            return Places(**kept["places"])
    from dvc.config import Config

    folder = Path.cwd() / ".dvc"
    # from_cwd also looks in the folders above, for which it imports all of DVC: twice the time.
    config = Config(str(folder)) if folder.is_dir() else Config.from_cwd()
    found = _places(config)
    # Files that are not there count too: config.local may come later.
    files = {file: _mark(Path(file)) for file in map(str, config.files.values())}
    content = {"repository": here, "configuration": files, "places": asdict(found)}
    write(PLACES, json.dumps(content, indent=1).encode())
    return found


def _mark(file: Path) -> list[int] | None:
    """What changes when a file does; None when it is not there."""
    try:
        facts = file.stat()
    except FileNotFoundError:
        return None
    return [facts.st_mtime_ns, facts.st_size]


def _places(config: Any) -> Places:
    default = config["core"].get("remote")
    names = sorted(config["remote"], key=lambda name: (name != default, name))
    folder = Path(config["cache"].get("dir") or Path(config.dvc_dir) / "cache")
    return Places(str(folder / "files" / "md5"), {name: str(config["remote"][name]["url"]) for name in names})


@contextmanager
def _repo() -> Iterator[Any]:
    from dvc.repo import Repo

    with Repo() as repo:
        yield repo


def cached(md5: str) -> Path:
    """Where the cache keeps an object, whether it is there or not."""
    return Path(places().cache) / md5[:2] / md5[2:]


def read(md5: str) -> bytes:
    """The bytes of an object; FileNotFoundError when neither the cache nor a remote has it."""
    if fetch([md5]):
        where = f"the cache {places().cache}" + "".join(f", nor in remote {name}" for name in places().remotes)
        raise FileNotFoundError(f"object {md5} is not in {where}")
    return cached(md5).read_bytes()


def fetch(md5s: Iterable[str]) -> set[str]:
    """Bring objects that the cache lacks from the remotes into it; returns those that nobody has."""
    missing = {md5 for md5 in md5s if not cached(md5).is_file()}
    if missing and places().remotes:
        with _repo() as repo:
            for name in places().remotes:
                missing -= _fetched(repo.cloud.get_remote_odb(name), missing)
    return missing


def _fetched(odb: Any, md5s: Collection[str]) -> set[str]:
    """Those of the objects that a remote had and the cache has now."""

    def fetch_one(md5: str) -> str | None:
        try:
            data = odb.fs.cat_file(odb.oid_to_path(md5))
        except FileNotFoundError:
            return None
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
            raise OSError(f"object {md5} of {odb.path} has other bytes than its name says: delete it there")
        write(cached(md5), data, mode=0o444)
        return md5

    with ThreadPoolExecutor(TRANSFERS) as pool:
        return {md5 for md5 in pool.map(fetch_one, sorted(md5s)) if md5}


def holders(md5s: Collection[str]) -> dict[str, set[str]]:
    """Remote -> those of the objects that it holds."""
    held: dict[str, set[str]] = {}
    others = []
    for name, address in places().remotes.items():
        if Path(address).is_absolute():  # a folder needs no DVC to look into
            root = Path(address) / "files" / "md5"
            held[name] = {md5 for md5 in md5s if (root / md5[:2] / md5[2:]).is_file()}
        else:
            others.append(name)
    if others and md5s:
        with _repo() as repo:
            for name in others:
                odb = repo.cloud.get_remote_odb(name)
                held[name] = {md5 for md5 in md5s if odb.fs.exists(odb.oid_to_path(md5))}
    return held


def delete(md5s: Collection[str]) -> dict[str, int]:
    """Delete objects from the cache and from every remote; place -> how many were there."""
    in_cache = [cached(md5) for md5 in md5s if cached(md5).is_file()]
    for file in in_cache:
        file.unlink()
    deleted = {"cache": len(in_cache)}
    if places().remotes and md5s:
        with _repo() as repo:
            for name in places().remotes:
                odb = repo.cloud.get_remote_odb(name)
                there = [path for path in map(odb.oid_to_path, md5s) if odb.fs.exists(path)]
                for path in there:
                    odb.fs.remove(path)
                deleted[f"remote {name}"] = len(there)
    return deleted


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file, and its folders, so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    path.chmod(mode)
