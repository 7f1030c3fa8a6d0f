"""The operation `reproduce`: build a registered version again from what was recorded of it, and certify the result."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from flows import graph as graphs
from flows import history
from flows.project import LOCAL_STATE, UsageError, WorkError, dvc
from stages.params import document
from stages.params.backbone import BackboneParams
from stages.tracking.process import child_of_this_process, locked

REFS = "refs/visionline/*"


def reproduce(address: str, output: Path | None, console: Console) -> dict[str, Any]:
    """Train NAME@ALIAS again at its snapshot commit, on its data by hash; returns the certificate.

    The certificate is attached to the version, and written to a folder if one is given. WorkError when a commit or
    data are nowhere, when an image is not what was trained on, or when a stage fails.
    """
    from stages.tracking import lineage, records, registry, runs, store

    try:
        version = registry.version(address)
        run, trained_on = lineage.builder(records.read(), version.model_hash), version.trained_on
    except ValueError as error:
        raise UsageError(str(error)) from None
    name, number, commit = version.name, version.number, run.tags["git.commit"]
    with locked(f"reproduce-{name}"), _worktree(commit, f"{name}-{number}") as worktree:
        console.print(f"{name} version {number}: commit {commit[:12]} in {worktree}", highlight=False)
        _connect(worktree)
        backbone, entry = _backbone(worktree, name)
        needed = {entry.dataset: graphs.pointer_hash(worktree / f"data/{entry.dataset}.dvc") or "", **dict(trained_on)}
        for dataset, digest in needed.items():
            _bring(worktree, dataset, digest)
            console.print(f"data/{dataset} is what it was built from, byte for byte", highlight=False)
        _lend_weights(worktree, backbone, entry)
        settings = {
            "MLFLOW_TRACKING_URI": store.tracking_uri(),
            "PYTHONPATH": str(worktree),
            runs.COMMIT_VARIABLE: commit,
            runs.REPRODUCTION_VARIABLE: f"{name}/{number}",
        }
        validated = [f"validate@{dataset}" for dataset in needed]
        for stage in (*validated, f"pretrain@{backbone}", f"finetune@{name}"):
            _repeat(worktree, stage, settings)
        return _certified(name, number, worktree, output)


@contextmanager
def _worktree(commit: str, name: str) -> Iterator[Path]:
    """A checkout of the commit beside the local state, removed at the end."""
    if subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False).returncode:
        _fetch_snapshots(commit)
    folder = (LOCAL_STATE / "reproduce" / name).resolve()
    subprocess.run(["git", "worktree", "remove", "--force", str(folder)], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    history.git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        history.git("worktree", "remove", "--force", str(folder))


def _fetch_snapshots(commit: str) -> None:
    """A clone has no snapshots of runs until it asks for them."""
    for remote in history.git("remote").split():
        subprocess.run(["git", "fetch", "--quiet", remote, f"+{REFS}:{REFS}"], capture_output=True, check=False)
    if subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False).returncode:
        raise WorkError(
            f"commit {commit}, which this version was built from, is neither here nor in a git remote: fetch {REFS} "
            "from where it was trained, or push it there"
        )


def _connect(worktree: Path) -> None:
    """A worktree starts with an empty cache of its own, and relative addresses of remotes mean another place there."""
    local = Path(".dvc/config.local")
    if local.is_file():
        shutil.copy(local, worktree / local)
    cache, remotes = graphs.storage()
    dvc("cache", "dir", "--local", cache, folder=worktree)
    for i, (remote, url) in enumerate(remotes.items()):
        known = _dvc_command("remote", "modify", "--local", remote, "url", url)
        if subprocess.run(known, cwd=worktree, capture_output=True, check=False).returncode:
            # A remote that came after the snapshot.
            dvc("remote", "add", "--local", *(["--default"] if i == 0 else []), remote, url, folder=worktree)


def _bring(worktree: Path, dataset: str, digest: str) -> None:
    """Check a dataset out, from the cache or the remote, and compare each image with what the index says."""
    pointer = f"data/{dataset}.dvc"
    if graphs.pointer_hash(worktree / pointer) != digest:
        raise WorkError(f"{pointer} of the snapshot is not version {digest}: the snapshot is not of this model")
    if subprocess.run(_dvc_command("checkout", "--quiet", "--force", pointer), cwd=worktree, capture_output=True,
                      check=False).returncode:  # fmt: skip
        dvc("pull", "--quiet", "--force", pointer, folder=worktree)
    folder = worktree / "data" / dataset
    command = [sys.executable, "-m", "stages.verify", str(folder), digest]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=child_of_this_process())
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"stages.verify ended with {done.returncode}"]
        raise WorkError("\n".join(f"data/{dataset} differs from version {digest}: {line}" for line in lines))


def _backbone(worktree: Path, name: str) -> tuple[str, BackboneParams]:
    """The backbone of a task at that commit, by name and entry."""
    params = document.load(worktree / document.PARAMS_FILE)
    task = params.tasks.get(name)
    if task is None:
        raise WorkError(f"params.yaml of the snapshot has no task {name!r}: it was renamed since it was registered")
    return task.backbone, params.backbones[task.backbone]


def _lend_weights(worktree: Path, name: str, backbone: BackboneParams) -> None:
    """Published weights are in no commit: the file of this checkout is lent, and the stage compares its hash."""
    if not backbone.weights or Path(backbone.weights).is_absolute():
        return
    link = worktree / backbone.weights
    if not link.resolve().is_relative_to(worktree):
        raise WorkError(f"backbones.{name}.weights {backbone.weights} leads out of the repository: give its full path")
    if not Path(backbone.weights).is_file():
        wanted = f" (sha256 {backbone.weights_sha256})" if backbone.weights_sha256 else ""
        raise WorkError(f"{backbone.weights}, which {name} starts from, is not here: put that file there{wanted}")
    if not link.is_file():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path(backbone.weights).absolute())


def _repeat(worktree: Path, stage: str, settings: Mapping[str, str]) -> None:
    """Run a stage whatever the run cache holds, with its output on this terminal."""
    command = _dvc_command("repro", "--single-item", "--force", "--no-run-cache", "--no-commit", stage)
    done = subprocess.run(
        command, cwd=worktree, env={**os.environ, **settings}, stdin=subprocess.DEVNULL,
        check=False, preexec_fn=child_of_this_process(),
    )  # fmt: skip
    if done.returncode:
        raise WorkError(f"stage {stage} failed at the snapshot commit: its reason stands above")


def _certified(name: str, number: str, worktree: Path, output: Path | None) -> dict[str, Any]:
    from stages.tracking import runs

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stages.certify", name, number, str(worktree), "--output", folder]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise WorkError(done.stderr.strip().splitlines()[-1])
        certificate = json.loads((Path(folder) / "certificate.json").read_text(encoding="utf8"))
        certificate["run"] = runs.note_reproduction(name, number, Path(folder), certificate["verdict"])
        if output is not None:
            shutil.copytree(folder, output, dirs_exist_ok=True)
    return certificate


def _dvc_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def show(certificate: Mapping[str, Any], console: Console) -> None:
    """Print the verdict and what it rests on."""
    name, number = certificate["model"], certificate["version"]
    console.print(f"{name} version {number}: {certificate['verdict']}: {certificate['reason']}", highlight=False)
    for what, said in certificate["environment"].items():
        if said["recorded"] != said["here"]:
            console.print(f"  {what}: {said['recorded']} recorded, {said['here']} here", highlight=False)
    if "metric" in certificate:
        metric = certificate["metric"]
        console.print(
            f"  {metric['name']}: {metric['registered']} registered, {metric['rebuilt']:.4f} rebuilt "
            f"(tolerance {metric['tolerance']})", highlight=False,
        )  # fmt: skip
    console.print(f"  certificate: run {certificate['run']} in MLflow, and a tag of the version", highlight=False)
