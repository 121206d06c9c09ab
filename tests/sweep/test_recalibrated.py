"""The sweep after recalibration: the scale that BatchNorm absorbs, and nothing of the caller's."""

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError, ScoreError, SiteMismatchError
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import match_sites
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.recalibrated import sweep_recalibrated
from paramreuse.sweep.recalibration import recalibrated
from paramreuse.sweep.scores import Accuracy, NegativeMSE
from paramreuse.sweep.sweeping import sweep_sites
from samples.networks import FrozenBatchNorm2d, small_batches, small_network
from samples.pools import Elsewhere

BATCHES = small_batches(2, size=40)
"""Twenty subjects."""
CALIBRATION = [images * (1 + 2 * i) + i for i, (images, _, _) in enumerate(small_batches(2))]


def scaled(kernel: float, *, running_mean: float = 0.0, shift: float = 0.0) -> nn.Module:
    """``y = (kernel x - RM) / sqrt(RV) + shift`` for one pixel; RV 1, and an eps lost in it."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=1e-12)).eval()
    with torch.no_grad():
        model[0].weight.fill_(kernel)
        model[1].running_mean.fill_(running_mean)
        model[1].bias.fill_(shift)
    return model


def one_pixel_images(*values: float) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1)


# Mean 0 and unbiased variance (1 + 0 + 1) / 2 = 1.
AROUND_ZERO = [one_pixel_images(-1.0, 0.0, 1.0)]
THREE = [(one_pixel_images(3.0), one_pixel_images(3.0), ["p"])]


def recalibrated_sweep(target: nn.Module, source: Any, **options: Any) -> Sweep:
    options = {"batches": BATCHES, "calibration": CALIBRATION} | options
    batches, calibration = options.pop("batches"), options.pop("calibration")
    return sweep_recalibrated(target, source, batches, Accuracy(2), calibration, **options)


def test_a_scale_that_batchnorm_absorbs_costs_nothing_after_recalibration() -> None:
    target, source = scaled(1.0), scaled(2.0)

    plain = sweep_sites(target, source, THREE, NegativeMSE(), controls=(), engine="full")
    sweep = sweep_recalibrated(target, source, THREE, NegativeMSE(), AROUND_ZERO)

    # 2 * 3 misses 3 by 3; with a variance of 4 it is 2 * 3 / sqrt(4) = 3 again.
    assert plain.scores["W 1", "source"].tolist() == [[-9.0]]
    assert sweep.scores["W 1", "source"].tolist() == [[0.0]]
    assert sweep.drops("W 1").tolist() == [[0.0, 0.0]]
    assert sweep.identical == frozenset()


def test_what_batchnorm_cannot_absorb_still_costs() -> None:
    sweep = sweep_recalibrated(scaled(1.0), scaled(-2.0), THREE, NegativeMSE(), AROUND_ZERO)

    # -2 * 3 / sqrt(4) = -3 misses 3 by 6.
    assert sweep.drops("W 1").tolist() == [[36.0, 36.0]]


def test_the_baseline_is_the_target_recalibrated_and_the_notes_say_so() -> None:
    target = scaled(1.0, running_mean=1.0)

    sweep = sweep_recalibrated(target, scaled(2.0), THREE, NegativeMSE(), AROUND_ZERO)

    # As trained 3 - 1 misses 3 by 1; with the mean of the images, 0, it is 3.
    assert sweep.baseline.tolist() == [[0.0]]
    assert sweep.notes == (
        "baseline: statistics recomputed on 3 images, mean NegativeMSE 0.000; as trained -1.000",
    )


def test_statistics_are_those_of_all_calibration_images_and_not_of_the_scored_ones() -> None:
    target, source = scaled(1.0), scaled(2.0)
    # Mean 2 and unbiased variance (1 + 1 + 1 + 1 + 0) / 4 = 1: 3 - 2 misses 3 by 2.
    images = [
        (one_pixel_images(1.0, 3.0, 1.0), "labels nobody looks at"),
        [one_pixel_images(3.0, 2.0)],
    ]

    sweep = sweep_recalibrated(target, source, THREE, NegativeMSE(), images)

    assert sweep.baseline.tolist() == sweep.scores["W 1", "source"].tolist() == [[-4.0]]


def naive(target: nn.Module, tensors: dict[str, Tensor]) -> list[list[float]]:
    """Load, recalibrate, run, count hits per subject and class: no part of the sweep's."""
    twin = deepcopy(target)
    twin.load_state_dict(target.state_dict() | tensors)
    model = recalibrated(twin, CALIBRATION)
    pairs: dict[str, list[tuple[bool, int]]] = {}
    for images, labels, subjects in BATCHES:
        guesses = model(images).argmax(1)
        for guess, label, subject in zip(guesses, labels, subjects, strict=True):
            pairs.setdefault(subject, []).append((bool(guess == label), int(label)))
    return [
        [float(np.mean([hit for hit, label in counted if label == k])) for k in (0, 1)]
        for counted in pairs.values()
    ]


