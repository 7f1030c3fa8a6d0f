"""A source that is not a folder here becomes one: archives are unpacked, S3, GCS and HTTP addresses are downloaded."""

import hashlib
import json
import posixpath
import shutil
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from stages.data.formats._files import is_image
from stages.data.objects import write
from stages.tracking.process import LOCAL_STATE, locked

FOLDER = LOCAL_STATE / "sources"
PROTOCOLS = ("s3", "gs", "gcs", "http", "https")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# Names that tools give to files that they are still writing.
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", "~")
AT_ONCE = 256  # files asked of a store together
SPARE_BYTES = 1 << 30  # of the disk, which unpacking leaves free

Listing = dict[str, str]  # path below the source -> what changes when the file does
OnProgress = Callable[[int, int], None]


def is_address(source: str) -> bool:
    """Whether a source is an address and not a path."""
    return "://" in source


def checked(source: str) -> str:
    """The source as it may be kept and printed; ValueError when its protocol is not known or it holds a secret."""
    if not is_address(source):
        return source
    address = urlsplit(source)
    if address.scheme not in PROTOCOLS:
        raise ValueError(f"source {address.scheme}://...: must be a path or begin with {', '.join(PROTOCOLS)} and ://")
    if address.username or address.password:
        raise ValueError(
            f"source {address.scheme}://{address.hostname}: no name or password in an address, it would be kept in "
            "logs: set the environment variables of the store (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS) or ~/.netrc"
        )
    return source.split("?")[0] if address.scheme.startswith("http") else source


@contextmanager
def folder_of(source: str, on_progress: OnProgress | None = None) -> Iterator[Path]:
    """A local folder with what the source holds; what was unpacked is deleted afterwards, downloads are kept.

    Downloaded again is only what changed. ValueError or OSError, in one line, when the source is of no known kind,
    can't be reached, or an archive would write outside of its folder or fill the disk.
    """
    checked(source)
    if not is_address(source):
        if Path(source).is_file() and _is_archive(source):
            with _unpacked(Path(source)) as folder:
                yield folder
        else:
            yield Path(source)
        return
    home = FOLDER / hashlib.sha256(source.encode()).hexdigest()[:16]
    with locked(f"source-{home.name}"):
        local = _download(source, home, on_progress)
        if local.is_file():
            with _unpacked(local) as folder:
                yield folder
        else:
            yield local


def listing(source: str) -> Listing:
    """The files of a source, with what changes when they do; those still being written (by name) are left out."""
    if is_address(source):
        return {path: mark for path, mark in _remote(source)[1].items() if not is_unfinished(path)}
    root, found = Path(source), {}
    for file in [root] if root.is_file() else sorted(root.rglob("*")):
        name = file.name if file == root else file.relative_to(root).as_posix()
        try:
            state = file.stat()
        except FileNotFoundError:  # renamed or taken away while it was looked at
            continue
        if stat.S_ISREG(state.st_mode) and not is_unfinished(name):
            found[name] = f"{state.st_size} {state.st_mtime_ns}"
    return found


def is_unfinished(path: str) -> bool:
    """Whether the name says that the file is still being written, or is hidden."""
    return path.lower().endswith(UNFINISHED) or any(part.startswith(".") for part in PurePosixPath(path).parts)


def _is_archive(path: str) -> bool:
    return path.lower().endswith(ARCHIVES)


def _remote(source: str) -> tuple[Any, Listing, str]:
    """File system, files below the address, and the address as the file system calls it."""
    import fsspec

    try:
        system, root = fsspec.url_to_fs(source)
    except ImportError as error:
        raise ValueError(f"source {checked(source)}: {error}") from None
    try:
        if _is_archive(urlsplit(source).path):
            return system, {posixpath.basename(root.split("?")[0]): _mark(system.info(root))}, root
        if source.startswith("http"):
            raise ValueError(f"source {checked(source)}: over HTTP only archives ({', '.join(ARCHIVES)}) can be taken")
        found = system.find(root, detail=True)
    except ValueError:
        raise
    except Exception as error:  # each store has errors of its own
        raise OSError(f"source {checked(source)} can't be reached: {_shortened(error)}") from None
    if not found:
        raise FileNotFoundError(f"source {checked(source)}: there is nothing")
    return system, {posixpath.relpath(path, root): _mark(info) for path, info in found.items()}, root


