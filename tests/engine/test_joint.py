"""The swaps of a layer as one batch: what a graphics processor runs, here on whatever there is."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import paramreuse.engine.joint
import paramreuse.sweep.engines
from paramreuse.engine.joint import extents_of
from paramreuse.engine.partial import PartialEngine
from paramreuse.engine.plain import Engine
from paramreuse.engine.precision import float32_arithmetic
from paramreuse.networks import pspnet, unet
from paramreuse.reuse.verdict import judge
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Dice, NegativeMSE
from paramreuse.sweep.sweeping import sweep_sites
from samples.graphs import (
    NETWORKS,
    Block,
    Centred,
    Skip,
    assert_same_outputs,
    pair,
    random_weights,
    stack,
)


def together(model: nn.Module, inputs: Tensor, *, limit_gb: float | None = None) -> PartialEngine:
    return PartialEngine(model, inputs, memory_limit_gb=limit_gb, together=True)


class Expanding(nn.Module):
    """Repeats a tensor of its own as often as there are samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)
        self.offset = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(y + self.offset.expand(y.shape[0], 3, 1, 1))


def layer_by_layer(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return two variants per tensor, as source and control give: those of a layer in a row."""
    return [{key: values} for key, tensor in state.items() for values in (tensor, tensor.flip(0))]


@pytest.mark.parametrize("make", NETWORKS)
def test_swaps_of_a_layer_in_one_batch_give_what_full_passes_give(
    make: Callable[[], nn.Module],
) -> None:
    target, state, inputs = pair(make)

    assert_same_outputs(together(target, inputs), target, inputs, layer_by_layer(state))


@pytest.mark.parametrize("make", [*NETWORKS, Expanding])
def test_sets_of_sites_that_grow_layer_by_layer(make: Callable[[], nn.Module]) -> None:
    target, state, inputs = pair(make)
    keys = [key for key in state if key != "tied.weight"]  # another name of again.conv.weight
    prefixes = [
        {key: change(state[key]) for key in keys[:stop]}
        for stop in range(1, len(keys) + 1, 3)
        for change in (torch.clone, lambda tensor: tensor.flip(0), lambda tensor: 1.1 * tensor)
    ]

    assert_same_outputs(together(target, inputs), target, inputs, prefixes)


def test_one_sample_and_another_number_of_samples_and_another_size() -> None:
    target, state, inputs = pair(Skip)
    engine = together(target, inputs[:1])

    for batch in (inputs[:1], inputs, torch.randn(2, 2, 12, 10)):
        assert_same_outputs(engine, target, batch, layer_by_layer(state))


def test_rounding_that_a_batch_of_swaps_adds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    target, state, inputs = pair(Skip)
    engine = together(target, inputs)
    engine.baseline(inputs)
    alone = engine.rounding
    monkeypatch.setattr(paramreuse.engine.joint, "difference", lambda *_: 3e-5)

    next(iter(engine.swapped(layer_by_layer(state))))

    assert engine.rounding == pytest.approx(alone + 3e-5)


class Counting(TorchDispatchMode):
    """Counts convolutions, and the samples that go through each."""

    def __init__(self) -> None:
        super().__init__()
        self.samples: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if "convolution" in str(func) and "weight" not in str(func):
            self.samples.append(len(args[0]))
        return func(*args, **(kwargs or {}))


def test_what_follows_a_layer_runs_once_for_all_of_its_swaps() -> None:
    target, state, inputs = pair(stack)
    engine = together(target, inputs)
    engine.baseline(inputs)
    kernel = state["0.conv.weight"]
    variants = [{"0.conv.weight": factor * kernel} for factor in (1, 2, 3, 4)]
    list(engine.swapped(variants))  # the first time one of them runs alone as well

    with Counting() as counted:
        list(engine.swapped(variants))

    # The first layer for each of four swaps on three samples, the other two for all twelve.
    assert counted.samples == [3, 3, 3, 3, 12, 12]


def test_a_norm_swap_does_not_convolve_again_and_shares_its_batch_with_kernel_swaps() -> None:
    target, state, inputs = pair(stack)
    engine = together(target, inputs)
    engine.baseline(inputs)
    layer = ("1.conv.weight", "1.norm.running_mean", "1.norm.running_var", "1.norm.weight")
    variants = [{key: state[key]} for key in layer]
    list(engine.swapped(variants))

    with Counting() as counted:
        list(engine.swapped(variants))

    # One convolution for the kernel, none for three norms; then the head for all four.
    assert counted.samples == [3, 12]


class Standardised(nn.Module):
    """Its kernel is made of another tensor, so a swap changes a value that holds no samples."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 2, 3, 3))
        self.offset = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.block = Block(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        y = F.conv2d(x, weight, padding=1) + self.offset.exp()
        return self.block(y)


class Attending(nn.Module):
    """Attention whose values lie with the samples along the second axis, and splits in parts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 2, stride=2)
        self.place = nn.Parameter(torch.zeros(16, 1, 4))
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).permute(2, 0, 1) + self.place
        number = tokens.shape[1]
        q, k, v = (part.transpose(0, 1) for part in self.qkv(tokens).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(0, 1)
        return self.out(mixed + tokens).permute(1, 2, 0).reshape(number, 3, 4, 4)


@pytest.mark.parametrize("make", [Standardised, Attending])
def test_values_that_hold_no_samples_or_hold_them_along_another_axis(
    make: Callable[[], nn.Module],
) -> None:
    target, state, inputs = pair(make)

    assert_same_outputs(together(target, inputs), target, inputs, layer_by_layer(state))


def test_extents_by_hand() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            doubled = self.scale * 2
            return (x.transpose(0, 1).flatten(2) * doubled[0]).transpose(0, 1)

    engine = together(Turned().eval(), torch.randn(3, 2, 4, 4))
    network = next(iter(engine._fitted.values())).network

    extents = extents_of(network, torch.randn(3, 2, 4, 4))

    # Samples along the first axis at both ends and along the second between; the doubled scale and
    # its first value hold none.
    assert sorted(map(str, extents)) == sorted(["0", "1", "1", "None", "None", "1", "0"])


class Bound(nn.Module):
    """Written for batches of three."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 3, 1), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).reshape(3, 3, 64)).transpose(1, 2)


@pytest.mark.parametrize(
    ("make", "reason"), [(Centred, "in a batch a swap is off by"), (Bound, "batches of 3 alone")]
)
def test_a_network_that_cannot_take_a_larger_batch_swaps_one_at_a_time_and_says_so(
    make: Callable[[], nn.Module], reason: str
) -> None:
    target, state, inputs = pair(make)
    engine, variants = together(target, inputs), layer_by_layer(state)
    with torch.no_grad():
        engine.baseline(inputs)
        jointly = list(engine.swapped(variants))
        wanted = [torch.func.functional_call(target, variant, (inputs,)) for variant in variants]

    for one, other in zip(jointly, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert len(engine.notes) == 1
    assert "one at a time" in engine.notes[0]
    assert reason in engine.notes[0]


def sweeps(
    monkeypatch: pytest.MonkeyPatch,
    models: tuple[nn.Module, nn.Module],
    images: Tensor,
    **options: Any,
) -> tuple[Sweep, Sweep]:
    """Return a sweep by plain passes and one with the swaps of a layer as one batch."""

    def joint(
        model: nn.Module, example: Tensor, *, memory_limit_gb: float | None = None, **_: Any
    ) -> Engine:
        return together(model, example, limit_gb=memory_limit_gb)

    monkeypatch.setattr(paramreuse.sweep.engines, "partial_engine", joint)
    generator = torch.Generator().manual_seed(4)
    labels = torch.randint(0, 4, (len(images), *images.shape[2:]), generator=generator)
    ids = [f"s{index // 2}" for index in range(len(images))]
    half = len(images) // 2
    batches = [
        (images[:half], labels[:half], ids[:half]),
        (images[half:], labels[half:], ids[half:]),
    ]
    both = [
        sweep_sites(*models, batches, Dice(4), engine=engine, **options)
        for engine in ("full", "partial")
    ]
    return both[0], both[1]


@pytest.mark.parametrize("limit_gb", [None, 1e-3])
@pytest.mark.parametrize("make", [lambda: unet(width=2), lambda: pspnet(width=4)])
def test_a_sweep_of_the_papers_networks_gives_the_same_scores_and_verdicts(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module], limit_gb: float | None
) -> None:
    images = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    models = random_weights(make(), 0), random_weights(make(), 1)

    full, joint = sweeps(monkeypatch, models, images, memory_limit_gb=limit_gb)

    assert joint.notes == ()
    assert full.scores.keys() == joint.scores.keys()
    for name, scores in full.scores.items():
        assert abs(scores - joint.scores[name]).max() <= 1e-5
    words = [[j.verdict for j in judge(sweep).judgements] for sweep in (full, joint)]
    assert words[0] == words[1]


class Living(TorchDispatchMode):
    """Measures the most bytes of operations' results that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, list | tuple) else (result,):
            if isinstance(value, Tensor) and value.layout is torch.strided:
                ref = StorageWeakRef(value.untyped_storage())
                self._alive[ref.cdata] = (ref, value.untyped_storage().nbytes())
        self._alive = {key: slot for key, slot in self._alive.items() if not slot[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


@pytest.mark.parametrize(("limit_gb", "most"), [(0.006, 2), (0.03, 16), (0.2, 48)])
def test_swaps_in_one_batch_stay_under_the_memory_limit(limit_gb: float, most: int) -> None:
    target, source = random_weights(unet(width=4), 0), random_weights(unet(width=4), 1)
    images = torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    state = {k: v for k, v in source.state_dict().items() if v.is_floating_point()}
    engine = together(target, images, limit_gb=limit_gb)
    number = engine.fitting(images)

    with Living() as living, Counting() as counted:
        engine.baseline(images[:number])
        for _ in engine.swapped([{k: v} for k, v in state.items()]):
            pass

    assert living.peak <= limit_gb * 1e9
    assert max(counted.samples) >= most


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("make", NETWORKS)
def test_a_gpu_gives_what_full_passes_give(make: Callable[[], nn.Module]) -> None:
    target, state, inputs = pair(make)
    target, inputs = deepcopy(target).cuda(), inputs.cuda()
    variants = layer_by_layer({key: tensor.cuda() for key, tensor in state.items()})

    with float32_arithmetic():
        assert_same_outputs(PartialEngine(target, inputs), target, inputs, variants)


def on_device(
    models: tuple[nn.Module, nn.Module], device: str, dtype: torch.dtype, **options: Any
) -> Sweep:
    """Sweep copies of two networks on random images."""
    images = torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    labels = torch.randint(0, 4, (8, 64, 64), generator=torch.Generator().manual_seed(4))
    batches = [(images.to(dtype), labels, [f"s{index}" for index in range(8)])]
    target, source = (deepcopy(model).to(device, dtype) for model in models)
    return sweep_sites(target, source, batches, **({"score": Dice(4)} | options))


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("make", [lambda: unet(width=8), lambda: pspnet(width=8)])
def test_a_sweep_on_a_gpu_gives_the_scores_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module]
) -> None:
    models = random_weights(make(), 0), random_weights(make(), 1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    # Dice counts pixels, and float32 leaves some of a million undecided: on one device both
    # engines agree on them, two devices agree in float64.
    pairs = [
        (
            on_device(models, "cuda", torch.float32, engine="full"),
            on_device(models, "cuda", torch.float32),
        ),
        (
            on_device(models, "cpu", torch.float64, engine="full"),
            on_device(models, "cuda", torch.float64),
        ),
    ]

    assert torch.backends.cudnn.allow_tf32
    for wanted, joint in pairs:
        assert joint.notes == ()
        for name, scores in wanted.scores.items():
            assert abs(scores - joint.scores[name]).max() <= 1e-5
        words = [[j.verdict for j in judge(sweep).judgements] for sweep in (wanted, joint)]
        assert words[0] == words[1]


@pytest.mark.gpu
@gpu
def test_float32_on_a_gpu_is_as_exact_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    models = random_weights(unet(width=8), 0), random_weights(unet(width=8), 1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)

    cpu, cuda = (
        on_device(models, device, torch.float32, score=NegativeMSE()) for device in ("cpu", "cuda")
    )

    # TF32 would be off by 1e-3.
    for name, scores in cpu.scores.items():
        assert abs(cuda.scores[name] / scores - 1).max() <= 1e-5


@pytest.mark.gpu
@gpu
def test_a_sweep_on_a_gpu_stays_under_the_memory_limit() -> None:
    target, source = unet(width=16).eval().cuda(), unet(width=16).eval().cuda()
    images = torch.randn(16, 1, 256, 256)
    batches = [(images, torch.zeros(16, 256, 256).long() + 1, list(range(16)))]
    torch.cuda.reset_peak_memory_stats()
    loaded = torch.cuda.memory_allocated()

    sweep_sites(target, source, batches, Dice(4), swaps="layer", memory_limit_gb=0.5)

    # What a convolution algorithm takes for itself comes on top.
    assert torch.cuda.max_memory_allocated() - loaded <= 0.75e9
