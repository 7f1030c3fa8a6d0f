"""The command line, one module a group of commands; each command is one operation of flows/."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

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


def print_json(content: Any) -> None:
    """The result of a command with --json."""
    typer.echo(json.dumps(content, indent=1, default=str))


def tell(result: Any, as_json: bool, show: Callable[[Any, Console], None]) -> None:
    """The result of a command, as JSON or as its operation shows it to a person."""
    if as_json:
        print_json(result)
    else:
        show(result, console)


@contextmanager
def talk_to_stderr(as_json: bool) -> Iterator[None]:
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
