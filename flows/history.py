"""Commits that visionline makes by itself; the user's index, branch and identity stay theirs."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

RUNS = "refs/visionline/runs"


def git(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of a git command; RuntimeError with git's own words when it fails."""
    done = subprocess.run(
        ["git", *_identity(), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"git {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def _identity() -> list[str]:
    """A name for commits where git has none."""
    known = subprocess.run(["git", "config", "user.email"], capture_output=True, text=True, check=False)
    if known.stdout.strip() or os.environ.get("GIT_AUTHOR_EMAIL"):
        return []
    return ["-c", "user.name=visionline", "-c", "user.email=visionline@localhost"]


def snapshot(message: str) -> str:
    """A commit of every tracked file as it is now, kept under refs/visionline/runs; HEAD and index untouched."""
    head = git("rev-parse", "--verify", "HEAD")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git("read-tree", "HEAD", environment=index)
        git("add", "--update", ".", environment=index)
        tree = git("write-tree", environment=index)
    commit = git("commit-tree", tree, "-p", head, "-m", message)
    git("update-ref", f"{RUNS}/{commit[:12]}", commit)
    return commit


def file_at(commit: str, file: Path) -> bytes | None:
    """A file as a commit holds it; None where it holds none."""
    done = subprocess.run(["git", "show", f"{commit}:{file.as_posix()}"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def commit_only(files: Sequence[Path], message: str) -> bool:
    """Commit these files and nothing else that is changed or staged; False when they did not change."""
    paths = [str(file) for file in files if file.exists()]
    if not paths or not git("status", "--porcelain", "--untracked-files=all", "--", *paths):
        return False
    git("add", "--", *paths)
    try:
        git("commit", "--quiet", "--no-verify", "--only", "--message", message, "--", *paths)
    except RuntimeError:
        git("reset", "--quiet", "--", *paths)  # or it would be part of the user's next commit
        raise
    return True
