"""The operation `predict`: answers of a registered model, which runs the code that it was registered with."""

import glob
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.project import UsageError, WorkError
from flows.told import progress
from stages.params import document
from stages.tracking import findings
from stages.tracking.process import child_of_this_process

SUFFIXES = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Written:
    """What predict writes beside what it prints; pictures show boxes of at least a score."""

    pictures: Path | None = None
    coco: Path | None = None
    min_score: float = findings.SHOWN_SCORE
    masks: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.pictures or self.coco or self.masks)


def predict(address: str, inputs: Sequence[Path], written: Written) -> Iterator[tuple[Path, dict[str, Any]]]:
    """File and answer of each image, as they come; {"error": reason} for a file that can't be read.

    UsageError for an unknown model, a path without images, COCO results of a model without boxes, or anything but JSON
    of a kind that only a newer visionline knows.
    """
    from stages.tracking import answers, registry

    _check(written)
    version = model_at(address)
    files = _files(inputs, written)
    facts = registry.facts(version) if written else {}
    form = _form(version, facts) if written else None
    if written.coco and form == "labels":
        raise UsageError(f"--coco: {version.name} answers with labels, and COCO results hold boxes: use --json")
    if written.masks and form != "segments":
        raise UsageError(f"--masks: {version.name} gives no class to every pixel: use --json")
    with exported(files, written, facts) as export, progress(len(files)) as tell:
        places = [(file, 0, None) for file in files]
        lines = answers.answers_of(f"models:/{version.name}/{version.version}", places, tell)
        for file, line in zip(files, lines, strict=True):
            if "answer" in line:
                export(file, line["answer"])
            yield file, line.get("answer", line)


def model_at(address: str) -> Any:
    """The registered version at an address; UsageError when there is none, or params.yaml can't be read."""
    from stages.tracking import registry

    try:
        document.cpu_threads()  # the model will run with as many
        return registry.version_at(address)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def _form(version: Any, facts: Mapping[str, Any]) -> str:
    try:
        return findings.form_of(facts["params"]["kind"])
    except ValueError as error:
        problem = f"{version.name} version {version.version}: {error}"
        raise UsageError(f"{problem}; update visionline, or use --json alone") from None


def _check(written: Written) -> None:
    if written.coco and (written.coco.is_dir() or not written.coco.parent.is_dir()):
        raise UsageError(f"--coco {written.coco}: must be a file in a folder that exists")
    for option, folder in (("--out", written.pictures), ("--masks", written.masks)):
        if folder and folder.exists() and not folder.is_dir():
            raise UsageError(f"{option} {folder}: must be a folder")


def _files(inputs: Sequence[Path], written: Written) -> list[Path]:
    """Every image once, in the order of the inputs; UsageError for an input without any."""
    files: dict[Path, None] = {}
    for path in inputs:
        is_pattern = not path.exists()
        matches = sorted(glob.glob(str(path), recursive=True)) if is_pattern else [path]  # noqa: PTH207 - absolute
        found = [file for match in matches for file in _images(Path(match), written.pictures)]
        if not found:
            raise UsageError(f"{path}: no such image, and no folder or pattern with images")
        files |= dict.fromkeys(found)
    return list(files)


def _images(path: Path, drawn: Path | None) -> list[Path]:
    """The file, or the images in a folder but those that were drawn there before."""
    if not path.is_dir():
        return [path]
    found = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    return [file for file in found if drawn is None or drawn == path or drawn not in file.parents]


def facts_of(address: str) -> dict[str, Any]:
    """What the version at an address was registered with: its classes and joints, among others."""
    from stages.tracking import registry

    return registry.facts(registry.version_at(address))


@contextmanager
def exported(
    files: Sequence[Path], written: Written, facts: Mapping[str, Any]
) -> Iterator[Callable[[Path, Mapping[str, Any]], None]]:
    """What takes each file with its answer and has it drawn and noted, in a process of its own."""
    if not written:
        yield lambda file, answer: None
        return
    names, pictures = _names(files), _pictures(files, written.pictures)
    masks = _pictures(files, written.masks, "--masks")
    settings = {"classes": facts["classes"], "min_score": written.min_score, "skeleton": facts.get("skeleton")}
    settings |= {"coco": str(written.coco)} if written.coco else {}
    settings |= {"masks": str(written.masks)} if written.masks else {}
    command = [sys.executable, "-m", "stages.export"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, preexec_fn=child_of_this_process()) as process:
        assert process.stdin
        try:
            print(json.dumps(settings), file=process.stdin, flush=True)

            def export(file: Path, answer: Mapping[str, Any]) -> None:
                row = {"file": str(file), "name": names[file], "answer": answer}
                row |= {"picture": str(pictures[file])} if file in pictures else {}
                row |= {"mask": str(masks[file])} if file in masks else {}
                print(json.dumps(row), file=process.stdin, flush=True)

            yield export
            process.stdin.close()
        except BrokenPipeError:
            with suppress(BrokenPipeError):
                process.stdin.close()
            raise WorkError("") from None  # it has told why
        except BaseException:
            process.terminate()  # what is only half done shall not look whole
            raise
        if process.wait():
            raise WorkError("")


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """Files by their paths below the folder that all lie in."""
    whole = {file: Path(os.path.abspath(file)) for file in files}  # noqa: PTH100 - links stay links
    root = Path(os.path.commonpath([file.parent for file in whole.values()]))
    return {file: absolute.relative_to(root).as_posix() for file, absolute in whole.items()}


def _pictures(files: Sequence[Path], folder: Path | None, option: str = "--out") -> dict[Path, Path]:
    """Where each file's picture goes; UsageError where it would replace an image."""
    if folder is None:
        return {}
    names = {file: Path(name) for file, name in _names(files).items()}
    taken = Counter(name.with_suffix(".png") for name in names.values())
    places = {
        file: folder / (name.with_suffix(".png") if taken[name.with_suffix(".png")] == 1 else f"{name}.png")
        for file, name in names.items()
    }
    for place in places.values():
        if place in places:
            raise UsageError(f"{option} {folder}: {place} is one of the images: choose another folder")
    return places


def show(answers: Iterator[tuple[Path, dict[str, Any]]], as_json: bool, here: Path, min_score: float) -> None:
    """Print answers as they come and, on stderr, each file that could not be read: then WorkError at the end."""
    num_failed, opening = 0, "{"
    for file, answer in answers:
        if "error" in answer:
            num_failed += 1
            print(f"visionline: {_printable(file)}: {answer['error']}", file=sys.stderr)
        if as_json:
            print(f"{opening}\n {json.dumps(str(file))}: {json.dumps(answer)}", end="")
            opening = ","
        elif "error" not in answer:
            name = file.relative_to(here) if file.is_relative_to(here) else file
            print(f"{_printable(name)}: {findings.read(answer).words(min_score)}")
    if as_json:
        print("\n}")
    if num_failed:
        raise WorkError("")


def _printable(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")
