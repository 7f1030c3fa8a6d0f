"""The order in which stages are submitted."""

from dataclasses import dataclass

import networkx

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
