"""A script, run outside the repository: one registered model, with its own code, answers for images of a manifest.

`answer.py MODEL_URI MANIFEST STALL_S [--latency]`: a line [path, offset, size or null, box or null] of the manifest is
an encoded image, and the box of it that is asked about. To stdout, a line each: {"answer": ...} or {"error": why this
image can't be read}, in the manifest's order, and with --latency first {"latency": {"single_s": ..., "batched_s":
...}}, seconds an image after a warm-up.
"""

import json
import logging
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode

CHUNK, CHUNK_BYTES = 64, 64 << 20  # images are read and answered this many at a time, or fewer when they are large
NUM_TIMED, BATCH, REPEATS = 16, 16, 3


class Asked(NamedTuple):
    """An image, or why it can't be had, and which box of it is asked about; None: all of it."""

    data: bytes | OSError
    box: list[float] | None


Ask = Callable[[Sequence[Asked]], list[Any]]


def main(model_uri: str, manifest: Path, stall_s: int, with_latency: bool) -> None:
    """Answer for every line of the manifest; the alarm ends this process when nothing came for stall_s seconds."""
    out = _own_stdout()
    signal.alarm(stall_s)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    model = mlflow.pyfunc.load_model(model_uri)

    def ask(images: Sequence[Asked]) -> list[Any]:
        columns: dict[str, list[Any]] = {"image": [image.data for image in images]}
        if any(image.box for image in images):
            columns["box_xyxy"] = [image.box for image in images]
        frame = pd.DataFrame(columns)
        return [json.loads(row) for row in model.predict(frame)["answer"]]

    if with_latency:
        _write(out, {"latency": latency(ask, manifest)})
    for chunk in _chunks(manifest):
        signal.alarm(stall_s)
        answered = lines(ask, chunk)
        signal.alarm(0)  # whoever reads the answers may take as long as they like
        for line in answered:
            _write(out, line)
        out.flush()


def lines(ask: Ask, chunk: Sequence[Asked]) -> list[dict[str, Any]]:
    """One line for each image of a chunk. A model names only the first image that it can't read: each is tried then."""
    found: list[dict[str, Any]] = [
        {"error": str(image.data)} if isinstance(image.data, OSError) else {} for image in chunk
    ]
    readable = [i for i, line in enumerate(found) if not line]
    try:
        answers = ask([chunk[i] for i in readable]) if readable else []
    except MlflowException as error:
        _raise_unless_told(error)
        for i in readable:
            found[i] = _refused(ask, chunk[i])
        readable = [i for i in readable if not found[i]]
        answers = ask([chunk[i] for i in readable]) if readable else []
    for i, answer in zip(readable, answers, strict=True):
        found[i] = {"answer": answer}
    return found


def latency(ask: Ask, manifest: Path) -> dict[str, float]:
    """Median seconds an image, one at a time and in batches, over the first images that can be read; {} without any."""
    first = next(_chunks(manifest), [])
    had = (image for image in first if isinstance(image.data, bytes))
    readable = (image for image in had if not _refused(ask, image))  # asked: a warm-up
    images = list(islice(readable, NUM_TIMED))
    if not images:
        return {}
    batch = (images * BATCH)[:BATCH]
    single = [_seconds(ask, [image]) for image in images]
    _seconds(ask, batch)
    batched = [_seconds(ask, batch) / BATCH for _ in range(REPEATS)]
    return {"single_s": statistics.median(single), "batched_s": statistics.median(batched)}


def _seconds(ask: Ask, images: Sequence[Asked]) -> float:
    began = time.perf_counter()
    ask(images)
    return time.perf_counter() - began


def _refused(ask: Ask, image: Asked) -> dict[str, Any]:
    """{"error": reason} for an image that the model can't read, else {}."""
    try:
        ask([image])
    except MlflowException as error:
        _raise_unless_told(error)
        return {"error": error.message.removeprefix("image 0: ")}
    return {}


def _raise_unless_told(error: MlflowException) -> None:
    if error.error_code != ErrorCode.Name(INVALID_PARAMETER_VALUE):
        raise error


def _chunks(manifest: Path) -> Iterator[list[Asked]]:
    chunk: list[Asked] = []
    room = CHUNK_BYTES
    with manifest.open(encoding="utf8") as places:
        for place in places:
            *span, box = json.loads(place)
            data = _read(*span)
            chunk.append(Asked(data, box))
            room -= len(data) if isinstance(data, bytes) else 0
            if len(chunk) == CHUNK or room <= 0:
                yield chunk
                chunk, room = [], CHUNK_BYTES
    if chunk:
        yield chunk


def _read(path: str, offset: int, size: int | None) -> bytes | OSError:
    try:
        with Path(path).open("rb") as file:
            rest = os.fstat(file.fileno()).st_size - offset
            return os.pread(file.fileno(), rest if size is None else size, offset)
    except OSError as error:
        return OSError(error.strerror or str(error))


def _own_stdout() -> TextIO:
    """Stdout for the answers alone; whatever else prints goes to stderr."""
    own = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)
    return own


def _write(out: TextIO, line: dict[str, Any]) -> None:
    out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), "--latency" in sys.argv[4:])
