"""One process a stage: alone on its outputs, gone when its parent is, and no more threads than it was given."""

import argparse
import ctypes
import fcntl
import gc
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from stages.tracking.full_disk import advised

LOCAL_STATE = Path(".visionline")
LOCK_WAIT_S = 20.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however that ends (Linux; nothing elsewhere)."""
    child_of_this_process()()
    if os.getppid() == 1:
        os._exit(137)  # the parent ended before the kernel was asked


def child_of_this_process() -> Callable[[], None]:
    """What Popen shall call in a child so that the kernel kills it when this process ends."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec little is safe
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def collect_garbage_rarely() -> None:
    """Importing torch and MLflow makes no garbage: Python's own threshold of 700 objects costs a second."""
    gc.set_threshold(100_000, 20, 20)


def limit_threads(cpu_threads: int) -> None:
    """Give this process, and those that it starts, these settings before torch is loaded."""
    os.environ |= thread_settings(cpu_threads)


def thread_settings(cpu_threads: int) -> dict[str, str]:
    """What OpenMP reads when torch is loaded: idle threads sleep instead of spinning on another's core."""
    number = {name: str(cpu_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", **number}


@contextmanager
def locked(name: str, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold .visionline/locks/NAME.lock; RuntimeError with the holder's pid when another process keeps it."""
    file = LOCAL_STATE / "locks" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as lock:
        deadline = time.monotonic() + wait_s
        while not _taken(lock.fileno()):
            if time.monotonic() > deadline:
                lock.seek(0)
                raise RuntimeError(
                    f"{name} is running already, in process {lock.read().strip() or '?'}: wait for its end"
                )
            time.sleep(0.1)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stage_main(stages: Mapping[str, Callable[[str], None]], arguments: Sequence[str]) -> NoReturn:
    """The main function of a stage's module: `KEY` runs its first stage on that entry, `KEY --NAME` another.

    Ends the process: 0 done, 1 the work failed (one line says why), 2 wrong use.
    """
    from stages.params import document  # brings pydantic along, which those that only lock do without

    parser = argparse.ArgumentParser(prog=f"python -m stages.{next(iter(stages))}")
    parser.add_argument("key", help="name of the entry in params.yaml")
    first, *others = stages
    for name in others:
        parser.add_argument(f"--{name}", dest="stage", action="store_const", const=name, default=first)
    options = parser.parse_args(arguments)
    stage = getattr(options, "stage", first)
    die_with_parent()
    collect_garbage_rarely()
    with errors_in_lines(f"{stage} {options.key}"):
        limit_threads(document.cpu_threads())
        with locked(f"{stage}@{options.key}"):
            stages[stage](options.key)
    sys.exit(0)


@contextmanager
def errors_in_lines(who: str) -> Iterator[None]:
    """End the process with code 1 and lines on stderr where an error is one that a person can act on."""
    try:
        yield
    except Exception as error:
        told = lines_of(error)
        if not told or os.environ.get("VISIONLINE_DEBUG"):
            raise
        for line in told:
            print(f"{who}: {line}", file=sys.stderr, flush=True)
        sys.exit(1)


# What a person can act on; anything else is a bug and shows its traceback, as these do with VISIONLINE_DEBUG=1.
EXPECTED_ERRORS = (ValueError, OSError, RuntimeError, ArithmeticError, sqlite3.OperationalError)  # DVC keeps databases
# By name, since the libraries take seconds to import: what tells of a server or a database that does not agree.
MLFLOW, PREFECT = ("MlflowException", "SQLAlchemyError"), ("PrefectException", "HTTPError")
STORES = dict.fromkeys(MLFLOW, "MLflow") | dict.fromkeys(PREFECT, "Prefect")


def lines_of(error: Exception) -> list[str]:
    """What to tell a person of an error that they can act on; empty for a bug."""
    whose = next((STORES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in STORES), None)
    if whose:
        told, of_a_statement, _ = str(error).partition("\n[SQL")  # SQLAlchemy goes on with it, and begins with hints
        told = told.splitlines()[-1] if of_a_statement else " ".join(told.split())
        return [advised(f"{whose}: {told or type(error).__name__}")]
    if isinstance(error, EXPECTED_ERRORS):
        return [advised(line) for line in str(error).splitlines()] or [type(error).__name__]
    return []


@contextmanager
def only_told(is_second: bool = True) -> Iterator[None]:
    """Where another error is on its way already, one of this block is printed, so that it does not hide the first."""
    try:
        yield
    except Exception as error:
        if not is_second:
            raise
        for line in lines_of(error) or [repr(error)]:
            print(f"and then: {line}", file=sys.stderr, flush=True)


def is_alive(pid: int, started: str) -> bool:
    """Whether the process that had this pid and start mark still runs on this machine."""
    return start_mark(pid) == started


def start_mark(pid: int) -> str:
    """What tells a process from a later one with the same pid: its start time as the system counts it; '' when gone.

    One that has ended counts as gone though its parent, which in a container may be nobody who cares, has not asked.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
