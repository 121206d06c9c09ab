"""Training for a fixed number of steps: rates, anchor, head first, recalibration, mixing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import paramreuse as pr
from paramreuse.errors import ModelError, ParamReuseError, ScoreError
from paramreuse.reuse.plan import Action, Plan, PlanEntry
from paramreuse.reuse.recipe import Recipe
from paramreuse.sites.matching import match_sites
from paramreuse.training.steps import (
    StepSettings,
    StepWatch,
    finish_training,
    interpolated,
    train_steps,
)

STEADY = StepSettings(batch_size=4, augment=False)


def network_of_steps(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
        )


def drawn_images(number: int = 4) -> list[tuple[Tensor, Tensor, tuple[str, ...]]]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(number, 1, 8, 8, generator=generator)
    return [(inputs, (inputs[:, 0] > 0).long(), tuple("abcd"[i % 4] for i in range(number)))]


def planned(
    rate: Callable[[pr.Site], float] = lambda site: 1.0,
    action: Callable[[pr.Site], Action] = lambda site: Action.TRAIN,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
) -> tuple[nn.Module, nn.Module, Plan]:
    """A loaded network, its source, and the plan that loaded it."""
    model, source = network_of_steps(1), network_of_steps(2)
    sites = match_sites(model, source)
    plan = Plan(tuple(PlanEntry(s, action(s), "", rate(s)) for s in sites), recipe=recipe)
    pr.apply_plan(model, source, plan)
    return model, source, plan


def moved_keys(model: nn.Module, source: nn.Module) -> dict[str, float]:
    before = source.state_dict()
    return {
        key: float((value.float() - before[key].float()).abs().max())
        for key, value in model.state_dict().items()
        if value.is_floating_point()
    }


def test_one_step_of_adam_moves_each_tensor_by_its_rate() -> None:
    # The first step of Adam is the learning rate long, whatever the gradient; no decay here.
    settings = replace(STEADY, weight_decay=0.0, learning_rate=1e-2)
    model, source, plan = planned(rate=lambda site: 0.1 if site.path == "0" else 1.0)

    train_steps(model, drawn_images(), plan, 1, 0, settings=settings)

    steps = moved_keys(model, source)
    assert 0 < steps["3.weight"] <= 1e-2
    assert steps["0.weight"] == pytest.approx(0.1 * steps["3.weight"], rel=1e-2)


def test_a_very_strong_anchor_keeps_what_was_loaded_where_it_was() -> None:
    free, source, plan = planned()
    pulled, _, anchored = planned(recipe=Recipe(anchor=1e3))

    train_steps(free, drawn_images(), plan, 40, 0, settings=STEADY)
    train_steps(pulled, drawn_images(), anchored, 40, 0, settings=STEADY)

    assert moved_keys(pulled, source)["0.weight"] < 0.2 * moved_keys(free, source)["0.weight"]


def test_the_anchor_adds_the_gradient_of_half_its_strength_times_the_squared_distance() -> None:
    from paramreuse.training.steps import _pull_back

    parameter = nn.Parameter(torch.tensor([3.0]))
    parameter.grad = torch.tensor([1.0])

    _pull_back([(parameter, torch.tensor([1.0]))], 0.5)

    # d/dw of 0.5 / 2 * (w - 1)^2 at w = 3 is 1, on top of 1.
    assert parameter.grad.tolist() == [2.0]


def test_in_the_first_phase_only_the_head_moves() -> None:
    model, source, plan = planned(recipe=Recipe(head_first=0.99))
    # 99 of 100 steps train the head; the last one, at the start of its schedule, everything.
    train_steps(model, drawn_images(), plan, 100, 0, settings=STEADY)

    steps = moved_keys(model, source)
    assert steps["3.weight"] > 20 * steps["0.weight"] > 0


def test_what_a_plan_freezes_stays_bit_for_bit_and_its_statistics_too() -> None:
    model, source, plan = planned(
        action=lambda site: Action.TRAIN if site.is_output else Action.FREEZE
    )

    train_steps(model, drawn_images(), plan, 5, 0, settings=STEADY)

    steps = moved_keys(model, source)
    assert {key for key, step in steps.items() if step} == {"3.weight", "3.bias"}


def test_the_same_seed_gives_the_same_bits_and_random_states_are_given_back() -> None:
    state = torch.get_rng_state()
    results = []
    for _ in range(2):
        model, _, plan = planned()
        results.append(train_steps(model, drawn_images(), plan, 5, 7).state_dict())

    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_looking_at_a_training_changes_none_of_its_bits() -> None:
    seen: list[tuple[int, bool, float]] = []

    def look(step: int, model: nn.Module) -> None:
        torch.rand(7)
        with torch.no_grad():
            model(drawn_images()[0][0])
        seen.append((step, model.training, float(model.state_dict()["3.bias"][0])))

    recipe = Recipe(head_first=0.5)
    watched, unwatched = planned(recipe=recipe), planned(recipe=recipe)
    watch = StepWatch(frozenset({1, 3, 6}), look)
    first = train_steps(watched[0], drawn_images(), watched[2], 6, 5, settings=STEADY, watch=watch)
    second = train_steps(unwatched[0], drawn_images(), unwatched[2], 6, 5, settings=STEADY)

    # The steps of both phases are counted in one, and the last look sees the finished network.
    assert [(step, training) for step, training, _ in seen] == [(n, False) for n in (1, 3, 6)]
    assert seen[-1][2] == float(first.state_dict()["3.bias"][0])
    assert len({bias for _, _, bias in seen}) == 3
    unwatched_state = second.state_dict()
    assert all(
        torch.equal(value, unwatched_state[key]) for key, value in first.state_dict().items()
    )


def test_training_learns_a_threshold() -> None:
    model = train_steps(network_of_steps(), drawn_images(), None, 150, 0, settings=STEADY)

    inputs, labels, _ = drawn_images()[0]
    assert not model.training
    assert float((model(inputs).argmax(1) == labels).float().mean()) > 0.9


def test_a_single_image_is_trained_on_as_a_batch_of_two() -> None:
    train_steps(network_of_steps(), drawn_images(1), None, 2, 0, settings=STEADY)


def test_mixing_lies_on_the_line_between_loaded_and_trained() -> None:
    model, source, _ = planned()
    start = {key: value.clone() for key, value in source.state_dict().items() if "weight" in key}
    with torch.no_grad():
        model[0].weight.add_(4.0)

    halfway = interpolated(model, start, 0.25)

    torch.testing.assert_close(halfway[0].weight, source[0].weight + 1.0)
    assert moved_keys(model, source)["0.weight"] == pytest.approx(4.0)


def test_recalibrating_leaves_frozen_statistics_alone() -> None:
    model, source, plan = planned(
        action=lambda s: Action.FREEZE if s.kind == "RM" else Action.TRAIN,
        recipe=Recipe(recalibrate=True),
    )
    inputs = [drawn_images()[0][0]]

    done = finish_training(model.eval(), {}, plan, inputs)

    assert torch.equal(done[1].running_mean, source[1].running_mean)
    expected = pr.recalibrated(model, inputs)[1].running_var
    assert torch.equal(done[1].running_var, expected)
    assert not torch.equal(done[1].running_var, source[1].running_var)


def test_a_training_that_diverges_says_so() -> None:
    model = network_of_steps()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))

    with pytest.raises(ModelError, match="training diverged: the loss is nan"):
        train_steps(model, drawn_images(), None, 2, 0, settings=STEADY)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ParamReuseError, match="for 0 steps: expected at least 1"):
        train_steps(network_of_steps(), drawn_images(), None, 0, 0)
    with pytest.raises(ParamReuseError, match="at least 2 images per batch"):
        StepSettings(batch_size=1)
    other = (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4).long(), ("z",))
    with pytest.raises(ScoreError, match="samples differ in size"):
        train_steps(network_of_steps(), [*drawn_images(), other], None, 1, 0)
