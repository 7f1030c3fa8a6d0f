"""Places the nodes of a lineage in layers, sources on the left, so that few edges cross (Sugiyama et al. 1981)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 8  # over the layers, to and fro
Edge = tuple[str, str]  # source, made


@dataclass(frozen=True)
class Layout:
    """Layer and place in it of each node, both counted from 0, and the points that each edge goes through."""

    places: dict[str, tuple[int, float]]
    ways: dict[Edge, list[tuple[int, float]]]
    num_layers: int
    height: float  # in places


def layout(nodes: Sequence[str], edges: Sequence[Edge]) -> Layout:
    """Place nodes; each edge over several layers gets a bend in every layer between, which keeps it off the nodes."""
    layers = _layers(nodes, edges)
    rows: list[list[str]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for node in nodes:
        rows[layers[node]].append(node)
    chains: dict[Edge, list[str]] = {}
    for source, made in edges:
        bends = [f"{source}\0{made}\0{layer}" for layer in range(layers[source] + 1, layers[made])]
        for layer, bend in enumerate(bends, layers[source] + 1):
            rows[layer].append(bend)
        chains[source, made] = [source, *bends, made]
    _order(rows, [pair for chain in chains.values() for pair in pairwise(chain)])
    height = float(max(map(len, rows), default=0))
    places = {
        node: (layer, place + (height - len(row)) / 2)
        for layer, row in enumerate(rows)
        for place, node in enumerate(row)
    }
    ways = {edge: [places[point] for point in chain] for edge, chain in chains.items()}
    return Layout({node: places[node] for node in nodes}, ways, len(rows), height)


def _layers(nodes: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The longest way from a source to each node; a circle, which hashes can't make, ends the search."""
    layers = dict.fromkeys(nodes, 0)
    for _ in nodes:
        moved = False
        for source, made in edges:
            if layers[made] <= layers[source]:
                layers[made], moved = layers[source] + 1, True
        if not moved:
            break
    return layers


def _order(rows: list[list[str]], pairs: Sequence[Edge]) -> None:
    """Sort each layer by the mean place of its neighbours in the layer before, then the other way round, and again."""
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for source, made in pairs:
        before.setdefault(made, []).append(source)
        after.setdefault(source, []).append(made)
    for sweep in range(SWEEPS):
        neighbours, order = (before, rows[1:]) if sweep % 2 == 0 else (after, rows[-2::-1])
        for row in order:
            places = {node: i - len(r) / 2 for r in rows for i, node in enumerate(r)}
            means = {node: _mean(neighbours.get(node, ()), places, places[node]) for node in row}
            row.sort(key=means.__getitem__)


def _mean(neighbours: Sequence[str], places: Mapping[str, float], own: float) -> float:
    return sum(places[node] for node in neighbours) / len(neighbours) if neighbours else own
