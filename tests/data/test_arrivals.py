"""What becomes of each record, in order, the same here and in worker processes."""

import io
import re

import pytest
from PIL import Image

from stages.data.arrivals import CHUNK_BYTES, CHUNK_RECORDS, FEW, Arrived, Reader, Unchanged, _chunks, read_all
from stages.data.index import Known
from stages.data.records import Blob, Record, Rejected
from stages.data.shards import ShardWriter
from stages.data.splits import DEFAULT_FRACTIONS, split_of


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        Image.new("RGB", (8 + number, 8)).save(tmp_path / f"{number}.png")
    return tmp_path


def record(folder, number, **changes):
    return Record(f"{number}.png", Blob(folder / f"{number}.png"), labels=("a",), **changes)


def test_same_in_workers_and_in_their_order(folder):
    (folder / "bad.png").write_bytes(b"no image")
    items = []
    for i in range(FEW + 10):
        items.append(Record(f"{i:04d}", Blob(folder / f"{i % 5}.png"), labels=("a",), group=str(i)))
        if i % 50 == 0:
            items += [Rejected(f"{i:04d}a", "no annotation"), Record(f"{i:04d}b", Blob(folder / "bad.png"))]
    reader = Reader(Known(folder))
    here = list(read_all(items, reader, workers=1))
    assert here == list(read_all(items, reader, workers=2))
    assert [o.path if isinstance(o, Rejected) else o.record.path for o in here] == [item.path for item in items]


def test_chunks_are_bounded_in_number_and_bytes(tmp_path):
    small = [Record(str(i), Blob(tmp_path, 0, 10)) for i in range(2 * CHUNK_RECORDS + 1)]
    assert [len(c) for c in _chunks(iter(small))] == [CHUNK_RECORDS, CHUNK_RECORDS, 1]
    large = [Record(str(i), Blob(tmp_path, 0, CHUNK_BYTES // 2)) for i in range(5)]
    assert [len(c) for c in _chunks(iter(large))] == [2, 2, 1]
    assert [c for chunk in _chunks(iter(small)) for c in chunk] == small


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda f: Record("gone", Blob(f / "gone.png")), "can't be read: No such file"),
        (lambda f: Record("dir", Blob(f)), "can't be read: Is a directory"),
        (lambda f: Record("part", Blob(f / "0.png", 0, 40)), "broken|truncated"),
        (lambda f: Record("a\udcff", Blob(f / "0.png")), "not UTF-8"),
    ],
)
def test_unreadable_is_rejected_with_its_reason(folder, make, reason):
    (outcome,) = read_all([make(folder)], Reader(Known(folder)), 1)
    assert isinstance(outcome, Rejected)
    assert re.search(reason, outcome.reason)


def test_a_path_listed_twice_is_rejected(folder):
    first, second = read_all([record(folder, 0), record(folder, 0)], Reader(Known(folder)), 1)
    assert isinstance(first, Arrived)
    assert second == Rejected("0.png", "listed twice in the source")


def outcome_of(item, known, fractions=None):
    (outcome,) = read_all([item], Reader(known, fractions), 1)
    return outcome


def test_split_comes_from_the_spec_or_the_source_or_the_hash(folder):
    known = Known(folder)
    assert outcome_of(record(folder, 0, split="val"), known).split == "val"
    assert outcome_of(record(folder, 0, split="val"), known, {"test": 1.0}).split == "test"
    by_hash = outcome_of(record(folder, 0), known)
    assert by_hash.split == split_of(by_hash.sample.row["sha256"], None, DEFAULT_FRACTIONS)


def test_known_records_are_unchanged_unless_something_is(folder):
    arrived = outcome_of(record(folder, 0), Known(folder), {"val": 1.0})
    writer = ShardWriter(folder, 1)
    writer.add(arrived.sample)
    writer.commit()
    known = Known(folder)
    same = outcome_of(record(folder, 0), known)
    assert same == Unchanged(record(folder, 0), "val"), "without a word on splits a sample stays where it is"
    assert isinstance(outcome_of(record(folder, 0, split="val"), known), Unchanged)
    for changed in (
        outcome_of(record(folder, 0, split="test"), known),
        outcome_of(record(folder, 0, group="g"), known),
    ):
        assert isinstance(changed, Arrived) and len(changed.outdated_in) == 1
    Image.new("RGB", (9, 9)).save(folder / "0.png")
    assert outcome_of(record(folder, 0), known).outdated_in == (), "another image at the same path is another sample"


def test_known_images_are_not_decoded_again(folder, monkeypatch):
    writer = ShardWriter(folder, 1)
    writer.add(outcome_of(record(folder, 0), Known(folder)).sample)
    writer.commit()
    monkeypatch.setattr("stages.data.arrivals.inspect", None)
    assert isinstance(outcome_of(record(folder, 0), Known(folder)), Unchanged)


def test_stream_is_read_as_it_is_needed(folder):
    """A source of millions is never held in memory."""
    taken = []

    def endless():
        buffer = io.BytesIO()
        Image.new("L", (8, 8)).save(buffer, "PNG")
        (folder / "x.png").write_bytes(buffer.getvalue())
        while True:
            taken.append(1)
            yield Record(str(len(taken)), Blob(folder / "x.png"))

    outcomes = read_all(endless(), Reader(Known(folder)), workers=2)
    assert isinstance(next(outcomes), Arrived)
    outcomes.close()
    assert len(taken) <= FEW + 6 * CHUNK_RECORDS
