"""Answers from a process of its own: order, places, what can't be read, what breaks, what is left behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from stages.tracking import answers

ROOT = Path(__file__).parents[2]


def children() -> list[psutil.Process]:
    """Processes of ours that answer; other tests may have left helpers of multiprocessing."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # also what psutil raises for one that nobody has waited for
            found += [process] if any(word.endswith("answer.py") for word in process.cmdline()) else []
    return found


def test_places_are_answered_in_order_and_what_cannot_be_read_is_told_in_its_place(
    project: Path, length_model: str
) -> None:
    together = project / "shard"
    together.write_bytes(b"".join(bytes([65 + i]) * i for i in range(101)))
    places: list[answers.Place] = [(together, i * (i - 1) // 2, i) for i in range(1, 101)]
    (project / "bad").write_bytes(b"bad")
    (project / "whole").write_bytes(b"x" * 1000)
    places[5] = (project / "bad", 0, None)
    places[70] = (project / "nowhere", 0, None)
    places[71] = (project / "whole", 0, None)
    places[72] = (project / "whole", 990, None)
    told: list[tuple[int, int]] = []
    lines = list(answers.answers_of(length_model, places, lambda done, total: told.append((done, total))))
    assert told == [(done, 100) for done in range(1, 101)]
    assert lines[5] == {"error": "not an image"}
    assert lines[70] == {"error": "No such file or directory"}
    others = [i for i in range(100) if i not in (5, 70)]
    assert [lines[i]["answer"]["bytes"] for i in others] == [{71: 1000, 72: 10}.get(i, i + 1) for i in others]
    # Chunks of 64, less what can't be read.
    assert {lines[i]["answer"]["asked"] for i in others} == {63, 35}
    assert children() == []


def test_the_model_is_timed_alone_and_in_batches(project: Path, length_model: str) -> None:
    (project / "image").write_bytes(b"x")
    (project / "bad").write_bytes(b"bad")
    latency: dict[str, float] = {}
    places: list[answers.Place] = [(project / name, 0, None) for name in ("bad", "image", "image")]
    lines = list(answers.answers_of(length_model, places, on_latency=latency.update))
    assert [list(line) for line in lines] == [["error"], ["answer"], ["answer"]]
    assert latency.keys() == {"single_s", "batched_s"}
    assert latency["single_s"] > latency["batched_s"] > 0  # a call costs more than its rows


def test_a_box_reaches_the_model_with_its_image(project: Path, length_model: str) -> None:
    for i, content in enumerate((b"x", b"bad", b"xx", b"xxx")):
        (project / f"{i}").write_bytes(content)
    places: list[answers.Place] = [(project / f"{i}", 0, None) for i in range(4)]
    box = (1 / 3, 2, 3.5, 4)
    lines = list(answers.answers_of(length_model, places, boxes=[box, box, None, (0, 0, 5, 6)]))
    told = [line.get("answer", line) for line in lines]
    assert told == [
        {"bytes": 1, "asked": 3, "box": list(box)}, {"error": "not an image"},
        {"bytes": 2, "asked": 3, "box": None}, {"bytes": 3, "asked": 3, "box": [0, 0, 5, 6]},
    ]  # fmt: skip


def test_the_first_of_bad_bytes_is_named(project: Path, length_model: str) -> None:
    with pytest.raises(RuntimeError, match=r"can't answer: image 1: not an image"):
        answers.answers(length_model, [b"a", b"bad", b"bad"])


@pytest.mark.parametrize(
    ("content", "stall_s", "reason"),
    [(b"break", 60, "RuntimeError: a hole in the model"), (b"hang", 3, "nothing for too long")],
    ids=["breaks", "hangs"],
)
def test_a_model_that_breaks_or_hangs_ends_with_its_reason(
    project: Path, length_model: str, content: bytes, stall_s: int, reason: str
) -> None:
    (project / "image").write_bytes(content)
    with pytest.raises(RuntimeError, match=reason):
        list(answers.answers_of(length_model, [(project / "image", 0, None)], stall_s=stall_s))
    assert children() == []


def test_who_wants_no_more_answers_leaves_no_process(project: Path, length_model: str) -> None:
    (project / "image").write_bytes(b"x")
    lines = answers.answers_of(length_model, [(project / "image", 0, None)] * 200)
    assert next(lines) == {"answer": {"bytes": 1, "asked": 64}}
    assert len(children()) == 1
    lines.close()
    assert children() == []


def test_a_killed_parent_takes_the_model_with_it(project: Path, length_model: str) -> None:
    (project / "hang").write_bytes(b"hang")
    code = "import sys; from pathlib import Path; from stages.tracking import answers\n"
    code += "list(answers.answers_of(sys.argv[1], [(Path('hang'), 0, None)]))"
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code, length_model], env=environment)
    deadline = time.monotonic() + 60
    while not (found := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(found, timeout=20)
    assert found
    assert alive == []
