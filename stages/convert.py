"""Stage `convert`: a dataset in another format. `python -m stages.convert NAME FOLDER --format FORMAT`."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stages.data import formats, history
from stages.data.borrowed import borrowed, digest_at
from stages.data.dataset import Dataset
from stages.data.pointers import pointer_hash
from stages.data.splits import SPLITS
from stages.data.writers import writer_for
from stages.data.writers._losses import in_words, losses
from stages.data.writers._samples import COLUMNS, ONLY, Samples
from stages.params.files import replacing_folder
from stages.tracking.full_disk import advised


def convert(
    name: str,
    folder: Path,
    fmt: str,
    *,
    splits: Sequence[str] = (),
    only: str | None = None,
    revision: str | None = None,
    strict: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Write data/NAME, or its version at a git revision, into a new folder in a format; returns what was written.

    The images are the bytes that were ingested. The folder appears whole or not at all, after it was read back and
    compared with the dataset: `not held` counts what the format could not hold. only: write boxes alone, or with them
    only polygons or only keypoints, as in YOLO, whose lines hold one of these. ValueError when the folder is there and
    holds something, when there is nothing to write or, if `strict`, when something would be lost.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: name a folder that is new or empty")
    digest = digest_at(name, revision) if revision else pointer_hash(Path(f"data/{name}.dvc"))
    source = borrowed(name, digest) if revision and digest else nullcontext(Path("data") / name)
    with source as place:
        dataset = Dataset(place)
        samples, num_objects, not_held = _write(dataset, folder, fmt, splits, only, strict, progress)
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(samples.table["split"]).to_pylist()}
    return {
        "dataset": name,
        "version": digest,
        "format": fmt,
        "folder": str(folder),
        "images": len(samples),
        "objects": num_objects,
        "splits": {split: counts[split] for split in SPLITS if split in counts},
        "not held": not_held,
        "note": f"{fmt} could not hold: {in_words(not_held)}" if not_held else "",
    }


def _write(
    dataset: Dataset,
    folder: Path,
    fmt: str,
    splits: Sequence[str],
    only: str | None,
    strict: bool,
    progress: bool,
) -> tuple[Samples, int, dict[str, int]]:
    description = dataset.description
    writer = writer_for(fmt, description.task)
    if only in ("boxes", "polygons"):
        description = replace(description, skeleton=(), skeleton_edges=())
    samples = Samples(_table(dataset, splits), dataset.read, writer.place, only)
    with replacing_folder(folder) as temporary:
        writer.write(temporary, samples, description)
        if not len(samples):
            raise ValueError(f"{fmt} has no place for any of the {samples.num_left_out} images")
        _copy(dataset, samples, temporary, progress)
        read_back = formats.open_source(fmt, temporary)
        not_held = losses(samples, read_back, description, writer.keeps)
        if strict and not_held:
            raise ValueError(f"{fmt} can't hold {in_words(not_held)} (strict: nothing was written)")
    num_objects = pc.sum(pc.list_value_length(samples.table["objects"])).as_py() or 0
    return samples, num_objects - not_held.get("crowds", 0) - not_held.get("objects", 0), not_held


def _table(dataset: Dataset, splits: Sequence[str]) -> pa.Table:
    table = dataset.table(columns=COLUMNS)
    if splits:
        table = table.filter(pc.is_in(table["split"], pa.array(list(splits))))
    if not len(table):
        raise ValueError(f"{dataset.name} has no image in {', '.join(splits)}; it has: {', '.join(dataset.splits)}")
    return table


def _copy(dataset: Dataset, samples: Samples, folder: Path, progress: bool) -> None:
    """The images, with a bar on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("writing images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_shown = progress and console.is_terminal
    with Progress(*columns, console=console) if is_shown else nullcontext() as bar:
        task = bar.add_task("", total=len(samples)) if bar else None
        for sample in samples:
            file = folder / sample.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(dataset.read(sample.row["shard"], sample.row["offset"], sample.row["size"]))
            if bar and task is not None:
                bar.advance(task)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.convert", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="the dataset; it lies in data/NAME")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; new or empty")
    parser.add_argument("--format", required=True)
    parser.add_argument("--split", action="append", choices=SPLITS, default=[], help="only this one; may be repeated")
    parser.add_argument("--only", choices=sorted(ONLY), help="of the objects; boxes are always written")
    parser.add_argument("--rev", metavar="REV", help="the version at this commit, branch or tag")
    parser.add_argument("--strict", action="store_true", help="fail if the format can't hold everything")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="where to write what was done")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 when the work failed; 2 on wrong use."""
    options = _options(arguments)
    if options.rev is not None and history.version_at(options.name, options.rev) is None:
        print(f"export {options.name}: {options.rev} holds no data/{options.name}.dvc", file=sys.stderr)
        return 2
    try:
        report = convert(
            options.name,
            options.folder,
            options.format,
            splits=options.split,
            only=options.only,
            revision=options.rev,
            strict=options.strict,
        )
        if options.report is not None:
            options.report.write_text(json.dumps(report), encoding="utf8")
    except KeyboardInterrupt:
        print(f"export {options.name}: interrupted, nothing was written", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(advised(f"export {options.name}: {error}"), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
