"""What is dropped is taken when it has stopped growing, and once."""

import itertools
from pathlib import Path

import pytest

from stages import watch


class Clock:
    """Time that passes only when somebody sleeps; at some moments something happens."""

    def __init__(self, happens: dict[int, object]) -> None:
        self.now, self.happens = 0.0, happens

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        action = self.happens.pop(round(self.now), None)
        if callable(action):
            action()
        if self.now > 100:
            raise KeyboardInterrupt


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


def taken(drop: Path, monkeypatch: pytest.MonkeyPatch, happens: dict[int, object]) -> list[tuple[int, int]]:
    """(second, number of files) of each time that something whole was there."""
    clock = Clock(happens)
    monkeypatch.setattr(watch, "time", clock)
    found = []
    with pytest.raises(KeyboardInterrupt):
        for files in watch.settled(str(drop), settle_s=10, poll_s=1):
            found.append((round(clock.now), len(files)))
    return found


def test_a_batch_is_taken_once_when_it_has_stopped_growing(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grows = {n: lambda n=n: (drop / "a.jpg").write_bytes(b"x" * n) for n in range(5, 15)}
    assert taken(drop, monkeypatch, dict(grows)) == [(24, 1)]


def test_more_is_taken_later_and_what_is_unfinished_is_waited_for(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (drop / "a.jpg").write_bytes(b"x")
    events = {
        30: lambda: (drop / "b.jpg.part").write_bytes(b"x"),
        50: lambda: (drop / "b.jpg.part").rename(drop / "b.jpg"),
    }
    assert taken(drop, monkeypatch, dict(events)) == [(10, 1), (60, 2)]


def test_an_empty_folder_is_no_batch(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(drop, monkeypatch, {}) == []


def test_a_source_that_is_away_is_told_once_and_tried_again(
    drop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (drop / "a.jpg").write_bytes(b"x")
    real, turn = watch.listing, itertools.count()

    def sometimes(source: str) -> dict[str, str]:
        if next(turn) in range(20, 25):
            raise OSError("s3://drop can't be reached")
        return real(source)

    monkeypatch.setattr(watch, "listing", sometimes)
    assert taken(drop, monkeypatch, {}) == [(10, 1)]
    assert capsys.readouterr().err.count("can't be reached") == 1
