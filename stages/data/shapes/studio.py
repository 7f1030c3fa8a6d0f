"""Draws many pictures at once into a folder that is either complete or absent."""

import hashlib
import math
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from stages.data.shapes.textures import Rng
from stages.data.workers import follow_parent

JPEG_QUALITY = 90
FEW = 64  # pictures that are drawn sooner than a process starts

Job = TypeVar("Job")
Result = TypeVar("Result")


def generator(*name: str | int) -> Rng:
    """Random numbers of one picture, a function of its name alone: (seed, layout, split, ..., index)."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))


def save(picture: Image.Image, file: Path) -> None:
    """Write a JPEG whatever the file's suffix, with its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, "JPEG", quality=JPEG_QUALITY)


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A fresh folder beside `folder` that takes its name at the end, so that an interruption leaves nothing half-made.

    FileExistsError when `folder` exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: delete it to have it drawn again")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def draw_all(draw: Callable[[Job], Result], jobs: Sequence[Job], title: str, workers: int | None) -> list[Result]:
    """`draw` of every job, in order, on `workers` processes (None: one a core), with progress on stdout."""
    workers = min(workers or _cores(), math.ceil(len(jobs) / FEW))
    if workers <= 1:
        return list(_watched(map(draw, jobs), len(jobs), title))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=follow_parent) as pool:
        try:
            return list(_watched(pool.map(draw, jobs, chunksize=16), len(jobs), title))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _watched(results: Iterable[Result], total: int, title: str) -> Iterator[Result]:
    """The results as they come, with a bar on a terminal and one line at the end elsewhere."""
    console = Console()
    if console.is_terminal:
        yield from track(results, title, total, console=console)
    else:
        yield from results
        console.print(f"{title}: {total} drawn", highlight=False, soft_wrap=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
