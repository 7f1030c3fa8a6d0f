"""The command that draws the generated dataset."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _generate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stages.generate", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_draws_every_format_and_leaves_alone_what_is_there(tmp_path):
    options = ("--scale", 0.01, "--scene-size", 48, 64)
    first = _generate(tmp_path, *options)
    assert first.returncode == 0, first.stderr
    files = _files(tmp_path)
    assert sorted({path.split("/")[0] for path in files}) == ["coco", "imagefolder", "imagenet", "voc"]
    assert sum(path.endswith((".jpg", ".JPEG")) for path in files) == 12 * 2 + 2 * (3 + 1 + 1) + 8 * 3
    second = _generate(tmp_path, *options, "--seed", 1)
    assert second.returncode == 0 and second.stdout.count("left as it is") == 4
    assert _files(tmp_path) == files


def test_draws_only_what_is_asked_for(tmp_path):
    done = _generate(tmp_path, "--only", "voc", "--scenes", 2, 1, 1, "--scene-size", 48, 64)
    assert done.returncode == 0 and [path.name for path in tmp_path.iterdir()] == ["voc"]
    assert len(list((tmp_path / "voc" / "JPEGImages").iterdir())) == 4


@pytest.mark.parametrize("wrong", [("--imagenet-px", "8"), ("--scenes", "0", "1", "1"), ("--only", "yolo")])
def test_wrong_use_is_refused_in_one_line(tmp_path, wrong):
    done = _generate(tmp_path, *wrong)
    assert done.returncode == 2 and "error: argument" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_help_shows_an_example():
    assert "example: python -m stages.generate" in _generate("--help").stdout
