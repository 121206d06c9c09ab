"""Targets that are not pure functions of weights and images: scored as fresh ones, or refused."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import ModelError
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Dice
from paramreuse.sweep.sweeping import sweep_sites
from samples import impure
from samples.impure import image_batches, off_start

ENGINES = ["full", "partial"]


def swept_impure(
    target: nn.Module, source: nn.Module, engine: str = "partial", **options: object
) -> Sweep:
    batches = options.pop("batches", None) or image_batches()
    arguments = (target, source, batches, Dice(2))
    return sweep_sites(*arguments, controls=(), engine=engine, **options)  # type: ignore[arg-type]


def fresh_scores(network: type[nn.Module], key: str | None) -> np.ndarray:
    """Scores of a network that is built again for each batch, with one of the source's tensors."""
    score, sums = Dice(2), {}
    for images, labels, subjects in image_batches():
        model = off_start(network, 0)
        if key is not None:
            model.state_dict()[key].copy_(off_start(network, 2).state_dict()[key])
        with torch.no_grad():
            counts = score.statistics(model(images), labels).numpy()
        for subject, count in zip(subjects, counts, strict=True):
            sums[subject] = sums.get(subject, 0) + count
    return score.score(np.stack(list(sums.values())))


def assert_scored_as_fresh(sweep: Sweep, network: type[nn.Module]) -> None:
    np.testing.assert_array_equal(sweep.baseline, fresh_scores(network, None))
    for swap in sweep.swaps:
        wanted = fresh_scores(network, swap.sites[0].key)
        np.testing.assert_array_equal(sweep.scores[swap.name, "source"], wanted, swap.name)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "network",
    [
        *(impure.Plain, impure.BranchesOnStatistics, impure.MovesABuffer, impure.CountsItsPasses),
        *(impure.Caches, impure.CachesInAnAttribute, impure.MixesSamples, impure.WritesItsInput),
    ],
)
def test_every_swap_is_scored_as_by_a_fresh_network(network: type[nn.Module], engine: str) -> None:
    target = off_start(network, 0)
    before = {key: t.clone() for key, t in target.state_dict().items()}

    sweep = swept_impure(target, off_start(network, 2), engine)

    assert_scored_as_fresh(sweep, network)
    for key, tensor in before.items():
        assert torch.equal(target.state_dict()[key], tensor), f"{key} of the caller's moved"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", [impure.Caches, impure.CachesInAnAttribute])
def test_what_the_target_has_cached_before_hides_no_swap(
    network: type[nn.Module], engine: str
) -> None:
    target = off_start(network, 0)
    with torch.no_grad():
        target(image_batches()[0][0])
    before = dict(vars(target))

    sweep = swept_impure(target, off_start(network, 2), engine)

    assert_scored_as_fresh(sweep, network)
    assert vars(target).keys() == before.keys()
    assert all(vars(target)[name] is value for name, value in before.items())


@pytest.mark.parametrize("network", [impure.Caches, impure.CountsItsPasses])
def test_nothing_is_left_on_the_callers_target(network: type[nn.Module]) -> None:
    target = off_start(network, 0)
    names = set(vars(target))

    swept_impure(target, off_start(network, 2))

    assert set(vars(target)) == names
    assert not getattr(target, "cache", {})


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (impure.MovesABuffer, "a fresh copy of the target"),
        (impure.Caches, "a fresh copy of the target"),
        (impure.MixesSamples, "depends on the others of its batch"),
        (impure.WritesItsInput, "overwrites its input"),
        (impure.BranchesOnStatistics, "a full forward pass"),
    ],
)
def test_the_notes_say_what_was_found(network: type[nn.Module], words: str) -> None:
    sweep = swept_impure(off_start(network, 0), off_start(network, 2))

    assert any(words in note for note in sweep.notes), sweep.notes


@pytest.mark.parametrize("network", [impure.Plain, impure.CountsItsPasses])
def test_a_target_that_only_counts_is_not_slowed_down(network: type[nn.Module]) -> None:
    sweep = swept_impure(off_start(network, 0), off_start(network, 2))

    assert not any("fresh copy" in note for note in sweep.notes)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", [impure.DropoutLeftOn, impure.RarelyRandom])
def test_noise_is_refused(network: type[nn.Module], engine: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=r"over the same samples differ, by .* Switch off"):
        swept_impure(off_start(network, 0), off_start(network, 2), engine)


def test_samples_that_mix_are_neither_cut_nor_put_together() -> None:
    target, source = (off_start(impure.MixesSamples, seed) for seed in (0, 2))

    little = swept_impure(target, source, memory_limit_gb=1e-5)
    early = swept_impure(target, source, stop="decided")

    assert_scored_as_fresh(little, impure.MixesSamples)
    assert_scored_as_fresh(early, impure.MixesSamples)
    assert any("every subject was scored" in note for note in early.notes)


def test_a_network_of_batches_of_one_is_tried_with_a_second_sample() -> None:
    sweep = swept_impure(
        *(off_start(impure.MixesSamples, s) for s in (0, 2)), batches=image_batches(1)
    )

    assert any("depends on the others" in note for note in sweep.notes)


