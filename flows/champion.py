"""The operations on the alias `champion`: promote through the gate, roll back, and the history of both."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.project import UsageError, WorkError
from stages.params import document
from stages.tracking.process import child_of_this_process


def promote(
    name: str, version: str | None = None, who: str | None = None, reason: str = "", is_forced: bool = False
) -> dict[str, Any]:
    """Make the challenger, or a version, the champion if it passes the gate; returns the decision.

    WorkError with a line for each rule that does not hold, and the champion unmoved. who: a person's approval.
    is_forced: the rules are judged and noted, and the champion moves whatever they say.
    """
    from stages.tracking import journal, registry

    _require_task(name)
    if is_forced and not reason:
        raise UsageError("--force needs --reason: it is kept in the journal")
    written = journal.entries(name)
    present, wanted = journal.champion(name), version or registry.aliases(name).get(registry.CHALLENGER)
    if wanted is None or present is None:
        raise UsageError(f"{name} has no registered version: visionline run")
    if wanted == present:
        raise UsageError(f"version {wanted} is the champion of {name} already; the versions: visionline history {name}")
    try:
        registry.version(f"{name}/{wanted}")
    except ValueError as error:
        raise UsageError(str(error)) from None
    decision = _judged(name, present, wanted) | {"approved_by": who, "forced": is_forced}
    passed = decision["passed"] and (who is not None or not decision["needs_approval"])
    decision["promoted"] = passed or is_forced
    decision["run"] = registry.note_decision(name, wanted, decision)
    if not decision["promoted"]:
        raise WorkError("\n".join(refusal(decision)))
    said = {"reason": reason, "decision": decision} | ({"who": who} if who else {})
    entry = journal.move(name, written, "force" if is_forced and not passed else "promote", wanted, **said)
    return decision | {"entry": entry.number}


def _judged(name: str, champion: str, challenger: str) -> dict[str, Any]:
    """The decision that the stage `compare` comes to; that nothing could be measured is one, too."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "decision.json"
        command = [sys.executable, "-m", "stages.compare", name, "--champion", champion, "--challenger", challenger]
        done = subprocess.run(
            [*command, "--output", str(file)], stderr=subprocess.PIPE, text=True, check=False,
            preexec_fn=child_of_this_process(),
        )  # fmt: skip
        if done.returncode == 0:
            return json.loads(file.read_text(encoding="utf8"))
    told = (done.stderr.strip().splitlines() or [f"stages.compare ended with {done.returncode}"])[-1]
    observed = told.removeprefix(f"compare {name}: ")
    check = {"rule": "comparison", "passed": False, "observed": observed, "needed": "both measured", "numbers": {}}
    decision = {"name": name, "champion": champion, "challenger": challenger, "checks": [check]}
    return decision | {"passed": False, "needs_approval": False}


def refusal(decision: Mapping[str, Any]) -> list[str]:
    """Why a decision moved nothing, a line a rule."""
    name, version = decision["name"], decision["challenger"]
    failed = [check for check in decision["checks"] if check["passed"] is False]
    lines = [f"{check['rule']}: {check['observed']}; needs {check['needed']}" for check in failed]
    if not failed:
        lines = [f"needs a person: visionline promote {name} --approve WHO --reason ..."]
    return [f"{name} version {version} stays challenger: {line}" for line in lines]


def promote_where_automatic(names: list[str]) -> list[str]:
    """The gate where `promote: auto` and a challenger was never judged; lines on what came of it.

    Not only after stages ran: a run that was killed before its gate leaves it to the next.
    """
    from stages.tracking import journal, registry

    models = document.load().models
    told = []
    for name in names:
        model = models.get(name)
        if model is None or model.promote != "auto":
            continue
        challenger = registry.aliases(name).get(registry.CHALLENGER)
        if challenger in (None, journal.champion(name)):
            continue
        if registry.DECISION in registry.version(f"{name}/{challenger}").tags:
            continue
        try:
            decision = promote(name, reason="promote: auto")
            told.append(f"{name}: version {decision['challenger']} passed the gate and is the champion now")
        except RuntimeError as error:  # refused, or somebody else moved the champion meanwhile
            told += str(error).splitlines()
    return told


def rollback(name: str, reason: str = "") -> dict[str, Any]:
    """Return to the champion before; WorkError when there was none."""
    from stages.tracking import journal, registry

    _require_task(name)
    written = journal.entries(name)
    journal.champion(name)
    version = journal.before(written)
    if version is None:
        raise WorkError(f"{name} has no earlier champion to return to: visionline history {name}")
    registry.resolve(f"{name}/{version}")
    entry = journal.move(name, written, "rollback", version, reason=reason)
    return {"name": name, "champion": version, "previous": entry.previous, "entry": entry.number}


def history(name: str, at: str | None = None) -> list[dict[str, Any]]:
    """The journal's entries, oldest first, or the one that held at a moment; UsageError for a name without any."""
    from stages.tracking import journal

    written = journal.entries(name)
    if not written:
        raise UsageError(f"{name} has no history: there is no champion of that name")
    journal.repair(name, written)
    if at is None:
        return [vars(entry) for entry in written]
    moment = _moment(at)
    entry = journal.champion_at(written, moment)
    if entry is None:
        raise UsageError(f"{name} had no champion at {moment.isoformat()}: the first came {written[0].when}")
    return [vars(entry)]


def _moment(text: str) -> datetime:
    """A moment of ISO 8601; a bare date is its end, UTC where no zone is given."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--at {text}: must be a date or time such as 2026-05-01 or 2026-05-01T12:00") from None
    if len(text) == len("2026-05-01"):
        moment = datetime.combine(moment.date(), time.max)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _require_task(name: str) -> None:
    try:
        tasks = document.load().tasks
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    if name not in tasks:
        raise UsageError(f"no task {name!r} in params.yaml; there are: {', '.join(tasks) or 'none'}")


def show_decision(decision: Mapping[str, Any], console: Console) -> None:
    """Print every rule with what was seen, and what came of it."""
    title = f"{decision['name']}: challenger {decision['challenger']} against champion {decision['champion']}"
    table = Table("rule", "", "observed", "needs", title=title, title_justify="left")
    words = {True: "holds", False: "fails", None: "not judged"}
    for check in decision["checks"]:
        table.add_row(check["rule"], words[check["passed"]], check["observed"], check["needed"])
    console.print(table)
    how = " by force" if decision["forced"] else ""
    console.print(f"version {decision['challenger']} is the champion of {decision['name']} now{how}")


def show_history(name: str, written: list[dict[str, Any]], console: Console) -> None:
    """Print the journal as a table."""
    table = Table("", "when (UTC)", "what", "champion", "before", "who", "why", title=name, title_justify="left")
    for entry in written:
        why = entry["reason"] or _main_rule(entry["decision"])
        table.add_row(
            str(entry["number"]), entry["when"][:19], entry["action"], entry["version"], entry["previous"] or "–",
            entry["who"], why,
        )  # fmt: skip
    console.print(table)


def _main_rule(decision: Mapping[str, Any]) -> str:
    checks = decision.get("checks") or [{"rule": "", "observed": ""}]
    return f"{checks[0]['rule']}: {checks[0]['observed']}".strip(": ")
