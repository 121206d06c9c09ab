"""A site whose values or outputs are not finite is told so, and the sweep goes on."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paramreuse.networks import unet
from paramreuse.reuse.plan import Action
from paramreuse.reuse.planning import plan_reuse
from paramreuse.reuse.ranking import rank_sources
from paramreuse.reuse.verdict import judge
from paramreuse.sweep.outcomes import Sweep
from paramreuse.sweep.scores import Accuracy, Dice
from paramreuse.sweep.sweeping import sweep_sites
from samples.networks import small_batches, small_network

Batches = list[tuple[Tensor, Tensor, list[str]]]
ENGINES = ["full", "partial"]


def broken(key: str, value: float, seed: int = 1) -> dict[str, Tensor]:
    """The source with one bad value."""
    source = {key: t.clone() for key, t in small_network(seed).state_dict().items()}
    source[key].view(-1)[0] = value
    return source


def swept_once(source: Mapping[str, Tensor], engine: str, batches: Batches | None = None) -> Sweep:
    batches = batches or small_batches()
    return sweep_sites(small_network(0), source, batches, Accuracy(2), engine=engine)


def words(sweep: Sweep) -> dict[str, str]:
    return {str(row["swap"]): str(row["verdict"]) for row in judge(sweep).rows()}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("key", "value", "swap"),
    [
        ("0.weight", torch.nan, "W 1"),
        ("1.running_mean", torch.nan, "RM 1"),
        ("3.weight", torch.nan, "W 2"),
        ("4.running_var", torch.inf, "RV 2"),
        # Finite, and no variance: the outputs are NaN.
        ("1.running_var", -5.0, "RV 1"),
        # Finite, until a kernel is multiplied with it.
        ("1.weight", 3e38, "RW 1"),
    ],
)
def test_one_bad_value_makes_its_site_not_finite_and_no_other(
    engine: str, key: str, value: float, swap: str
) -> None:
    sweep = swept_once(broken(key, value), engine)

    assert (swap, "source") in sweep.not_finite
    assert {name for name, _ in sweep.not_finite} == {swap}
    assert np.isnan(sweep.scores[swap, "source"]).all()
    verdicts = words(sweep)
    assert [name for name, word in verdicts.items() if word == "not finite"] == [swap]
    assert any(swap in note for note in sweep.notes)


def test_both_engines_agree_where_a_value_is_not_finite() -> None:
    source = broken("0.weight", torch.nan)

    fast, plain = (swept_once(source, engine) for engine in ENGINES)

    assert fast.not_finite == plain.not_finite
    for name, scores in plain.scores.items():
        np.testing.assert_array_equal(fast.scores[name], scores)


def test_relu_of_the_fused_convolution_does_not_swallow_nan() -> None:
    """A kernel of a UNet's first layer: whatever comes behind it cuts negative numbers off."""
    target, source = unet(1, 2, width=4).eval(), unet(1, 2, width=4).eval()
    first = next(key for key in source.state_dict() if key.endswith("weight"))
    source.state_dict()[first].view(-1)[0] = torch.nan
    batches = [(torch.randn(2, 1, 32, 32), torch.ones(2, 32, 32, dtype=torch.int64), ["a", "b"])]

    sweep = sweep_sites(target, source, batches, Dice(2), controls=(), engine="partial")

    assert ("W 1", "source") in sweep.not_finite


def test_outputs_that_overflow_in_one_batch_make_the_site_not_finite_for_all_subjects() -> None:
    batches = small_batches()
    images, labels, subjects = batches[1]
    batches[1] = (images * 1e25, labels, [f"other {name}" for name in subjects])
    source = {key: t.clone() for key, t in small_network(1).state_dict().items()}
    source["0.weight"] *= 1e25

    for engine in ENGINES:
        sweep = swept_once(source, engine, batches)

        assert ("W 1", "source") in sweep.not_finite, engine
        assert np.isnan(sweep.scores["W 1", "source"]).all(), engine
        assert np.isfinite(sweep.scores["B 2", "source"]).any(), engine


