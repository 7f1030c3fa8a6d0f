"""The operation `export`: a dataset in a format that other tools read."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.project import LOCAL_STATE, UsageError, WorkError
from stages.params import formats
from stages.params.files import naming
from stages.tracking.process import child_of_this_process


def export(
    name: str, folder: Path, fmt: str, options: Sequence[str] = (), revision: str | None = None
) -> dict[str, Any]:
    """Write data/NAME, or its version at a git revision, into a folder; what was written and what could not be held.

    options: more words for `python -m stages.convert`, such as --strict.

    UsageError when the format or the dataset is unknown, or when the folder holds something already.
    """
    if fmt not in formats.written_by_export():
        raise UsageError(f"--format {fmt}: can't be written; there are: {', '.join(formats.written_by_export())}")
    if revision is None and not (Path("data") / name / "dataset.yaml").is_file():
        raise UsageError(f"{name} has no data here; there are: {', '.join(_datasets()) or 'none'}")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UsageError(f"{folder} is there already: name a folder that is new or empty")
    report = LOCAL_STATE / "export" / f"{name}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "stages.convert", name, str(folder), "--format", fmt, "--report", str(report)]
    command += [*options, *(["--rev", revision] if revision else [])]
    with naming(folder):
        code = subprocess.run(command, preexec_fn=child_of_this_process(), check=False).returncode
    if code:
        raise UsageError("") if code == 2 else WorkError("")
    return json.loads(report.read_text(encoding="utf8"))


def _datasets() -> list[str]:
    return sorted(file.parent.name for file in Path("data").glob("*/dataset.yaml"))


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print what was written, and in one line what was not."""
    splits = ", ".join(f"{split} {count:,}" for split, count in result["splits"].items())
    objects = f", {result['objects']:,} objects" if result["objects"] else ""
    what = f"{result['images']:,} images{objects} ({splits})"
    console.print(f"{result['dataset']}: {what} as {result['format']} in {result['folder']}", highlight=False)
    if result["note"]:
        console.print(result["note"], highlight=False)
