"""The command line `visionline`: each command is one operation of this package."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from flows import project
from flows.project import UsageError, WorkError

app = typer.Typer(
    name="visionline",
    help="Keeps vision models fresh: versioned data in; validated, trained, compared and registered models out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
console = Console(soft_wrap=False)
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=1, default=str))


@contextmanager
def _talk_to_stderr(as_json: bool) -> Iterator[None]:
    """With --json, stdout is for the JSON alone: what stages and processes say meanwhile goes to stderr."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(own, 1)
        os.close(own)


@app.command(epilog="Example: `visionline init bccd`")
def init(
    recipe: Annotated[str, typer.Argument(help="A file of recipes/, without .yaml: laptop, bccd, imagenet-resnet50.")],
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
    source: Annotated[Path, typer.Argument(help="Folder with the labelled images; it stays as it is.")],
    format: Annotated[str, typer.Option(help="coco, imagefolder, imagenet, tiny-imagenet or voc.")],
    split: Annotated[
        str | None, typer.Option(help="train, val, test, or train=0.8,val=0.1,test=0.1; else the source's own.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Where the images lie, if not in SOURCE.")] = None,
    task: Annotated[str | None, typer.Option(help="Also add a task of this kind to params.yaml.")] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first file that can't be taken.")] = False,
    licence: Annotated[str | None, typer.Option(help="The licence of the source.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add labelled images: a new version of a dataset, checked and committed."""
    here = Path.cwd()
    project.enter()
    from flows import ingest as operation

    arguments = [str(here / source), "--format", format]
    options = {"--split": split, "--images": str(here / images) if images else None, "--licence": licence}
    arguments += [word for flag, value in options.items() if value is not None for word in (flag, value)]
    with _talk_to_stderr(as_json):
        result = operation.ingest(name, arguments + (["--strict"] if strict else []), task)
    if as_json:
        _print_json(result)
        return
    for entry in result["params_added"]:
        console.print(f"added {entry} to params.yaml")
    console.print("committed; next: visionline run" if result["committed"] else "nothing new, nothing committed")


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
    with _talk_to_stderr(as_json):
        result = operation.run(only or [], pairs)
    if as_json:
        _print_json(result)
    else:
        operation.show(result, console)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"--set {text}: must be KEY=VALUE, such as tasks.cells.training.steps=800")
    return key, value


@app.command(epilog="Example: `visionline status --json`")
def status(as_json: AsJson = False) -> None:
    """Datasets, stages with why they are stale and what they cost, models with their aliases."""
    project.enter()
    from flows import status as operation

    state = operation.status()
    if as_json:
        _print_json(state)
    else:
        operation.show(state, console)


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


@app.command(epilog="Example: `visionline predict cells@champion slides 'more/*.jpg' --out drawn --coco found.json`")
def predict(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME@ALIAS or NAME/VERSION.")],
    inputs: Annotated[list[Path], typer.Argument(help="Images, folders of images, or quoted patterns (** is deep).")],
    out: Annotated[Path | None, typer.Option(help="Folder for pictures with the predictions drawn on them.")] = None,
    coco: Annotated[Path | None, typer.Option(help="File for COCO results: images, boxes, scores.")] = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes below it are neither drawn nor counted in words.")
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Ask a registered model; it answers with the code that it was registered with."""
    here = Path.cwd()
    project.enter()
    from flows import predict as operation

    written = operation.Written(here / out if out else None, here / coco if coco else None, min_score)
    answers = operation.predict(model, [here / path for path in inputs], written)
    operation.show(answers, as_json, here, min_score)


@app.command(epilog="Example: `visionline serve cells@champion --port 8080`")
def serve(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME@ALIAS or NAME/VERSION.")],
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8080,
    max_bytes: Annotated[int, typer.Option(min=1, help="Larger bodies are refused.")] = 32 * 1024 * 1024,
) -> None:
    """Serve a registered model over HTTP: raw images at /predict, MLflow's protocol at /invocations."""
    project.enter()
    from flows import serve as operation

    operation.serve(model, host, port, max_bytes)


@app.command(epilog="Example: `visionline trace model:cells@champion --html lineage.html`")
def trace(
    what: Annotated[str, typer.Argument(help="model:NAME@ALIAS, data:NAME[@REVISION] or image:PATH-or-SHA256.")],
    similar: Annotated[
        int | None, typer.Option(metavar="BITS", help="Of image: also copies whose perceptual hash differs by so much.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the graph.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lineage: what made a model, what was built on data, and who saw an image."""
    here = Path.cwd()
    project.enter()
    from flows import trace as operation

    document = operation.trace(what, here, similar)
    if page is not None:
        operation.write_page(document, here / page)
    if as_json:
        _print_json(document)
    else:
        operation.show(document, console)


@app.command(epilog="Example: `visionline promote cells --approve ada --reason 'looked at the worst pictures'`")
def promote(
    name: Annotated[str, typer.Argument(help="A task of params.yaml.")],
    version: Annotated[str | None, typer.Option(help="The version to promote; without it: the challenger.")] = None,
    approve: Annotated[str | None, typer.Option(metavar="WHO", help="Who agrees, where the gate asks for it.")] = None,
    reason: Annotated[str, typer.Option(help="Why; goes into the journal.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Whatever the rules say; recorded as such.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the challenger the champion, if it passes the gate on a test set that neither model trained on."""
    project.enter()
    from flows import champion as operation

    with _talk_to_stderr(as_json):
        decision = operation.promote(name, version, approve, reason, force)
    if as_json:
        _print_json(decision)
    else:
        operation.show_decision(decision, console)


@app.command(epilog="Example: `visionline rollback cells --reason 'misses small cells'`")
def rollback(
    name: Annotated[str, typer.Argument(help="A task of params.yaml.")],
    reason: Annotated[str, typer.Option(help="Why; goes into the journal.")] = "",
    as_json: AsJson = False,
) -> None:
    """Return to the champion before this one."""
    project.enter()
    from flows import champion as operation

    result = operation.rollback(name, reason)
    if as_json:
        _print_json(result)
    else:
        console.print(f"version {result['champion']} is the champion of {name} again, instead of {result['previous']}")


@app.command(epilog="Example: `visionline history cells --at 2026-05-01`")
def history(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    at: Annotated[str | None, typer.Option(help="Only who was champion then; a date is its end, UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Who was champion when, and by what decision."""
    project.enter()
    from flows import champion as operation

    written = operation.history(name, at)
    if as_json:
        _print_json(written)
    else:
        operation.show_history(name, written, console)


@app.command(epilog="Example: `visionline reproduce cells@champion`")
def reproduce(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME@ALIAS or NAME/VERSION.")],
    output: Annotated[Path | None, typer.Option(help="Also write the certificate into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build a registered version again from its version alone, and certify that it comes out the same."""
    here = Path.cwd()
    project.enter()
    from flows import reproduce as operation

    with _talk_to_stderr(as_json):
        certificate = operation.reproduce(model, here / output if output else None, console)
    if as_json:
        _print_json(certificate)
    else:
        operation.show(certificate, console)
    if certificate["verdict"] == "different":
        raise WorkError(f"{model} did not come out the same: {certificate['reason']}")


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
    if as_json:
        _print_json(result)
    else:
        operation.show(result, console)


@app.command(epilog="Example: `visionline ui`")
def ui(
    stop: Annotated[bool, typer.Option("--stop", help="End the services that were started here.")] = False,
    browse: Annotated[bool, typer.Option("--open", help="Open the pages in a browser.")] = False,
) -> None:
    """Addresses of MLflow, Prefect and the Data Docs on this machine; starts those that are not running."""
    project.enter()
    from flows import ui as operation

    if stop:
        console.print(f"ended: {', '.join(operation.stop()) or 'nothing was running'}")
        return
    for name, address in operation.start().items():
        console.print(f"{name:<10} {address}")
        if browse:
            typer.launch(address)


def main() -> NoReturn:
    """The console script: 0 done, 1 the work failed, 2 wrong use; a person's mistake gets lines, not a traceback."""
    try:
        app(standalone_mode=True)
    except UsageError as error:
        _end(error, 2)
    except (WorkError, RuntimeError, OSError) as error:
        _end(error, 1)
    except Exception as error:
        # By name: to import MLflow for its exception would cost every command seconds.
        if "MlflowException" not in [kind.__name__ for kind in type(error).__mro__]:
            raise
        _end(RuntimeError(f"MLflow: {' '.join(str(error).split())}"), 1)
    sys.exit(0)


def _end(error: Exception, code: int) -> NoReturn:
    if str(error):
        print(f"visionline: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
