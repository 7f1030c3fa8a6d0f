"""An image found in all versions of a dataset at once."""

import hashlib
import json

import pyarrow.parquet
import pytest

from stages.data import history, lookup, objects


def keep(cache, data, suffix=""):
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + suffix
    objects.write(cache / md5[:2] / md5[2:], data)
    return md5


@pytest.fixture
def made(tmp_path, monkeypatch, sample_rows, index_table):
    """Two versions in a cache: the first shard in both, the second only in the newer; their hashes and rows."""
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache/files/md5"
    monkeypatch.setattr(objects, "places", lambda: objects.Places(str(cache), {}))
    history.listing.cache_clear()
    rows, listed = sample_rows("classification", num=40), []
    for number, part in enumerate((rows[:30], rows[30:])):
        for row in part:
            row["shard"] = f"shard{number}"
        pyarrow.parquet.write_table(index_table(part), tmp_path / "part.parquet")
        listed.append(
            {"md5": keep(cache, (tmp_path / "part.parquet").read_bytes()), "relpath": f"index/shard{number}.parquet"}
        )
    versions = [keep(cache, json.dumps(listed[: n + 1]).encode(), ".dir") for n in range(2)]
    yield versions, rows, cache
    history.listing.cache_clear()


def test_finds_bytes_in_every_version_that_holds_them(made):
    (old, new), rows, _ = made
    found = lookup.Lookup("things", [old, new])
    (first,), (last,) = found.find(rows[3]["sha256"]), found.find(rows[35]["sha256"][:12])
    assert (first.key, first.split, set(first.versions)) == (rows[3]["key"], rows[3]["split"], {old, new})
    assert (last.source, last.versions) == (rows[35]["source"], (new,))
    assert found.find("0" * 64) == []


def test_finds_every_row(made):
    versions, rows, _ = made
    found = lookup.Lookup("things", versions)
    assert [found.find(row["sha256"])[0].key for row in rows] == [row["key"] for row in rows]


def test_similar_counts_the_bits_that_differ(made):
    versions, rows, _ = made
    found = lookup.Lookup("things", versions)
    flipped = f"{int(rows[7]['phash'], 16) ^ 0b1011:016x}"
    assert found.similar(flipped, 2) == []
    (near,) = found.similar(flipped, 3)
    assert (near.key, near.bits) == (rows[7]["key"], 3)
    assert found.phash(rows[7]["sha256"]) == rows[7]["phash"]


def test_arrays_are_built_once_and_again_for_a_new_version_or_when_they_are_gone(made, monkeypatch):
    (old, new), rows, _ = made
    builds = []
    build = lookup.Lookup._build
    monkeypatch.setattr(lookup.Lookup, "_build", lambda self, versions: builds.append(1) or build(self, versions))
    for versions in ([old], [old], [old, new], [new], [old, new]):
        assert lookup.Lookup("things", versions).find(rows[0]["sha256"])
    assert len(builds) == 2
    for file in lookup.FOLDER.glob("things/*"):
        file.unlink()
    assert lookup.Lookup("things", [new]).find(rows[0]["sha256"])
    assert len(builds) == 3


def test_a_version_that_is_nowhere_is_told_and_found_once_it_is_back(made):
    (old, new), rows, cache = made
    file = cache / new[:2] / new[2:]
    data = file.read_bytes()
    file.unlink()
    history.listing.cache_clear()
    found = lookup.Lookup("things", [old, new])
    assert found.unreadable == [new]
    assert found.find(rows[3]["sha256"])[0].versions == (old,)
    objects.write(file, data)
    assert lookup.Lookup("things", [old, new]).unreadable == []


@pytest.mark.parametrize(
    ("text", "expected"), [("0123abcd", True), ("0123ABCD" * 8, True), ("0123abc", False), ("photo.jpg", False)]
)
def test_what_can_be_a_sha256(text, expected):
    assert lookup.is_sha256(text) is expected
