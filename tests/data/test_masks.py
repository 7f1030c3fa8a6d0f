"""Masks: from what tools write to what a dataset keeps, and back as class numbers."""

import io
import json
import struct
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from stages.data import index, masks, removals
from stages.data.dataset import Dataset
from stages.data.images import inspect
from stages.data.index import MASK_COLUMNS
from stages.data.records import VOID, Blob, Mask, Record, Source
from stages.data.samples import LooseImages, StoredImages
from stages.ingest import ingest

NAMES = {0: "sky", 1: "road", 2: "car"}
VALUES = np.array([[0, 0, 1, 1], [2, 2, 1, 1], [2, 9, 9, 11]], np.uint8)  # 9 and 11 have no name


def png(pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    if mode == "P":
        image = Image.fromarray(pixels).convert("L")
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(bytes(range(255, -1, -1)) * 3)
    data = io.BytesIO()
    image.save(data, options.pop("fmt", "PNG"), **options)
    return data.getvalue()


def low_depth(pixels, bits):
    """A grey PNG of 1, 2 or 4 bits, which Pillow can't write."""
    rows = b""
    for row in pixels.tolist():
        digits = "".join(f"{value:0{bits}b}" for value in row).ljust(-(-len(row) * bits // 8) * 8, "0")
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    parts = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def photo(width=4, height=3, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return png(pixels, fmt="JPEG", exif=exif)


def mask_of(data, names=NAMES, void=(11,)):
    return masks.store(data, Mask(Blob(Path("m.png")), names, frozenset(void)), inspect(photo()))


def test_values_become_places_among_the_labels_that_are_there():
    stored = mask_of(png(VALUES))
    assert stored.labels == ("car", "road", "sky") and stored.pixels == (3, 4, 2)
    expected = [[2, 2, 1, 1], [0, 0, 1, 1], [0, VOID, VOID, VOID]]
    assert np.asarray(Image.open(io.BytesIO(stored.png))).tolist() == expected
    assert stored.defects == ("mask has 2 pixels of value 9, which has no name: ignored",)


def test_the_same_labels_give_the_same_bytes_whatever_their_numbers():
    renumbered = np.select([n == VALUES for n in NAMES], [40, 50, 60], 255).astype(np.uint8)
    again = mask_of(png(renumbered), {60: "car", 40: "sky", 50: "road"}, void=(255,))
    assert (again.png, again.labels, again.pixels) == (mask_of(png(VALUES)).png, ("car", "road", "sky"), (3, 4, 2))
    assert again.defects == ()


COLOURS = np.stack([VALUES, VALUES // 2, 0 * VALUES], 2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(VALUES), VALUES),
        (png(VALUES, "P"), VALUES),
        (png(VALUES, "P", bits=4), VALUES),
        (png(VALUES > 0), VALUES > 0),
        (low_depth(VALUES > 0, 1), VALUES > 0),
        (low_depth(VALUES % 4, 2), VALUES % 4),
        (low_depth(VALUES, 4), VALUES),
        (png(VALUES.astype(np.uint16) * 1000), VALUES.astype(int) * 1000),
        (png(COLOURS), VALUES + 256 * (VALUES.astype(int) // 2)),
        (png(np.dstack([COLOURS, 0 * VALUES])), VALUES + 256 * (VALUES.astype(int) // 2)),
        (png(np.dstack([VALUES, 0 * VALUES])), VALUES),
        (png(VALUES, fmt="BMP"), VALUES),
        (png(VALUES, fmt="TIFF"), VALUES),
    ],
)
def test_the_value_of_a_pixel_is_its_number_or_its_colour_in_one(data, expected):
    np.testing.assert_array_equal(masks.values(data), expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(VALUES, fmt="JPEG"), "JPEG does not keep the values"),
        (b"", "empty file"),
        (b"text", "not an image"),
        (png(VALUES)[:-30], "truncated or corrupt"),
        (png(np.zeros((3, 5), np.uint8)), "has 5x3 pixels, its image 4x3"),
        (png(np.zeros((6, 8), np.uint8)), "has 8x6 pixels, its image 4x3"),
        (png(VALUES.astype(np.float32), fmt="TIFF"), "mode F: a mask has whole numbers or RGB colours"),
        (low_depth(np.zeros((20000, 20000), np.uint8)[:1], 1)[:16] + struct.pack(">II", 20000, 20000), "bomb|broken"),
    ],
)
def test_a_mask_that_can_not_be_used_says_why(data, reason):
    with pytest.raises(ValueError, match=reason):
        mask_of(data)


def test_more_labels_than_numbers_are_refused():
    names = {i: f"class {i}" for i in range(256)}
    data = png(np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(ValueError, match="256 labels in one image; at most 255"):
        masks.store(data, Mask(Blob(Path("m")), names), inspect(photo(16, 16)))
    assert len(masks.store(data, Mask(Blob(Path("m")), names | {255: "class 0"}), inspect(photo(16, 16))).labels) == 255


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_stored_image_is_turned_with_it(orientation):
    facts = inspect(photo(orientation=orientation))
    assert (facts.width, facts.height) == (3, 4)
    turned = masks.store(png(VALUES), Mask(Blob(Path("m")), NAMES, frozenset({9, 11})), facts)
    assert turned.defects == (f"mask turned upright with the image (EXIF orientation {orientation})",)
    # An image of the same numbers, turned by Pillow itself.
    exif = Image.Exif()
    exif[0x0112] = orientation
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(png(VALUES, exif=exif)))))
    upright = masks.store(png(expected), Mask(Blob(Path("m")), NAMES, frozenset({9, 11})), facts)
    assert (upright.png, upright.defects) == (turned.png, ())


@pytest.fixture
def folder(tmp_path):
    """Six photos; write(numbers, ...) makes a source of them with masks."""

    def write(values, names=NAMES, split="train"):
        records = []
        for number, pixels in values.items():
            (tmp_path / f"{number}.jpg").write_bytes(photo(4 + number))
            item = None
            if pixels is not None:
                (tmp_path / f"{number}.png").write_bytes(pixels if isinstance(pixels, bytes) else png(pixels))
                item = Mask(Blob(tmp_path / f"{number}.png"), names, frozenset({11}))
            records.append(Record(f"{number}.jpg", Blob(tmp_path / f"{number}.jpg"), split=split, mask=item))
        return Source("segmentation", {name: name for name in names.values()}, lambda: iter(records))

    write.data = tmp_path / "data" / "street"
    return write


def numbered(number, fill=1):
    pixels = np.full((3, 4 + number), fill, np.uint8)
    pixels[0, 0] = number % 3
    return pixels


def add(folder, source):
    return ingest(folder, source, progress=False, workers=1)


def test_a_mask_lies_beside_its_image_and_comes_back_in_class_numbers(folder):
    report = add(folder.data, folder({i: numbered(i) for i in range(3)} | {3: None}))
    assert report.added == 4 and report.classes == {"road": 3, "sky": 1, "car": 1}
    images = StoredImages(Dataset(folder.data), "train", "source", *MASK_COLUMNS)
    classes = ("car", "road", "sky")
    for i in range(4):
        number = int(images.value("source", i)[0])
        got = images.mask(i, classes)
        if number == 3:
            assert got is None and images.value("mask_labels", i) is None
            continue
        expected = np.array([2, 1, 0])[numbered(number)]
        np.testing.assert_array_equal(got, expected)
        assert images.mask(i, ("road",)).tolist() == np.where(expected == 1, 0, VOID).tolist()
        counts = dict(zip(images.value("mask_labels", i), images.value("mask_pixels", i), strict=True))
        assert counts == {name: int((expected == n).sum()) for n, name in enumerate(classes) if (expected == n).any()}
    (tar,) = (folder.data / "shards").glob("*.tar")
    with tarfile.open(tar) as opened:
        names = opened.getnames()
        keys = sorted({name.split(".")[0] for name in names})
        assert names == [
            f"{key}.{suffix}" for key in keys for suffix in ("jpg", "json", "mask.png") if f"{key}.{suffix}" in names
        ]
        assert sum(name.endswith(".mask.png") for name in names) == 3
        for key in keys:
            said = json.loads(opened.extractfile(f"{key}.json").read())
            assert ("mask_labels" in said) == (f"{key}.mask.png" in names)
    assert LooseImages([photo()]).mask(0, classes) is None


def test_only_what_changed_is_taken_again(folder):
    add(folder.data, folder({i: numbered(i) for i in range(4)}))
    again = add(folder.data, folder({i: numbered(i) for i in range(4)}))
    assert (again.added, again.unchanged, again.relabelled, again.batch) == (0, 4, 0, None)
    changed = add(folder.data, folder({i: numbered(i, fill=2 if i == 1 else 1) for i in range(4)}))
    assert (changed.added, changed.unchanged, changed.relabelled) == (0, 3, 1)
    images = StoredImages(Dataset(folder.data), "train", "source", *MASK_COLUMNS)
    found = {images.value("source", i): images.mask(i, ("sky", "road", "car")) for i in range(4)}
    for i in range(4):  # those whose shard was rewritten among them
        np.testing.assert_array_equal(found[f"{i}.jpg"], numbered(i, fill=2 if i == 1 else 1))
    renamed = add(folder.data, folder({1: numbered(1, fill=2)}, names=NAMES | {2: "lorry"}))
    assert renamed.relabelled == 1 and list(Dataset(folder.data).classes) == ["sky", "road", "car", "lorry"]


def test_a_list_of_names_that_got_longer_changes_no_sample(folder):
    shown = {i: numbered(i) for i in range(4)}
    shown[3][1, :2] = 9, 11  # neither has a name
    add(folder.data, folder(shown))
    before = {file: file.read_bytes() for file in folder.data.rglob("*.*") if file.name != "dataset.yaml"}
    longer = NAMES | {3: "bus", 4: "tram"}
    again = add(folder.data, folder(shown, names=longer))
    assert (again.added, again.unchanged, again.relabelled, again.batch) == (0, 4, 0, None)
    assert before == {file: file.read_bytes() for file in folder.data.rglob("*.*") if file.name != "dataset.yaml"}
    assert list(Dataset(folder.data).classes) == ["sky", "road", "car", "bus", "tram"]
    # A value that a mask shows has got its name: that one is another annotation, and so are pixels that were redrawn.
    named = add(folder.data, folder(shown, names=longer | {9: "dog"}))
    assert (named.unchanged, named.relabelled) == (3, 1)
    shown[2] = shown[2][::-1]  # as many pixels of each, elsewhere
    moved = add(folder.data, folder(shown, names=longer | {9: "dog", 10: "cat"}))
    assert (moved.unchanged, moved.relabelled) == (3, 1)
    assert not any(Dataset(folder.data).table(columns=["defects"])["defects"].to_pylist())


def test_the_masks_of_a_longer_list_are_compared_as_bytes(folder, monkeypatch):
    shown = {i: numbered(i) for i in range(4)}
    add(folder.data, folder(shown))
    decoded, values = [], masks.values
    monkeypatch.setattr(masks, "values", lambda data, *limit: decoded.append(data) or values(data, *limit))
    assert add(folder.data, folder(shown, names=NAMES | {3: "bus"})).unchanged == 4
    assert len(decoded) == 4
    # What another zlib packed has other bytes, and the same pixels.
    monkeypatch.setattr(masks, "encoded", lambda stored: png(stored, compress_level=0))
    assert add(folder.data, folder(shown, names=NAMES | {3: "bus"})).unchanged == 4


def test_a_shard_that_is_missing_is_no_fault_of_an_image(folder):
    shown = {i: numbered(i) for i in range(4)}
    add(folder.data, folder(shown))
    (tar,) = (folder.data / "shards").iterdir()
    tar.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{tar} is not there: get it with `dvc pull`"):
        add(folder.data, folder(shown, names=NAMES | {3: "bus"}))


@pytest.mark.parametrize("change", [{"split": "test"}, {"group": "film"}, {"defects": ("odd",)}])
def test_what_else_changed_with_the_names_counts(folder, change):
    add(folder.data, folder({0: numbered(0), 1: numbered(1)}))
    source = folder({0: numbered(0), 1: numbered(1)}, names=NAMES | {3: "bus"})
    first, second = source.records()
    records = [replace(first, **change), second]
    report = add(folder.data, replace(source, records=lambda: iter(records)))
    assert (report.unchanged, report.relabelled) == (1, 1)


def test_removing_an_image_takes_its_mask_and_leaves_the_others(folder):
    add(folder.data, folder({i: numbered(i) for i in range(4)} | {5: None}))
    before = Dataset(folder.data).table(columns=["source", "sha256"]).to_pylist()
    gone = next(row["sha256"] for row in before if row["source"] == "2.jpg")
    removals.take_out(folder.data, removals.samples(folder.data, [gone]))
    fresh = folder.data.parent / "fresh"
    add(fresh, folder({i: numbered(i) for i in (0, 1, 3)} | {5: None}))
    for kept, made in zip(sorted(folder.data.rglob("*")), sorted(fresh.rglob("*")), strict=True):
        assert kept.relative_to(folder.data) == made.relative_to(fresh)
        assert kept.is_dir() or kept.read_bytes() == made.read_bytes()


def test_a_bad_mask_is_reported_and_the_rest_goes_on(folder):
    report = add(folder.data, folder({0: numbered(0), 1: png(numbered(1))[:-30], 2: numbered(1), 3: numbered(3)}))
    assert report.added == 2 and [path for path, _ in report.rejected] == ["1.jpg", "2.jpg"]
    assert report.rejected[0][1].startswith("mask 1.png: truncated or corrupt")
    assert report.rejected[1][1] == "mask 2.png: has 5x3 pixels, its image 6x3"


def test_data_without_masks_keep_their_bytes_and_hashes(folder, tmp_path):
    """Golden values of the format before there were masks."""
    record = Record("a.jpg", Blob(tmp_path / "a.jpg"), labels=("x",), group="g", defects=("d",))
    assert index.annotation_hash(record) == "6fa234648ec2152e"
    add(folder.data, folder(dict.fromkeys(range(3))))
    (file,) = index.files(folder.data)
    table = pyarrow.parquet.read_table(file)
    assert not set(MASK_COLUMNS) & set(table.column_names)
    both = Dataset(folder.data).table()
    assert both.schema.equals(index.SCHEMA) and both["mask_labels"].null_count == 3
    add(folder.data, folder({4: numbered(1)[:, :1].repeat(8, 1)}))
    assert Dataset(folder.data).table(columns=["mask_size"])["mask_size"].null_count == 3
    assert table.equals(pyarrow.parquet.read_table(file)), "the old shard is as it was"


def test_a_hostile_value_does_not_become_a_label(folder):
    report = add(folder.data, folder({0: np.full((3, 4), 200, np.uint8)}))
    assert report.added == 1
    row = Dataset(folder.data).table(columns=["mask_labels", "mask_pixels", "defects"]).to_pylist()[0]
    assert row["mask_labels"] == [] and row["mask_pixels"] == []
    assert row["defects"] == ["mask has 12 pixels of value 200, which has no name: ignored"]
