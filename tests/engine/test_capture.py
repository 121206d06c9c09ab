"""From a model to a graph: the same one whichever way, and never one that gives other outputs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import paramreuse.engine.capture
from paramreuse.engine.convolution import ConvNode
from paramreuse.engine.exported import exported
from paramreuse.engine.fusion import fused
from paramreuse.engine.graph import Call, Graph, Key
from paramreuse.engine.operations import CaptureError
from paramreuse.engine.partial import PartialEngine, partial_engine
from paramreuse.engine.plain import FullEngine
from paramreuse.engine.traced import traced
from paramreuse.networks import pspnet, unet
from samples.graphs import (
    OtherLayers,
    Pyramid,
    Residual,
    Skip,
    Twice,
    assert_same_outputs,
    pair,
    random_weights,
    stack,
)


def refuse_capture(*_: object) -> Graph:
    raise CaptureError("not now")


def layout(graph: Graph) -> list[object]:
    """Return what every node takes, and all of a convolution; the names of other calls differ."""
    nodes, output = fused(graph)
    convolutions = [
        (n.parts, n.weight, n.bias, n.geometry, n.norm, n.residual, n.relu)
        if isinstance(n, ConvNode)
        else n.inputs
        for n in nodes
    ]
    return [*convolutions, output]


@pytest.mark.parametrize(
    ("make", "side"),
    [
        (lambda: unet(width=2), 32),
        (lambda: unet(width=2, upsampling="transposed"), 37),
        (lambda: pspnet(width=4), 32),
    ],
    ids=["unet", "unet transposed, odd size", "pspnet"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export's own code
def test_both_ways_to_capture_give_the_papers_networks_the_same_graph(
    make: Callable[[], nn.Module], side: int
) -> None:
    model, inputs = random_weights(make(), 0), torch.randn(2, 1, side, side)

    assert layout(traced(model, inputs)) == layout(exported(model, inputs))


@pytest.mark.parametrize("make", [unet, pspnet])
def test_the_papers_networks_do_not_wait_for_torch_export(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., nn.Module]
) -> None:
    monkeypatch.setattr(paramreuse.engine.capture, "exported", refuse_capture)

    PartialEngine(make(width=4).eval(), torch.randn(2, 1, 32, 32))


def with_a_constant(model: nn.Module, example: Tensor) -> Graph:
    """Return a graph into which the value of the first weight was written as a constant."""
    graph = traced(model, example)
    key = next(iter(graph.tensors))
    twin = {f"{key} as it was": graph.tensors[key].clone()}
    nodes = [Call(n.op, tuple(renamed(a, key) for a in n.args), n.kwargs) for n in graph.nodes]
    return replace(graph, nodes=tuple(nodes), tensors={**graph.tensors, **twin})


def renamed(argument: object, key: str) -> object:
    return Key(f"{key} as it was") if argument == Key(key) else argument


@pytest.mark.parametrize(
    ("tracer", "reason"),
    [
        (with_a_constant, "its graph with other tensors is off by"),
        (lambda _, x: traced(random_weights(Skip(), 5), x), "its graph is off by"),
        (lambda _, x: traced(stack().eval(), x[:, :1]), "expected input"),
    ],
    ids=["a constant", "another model", "another size"],
)
def test_a_graph_that_gives_other_outputs_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tracer: Callable[[nn.Module, Tensor], Graph], reason: str
) -> None:
    monkeypatch.setattr(paramreuse.engine.capture, "traced", tracer)
    monkeypatch.setattr(paramreuse.engine.capture, "exported", refuse_capture)
    target, _, inputs = pair(Skip)

    engine = partial_engine(target, inputs)

    assert isinstance(engine, FullEngine)
    assert reason in engine.notes[0]


class Written(nn.Module):
    """Writes in place to a value that is also used as it is then, in one way or another."""

    def __init__(self, write: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.write(y) if self.write else self.relu(y)
        return self.last(y) + z


WAYS: dict[str, Any] = {
    "layer": None,
    "by name": lambda y: F.relu(y, inplace=True),
    "by position": lambda y: F.leaky_relu(y, 0.1, True),
    "method": lambda y: y.relu_(),
    "out": lambda y: torch.add(y, 1.0, out=y),
    "view": lambda y: F.relu(y.flatten(2), inplace=True).view(y.shape),
    "sum": lambda y: y.__iadd__(1.0),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_is_overwritten_is_seen_overwritten_by_all(way: str) -> None:
    def make() -> nn.Module:
        return Written(WAYS[way])

    target, source = random_weights(make(), 0), random_weights(make(), 1)
    _, _, inputs = pair(Skip)

    with pytest.raises(CaptureError, match="in place"):
        traced(target, inputs)
    assert_right(target, source, inputs)


def assert_right(target: nn.Module, source: nn.Module, inputs: Tensor) -> tuple[str, ...]:
    """Compare every single swap with plain forward passes, and return the notes."""
    state = {k: v for k, v in source.state_dict().items() if v.is_floating_point()}
    engine, full = partial_engine(target, inputs), FullEngine(target)
    variants = [{key: tensor} for key, tensor in state.items()]
    with torch.no_grad():
        engine.baseline(inputs)
        full.baseline(inputs)
        for one, other in zip(engine.swapped(variants), full.swapped(variants), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    return engine.notes


def test_a_network_that_overwrites_its_input_is_not_traced() -> None:
    with pytest.raises(CaptureError, match="in place"):
        traced(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(2, 3, 1)), torch.randn(2, 2, 4, 4))


def test_layers_in_place_whose_input_nobody_else_uses_are_traced() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
    nodes, _ = fused(traced(random_weights(model, 0), torch.randn(2, 2, 4, 4)))

    assert [type(node) for node in nodes[1:]] == [ConvNode]


def test_a_hook_that_changes_a_layer_s_output_is_not_lost() -> None:
    def make(seed: int) -> nn.Module:
        model = random_weights(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)), seed)
        model[0].register_forward_hook(lambda _, __, output: 2 * output)  # type: ignore[operator]
        return model

    with pytest.raises(CaptureError, match="hooks"):
        traced(make(0), torch.randn(2, 2, 4, 4))
    assert_right(make(0), make(1), torch.randn(2, 2, 4, 4))


class Placed(nn.Module):
    """Computes with tensors that are no parameters: made on the way, and an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.line = torch.linspace(0, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x + torch.arange(4.0)) + self.line