def test_a_sweep_that_ends_early_keeps_nothing_open_for_a_site_that_is_not_finite() -> None:
    images, labels, _ = small_batches(1, 24)[0]
    batches = [(images, labels, [f"p{index}" for index in range(24)])]

    sweep = sweep_sites(
        *(small_network(0), broken("0.weight", torch.nan), batches, Accuracy(2)), stop="decided"
    )

    assert words(sweep)["W 1"] == "not finite"


def test_what_was_recorded_of_a_site_that_is_not_finite_is_taken_up_again() -> None:
    class Log:
        def __init__(self) -> None:
            self.recorded: dict[int, dict[tuple[str, str], np.ndarray]] = {}

        def read_batch(self, batch: int, digest: str) -> Mapping[tuple[str, str], np.ndarray]:
            return dict(self.recorded.get(batch, {}))

        def record(self, batch: int, digest: str, trial: tuple[str, str], sums: np.ndarray) -> None:
            self.recorded.setdefault(batch, {})[trial] = sums

    log, source = Log(), broken("1.running_var", -5.0)
    arguments = (small_network(0), source, small_batches(), Accuracy(2))

    first = sweep_sites(*arguments, log=log)
    again = sweep_sites(*arguments, log=log)

    assert again.not_finite == first.not_finite == {("RV 1", "source"), ("RV 1", "shuffled")}


def test_a_control_that_is_not_finite_fails() -> None:
    control = small_network(1)
    control.state_dict()["0.weight"].fill_(torch.nan)
    same_elsewhere = {k: t.clone() for k, t in small_network(0).state_dict().items()}
    same_elsewhere["0.weight"] *= 1.0001

    # Eight subjects, the fewest with which a site has a word.
    batches = [(x, y, [f"p{i // 2}" for i in range(len(x))]) for x, y, _ in small_batches(2, 16)]

    sweep = sweep_sites(
        *(small_network(0), same_elsewhere, batches, Accuracy(2)),
        controls={"broken": control},
    )

    assert words(sweep)["W 1"] == "reusable"
    assert any("W 1 (broken)" in note for note in sweep.notes)


def test_values_that_are_not_finite_on_both_sides_are_identical() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 2)
            self.mask = nn.Parameter(torch.tensor([0.0, -torch.inf]))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1)[:, :1]) + self.mask.exp()

    target, source = Masked().eval(), Masked().eval()

    sweep = sweep_sites(target, source, small_batches(), Accuracy(2), controls=())

    assert sweep.not_finite == frozenset()
    assert "identical" in words(sweep).values()


def test_evaluate_leaves_out_what_is_not_finite() -> None:
    def mean_output(model: nn.Module) -> float:
        return float(model(small_batches()[0][0]).mean().detach())

    sweep = sweep_sites(
        *(small_network(0), broken("1.running_var", -5.0)), evaluate=mean_output, controls=()
    )

    assert sweep.not_finite == {("RV 1", "source")}
    assert words(sweep)["RV 1"] == "not finite"


def test_a_plan_leaves_what_is_not_finite_and_says_why() -> None:
    plan = plan_reuse(judge(swept_once(broken("0.weight", torch.nan), "partial")))

    entry = plan.entries[0]

    assert (entry.site.name, entry.action, entry.reason) == ("W 1", Action.LEAVE, "not finite")


def test_a_kernel_that_is_not_finite_counts_as_not_reusable_and_is_named_in_the_summary() -> None:
    verdict = judge(swept_once(broken("0.weight", torch.nan), "partial"))

    first = verdict.kernel_judgements[0]

    assert (first.paper, first.can_be_loaded) == ("not reusable", False)
    assert "1 not finite" in verdict.summary()


def test_a_source_with_a_bad_value_is_ranked_by_what_is_finite() -> None:
    sources = {"bad": broken("0.weight", torch.nan), "good": small_network(2)}

    frame = rank_sources(small_network(0), sources, small_batches(), Accuracy(2)).frame()

    assert frame.set_index("source").loc["bad", ["mean_drop", "rmse"]].notna().all()
