"""The partial engine against plain forward passes."""

import itertools
from collections.abc import Mapping
from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paramreuse.engine import FullEngine
from paramreuse.partial import PartialEngine, partial_engine
from paramreuse.partial.capture import _traced, capture
from paramreuse.partial.convolution import ConvNode
from paramreuse.partial.execution import Network
from paramreuse.partial.fusion import fused
from paramreuse.partial.graph import dependent_nodes
from paramreuse.partial.schedule import RAW, make_schedule
from paramreuse.scores import Dice
from paramreuse.sweep import sweep_sites


class Block(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Skip(nn.Module):
    """A small UNet: pool, upsample to the skip's size, concatenate."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.up = Block(2, 4), Block(4, 6), Block(10, 4)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.deep(F.max_pool2d(skip, 2))
        size = (skip.shape[-2], skip.shape[-1])
        deep = F.interpolate(deep, size=size, mode="bilinear", align_corners=False)
        return self.head(self.up(torch.cat((skip, deep), dim=1)))


class Residual(nn.Module):
    """Two ways that are added, one of them strided, and one that is the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.short = nn.Sequential(nn.Conv2d(2, 4, 1, stride=2, bias=False), nn.BatchNorm2d(4))
        self.second = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.last = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.first(x)) + self.short(x))
        return self.relu(y + self.last(self.second(y)))


class Pyramid(nn.Module):
    """Adaptive pools of several sizes, brought back to the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Block(2, 4)
        self.levels = nn.ModuleList(nn.Conv2d(4, 2, 1) for _ in range(2))
        self.end = Block(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        size = (y.shape[-2], y.shape[-1])
        levels = [
            F.interpolate(conv(F.adaptive_avg_pool2d(y, bins)), size=size, mode="bilinear")
            for conv, bins in zip(self.levels, (1, 2), strict=True)
        ]
        return self.end(torch.cat((y, *levels), dim=1))


class Twice(nn.Module):
    """One module used twice, and a kernel that two modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(2, 3, 1), Block(3, 3)
        self.tied = nn.Conv2d(3, 3, 3, padding=1)
        self.tied.weight = self.again.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.tied(self.again(self.again(y)) * 0.5)


class OtherLayers(nn.Module):
    """Transposed and grouped convolution, group and instance norm, layer norm, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 4, 2, stride=2)
        self.group, self.instance = nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.layer = nn.LayerNorm(4)
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.group(self.up(x)))
        y = F.leaky_relu(self.instance(self.grouped(y)))
        tokens = y.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.layer(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.out(F.scaled_dot_product_attention(q, k, v))
        return tokens.transpose(1, 2).reshape(y.shape)


def stack() -> nn.Module:
    return nn.Sequential(Block(2, 4), Block(4, 4, bias=False), nn.Dropout(0.5), nn.Conv2d(4, 3, 1))


NETWORKS = [stack, Skip, Residual, Pyramid, Twice, OtherLayers]


def random_weights(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(values.abs() + 0.5 if "var" in key else 0.4 * values + 0.1)
    return model.eval()


@cache
def engine_of(make: type[nn.Module]) -> PartialEngine:
    """Return the engine of a pair's target; capturing takes longer than anything else here."""
    target, _, inputs = pair(make)
    return PartialEngine(target, inputs)


@cache
def pair(make: type[nn.Module]) -> tuple[nn.Module, Mapping[str, Tensor], Tensor]:
    target, source = random_weights(make(), 0), random_weights(make(), 1)
    inputs = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    state = {k: v for k, v in source.state_dict().items() if v.is_floating_point()}
    return target, state, inputs


def assert_same_outputs(
    engine: PartialEngine, target: nn.Module, inputs: Tensor, variants: list[dict[str, Tensor]]
) -> None:
    full = FullEngine(target)
    with torch.no_grad():
        torch.testing.assert_close(engine.baseline(inputs), full.baseline(inputs))
        found, wanted = list(engine.swapped(variants)), list(full.swapped(variants))
    assert engine.notes == ()
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", NETWORKS)
def test_every_single_swap_gives_what_a_full_pass_gives(make: type[nn.Module]) -> None:
    target, state, inputs = pair(make)

    assert_same_outputs(engine_of(make), target, inputs, [{k: v} for k, v in state.items()])


@pytest.mark.parametrize("make", [Skip, Residual, Pyramid])
def test_swaps_of_two_sites_and_of_all(make: type[nn.Module]) -> None:
    target, state, inputs = pair(make)
    variants = [dict(chosen) for chosen in itertools.combinations(state.items(), 2)][::3]

    assert_same_outputs(engine_of(make), target, inputs, [*variants, dict(state), {}])


@pytest.mark.parametrize("make", NETWORKS)
def test_the_swaps_really_change_something(make: type[nn.Module]) -> None:
    target, state, inputs = pair(make)
    full = FullEngine(target)
    with torch.no_grad():
        baseline = full.baseline(inputs)
        outputs = list(full.swapped([{k: v} for k, v in state.items()]))

    changed = [not torch.equal(output, baseline) for output in outputs]

    assert sum(changed) >= len(changed) - 4  # biases in front of an instance norm have no effect


