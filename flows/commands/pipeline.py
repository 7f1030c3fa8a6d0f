"""Commands that bring data in and models out."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import project
from flows.commands import AsJson, app, console, print_json, talk_to_stderr, tell
from flows.project import UsageError
from stages.params import formats


class Split(StrEnum):
    """What --split of export takes."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Shape(StrEnum):
    """What --only of export takes."""

    BOXES = "boxes"
    POLYGONS = "polygons"
    KEYPOINTS = "keypoints"


@app.command(epilog="Example: `visionline init bccd`")
def init(
    recipe: Annotated[str, typer.Argument(help="A file of recipes/, without .yaml, such as laptop or bccd.")],
    force: Annotated[bool, typer.Option(help="Give up uncommitted changes of params.yaml.")] = False,
) -> None:
    """Start from a recipe: makes it params.yaml and commits it."""
    project.enter()
    from flows import init as operation

    operation.init(recipe, force)
    console.print(f"params.yaml is the recipe {recipe} now; next: visionline ingest, then visionline run")


@app.command(epilog="Example: `visionline generate && visionline run`")
def generate() -> None:
    """Draw and ingest the shapes datasets that params.yaml names: a first run without a download."""
    project.enter()
    from flows import generate as operation

    names = operation.generate()
    console.print(f"drawn and ingested: {', '.join(names)}" if names else "the generated datasets are there already")


@app.command(epilog="Example: `visionline ingest cells photos/cells --format voc --task detection`")
def ingest(
    name: Annotated[str, typer.Argument(help="The dataset; its data lie in data/NAME.")],
    source: Annotated[
        str,
        typer.Argument(
            help="Folder or archive with the labelled images, or s3://, gs://, https://; it stays as it is."
        ),
    ],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(formats.read_at_ingest())}.")],
    split: Annotated[
        str | None, typer.Option(help="train, val, test, or train=0.8,val=0.1,test=0.1; else the source's own.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Where the images lie, if not in SOURCE.")] = None,
    task: Annotated[str | None, typer.Option(help="Also add a task of this kind to params.yaml.")] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first file that can't be taken.")] = False,
    licence: Annotated[str | None, typer.Option(help="The licence of the source.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and take what is dropped into SOURCE once it is whole.")
    ] = False,
    settle: Annotated[
        float, typer.Option(min=0, help="With --watch: seconds without a change until it counts as whole.")
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Add labelled images: a new version of a dataset, checked and committed."""
    here = Path.cwd()
    project.enter()
    from flows import ingest as operation

    place = source if "://" in source else str(here / source)
    arguments = [place, "--format", format]
    options = {"--split": split, "--images": str(here / images) if images else None, "--licence": licence}
    arguments += [word for flag, value in options.items() if value is not None for word in (flag, value)]
    arguments += ["--strict"] if strict else []
    if watch:
        for result in operation.watch(name, place, arguments, task, settle):
            _show_ingested(result, as_json)
        return
    with talk_to_stderr(as_json):
        result = operation.ingest(name, arguments, task)
    _show_ingested(result, as_json)


def _show_ingested(result: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    for entry in result["params_added"]:
        console.print(f"added {entry} to params.yaml")
    console.print("committed; next: visionline run" if result["committed"] else "nothing new, nothing committed")


@app.command(epilog="Example: `visionline export cells /data/cells-yolo --format yolo --split train --split val`")
def export(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset; its data lie in data/DATASET.")],
    folder: Annotated[Path, typer.Argument(help="Where to write: a folder that is new or empty.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(formats.written_by_export())}.")],
    split: Annotated[list[Split] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    only: Annotated[
        Shape | None, typer.Option(help="Of objects: just boxes, or with them just polygons or just keypoints.")
    ] = None,
    rev: Annotated[str | None, typer.Option(help="The version at this commit, branch or tag.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if the format can't hold everything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset in a format that other tools read; says what that format could not hold."""
    here = Path.cwd()
    project.enter()
    from flows import export as operation

    options = [word for chosen in split or [] for word in ("--split", chosen)]
    options += [*(["--only", only] if only else []), *(["--strict"] if strict else [])]
    with talk_to_stderr(as_json):
        result = operation.export(name, here / folder, format, options, rev)
    tell(result, as_json, operation.show)


@app.command(epilog="Example: `visionline run --only cells --set tasks.cells.training.steps=800`")
def run(
    only: Annotated[list[str] | None, typer.Option(help="Only this task and what it needs; may be repeated.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change params.yaml first, and commit it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the pipeline on the data as it is; does only what changed."""
    project.enter()
    from flows import run as operation

    pairs = dict(_pair(text) for text in assignments or [])
    with talk_to_stderr(as_json):
        result = operation.run(only or [], pairs)
    tell(result, as_json, operation.show)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"--set {text}: must be KEY=VALUE, such as tasks.cells.training.steps=800")
    return key, value


@app.command(epilog="Example: `visionline tune cells --trials 20 --apply`")
def tune(
    task: Annotated[str, typer.Argument(help="A task of params.yaml with ranges in `tuning`.")],
    trials: Annotated[int | None, typer.Option(min=1, help="In all; else as tuning.TASK.trials says.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trials side by side; each takes cpu_threads cores.")] = 1,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best into params.yaml, and commit it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look for better parameters of a task; goes on where it was interrupted, and never looks at the test split."""
    project.enter()
    from flows import tune as operation

    with talk_to_stderr(as_json):
        result = operation.tune(task, trials, jobs, apply)
    tell(result, as_json, operation.show)


@app.command(epilog="Example: `visionline status --json`")
def status(as_json: AsJson = False) -> None:
    """Datasets, stages with why they are stale and what they cost, models with their aliases."""
    project.enter()
    from flows import status as operation

    state = operation.status()
    tell(state, as_json, operation.show)


@app.command(epilog="Example: `visionline accept finetune@cells --reason 'renamed a variable; loss is the same'`")
def accept(
    stages: Annotated[list[str], typer.Argument(help="Stages of dvc.yaml, such as finetune@cells.")],
    reason: Annotated[str, typer.Option(help="Why the outputs still stand; goes into the commit.")],
) -> None:
    """Keep outputs of stages though their code changed, because the change is a proven no-op."""
    project.enter()
    from flows import accept as operation

    operation.accept(stages, reason)
    console.print(f"accepted: {', '.join(stages)}", highlight=False)


@app.command(epilog="Example: `visionline remove cells slides/17.jpg --reason 'consent withdrawn' --purge`")
def remove(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset; its data lie in data/DATASET.")],
    images: Annotated[list[str], typer.Argument(help="Files, paths as in the source, or sha256.")],
    reason: Annotated[str, typer.Option(help="Why; stays beside the dataset's pointer.")],
    purge: Annotated[
        bool, typer.Option("--purge", help="Also delete the bytes from cache, remotes and artifacts, for good.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a purge.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take images out of a dataset: a new version without them, committed; says which models saw them."""
    here = Path.cwd()
    project.enter()
    from flows import remove as operation

    def agree(planned: Mapping[str, Any]) -> bool:
        for line in operation.plan_lines(planned):
            typer.echo(line, err=True)
        if not (yes or sys.stdin.isatty()):
            raise UsageError("a purge can't be taken back: look at the plan, then add --yes")
        return yes or typer.confirm("Delete all this for good?", err=True)

    named = [str(here / image) if (here / image).is_file() else image for image in images]
    result = operation.remove(name, named, reason, purge, agree)
    tell(result, as_json, operation.show)