def test_it_agrees_with_loading_recalibrating_and_running_the_model() -> None:
    target, source = small_network(0), small_network(1)

    sweep = recalibrated_sweep(target, source)

    assert [swap.name for swap in sweep.swaps] == ["W 1", "W 2", "linear W 1"]
    assert sweep.replacements == ("source",)
    assert sweep.baseline.tolist() == naive(target, {})
    lent = source.state_dict()
    for swap in sweep.swaps:
        (site,) = swap.sites
        expected = naive(target, {site.key: lent[site.key]})
        assert sweep.scores[swap.name, "source"].tolist() == expected
    # Else it were shown for a network that no swap changes.
    assert len({scores.tobytes() for scores in sweep.scores.values()}) == 3


def test_any_swaps_can_be_asked_for_and_go_without_what_is_recomputed() -> None:
    target, source = small_network(0), small_network(1)
    kernel = match_sites(target, source)[0]

    sweep = recalibrated_sweep(target, source, swaps=["layer", "pair", kernel])

    kinds = {swap.name: swap.kind for swap in sweep.swaps}
    assert kinds == {
        "layer 1": "W+B+RW+RB",
        "layer 2": "W+B+RW+RB",
        "layer linear 1": "W+B",
        "B+RM 1": "B",
        "RW+RB 1": "RW+RB",
        "B+RM 2": "B",
        "RW+RB 2": "RW+RB",
        "W 1": "W",
    }
    assert sweep.notes[1:] == ("left out, since recalibration overwrites them: RM+RV 1, RM+RV 2",)
    lent = source.state_dict()
    layer = {key: lent[key] for key in ("0.weight", "0.bias", "1.weight", "1.bias")}
    assert sweep.scores["layer 1", "source"].tolist() == naive(target, layer)
    # Whatever bias is put in front of BatchNorm, the recomputed mean takes it away.
    assert sweep.drops("B+RM 1").tolist() == np.zeros((20, 3)).tolist()


def test_a_swap_of_statistics_alone_is_refused_with_the_reason() -> None:
    target, source = small_network(0), small_network(1)
    statistics = [s for s in match_sites(target, source) if s.kind in (Kind.RM, Kind.RV)]

    with pytest.raises(
        SiteMismatchError, match=r"cannot sweep \['RM 1', 'RV 1', .* overwrites RM and RV whatever"
    ):
        recalibrated_sweep(target, source, swaps=statistics)


def test_an_identical_swap_costs_nothing_and_takes_no_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = small_network(0)
    source = small_network(1).state_dict() | {"0.weight": target.state_dict()["0.weight"]}
    done: list[tuple[int, int | None]] = []

    sweep = recalibrated_sweep(target, source, progress=lambda *step: done.append(step))

    assert sweep.identical == {("W 1", "source")}
    assert sweep.drops("W 1").tolist() == np.zeros((20, 3)).tolist()
    # Three swaps on two batches, and two of them recalibrated on two batches.
    assert done[-1] == (3 * 2 + 2 * 2, 10)
    assert [step for step, _ in done] == sorted(step for step, _ in done)


def test_the_target_as_its_own_source_is_identical_everywhere() -> None:
    sweep = recalibrated_sweep(small_network(0), small_network(0))

    assert sweep.identical == {(swap.name, "source") for swap in sweep.swaps}
    assert {float(sweep.drops(swap.name).max()) for swap in sweep.swaps} == {0.0}


def test_images_are_walked_once_so_that_every_swap_gets_the_same() -> None:
    walks: list[int] = []

    def images() -> Iterator[Tensor]:
        walks.append(1)
        torch.rand(3)
        yield from CALIBRATION

    once = recalibrated_sweep(small_network(0), small_network(1), calibration=images())

    listed = recalibrated_sweep(small_network(0), small_network(1))
    assert walks == [1]
    assert {k: v.tolist() for k, v in once.scores.items()} == {
        k: v.tolist() for k, v in listed.scores.items()
    }


def state(model: nn.Module) -> list[Any]:
    """All that a sweep might leave behind in a model."""
    tensors = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    places = {key: tensor.data_ptr() for key, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for m in model.modules()
    ]
    grads = [(p.requires_grad, p.grad) for p in model.parameters()]
    return [tensors, places, modes, hooks, grads]