def test_tensors_that_are_no_parameters_are_not_hung_on_the_model() -> None:
    target, source = random_weights(Placed(), 0), random_weights(Placed(), 1)
    before = sorted(vars(target)), sorted(target.state_dict()), dir(target)
    inputs = torch.randn(2, 2, 4, 4)

    with pytest.raises(CaptureError, match="not its own"):
        traced(target, inputs)
    notes = assert_right(target, source, inputs)

    assert notes == ()
    assert (sorted(vars(target)), sorted(target.state_dict()), dir(target)) == before


class Flat(nn.Module):
    """Reads the size of a batch in every way that is common."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.line = nn.Conv2d(2, 3, 3, padding="same"), nn.Linear(48, 12)

    def forward(self, x: Tensor) -> Tensor:
        number, channels, height, width = x.shape
        y = self.conv(x).contiguous().view(number, -1)
        y = self.line(y).view(x.size(0), channels + 1, x.size()[-2] // 2, width // 2)
        y = F.interpolate(y, size=x.shape[2:], mode="nearest")
        return y.reshape(y.dim() // 4 * number, y.ndim - 1, height, -1) + y.new_zeros(1).to(y.dtype)


def test_sizes_are_numbers_but_for_the_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paramreuse.engine.capture, "exported", refuse_capture)
    target, source = random_weights(Flat(), 0), random_weights(Flat(), 1)
    state = source.state_dict()
    inputs = torch.randn(3, 2, 4, 4)

    engine = PartialEngine(target, inputs[:2])

    for number in (2, 1, 3):
        assert_same_outputs(engine, target, inputs[:number], [{k: v} for k, v in state.items()])


class SampleBySample(nn.Module):
    """Walks through the batch in Python, so a graph serves one number of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([self.first(x[i : i + 1]) for i in range(len(x))]))


def test_a_graph_for_one_number_of_samples_serves_that_number_alone() -> None:
    target, source = random_weights(SampleBySample(), 0), random_weights(SampleBySample(), 1)
    variants = [{k: v} for k, v in source.state_dict().items()]
    inputs = torch.randn(3, 2, 4, 4)
    engine = PartialEngine(target, inputs)

    for batch in (inputs, inputs[:2], inputs):
        assert_same_outputs(engine, target, batch, variants)

    assert [fitted.num_fixed for fitted in engine._fitted.values()] == [3, 2]


