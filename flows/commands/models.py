"""Commands that use, trace, promote and rebuild registered models."""

from pathlib import Path
from typing import Annotated

import typer

from flows import project
from flows.commands import AsJson, app, console, print_json, talk_to_stderr, tell
from flows.project import WorkError
from stages.tracking.findings import SHOWN_SCORE


@app.command(epilog="Example: `visionline predict cells@champion slides 'more/*.jpg' --out drawn --coco found.json`")
def predict(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME@ALIAS or NAME/VERSION.")],
    inputs: Annotated[list[Path], typer.Argument(help="Images, folders of images, or quoted patterns (** is deep).")],
    out: Annotated[Path | None, typer.Option(help="Folder for pictures with the predictions drawn on them.")] = None,
    coco: Annotated[Path | None, typer.Option(help="File for COCO results: images, boxes or segments, scores.")] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder for the class of every pixel, as index PNGs with a classes.txt.")
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes below it are neither drawn nor counted in words.")
    ] = SHOWN_SCORE,
    as_json: AsJson = False,
) -> None:
    """Ask a registered model; it answers with the code that it was registered with."""
    here = Path.cwd()
    project.enter()
    from flows import predict as operation

    places = (here / place if place else None for place in (out, coco, masks))
    pictures, results, index_pngs = places
    written = operation.Written(pictures, results, min_score, index_pngs)
    answers = operation.predict(model, [here / path for path in inputs], written)
    operation.show(answers, as_json, here, min_score)


@app.command(epilog="Example: `visionline serve cells@champion --port 8080 --canary 10%`")
def serve(
    model: Annotated[str, typer.Argument(help="NAME (its champion), NAME@ALIAS or NAME/VERSION.")],
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8080,
    max_bytes: Annotated[int, typer.Option(min=1, help="Larger bodies are refused.")] = 32 * 1024 * 1024,
    shadow: Annotated[
        str | None, typer.Option(metavar="ALIAS", help="Also ask this version; log its answers and give none of them.")
    ] = None,
    canary: Annotated[str, typer.Option(metavar="SHARE", help="Of the requests, for the challenger to answer.")] = "0%",
    refresh: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the aliases.")] = 5.0,
    log: Annotated[bool, typer.Option(help="Keep a request log under .visionline/requests/ (no images).")] = True,
) -> None:
    """Serve a registered model over HTTP; when its alias moves, the next version takes over without a lost request."""
    project.enter()
    from flows import serve as operation

    share = operation.share(canary)
    operation.serve(model, operation.Options(host, port, max_bytes, shadow, share, refresh, log))


@app.command(epilog="Example: `visionline drift cells --inputs /data/recent`")
def drift(
    name: Annotated[str, typer.Argument(help="A task of params.yaml.")],
    inputs: Annotated[Path | None, typer.Option(help="Folder of recent images; else the log of `serve`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Test whether recent inputs are still like the data; if not, the images to label are put together."""
    here = Path.cwd()
    project.enter()
    from flows import drift as operation

    with talk_to_stderr(as_json):
        told = operation.drift(name, here / inputs if inputs else None)
    tell(told, as_json, operation.show)


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
    tell(document, as_json, operation.show)


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

    with talk_to_stderr(as_json):
        decision = operation.promote(name, version, approve, reason, force)
    tell(decision, as_json, operation.show_decision)


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
        print_json(result)
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
        print_json(written)
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

    with talk_to_stderr(as_json):
        certificate = operation.reproduce(model, here / output if output else None, console)
    tell(certificate, as_json, operation.show)
    if certificate["verdict"] == "different":
        raise WorkError(f"{model} did not come out the same: {certificate['reason']}")
