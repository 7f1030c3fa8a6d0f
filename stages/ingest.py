"""Stage `ingest`: add a labelled source to a dataset. `python -m stages.ingest NAME SOURCE --format FORMAT`."""

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Generator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from stages.data import formats, index
from stages.data.arrivals import Arrived, Outcome, Reader, quieten, read_all
from stages.data.dataset import Description
from stages.data.fetch import checked, folder_of
from stages.data.records import Rejected, Source
from stages.data.removals import withdrawn, writing
from stages.data.shards import ShardWriter, remove_leftovers, replace_file
from stages.data.splits import SPLITS, parse_split
from stages.params.section import Name
from stages.tracking.full_disk import advised

SHOWN_REJECTIONS, SHOWN_DEFECTS = 10, 5
TERMINAL_PERIOD_S, LINES_PERIOD_S = 0.2, 10.0

Outcomes = Generator[Outcome, None, None]


@dataclass
class IngestReport:
    """What an ingest did; the counts are of the accepted records of the source, new or not."""

    added: int = 0
    unchanged: int = 0
    relabelled: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)  # path, reason
    defects: list[tuple[str, str]] = field(default_factory=list)  # path, what is wrong in an image that came in
    splits: Counter[str] = field(default_factory=Counter)  # split -> samples
    classes: Counter[str] = field(default_factory=Counter)  # label -> samples; or boxes; or new samples, of a mask
    batch: int | None = None  # None: nothing was new
    shards_added: int = 0
    shards_rewritten: int = 0

    @property
    def accepted(self) -> int:
        """Records that are now in the dataset."""
        return self.added + self.unchanged + self.relabelled

    def count(self, outcome: Outcome) -> None:
        """Enter what became of one record."""
        if isinstance(outcome, Rejected):
            self.rejected.append((outcome.path, outcome.reason))
            return
        self.unchanged += not isinstance(outcome, Arrived)
        self.added += isinstance(outcome, Arrived) and not outcome.outdated_in
        self.relabelled += isinstance(outcome, Arrived) and bool(outcome.outdated_in)
        self.splits[outcome.split] += 1
        if isinstance(outcome, Arrived):
            self.defects += [(outcome.record.path, defect) for defect in outcome.sample.row["defects"]]
        said = outcome.record.labels or [box.label for box in outcome.record.boxes or ()]
        self.classes.update(said or _in_mask(outcome))

    def document(self) -> dict[str, Any]:
        """The report as JSON; the same source on the same dataset gives the same."""
        return {
            "added": self.added,
            "unchanged": self.unchanged,
            "relabelled": self.relabelled,
            "rejected": [{"path": path, "reason": reason} for path, reason in self.rejected],
            "defects": [{"path": path, "defect": defect} for path, defect in self.defects],
            "splits": {split: self.splits[split] for split in SPLITS if split in self.splits},
            "classes": dict(sorted(self.classes.items())),
            "batch": self.batch,
            "shards_added": self.shards_added,
            "shards_rewritten": self.shards_rewritten,
        }


def ingest(
    folder: Path,
    source: Source,
    *,
    split: str | None = None,
    strict: bool = False,
    progress: bool = True,
    workers: int | None = None,
) -> IngestReport:
    """Add a source to the dataset in `folder`, made when it is not there; the source stays as it is.

    Records that are there already cost one read; if nothing is new, nothing is written. A record whose annotation or
    split changed is taken out of its shard and added anew. `split`: as `--split`; it overrules the source's own.

    ValueError, and the dataset as it was before, when nothing can be accepted, when the source is for another task or,
    if `strict`, at the first record that can't be. BlockingIOError while another ingest writes to the folder.
    """
    fractions = parse_split(split) if split is not None else None
    report = IngestReport()
    with writing(folder):
        remove_leftovers(folder)
        description = _description(folder, source)
        known = index.Known(folder)
        writer = ShardWriter(folder, batch=known.last_batch + 1)
        try:
            outcomes = read_all(source.records(), Reader(known, fractions), workers or _cores())
            _take_in(_watched(outcomes, report) if progress else outcomes, writer, report, strict)
            if not report.accepted:
                raise ValueError(f"no image could be taken from the source: {_first_reason(report)}")
            writer.stage()  # what needs space comes before what can't be taken back
            if description is not None:
                replace_file(folder / "dataset.yaml", description.encoded())
            report.shards_added, report.shards_rewritten = writer.commit()
        except BaseException:
            writer.discard()
            raise
    report.batch = writer.batch if report.added or report.relabelled else None
    return report


def _take_in(outcomes: Outcomes, writer: ShardWriter, report: IngestReport, strict: bool) -> None:
    """Stage all that arrives, and its shard without it where a record was there with another annotation."""
    outdated: dict[str, set[str]] = defaultdict(set)  # shard -> keys
    gone = withdrawn(writer.folder)
    with closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Arrived) and (reason := gone.get(outcome.sample.row["sha256"])):
                outcome = Rejected(outcome.record.path, reason)
            if strict and isinstance(outcome, Rejected):
                raise ValueError(f"{outcome.path}: {outcome.reason} (strict: nothing was added)")
            if isinstance(outcome, Arrived):
                writer.add(outcome.sample)
                for shard in outcome.outdated_in:
                    outdated[shard].add(outcome.sample.row["key"])
            report.count(outcome)
    for shard, keys in sorted(outdated.items()):
        writer.remove(shard, keys)


