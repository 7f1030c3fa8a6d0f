"""Answers of a registered model, which runs in a process of its own with the code that it was registered with."""

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stages.tracking import outside
from stages.tracking.process import child_of_this_process

Place = tuple[Path, int, int | None]  # an encoded image: file, offset and size in bytes (None: to the end of the file)
Box = Sequence[float] | None  # which part of an image is asked about, x1, y1, x2, y2; None: all of it
STALL_S = 600


def answers_of(
    model_uri: str,
    places: Sequence[Place],
    on_progress: Callable[[int, int], None] | None = None,
    on_latency: Callable[[dict[str, float]], None] | None = None,
    stall_s: int = STALL_S,
    boxes: Sequence[Box] | None = None,
) -> Iterator[dict[str, Any]]:
    """What a model says of images, in their order: {"answer": ...}, or {"error": why this image can't be read}.

    The images are read and the answers come in small parts, whatever their number. on_progress gets the counts done and
    total. With on_latency the model is also timed, before its first answer: {"single_s": ..., "batched_s": ...}, median
    seconds an image alone and in batches of 16, after a warm-up. boxes: one an image, which only versions with a column
    for them are told of. RuntimeError with the model's reason when it can't be
    loaded, breaks, or says nothing for stall_s seconds.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "manifest").open("w", encoding="utf8") as manifest:
            asked = zip(places, boxes or [None] * len(places), strict=True)
            manifest.writelines(json.dumps([str(file.absolute()), *span, box]) + "\n" for (file, *span), box in asked)
        arguments = [model_uri, str(folder / "manifest"), str(stall_s)] + (["--latency"] if on_latency else [])
        done = 0
        for line in _lines(outside.command("answer.py", *arguments), folder, model_uri):
            if on_latency and "latency" in line:
                on_latency(line["latency"])
                continue
            done += 1
            if on_progress:
                on_progress(done, len(places))
            yield line


def answers(model_uri: str, images: Sequence[bytes]) -> list[dict[str, Any]]:
    """What a model says of encoded images; RuntimeError also names the first image that can't be read."""
    with tempfile.TemporaryDirectory() as name:
        file, places, offset = Path(name) / "images", [], 0
        with file.open("wb") as together:
            for data in images:
                places.append((file, offset, together.write(data)))
                offset += len(data)
        lines = list(answers_of(model_uri, places))
    for i, line in enumerate(lines):
        if "error" in line:
            raise RuntimeError(f"{model_uri} can't answer: image {i}: {line['error']}")
    return [line["answer"] for line in lines]


def _lines(command: list[str], folder: Path, model_uri: str) -> Iterator[dict[str, Any]]:
    """The JSON lines that a command prints; it ends with this process, and when nobody wants more of them."""
    with (
        (folder / "stderr").open("w+b") as told,
        subprocess.Popen(
            command, cwd=folder, env=outside.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=told, preexec_fn=child_of_this_process(),
        ) as process,
    ):  # fmt: skip
        assert process.stdout
        try:
            yield from (json.loads(line) for line in process.stdout if line.endswith(b"\n"))
        except BaseException:  # also that nobody wants more
            process.kill()
            raise
        if process.wait() == -signal.SIGALRM:
            raise RuntimeError(f"{model_uri} can't answer: it said nothing for too long")
        if process.returncode:
            told.seek(0)
            reasons = told.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"{model_uri} can't answer: {[f'exit code {process.returncode}', *reasons][-1]}")
