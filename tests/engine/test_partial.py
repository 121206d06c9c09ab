"""The partial engine against plain forward passes."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import paramreuse.engine.fitted
import paramreuse.sweep.engines
from paramreuse.engine.capture import capture
from paramreuse.engine.convolution import ConvNode, Geometry, Norm, scale_and_shift
from paramreuse.engine.execution import Network
from paramreuse.engine.fitted import difference
from paramreuse.engine.fusion import fused
from paramreuse.engine.graph import dependent_nodes
from paramreuse.engine.partial import PartialEngine, partial_engine
from paramreuse.engine.plain import FullEngine
from paramreuse.engine.recomputed import RAW, inputs_of, make_schedule
from paramreuse.engine.traced import traced
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites
from samples.graphs import (
    NETWORKS,
    Centred,
    Pyramid,
    Residual,
    Skip,
    Twice,
    assert_same_outputs,
    pair,
    stack,
)

NORM = Norm("scale", "shift", "mean", "var", eps=1.0)


@cache
def engine_of(make: type[nn.Module]) -> PartialEngine:
    """Return the engine of a pair's target; capturing takes longer than anything else here."""
    target, _, inputs = pair(make)
    return PartialEngine(target, inputs)


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
    untouched = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    places = {key: tensor.data_ptr() for key, tensor in target.state_dict().items()}
    flags = {key: p.requires_grad for key, p in target.named_parameters()}

    engine = PartialEngine(target, inputs)
    with torch.no_grad():
        engine.baseline(inputs)
        list(engine.swapped([{k: v} for k, v in state.items()]))

    after = target.state_dict()
    assert all(torch.equal(untouched[key], after[key]) for key in untouched)
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
    graph = traced(target, inputs)
    nodes, output = fused(graph)

    with torch.no_grad():
        outputs, _ = Network(nodes, output, graph.tensors).clean_pass(inputs)
        torch.testing.assert_close(outputs, target(inputs), rtol=1e-5, atol=1e-5)


def test_convolution_norm_residual_and_relu_are_one_node() -> None:
    target, _, inputs = pair(Residual)
    nodes, _ = fused(capture(target, inputs, lambda graph: graph))

    # Input, the shortcut, the first way with the sum and ReLU in it, the second with its own.
    assert [type(node) for node in nodes[1:]] == [ConvNode] * 3
    assert [node.relu for node in nodes[1:] if isinstance(node, ConvNode)].count(True) == 2


def test_only_what_depends_on_a_swap_is_computed() -> None:
    target, _, inputs = pair(Skip)
    nodes, output = fused(capture(target, inputs, lambda graph: graph))
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
    graph = capture(target, inputs, lambda graph: graph)
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


def test_the_largest_values_are_dropped_first() -> None:
    target, _, inputs = pair(Skip)
    everything = PartialEngine(target, inputs[:1])
    fixed = next(iter(everything._fitted.values()))._fixed_bytes()
    chunks = []
    for limit in (1, fixed + 4000, 10**9):
        engine = PartialEngine(target, inputs[:1], memory_limit_gb=limit / 1e9)
        engine.baseline(inputs[:1])
        chunks.append({slot: value.nbytes for slot, value in engine._chunks[0].kept.items()})

    # The image is kept in any case.
    assert list(chunks[0]) == [(0, None)]
    assert sum(chunks[1].values()) - chunks[1][0, None] <= 4000 < sum(chunks[2].values())
    dropped = chunks[2].keys() - chunks[1].keys()
    assert max(chunks[1].values()) <= min(chunks[2][slot] for slot in dropped)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_batch_in_several_pieces(monkeypatch: pytest.MonkeyPatch, num_threads: int) -> None:
    monkeypatch.setattr(paramreuse.engine.fitted, "_CACHE_BYTES", 1)  # one sample at a time
    target, state, inputs = pair(Skip)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        variants = [{k: v} for k, v in state.items()]
        assert_same_outputs(PartialEngine(target, inputs), target, inputs, variants)
    finally:
        torch.set_num_threads(before)


def test_inputs_that_want_a_gradient_get_none() -> None:
    _, state, inputs = pair(Skip)
    wanting = inputs.clone().requires_grad_()
    engine = engine_of(Skip)
    engine.baseline(wanting)

    assert not any(output.requires_grad for output in engine.swapped([dict(state)]))


def test_differences_by_hand() -> None:
    nan, inf = torch.nan, torch.inf
    reference = torch.tensor([1.0, -4.0, nan, inf])

    assert difference(torch.tensor([1.0, -4.0, nan, inf]), reference) == 0.0
    assert difference(torch.tensor([1.5, -4.0, nan, inf]), reference) == 0.5 / 4
    # A value that is missing is no small difference.
    assert difference(torch.tensor([1.0, nan, nan, inf]), reference) == inf
    assert difference(torch.tensor([1.0, -4.0, 0.0, inf]), reference) == inf
    assert difference(reference[:3], reference) == inf
    assert difference(reference.double(), reference) == inf


