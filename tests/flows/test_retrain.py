"""When a retraining is due, and when it leaves the work to a later one."""

import os
from pathlib import Path
from typing import Any

import pytest

from flows import retrain as retraining
from flows.project import UsageError

PARAMS = """\
retraining: {min_new: 10, quiet_s: 0}
datasets: {pre: {}, a: {}, b: {}}
backbones:
  bone:
    {dataset: pre, arch: resnet18, stem: small, objective: supervised, image_px: 32, training: &t {steps: 1}}
  other: {dataset: b, arch: resnet18, stem: small, objective: supervised, image_px: 32, training: *t}
tasks:
  one: {kind: classification, dataset: a, backbone: bone, image_px: 32, training: *t}
  two: {kind: classification, dataset: b, backbone: bone, image_px: 32, training: *t}
  three: {kind: classification, dataset: a, backbone: other, image_px: 32, training: *t}
"""


@pytest.fixture(autouse=True)
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A project in which running is only noted."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    found: list[list[str]] = []

    def run(only: list[str], assignments: Any, wait_s: float, kills: int) -> dict[str, Any]:
        found.append(list(only))
        return {"promotion": ["one: version 2 passed the gate"], "stale": ["finetune@two"]}

    monkeypatch.setattr(retraining.runs, "run", run)
    return found


def new(monkeypatch: pytest.MonkeyPatch, **numbers: int | None) -> None:
    monkeypatch.setattr(retraining, "_num_new", lambda params, task: numbers[task])


@pytest.mark.parametrize(
    ("dataset", "tasks"),
    [("pre", ["one", "two"]), ("a", ["one", "three"]), ("b", ["two", "three"]), (None, ["one", "two", "three"])],
)
def test_a_dataset_feeds_its_tasks_and_those_of_its_backbones(dataset: str | None, tasks: list[str]) -> None:
    assert retraining.downstream(retraining._params(), dataset) == tasks


def test_only_tasks_with_enough_new_samples_are_trained(monkeypatch: pytest.MonkeyPatch, ran: list[list[str]]) -> None:
    new(monkeypatch, one=9, two=10, three=None)
    told = retraining.retrain()
    assert ran == [["two", "three"]]
    assert told["why"]["one"] == "9 new samples"
    assert told["why"]["three"].startswith("never trained")
    page = retraining.markdown(told)
    assert "trained: two, three" in page and "passed the gate" in page


def test_with_too_few_new_samples_nothing_runs(monkeypatch: pytest.MonkeyPatch, ran: list[list[str]]) -> None:
    new(monkeypatch, one=1, two=9, three=5)
    assert retraining.retrain()["tasks"] == []
    assert ran == []


def test_without_new_samples_the_run_finds_what_was_removed_or_left_half_done(
    monkeypatch: pytest.MonkeyPatch, ran: list[list[str]]
) -> None:
    new(monkeypatch, one=0, two=5, three=0)
    assert retraining.retrain()["tasks"] == ["one", "three"]
    assert ran == [["one", "three"]]
    monkeypatch.setattr(retraining.runs, "run", lambda *_: {"promotion": [], "stale": []})
    assert retraining.retrain()["tasks"] == []


def test_after_a_drift_any_new_label_is_enough_and_without_one_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, ran: list[list[str]]
) -> None:
    new(monkeypatch, one=1, two=0, three=None)
    assert retraining.retrain(task="one")["tasks"] == ["one"]
    assert retraining.retrain(task="three")["tasks"] == ["three"]
    assert ran == [["one"], ["three"]]
    told = retraining.retrain(task="two")
    assert (told["tasks"], len(ran)) == ([], 2)
    assert told["why"]["two"] == "no labelled images are new: visionline drift two --inputs FOLDER asks for some"
    for number, digest in enumerate(("old", "new")):
        file = Path(f".visionline/labelling/two/{digest}/batch/task.json")
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        os.utime(file, (number, number))
    request = ".visionline/labelling/two/new/batch"
    assert retraining.retrain(task="two")["why"]["two"] == f"no labelled images are new: label the request at {request}"


def commit(text: str) -> str:
    from flows import history

    Path("data").mkdir(exist_ok=True)
    Path("data/a.dvc").write_text(text)
    history.git("add", ".")
    history.git("commit", "--quiet", "--message", text)
    return history.git("rev-parse", "HEAD")


def test_an_announcement_that_a_newer_one_followed_leaves_it_the_work(
    monkeypatch: pytest.MonkeyPatch, ran: list[list[str]]
) -> None:
    from flows import history

    history.git("init", "--quiet")
    first, second = commit("one"), commit("two")
    new(monkeypatch, one=50, three=50)
    told = retraining.retrain("a", first)
    assert ran == []
    assert told["why"]["a"] == f"version {second[:12]} came after {first[:12]}: left to it"
    Path("else").write_text("x")
    history.git("add", ".")
    history.git("commit", "--quiet", "--message", "something else")
    retraining.retrain("a", second)
    assert ran == [["one", "three"]]


def test_a_version_waits_until_it_is_quiet(monkeypatch: pytest.MonkeyPatch, ran: list[list[str]]) -> None:
    from flows import history

    history.git("init", "--quiet")
    Path("params.yaml").write_text(PARAMS.replace("quiet_s: 0", "quiet_s: 600"))
    first = commit("one")
    new(monkeypatch, one=50, three=50)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            commit("two")

    monkeypatch.setattr(retraining.time, "sleep", sleep)
    assert retraining.retrain("a", first)["tasks"] == []
    assert (len(slept), ran) == (3, [])


def test_an_unknown_dataset_is_refused() -> None:
    with pytest.raises(UsageError, match="there are: pre, a, b"):
        retraining.retrain("c")


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UsageError, match="there are: one, two, three"):
        retraining.retrain(task="four")
