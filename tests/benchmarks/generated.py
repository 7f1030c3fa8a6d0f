"""A generated dataset of any size for benchmarks: true index files, shards that hold next to nothing."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from stages.data import index
from stages.data.dataset import Description

CLASSES = {f"n{i:08d}": f"n{i:08d}" for i in range(1000)}
DESCRIPTION = Description("classification", CLASSES).encoded()


def keep(cache: Path, data: bytes, suffix: str = "") -> str:
    """Put an object where DVC would; its hash."""
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + suffix
    file = cache / md5[:2] / md5[2:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return md5


def index_file(number: int, rows: int) -> tuple[str, bytes, str]:
    """Shard name, index file of a shard as ingest writes it, sha256 of its first image."""
    rng = np.random.default_rng(number)
    sha256 = [rng.bytes(32).hex() for _ in range(rows)]
    shard = hashlib.sha256(str(number).encode()).hexdigest()[:16]
    columns = {
        "key": [digest[:16] for digest in sha256],
        "shard": [shard] * rows,
        "sha256": sha256,
        "phash": [rng.bytes(8).hex() for _ in range(rows)],
        "split": ["train"] * rows,
        "labels": [[f"n{i % 1000:08d}"] for i in range(rows)],
        "source": [f"train/n{i % 1000:08d}/{number:05d}_{i:05d}.JPEG" for i in range(rows)],
        "annotation_hash": [digest[-16:] for digest in sha256],
    }
    empty = {name: pa.nulls(rows, index.SCHEMA.field(name).type) for name in index.SCHEMA.names if name not in columns}
    table = pa.table({**columns, **empty}).select(index.SCHEMA.names).cast(index.SCHEMA)
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return shard, sink.getvalue().to_pybytes(), sha256[0]


def generate(project: Path, rows: int, shards: int) -> tuple[str, str]:
    """A repository with one dataset of so many rows in one version; the sha256 of an image, the version's hash."""
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=project, check=True)
    (project / "dvc.yaml").write_text("stages: {}\n")
    cache, listing, known = project / ".dvc/cache/files/md5", [], ""
    for number in range(shards):
        shard, data, known = index_file(number, rows // shards + (number < rows % shards))
        listing.append({"md5": keep(cache, data), "relpath": f"index/{shard}.parquet"})
        listing.append({"md5": keep(cache, shard.encode()), "relpath": f"shards/{shard}.tar"})
    listing.append({"md5": keep(cache, DESCRIPTION), "relpath": "dataset.yaml"})
    digest = keep(cache, json.dumps(sorted(listing, key=lambda entry: entry["relpath"])).encode(), ".dir")
    (project / "data").mkdir()
    (project / "data/imagenet.dvc").write_text(f"outs:\n- md5: {digest}\n  hash: md5\n  path: imagenet\n")
    subprocess.run(["git", "add", "."], cwd=project, check=True)
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--message", "data"], cwd=project, check=True)
    return known, digest