class Containing(nn.Module):
    """Attends with a layer of torch that holds another one."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2)


def test_a_layer_that_holds_layers_is_exported_in_its_parts() -> None:
    target, source = random_weights(Containing(), 0), random_weights(Containing(), 1)
    inputs = torch.randn(2, 2, 4, 4)

    with pytest.raises(CaptureError, match="layers of its own"):
        traced(target, inputs)
    assert assert_right(target, source, inputs) == ()


class Rounded(nn.Module):
    """Computes in half the precision for a while, which a trace would not notice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.first(x)
        return self.last(y.float())


class Recurrent(nn.Module):
    """Its layer keeps a second list of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.line = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(self.lstm(x.flatten(1, 2))[0]).transpose(1, 2)


class Gated(nn.Module):
    """Decides by the value of a buffer, which no small change of it turns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.register_buffer("gate", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * 3 if self.gate.item() > 10 else self.conv(x)


class Weighted(nn.Module):
    """Sums that look like residual ones: with a factor, of another shape, of one value twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)
        self.pooled, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = torch.add(self.second(y), y, alpha=2)
        y = self.pooled(y.mean((2, 3), keepdim=True)) + y
        y = self.first(x) + self.second(y)
        return self.last(torch.cat((y, y), dim=1)) + torch.cat((y, y), dim=-1)[..., : y.shape[-1]]


class Sideways(nn.Module):
    """Concatenations that are no channels beside channels, and one in front of a grouped layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.rows, self.grouped = nn.Conv2d(2, 2, 1), nn.Conv2d(4, 4, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        y, z = self.first(x), self.second(x)
        rows = self.rows(torch.cat((y, z), dim=2))[:, :, : x.shape[2]]
        return self.grouped(torch.cat((y, z), dim=1))[:, :2] + rows


@pytest.mark.parametrize("make", [Rounded, Recurrent, Gated, Weighted, Sideways])
def test_what_a_graph_could_get_wrong_is_right_or_left_to_full_passes(
    make: Callable[[], nn.Module],
) -> None:
    target, source = random_weights(make(), 0), random_weights(make(), 1)
    if isinstance(source, Gated):
        source.gate.fill_(20.0)
    inputs = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(3))

    assert_right(target, source, inputs)


@pytest.mark.parametrize("make", [Weighted, Sideways, Recurrent])
def test_these_are_captured_all_the_same(make: Callable[[], nn.Module]) -> None:
    engine = partial_engine(random_weights(make(), 0), torch.randn(2, 2, 4, 4))

    assert isinstance(engine, PartialEngine)


@pytest.mark.parametrize("make", [stack, Skip, Residual, Twice, OtherLayers, Weighted, Sideways])
def test_every_swap_of_an_exported_graph_gives_what_a_full_pass_gives(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module]
) -> None:
    monkeypatch.setattr(paramreuse.engine.capture, "traced", refuse_capture)
    target, state, inputs = pair(make)

    assert_same_outputs(
        PartialEngine(target, inputs), target, inputs, [{k: v} for k, v in state.items()]
    )


class Norms(nn.Module):
    """Norms with an ``eps`` of their own, without weights, and of another number of axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 3, 3, 2, 2, 2), nn.BatchNorm2d(3, eps=0.1)
        self.plain, self.line = nn.BatchNorm1d(3, affine=False), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        return self.line(self.plain(y.flatten(2))).reshape(y.shape)


class Shared(nn.Module):
    """Uses a convolution's output before and after what could be fused with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.norm(y)
        return self.last(F.relu(z) + z + y)


@pytest.mark.parametrize(
    "make", [stack, Skip, Residual, Pyramid, Twice, OtherLayers, Weighted, Sideways, Norms, Shared]
)
def test_every_swap_of_a_traced_graph_gives_what_a_full_pass_gives(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module]
) -> None:
    monkeypatch.setattr(paramreuse.engine.capture, "exported", refuse_capture)
    target, state, inputs = pair(make)

    assert_same_outputs(
        PartialEngine(target, inputs), target, inputs, [{k: v} for k, v in state.items()]
    )
