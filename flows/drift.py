"""The operation `drift`: are recent inputs still like the data? If not, images to be labelled are asked for."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import labelling, services
from flows.project import UsageError, WorkError
from stages.params import document
from stages.tracking import requests
from stages.tracking.process import child_of_this_process

EVENT = "visionline.drift"


def drift(name: str, inputs: Path | None) -> dict[str, Any]:
    """What `python -m stages.drift` finds; with a folder and a drift also `labelling`, the folder of a request.

    A drift is announced on the Prefect server, if there is one. WorkError when there are too few inputs.
    """
    params = _params(name)
    if inputs is not None and not inputs.is_dir():
        raise UsageError(f"--inputs {inputs}: must be a folder of images")
    command = [sys.executable, "-m", "stages.drift", name, *(["--inputs", str(inputs)] if inputs else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=child_of_this_process())
    if done.returncode:
        raise WorkError((done.stderr.strip().splitlines() or [f"stages.drift ended with {done.returncode}"])[-1])
    told = json.loads(done.stdout)
    if told["is_drifted"]:
        if inputs is not None:
            told["labelling"] = str(labelling.ask(name, inputs, params.retraining.drift.num_asked))
        facts = {key: told.get(key) for key in ("task", "version", "num_inputs", "tests", "labelling")}
        services.announce(EVENT, f"visionline.task.{name}", facts)
    return told


def look(tasks: Sequence[str] | None, inputs: str | None) -> dict[str, str]:
    """Task -> what was found, in words; without tasks, those that have a request log."""
    names = (
        tasks if tasks is not None else [name for name in document.load().tasks if (requests.FOLDER / name).is_dir()]
    )
    found = {}
    for name in names:
        try:
            told = drift(name, Path(inputs) if inputs else None)
        except WorkError as error:
            found[name] = f"{name}: {error}"
            continue
        alarms = [what for what, test in told["tests"].items() if test["is_alarm"]]
        found[name] = f"{name}: {', '.join(alarms)} changed" if alarms else f"{name}: like its data"
        found[name] += f"; to label: {told['labelling']}" if "labelling" in told else ""
    return found


def markdown(found: Mapping[str, str]) -> str:
    """What was found, for Prefect's pages."""
    return "\n".join(f"- {line}" for line in found.values()) or "nothing is served"


def _params(name: str) -> document.Params:
    try:
        params = document.load()
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    if name not in params.tasks:
        raise UsageError(f"{name} is no task; there are: {', '.join(params.tasks) or 'none'}")
    return params


def show(told: Mapping[str, Any], console: Console) -> None:
    """Print the tests, and what follows."""
    title = f"{told['task']} version {told['version']}: {told['num_inputs']} inputs against {told['num_reference']}"
    table = Table("of", "distance", "p", "", title=title, title_justify="left")
    for what, test in told["tests"].items():
        table.add_row(what, f"{test['distance']:.3f}", f"{test['p']:.2g}", "drift" if test["is_alarm"] else "")
    console.print(table)
    if told["is_drifted"]:
        console.print("the inputs have changed; label some of them, and visionline ingest them")
    if "labelling" in told:
        console.print(f"images to label, with previews and COCO: {told['labelling']}", highlight=False)
