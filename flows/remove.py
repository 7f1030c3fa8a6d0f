"""The operation `remove`: images leave a dataset for good; with a purge their bytes leave every place we know."""

import getpass
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from flows import graph as graphs
from flows import history
from flows.project import LOCAL_STATE, UsageError, WorkError, dvc
from flows.undo import undone_on_failure
from stages.params.files import write_atomically
from stages.tracking.process import child_of_this_process, locked

Agree = Callable[[Mapping[str, Any]], bool]


def remove(name: str, images: Sequence[str], reason: str, is_purge: bool, agree: Agree) -> dict[str, Any]:
    """Take images out of data/NAME and commit that; returns what was done, and the models to train anew.

    agree: is shown the plan of a purge before anything is changed. UsageError, and nothing is changed, when an image
    is not known, when the data differ from their pointer or when a purge is not agreed to.
    """
    with locked("run", wait_s=0.0):
        report = LOCAL_STATE / "remove" / f"{name}.json"
        planned = _stage(report, name, *images)
        _check(name, planned, is_purge)
        if is_purge and not agree(planned):
            raise UsageError("nothing was changed")
        with undone_on_failure(Path("data") / name, [Path(f"data/{name}.dvc"), _journal(name)]):
            done = _stage(report, name, "--apply")
            commit = _commit(name, planned, reason, is_purge)
        if is_purge:
            done = _stage(report, name, "--apply", "--purge")
    return done | {"commit": commit, "reason": reason}


def _stage(report: Path, name: str, *arguments: str) -> dict[str, Any]:
    report.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "stages.remove", name, *arguments, "--report", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=child_of_this_process(), check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1].removeprefix("remove: ")
        raise (UsageError if done.returncode == 2 else WorkError)(reason)
    return json.loads(report.read_text(encoding="utf8"))


def _check(name: str, planned: Mapping[str, Any], is_purge: bool) -> None:
    """UsageError when there is nothing to take out, or when it would break data that are in use."""
    if is_purge and planned["purge"]["in use by"]:
        others = ", ".join(planned["purge"]["in use by"])
        raise UsageError(f"{others} holds the same shards as it lies here: visionline remove {others} first")
    if not planned["samples"]:
        if not is_purge:
            raise UsageError(f"data/{name} as it lies here holds none of these; --purge deletes bytes of old versions")
        return
    try:
        problems = {pointer.path: pointer.problem for pointer in graphs.read().pointers}
    except ValueError as error:
        raise UsageError(str(error)) from None
    if problems.get(f"data/{name}"):
        raise UsageError(f"data/{name} differs from data/{name}.dvc: go back with dvc checkout data/{name}")


def _commit(name: str, planned: Mapping[str, Any], reason: str, is_purge: bool) -> str:
    """Make what lies here the new version, note the removal beside its pointer, and commit both; the commit."""
    if planned["samples"]:
        dvc("add", f"data/{name}")
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": getpass.getuser(),
        "reason": reason,
        "images": planned["images"],
        "purged": is_purge,
        "can not come back": planned["purge"]["can not come back"] if is_purge else [],
    }
    journal = _journal(name)
    before = journal.read_bytes() if journal.is_file() else b""
    write_atomically(journal, before + json.dumps(entry, sort_keys=True).encode() + b"\n")
    history.commit_only([Path(f"data/{name}.dvc"), journal], f"remove {_count(planned)} from {name}: {reason}")
    return history.git("rev-parse", "HEAD")


def _journal(name: str) -> Path:
    return Path(f"data/{name}.removals.jsonl")


def _count(planned: Mapping[str, Any]) -> str:
    count = len(planned["images"])
    return f"{count} image{'' if count == 1 else 's'}"


def plan_lines(planned: Mapping[str, Any]) -> Iterator[str]:
    """What a purge would delete, for the person who must agree."""
    doomed = planned["purge"]
    yield f"{_count(planned)}: {', '.join(image['source'] for image in planned['images'])}"
    derived = f"pictures and predictions {len(doomed['derived objects'])}"
    yield f"cache and remotes lose: shards {len(doomed['shards'])}, {derived}"
    for entry in doomed["artifacts"]:
        yield f"MLflow loses: {', '.join(entry['files'])} of {entry['name']} (run {entry['run']})"
    yield from lost_lines(planned)


def lost_lines(planned: Mapping[str, Any]) -> Iterator[str]:
    """Versions that can't be brought back, and so not be trained on again, after the purge."""
    for version in planned["purge"]["can not come back"]:
        commit = (version["commit"] or "none")[:12]
        yield f"can't be brought back after it: {version['dataset']} version {version['hash']}, commit {commit}"


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print what was done and which models must be trained anew."""
    for line in _lines(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    name, removed, rewritten = result["dataset"], result["removed"], result["shards_rewritten"]
    yield f"{name}: {removed} samples removed, {rewritten} shards rewritten, commit {result['commit'][:12]}"
    if "deleted" in result:
        yield "deleted: " + ", ".join(f"{place} {count}" for place, count in result["deleted"].items())
        yield from lost_lines(result)
    for model in result["retrain"]:
        live = f"; live as {', '.join(model['live'])}" if model["live"] else ""
        yield f"to train anew: {model['model']} version {model['version']}, {', '.join(model['how'])}{live}"
    for other in result["also in"]:
        yield f"{other} holds it too: visionline remove {other} {result['images'][0]['sha256']}"
    for other, versions in result["unreadable"].items():
        yield f"not searched: {len(versions)} versions of {other}, whose index is in neither cache nor remote"
    yield "next: visionline run" if result["retrain"] else "no registered model trained on it"
