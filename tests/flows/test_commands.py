"""The command line: help, mistakes, and the operations on what has run."""

import json
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

COMMANDS = ("init", "generate", "ingest", "export", "run", "tune", "status", "accept", "predict", "serve", "ui")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(bare: Any, command: str) -> None:
    assert f"visionline {command}" in bare.ok(command, "--help").partition("Example:")[2]


def test_help_is_quick(bare: Any) -> None:
    """In seconds of the processor, which other work on the machine changes little."""
    before = sum(psutil.Process().cpu_times()[2:4])
    printed = bare.ok("--help")
    assert sum(psutil.Process().cpu_times()[2:4]) - before < 1.0
    assert all(command in printed for command in COMMANDS)


MISTAKES = {
    ("retrain",): "No such command",
    ("run", "--set", "seed"): "must be KEY=VALUE",
    ("run", "--set", "tasks.patterns.training.stepz=3"): "tasks.patterns.training.stepz",
    ("run", "--set", "tasks.patterns.training.steps=many"): "tasks.patterns.training.steps",
    ("run", "--only", "cells"): "there are: patterns, scenes",
    ("run",): "visionline ingest",
    ("init", "nothing"): "there are: bccd",
    ("accept", "finetune@cells", "--reason", "x"): "no stage 'finetune@cells'",
    ("predict", "patterns", "photo.jpg"): "none registered",
    ("serve", "patterns"): "none registered",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_told_in_words(bare: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    clone = bare.copy(tmp_path / "project")
    head = clone.git("rev-parse", "HEAD")
    done = clone.visionline(*arguments)
    assert (done.returncode, MISTAKES[arguments] in done.stderr) == (2, True), done.stdout + done.stderr
    assert clone.git("rev-parse", "HEAD") == head
    assert clone.git("status", "--porcelain") == ""


def test_outside_of_a_clone_is_wrong_use(bare: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows", "status"], cwd=tmp_path, env=bare.environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, "git repository" in done.stderr) == (2, True), done.stderr


def test_init_commits_a_recipe_and_keeps_what_is_not_committed(bare: Any, tmp_path: Path) -> None:
    clone = bare.copy(tmp_path / "project")
    params = clone.root / "params.yaml"
    params.write_text(params.read_text() + "# mine\n")
    refused = clone.visionline("init", "laptop")
    assert (refused.returncode, "--force" in refused.stderr) == (2, True)
    assert params.read_text().endswith("# mine\n")
    clone.ok("init", "laptop", "--force")
    assert params.read_text() == (clone.root / "recipes/laptop.yaml").read_text()
    assert clone.files_of() == ["params.yaml"]
    assert clone.git("status", "--porcelain") == ""
    reasons = {row["name"]: row["reasons"] for row in json.loads(clone.ok("status", "--json"))["stages"]}
    assert reasons["validate@shapes-scenes"] == ["has not run yet"]
    assert reasons["pretrain@shapes-resnet18"] == ["has not run yet", "needs validate@shapes-imagenet"]


@pytest.mark.slow
@pytest.mark.long
def test_status_says_why_and_accept_keeps_what_still_stands(clone: Any) -> None:
    def stages() -> dict[str, Any]:
        return {row["name"]: row for row in json.loads(clone.ok("status", "--json"))["stages"]}

    fresh = stages()
    assert all(row["fresh"] for row in fresh.values())
    assert fresh["finetune@patterns"]["seconds"] > 0

    with (clone.root / "stages/training/optim.py").open("a") as file:
        file.write("# a remark\n")
    stale = stages()
    assert stale["validate@shapes-scenes"]["fresh"]
    assert stale["pretrain@shapes-resnet18"]["reasons"] == ["stages/training modified"]
    printed = clone.ok("status")
    assert "stages/training modified" in printed
    assert "challenger 1" in printed

    names = [name for name, row in stale.items() if not row["fresh"]]
    clone.ok("accept", *names, "--reason", "a remark only")
    assert all(row["fresh"] for row in stages().values())
    assert clone.files_of() == ["dvc.lock"]
    assert clone.git("log", "-1", "--format=%s").endswith(": a remark only")
    assert clone.git("status", "--porcelain").split() == ["M", "stages/training/optim.py"]

    params = clone.root / "params.yaml"
    params.write_text(params.read_text().replace("steps: 24", "steps: 25"))
    for stage, why in {"finetune@patterns": "more than its code", "evaluate@scenes": "is fresh"}.items():
        refused = clone.visionline("accept", stage, "--reason", "no")
        assert (refused.returncode, why in refused.stderr) == (2, True), refused.stderr


@pytest.mark.slow
def test_predict_answers_for_files_and_folders_and_names_a_broken_one(clone: Any, tmp_path: Path) -> None:
    pictures = sorted((clone.root / ".visionline/shapes/imagefolder").rglob("*.png"))[:3]
    pictures = pictures or sorted((clone.root / ".visionline/shapes/imagefolder").rglob("*.jpg"))[:3]
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, picture in enumerate(pictures[:2]):
        shutil.copy(picture, folder / f"{number}{picture.suffix}")
    answers = json.loads(clone.ok("predict", "patterns@champion", str(pictures[2]), str(folder), "--json"))
    assert list(answers) == [str(pictures[2]), *(str(file) for file in sorted(folder.iterdir()))]
    classes = {entry["name"] for entry in clone.yaml("data/shapes-patterns/dataset.yaml")["classes"]}
    for answer in answers.values():
        assert set(answer["scores"]) == classes
        assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)

    (folder / "a-broken.jpg").write_bytes(b"no picture")
    broken = clone.visionline("predict", "scenes", str(folder))
    assert broken.returncode == 1
    assert len(broken.stderr.strip().splitlines()) == 1
    assert "a-broken.jpg" in broken.stderr

    unknown = clone.visionline("predict", "patterns/7", str(folder))
    assert unknown.returncode == 2
    assert "@champion (version 1)" in unknown.stderr
    empty = clone.visionline("predict", "patterns", str(tmp_path / "nowhere"))
    assert (empty.returncode, "nowhere" in empty.stderr) == (2, True)


@pytest.mark.slow
def test_two_versions_answer_each_with_its_own_code(clone: Any) -> None:
    code = clone.root / "stages/tasks/classification.py"
    text = code.read_text()
    changed = text.replace('return {"label": ', 'return {"taught": "later", "label": ')
    assert changed != text
    code.write_text(changed)
    report = clone.root / "reports/evaluate/patterns.json"
    with report.open("a") as file:
        file.write("\n")  # another report: another version
    done = clone.stage("register", "patterns")
    assert (done.returncode, "Warning" in done.stderr) == (0, False), done.stderr
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
    picture = next(f for f in (clone.root / ".visionline/shapes/imagefolder").rglob("*") if f.is_file())
    first, second = (
        next(iter(json.loads(clone.ok("predict", f"patterns@{alias}", str(picture), "--json")).values()))
        for alias in ("champion", "challenger")
    )
    assert "taught" not in first
    assert second["taught"] == "later"
    assert first["scores"] == second["scores"]


def answer_of(address: str) -> int:
    with urllib.request.urlopen(address, timeout=20) as response:
        return response.status


@pytest.mark.slow
@pytest.mark.long
def test_ui_starts_pages_on_loopback_once_and_ends_them(ran: Any, tmp_path: Path) -> None:
    clone = ran.clone.copy(tmp_path / "project")
    try:
        printed = clone.ok("ui")
        pages = dict(line.split() for line in printed.splitlines())
        assert set(pages) == {"mlflow", "prefect", "data-docs"}
        assert all(urllib.parse.urlsplit(address).hostname == "127.0.0.1" for address in pages.values())
        assert [answer_of(address) for address in pages.values()] == [200, 200, 200]
        listening = {
            connection.laddr.ip
            for process in clone.processes()
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        assert clone.ok("ui") == printed
        assert "shapes-scenes" in urllib.request.urlopen(pages["data-docs"], timeout=20).read().decode()
    finally:
        ended = clone.ok("ui", "--stop")
    assert sorted(ended.removeprefix("ended: ").strip().split(", ")) == ["data-docs", "mlflow", "prefect"]
    deadline = time.monotonic() + 20
    while clone.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert clone.processes() == []
    assert "nothing was running" in clone.ok("ui", "--stop")
