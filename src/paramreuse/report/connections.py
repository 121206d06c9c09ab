"""How the layers of a network are connected, for the map: read from one forward pass."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from paramreuse.engine.capture import capture
from paramreuse.engine.graph import Graph


def layer_edges(model: nn.Module, example_input: Tensor) -> list[tuple[str, str]]:
    """Return which layer's output reaches which layer without another layer in between.

    Where values join, by addition or concatenation, each branch is named by its last layer alone:
    a stack of residual blocks gives one short connection per block, not one from every block to
    every later one.

    Args:
        model: Any network in evaluation mode; left as it is.
        example_input: One batch for it.

    Returns:
        Pairs of paths (from, to) in order of execution, for ``ReportData.edges``.

    Raises:
        ModelError: The model cannot be captured as a graph; the message says why.
    """
    keys = frozenset(model.state_dict())
    return capture(model, example_input, lambda graph: edges_of_graph(graph, keys))


def edges_of_graph(graph: Graph, keys: frozenset[str]) -> list[tuple[str, str]]:
    """Return the same from a graph.

    Args:
        graph: Every call of one forward pass.
        keys: Keys of the model's tensors; other tensors of the graph are constants.
    """
    first_call: dict[str, int] = {}
    origins: dict[int, tuple[str, ...]] = {}
    edges: dict[tuple[str, str], None] = {}
    for number, call in enumerate(graph.nodes):
        reached = _joined([origins.get(node, ()) for node in call.inputs], first_call)
        path = _layer_of(call.keys & keys)
        if path is None:
            origins[number] = reached
            continue
        first_call.setdefault(path, number)
        edges |= dict.fromkeys((origin, path) for origin in reached if origin != path)
        origins[number] = (path,)
    return list(edges)


def _layer_of(keys: Iterable[str]) -> str | None:
    return next((key.rpartition(".")[0] for key in sorted(keys)), None)


def _joined(branches: list[tuple[str, ...]], first_call: Mapping[str, int]) -> tuple[str, ...]:
    """Return where a value comes from; of each of several branches only the last layer."""
    known = [branch for branch in dict.fromkeys(branches) if branch]
    if len(known) <= 1:
        return known[0] if known else ()
    return tuple(dict.fromkeys(max(branch, key=first_call.__getitem__) for branch in known))
