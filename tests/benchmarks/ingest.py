"""Images a second of ingest against a plain loop that reads and decodes: `python tests/benchmarks/ingest.py`."""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from stages.data.records import Blob, Record, Source
from stages.ingest import ingest


def draw(folder: Path, first: int, count: int) -> list[Path]:
    """JPEGs of 64 to 128 px a side: blocks of colour under fine noise, about 4 kB each."""
    folder.mkdir(exist_ok=True)
    files = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        height, width = rng.integers(64, 129, 2)
        blocks = np.kron(rng.integers(0, 236, (17, 17, 3)), np.ones((8, 8, 1)))[:height, :width]
        pixels = (blocks + rng.integers(0, 20, (height, width, 3))).astype(np.uint8)
        files.append(folder / f"{number:06d}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=85)
    return files


def source(files: list[Path]) -> Source:
    records = [Record(file.name, Blob(file), labels=(str(i % 10),)) for i, file in enumerate(files)]
    return Source("classification", {str(i): str(i) for i in range(10)}, lambda: iter(records))


def plain_loop(files: list[Path]) -> None:
    for file in files:
        Image.open(io.BytesIO(file.read_bytes())).load()


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    count = options.images
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        files = draw(root / "images", 0, count)
        plain_loop(files)  # files into the page cache
        # One after the other, so that a busy machine slows both alike.
        pairs = [
            (
                seconds(lambda: plain_loop(files)),
                seconds(lambda to=root / str(n): ingest(to, source(files), progress=False)),
            )
            for n in range(options.repeats)
        ]
        plain_s, ingest_s = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"plain loop  {count / plain_s:8.0f} images/s, one process")
        print(f"ingest      {count / ingest_s:8.0f} images/s, all cores")
        ratio = statistics.median(plain / other for plain, other in pairs)
        print(f"ratio       {ratio:8.2f}  (median of {options.repeats} pairs)")
        folder = root / "0"
        again_s = seconds(lambda: ingest(folder, source(files), progress=False))
        print(f"unchanged   {count / again_s:8.0f} images/s")
        before = {f: f.stat().st_ino for f in sorted(folder.rglob("*")) if f.is_file()}
        more = files + draw(root / "images", count, count // 100)
        growth_s = seconds(lambda: ingest(folder, source(more), progress=False))
        assert {f: f.stat().st_ino for f in before} == before, "growth rewrote a file"
        added = sorted(set(folder.rglob("*.tar")) - set(before))
        assert len(added) == 1
        print(f"1 % more    {growth_s:8.2f} s, {len(added)} shard added, none rewritten")


if __name__ == "__main__":
    main()
