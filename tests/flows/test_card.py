"""The model card of a registered version, as a run leaves it."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def cards(clone: Any, name: str) -> dict[int, Path]:
    """Version -> file of its card, by the tag that the version has."""
    rows = clone.sql(
        "SELECT t.version, t.value, r.artifact_uri FROM model_version_tags t JOIN runs r ON "
        f"t.value LIKE 'runs:/' || r.run_uuid || '/%' WHERE t.name = '{name}' AND t.key = 'visionline.card'"
    )
    return {
        int(version): Path(uri.removeprefix("file://")) / address.split("/", 2)[2] for version, address, uri in rows
    }


def register_anew(clone: Any) -> None:
    """Another report makes another version."""
    with (clone.root / "reports/evaluate/patterns.json").open("a") as file:
        file.write("\n")
    done = clone.stage("register", "patterns")
    assert done.returncode == 0, done.stderr


def test_each_version_has_a_card_with_its_lineage(ran: Any) -> None:
    clone = ran.clone
    lock = clone.yaml("dvc.lock")["stages"]
    for task, dataset in (("patterns", "shapes-patterns"), ("scenes", "shapes-scenes")):
        text = cards(clone, task)[1].read_text()
        deps = {d["path"]: d["md5"] for d in lock[f"finetune@{task}"]["deps"]}
        source = {d["path"]: d["md5"] for d in lock["pretrain@shapes-resnet18"]["deps"]}["data/shapes-imagenet"]
        (commit,) = clone.sql(
            f"SELECT value FROM model_version_tags WHERE name = '{task}' AND version = 1 AND key = 'git.commit'"
        )
        for told in (deps[f"data/{dataset}"], source, *commit, "HiResCAM", "There was no champion"):
            assert told in text
        report = json.loads((clone.root / f"reports/evaluate/{task}.json").read_text())
        assert all(finding in text for finding in report["findings"])
        assert text.count("data:image/png") > 6
    assert clone.sql("SELECT count(*) FROM model_versions WHERE description LIKE '%card/card.html%'") == [(2,)]


@pytest.mark.parametrize("task", ["patterns", "scenes"])
def test_a_browser_opens_it_without_errors_or_requests(ran: Any, task: str, browse: Callable[[Path], str]) -> None:
    assert "<h2>Saliency</h2>" in browse(cards(ran.clone, task)[1])


def test_a_later_version_is_shown_beside_the_champion_of_its_time(clone: Any) -> None:
    register_anew(clone)
    text = cards(clone, "patterns")[2].read_text()
    assert "The champion is version 1, measured on the same data" in text
    assert "<th>champion</th>" in text
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}


@pytest.mark.long
def test_a_card_that_can_not_be_made_is_told_and_made_by_the_next_run(clone: Any) -> None:
    saliency = clone.root / "stages/tasks/saliency.py"
    text = saliency.read_text()
    saliency.write_text(text + "\n\ndef explain(*_):\n    raise MemoryError('no room for heat')\n")
    with (clone.root / "reports/evaluate/patterns.json").open("a") as file:
        file.write("\n")
    done = clone.stage("register", "patterns")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert "version 2 is registered" in line and "no room for heat" in line
    assert "Traceback" not in done.stderr
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
    assert list(cards(clone, "patterns")) == [1]

    saliency.write_text(text)
    done = clone.stage("register", "patterns")
    assert (done.returncode, "is version 2 already" in done.stdout) == (0, True), done.stderr
    assert sorted(cards(clone, "patterns")) == [1, 2]


@pytest.mark.long
def test_a_run_adds_a_missing_card(clone: Any) -> None:
    with sqlite3.connect(clone.root / ".visionline/mlflow.db") as database:
        database.execute("DELETE FROM model_version_tags WHERE key = 'visionline.card' AND name = 'scenes'")
    assert cards(clone, "scenes") == {}
    clone.ok("run")
    assert list(cards(clone, "scenes")) == [1]
    assert clone.aliases("scenes") == {"challenger": 1, "champion": 1}
    assert clone.ok("run").count("nothing was registered") == 1
