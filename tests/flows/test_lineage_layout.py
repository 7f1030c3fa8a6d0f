"""Where the nodes of a lineage are drawn."""

from flows.lineage_layout import layout


def test_sources_are_left_of_what_was_made_and_no_two_nodes_share_a_place() -> None:
    nodes = ["data", "other", "backbone", "model", "version", "alone"]
    edges = [("data", "backbone"), ("backbone", "model"), ("other", "model"), ("model", "version"), ("data", "version")]
    placed = layout(nodes, edges)
    assert all(placed.places[source][0] < placed.places[made][0] for source, made in edges)
    assert len(set(placed.places.values())) == len(nodes)
    assert placed.num_layers == 4


def test_a_long_edge_passes_each_layer_beside_the_nodes() -> None:
    nodes, edges = ["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")]
    way = layout(nodes, edges).ways["a", "c"]
    assert [layer for layer, _ in way] == [0, 1, 2]
    assert way[1] != layout(nodes, edges).places["b"]


def test_neighbours_are_sorted_so_that_edges_do_not_cross() -> None:
    nodes, edges = ["a", "b", "b2", "a2"], [("a", "a2"), ("b", "b2")]
    places = layout(nodes, edges).places
    assert (places["a"][1] < places["b"][1]) == (places["a2"][1] < places["b2"][1])


def test_a_circle_does_not_hang() -> None:
    assert layout(["a", "b"], [("a", "b"), ("b", "a")]).num_layers >= 2


def test_nothing_needs_no_room() -> None:
    assert layout([], []).num_layers == 0
