"""A version of a dataset as a folder, though another one or none is checked out: links to DVC's cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.data import history, objects
from stages.tracking.process import LOCAL_STATE


def digest_at(name: str, revision: str) -> str:
    """DVC's hash of a dataset in a commit, branch or tag; ValueError where there is none."""
    digest = history.version_at(name, revision)
    if digest is None:
        raise ValueError(f"{revision} holds no data/{name}.dvc: its versions are those of git log -- data/{name}.dvc")
    return digest


@contextmanager
def borrowed(name: str, digest: str) -> Iterator[Path]:
    """A folder that reads as data/NAME of that version, for as long as the block lasts.

    FileNotFoundError when a part of the version is in neither the cache nor a remote.
    """
    listing = history.listing(digest)
    if missing := objects.fetch(listing.values()):
        raise FileNotFoundError(f"{len(missing)} of {len(listing)} files of {name} {digest} are in no cache or remote")
    LOCAL_STATE.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="borrowed-", dir=LOCAL_STATE) as place:
        folder = Path(place) / name
        for path, md5 in listing.items():
            link = folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(objects.cached(md5).absolute())
        yield folder
