"""Sources that are no folder here: archives with path checks, addresses with what changed alone."""

import functools
import http.server
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.data import fetch

FILES = {"cat/a.jpg": b"a" * 10, "dog/b.jpg": b"b" * 20}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def held(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def zipped(file: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file


def tarred(file: Path, files: dict[str, bytes], *members: tarfile.TarInfo) -> Path:
    with tarfile.open(file, "w:gz" if file.name.endswith("gz") else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return file


@pytest.mark.parametrize("under", ["", "bccd-main/", "bccd-main/data/"])
@pytest.mark.parametrize(("pack", "name"), [(zipped, "s.zip"), (tarred, "s.tar"), (tarred, "s.tar.gz")])
def test_an_archive_is_unpacked_from_where_the_source_begins(
    tmp_path: Path, pack: Callable[..., Path], name: str, under: str
) -> None:
    file = pack(tmp_path / name, {under + path: data for path, data in FILES.items()})
    with fetch.folder_of(str(file)) as folder:
        assert held(folder) == FILES
    assert not folder.exists()
    assert file.is_file()


def test_the_only_class_of_an_image_folder_stays_a_folder(tmp_path: Path) -> None:
    with fetch.folder_of(str(zipped(tmp_path / "s.zip", {"cat/a.jpg": b"x", "cat/b.png": b"y"}))) as folder:
        assert list(held(folder)) == ["cat/a.jpg", "cat/b.png"]


@pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "a/../../out.jpg", "a\\..\\out.jpg"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, pack: Callable[..., Path], name: str) -> None:
    file = pack(tmp_path / ("s.zip" if pack is zipped else "s.tar"), {"cat/a.jpg": b"x", name: b"y"})
    with pytest.raises(ValueError, match="outside of its folder"), fetch.folder_of(str(file)):
        pass
    assert not list(tmp_path.rglob("out.jpg"))
    assert not any(fetch.FOLDER.iterdir())


def test_links_and_devices_in_archives_are_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("cat/link.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("cat/null")
    device.type = tarfile.CHRTYPE
    for number, member in enumerate((link, device)):
        file = tarred(tmp_path / f"{number}.tar", FILES, member)
        with pytest.raises(ValueError, match="no plain file"), fetch.folder_of(str(file)):
            pass
    info = zipfile.ZipInfo("cat/link.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match=r"link cat/link\.jpg"), fetch.folder_of(str(tmp_path / "l.zip")):
        pass


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: SimpleNamespace(free=fetch.SPARE_BYTES + 15))
    with (
        pytest.raises(OSError, match="too large for this disk"),
        fetch.folder_of(str(zipped(tmp_path / "s.zip", FILES))),
    ):
        pass


def test_a_cut_archive_is_named(tmp_path: Path) -> None:
    for file in (zipped(tmp_path / "s.zip", FILES), tarred(tmp_path / "s.tar.gz", FILES)):
        file.write_bytes(file.read_bytes()[:60])
        with pytest.raises(ValueError, match=file.name), fetch.folder_of(str(file)):
            pass


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("ftp://host/a.zip", "s3, gs"),
        ("https://ada:secret@host/a.zip", "no name or password"),
        ("simplecache::s3://bucket/a", "simplecache"),
    ],
)
def test_other_protocols_and_secrets_in_addresses_are_refused(source: str, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        fetch.checked(source)
    assert "secret" not in str(caught.value)


def test_an_address_is_told_without_its_signature() -> None:
    assert fetch.checked("https://host/a.zip?X-Amz-Signature=1f") == "https://host/a.zip"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Any]:
    """A web server over a folder, with the paths that it was asked for."""
    folder = tmp_path / "web"
    folder.mkdir()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            asked.append(f"{self.command} {self.path}")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(folder=folder, asked=asked, url=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()


def test_an_archive_is_downloaded_once(web: Any) -> None:
    zipped(web.folder / "s.zip", FILES)
    for _ in range(2):
        with fetch.folder_of(f"{web.url}/s.zip") as folder:
            assert held(folder) == FILES
    assert web.asked.count("GET /s.zip") <= 2  # fsspec may ask for the first bytes to learn the size
    zipped(web.folder / "s.zip", FILES | {"dog/c.jpg": b"c"})
    with fetch.folder_of(f"{web.url}/s.zip") as folder:
        assert "dog/c.jpg" in held(folder)


def test_what_is_not_there_or_no_archive_is_told(web: Any) -> None:
    with pytest.raises(OSError, match=r"s\.zip can't be reached"), fetch.folder_of(f"{web.url}/s.zip"):
        pass
    with pytest.raises(ValueError, match="only archives"), fetch.folder_of(f"{web.url}/pictures/"):
        pass
    with pytest.raises(OSError, match="can't be reached"), fetch.folder_of("http://127.0.0.1:9/s.zip"):
        pass


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A bucket on an S3 server of our own."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        for key, value in {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():  # fmt: skip
            patch.setenv(key, value)
        import fsspec

        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdir("pictures")
        yield system
        server.stop()


def test_a_prefix_of_a_bucket_is_brought_and_later_only_what_changed(bucket: Any) -> None:
    for path, data in FILES.items():
        bucket.pipe(f"pictures/drop/{path}", data)
    brought: list[int] = []
    with fetch.folder_of("s3://pictures/drop", lambda done, total: brought.append(total)) as folder:
        assert held(folder) == FILES
    bucket.pipe("pictures/drop/dog/b.jpg", b"B" * 20)
    bucket.pipe("pictures/drop/dog/c.jpg", b"c")
    bucket.rm("pictures/drop/cat/a.jpg")
    with fetch.folder_of("s3://pictures/drop", lambda done, total: brought.append(total)) as folder:
        assert held(folder) == {"dog/b.jpg": b"B" * 20, "dog/c.jpg": b"c"}
    assert brought == [2, 2]
    assert set(fetch.listing("s3://pictures/drop")) == {"dog/b.jpg", "dog/c.jpg"}
    with pytest.raises(FileNotFoundError, match="nothing"), fetch.folder_of("s3://pictures/none"):
        pass
    with pytest.raises(OSError, match="s3://nowhere"), fetch.folder_of("s3://nowhere/drop"):
        pass


def test_a_listing_leaves_out_what_is_still_being_written(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg.part", ".c.jpg.x7", "d.tmp", "e.crdownload", ".hidden/f.jpg"):
        (tmp_path / "drop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "drop" / name).write_bytes(b"x")
    before = fetch.listing(str(tmp_path / "drop"))
    assert list(before) == ["a.jpg"]
    os.utime(tmp_path / "drop/a.jpg", ns=(1, 1))
    assert fetch.listing(str(tmp_path / "drop")) != before
