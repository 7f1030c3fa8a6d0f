"""`visionline remove`: images leave a dataset, and with --purge every place that we know."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest


@pytest.fixture
def clone(ran: Any, tmp_path: Path) -> Any:
    """A copy of the clone that has run, to change at will; nothing here needs a Prefect server."""
    return ran.clone.copy(tmp_path / "project")


def rows(clone: Any, dataset: str) -> list[dict[str, Any]]:
    columns = ["key", "sha256", "split", "source", "shard", "offset", "size"]
    files = (clone.root / f"data/{dataset}/index").glob("*.parquet")
    return [row for file in sorted(files) for row in pyarrow.parquet.read_table(file, columns=columns).to_pylist()]


def image(clone: Any, dataset: str, row: dict[str, Any]) -> bytes:
    with (clone.root / f"data/{dataset}/shards/{row['shard']}.tar").open("rb") as file:
        file.seek(row["offset"])
        return file.read(row["size"])


def holders(folder: Path, data: bytes) -> list[Path]:
    """Files below a folder that contain these bytes."""
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and data in file.read_bytes()]


def artifacts(clone: Any, task: str) -> dict[str, list[Path]]:
    """Run -> files that MLflow keeps of it."""
    found = clone.sql(f"SELECT name, artifact_uri FROM runs WHERE name LIKE '%@{task}'")
    return {name: sorted(Path(uri.removeprefix("file://")).rglob("*.*")) for name, uri in found}


def test_a_removed_image_is_gone_from_the_next_version_and_does_not_come_back(clone: Any) -> None:
    before, name = rows(clone, "shapes-patterns"), "shapes-patterns"
    gone = next(row for row in before if row["split"] == "train")
    data = image(clone, name, gone)
    head = clone.git("rev-parse", "HEAD")
    told = clone.ok("remove", name, gone["source"], "--reason", "consent withdrawn")
    assert "1 samples removed, 1 shards rewritten" in told
    assert "to train anew: patterns version 1, trained on; live as patterns@challenger, patterns@champion" in told
    after = rows(clone, name)
    assert {row["key"] for row in before} - {row["key"] for row in after} == {gone["key"]}
    assert holders(clone.root / "data" / name, data) == []
    assert all(hashlib.sha256(image(clone, name, row)).hexdigest() == row["sha256"] for row in after)
    assert clone.commits(head) == [f"remove 1 image from {name}: consent withdrawn"]
    assert sorted(clone.files_of()) == [f"data/{name}.dvc", f"data/{name}.removals.jsonl"]
    entry = json.loads((clone.root / f"data/{name}.removals.jsonl").read_text())
    assert (entry["reason"], entry["purged"], entry["images"][0]["sha256"]) == (
        "consent withdrawn", False, gone["sha256"],
    )  # fmt: skip

    changed = json.loads(clone.ok("trace", f"data:{name}", "--json"))["changes"]
    assert changed["counts"] == {"added": 0, "removed": 1, "relabelled": 0, "moved": 0}
    assert changed["removed"][0]["source"] == gone["source"]
    # The old version still holds it, and trace says so.
    (sighting,) = json.loads(clone.ok("trace", f"image:{gone['sha256']}", "--json"))["sightings"]
    assert len(sighting["versions"]) == 1

    drawn = clone.root / ".visionline/shapes/imagefolder"
    again = clone.visionline("ingest", name, str(drawn), "--format", "imagefolder")
    assert "consent withdrawn" in again.stdout + again.stderr
    assert gone["sha256"] not in {row["sha256"] for row in rows(clone, name)}


def test_a_purge_leaves_no_byte_in_cache_remote_or_artifacts(clone: Any, tmp_path: Path) -> None:
    name, remote = "shapes-patterns", tmp_path / "remote"
    clone.dvc("remote", "add", "--default", "store", str(remote))
    clone.git("commit", "--quiet", "--all", "--message", "a remote")
    clone.dvc("push")
    gone = next(row for row in rows(clone, name) if row["split"] == "test")
    data = image(clone, name, gone)
    photo = tmp_path / "photo.png"
    photo.write_bytes(data)
    places = (clone.root / ".dvc/cache", remote, clone.root / "data")
    assert all(holders(place, data) for place in places)
    answer = f"{gone['key']},".encode()  # of the model, a line of predictions.csv
    told_of = (*places, clone.root / "reports", clone.root / ".visionline/mlartifacts")
    assert [bool(holders(place, answer)) for place in told_of] == [True, True, False, True, True]
    # A purge must not reach the other clones of the tests through hard links, and does not: it unlinks.
    refused = clone.visionline("remove", name, str(photo), "--reason", "consent withdrawn", "--purge")
    assert refused.returncode == 2
    assert "add --yes" in refused.stderr
    assert all(holders(place, data) for place in places)

    told = clone.ok("remove", name, str(photo), "--reason", "consent withdrawn", "--purge", "--yes")
    assert "can't be brought back after it: shapes-patterns version" in told
    assert [file for place in places for file in holders(place, data)] == []
    left = {name: [path.name for path in files] for name, files in artifacts(clone, "patterns").items()}
    assert "confusion.png" in left["evaluate@patterns"]
    there = {*left["evaluate@patterns"], *left["register@patterns"]}
    assert not there & {"worst.png", "random.png", "predictions.csv", "card.html"}
    assert [file for place in told_of for file in holders(place, answer)] == []
    assert "worst.png" in [path.name for path in artifacts(clone, "scenes")["evaluate@scenes"]]
    entry = json.loads((clone.root / f"data/{name}.removals.jsonl").read_text())
    assert entry["purged"]
    assert [version["dataset"] for version in entry["can not come back"]] == [name]
    # What the model was made from is still told, and that it can't come back.
    model = json.loads(clone.ok("trace", "model:patterns", "--json"))
    assert any("can't be brought back" in note for note in model["notes"])
    document = json.loads(clone.ok("trace", f"image:{gone['sha256']}", "--json"))
    assert document["sightings"][0]["remains"] == {"working tree": False, "cache": False, "remotes": []}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing", "a.jpg"), "shapes-imagenet"),
        (("shapes-scenes", "a.jpg"), "no path in the index"),
        (("shapes-scenes", "0" * 64), "no version of shapes-scenes holds"),
    ],
)
def test_mistakes_are_wrong_use_and_change_nothing(ran: Any, arguments: tuple[str, ...], told: str) -> None:
    head = ran.clone.git("rev-parse", "HEAD")
    done = ran.clone.visionline("remove", *arguments, "--reason", "none")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert told in done.stderr
    assert ran.clone.git("rev-parse", "HEAD") == head
