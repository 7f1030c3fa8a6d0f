"""The pipeline's graph as DVC reads it from dvc.yaml: the only use of DVC's internal interface in flows."""

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows import history
from flows.project import WorkError
from stages.params.files import write_atomically
from stages.tracking.full_disk import TO_DO

REGISTER = "register"
LOCK = Path("dvc.lock")
CONFLICT = "<<<<<<<"  # of a merge: that is for a person


@dataclass(frozen=True)
class Stage:
    """One stage: its name VERB@KEY, the stages it needs, and why it must run (nothing: it is fresh)."""

    name: str
    needs: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        return self.name.partition("@")[0]

    @property
    def key(self) -> str:
        return self.name.partition("@")[2]


@dataclass(frozen=True)
class DataPointer:
    """A dataset's folder and what is wrong with it: '' nothing, 'modified' or 'deleted'."""

    path: str
    problem: str


@dataclass(frozen=True)
class Graph:
    """All stages in an order that respects what they need."""

    stages: dict[str, Stage]
    pointers: tuple[DataPointer, ...]

    def only(self, keys: Iterable[str]) -> "Graph":
        """The stages of these tasks and all that those need."""
        keys = set(keys)
        wanted: set[str] = set()
        for name in reversed(self.stages):
            if self.stages[name].key in keys and self.stages[name].verb not in ("validate", "pretrain"):
                wanted.add(name)
            if name in wanted:
                wanted.update(self.stages[name].needs)
        return Graph({n: s for n, s in self.stages.items() if n in wanted}, self.pointers)

    def stale(self) -> list[str]:
        """Stages that must run, or may have to because one that they need must; registration is asked elsewhere."""
        stale: set[str] = set()
        for name, stage in self.stages.items():
            if stage.verb != REGISTER and (stage.reasons or stale.intersection(stage.needs)):
                stale.add(name)
        return [name for name in self.stages if name in stale]


def read() -> Graph:
    """The graph of ./dvc.yaml with the state of each stage; ValueError with DVC's words when it can't be read."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo, repo.lock:
            return _read(repo)
    except DvcException as error:
        raise ValueError(f"dvc.yaml: {' '.join(str(error).split())}") from None


def mend_lock() -> None:
    """Go back to the dvc.lock of the last commit where DVC, which writes in place, did not get to its end.

    What stages made since then is found in DVC's run cache.
    """
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    if not LOCK.is_file() or CONFLICT in LOCK.read_text(encoding="utf8"):
        return
    with Repo() as repo:
        try:
            Lockfile(repo, str(LOCK)).load()
        except DvcException:
            committed = history.file_at("HEAD", LOCK)
            LOCK.unlink() if committed is None else write_atomically(LOCK, committed)
            print(f"{LOCK} was cut off: it is that of the last commit again", file=sys.stderr, flush=True)


def restore_missing() -> None:
    """Bring back from the cache each output and dataset that is not in the working tree; WorkError when it can't."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo() as repo:
        missing = [_place(out) for out in repo.index.outs if not Path(out.fs_path).exists() and out.hash_info]
        if missing:
            try:
                repo.checkout(targets=missing, allow_missing=True, force=False)
            except DvcException as error:
                raise WorkError(f"dvc checkout: {' '.join(str(error).split())}") from error


def complete_cache() -> None:
    """Give DVC's cache what it lacks of the outputs and datasets that lie here; WorkError when it does not take it.

    A stage whose outputs found no space there is fresh for DVC, which would never try again.
    """
    from dvc.repo import Repo

    logging.getLogger("dvc_data").setLevel(logging.CRITICAL)  # what fails is told below
    with Repo() as repo, repo.lock:
        outs = [out for out in repo.index.outs if _is_only_here(out)]
        for out in outs:
            out.commit()
        lacking = [_place(out) for out in outs if out.changed_cache()]
        if lacking:
            folder = Path(repo.cache.local.path)
            free = f"{shutil.disk_usage(folder).free / 2**20:,.1f} MiB are free there"
            raise WorkError(f"DVC's cache {folder} did not take {', '.join(lacking)} ({free}); make room, {TO_DO}")


def _is_only_here(out: Any) -> bool:
    """Whether an output lies here as DVC knows it and is to be in the cache, but is not."""
    return out.use_cache and out.hash_info and out.exists and out.changed_cache() and not out.changed_checksum()


def storage() -> tuple[str, dict[str, str]]:
    """The cache's folder, and name -> address of each remote, the default first; those on this machine are absolute."""
    from dvc.repo import Repo

    with Repo() as repo:
        default = repo.config["core"].get("remote")
        named = sorted(repo.config["remote"].items(), key=lambda entry: entry[0] != default)
        urls = {name: str(settings["url"]) for name, settings in named}
        return str(Path(repo.cache.local.path).parents[1]), {n: _absolute(repo, n, url) for n, url in urls.items()}


def _absolute(repo: Any, name: str, url: str) -> str:
    return url if "://" in url else str(repo.cloud.get_remote(name).path)


def pointer_hash(pointer: Path) -> str | None:
    """DVC's hash in a pointer file; None when there is no such file."""
    from dvc.utils.serialize import load_yaml

    return str(load_yaml(pointer)["outs"][0]["md5"]) if pointer.is_file() else None


def _read(repo: Any) -> Graph:
    graph = repo.index.graph
    order = _by_urgency(graph, repo.index.stages)
    pipeline = [stage for stage in order if stage.cmd]
    names = {id(stage): stage.addressing.partition(":")[2] or stage.addressing for stage in pipeline}
    stages = {
        names[id(stage)]: Stage(
            names[id(stage)],
            tuple(sorted(names[id(needed)] for needed in graph.successors(stage) if needed.cmd)),
            dict(stage.meta or {}),
            tuple(_reasons(stage)),
        )
        for stage in pipeline
    }
    pointers = tuple(
        DataPointer(_place(out), out.status().get(str(out), ""))
        for stage in order
        if not stage.cmd
        for out in stage.outs
    )
    return Graph(stages, tuple(sorted(pointers, key=lambda p: p.path)))


def _place(out: Any) -> str:
    """Where an output lies; DVC's own word for it is relative to the file that names it, here or in data/."""
    return os.path.relpath(out.fs_path).replace(os.sep, "/")


def _by_urgency(graph: Any, listed: Sequence[Any]) -> list[Any]:
    """Stages in an order that respects what they need, the start of the longest chain first; else as they are listed.

    Where cores are fewer than ready stages, pretraining, which all else waits for, must not wait for a control.
    """
    import networkx

    position = {stage: number for number, stage in enumerate(listed)}

    before = list(networkx.topological_sort(graph.reverse()))
    height: dict[Any, int] = {}  # stages that follow one another after it
    for stage in reversed(before):
        height[stage] = 1 + max((height[later] for later in graph.predecessors(stage)), default=0)
    return sorted(before, key=lambda stage: (-height[stage], position[stage]))


def _reasons(stage: Any) -> list[str]:
    """What DVC finds changed, in words: 'data/bccd/index modified', 'tasks.cells modified', ..."""
    if stage.outs and not any(out.hash_info for out in stage.outs):
        return ["has not run yet"]  # dvc.lock does not know it; DVC would name all that it reads
    reasons = []
    for changes in stage.status(check_updates=True).values():
        for change in changes:
            if isinstance(change, str):
                reasons += [] if change == "always changed" else [change]
                continue
            for what in change.values():
                reasons += [f"{path} {_word(state)}" for path, state in what.items()]
    return reasons


def _word(state: Any) -> str:
    return state if isinstance(state, str) else ", ".join(f"{k} {v}" for k, v in state.items())
