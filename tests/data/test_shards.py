"""Shards: plain tar files, whole or absent, the same bytes for the same samples."""

import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image

from stages.data import index
from stages.data.dataset import Description
from stages.data.images import inspect
from stages.data.records import Blob, Box, Record
from stages.data.shards import Sample, ShardWriter, _header, name_of, remove_leftovers, replace_file


def sample(number, split="train", fmt="JPEG"):
    buffer = io.BytesIO()
    Image.new("RGB", (8 + number, 8), (number * 20, 0, 0)).save(buffer, fmt)
    record = Record(f"{number}.x", Blob(Path("x")), labels=("cät",), boxes=(Box("cät", (0, 0, 4, number)),))
    return Sample(
        index.row(record, inspect(buffer.getvalue()), split, index.annotation_hash(record)), buffer.getvalue()
    )


def write(folder, samples, batch=1, **limits):
    writer = ShardWriter(folder, batch, **limits)
    for each in samples:
        writer.add(each)
    counts = writer.commit()
    (folder / "dataset.yaml").write_bytes(Description("classification", {"cät": "cät"}).encoded())
    return counts


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def tars(folder):
    return sorted((folder / "shards").glob("*.tar"))


@pytest.mark.parametrize(("name", "size"), [("0123456789abcdef.jpg", 0), ("a.json", 511), ("b.png", 128 * 2**20)])
def test_header_is_what_tarfile_writes(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    assert _header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_tar_holds_original_bytes_and_annotation_in_order_of_the_keys(tmp_path):
    samples = [sample(i, fmt=fmt) for i, fmt in enumerate(["JPEG", "PNG", "WEBP", "GIF"], 1)]
    assert write(tmp_path, samples) == (1, 0)
    by_key = {s.row["key"]: s for s in samples}
    suffixes = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
    (file,) = tars(tmp_path)
    with tarfile.open(file, "r:") as tar:
        names = tar.getnames()
        assert names == [f"{k}.{s}" for k in sorted(by_key) for s in (suffixes[by_key[k].row["format"]], "json")]
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.mode, member.uname) == (0, 0, 0, 0o644, "")
            key, suffix = member.name.split(".")
            data = tar.extractfile(member).read()
            if suffix == "json":
                row = by_key[key].row
                assert json.loads(data) == {"labels": row["labels"], "objects": row["objects"]}
            else:
                assert data == by_key[key].data


def test_index_points_at_the_bytes(tmp_path):
    samples = [sample(i) for i in range(5)]
    write(tmp_path, samples, batch=3)
    (file,) = tars(tmp_path)
    rows = pyarrow.parquet.read_table(tmp_path / "index" / f"{file.stem}.parquet")
    assert rows.schema.equals(index.schema_of([]))
    data = {s.row["key"]: s.data for s in samples}
    for row in rows.to_pylist():
        assert (row["shard"], row["batch"]) == (file.stem, 3)
        assert file.read_bytes()[row["offset"] : row["offset"] + row["size"]] == data[row["key"]]


def test_a_shard_is_full_by_number_or_by_bytes(tmp_path):
    samples = [sample(i) for i in range(10)]
    assert write(tmp_path / "number", samples, max_samples=4) == (3, 0)
    limit = 3 * (4 * 512 + 1024 + 512)
    write(tmp_path / "bytes", samples, max_bytes=limit)
    assert len(tars(tmp_path / "bytes")) > 3
    assert all(f.stat().st_size <= limit + 1024 for f in tars(tmp_path / "bytes"))


def test_a_sample_over_the_limit_has_a_shard_of_its_own(tmp_path):
    assert write(tmp_path, [sample(1), sample(2)], max_bytes=10) == (2, 0)


def test_same_samples_same_bytes_in_any_order(tmp_path):
    samples = [sample(i) for i in range(6)]
    write(tmp_path / "a", samples)
    write(tmp_path / "b", reversed(samples))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_name_follows_samples_and_splits():
    rows = [sample(1).row, sample(2).row]
    assert name_of(rows) == name_of(rows) and len(name_of(rows)) == 16
    assert name_of(rows) != name_of(rows[:1]) != name_of([sample(1, "val").row])


def test_nothing_shows_before_commit_and_nothing_is_left_after_discard(tmp_path):
    folder = tmp_path / "set"
    writer = ShardWriter(folder, 1, max_samples=1)
    writer.add(sample(1))
    writer.add(sample(2))
    assert contents(folder) and all(name.endswith(".tmp") for name in contents(folder))
    writer.discard()
    assert not list(folder.iterdir())


def test_discard_keeps_what_was_there(tmp_path):
    write(tmp_path, [sample(1)])
    before = contents(tmp_path)
    writer = ShardWriter(tmp_path, 2, max_samples=1)
    for number in (2, 3):
        writer.add(sample(number))
    writer.remove(tars(tmp_path)[0].stem, [sample(1).row["key"]])
    writer.discard()
    assert contents(tmp_path) == before


def test_remove_puts_the_rest_in_a_new_shard_and_leaves_hard_links_alone(tmp_path):
    folder, cache = tmp_path / "set", tmp_path / "cache"
    write(folder, [sample(i) for i in range(4)])
    (old,) = tars(folder)
    os.link(old, cache)
    bytes_before = cache.read_bytes()
    writer = ShardWriter(folder, 2)
    writer.remove(old.stem, [sample(2).row["key"]])
    assert writer.commit() == (0, 1)
    assert cache.read_bytes() == bytes_before
    (new,) = tars(folder)
    assert new.stem != old.stem
    assert [f.stem for f in index.files(folder)] == [new.stem]
    write(tmp_path / "fresh", [sample(i) for i in (0, 1, 3)])  # batch 1 too: the rest is no news
    assert contents(tmp_path / "fresh") == contents(folder)


def test_remove_of_all_leaves_no_shard(tmp_path):
    write(tmp_path, [sample(1)])
    writer = ShardWriter(tmp_path, 2)
    writer.remove(tars(tmp_path)[0].stem, [sample(1).row["key"]])
    writer.add(sample(1, "test"))
    assert writer.commit() == (1, 1)
    assert len(tars(tmp_path)) == len(index.files(tmp_path)) == 1


def test_a_shard_that_is_added_again_while_it_is_replaced_stays(tmp_path):
    """As after an ingest that was killed between adding and deleting."""
    write(tmp_path, [sample(1)])
    writer = ShardWriter(tmp_path, 2)
    writer.remove(tars(tmp_path)[0].stem, [sample(1).row["key"]])
    writer.add(sample(1))
    writer.commit()
    assert len(tars(tmp_path)) == len(index.files(tmp_path)) == 1


def test_replace_file_breaks_hard_links(tmp_path):
    file, cached = tmp_path / "deep" / "dataset.yaml", tmp_path / "cached"
    replace_file(file, b"old")
    os.link(file, cached)
    replace_file(file, b"new")
    assert (file.read_bytes(), cached.read_bytes()) == (b"new", b"old")
    assert contents(tmp_path / "deep") == {"dataset.yaml": b"new"}


def test_leftovers_go(tmp_path):
    write(tmp_path, [sample(1)])
    before = contents(tmp_path)
    for name in ("shards/0.tar.tmp", "index/0.parquet.tmp", "dataset.yaml.tmp", "shards/no-index.tar"):
        (tmp_path / name).write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == before
    for file in index.files(tmp_path):
        file.unlink()
    remove_leftovers(tmp_path)
    assert tars(tmp_path), "shards that were fetched without their index stay"
