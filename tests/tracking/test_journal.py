"""The journal of champions against a real MLflow database."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from stages.tracking import journal, registry, store

NAME = "cells"


@pytest.fixture
def model(use_database: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registered model with four versions in an MLflow database of its own."""
    monkeypatch.chdir(tmp_path)
    use_database(tmp_path)
    register(4)
    return NAME


def register(num_versions: int) -> None:
    """A model of so many versions."""
    client = store.client()
    client.create_registered_model(NAME)
    for _ in range(num_versions):
        client.create_model_version(NAME, "file:///nowhere/model", None)


def move(action: str, version: str, **said: object) -> journal.Entry:
    return journal.move(NAME, journal.entries(NAME), action, version, **said)


def champion() -> str | None:
    return registry.aliases(NAME).get(registry.CHAMPION)


def test_an_entry_says_all_and_the_alias_follows(model: str) -> None:
    decision = {"checks": [{"rule": "non_inferior ap", "numbers": {"low": -0.0042}, "text": "x" * 20_000}]}
    first = move("first", "1")
    second = move("promote", "2", who="ada", reason="better", decision=decision)
    assert champion() == "2"
    assert journal.entries(model) == [first, second]
    read = journal.entries(model)[1]
    assert (read.number, read.previous, read.who, read.reason) == (2, "1", "ada", "better")
    assert read.decision == decision
    assert datetime.fromisoformat(read.when) <= datetime.now(UTC)


def test_of_two_that_decide_on_the_same_state_one_is_told_that_it_lost(model: str) -> None:
    move("first", "1")
    seen = journal.entries(model)
    journal.move(model, seen, "promote", "2")
    with pytest.raises(journal.LostRaceError, match="meanwhile"):
        journal.move(model, seen, "promote", "3")
    assert champion() == "2"
    assert len(journal.entries(model)) == 2


def test_processes_that_promote_at_once_leave_one_line_of_entries(model: str, tmp_path: Path) -> None:
    move("first", "1")
    script = (
        "import sys\nfrom stages.tracking import journal\nseen = journal.entries('cells')\nprint('ready', flush=True)\n"
        "sys.stdin.readline()\ntry:\n    journal.move('cells', seen, 'promote', sys.argv[1])\n"
        "except journal.LostRaceError:\n    sys.exit(3)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    racers = [
        subprocess.Popen([sys.executable, "-c", script, version], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, env=environment, cwd=tmp_path, text=True)
        for version in ("2", "3")
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        while "ready" not in racer.stdout.readline():
            assert racer.poll() is None
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    codes = [racer.wait(timeout=60) for racer in racers]
    assert sorted(codes) == [0, 3]
    winner = ("2", "3")[codes.index(0)]
    assert [entry.version for entry in journal.entries(model)] == ["1", winner]
    assert champion() == winner


def test_a_crash_between_entry_and_alias_is_repaired_by_whoever_comes_next(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    move("first", "1")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(store.client()), "set_registered_model_alias", crash)
        with pytest.raises(KeyboardInterrupt):
            move("promote", "2")
    assert champion() == "1"
    assert journal.champion(model) == "2"
    assert champion() == "2"


def test_an_alias_that_somebody_moved_by_hand_is_a_view_again(model: str) -> None:
    move("first", "1")
    store.client().set_registered_model_alias(model, registry.CHAMPION, "4")
    assert journal.champion(model) == "1"
    assert champion() == "1"


def test_a_deleted_entry_still_holds(model: str) -> None:
    move("first", "1")
    move("promote", "2")
    last = store.client().get_experiment_by_name(f"{journal.PREFIX}/{model}/000002")
    store.client().delete_experiment(last.experiment_id)
    assert [entry.version for entry in journal.entries(model)] == ["1", "2"]


def test_rollbacks_take_promotions_back_one_by_one(model: str) -> None:
    assert journal.before([]) is None
    move("first", "1")
    move("promote", "2")
    move("promote", "3")
    assert journal.before(journal.entries(model)) == "2"
    move("rollback", "2")
    assert journal.before(journal.entries(model)) == "1"
    move("promote", "4")
    assert journal.before(journal.entries(model)) == "2"
    move("rollback", "2")
    move("rollback", "1")
    assert journal.before(journal.entries(model)) is None


def test_a_rollback_returns_to_a_champion_from_before_the_journal(model: str) -> None:
    store.client().set_registered_model_alias(model, registry.CHAMPION, "3")
    move("promote", "4")
    assert journal.entries(model)[0].previous == "3"
    assert journal.before(journal.entries(model)) == "3"


def test_who_was_champion_at_a_moment() -> None:
    written = [
        journal.Entry(1, "2026-04-01T10:00:00.000+00:00", "first", "1", None, "ada"),
        journal.Entry(2, "2026-05-02T10:00:00.000+00:00", "promote", "2", "1", "ada"),
    ]
    at = [datetime(2026, *day, tzinfo=UTC) for day in ((3, 1), (5, 1), (6, 1))]
    found = [journal.champion_at(written, moment) for moment in at]
    assert [entry and entry.version for entry in found] == [None, "1", "2"]


def test_on_a_full_disk_alias_and_journal_agree_wherever_the_space_ends(
    use_database: Callable[[Path], None], disk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = disk(tmp_path / "state", 8)
    use_database(state.folder)
    register(2)
    outcomes = promoted_with_ever_more_space(state)
    assert {"nothing", "moved"} <= outcomes, outcomes


def promoted_with_ever_more_space(state: Any) -> set[str]:
    """What became of a promotion on a full disk; alias and journal are compared after each."""
    move("first", "1")
    outcomes: set[str] = set()
    # What an entry takes grows with what it says, the alias takes the same: both ends of it are met.
    for pages in range(0, 40, 2):
        written, previous = journal.entries(NAME), champion()
        version = "2" if previous == "1" else "1"
        state.fill(4096 * pages)
        try:
            move("promote", version, decision={"text": "x" * 9000})
            outcomes.add("moved")
        except MlflowException as error:
            assert "full" in str(error) or "disk I/O error" in str(error)
            outcomes.add("entry" if len(journal.entries(NAME)) > len(written) else "nothing")
        state.free()
        assert journal.champion(NAME) == champion() == journal.entries(NAME)[-1].version
        assert len(journal.entries(NAME)) - len(written) == (champion() == version)
    return outcomes
