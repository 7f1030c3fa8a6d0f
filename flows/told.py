"""How far an operation is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY_S = 30.0


@contextmanager
def progress(total: int) -> Iterator[Callable[[int, int], None]]:
    """What takes the numbers of images done and in all, and tells them on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _now_and_then()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Answers that go to the same terminal appear above the bar; those that go elsewhere must not come here.
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty(), transient=True) as bar:
        task = bar.add_task("loading the model", total=total)
        yield lambda done, total: bar.update(task, completed=done, description="images")


def _now_and_then() -> Callable[[int, int], None]:
    last = float("inf")  # the first of these seconds begins with the first image: a few get no line at all

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY_S and done < total:
            print(f"{done} of {total} images", file=sys.stderr, flush=True)
        last = now if now - last >= EVERY_S else min(last, now)

    return tell
