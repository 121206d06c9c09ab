"""Trace a network and find the groups of channels that can be permuted."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from paramreuse.alignment.call import Call, Value
from paramreuse.alignment.channels import POSITION, ChannelGroup, Dims, Ids, Ties, Use, find_groups
from paramreuse.alignment.operations import apply_rule
from paramreuse.checkpoint.tied import first_names, named_tensors
from paramreuse.errors import ModelError
from paramreuse.sites.copies import private_copy
from paramreuse.untouched import untouched_random_state

_INPUT = "the network's input"
_OUTPUT = "the network's output"
# Neither way of tracing has an error of its own: these are what they and their passes raise.
_REFUSALS = (
    *(RuntimeError, ValueError, TypeError, AssertionError),
    *(NotImplementedError, LookupError, AttributeError),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Traced:
    """A graph of ATen operations, and which of its inputs are tensors of the state dict."""

    graph: Graph
    keys: dict[str, str]


def channel_groups(model: nn.Module, example_input: Tensor) -> list[ChannelGroup]:
    """Find the groups of channels of a network.

    Args:
        model: Network; a copy of it in evaluation mode is traced.
        example_input: One batch for it, shape ``(N, C, H, W)`` or whatever it takes.

    Returns:
        Groups in the order of the state dict, the frozen ones with the reason. Each of the others
        was permuted at random and left the output of the example unchanged.

    Raises:
        ModelError: The network cannot be traced.
    """
    traced = _trace(private_copy(model).eval(), example_input)
    _join_tied(traced, aliases_of(model))
    return _checked(private_copy(model).eval(), example_input, _traced_groups(traced))


def aliases_of(model: nn.Module) -> dict[str, str]:
    """Return, for each further name of a tensor of a model, its first name."""
    first = first_names(named_tensors(model))
    return {key: name for key, name in first.items() if name != key}


def _join_tied(traced: _Traced, aliases: Mapping[str, str]) -> None:
    """Let every use of a tied tensor be a use of its first name."""
    # The trace has an input for each name, as if they were tensors of their own. Followed apart,
    # two names could be given different permutations, and the one tensor cannot have both.
    first: dict[str, Node] = {}
    for node in list(traced.graph.nodes):
        if node.op == "placeholder" and node.name in traced.keys:
            key = traced.keys[node.name]
            known = first.setdefault(aliases.get(key, key), node)
            if known is not node:
                node.replace_all_uses_with(known)
    for key, node in first.items():
        traced.keys[node.name] = key


def _traced_groups(traced: _Traced) -> list[ChannelGroup]:
    ties = Ties()
    values: dict[Node, Value] = {}
    grouped: dict[Node, list[tuple[Ids, Ids]]] = {}
    for node in traced.graph.nodes:
        if node.op == "output":
            # The caller reads outputs by position, so their channels are not ours to move.
            for entering in node.all_input_nodes:
                _fix(ties, values[entering], _OUTPUT)
        elif node.op == "call_function":
            values[node] = apply_rule(Call(node, ties, values, grouped))
            # Also values between two operations: channels that go different ways are not alike,
            # although the tensors of the state dict alone might not tell them apart.
            _mark(ties, values[node])
        else:
            values[node] = _entering(node, traced.keys, ties)
    uses = [
        use
        for node in traced.graph.nodes
        if node.name in traced.keys and node.users
        for use in _uses(traced.keys[node.name], values[node], grouped.get(node))
    ]
    return find_groups(ties, uses)


def _entering(node: Node, keys: Mapping[str, str], ties: Ties) -> Dims:
    """Return new channels for a tensor of the state dict, and none for anything else."""
    if node.op == "get_attr" and "val" not in node.meta:
        node.meta["val"] = getattr(node.graph.owning_module, str(node.target), None)
    shape = getattr(node.meta.get("val"), "shape", ())
    if node.op == "placeholder" and node.name in keys:
        return tuple(ties.fresh(size) for size in shape)
    reason = _INPUT if node.op == "placeholder" else "a constant of the network"
    return (reason,) * len(shape)


def _listed(value: Value) -> list[Dims]:
    return value if isinstance(value, list) else [value]


def _fix(ties: Ties, value: Value, reason: str) -> None:
    for dims in _listed(value):
        for dim in dims:
            ties.fix(dim, reason)


def _mark(ties: Ties, value: Value) -> None:
    for dims in _listed(value):
        for dim in dims:
            ties.mark(dim)


def _uses(key: str, value: Value, parts: list[tuple[Ids, Ids]] | None) -> list[Use]:
    assert not isinstance(value, list)
    if parts is None:
        return [Use(key, None, value)]
    uses = []
    start = 0
    for out, entering in parts:
        rows = (start, start + len(out))
        uses.append(Use(key, rows, (out, entering, *(POSITION,) * (len(value) - 2))))
        start += len(out)
    return uses


def _trace(model: nn.Module, example_input: Tensor) -> _Traced:
    """Trace by running on fake tensors, which is quick; where that fails, with ``torch.export``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _run(model, example_input)
        except _REFUSALS as refusal:
            try:
                return _exported(model, example_input)
            except _REFUSALS as error:
                raise ModelError(
                    f"cannot follow the channels of {type(model).__name__}: running it says "
                    f"{_first_line(refusal)}; torch.export says {_first_line(error)}. Check the "
                    "example input, or wrap the part of the network that can be traced"
                ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'nothing').splitlines()[0]}"


