"""Who was champion when, and by what decision: a journal in MLflow, of which the alias `champion` is a view.

MLflow keeps no history of aliases (mlflow#2169). Entry N of a model is an experiment with a name that must not exist
yet, which the server decides atomically: of several machines that write entry N, one succeeds. All that an entry says
lies in tags that are created with it, so there is no half entry. It is written before the alias moves; whoever comes
next sets an alias that a crash left behind.
"""

import getpass
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from stages.tracking import registry, store

PREFIX = "visionline-journal"
PIECE = 4500  # characters; MLflow cuts an experiment's tags off at 5,000


class LostRaceError(RuntimeError):
    """Somebody else wrote the next entry first."""


@dataclass(frozen=True)
class Entry:
    """One move of the champion."""

    number: int
    when: str  # ISO 8601, UTC
    action: str  # first, promote, force, rollback
    version: str
    previous: str | None  # the champion before
    who: str
    reason: str = ""
    decision: Mapping[str, Any] = field(default_factory=dict)


def welcome(name: str, version: str) -> list[str]:
    """Make a version the challenger, and the champion too where the name has none; returns the aliases it got."""
    given = []
    if registry.aliases(name).get(registry.CHALLENGER) != version:
        store.client().set_registered_model_alias(name, registry.CHALLENGER, version)
        given.append(registry.CHALLENGER)
    if champion(name) is None:
        move(name, [], "first", version, reason="the first version of this name")
        given.append(registry.CHAMPION)
    return given


def entries(name: str) -> list[Entry]:
    """The journal of a model, oldest first."""
    found, page = [], None
    while True:
        answer = store.client().search_experiments(
            view_type=_all_views(), filter_string=f"name LIKE '{PREFIX}/{name}/%'", page_token=page
        )
        found += [_entry(experiment) for experiment in answer]
        page = answer.token
        if not page:
            return sorted(found, key=lambda entry: entry.number)


def champion(name: str) -> str | None:
    """The version that the journal's last entry names, to which the alias is set if it points elsewhere."""
    written = entries(name)
    if not written:
        return registry.aliases(name).get(registry.CHAMPION)
    repair(name, written)
    return written[-1].version


def repair(name: str, written: list[Entry]) -> bool:
    """Make the alias what the last entry says; True when it was not, as after a crash between the two."""
    version = written[-1].version
    if registry.aliases(name).get(registry.CHAMPION) == version:
        return False
    store.client().set_registered_model_alias(name, registry.CHAMPION, version)
    return True


def move(name: str, written: list[Entry], action: str, version: str, **said: Any) -> Entry:
    """Write the entry that follows those read before, then point the alias to its version.

    said: reason, who, decision. LostRaceError, and nothing is moved, when the next entry was written meanwhile.
    """
    previous = written[-1].version if written else registry.aliases(name).get(registry.CHAMPION)
    entry = Entry(
        number=(written[-1].number if written else 0) + 1,
        when=datetime.now(UTC).isoformat(timespec="milliseconds"),
        action=action,
        version=version,
        previous=previous,
        **{"who": _who(), **said},
    )
    _create(name, entry)
    # A third process may have gone on already: the alias follows whatever is last.
    repair(name, entries(name))
    return entry


def before(written: list[Entry]) -> str | None:
    """The champion that a rollback returns to: that of the last entry which no rollback has taken back."""
    # A champion from before there was a journal is what the first entry says was there.
    standing = [written[0].previous] if written and written[0].previous else []
    for entry in written:
        if entry.action == "rollback" and standing:
            standing.pop()
        else:
            standing.append(entry.version)
    return standing[-2] if len(standing) > 1 else None


def champion_at(written: list[Entry], moment: datetime) -> Entry | None:
    """The entry that held at a moment; None before the first."""
    past = [entry for entry in written if datetime.fromisoformat(entry.when) <= moment]
    return past[-1] if past else None


def _create(name: str, entry: Entry) -> None:
    from mlflow.exceptions import MlflowException

    said = {key: value for key, value in vars(entry).items() if key not in ("decision", "previous")}
    tags = {f"visionline.{key}": str(value)[:PIECE] for key, value in said.items()}
    tags |= {"visionline.previous": entry.previous} if entry.previous else {}
    text = json.dumps(entry.decision)
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    tags |= {f"visionline.decision.{i:04d}": piece for i, piece in enumerate(pieces)}
    tags["mlflow.note.content"] = f"{entry.action}: version {entry.version} is the champion of {name}. {entry.reason}"
    try:
        store.client().create_experiment(f"{PREFIX}/{name}/{entry.number:06d}", tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        raise LostRaceError(f"{name}: somebody else moved the champion meanwhile: visionline history {name}") from None


def _entry(experiment: Any) -> Entry:
    tags = {key.removeprefix("visionline."): value for key, value in experiment.tags.items()}
    pieces = [tags[key] for key in sorted(tags) if key.startswith("decision.")]
    return Entry(
        number=int(tags["number"]),
        when=tags["when"],
        action=tags["action"],
        version=tags["version"],
        previous=tags.get("previous"),
        who=tags["who"],
        reason=tags.get("reason", ""),
        decision=json.loads("".join(pieces) or "{}"),
    )


def _all_views() -> int:
    from mlflow.entities import ViewType

    return ViewType.ALL  # an entry that somebody deleted in MLflow's pages still holds


def _who() -> str:
    """git's name for this person, else the system's."""
    told = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or getpass.getuser()
