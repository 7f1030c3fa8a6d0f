"""The flow `pipeline`: one Prefect task a stage of DVC's graph, independent stages side by side."""

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture, as_completed
from prefect.logging.handlers import APILogWorker
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.graph import Graph, Stage
from flows.project import NOT_CACHED, WorkError, dvc_reason
from stages.tracking.process import child_of_this_process
from stages.tracking.runs import FLOW_RUN_VARIABLE

# What DVC itself prints, which the reader of a run has no use for.
DVC_TALK = (
    "Running stage", "> ", "Updating lock file", "Generating lock file", "To track the changes", "\tgit add",
    "To enable auto staging", "\tdvc config", "Use `dvc push`", "Verifying ", "ERROR: failed to reproduce",
    "Having any troubles?",
)  # fmt: skip
KILLED = re.compile(r"exited with -\d+")  # what DVC says of a command that a signal ended
RAN, CACHED, FRESH = "ran", "from cache", "fresh"


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: ran, from cache or fresh."""

    stage: str
    state: str


class StageError(WorkError):
    """A stage ended with an error; the message is its own last line."""


class KilledError(StageError):
    """A signal ended a stage, or DVC around it: that says nothing against its work."""


def run(graph: Graph, stale: Iterable[str], workers: int, table: Callable[[], str], kills: int = 0) -> list[Outcome]:
    """Run the stale stages of a graph on the Prefect server of the environment; WorkError names what failed.

    table: the result in markdown, asked for at the end and shown on Prefect's pages. kills: how often a stage that a
    signal ended is started again, from its checkpoint.
    """
    runner: Any = ThreadPoolTaskRunner(max_workers=workers)
    try:
        return pipeline.with_options(task_runner=runner)(graph, frozenset(stale), workers, table, kills)
    except TerminationSignal:
        raise WorkError("ended by a signal; the next run goes on from here") from None
    finally:
        APILogWorker.drain_all()  # while the server still lives: it may end with this command


@flow(name="pipeline", validate_parameters=False, persist_result=False)
def pipeline(graph: Graph, stale: frozenset[str], workers: int, table: Callable[[], str], kills: int) -> list[Outcome]:
    """Every stale stage once all that it needs is done, the most urgent first; a failure stops only what needs it."""
    os.environ[FLOW_RUN_VARIABLE] = str(flow_run.get_id())
    futures: dict[str, PrefectFuture[Outcome]] = {}
    for name, future in _as_they_end(graph, stale, workers, kills, futures):
        futures[name] = future
    ended = [futures[name] for name in graph.stages if name in futures]
    failures = [str(future.result(raise_on_failure=False)) for future in ended if not future.state.is_completed()]
    if failures:
        raise WorkError("\n".join(failures))
    assert len(ended) == len(stale), "without a failure every stage has run"
    create_markdown_artifact(key="visionline-result", markdown=table(), description="What the pipeline made")
    return [future.result() for future in ended]


def _as_they_end(
    graph: Graph, stale: frozenset[str], workers: int, kills: int, ended: Mapping[str, PrefectFuture[Outcome]]
) -> Iterator[tuple[str, PrefectFuture[Outcome]]]:
    """Run stages; each comes out when it ends, and what needs it is started when it ended well.

    A stage is not submitted before it is ready: Prefect would let it wait in one of the workers' places.
    """
    waiting = [stage for name, stage in graph.stages.items() if name in stale]
    running: dict[PrefectFuture[Outcome], Stage] = {}
    done: set[str] = set()
    try:
        while True:
            ready = [stage for stage in waiting if done.issuperset(stale.intersection(stage.needs))]
            for stage in ready[: workers - len(running)]:
                waiting.remove(stage)
                asked = int(stage.meta.get("retries", 0))
                again = None if asked else _was_killed
                task = reproduce.with_options(name=stage.name, retries=asked or kills, retry_condition_fn=again)
                needed = [ended[name] for name in stage.needs if name in ended]
                running[task.submit(stage, return_state=False, wait_for=needed)] = stage
            if not running:
                return
            future = next(as_completed(list(running)))
            future.wait()  # without it the state is what the server knew last
            stage = running.pop(future)
            done |= {stage.name} if future.state.is_completed() else set()
            yield stage.name, future
    except BaseException:  # a signal: it ends the stages too, which Prefect would let run to their end
        _ENDING.set()
        for process in tuple(_RUNNING):
            process.kill()
        raise


_RUNNING: set[subprocess.Popen[str]] = set()
_ENDING = threading.Event()  # this process ends: what a worker starts now must end, too


@task(persist_result=False, cache_policy=NO_CACHE)
def reproduce(stage: Stage) -> Outcome:
    """One stage through DVC in a process of its own; StageError with the stage's reason when it ends badly."""
    logger = get_run_logger()
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=child_of_this_process(),
    )
    _RUNNING.add(process)
    if _ENDING.is_set():
        process.kill()
    timeout_s = float(stage.meta.get("timeout_s", 86400))
    timer = threading.Timer(timeout_s, process.kill)
    timer.start()
    state, last, talk, lost = FRESH, deque[str](maxlen=1), "", ""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            state, talk = _state(line) or state, line
            if line.strip() and not line.startswith(DVC_TALK) and not line.startswith("Stage '"):
                last.append(dvc_reason(line))
                lost = lost or (last[0] if last[0].startswith(NOT_CACHED) else "")
                logger.info(line.rstrip())
                say(stage.name, line.rstrip())
        code = process.wait()
    finally:
        is_late = not timer.is_alive()
        timer.cancel()
        process.kill()
        _RUNNING.discard(process)
    if code or lost:
        if not lost and not is_late and not _ENDING.is_set() and (code < 0 or KILLED.search(talk)):
            raise KilledError(f"stage {stage.name} failed: a signal ended it")
        reason = lost or (last[0] if last else f"dvc ended with {code}")
        reason = f"took over {timeout_s:g} s" if is_late else reason
        raise StageError(f"stage {stage.name} failed: {reason}")
    return Outcome(stage.name, state)


def _was_killed(task: Any, task_run: Any, state: Any) -> bool:
    """Whether a failed stage shall be started again though dvc.yaml does not say so."""
    return isinstance(state.data, KilledError)


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


def capacity(cpu_threads: int) -> int:
    """How many stages may run side by side: each training keeps cpu_threads cores busy."""
    return max(1, len(os.sched_getaffinity(0)) // cpu_threads)
