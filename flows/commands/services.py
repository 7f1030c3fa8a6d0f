"""Commands for the servers of this machine, schedules and triggers."""

from collections.abc import Mapping
from typing import Annotated

import typer

from flows import project
from flows.commands import AsJson, app, console, print_json, talk_to_stderr


@app.command(epilog="Example: `visionline ui`")
def ui(
    stop: Annotated[
        bool, typer.Option("--stop", help="End the services that were started here: visionline down.")
    ] = False,
    browse: Annotated[bool, typer.Option("--open", help="Open the pages in a browser.")] = False,
) -> None:
    """Addresses of MLflow, Prefect and the Data Docs on this machine; starts those that are not running."""
    if stop:
        down()
        return
    project.enter()
    from flows import services

    _show_services(services.start(), browse)


def _show_services(addresses: Mapping[str, str], browse: bool = False) -> None:
    for name, address in addresses.items():
        console.print(f"{name:<10} {address}")
        if browse:
            typer.launch(address)


@app.command(epilog="Example: `visionline up && visionline deploy`")
def up(
    prefect_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 5000,
    with_s3: Annotated[bool, typer.Option("--s3", help="An S3 store too, in memory: to try things.")] = False,
    s3_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 9000,
    as_json: AsJson = False,
) -> None:
    """Start a Prefect server, MLflow and a worker on this machine, as processes that stay; what runs is left alone.

    PREFECT_API_URL and MLFLOW_TRACKING_URI name servers that are somewhere already; with a database beside them
    (PREFECT_SERVER_DATABASE_CONNECTION_URL, MLFLOW_BACKEND_STORE_URI) they are started here, on that database.
    """
    project.enter()
    from flows import services, stack

    with talk_to_stderr(as_json):
        names = (stack.S3, *stack.ALL) if with_s3 else stack.ALL
        addresses = services.start(names, {"prefect": prefect_port, "mlflow": mlflow_port, stack.S3: s3_port})
    if as_json:
        print_json(addresses)
    else:
        _show_services(addresses)
        if with_s3:
            console.print(
                f"the S3 store forgets all when it ends. Use it: dvc remote add -d store s3://{stack.BUCKET}/dvc && "
                f"dvc remote modify store endpointurl {addresses[stack.S3]}",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        console.print("next: visionline deploy registers schedules and triggers; visionline down ends it all")


@app.command(epilog="Example: `visionline down`")
def down() -> None:
    """End the services that were started in this checkout, and nothing else."""
    project.enter()
    from flows import services

    console.print(f"ended: {', '.join(services.stop()) or 'nothing was running'}")


@app.command(epilog="Example: `VISIONLINE_NOTIFY_URL=https://... visionline deploy`")
def deploy(
    notify_block: Annotated[
        str | None,
        typer.Option(metavar="TYPE/NAME", help="A Prefect block that failures are told through, such as e-mail."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register retraining on schedule and on new data, with watchdogs, as `retraining` of params.yaml says.

    VISIONLINE_NOTIFY_URL, in the environment, is a webhook that gets a JSON of each failure.
    """
    project.enter()
    from flows import deploy as operation

    with talk_to_stderr(as_json):
        told = operation.deploy(notify_block)
    if as_json:
        print_json(told)
        return
    for key, value in told.items():
        console.print(f"{key:<12} {', '.join(value) if isinstance(value, list) else value}", highlight=False)