def same_state(one: list[Any], other: list[Any]) -> bool:
    bits = all(torch.equal(one[0][key], other[0][key]) for key in one[0])
    return bits and one[0].keys() == other[0].keys() and one[1:] == other[1:]


class Drawing:
    """A loader that draws from every global generator, as DataLoader draws from PyTorch's."""

    def __iter__(self) -> Iterator[Any]:
        random.random()  # noqa: S311
        np.random.rand()
        torch.rand(1)
        return iter(BATCHES)


def test_models_and_random_state_are_the_same_afterwards() -> None:
    target, source = small_network(0), small_network(1)
    source[0].train()
    target[3].weight.requires_grad_(False)
    target[0].register_forward_hook(lambda *_: None)
    before = state(target), state(source)
    generators = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()

    sweep = recalibrated_sweep(target, source, batches=Drawing(), swaps=["single", "layer"])

    assert sweep.identical == frozenset()
    assert all(map(same_state, before, (state(target), state(source))))
    assert generators[:2] == (random.getstate(), np.random.get_state()[1].tobytes())
    assert torch.equal(generators[2], torch.get_rng_state())
    assert torch.is_grad_enabled()


def test_intervals_and_tables_are_those_of_any_sweep() -> None:
    frame = recalibrated_sweep(small_network(0), small_network(1), seed=3).frame()

    assert frame["swap"].unique().tolist() == ["W 1", "W 2", "linear W 1"]
    assert (frame["drop_low"] <= frame["drop"]).all()
    assert set(frame["subjects"]) == {20}


# What cannot be used.


@pytest.mark.parametrize(
    "norm",
    [nn.Identity(), nn.GroupNorm(1, 2), FrozenBatchNorm2d(2)],
    ids=lambda n: type(n).__name__,
)
def test_a_network_without_batchnorm_has_nothing_to_recalibrate(norm: nn.Module) -> None:
    target = nn.Sequential(nn.Conv2d(1, 2, 1), norm).eval()

    with pytest.raises(ModelError, match=r"nothing to recalibrate in Sequential: .*nn.BatchNorm"):
        recalibrated_sweep(target, target)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ([], "cannot recalibrate: there is no batch"),
        ([{"image": 1}], "on batch 0: expected images .* got a dict"),
        ([*CALIBRATION, ()], "on batch 2: expected images .* got a tuple"),
        ([torch.full((2, 1, 4, 4), torch.nan)], "on batch 0: its images hold NaN or infinite"),
    ],
)
def test_images_that_cannot_be_used_are_refused(calibration: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        recalibrated_sweep(small_network(0), small_network(1), calibration=calibration)


def test_a_target_in_training_mode_or_without_a_forward_pass_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected a model \(nn.Module\), got dict"):
        recalibrated_sweep({}, small_network(1))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"the target is in training mode.*model.eval\(\)"):
        recalibrated_sweep(small_network(0).train(), small_network(1))


def test_an_output_that_is_no_tensor_is_refused() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = small_network(0)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.model(x), x

    with pytest.raises(ModelError, match="returns a tuple of 2; expected a tensor"):
        recalibrated_sweep(Pair().eval(), Pair())


def test_batches_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ScoreError, match="the batches are empty"):
        recalibrated_sweep(small_network(0), small_network(1), batches=[])


def test_a_kernel_that_is_not_finite_has_no_score_and_the_others_do() -> None:
    source = small_network(1).state_dict()
    source["3.weight"][0] = torch.nan

    sweep = recalibrated_sweep(small_network(0), source)

    assert sweep.not_finite == {("W 2", "source")}
    assert np.isnan(sweep.scores["W 2", "source"]).all()
    assert np.isfinite(sweep.scores["W 1", "source"]).any()
    assert any("W 2" in note for note in sweep.notes)


def test_a_source_without_a_fitting_kernel_is_refused() -> None:
    source = {"1.weight": torch.ones(2)}

    with pytest.raises(SiteMismatchError, match="cannot sweep the kernels: none of the source"):
        recalibrated_sweep(small_network(0), source)
    with pytest.raises(SiteMismatchError, match="no tensor of the source fits any site"):
        recalibrated_sweep(small_network(0), {"other": torch.ones(7)})
    assert [s.name for s in recalibrated_sweep(small_network(0), source, swaps="single").swaps] == [
        "RW 1"
    ]


def test_a_recalibrated_sweep_on_workers_is_that_of_one_process() -> None:
    target, source, pool = small_network(0), small_network(1), Elsewhere()

    alone = recalibrated_sweep(target, source)
    shared = recalibrated_sweep(target, source, pool=pool)

    assert alone.notes == shared.notes
    assert alone.frame().equals(shared.frame())
    assert pool.num_tasks == len(alone.swaps)