def _mark(info: Mapping[str, Any]) -> str:
    """What tells one state of a remote file from another: its size and whatever version the store gives it."""
    marks = (info.get(key) for key in ("ETag", "etag", "md5Hash", "generation", "LastModified", "mtime", "updated"))
    return " ".join(map(str, (info.get("size"), *filter(None, marks))))


def _shortened(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _download(source: str, home: Path, on_progress: OnProgress | None) -> Path:
    """Bring what changed; the folder of all files, or the one archive."""
    system, found, root = _remote(source)
    files, kept = home / "files", home / "listing.json"
    before: Listing = json.loads(kept.read_text(encoding="utf8")) if kept.is_file() else {}
    for path in before.keys() - found.keys():
        _inside(files, path).unlink(missing_ok=True)
    there = {path: mark for path, mark in before.items() if found.get(path) == mark and (files / path).is_file()}
    missing = sorted(found.keys() - there.keys())
    for start in range(0, len(missing), AT_ONCE):
        chunk = missing[start : start + AT_ONCE]
        local = [_inside(files, path) for path in chunk]
        for file in local:
            file.parent.mkdir(parents=True, exist_ok=True)
        is_one = len(found) == 1 and _is_archive(urlsplit(source).path)
        temporary = [file.with_name(f".{file.name}.part") for file in local]
        try:
            system.get([root] if is_one else [posixpath.join(root, path) for path in chunk], list(map(str, temporary)))
        except Exception as error:  # each store has errors of its own
            raise OSError(f"source {checked(source)} broke off: {_shortened(error)}") from None
        for part, file in zip(temporary, local, strict=True):
            part.replace(file)
        there |= {path: found[path] for path in chunk}
        write(kept, json.dumps(there).encode())
        if on_progress:
            on_progress(start + len(chunk), len(missing))
    only = files / next(iter(found))
    return only if len(found) == 1 and _is_archive(only.name) else files


def _inside(root: Path, path: str) -> Path:
    """The file of a path below a folder; ValueError when it would lie elsewhere."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} in the source would lie outside of its folder: nothing was taken")
    return root.joinpath(*parts)


@contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    """The contents of an archive in a folder of their own, gone afterwards."""
    stamp = hashlib.sha256(str(archive.absolute()).encode()).hexdigest()[:16]
    folder = FOLDER / f"{stamp}.{time.monotonic_ns()}.unpacked"
    folder.mkdir(parents=True)
    try:
        try:
            (_unzip if archive.suffix.lower() == ".zip" else _untar)(archive, folder)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zipfile.LargeZipFile) as error:
            raise ValueError(f"archive {archive}: {_shortened(error)}") from None
        yield _root(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            if member.is_dir():
                continue
            target = _inside(folder, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ValueError(f"archive {archive} holds the link {member.filename}: pack the file itself")
            with content.open(member) as stream:
                _copy(stream, target, archive)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        for member in content:
            if member.isdir():
                continue
            target = _inside(folder, posixpath.normpath(member.name))
            if not member.isfile():
                raise ValueError(f"archive {archive} holds {member.name}, which is no plain file: pack the file itself")
            stream = content.extractfile(member)
            assert stream is not None
            _copy(stream, target, archive)


def _copy(stream: Any, target: Path, archive: Path) -> None:
    """Write a member, and stop before the disk is full, whatever size the archive claims."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while part := stream.read(16 << 20):
            if shutil.disk_usage(target.parent).free < len(part) + SPARE_BYTES:
                raise OSError(f"archive {archive} is too large for this disk: at {target.name} less than 1 GiB is left")
            file.write(part)


def _root(folder: Path) -> Path:
    """Where the source begins: archives often hold one folder that has the name of the archive."""
    while True:
        inside = [entry for entry in folder.iterdir() if entry.name != "__MACOSX"]
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        below = list(inside[0].iterdir())
        if all(entry.is_file() and is_image(entry.name) for entry in below):
            return folder  # a single class of an image folder
        folder = inside[0]