def test_a_last_batch_of_one_and_images_of_another_size() -> None:
    target, state, inputs = pair(Skip)
    engine = engine_of(Skip)
    variants = [{k: v} for k, v in state.items()]

    assert_same_outputs(engine, target, inputs[:1], variants)
    assert_same_outputs(engine, target, torch.randn(2, 2, 12, 10), variants)
    assert_same_outputs(engine, target, inputs, variants)


def test_an_example_of_one_sample() -> None:
    target, state, inputs = pair(Skip)

    assert_same_outputs(
        PartialEngine(target, inputs[:1]), target, inputs, [{k: v} for k, v in state.items()]
    )


def test_inputs_that_do_not_lie_one_after_the_other() -> None:
    target, state, inputs = pair(Skip)
    turned = inputs.transpose(2, 3)
    assert not turned.is_contiguous()

    assert_same_outputs(
        PartialEngine(target, turned), target, turned, [{k: v} for k, v in state.items()]
    )


def test_double_precision() -> None:
    target, state, inputs = pair(Skip)
    double = deepcopy(target).double()
    state = {key: tensor.double() for key, tensor in state.items()}

    assert_same_outputs(
        PartialEngine(double, inputs.double()),
        double,
        inputs.double(),
        [{k: v} for k, v in state.items()],
    )


def test_inference_mode() -> None:
    target, state, inputs = pair(Skip)
    with torch.inference_mode():
        assert_same_outputs(
            PartialEngine(target, inputs), target, inputs, [{k: v} for k, v in state.items()]
        )


def test_several_threads_and_one_give_the_same_bits() -> None:
    target, state, inputs = pair(Skip)
    variants = [{k: v} for k, v in state.items()]
    before = torch.get_num_threads()
    outputs = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            engine = PartialEngine(target, inputs)
            with torch.no_grad():
                engine.baseline(inputs)
                outputs.append(torch.stack(list(engine.swapped(variants))))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)

    assert torch.equal(outputs[0], outputs[1])


def test_threads_are_given_back_when_the_caller_stops_asking() -> None:
    _, state, inputs = pair(Skip)
    engine = engine_of(Skip)
    before = torch.get_num_threads()
    engine.baseline(inputs)

    outputs = engine.swapped([{k: v} for k, v in state.items()])
    next(outputs)
    outputs.close()  # type: ignore[attr-defined]

    assert torch.get_num_threads() == before


def test_the_model_is_the_same_afterwards_bit_for_bit() -> None:
    target, state, inputs = pair(Residual)
    held = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    places = {key: tensor.data_ptr() for key, tensor in target.state_dict().items()}
    flags = {key: p.requires_grad for key, p in target.named_parameters()}

    engine = PartialEngine(target, inputs)
    with torch.no_grad():
        engine.baseline(inputs)
        list(engine.swapped([{k: v} for k, v in state.items()]))

    after = target.state_dict()
    assert all(torch.equal(held[key], after[key]) for key in held)
    assert places == {key: tensor.data_ptr() for key, tensor in after.items()}
    assert flags == {key: p.requires_grad for key, p in target.named_parameters()}
    assert not any(m.training or m._forward_hooks for m in target.modules())


class Choosing(nn.Module):
    """What it computes depends on what it sees, so no graph can hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 0 else self.b(x)


def test_a_model_that_cannot_be_captured_takes_full_passes_and_says_why_once() -> None:
    target, state, inputs = pair(Choosing)
    labels = torch.randint(0, 3, (3, 8, 8), generator=torch.Generator().manual_seed(3))
    batches = [(inputs, labels, ["a", "b", "c"])] * 2

    engine = partial_engine(target, inputs)
    sweep = sweep_sites(target, state, batches, Dice(num_classes=3))

    assert isinstance(engine, FullEngine)
    assert len(sweep.notes) == 1
    assert "cannot be captured" in sweep.notes[0]
    assert "exported" in sweep.notes[0]
    assert "traced" in sweep.notes[0]


class Baked(nn.Module):
    """Reads a weight as a Python number, which a trace takes for a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.factor = nn.Conv2d(2, 3, 1), nn.Parameter(torch.tensor([2.0]))
        self.number = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * torch.tensor(self.factor.tolist())


def test_a_weight_that_became_a_constant_is_never_swapped_in_vain() -> None:
    target, state, inputs = pair(Baked)
    full = FullEngine(target)
    engine = partial_engine(target, inputs)
    variants = [{key: tensor} for key, tensor in state.items()]
    with torch.no_grad():
        engine.baseline(inputs)
        full.baseline(inputs)
        for one, other in zip(engine.swapped(variants), full.swapped(variants), strict=True):
            torch.testing.assert_close(one, other)


