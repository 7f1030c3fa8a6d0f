"""The operation `generate`: draw the dataset of shapes and ingest it, for a first run without a download."""

import subprocess
import sys
from pathlib import Path

from flows.ingest import ingest
from flows.project import LOCAL_STATE, WorkError
from stages.params import document
from stages.tracking.process import child_of_this_process

# Dataset in params.yaml -> the format that it is drawn in and read from.
DRAWN = {"shapes-imagenet": "imagenet", "shapes-patterns": "imagefolder", "shapes-scenes": "coco"}


def generate() -> list[str]:
    """Draw and ingest what params.yaml names of the generated datasets and what is not there yet; returns the names."""
    wanted = [n for n in DRAWN if n in document.load().datasets and not Path(f"data/{n}.dvc").is_file()]
    if not wanted:
        return []
    folder = LOCAL_STATE / "shapes"
    command = [sys.executable, "-m", "stages.generate", str(folder), "--seed", str(document.seed())]
    command += [word for name in wanted for word in ("--only", DRAWN[name])]
    if subprocess.run(command, preexec_fn=child_of_this_process(), check=False).returncode:
        raise WorkError("the shapes could not be drawn")
    for name in wanted:
        ingest(name, [str(folder / DRAWN[name]), "--format", DRAWN[name]])
    return wanted
