"""The order in which stages are submitted, and a lock file that DVC did not write to its end."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import networkx
import pytest

from flows import graph as graphs
from flows.graph import _by_urgency


@dataclass(frozen=True)
class Node:
    addressing: str


def test_the_longest_chain_comes_first_and_nothing_before_what_it_needs() -> None:
    names = ("data", "more", "validate@a", "validate@b", "pretrain", "finetune", "control", "evaluate", "register")
    node = {name: Node(name) for name in names}
    needs = {
        "validate@a": ["data"], "validate@b": ["more"], "pretrain": ["validate@a"], "control": ["validate@b"],
        "finetune": ["pretrain", "validate@b"], "evaluate": ["finetune", "control"], "register": ["evaluate"],
    }  # fmt: skip
    graph = networkx.DiGraph()
    graph.add_nodes_from(node.values())
    graph.add_edges_from((node[stage], node[needed]) for stage, wanted in needs.items() for needed in wanted)
    order = [stage.addressing for stage in _by_urgency(graph, list(node.values()))]
    assert all(order.index(needed) < order.index(stage) for stage, wanted in needs.items() for needed in wanted)
    assert order.index("validate@a") < order.index("validate@b")
    assert order.index("pretrain") < order.index("control")
    assert order.index("finetune") < order.index("control")  # as listed


def test_a_lock_file_that_was_cut_off_is_that_of_the_last_commit_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lock, whole = Path("dvc.lock"), "schema: '2.0'\nstages:\n  a:\n    cmd: b\n"
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    for content in ("", whole[:-8]):
        lock.write_text(content)
        graphs.mend_lock()
        assert not lock.exists()  # there was none yet
    lock.write_text(whole)
    subprocess.run(["git", "add", "dvc.lock"], check=True)
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", *identity, "commit", "--quiet", "--message", "a run"], check=True)
    for content in ("", whole[:-8]):
        lock.write_text(content)
        graphs.mend_lock()
        assert lock.read_text() == whole
    lock.write_text(f"<<<<<<< HEAD\n{whole}")
    graphs.mend_lock()
    assert lock.read_text() == f"<<<<<<< HEAD\n{whole}"  # which is for a person
    further = whole + "  c:\n    cmd: d\n"
    lock.write_text(further)
    graphs.mend_lock()
    assert lock.read_text() == further
