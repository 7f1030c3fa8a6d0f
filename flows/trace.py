"""The operation `trace`: what a model, a dataset version or an image descends from and led to."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from flows.project import UsageError, WorkError
from stages.params.files import write_atomically

KINDS = ("model", "data", "image")
STYLES = {
    "version": "bold green",
    "alias": "bold magenta",
    "run": "cyan",
    "dataset": "bold yellow",
    "missing": "bold red",
}
# Of the parameters of a run; all of them are in the JSON and on the page.
SHOWN_PARAMETERS = ("seed", "training.steps", "training.epochs", "training.batch_size", "training.optimizer.lr")
SHOWN_ROWS = 10
PIPE_COLUMNS = 400


def trace(asked: str, here: Path, similar_bits: int | None = None) -> dict[str, Any]:
    """The lineage of model:NAME@ALIAS, data:NAME@REV or image:PATH-or-SHA256 as plain data.

    UsageError when there is no such thing; what can't be found of its lineage is in `notes`.
    """
    kind, colon, what = asked.partition(":")
    if not (colon and what) or kind not in KINDS:
        raise UsageError(f"trace {asked}: must be model:NAME@ALIAS, data:NAME@REVISION or image:PATH-or-SHA256")
    if similar_bits is not None and (kind != "image" or not 0 <= similar_bits <= 64):
        raise UsageError("--similar goes with image: and takes 0 to 64 bits")
    if kind == "image" and (here / what).is_file():
        what = str(here / what)
    command = [sys.executable, "-m", "stages.trace", kind, what]
    command += ["--similar", str(similar_bits)] if similar_bits is not None else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = [f"exit code {done.returncode}", *done.stderr.strip().splitlines()][-1].removeprefix("trace: ")
        raise (UsageError if done.returncode == 2 else WorkError)(reason)
    return json.loads(done.stdout)


def write_page(document: Mapping[str, Any], file: Path) -> None:
    """Write a lineage as one HTML page."""
    from flows.lineage_page import page

    lines = [*changed_lines(document), *image_lines(document)]
    try:
        write_atomically(file, page(document, lines, mlflow_address()).encode())
    except OSError as error:
        raise UsageError(f"--html {file}: {error.strerror or error}") from None


def mlflow_address() -> str | None:
    """Where MLflow's pages are served now, or None."""
    from flows import services

    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if given.startswith("http") else services.running("mlflow")


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print a lineage as a tree, then what changed, where the image is and what could not be found."""
    nodes = {node["id"]: node for node in document["nodes"]}
    ways = [(e["made"], e["from"], e["by"]) for e in document["edges"]]
    if document["direction"] == "uses":
        ways = [(source, made, by) for made, source, by in ways]
    children: dict[str, list[tuple[str, str]]] = {}
    for start, end, by in ways:
        children.setdefault(start, []).append((end, by))
    tree = Tree(_label(nodes[document["root"]], ""))
    _grow(tree, document["root"], nodes, children, {document["root"]})
    # A pipe has no width: what reads it wants whole lines.
    (console if console.is_terminal else Console(width=PIPE_COLUMNS)).print(tree)
    for line in _commands(document):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in (*changed_lines(document), *image_lines(document)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for note in document["notes"]:
        console.print(f"[bold red]not found:[/] {escape(note)}", highlight=False, soft_wrap=True)


def _grow(tree: Tree, at: str, nodes: Mapping[str, Any], children: Mapping[str, Any], seen: set[str]) -> None:
    for child, by in children.get(at, []):
        if child in seen:
            tree.add(f"{_title(nodes[child])} [dim]as above[/]")
            continue
        seen.add(child)
        _grow(tree.add(_label(nodes[child], by)), child, nodes, children, seen)


def _title(node: Mapping[str, Any]) -> str:
    return f"[{STYLES.get(node['kind'], 'bold')}]{escape(node['title'])}[/]"


def _label(node: Mapping[str, Any], by: str) -> str:
    """A node in lines: its title and what it was made by, then the facts that tell most."""
    reason = (
        by if node["kind"] in ("version", "dataset") and not by.startswith(("data/", "models/", "reports/")) else ""
    )
    lines = [_title(node) + (f"  {escape(reason)}" if reason else "")]
    lines += [f"[dim]{escape(line)}[/]" for line in _facts(node) if line]
    return "\n".join(lines)


def _facts(node: Mapping[str, Any]) -> Iterator[str]:
    facts = node["facts"]
    if node["kind"] == "version":
        yield f"registered {facts['registered']}, snapshot commit {facts['snapshot commit'][:12] or 'none'}"
        yield from (f"{_period(period)}" for period in facts["held"])
    if node["kind"] == "run":
        lock, flow_run = facts["environment lock"][:12], facts["Prefect flow run"]
        yield f"{facts['started']}, {facts['seconds']} s, MLflow run {facts['MLflow run']}, Prefect flow run {flow_run}"
        yield f"snapshot commit {facts['snapshot commit'][:12]}, environment lock {lock}, {facts['cpu']}"
        yield _parameters(facts["parameters"])
    if node["kind"] == "dataset":
        samples = ", ".join(f"{split} {count}" for split, count in (facts.get("samples") or {}).items())
        yield "; ".join(filter(None, [samples, f"commit {(facts.get('commit') or 'unknown')[:12]}", facts["hash"]]))
        yield _validation(facts.get("validation"))


def _period(period: Mapping[str, Any]) -> str:
    """An alias that a version holds or held, and when."""
    since = f" from {period['from'][:19]}" if period["from"] else ""
    until = f" until {period['until'][:19]}" if period["until"] else " till now" if since else " now"
    return period["alias"] + since + until + (f", by {period['by']} of {period['who']}" if "by" in period else "")


def _parameters(parameters: Mapping[str, str]) -> str:
    shown = [f"{key}={parameters[key]}" for key in SHOWN_PARAMETERS if parameters.get(key, "None") != "None"]
    rest = len(parameters) - len(shown)
    return f"{', '.join(shown)} (and {rest} parameters more: --json)" if shown else ""


def _validation(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    passed, warnings = found.get("passed", 0), found.get("warnings", 0)
    return f"validated: {passed:g} expectations passed, {warnings:g} warnings, in run {found['passed in run']}"


def _commands(document: Mapping[str, Any]) -> Iterator[str]:
    """What brings each dataset version back, below the tree, where it can be copied in one piece."""
    commands = {n["title"]: n["facts"].get("brings it back") for n in document["nodes"] if n["kind"] == "dataset"}
    for title, command in commands.items():
        if command:
            yield f"{title} comes back with: {command}"


def changed_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What a dataset version changed, and who is live on it."""
    if "changes" not in document:
        return
    changes = document["changes"]
    if changes is None:
        yield "nothing to compare with: no version before this one is known"
    else:
        counts = ", ".join(f"{count} {kind}" for kind, count in changes["counts"].items())
        yield f"since version {changes['since']}: {counts}"
        for kind in ("added", "removed", "relabelled", "moved"):
            rows = changes[kind]
            yield from (f"  {kind} {row['source']} ({row['split']})" for row in rows[:SHOWN_ROWS])
            if len(rows) > SHOWN_ROWS:
                yield f"  ... and {len(rows) - SHOWN_ROWS:,} more {kind}: --json lists them"
    yield f"live on it: {', '.join(document['live']) or 'nothing'}"


def image_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Samples that show an image, where their bytes remain, and who trained on them."""
    if "sightings" not in document:
        return
    if not document["sightings"]:
        yield f"no version of any dataset holds {document['sha256']}"
    for row in document["sightings"]:
        likeness = f", {row['bits']} bits differ" if row["bits"] else ""
        places = [name for name in ("working tree", "cache") if row["remains"][name]]
        places += [f"remote {name}" for name in row["remains"]["remotes"]]
        yield f"{row['dataset']}: {row['source']} ({row['split']}{likeness}); sha256 {row['sha256']}"
        yield f"  versions that hold it: {len(row['versions'])}; bytes remain in: {', '.join(places) or 'none'}"
    for artifact in document["artifacts"]:
        yield f"artifacts of {artifact['name']} may show it: {', '.join(artifact['files'])} of run {artifact['run']}"
    yield f"live models that trained on it: {', '.join(document['live']) or 'none'}"