def test_autocast_takes_full_passes() -> None:
    target, _, inputs = pair(Skip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        engine = partial_engine(target, inputs)

    assert "autocast" in engine.notes[0]


@pytest.mark.parametrize("make", [stack, Skip, Residual, Twice])
def test_torch_fx_gives_the_same_network(make: type[nn.Module]) -> None:
    target, _, inputs = pair(make)
    graph = _traced(target, inputs)
    nodes, output = fused(graph)

    with torch.no_grad():
        found, _ = Network(nodes, output, graph.tensors).clean_pass(inputs)
        torch.testing.assert_close(found, target(inputs), rtol=1e-5, atol=1e-5)


def test_convolution_norm_residual_and_relu_are_one_node() -> None:
    target, _, inputs = pair(Residual)
    nodes, _ = fused(capture(target, inputs))

    # Input, the shortcut, the first way with the sum and ReLU in it, the second with its own.
    assert [type(node) for node in nodes[1:]] == [ConvNode] * 3
    assert [node.relu for node in nodes[1:] if isinstance(node, ConvNode)].count(True) == 2


def test_only_what_depends_on_a_swap_is_computed() -> None:
    target, _, inputs = pair(Skip)
    nodes, output = fused(capture(target, inputs))
    numbers = {n.weight: i for i, n in enumerate(nodes) if isinstance(n, ConvNode)}

    late = make_schedule(nodes, output, {"up.conv.weight"})
    norm = make_schedule(nodes, output, {"up.norm.running_mean"})
    deep = make_schedule(nodes, output, {"deep.conv.weight"})

    assert [step.node for step in late.steps] == [numbers["up.conv.weight"], output]
    # A norm swap starts from the bare convolution, and a swap below the skip from the skip's share.
    assert norm.steps[0].base == (numbers["up.conv.weight"], RAW)
    joined = next(step for step in deep.steps if step.node == numbers["up.conv.weight"])
    assert (joined.base, joined.parts) == ((numbers["up.conv.weight"], (0,)), (1,))
    assert numbers["down.conv.weight"] not in {step.node for step in deep.steps}


def test_a_tied_kernel_moves_everything_that_uses_it() -> None:
    target, _, inputs = pair(Twice)
    graph = capture(target, inputs)
    key = graph.canonical["tied.weight"]

    assert key == graph.canonical["again.conv.weight"]
    convolutions = [i for i, n in enumerate(graph.nodes) if key in n.keys]
    assert len(convolutions) == 3
    assert dependent_nodes(graph.nodes, {key}) >= set(convolutions)


@pytest.mark.parametrize("limit_gb", [1e-6, 3e-5, 6e-5, 1.0])
def test_what_does_not_fit_is_recomputed(limit_gb: float) -> None:
    target, state, inputs = pair(Skip)
    engine = PartialEngine(target, inputs, memory_limit_gb=limit_gb)

    assert engine.fitting(inputs) == (3 if limit_gb == 1.0 else 1)
    assert_same_outputs(engine, target, inputs, [{k: v} for k, v in state.items()])


def test_a_sweep_under_a_memory_limit_gives_the_same_scores() -> None:
    target, state, inputs = pair(Skip)
    labels = torch.randint(0, 3, (3, 8, 8), generator=torch.Generator().manual_seed(3))
    batches = [(inputs, labels, ["a", "b", "a"])]

    frames = [
        sweep_sites(target, state, batches, Dice(3), engine=engine, memory_limit_gb=limit).frame()
        for engine, limit in (("full", None), ("partial", None), ("partial", 1e-6))
    ]

    for frame in frames[1:]:
        assert (frame["score"] - frames[0]["score"]).abs().max() <= 1e-5


def test_pixels_that_rounding_could_turn_are_settled_by_a_plain_pass() -> None:
    """Two equal outputs: which class wins is a matter of the last bit."""
    target, state, inputs = pair(Skip)
    target = deepcopy(target)
    with torch.no_grad():
        target.head.weight[1] = target.head.weight[0]  # type: ignore[index, union-attr]
        target.head.bias[1] = target.head.bias[0] + 1e-7  # type: ignore[index, union-attr]
    labels = torch.randint(0, 3, (3, 8, 8), generator=torch.Generator().manual_seed(3))
    batches = [(inputs, labels, ["a", "b", "c"])]

    frames = [
        sweep_sites(target, state, batches, Dice(3), engine=engine).frame()
        for engine in ("full", "partial")
    ]

    assert frames[0]["score"].equals(frames[1]["score"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("make", NETWORKS)
def test_cuda_gives_what_a_full_pass_gives(make: type[nn.Module]) -> None:
    target, state, inputs = pair(make)
    cuda_target = deepcopy(target).cuda()
    cuda = {key: tensor.cuda() for key, tensor in state.items()}

    assert_same_outputs(
        PartialEngine(cuda_target, inputs.cuda()),
        cuda_target,
        inputs.cuda(),
        [{k: v} for k, v in cuda.items()],
    )
