"""Seconds and memory of `visionline trace image:` on a generated index: `python tests/benchmarks/trace.py`.

Limits: 5 s for the first call, 1 s after it, 1 GB of memory; the exit code is 1 when one is broken.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from generated import generate

COLD_S, WARM_S, MEMORY_MB = 5.0, 1.0, 1000
ROOT = Path(__file__).parents[2]


def register(project: Path, digest: str) -> None:
    """The runs of a pretraining and a fine-tuning, and the version of a model, as the stages would leave them."""
    code = f"""
from stages.tracking import registry, store
client = store.client()
def run(stage, key, **tags):
    tags = {{"visionline.stage": stage, "visionline.key": key, **tags}}
    made = client.create_run(store.experiment_id(), tags=tags, run_name=stage).info.run_id
    client.set_terminated(made, "FINISHED")
    return made
run("pretrain", "backbone", **{{"dvc.dep.data/imagenet": "{digest}", "dvc.out.models/backbone": "b.dir"}})
made = run("finetune", "cells", **{{"dvc.dep.models/backbone": "b.dir", "dvc.out.models/cells": "c.dir"}})
client.create_registered_model("cells")
client.create_model_version("cells", "runs:/" + made, made, tags={{registry.MODEL_HASH: "c.dir"}})
client.set_registered_model_alias("cells", "champion", "1")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, check=True, capture_output=True)


def trace(project: Path, *arguments: str) -> tuple[float, float, float, dict]:
    """Wall seconds, CPU seconds, peak memory in MB of the largest process, and the answer."""
    command = [sys.executable, "-m", "flows", "trace", *arguments, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as told:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=told)
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        told.seek(0)
        sys.stderr.write(told.read())
    assert status == 0, f"trace {' '.join(arguments)}: exit code {os.waitstatus_to_exitcode(status)}"
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, json.loads(answer)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_280_000)
    parser.add_argument("--shards", type=int, default=1_100, help="as many as ImageNet's images fill")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        sha256, digest = generate(project, options.rows, options.shards)
        register(project, digest)
        cold_s, cold_cpu_s, cold_mb, answer = trace(project, f"image:{sha256}")
        assert answer["live"] == ["cells@champion"], answer
        calls = [trace(project, f"image:{sha256}") for _ in range(options.repeats)]
        similar = [trace(project, f"image:{sha256}", "--similar", "6") for _ in range(options.repeats)]
    warm_s, similar_s = (statistics.median(call[0] for call in each) for each in (calls, similar))
    warm_cpu_s, similar_cpu_s = (statistics.median(call[1] for call in each) for each in (calls, similar))
    memory_mb = max(cold_mb, *(call[2] for call in (*calls, *similar)))
    print(f"{options.rows:,} rows in {options.shards:,} index files; one process after the other, start-up included")
    print(f"first call       {cold_s:6.2f} s   (limit {COLD_S:g} s; {cold_cpu_s:.2f} s of CPU)")
    print(f"after it         {warm_s:6.2f} s   (limit {WARM_S:g} s; {warm_cpu_s:.2f} s of CPU; median)")
    print(f"with --similar 6 {similar_s:6.2f} s   (limit {WARM_S:g} s; {similar_cpu_s:.2f} s of CPU; median)")
    print(f"memory           {memory_mb:6.0f} MB  (limit {MEMORY_MB} MB)")
    return int(cold_s > COLD_S or max(warm_s, similar_s) > WARM_S or memory_mb > MEMORY_MB)


if __name__ == "__main__":
    sys.exit(main())
