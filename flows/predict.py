"""The operation `predict`: answers of a registered model, which runs the code that it was registered with."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.project import UsageError, WorkError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def predict(address: str, inputs: Sequence[Path]) -> dict[str, Any]:
    """File -> answer for images and folders of images; UsageError for an unknown model or a path without images."""
    from stages.tracking import registry

    try:
        uri = registry.resolve(address)
    except ValueError as error:
        raise UsageError(str(error)) from None
    files = [file for path in inputs for file in _images(path)]
    try:
        answers = registry.answers(uri, [file.read_bytes() for file in files])
    except RuntimeError as error:
        # The model counts images; a person knows files.
        raise WorkError(re.sub(r"\bimage (\d+):", lambda m: f"{files[int(m[1])]}:", str(error))) from None
    return {str(file): answer for file, answer in zip(files, answers, strict=True)}


def _images(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file()) if path.is_dir() else []
    if not found:
        raise UsageError(f"{path}: no such image, and no folder with images")
    return found


def words(answer: dict[str, Any]) -> str:
    """An answer in one line."""
    if "label" in answer:
        return f"{answer['label']} {answer['score']:.2f}"
    counts: dict[str, int] = {}
    for box in answer.get("boxes", []):
        if box["score"] >= 0.5:
            counts[box["label"]] = counts.get(box["label"], 0) + 1
    return ", ".join(f"{count} {label}" for label, count in sorted(counts.items())) or "nothing found"
