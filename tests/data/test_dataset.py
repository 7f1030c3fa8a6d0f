"""The opened dataset: its description, its table in one order, its images from any thread."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages.data import index
from stages.data.dataset import OPEN_SHARDS, Dataset, Description
from stages.data.images import inspect
from stages.data.records import Blob, Record, Source
from stages.data.shards import Sample, ShardWriter

DESCRIPTION = Description(
    "classification", {"n02": "größe, x: y", "1": "no", "n01": "dog"}, licence="MIT", origin="here"
)


def sample(number, split="train", label="n01"):
    buffer = io.BytesIO()
    Image.new("RGB", (8 + number, 8)).save(buffer, "PNG")
    record = Record(f"{number}.png", Blob(Path("x")), labels=(label,))
    return Sample(
        index.row(record, inspect(buffer.getvalue()), split, index.annotation_hash(record)), buffer.getvalue()
    )


def write(folder, *samples, batch=1, **limits):
    folder.mkdir(exist_ok=True)
    writer = ShardWriter(folder, batch, **limits)
    for each in samples:
        writer.add(each)
    writer.commit()
    (folder / "dataset.yaml").write_bytes(DESCRIPTION.encoded())
    return Dataset(folder)


def test_description_comes_back_in_its_order(tmp_path):
    pose = Description("detection", {"b": "B", "a": "A"}, ("nose", "ear"), ((0, 1),), "CC0", "there")
    for description in (DESCRIPTION, pose):
        (tmp_path / "dataset.yaml").write_bytes(description.encoded())
        read = Description.read(tmp_path)
        assert read == description and list(read.classes) == list(description.classes)


def test_description_file_has_a_class_a_line_and_no_counts():
    text = DESCRIPTION.encoded().decode()
    assert "- {name: n02, title: 'größe, x: y'}\n- {name: '1'" in text
    assert list(YAML(typ="safe").load(text)) == ["task", "classes", "skeleton", "skeleton_edges", "licence", "origin"]


def test_joints_have_sigmas_and_pairs_which_may_be_changed(tmp_path):
    pose = Description("detection", {"a": "A"}, ("nose", "left_hip", "right_hip"), ((0, 1),))
    assert pose.sigmas == (0.026, 0.107, 0.107) and pose.flip_pairs == ((1, 2),)
    text = pose.encoded().decode()
    assert "sigmas: [0.026, 0.107, 0.107]\nflip_pairs:\n- [1, 2]\n" in text
    (tmp_path / "dataset.yaml").write_text(text.replace("0.026", "0.03").replace("pairs:\n- [1, 2]", "pairs: []"))
    changed = Description.read(tmp_path)
    assert changed.sigmas == (0.03, 0.107, 0.107) and changed.joints.mirrored == (0, 1, 2)
    assert changed.joined(pose) == changed  # ingesting more of the source changes nothing
    assert Description("detection", {}).joined(changed).sigmas == changed.sigmas


def test_a_description_from_before_there_were_sigmas_reads_as_one_of_now(tmp_path):
    pose = Description("detection", {"a": "A"}, ("nose", "left_hip", "right_hip"), ((0, 1),))
    old = pose.encoded().decode().split("sigmas:")[0] + "licence: ''\norigin: ''\n"
    (tmp_path / "dataset.yaml").write_text(old)
    assert Description.read(tmp_path) == pose


def test_sigmas_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"sigmas \(0.1,\) must be a positive number for each"):
        Description("detection", {}, ("a", "b"), sigmas=(0.1,))


def test_classes_only_grow_at_the_end():
    other = Description("classification", {"a": "new", "n01": "another title", "z": "new too"})
    joined = DESCRIPTION.joined(other)
    assert list(joined.classes.items()) == [*DESCRIPTION.classes.items(), ("a", "new"), ("z", "new too")]
    assert (joined.licence, joined.origin) == ("MIT", "here")


def test_licences_add_up():
    def licence(first, second):
        return Description("t", {}, licence=first).joined(Description("t", {}, licence=second)).licence

    assert licence("", "MIT") == licence("MIT", "") == licence("MIT", "MIT") == "MIT"
    assert licence("MIT", "CC0") == licence("MIT; CC0", "CC0") == "MIT; CC0"


def test_another_task_or_skeleton_is_refused():
    with pytest.raises(ValueError, match="for detection, the dataset for classification"):
        DESCRIPTION.joined(Description("detection", {}))
    with pytest.raises(ValueError, match="joints"):
        Description("t", {}, ("nose",)).joined(Description("t", {}, ("ear",)))


def test_description_of_a_source():
    source = Source("detection", {"a": "A"}, lambda: iter(()), ("nose",), ((0, 0),), "CC0", "web")
    assert Description.of(source) == Description("detection", {"a": "A"}, ("nose",), ((0, 0),), "CC0", "web")


def test_facts(tmp_path):
    dataset = write(tmp_path / "pets", sample(1), sample(2), sample(3, "test"))
    assert (dataset.name, dataset.task, dataset.classes) == ("pets", "classification", ("n02", "1", "n01"))
    assert dataset.titles["n01"] == "dog" and len(dataset.skeleton) == 0
    assert dataset.splits == {"train": 2, "test": 1} and list(dataset.splits) == ["train", "test"]


@pytest.mark.parametrize("exists", ["nothing", "folder", "description"])
def test_no_data_says_what_to_do(tmp_path, exists):
    folder = tmp_path / "pets"
    if exists != "nothing":
        folder.mkdir()
    if exists == "description":
        (folder / "dataset.yaml").write_bytes(DESCRIPTION.encoded())
    with pytest.raises(FileNotFoundError, match=r"dataset pets has no data in .*: visionline ingest pets SOURCE --for"):
        Dataset(folder)


def test_table_is_in_one_order_whatever_the_shards(tmp_path):
    samples = [sample(i, "val" if i % 3 else "train") for i in range(12)]
    one = write(tmp_path / "one", *samples)
    many = write(tmp_path / "many", *reversed(samples), max_samples=2)
    assert len(index.files(many.folder)) == 6
    columns = [c for c in index.SCHEMA.names if c not in ("shard", "offset")]
    assert one.table(columns=columns).equals(many.table(columns=columns))
    keys = many.table()["key"].to_pylist()
    assert keys == sorted(s.row["key"] for s in samples)
    assert many.table().schema.equals(index.SCHEMA)


def test_table_of_a_split_and_of_columns(tmp_path):
    dataset = write(tmp_path / "set", *[sample(i, "val" if i % 3 else "train") for i in range(12)], max_samples=5)
    table = dataset.table("val", ["width", "labels"])
    assert table.column_names == ["width", "labels"] and len(table) == 8
    by_key = sorted((s.row["key"], s.row["width"]) for s in map(sample, range(12)) if (s.row["width"] - 8) % 3)
    assert table["width"].to_pylist() == [width for _, width in by_key]
    assert len(dataset.table("test")) == 0


def test_read_gives_the_bytes(tmp_path):
    samples = {s.row["key"]: s.data for s in map(sample, range(7))}
    dataset = write(tmp_path / "set", *map(sample, range(7)), max_samples=3)
    for row in dataset.table().to_pylist():
        assert dataset.read(row["shard"], row["offset"], row["size"]) == samples[row["key"]]


def test_read_from_threads_over_more_shards_than_stay_open(tmp_path):
    count = OPEN_SHARDS + 30
    dataset = write(tmp_path / "set", *map(sample, range(count)), max_samples=1)
    rows = dataset.table().to_pylist()

    def matches(i):
        row = rows[i * 37 % count]
        return inspect(dataset.read(row["shard"], row["offset"], row["size"])).sha256 == row["sha256"]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(matches, range(4 * count)))
    opened = [f.readlink() for f in Path("/proc/self/fd").iterdir() if f.is_symlink()]
    assert 0 < sum(tmp_path in file.parents for file in opened) <= OPEN_SHARDS


def test_missing_or_short_shard_says_what_to_do(tmp_path):
    dataset = write(tmp_path / "set", sample(1))
    row = dataset.table().to_pylist()[0]
    file = dataset.folder / "shards" / f"{row['shard']}.tar"
    with pytest.raises(OSError, match="ends before"):
        dataset.read(row["shard"], row["offset"], 10**6)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="dvc pull"):
        Dataset(dataset.folder).read(row["shard"], row["offset"], row["size"])


def test_sample_that_two_branches_added_counts_once(tmp_path):
    write(tmp_path / "set", sample(1), sample(2))
    dataset = write(tmp_path / "set", sample(2), sample(3), batch=2)
    assert len(dataset.table()) == 3 and dataset.splits == {"train": 3}
    assert len(dataset.table("train", ["labels"])) == 3


@pytest.mark.parametrize("other", [sample(2, "test"), sample(2, label="n02")])
def test_branches_that_disagree_are_an_error(tmp_path, other):
    write(tmp_path / "set", sample(1), sample(2))
    dataset = write(tmp_path / "set", other, sample(3), batch=2)
    with pytest.raises(ValueError, match=r"holds 2.png twice, with different annotations"):
        dataset.table("train", ["labels"])