def test_a_sweep_under_a_memory_limit_gives_the_same_scores() -> None:
    target, state, inputs = pair(Skip)
    labels = torch.randint(0, 3, (3, 8, 8), generator=torch.Generator().manual_seed(3))
    batches = [(inputs, labels, ["a", "a", "b"])]

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


class Rounding(FullEngine):
    """Gives outputs that are off by a little, and settled ones that are not."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.rounding = 1e-3
        self.num_settled = 0

    def swapped(self, variants: Sequence[Mapping[str, Tensor]]) -> Iterator[Tensor]:
        for variant in variants:
            output = super().settled(variant)
            waves = torch.arange(output.numel()).sin().view(output.shape)
            yield output + self.rounding * output.abs().max() * waves

    def settled(self, variant: Mapping[str, Tensor]) -> Tensor:
        self.num_settled += 1
        return super().settled(variant)


def test_what_rounding_could_turn_is_settled_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, state, inputs = pair(Skip)
    labels = torch.randint(0, 3, (3, 8, 8), generator=torch.Generator().manual_seed(3))
    batches = [(inputs[i : i + 1], labels[i : i + 1], [i]) for i in range(3)]
    full = sweep_sites(target, state, batches, Dice(3), engine="full")
    engine = Rounding(target)
    monkeypatch.setattr(paramreuse.sweep.engines, "partial_engine", lambda *_, **__: engine)

    rounded = sweep_sites(target, state, batches, Dice(3))

    assert {n: s.tolist() for n, s in rounded.scores.items()} == {
        n: s.tolist() for n, s in full.scores.items()
    }
    assert 0 < engine.num_settled < 3 * len(full.scores)


def test_norm_and_bias_fold_by_hand() -> None:
    node = ConvNode((0,), "w", "b", Geometry((1, 1), (0, 0), (1, 1), 1), NORM)
    values = {"w": 1.0, "b": 2.0, "scale": 3.0, "shift": 0.5, "mean": 1.0, "var": 3.0}
    tensors = {key: torch.tensor([value]) for key, value in values.items()}

    scale, shift = scale_and_shift(node, tensors)

    # 3 / sqrt(3 + 1) = 1.5, and (2 - 1) x 1.5 + 0.5 = 2. Without eps the scale were 1.73, and the
    # shift 2.5 with a bias that the norm does not scale.
    assert scale is not None
    assert shift is not None
    assert (scale.item(), shift.item()) == (1.5, 2.0)


def test_folding_rounds_once() -> None:
    node = ConvNode((0,), "w", None, Geometry((1, 1), (0, 0), (1, 1), 1), NORM)
    generator = torch.Generator().manual_seed(0)
    names = ("w", "scale", "shift", "mean", "var")
    tensors = {name: torch.rand(256, generator=generator) for name in names}
    exact = {name: tensor.double() for name, tensor in tensors.items()}

    folded = scale_and_shift(node, tensors)

    for one, other in zip(folded, scale_and_shift(node, exact), strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other.float())


def test_a_swap_of_what_is_there_already_costs_nothing() -> None:
    target, _, inputs = pair(Skip)
    engine = engine_of(Skip)
    baseline = engine.baseline(inputs)
    own = {key: tensor.clone() for key, tensor in target.state_dict().items()}

    for output in engine.swapped([{key: tensor} for key, tensor in own.items() if tensor.ndim]):
        assert output is baseline


def test_values_are_let_go_after_their_last_use() -> None:
    target, _, inputs = pair(Skip)
    nodes, output = fused(capture(target, inputs, lambda graph: graph))

    for key in frozenset().union(*(node.keys for node in nodes)):
        steps = make_schedule(nodes, output, {key}).steps
        gone = [number for step in steps for number in step.releases]
        # All but the output, each once, and never before the last step that takes it.
        assert sorted(gone) == [step.node for step in steps if step.node != output]
        for index, step in enumerate(steps):
            later = {
                used for other in steps[index + 1 :] for used in inputs_of(nodes[other.node], other)
            }
            assert later.isdisjoint(step.releases)


def test_a_batch_that_cannot_be_cut_takes_full_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paramreuse.engine.fitted, "_CACHE_BYTES", 1)  # one sample at a time
    target, state, inputs = pair(Centred)
    engine, full = PartialEngine(target, inputs), FullEngine(target)
    variants = [{key: tensor} for key, tensor in state.items()]
    assert engine.notes == ()  # two samples together are right

    with torch.no_grad():
        engine.baseline(inputs)
        full.baseline(inputs)
        for one, other in zip(engine.swapped(variants), full.swapped(variants), strict=True):
            assert torch.equal(one, other)
    assert "its graph is off by" in engine.notes[0]
