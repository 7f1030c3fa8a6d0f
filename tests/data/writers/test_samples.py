"""stages/data/writers/_samples.py: names that no file system, reader or neighbour objects to."""

import pyarrow as pa
import pytest

from stages.data.formats._files import is_listed
from stages.data.index import SCHEMA
from stages.data.writers._samples import COLUMNS, Samples, safe_name


def samples(*sources: str, folder: str = "f", fmt: str = "JPEG") -> dict[str, str]:
    """Source path -> path in the export."""
    rows = [
        dict.fromkeys(SCHEMA.names)
        | {"key": f"{number:016x}", "format": fmt, "split": "train", "labels": [], "source": source}
        for number, source in enumerate(sources)
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA).select(COLUMNS)
    return {sample.row["source"]: sample.path for sample in Samples(table, lambda *place: b"", lambda row: folder)}


def test_a_unique_name_stays() -> None:
    assert samples("train/cat/1.JPEG", "2.png") == {"train/cat/1.JPEG": "f/1.JPEG", "2.png": "f/2.png"}


def test_a_name_that_several_have_gets_its_folders_everywhere() -> None:
    assert samples("a/1.jpg", "b/1.jpg", "c/2.jpg") == {
        "a/1.jpg": "f/a_1.jpg",
        "b/1.jpg": "f/b_1.jpg",
        "c/2.jpg": "f/2.jpg",
    }


def test_suffix_and_case_do_not_make_a_name_another() -> None:
    """Label files have the image's name without its suffix, and some file systems know no case."""
    assert samples("a/1.jpg", "b/1.PNG", "x/ä.jpg", "y/Ä.jpg") == {
        "a/1.jpg": "f/a_1.jpg",
        "b/1.PNG": "f/b_1.PNG",
        "x/ä.jpg": "f/x_ä.jpg",
        "y/Ä.jpg": "f/y_Ä.jpg",
    }


def test_names_that_meet_a_name_made_of_folders_get_their_key() -> None:
    found = samples("a/b/1.jpg", "a_b/1.jpg", "a_b_1.jpg")
    assert found["a_b_1.jpg"] == "f/a_b_1.jpg"
    assert found["a/b/1.jpg"] == "f/1_0000000000000000.jpg"
    assert found["a_b/1.jpg"] == "f/1_0000000000000001.jpg"


def test_the_same_path_twice_is_two_images() -> None:
    rows = samples("1.jpg", "1.jpg")
    assert len(rows) == 1  # of one source path; the table below has both
    table = pa.Table.from_pylist(
        [
            dict.fromkeys(SCHEMA.names) | {"key": key * 16, "format": "PNG", "labels": [], "source": "1.jpg"}
            for key in "ab"
        ],
        schema=SCHEMA,
    )
    assert Samples(table.select(COLUMNS), lambda *place: b"", lambda row: "f").paths == [
        f"f/1_{'a' * 16}.jpg",
        f"f/1_{'b' * 16}.jpg",
    ]


def test_what_has_no_suffix_of_an_image_gets_that_of_its_format() -> None:
    assert samples("frame.0001", fmt="PNG") == {"frame.0001": "f/frame.0001.png"}


@pytest.mark.parametrize(
    "name",
    [
        ".hidden",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        'q"',
        "x:y",
        "new\nline",
        "end.",
        "end ",
        "*?<>|",
        "a" * 400,
        "\x7f",
        " a",
        "\u00a0a",
        "a" * 179 + ". b",
    ],
)
def test_safe_names(name: str) -> None:
    safe = safe_name(name)
    assert safe and len(safe) <= 180 and is_listed(safe)
    assert not set(safe) & set('/\\:*?"<>|\n\x7f') and not safe.endswith((".", " "))
    assert safe_name(safe) == safe


@pytest.mark.parametrize("name", ["cat", "t-shirt", "Läufer 1", "n01440764", "a.b", "猫"])
def test_a_safe_name_stays(name: str) -> None:
    assert safe_name(name) == name


def test_a_name_that_ends_like_an_image_does_not_look_like_one() -> None:
    """Lists of names, with suffixes or without, would take a.jpg for the image a."""
    assert samples("x/a.jpg.png", "x/a.png") == {"x/a.jpg.png": "f/a_jpg.png", "x/a.png": "f/a.png"}


def test_images_without_a_place_are_counted() -> None:
    rows = [
        dict.fromkeys(SCHEMA.names) | {"key": f"{i:016x}", "format": "PNG", "labels": [], "source": f"{i}.png"}
        for i in range(5)
    ]
    found = Samples(
        pa.Table.from_pylist(rows, schema=SCHEMA).select(COLUMNS),
        lambda *place: b"",
        lambda row: None if row["source"] < "2" else "f",
    )
    assert (len(found), found.num_left_out) == (3, 2)
    assert [sample.name for sample in found] == ["2", "3", "4"]


def test_a_mask_is_read_when_it_is_asked_for_and_once() -> None:
    row = dict.fromkeys(SCHEMA.names) | {"format": "PNG", "labels": [], "source": "1.png", "shard": "s"}
    rows = [row | {"key": "a" * 16, "mask_offset": 512, "mask_size": 7}, row | {"key": "b" * 16}]
    read: list[tuple[str, int, int]] = []
    table = pa.Table.from_pylist(rows, schema=SCHEMA).select(COLUMNS)
    masked, bare = Samples(table, lambda *place: read.append(place) or b"mask", lambda row: "f")
    assert read == []
    assert (masked.mask, masked.mask, bare.mask) == (b"mask", b"mask", None)
    assert read == [("s", 512, 7)]
