"""What DVC and git know of the files that a stage reads and writes."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.data.versions import hash_path


@dataclass(frozen=True)
class StageFiles:
    """A stage of dvc.yaml while it runs."""

    stage: Any  # dvc.stage.Stage

    def dep_hashes(self) -> dict[str, str]:
        """Path -> hash of each input file and folder; DVC remembers those that did not change since it hashed them."""
        files = [dep for dep in self.stage.deps if type(dep).__name__ == "Dependency"]
        return {dep.def_path: dep.get_hash().value for dep in files}

    def out_hashes(self) -> dict[str, str]:
        """Path -> hash of each output, as dvc.lock will hold it."""
        return {out.def_path: hash_path(Path(out.fs_path)) for out in self.stage.outs}


@contextmanager
def stage_files(name: str) -> Iterator[StageFiles]:
    """The files of a stage of ./dvc.yaml, by its name VERB@KEY."""
    from dvc.repo import Repo

    with Repo(_wait_for_lock=True) as repo:
        with repo.lock:  # it reads dvc.lock, which a stage beside may have DVC write just now, and in place
            stage = repo.stage.load_one("dvc.yaml", name)
        yield StageFiles(stage)


def pointer_hash(pointer: Path) -> str | None:
    """The hash in a pointer file such as data/NAME.dvc; None when there is no pointer."""
    if not pointer.is_file():
        return None
    return str(YAML(typ="safe").load(pointer)["outs"][0]["md5"])


def locked_stages() -> dict[str, Any]:
    """What ./dvc.lock says of each stage, read while DVC does not write it (it writes in place)."""
    from dvc.repo import Repo

    lock = Path("dvc.lock")
    with Repo(_wait_for_lock=True) as repo, repo.lock:
        return YAML(typ="safe").load(lock)["stages"] if lock.is_file() else {}


def trained_on(stages: Mapping[str, Any], stage: str, model_hash: str) -> list[tuple[str, str]] | None:
    """Dataset and hash of all that the model of a stage (finetune@cells) learned from, through its backbone too.

    stages: as locked_stages() gives them. None when the model with this hash is not the one that they tell of.
    """
    entry = stages.get(stage)
    if entry is None or model_hash not in [out["md5"] for out in entry["outs"]]:
        return None
    found: list[tuple[str, str]] = []
    learns = not _is_published(stage, entry)
    for dep in entry["deps"]:
        group, _, name = dep["path"].partition("/")
        if group == "data" and "/" not in name and learns:
            found.append((name, dep["md5"]))
        elif group == "models":
            deeper = trained_on(stages, f"pretrain@{name}", dep["md5"])
            if deeper is None:
                return None
            found += deeper
    return sorted(set(found))


def _is_published(stage: str, entry: Mapping[str, Any]) -> bool:
    """Whether a stage took weights that others published, and learned nothing from the dataset that it waits for."""
    verb, _, key = stage.partition("@")
    params = entry.get("params", {}).get("params.yaml", {}).get(f"backbones.{key}", {})
    return verb == "pretrain" and bool(params.get("weights")) and params.get("training") is None


def deps(stages: Mapping[str, Any], stage: str) -> dict[str, str]:
    """Path -> hash of what a stage VERB@KEY read when its outputs were made; stages as locked_stages() gives them."""
    return {dep["path"]: dep["md5"] for dep in stages.get(stage, {}).get("deps", []) if "md5" in dep}


def head_commit() -> str | None:
    """The commit that is checked out; None outside of git or before the first commit."""
    answer = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None
