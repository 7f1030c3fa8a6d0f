"""What a stage run notes of its environment."""

import hashlib
import subprocess
import sys
from pathlib import Path

from stages.tracking import environment

ROOT = Path(__file__).parents[2]


def test_the_lock_is_known_by_its_bytes(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert environment.lock_hash() == hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()


def test_without_a_lock_file_the_hash_is_empty(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.lock_hash() == ""


def test_cpu_reads_the_same_with_and_without_torch() -> None:
    code = "{}from stages.tracking import environment; print(environment.cpu())"
    answers = [
        subprocess.run([sys.executable, "-c", code.format(first)], cwd=ROOT, capture_output=True, text=True, check=True)
        for first in ("", "import torch; ")
    ]
    assert answers[0].stdout == answers[1].stdout
    assert answers[0].stdout.strip()
