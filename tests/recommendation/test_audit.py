"""The rewind sweep by hand: each block put back, and what is read from it."""

import numpy as np
import pytest
import torch
from torch import nn

import paramreuse as pr
from paramreuse.errors import ScoreError
from paramreuse.recommendation.audit import audit_blocks
from paramreuse.reuse.blocks import blocks_of
from paramreuse.reuse.plan import Action
from paramreuse.sites.matching import match_sites, sites_of
from paramreuse.sweep.scoring import score_subjects
from samples.disks import disk_network, disks
from samples.networks import move_off_start


def drawn(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = disk_network()
        move_off_start(model[1], model[4])
    return model.eval()


def test_a_rewind_is_the_source_s_block_in_the_tuned_network() -> None:
    tuned, source, batches, dice = drawn(1), drawn(2), disks(4), pr.Dice(num_classes=2)
    before = {key: value.clone() for key, value in tuned.state_dict().items()}

    sweep = pr.rewind_sweep(tuned, source, batches, dice, seed=3)

    blocks = blocks_of(match_sites(tuned, source))
    assert [swap.name for swap in sweep.swaps] == [f"block {block.name}" for block in blocks]
    assert sweep.replacements == ("source", "reinit")
    _, baseline = score_subjects(tuned, batches, dice)
    theirs = source.state_dict()
    for block in blocks:
        swapped = drawn(1)
        state = swapped.state_dict()
        with torch.no_grad():
            for site in block.sites:
                state[site.key].copy_(theirs[site.key])
        _, scores = score_subjects(swapped, batches, dice)
        drops = sweep.drops(f"block {block.name}")[:, :2]
        np.testing.assert_allclose(drops, baseline - scores, atol=1e-6)
    # A normalisation is put back with its convolution, never alone.
    assert [sorted({site.path for site in block.sites}) for block in blocks] == [
        *(["0", "1"], ["3", "4"], ["6"])
    ]
    assert all(torch.equal(value, before[key]) for key, value in tuned.state_dict().items())


def test_an_audit_has_the_means_and_intervals_of_the_sweep() -> None:
    sweep = pr.rewind_sweep(drawn(1), drawn(2), disks(9), pr.Dice(num_classes=2))

    audits = pr.audit_rewind(sweep)

    drops = sweep.mean_drops()
    for swap, audit in zip(sweep.swaps, audits, strict=True):
        rewind, reinit = drops[swap.name, "source"], drops[swap.name, "reinit"]
        assert (audit.rewind, audit.reinit) == pytest.approx((rewind.mean, reinit.mean))
        assert audit.rewind_interval == pytest.approx((rewind.low, rewind.high))
        assert audit.reinit_interval == pytest.approx((reinit.low, reinit.high))
    assert audits[0].to_dict()["reading"] == audits[0].reading


def test_a_network_that_was_not_tuned_loses_nothing_by_a_rewind() -> None:
    model = drawn(1)

    audits = pr.audit_rewind(pr.rewind_sweep(model, model, disks(3), pr.Dice(num_classes=2)))

    assert [audit.rewind for audit in audits] == [0.0] * 3


def test_a_plan_by_rewinding_goes_by_the_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = pr.rewind_sweep(drawn(1), drawn(2), disks(3), pr.Dice(num_classes=2))
    # By hand: training the first did not help, the second is worth no more than a draw, any will
    # do as the third.
    drops = np.array([[[-0.01], [0.3]], [[0.29], [0.3]], [[0.0], [0.01]]])
    monkeypatch.setattr("paramreuse.recommendation.audit._drops_of", lambda sweep: drops)

    few = pr.plan_by_rewind(sweep, num_subjects=4, source="x")
    many = pr.plan_by_rewind(sweep, num_subjects=8)

    def actions(plan: pr.Plan) -> dict[str, tuple[Action, float]]:
        return {entry.site.path: (entry.action, entry.rate) for entry in plan.entries}

    left, trained = (Action.LEAVE, 1.0), (Action.TRAIN, 1.0)
    assert actions(few) == {
        **dict.fromkeys(("0", "1"), (Action.FREEZE, 1.0)),
        **dict.fromkeys(("3", "4"), left),
        "6": trained,
    }
    assert actions(many)["0"] == (Action.TRAIN, 0.1)
    assert few.source == "x"
    assert few.recipe.recalibrate


def test_another_sweep_is_not_read_as_a_rewind_sweep() -> None:
    sweep = pr.sweep_sites(drawn(1), drawn(2), disks(2), pr.Dice(num_classes=2), swaps="layer")

    with pytest.raises(ScoreError, match=r"expected the control 'reinit', got .*shuffled"):
        pr.audit_rewind(sweep)


def test_one_subject_has_no_interval() -> None:
    audit = audit_blocks(blocks_of(sites_of(disk_network())), np.ones((3, 2, 1)))[0]

    assert (audit.rewind, audit.reinit) == (1.0, 1.0)
    assert np.isnan([*audit.rewind_interval, *audit.reinit_interval]).all()