def _in_mask(outcome: Outcome) -> list[str]:
    """Labels of a mask, which only that of a new sample tells: the others are not decoded."""
    return outcome.sample.row.get("mask_labels") or [] if isinstance(outcome, Arrived) else []


def _description(folder: Path, source: Source) -> Description | None:
    """What dataset.yaml is to say with this source; None when it says so already."""
    said = Description.of(source)
    if not (folder / "dataset.yaml").exists():
        return said
    before = Description.read(folder)
    joined = before.joined(said)
    # Dictionaries are equal in any order, and the order of the classes is their number.
    return joined if (joined, list(joined.classes)) != (before, list(before.classes)) else None


def _first_reason(report: IngestReport) -> str:
    if not report.rejected:
        return "it lists none"
    path, reason = report.rejected[0]
    return f"{len(report.rejected)} rejected, the first is {path}: {reason}"


def _watched(outcomes: Outcomes, report: IngestReport) -> Outcomes:
    """The outcomes, with a bar on a terminal and a line now and then elsewhere."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    started = shown = time.monotonic()
    period_s = TERMINAL_PERIOD_S if console.is_terminal else LINES_PERIOD_S
    with Progress(*columns, console=console) if console.is_terminal else nullcontext() as bar, closing(outcomes):
        task = bar.add_task("reading", total=None) if bar else None
        for number, outcome in enumerate(outcomes, 1):
            yield outcome
            now = time.monotonic()
            if now - shown < period_s:
                continue
            shown = now
            line = f"{number:,} read, {number / (now - started):,.0f} a second, {len(report.rejected):,} rejected"
            if bar and task is not None:
                bar.update(task, description=line)
            else:
                console.print(line, highlight=False)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _name(text: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError(f"{text!r}: a name is lower-case letters, digits and '-'") from None


def _split(text: str) -> str:
    try:
        parse_split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return Path(text)


def _source(text: str) -> str:
    try:
        checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if "://" not in text and not Path(text).exists():
        raise argparse.ArgumentTypeError(f"{text!r} is not there")
    return text


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.ingest",
        description="Add a labelled source to a dataset.",
        epilog="example: python -m stages.ingest bccd ../shared/data/bccd --format voc",
    )
    parser.add_argument("name", type=_name, metavar="NAME", help="the dataset; it lies in data/NAME")
    parser.add_argument(
        "source",
        type=_source,
        metavar="SOURCE",
        help="folder or archive with the labelled images, or s3://, gs://, https://",
    )
    parser.add_argument("--format", required=True, choices=formats.names())
    parser.add_argument("--split", type=_split, metavar="SPEC", help="train, val, test, or train=0.8,val=0.1,test=0.1")
    parser.add_argument("--images", type=_folder, metavar="DIR", help="where the images lie, if not in SOURCE")
    parser.add_argument("--strict", action="store_true", help="stop at the first file that can't be accepted")
    parser.add_argument("--licence", metavar="TEXT", help="the licence of the source")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="where to write what was done")
    return parser.parse_args(arguments)


def _downloaded(done: int, total: int) -> None:
    print(f"downloaded {done:,} of {total:,} files", file=sys.stderr, flush=True)


def _print_report(report: IngestReport, name: str, notes: tuple[str, ...]) -> None:
    for path, reason in report.rejected[:SHOWN_REJECTIONS]:
        print(f"rejected {path}: {reason}")
    if len(report.rejected) > SHOWN_REJECTIONS:
        print(f"... and {len(report.rejected) - SHOWN_REJECTIONS:,} more rejected")
    for path, defect in report.defects[:SHOWN_DEFECTS]:
        print(f"taken with a defect, {path}: {defect}")
    if len(report.defects) > SHOWN_DEFECTS:
        print(f"... and {len(report.defects) - SHOWN_DEFECTS:,} more defects")
    for note in notes:
        print(f"note: {note}")
    splits = ", ".join(f"{split} {count:,}" for split, count in report.document()["splits"].items())
    print(
        f"{name}: {report.added:,} added, {report.unchanged:,} unchanged, {report.relabelled:,} relabelled, "
        f"{len(report.rejected):,} rejected ({splits})"
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 when the work failed; 2 (by argparse) on wrong use."""
    options = _options(arguments)
    quieten()
    try:
        with folder_of(options.source, _downloaded) as folder:
            source = formats.open_source(options.format, folder, options.images)
            if options.licence is not None:
                source = replace(source, licence=options.licence)
            report = ingest(Path("data") / options.name, source, split=options.split, strict=options.strict)
        if options.report is not None:
            replace_file(options.report, index.canonical(report.document()))
    except BrokenProcessPool:
        print(f"ingest {options.name}: a reading process was killed, perhaps for its memory", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"ingest {options.name}: interrupted, nothing was added", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(advised(f"ingest {options.name}: {error}"), file=sys.stderr)
        return 1
    _print_report(report, options.name, source.notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
