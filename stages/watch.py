"""Operation `watch`: says, a line each time, that a folder or a bucket prefix holds something new that is whole."""

import argparse
import json
import sys
import time
from collections.abc import Iterator

from stages.data.fetch import Listing, listing
from stages.tracking.process import die_with_parent


def settled(source: str, settle_s: float, poll_s: float) -> Iterator[Listing]:
    """The files of a source, each time they have changed and then stayed the same for settle_s seconds.

    Files whose names say that they are still being written are waited for. A source that can't be read is told once
    and tried again.
    """
    taken: Listing = {}
    seen: Listing = {}
    since, told = time.monotonic(), ""
    while True:
        try:
            now = listing(source)
            told = ""
        except OSError as error:
            before, told = told, str(error)
            if told != before:
                print(f"watch: {told}; trying again", file=sys.stderr, flush=True)
            now = seen
        if now != seen:
            seen, since = now, time.monotonic()
        if seen and seen != taken and time.monotonic() - since >= settle_s:
            taken = seen
            yield seen
        time.sleep(poll_s)


def main(arguments: list[str] | None = None) -> int:
    """Print {"files": N} whenever there is something new, until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m stages.watch", description=__doc__)
    parser.add_argument("source", metavar="SOURCE", help="folder, archive, or s3://, gs://")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds without a change until it counts as whole")
    parser.add_argument("--poll", type=float, default=2.0, help="seconds between two looks")
    options = parser.parse_args(arguments)
    die_with_parent()
    try:
        for found in settled(options.source, options.settle, options.poll):
            print(json.dumps({"files": len(found)}), flush=True)
    except KeyboardInterrupt:
        return 130
    except ValueError as error:
        print(f"watch: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
