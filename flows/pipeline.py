"""The flow `pipeline`: one Prefect task a stage of DVC's graph, independent stages side by side."""

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.graph import Graph, Stage
from flows.project import WorkFailed
from stages.tracking.process import child_of_this_process

# What DVC itself prints, which the reader of a run has no use for.
DVC_TALK = (
    "Running stage", "> ", "Updating lock file", "Generating lock file", "To track the changes", "\tgit add",
    "To enable auto staging", "\tdvc config", "Use `dvc push`", "Verifying ", "ERROR: failed to reproduce",
)  # fmt: skip
RAN, CACHED, FRESH = "ran", "from cache", "fresh"


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: ran, from cache or fresh."""

    stage: str
    state: str


class StageFailed(WorkFailed):
    """A stage ended with an error; the message is its own last line."""


def run(graph: Graph, stale: Iterable[str], workers: int) -> list[Outcome]:
    """Run the stale stages of a graph on the Prefect server of the environment; WorkFailed names what failed."""
    outcomes: list[Outcome] = pipeline.with_options(task_runner=ThreadPoolTaskRunner(max_workers=workers))(  # type: ignore[call-overload]
        graph, frozenset(stale)
    )
    return outcomes


@flow(name="pipeline", validate_parameters=False, persist_result=False)
def pipeline(graph: Graph, stale: frozenset[str]) -> list[Outcome]:
    """Every stale stage as soon as all that it needs is done; a failure stops only what needs it."""
    futures: dict[str, PrefectFuture[Outcome]] = {}
    for name, stage in graph.stages.items():
        if name in stale:
            needed = [futures[n] for n in stage.needs if n in futures]
            futures[name] = reproduce.with_options(
                name=name,
                retries=int(stage.meta.get("retries", 0)),
                timeout_seconds=None,
            ).submit(stage, wait_for=needed)
    outcomes, failures = [], []
    for name, future in futures.items():
        future.wait()
        if future.state.is_completed():
            outcomes.append(future.result())
        elif future.state.is_failed() or future.state.is_crashed():
            failures.append(str(future.result(raise_on_failure=False)))
    if failures:
        raise WorkFailed("\n".join(failures))
    return outcomes


@task(persist_result=False, cache_policy=None, log_prints=False)
def reproduce(stage: Stage) -> Outcome:
    """One stage through DVC in a process of its own; StageFailed with the stage's reason when it ends badly."""
    logger = get_run_logger()
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=child_of_this_process(),
    )
    timeout_s = float(stage.meta.get("timeout_s", 86400))
    timer = threading.Timer(timeout_s, process.kill)
    timer.start()
    state, last = FRESH, deque[str](maxlen=1)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            state = _state(line) or state
            if line.strip() and not line.startswith(DVC_TALK) and not line.startswith("Stage '"):
                last.append(line.strip())
                logger.info(line.rstrip())
                say(stage.name, line.rstrip())
        code = process.wait()
    finally:
        is_late = not timer.is_alive()
        timer.cancel()
        process.kill()
    if code:
        reason = f"took over {timeout_s:g} s" if is_late else (last[0] if last else f"dvc ended with {code}")
        raise StageFailed(f"stage {stage.name} failed: {reason}")
    return Outcome(stage.name, state)


def _state(line: str) -> str | None:
    """What a line of DVC's says became of the stage."""
    if line.startswith("Running stage"):
        return RAN
    if "is cached" in line and line.startswith("Stage '"):
        return CACHED
    return None


_SAYING = threading.Lock()


def say(stage: str, line: str) -> None:
    """A line of a stage on the terminal, behind the stage's name."""
    with _SAYING:
        print(f"{stage:<28} {line}", flush=True)


def publish(markdown: str) -> None:
    """The result table as an artifact that Prefect's pages show."""
    create_markdown_artifact(key="visionline-result", markdown=markdown, description="What the pipeline made")


def capacity(cpu_threads: int) -> int:
    """How many stages may run side by side: each training keeps cpu_threads cores busy."""
    return max(1, len(os.sched_getaffinity(0)) // cpu_threads)


def links(uri: str) -> dict[str, Any]:
    """Where a person looks further."""
    return {"MLflow": uri, "Prefect": os.environ.get("PREFECT_API_URL", "")}
