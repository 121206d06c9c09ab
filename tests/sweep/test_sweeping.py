"""The sweep: every swap scored, per subject, and nothing of the caller's changed."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from paramreuse.errors import ModelError, ScoreError, SiteMismatchError
from paramreuse.sites.layers import Kind
from paramreuse.sites.matching import Site, match_sites
from paramreuse.sites.swaps import make_swaps
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Accuracy, Dice, NegativeMSE
from paramreuse.sweep.sweeping import sweep_sites
from samples.networks import small_batches, small_network

Array = np.ndarray[Any, np.dtype[np.float64]]


def line_network(weight: float, bias: float) -> nn.Sequential:
    """``y = weight * x + bias``."""
    model = nn.Sequential(nn.Linear(1, 1)).eval()
    with torch.no_grad():
        model[0].weight.fill_(weight)
        model[0].bias.fill_(bias)
    return model


def first_output(model: nn.Module) -> float:
    return float(model(torch.ones(1, 1)).detach())


def small_sweep(target: nn.Module, source: object, **options: Any) -> Sweep:
    options = {"engine": "full", "controls": ()} | options
    batches = options.pop("batches", None) or small_batches()
    score = options.pop("score", None) or Accuracy(2)
    return sweep_sites(target, source, batches, score, **options)  # type: ignore[arg-type]


def all_scores(sweep: Sweep) -> dict[tuple[str, str], list[list[float]]]:
    return {name: scores.tolist() for name, scores in sweep.scores.items()}


def test_sweep_scores_one_swap_at_a_time_and_restores_the_target() -> None:
    target = line_network(2, 3)
    source = {"0.weight": torch.tensor([[10.0]]), "0.bias": torch.tensor([20.0])}

    sweep = sweep_sites(target, source, evaluate=first_output, controls=())

    # 10 * 1 + 3, then 2 * 1 + 20: had the first swap stayed in, the second were 30.
    assert all_scores(sweep) == {
        ("linear W 1", "source"): [[13.0]],
        ("linear B 1", "source"): [[22.0]],
    }
    assert sweep.baseline.tolist() == [[5.0]]
    assert first_output(target) == 5.0


def test_a_full_pass_per_swap_gives_the_same_numbers() -> None:
    images, labels = torch.ones(1, 1), torch.zeros(1, 1)

    sweep = sweep_sites(
        line_network(2, 3),
        line_network(10, 20),
        [(images, labels, ["p"])],
        NegativeMSE(),
        engine="full",
        controls=(),
        swaps=["single", "layer"],
    )

    # Minus the squares of 5, 13, 22 and of 10 * 1 + 20.
    assert sweep.baseline.tolist() == [[-25.0]]
    assert [scores[0][0] for scores in all_scores(sweep).values()] == [-169.0, -484.0, -900.0]
    assert sweep.drops("linear W 1").tolist() == [[144.0, 144.0]]


def test_sums_are_kept_per_subject_over_all_batches() -> None:
    batches = [
        (torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1), ["a", "b"]),
        (torch.tensor([[3.0]]), torch.zeros(1, 1), ["a"]),
    ]

    sweep = sweep_sites(
        line_network(1, 0),
        line_network(2, 0),
        batches,
        NegativeMSE(),
        engine="full",
        controls=(),
        swaps="single",
    )

    assert sweep.subjects == ("a", "b")
    # a: (1 + 9) / 2, b: 4; with twice the weight four times as much. A mean of means over the
    # batches would give a (1 + 9) / 2 as well, but b as if it had been in both.
    assert sweep.baseline.tolist() == [[-5.0], [-4.0]]
    assert sweep.scores["linear W 1", "source"].tolist() == [[-20.0], [-16.0]]
    assert sweep.scores["linear B 1", "source"].tolist() == [[-5.0], [-4.0]]
    assert sweep.identical == {("linear B 1", "source")}


def test_full_engine_agrees_with_loading_the_tensors_and_running_the_model() -> None:
    target, source = small_network(0), small_network(1)
    batches = small_batches()

    sweep = small_sweep(target, source, swaps=["single", "pair", "layer", "prefix"])

    for swap in sweep.swaps:
        twin = small_network(0)
        state = twin.state_dict()
        for site in swap.sites:
            state[site.key].copy_(source.state_dict()[site.key])
        right = {subject: [] for subject in sweep.subjects}
        for images, labels, subjects in batches:
            guesses = twin(images).argmax(1)
            for guess, label, subject in zip(guesses, labels, subjects, strict=True):
                right[subject].append(((guess == label).item(), label.item()))
        expected = [
            [float(np.mean([hit for hit, label in pairs if label == k])) for k in (0, 1)]
            for pairs in right.values()
        ]
        assert sweep.scores[swap.name, "source"].tolist() == expected


def test_a_source_that_is_the_target_drops_by_exactly_nothing() -> None:
    target = small_network()

    sweep = small_sweep(target, target, swaps=["single", "layer", "suffix"])

    assert sweep.identical == set(sweep.scores)
    for swap in sweep.swaps:
        drops = sweep.drops(swap.name)
        assert np.isfinite(drops).all()
        assert not drops.any()


def test_a_shuffled_control_is_not_identical_where_the_source_is() -> None:
    target = small_network()

    sweep = small_sweep(target, target, controls=("shuffled",), swaps="layer")

    assert sweep.identical == {(swap.name, "source") for swap in sweep.swaps}


def test_swaps_do_not_depend_on_their_order() -> None:
    target, source = small_network(0), small_network(1)
    sites = match_sites(target, source)
    swaps = make_swaps(sites, ["single", "pair"])
    options = {"controls": ("shuffled", "reinit")}

    forwards = small_sweep(target, source, swaps=swaps, **options)
    backwards = small_sweep(target, source, swaps=swaps[::-1], **options)

    assert all_scores(forwards) == all_scores(backwards)
    assert [swap.name for swap in backwards.swaps] == [swap.name for swap in swaps[::-1]]


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others() -> None:
    target, source = small_network(0), small_network(1)
    options = {"controls": ("shuffled", "reinit"), "score": NegativeMSE()}
    batches = [(images, torch.zeros(6, 2), ids) for images, _, ids in small_batches()]

    def run(seed: int) -> dict[tuple[str, str], list[list[float]]]:
        return all_scores(small_sweep(target, source, batches=batches, seed=seed, **options))

    first = run(0)
    assert run(0) == first
    other = run(1)
    assert other["W 1", "source"] == first["W 1", "source"]
    assert other["W 1", "shuffled"] != first["W 1", "shuffled"]
    assert other["W 1", "reinit"] != first["W 1", "reinit"]


def everything_of(model: nn.Module) -> list[object]:
    """Everything of a model that a careless sweep could leave changed."""
    return [
        [(key, id(t), t.detach().numpy().tobytes()) for key, t in model.state_dict().items()],
        [(name, id(p), p.requires_grad, p.grad) for name, p in model.named_parameters()],
        [(path, id(module), module.training) for path, module in model.named_modules()],
        [
            (list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks))
            for m in model.modules()
        ],
        [(sorted(m.__dict__), type(m)) for m in model.modules()],
    ]


def random_states() -> tuple[object, object, object]:
    numpy_state = np.random.get_state()
    return random.getstate(), numpy_state[1].tobytes(), torch.get_rng_state().tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("way", ["batches", "evaluate", "failure"])
def test_models_and_random_states_are_the_same_afterwards_bit_for_bit(way: str) -> None:
    def evaluate(model: nn.Module) -> float:
        random.random()  # noqa: S311 - any number will do
        np.random.rand()
        torch.rand(1)
        model.train()
        return float(model(small_batches()[0][0]).detach().sum())

    target, source, control = small_network(0), small_network(1), small_network(2)
    target[0].weight.requires_grad_(False)
    target[3].register_forward_hook(lambda *_: None)
    images, labels, subjects = small_batches()[0]
    items = list(zip(images, labels, subjects, strict=True))
    loader = DataLoader(items, batch_size=2)
    models = (target, source, control)
    before = [everything_of(model)[1:] for model in models]
    tensors = [{k: t.clone() for k, t in m.state_dict().items()} for m in models]
    states = random_states()
    options: dict[str, Any] = {"controls": ("shuffled", "reinit", control)}

    if way == "evaluate":
        sweep_sites(target, source, evaluate=evaluate, **options)
    elif way == "batches":
        small_sweep(target, source, batches=loader, **options)
    else:
        with pytest.raises(ScoreError, match="cannot score"):
            small_sweep(target, source, batches=loader, score=Dice(5), **options)

    assert random_states() == states
    assert [everything_of(model)[1:] for model in models] == before
    for model, values in zip(models, tensors, strict=True):
        assert all(torch.equal(values[key], t) for key, t in model.state_dict().items())


def test_no_gradient_is_kept() -> None:
    target = small_network()
    seen: list[bool] = []

    class Watching(Accuracy):
        def statistics(self, outputs: Tensor, labels: Tensor) -> Tensor:
            seen.append(outputs.requires_grad)
            return super().statistics(outputs, labels)

    small_sweep(target, small_network(1), score=Watching(2), swaps="layer")

    assert seen
    assert not any(seen)


def test_evaluate_may_give_named_numbers() -> None:
    def evaluate(model: nn.Module) -> Mapping[str, float]:
        return {"first": first_output(model), "half": first_output(model) / 2}

    sweep = sweep_sites(line_network(2, 3), line_network(10, 20), evaluate=evaluate, controls=())

    assert sweep.classes == ("first", "half")
    assert sweep.subjects == ()
    assert sweep.baseline.tolist() == [[5.0, 2.5]]
    # 5 - 13 and 2.5 - 6.5, and their mean.
    assert sweep.drops("linear W 1").tolist() == [[-8.0, -4.0, -6.0]]


def test_a_single_number_has_no_interval_and_no_subjects() -> None:
    sweep = sweep_sites(
        line_network(2, 3), line_network(10, 20), evaluate=first_output, controls=()
    )

    frame = sweep.frame()

    assert frame["drop_low"].isna().all()
    assert frame["drop_high"].isna().all()
    assert set(frame["subjects"]) == {0}
    assert frame.loc[frame["class"] == "mean", "drop"].tolist() == [-8.0, -17.0]


def test_evaluate_gets_a_model_in_evaluation_mode_that_is_not_the_callers() -> None:
    target = small_network()
    seen: list[nn.Module] = []

    def evaluate(model: nn.Module) -> float:
        assert not any(module.training for module in model.modules())
        seen.append(model)
        model.train()
        return 1.0

    sweep_sites(target, small_network(1), evaluate=evaluate, swaps="layer", controls=())

    assert len(seen) == 4
    assert all(model is not target for model in seen)


def test_a_model_is_a_further_control() -> None:
    target, source, control = small_network(0), small_network(1), small_network(2)

    sweep = small_sweep(target, source, controls=("shuffled", control), swaps="layer")
    alone = small_sweep(target, control, swaps="layer")

    assert sweep.replacements == ("source", "shuffled", "model")
    for swap in sweep.swaps:
        ours = sweep.scores[swap.name, "model"]
        assert ours.tolist() == alone.scores[swap.name, "source"].tolist()


def test_a_head_with_other_classes_is_left_out_with_the_reason() -> None:
    source = small_network(1).state_dict()
    source["7.weight"], source["7.bias"] = torch.zeros(4, 48), torch.zeros(4)

    sweep = small_sweep(small_network(), source)

    assert [swap.name for swap in sweep.swaps][-1] == "RB 2"
    assert {skipped.key: skipped.reason for skipped in sweep.skipped} == {
        "7.weight": "the target has shape (2, 48), the source (4, 48)",
        "7.bias": "the target has shape (2,), the source (4,)",
    }


def test_sites_that_are_left_out_are_not_swept() -> None:
    sweep = small_sweep(small_network(), small_network(1), exclude=["0.weight"])

    assert "W 1" not in {swap.name for swap in sweep.swaps}
    assert [skipped.reason for skipped in sweep.skipped] == ["left out on request"]


def test_a_site_found_without_an_example_is_swept_under_its_number_in_the_forward_pass() -> None:
    class Backwards(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.second, self.first = line_network(1, 0)[0], line_network(factor, 0)[0]

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    target, source = Backwards(1).eval(), Backwards(2).eval()
    site = next(s for s in match_sites(target, source) if s.key == "first.weight")
    assert site.name == "linear W 2"
    batches = [(torch.ones(1, 1), torch.zeros(1, 1), "p")]

    sweep = small_sweep(target, source, batches=batches, score=NegativeMSE(), swaps=[site])

    assert all_scores(sweep) == {("linear W 1", "source"): [[-4.0]]}


class MemoryLog:
    """Keeps statistics in a dict; breaks off after so many records."""

    def __init__(self, patience: int | None = None) -> None:
        self.recorded: dict[tuple[int, str], dict[tuple[str, str], Array]] = {}
        self.patience = patience
        self.records = 0

    def read_batch(self, batch: int, digest: str) -> Mapping[tuple[str, str], Array]:
        return dict(self.recorded.get((batch, digest), {}))

    def record(self, batch: int, digest: str, trial: tuple[str, str], statistics: Array) -> None:
        if self.records == self.patience:
            raise KeyboardInterrupt
        self.records += 1
        self.recorded.setdefault((batch, digest), {})[trial] = statistics


@pytest.mark.parametrize("patience", [0, 1, 2, 5, 29, 30, 57])
def test_an_interrupted_sweep_goes_on_and_ends_with_the_same_numbers(patience: int) -> None:
    target, source = small_network(0), small_network(1)
    # The source lends two identical tensors, which are not run at all.
    source.load_state_dict(source.state_dict() | {"1.weight": target.state_dict()["1.weight"]})
    options = {"controls": ("shuffled",)}
    whole = small_sweep(target, source, **options)

    log = MemoryLog(patience)
    with pytest.raises(KeyboardInterrupt):
        small_sweep(target, source, log=log, **options)
    log.patience = None
    resumed = small_sweep(target, source, log=log, **options)

    assert all_scores(resumed) == all_scores(whole)
    assert resumed.baseline.tolist() == whole.baseline.tolist()
    assert resumed.subjects == whole.subjects
    # Two batches, each with the baseline and 14 sites times two replacements, each once; RM and
    # RV of two normalisations are shuffled twice more.
    assert log.records == 2 * (1 + 28 + 8)


def test_a_finished_sweep_is_read_from_its_log_without_a_forward_pass() -> None:
    target, source, log = small_network(0), small_network(1), MemoryLog()
    whole = small_sweep(target, source, log=log, swaps="layer")
    log.patience = log.records

    class Refusing(Accuracy):
        def statistics(self, outputs: Tensor, labels: Tensor) -> Tensor:
            raise AssertionError

    again = small_sweep(target, source, log=log, swaps="layer", score=Refusing(2))

    assert all_scores(again) == all_scores(whole)


def test_a_log_of_other_images_is_not_gone_on_from() -> None:
    target, source, log = small_network(0), small_network(1), MemoryLog()
    batches = [(images, torch.zeros(6, 2), ids) for images, _, ids in small_batches()]
    others = [(-images, labels, ids) for images, labels, ids in batches]
    options = {"score": NegativeMSE(), "swaps": "layer"}
    first = small_sweep(target, source, log=log, batches=batches, **options)

    for mixed in (others, [batches[0], others[1]]):
        resumed = small_sweep(target, source, log=log, batches=mixed, **options)

        fresh = small_sweep(target, source, batches=mixed, **options)
        assert all_scores(resumed) == all_scores(fresh) != all_scores(first)


def test_more_swaps_go_on_from_a_log_with_only_what_is_missing() -> None:
    target, source, log = small_network(0), small_network(1), MemoryLog()
    small_sweep(target, source, log=log, swaps="single")
    records = log.records

    both = small_sweep(target, source, log=log, swaps=["single", "layer"])

    assert log.records == records + 2 * 3
    assert all_scores(both) == all_scores(small_sweep(target, source, swaps=["single", "layer"]))


def test_progress_counts_up_to_the_number_of_evaluations() -> None:
    seen: list[tuple[int, int | None]] = []

    small_sweep(
        small_network(0),
        small_network(1),
        swaps="layer",
        controls=("shuffled",),
        progress=lambda done, total: seen.append((done, total)),
    )

    # Three swaps, two replacements, two batches.
    assert seen[-1] == (12, 12)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_training_mode_is_refused_with_the_reason_and_the_way_out() -> None:
    target = small_network()
    target[4].train()

    with pytest.raises(ModelError, match=r"'4' is in training mode.*running means.*model.eval\(\)"):
        small_sweep(target, small_network(1))


def test_a_target_without_a_forward_pass_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected a model \(nn.Module\), got dict"):
        small_sweep({}, small_network(1))  # type: ignore[arg-type]


class Wrapped(nn.Module):
    """Returns what a function makes of the small network's outputs."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.model = small_network()
        self.wrap = wrap
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.model(x))


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            lambda y: {"out": y, "aux": y},
            r"a dict with the keys \['out', 'aux'\].*self.model\(x\)\['out'\]",
        ),
        (lambda y: (y, y), r"a tuple of 2; expected a tensor.*self.model\(x\)\[0\]"),
        (lambda y: None, "a NoneType; expected a tensor"),
    ],
    ids=["dict", "tuple", "nothing"],
)
def test_an_output_that_is_no_tensor_is_refused_with_the_way_out(wrap: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        small_sweep(Wrapped(wrap), Wrapped(wrap))


def test_nan_outputs_of_the_target_are_refused() -> None:
    target = small_network()
    target.state_dict()["7.bias"].fill_(torch.nan)

    with pytest.raises(ScoreError, match="the untouched target gives NaN outputs"):
        small_sweep(target, small_network(1))


@pytest.mark.parametrize("result", [float("nan"), float("inf"), {"a": float("nan")}, {}])
def test_evaluate_that_gives_no_number_is_refused(result: Any) -> None:
    with pytest.raises(ScoreError, match=r"evaluate gave .* for the untouched target"):
        sweep_sites(small_network(), small_network(1), evaluate=lambda model: result)


def test_a_loader_that_shuffles_is_refused() -> None:
    class Shuffling:
        passes = 0

        def __iter__(self) -> Iterator[Any]:
            self.passes += 1
            return iter(small_batches(3)[:: -1 if self.passes % 2 else 1])

    with pytest.raises(ScoreError, match="the batches differ from one pass to the next"):
        small_sweep(small_network(), small_network(1), batches=Shuffling(), swaps="layer")


def test_batches_that_cannot_be_used_are_refused() -> None:
    images, labels, subjects = small_batches()[0]
    models = small_network(), small_network(1)

    def refused(batches: Any, message: str) -> None:
        with pytest.raises(ScoreError, match=message):
            sweep_sites(*models, batches, Accuracy(2), engine="full")

    refused([], "the batches are empty")
    refused((batch for batch in small_batches()), "got generator. Put its items into a list")
    refused([(images, labels)], r"expected \(inputs, labels, subjects\)")
    refused([(images, labels, [[s] for s in subjects])], "not hashable")


def test_no_foreground_in_any_label_is_refused() -> None:
    class Image(nn.Conv2d):
        """A network with one output per pixel and class."""

    target, source = Image(1, 3, 1).eval(), Image(1, 3, 1).eval()
    batches = [(torch.zeros(2, 1, 2, 2), torch.zeros(2, 2, 2).long(), "ab")]

    with pytest.raises(ScoreError, match=r"no subject's labels contain a foreground class"):
        sweep_sites(target, source, batches, Dice(3), engine="full", controls=())


def test_a_source_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(SiteMismatchError, match="no tensor of the source fits"):
        small_sweep(small_network(), {"a.b": torch.zeros(3)})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "fast"}, ModelError, "unknown engine 'fast'"),
        ({"swaps": "tripple"}, SiteMismatchError, "unknown set of swaps"),
        ({"controls": ("zero",)}, ModelError, "unknown control"),
        ({"exclude": ["nothing"]}, SiteMismatchError, "cannot leave out"),
        (
            {"swaps": Site(1, "9", Kind.W, "weight", (1,))},
            SiteMismatchError,
            "not among the sites",
        ),
    ],
)
def test_options_that_do_not_exist_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small_sweep(small_network(), small_network(1), **options)


def test_neither_batches_nor_evaluate_is_refused() -> None:
    with pytest.raises(ScoreError, match="give batches and a score, or evaluate="):
        sweep_sites(small_network(), small_network(1), small_batches())


def test_tied_tensors_are_swapped_under_both_names() -> None:
    class Tied(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.first = line_network(factor, 0)[0]
            self.second = nn.Linear(1, 1, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    batches = [(torch.ones(1, 1), torch.zeros(1, 1), "p")]
    target, source = Tied(1).eval(), Tied(2).eval()

    swept = small_sweep(target, source, batches=batches, score=NegativeMSE())
    evaluated = sweep_sites(target, source, evaluate=first_output, controls=())

    # Twice in both places, so 4; in one place only it were 2.
    assert swept.scores["linear W 1", "source"].tolist() == [[-16.0]]
    assert evaluated.scores["linear W 1", "source"].tolist() == [[4.0]]
