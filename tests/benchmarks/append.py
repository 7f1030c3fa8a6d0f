"""Seconds to append to a large dataset, and to push it: `python tests/benchmarks/append.py`.

Limit: 60 s for 10,000 small images onto 1,280,000, from the command to the commit and the upload; the exit code is 1
when it is broken, when an old shard was rewritten, or when more than the new ones was uploaded.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from generated import generate
from ingest import draw

LIMIT_S = 60.0
ROOT = Path(__file__).parents[2]


def run(project: Path, *command: str) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    return time.perf_counter() - started


def objects(folder: Path) -> dict[str, int]:
    """Objects of a remote, and their sizes."""
    return {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_280_000)
    parser.add_argument("--shards", type=int, default=1_100)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project, drop, remote = (Path(scratch) / name for name in ("project", "drop", "remote"))
        project.mkdir()
        generate(project, options.rows, options.shards)
        (project / "params.yaml").write_text("datasets: {imagenet: {}}\nbackbones: {}\ntasks: {}\n")
        drop.mkdir()
        draw(drop / "n00000000", 0, options.images)
        dvc = ("-m", "dvc")
        run(project, *dvc, "remote", "add", "--quiet", "--default", "storage", str(remote))
        run(project, *dvc, "checkout", "--quiet", "data/imagenet.dvc")
        run(project, *dvc, "push", "--quiet", "data/imagenet.dvc")
        shards = {f: f.stat().st_mtime_ns for f in (project / "data/imagenet").rglob("*") if f.is_file()}
        before = objects(remote)
        arguments = ("ingest", "imagenet", str(drop), "--format", "imagefolder", "--split", "train")
        ingest_s = run(project, "-m", "flows", *arguments)
        push_s = run(project, *dvc, "push", "--quiet", "data/imagenet.dvc")
        new = {name: size for name, size in objects(remote).items() if name not in before}
        rewritten = [f.name for f, at in shards.items() if f.name != "dataset.yaml" and f.stat().st_mtime_ns != at]
        added = len(list((project / "data/imagenet/shards").iterdir())) - options.shards
    print(f"{options.images:,} images appended to {options.rows:,} in {options.shards:,} shards")
    print(f"ingest and commit {ingest_s:6.1f} s")
    print(f"push              {push_s:6.1f} s, {len(new)} objects, {sum(new.values()) / 2**20:.1f} MiB")
    print(f"together          {ingest_s + push_s:6.1f} s (limit {LIMIT_S:g} s)")
    print(f"shards            {added} added, {len(rewritten)} rewritten")
    return int(ingest_s + push_s > LIMIT_S or bool(rewritten) or len(new) > 2 * added + 2)


if __name__ == "__main__":
    sys.exit(main())