def _exported(model: nn.Module, example_input: Tensor) -> _Traced:
    program = torch.export.export(model, (example_input,), strict=False)
    signature = program.graph_signature
    keys = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return _Traced(program.graph, keys)


def _run(model: nn.Module, example_input: Tensor) -> _Traced:
    state = dict(model.named_parameters()) | dict(model.named_buffers())

    def forward(tensors: dict[str, Tensor], inputs: Tensor) -> object:
        return functional_call(model, tensors, (inputs,))

    tensors = {key: tensor.detach() for key, tensor in state.items()}
    graph = make_fx(forward, pre_dispatch=True, tracing_mode="fake")(tensors, example_input).graph
    names = [node.name for node in graph.nodes if node.op == "placeholder"]
    return _Traced(graph, dict(zip(names, tensors, strict=False)))


def _checked(
    model: nn.Module, example_input: Tensor, groups: list[ChannelGroup]
) -> list[ChannelGroup]:
    """Freeze every group whose permutation changes what the network computes."""
    # The rules above are ours and may be wrong about an operation; the network itself is asked. An
    # output that is the same at random values is the same function of them, but for chance of
    # measure zero. So what holds for each group alone holds for all at once, and asking for all at
    # once first costs one run where every rule is right.
    live = [group for group in groups if not group.frozen]
    probe = _Probe(model, example_input)
    if probe.is_unchanged_by(live):
        return groups
    wrong = {group.name for group in live if not probe.is_unchanged_by([group])}
    reason = "permuting these channels changed the output of the example"
    return [replace(group, frozen=reason) if group.name in wrong else group for group in groups]


class _Probe:
    """Runs a network with all values jittered, so that none is 0 or like another by chance."""

    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._aliases = aliases_of(model)  # which a change of dtype would take apart
        self._model = model
        self._input = example_input
        # A new BatchNorm has the same four numbers in every channel, and the wrong permutation of
        # equals would go unseen.
        if example_input.is_floating_point():
            self._model, self._input = model.double(), self._jittered(example_input.double())
        named = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        self._state = {
            key: self._jittered(t.detach()) if t.is_floating_point() else t
            for key, t in named.items()
        }
        self._before = self._outputs(self._state)

    def is_unchanged_by(self, groups: list[ChannelGroup]) -> bool:
        """Tell whether the outputs stay the same when groups are permuted at random."""
        state = {key: t.clone() for key, t in self._state.items() if key not in self._aliases}
        for group in groups:
            permutation = torch.randperm(group.size, generator=self._generator)
            for slot in group.slots:
                slot.permute_(state[slot.key], permutation)
        after = self._outputs(state)
        # Adding float64 in another order moves the last of 16 digits; putting a value where another
        # was moves one of the first.
        return all(
            bool((one - other).abs().max() <= 1e-6 * one.abs().max())
            for one, other in zip(self._before, after, strict=True)
        )

    def _jittered(self, values: Tensor) -> Tensor:
        noise = torch.rand(values.shape, generator=self._generator, dtype=torch.float64) * 0.1
        return values + noise.to(values)  # not negative, so that a variance stays one

    def _outputs(self, state: dict[str, Tensor]) -> list[Tensor]:
        known = set(self._state)
        tied = {key: state[name] for key, name in self._aliases.items() if key in known}
        with torch.no_grad(), untouched_random_state():
            outputs = functional_call(self._model, state | tied, (self._input,))
        return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.numel()]