def test_inputs_that_the_target_overwrites_are_given_back() -> None:
    batches = image_batches()
    before = [images.clone() for images, _, _ in batches]

    swept_impure(*(off_start(impure.WritesItsInput, seed) for seed in (0, 2)), batches=batches)

    assert all(torch.equal(b[0], images) for b, images in zip(batches, before, strict=True))


def test_a_swap_of_each_kind_is_compared_with_a_fresh_copy() -> None:
    """What is read past the attributes is a constant of the graph, which two passes do not show."""
    target, source = (off_start(impure.BranchesUnseen, seed) for seed in (0, 2))

    sweep = swept_impure(target, source)

    assert_scored_as_fresh(sweep, impure.BranchesUnseen)
    assert any("disagrees with a fresh copy of the target: RM" in note for note in sweep.notes)


def test_two_sweeps_of_two_threads_take_turns() -> None:
    running: list[int] = []
    most: list[int] = []

    class Watched(impure.Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    class WatchingDice(Dice):
        def statistics(self, outputs: Tensor, labels: Tensor) -> Tensor:
            running.append(1)
            most.append(len(running))
            time.sleep(0.002)
            running.pop()
            return super().statistics(outputs, labels)

    errors: list[BaseException] = []

    def sweep() -> None:
        try:
            models = (off_start(Watched, seed) for seed in (0, 2))
            sweep_sites(*models, image_batches(), WatchingDice(2), controls=())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=sweep) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert max(most) == 1


def hooked(caught: dict[str, object], path: str) -> nn.Module:
    model = off_start(impure.Plain, 0)
    model.get_submodule(path).register_forward_hook(
        lambda _module, _inputs, output: caught.update(output=output)
    )
    return model


@pytest.mark.parametrize("path", ["", "n1", "out"])
@pytest.mark.parametrize("network", [impure.Plain])
def test_a_hook_that_watches_holds_real_features_of_the_target_and_slows_nothing_down(
    network: type[nn.Module], path: str
) -> None:
    caught: dict[str, object] = {}
    target = hooked(caught, path)

    sweep = swept_impure(target, off_start(network, 2))

    assert type(caught.get("output", torch.zeros(1))) is Tensor
    assert sweep.notes == ()
    assert_scored_as_fresh(sweep, network)


def test_a_hook_that_changes_what_is_computed_is_heeded_and_never_sees_a_stand_in() -> None:
    seen: set[str] = set()

    def double(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        seen.add(type(output).__name__)
        return output * 2

    target, source = off_start(impure.Plain, 0), off_start(impure.Plain, 2)
    target.n1.register_forward_hook(double)

    sweep = swept_impure(target, source)

    with torch.no_grad():
        outputs = target(image_batches()[0][0])
    assert seen == {"Tensor"}
    assert any("hooks" in note for note in sweep.notes)
    assert outputs.shape[1] == 2


def wrapped_models() -> Iterator[object]:
    yield pytest.param(nn.DataParallel, id="DataParallel")
    yield pytest.param(lambda m: torch.compile(m, backend="eager"), id="compiled")


@pytest.mark.parametrize("wrap", list(wrapped_models()))
def test_a_wrapped_target_is_swept_as_the_network_inside(wrap: object) -> None:
    plain = swept_impure(off_start(impure.Plain, 0), off_start(impure.Plain, 2))

    sweep = swept_impure(wrap(off_start(impure.Plain, 0)).eval(), off_start(impure.Plain, 2))  # type: ignore[operator]

    assert sweep.notes == ()
    for name, scores in plain.scores.items():
        np.testing.assert_array_equal(sweep.scores[name], scores)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("run_first", [True, False])
def test_the_old_weight_norm_is_swept(run_first: bool) -> None:
    def network(seed: int) -> nn.Module:
        model = off_start(impure.Plain, seed)
        nn.utils.weight_norm(model.c2)
        if run_first:
            model(image_batches()[0][0])
        return model

    sweep = swept_impure(network(0), network(2))

    swap = next(swap for swap in sweep.swaps if swap.sites[0].key == "c2.weight_g")
    target = network(0)
    with torch.no_grad():
        target.c2.weight_g.copy_(network(2).c2.weight_g)
        sums = [Dice(2).statistics(target(x), y).numpy() for x, y, _ in image_batches()]
    wanted = Dice(2).score(sum(sums).reshape(3, 2, 2, 3).sum(1))  # two slices of each subject
    np.testing.assert_array_equal(sweep.scores[swap.name, "source"], wanted)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("seal", "message"),
    [
        (torch.jit.script, "the target: it is a TorchScript module"),
        (
            lambda m: nn.Sequential(
                m, torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)))
            ),
            "'1.0': Linear is quantised",
        ),
    ],
)
def test_a_network_whose_tensors_are_out_of_reach_is_refused(seal: object, message: str) -> None:
    target = seal(off_start(impure.Plain, 0)).eval()  # type: ignore[operator]

    with pytest.raises(ModelError, match=f"cannot swap tensors of .*{message}"):
        swept_impure(target, off_start(impure.Plain, 2))


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown engine 'fast': expected 'partial' or 'full'"):
        swept_impure(off_start(impure.Plain, 0), off_start(impure.Plain, 2), "fast")
