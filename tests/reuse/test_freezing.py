"""Frozen tensors hold still, and frozen layers do in training what they do in evaluation."""

import copy
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paramreuse.errors import FrozenTensorMovedError, ModelError, PlanError
from paramreuse.reuse.freezing import (
    check_frozen,
    freeze_tensors,
    frozen_keys,
    trainable_parameters,
    unfreeze_tensors,
)

STATISTICS = ("running_mean", "running_var")


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 2, 1),
    )
    with torch.no_grad():
        for norm in (net[1], net[4]):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
    return net


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(1)) * 3 + 1


def step_of(model: nn.Module, *, parameters: object = None) -> Callable[[], None]:
    """One step of AdamW with weight decay, which also moves what has a gradient of zero."""
    chosen = trainable_parameters(model) if parameters is None else list(parameters)
    optimiser = torch.optim.AdamW(chosen, lr=0.1, weight_decay=0.5)

    def step() -> None:
        model.train()
        optimiser.zero_grad()
        model(images()).square().mean().backward()
        optimiser.step()

    return step


def norm_with(mean: float, var: float, *, weight: float = 1.0, bias: float = 0.0) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(1, eps=0.0, momentum=0.5)
    with torch.no_grad():
        norm.running_mean.fill_(mean)
        norm.running_var.fill_(var)
        norm.weight.fill_(weight)
        norm.bias.fill_(bias)
    return norm


# Two values, 1 and 5: mean 3, variance 4 (8 where one degree of freedom is taken off).
TWO_VALUES = torch.tensor([1.0, 5.0]).view(1, 1, 1, 2)


def test_with_both_statistics_frozen_training_normalises_with_them_and_moves_nothing() -> None:
    norm = norm_with(2.0, 9.0, weight=3.0, bias=10.0).train()

    freeze_tensors(norm, STATISTICS)

    # (1 - 2) / 3 * 3 + 10 and (5 - 2) / 3 * 3 + 10; with the batch's statistics 7 and 13.
    assert norm(TWO_VALUES).flatten().tolist() == pytest.approx([9.0, 13.0])
    assert (float(norm.running_mean), float(norm.running_var)) == (2.0, 9.0)
    assert int(norm.num_batches_tracked) == 0
    assert norm.training


def test_with_rm_frozen_training_uses_it_and_the_batch_variance_and_rv_goes_on() -> None:
    norm = norm_with(2.0, 9.0).train()

    freeze_tensors(norm, ["running_mean"])

    # (1 - 2) / 2 and (5 - 2) / 2: frozen mean, batch variance 4 about the batch mean 3.
    assert norm(TWO_VALUES).flatten().tolist() == pytest.approx([-0.5, 1.5])
    assert float(norm.running_mean) == 2.0
    assert float(norm.running_var) == pytest.approx(0.5 * 9 + 0.5 * 8)
    assert int(norm.num_batches_tracked) == 1


def test_with_rv_frozen_training_uses_it_and_the_batch_mean_and_rm_goes_on() -> None:
    norm = norm_with(2.0, 16.0).train()

    freeze_tensors(norm, ["running_var"])

    # (1 - 3) / 4 and (5 - 3) / 4: batch mean, frozen variance.
    assert norm(TWO_VALUES).flatten().tolist() == pytest.approx([-0.5, 0.5])
    assert float(norm.running_var) == 16.0
    assert float(norm.running_mean) == pytest.approx(0.5 * 2 + 0.5 * 3)


@pytest.mark.parametrize("frozen", ["running_mean", "running_var"])
def test_with_one_frozen_the_other_follows_until_evaluation_agrees_with_training(
    frozen: str,
) -> None:
    norm = nn.BatchNorm2d(3).train()
    freeze_tensors(norm, [frozen])
    batch = torch.randn(8, 3, 5, 5) * 2 + 1

    for _ in range(200):
        trained = norm(batch)

    # Only the one degree of freedom in 200 values is left between them.
    torch.testing.assert_close(norm.eval()(batch), trained, rtol=0.01, atol=0.01)


NORMS = [
    (nn.BatchNorm1d, (6, 3)),
    (nn.BatchNorm1d, (6, 3, 4)),
    (nn.BatchNorm2d, (6, 3, 4, 4)),
    (nn.BatchNorm3d, (6, 3, 2, 2, 2)),
    (nn.InstanceNorm1d, (6, 3, 4)),
    (nn.InstanceNorm2d, (6, 3, 4, 4)),
    (nn.InstanceNorm3d, (3, 2, 4, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), NORMS)
def test_the_statistic_that_is_not_frozen_moves_as_in_pytorch(
    layer: type[nn.Module], shape: tuple[int, ...]
) -> None:
    plain = layer(3, track_running_stats=True, affine=True).train()
    batch = torch.randn(*shape)
    ours = {name: copy.deepcopy(plain) for name in STATISTICS}
    for name, norm in ours.items():
        freeze_tensors(norm, [name])
        norm(batch)
    plain(batch)

    torch.testing.assert_close(ours["running_var"].running_mean, plain.running_mean)
    torch.testing.assert_close(ours["running_mean"].running_var, plain.running_var)
    assert torch.equal(ours["running_mean"].running_mean, torch.zeros(3))
    assert torch.equal(ours["running_var"].running_var, torch.ones(3))


@pytest.mark.parametrize(("layer", "shape"), NORMS)
def test_with_both_frozen_training_equals_evaluation_in_every_layer(
    layer: type[nn.Module], shape: tuple[int, ...]
) -> None:
    norm = layer(3, track_running_stats=True, affine=True)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    batch = torch.randn(*shape)
    expected = norm.eval()(batch)

    freeze_tensors(norm, STATISTICS)

    assert torch.equal(norm.train()(batch), expected)


def test_frozen_statistics_equal_to_the_batch_give_pytorchs_gradient_for_weight_and_bias() -> None:
    batch = torch.randn(6, 2, 4, 4, dtype=torch.float64)
    plain = nn.BatchNorm2d(2).double().train()
    ours = copy.deepcopy(plain)
    ours.running_mean.copy_(batch.mean((0, 2, 3)))
    freeze_tensors(ours, ["running_mean"])

    for norm in (plain, ours):
        norm(batch).pow(3).sum().backward()

    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
    torch.testing.assert_close(ours.bias.grad, plain.bias.grad)


@pytest.mark.parametrize("frozen", ["running_mean", "running_var"])
def test_gradients_with_one_statistic_frozen_agree_with_finite_differences(frozen: str) -> None:
    norm = nn.BatchNorm1d(2).double().train()
    freeze_tensors(norm, [frozen])
    batch = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(norm, (batch,))


def test_momentum_none_averages_over_all_batches() -> None:
    norm = nn.BatchNorm1d(1, momentum=None).train()
    freeze_tensors(norm, ["running_var"])

    for mean in (1.0, 2.0, 6.0):
        norm(torch.tensor([[mean - 1], [mean + 1]]))

    assert float(norm.running_mean) == pytest.approx(3.0)


def test_every_frozen_tensor_has_the_same_hash_before_and_after_a_training_step() -> None:
    model = small_net()
    keys = [key for key in model.state_dict() if not key.startswith("5.")]
    freeze_tensors(model, keys)
    free = model[5].weight.detach().clone()

    report = check_frozen(model, keys, step_of(model), example_input=images())

    assert set(report.checksums) == set(keys)
    assert not torch.equal(model[5].weight, free)
    assert report.parts == {name: 0.0 for name in "0134"}


def test_frozen_layers_hold_still_also_when_the_optimiser_was_given_every_parameter() -> None:
    model = small_net()
    step = step_of(model, parameters=model.parameters())
    step()
    keys = ["0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"]
    freeze_tensors(model, keys)

    check_frozen(model, keys, step)


def test_a_gradient_from_before_the_freezing_does_not_move_a_tensor_any_more() -> None:
    model = small_net()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images()).square().mean().backward()
    freeze_tensors(model, ["0.weight"])

    check_frozen(model, ["0.weight"], optimiser.step)


@pytest.mark.slow
def test_monais_freeze_lets_running_statistics_drift_and_ours_does_not() -> None:
    monai_networks = pytest.importorskip("monai.networks")
    theirs, ours = small_net(), small_net()
    monai_networks.utils.freeze_layers(theirs, freeze_vars=".*")
    freeze_tensors(ours, ours.state_dict())

    for model in (theirs, ours):
        model.train()(images())

    before = small_net()[1].running_mean
    assert float((theirs[1].running_mean - before).abs().max()) > 0.1
    assert torch.equal(ours[1].running_mean, before)


def test_switching_tracking_off_parts_training_from_evaluation_and_ours_does_not() -> None:
    theirs, ours = small_net(), small_net()
    for norm in (theirs[1], theirs[4]):
        norm.track_running_stats = False
    freeze_tensors(ours, ours.state_dict())

    def gap(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model.train()(images()) - model.eval()(images())).abs().max())

    assert gap(theirs) > 0.1
    assert gap(ours) == 0.0


def test_frozen_tensors_hold_still_while_gradients_accumulate() -> None:
    model = small_net()
    keys = [key for key in model.state_dict() if key.startswith(("1.", "3."))]
    freeze_tensors(model, keys)
    optimiser = torch.optim.SGD(trainable_parameters(model), lr=0.1, momentum=0.9)

    def step() -> None:
        model.train()
        for part in images(8).split(2):
            model(part).square().mean().backward()
        optimiser.step()

    check_frozen(model, keys, step, example_input=images())


@pytest.mark.parametrize("frozen", [("running_mean",), ("running_var",), STATISTICS])
def test_frozen_statistics_hold_under_bfloat16_autocast(frozen: tuple[str, ...]) -> None:
    model = small_net()
    keys = [f"1.{name}" for name in frozen]
    expected = copy.deepcopy(model)
    for each in (model, expected):
        freeze_tensors(each, keys)
    optimiser = torch.optim.AdamW(trainable_parameters(model), lr=0.1)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model.train()(images())
        # bfloat16 has eight bits of mantissa.
        torch.testing.assert_close(output.float(), expected.train()(images()), rtol=0.05, atol=0.05)
        output.float().square().mean().backward()
        optimiser.step()

    check_frozen(model, keys, step)


def test_a_half_precision_model_keeps_its_type() -> None:
    norm = nn.BatchNorm2d(3).bfloat16().train()
    freeze_tensors(norm, ["running_mean"])

    assert norm(torch.randn(2, 3, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert norm.running_var.dtype == torch.bfloat16


def test_state_dict_keys_stay_and_copies_and_pickles_stay_frozen() -> None:
    model = small_net()
    keys = list(model.state_dict())
    freeze_tensors(model, keys[:-2])
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)

    fresh = small_net()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))

    assert list(model.state_dict()) == keys
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert frozen_keys(other) == frozen_keys(model)
        assert type(other[1]) is type(model[1])
        check_frozen(other, frozen_keys(other), step_of(other), example_input=images())
    assert isinstance(model[1], nn.BatchNorm2d)


def test_loading_a_state_dict_into_frozen_layers_loads() -> None:
    model, other = small_net(), small_net()
    freeze_tensors(model, model.state_dict())
    other[1].running_mean.fill_(7.0)

    model.load_state_dict(other.state_dict())

    assert model[1].running_mean.tolist() == [7.0] * 3


def test_unfreezing_restores_classes_gradients_and_movement_and_nothing_else() -> None:
    model, plain = small_net(), small_net()
    for each in (model, plain):
        each[0].bias.requires_grad_(False)

    frozen = freeze_tensors(model, model.state_dict())
    unfreeze_tensors(model, frozen)

    assert [type(layer) for layer in model] == [type(layer) for layer in plain]
    assert [p.requires_grad for p in model.parameters()] == [
        p.requires_grad for p in plain.parameters()
    ]
    for each in (model, plain):
        step_of(each)()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[key]), key
    assert vars(model[1]).keys() == vars(plain[1]).keys()


def test_unfreezing_the_second_of_two_calls_leaves_the_first() -> None:
    model = small_net()
    freeze_tensors(model, ["0.weight", "1.running_mean"])
    second = freeze_tensors(model, ["0.weight", "1.running_mean", "1.running_var", "3.weight"])
    assert second.parameters == ("3.weight",)
    assert second.statistics == ("1.running_var",)

    unfreeze_tensors(model, second)

    assert frozen_keys(model) == ("0.weight", "1.running_mean")


def test_two_keys_of_a_tied_parameter_freeze_together() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight

    freeze_tensors(model, ["1.weight"])

    assert frozen_keys(model) == ("0.weight", "1.weight")


class ScaledNorm(nn.BatchNorm2d):
    """A caller's layer that does more than normalise."""

    def forward(self, input: Tensor) -> Tensor:
        return 10 * super().forward(input)


def test_a_subclass_keeps_its_own_forward_pass() -> None:
    norm = ScaledNorm(3)
    norm.running_mean.uniform_(-1, 1)
    batch = torch.randn(2, 3, 4, 4)
    expected = norm.eval()(batch)

    freeze_tensors(norm, STATISTICS)

    assert torch.equal(norm.train()(batch), expected)
    assert norm.training
    assert torch.equal(pickle.loads(pickle.dumps(norm))(batch), expected)  # noqa: S301


def test_one_statistic_of_a_subclass_with_its_own_forward_pass_is_refused_and_nothing_frozen() -> (
    None
):
    model = nn.Sequential(nn.BatchNorm2d(3), ScaledNorm(3))

    with pytest.raises(PlanError, match=r"at '1': ScaledNorm has a forward pass of its own"):
        freeze_tensors(model, ["0.weight", "0.running_var", "1.running_mean"])

    assert frozen_keys(model) == ()
    assert type(model[0]) is nn.BatchNorm2d


def test_an_unknown_key_is_named_with_its_nearest() -> None:
    with pytest.raises(
        PlanError, match=re.escape("['1.runing_mean']: the model has no such tensor")
    ) as error:
        freeze_tensors(small_net(), ["1.runing_mean"])
    assert "['1.running_mean']" in str(error.value)


def test_an_uninitialised_layer_says_to_run_the_model_first() -> None:
    with pytest.raises(ModelError, match="Run one forward pass first"):
        freeze_tensors(nn.LazyBatchNorm2d(), ["weight"])


def test_a_model_frozen_throughout_has_nothing_to_train() -> None:
    model = small_net()
    freeze_tensors(model, model.state_dict())

    with pytest.raises(PlanError, match="every parameter of the model is frozen"):
        trainable_parameters(model)


def test_a_moved_tensor_is_named_with_the_size_of_its_move() -> None:
    model = small_net()

    def step() -> None:
        with torch.no_grad():
            model[0].weight[0, 0, 0, 0] += 0.25

    with pytest.raises(FrozenTensorMovedError, match=re.escape("'0.weight' by 0.25 ")):
        check_frozen(model, ["0.weight", "0.bias"], step)


def test_freezing_parameters_alone_is_caught_by_the_statistics_that_move() -> None:
    model = small_net()
    model.requires_grad_(False)[5].requires_grad_(True)

    with pytest.raises(FrozenTensorMovedError, match=r"'1.running_mean' by .*'4.running_var' by"):
        check_frozen(model, [k for k in model.state_dict() if k[0] in "0134"], step_of(model))


def test_a_part_that_depends_on_the_mode_beyond_its_tensors_is_found() -> None:
    model = nn.Sequential(ModeDependent(), nn.Conv2d(3, 1, 1))
    freeze_tensors(model, ["0.weight"])

    with pytest.raises(ModelError, match="frozen part '0' gives other outputs in training"):
        check_frozen(model, ["0.weight"], step_of(model), example_input=images())


class ModeDependent(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(1, 3, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * (2.0 if self.training else 1.0)


def test_dropout_in_a_frozen_part_is_set_aside_and_the_model_is_left_alone() -> None:
    block = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5))
    model = nn.Sequential(block, nn.Conv2d(3, 1, 1))
    keys = [key for key in model.state_dict() if key.startswith("0.")]
    freeze_tensors(model, keys)
    step = step_of(model)
    step()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()

    report = check_frozen(model, keys, lambda: None, example_input=images())

    assert report.parts == {"0": 0.0}
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[key], model.state_dict()[key]) for key in before)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_buffer_of_another_kind_is_watched() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, input: Tensor) -> Tensor:
            self.calls += 1
            return input

    model = nn.Sequential(Counter())
    assert freeze_tensors(model, ["0.calls"]).watched == ("0.calls",)

    with pytest.raises(FrozenTensorMovedError, match=r"'0.calls' by 1 "):
        check_frozen(model, ["0.calls"], lambda: model(images()))


def _in_process(rank: int, store: str, results: str) -> None:
    """Two processes with half a batch each; every one writes what its model holds after a step."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    half = images(4).expand(4, 3, 6, 6)[2 * rank : 2 * rank + 2]
    saved = {}
    for name in STATISTICS:
        norm = nn.SyncBatchNorm(3).train()
        freeze_tensors(norm, [name])
        inputs = half.clone().requires_grad_()
        outputs = norm(inputs)
        outputs.pow(3).sum().backward()
        saved |= {f"{name} out": outputs.detach(), f"{name} in": inputs.grad}
        saved |= {f"{name} {key}": value for key, value in norm.state_dict().items()}
    model = small_net()
    keys = ["0.weight", "0.bias", "1.running_mean", "1.running_var", "4.running_mean"]
    freeze_tensors(model, keys)
    parallel = nn.parallel.DistributedDataParallel(model)
    optimiser = torch.optim.AdamW(trainable_parameters(model), lr=0.1)

    def step() -> None:
        parallel.train()(images(8)[4 * rank : 4 * rank + 4]).square().mean().backward()
        optimiser.step()

    check_frozen(model, keys, step, example_input=images())
    torch.save(saved, f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_frozen_statistics_hold_in_ddp_and_synchronised_layers_see_the_whole_batch(
    tmp_path: Path,
) -> None:
    torch.multiprocessing.spawn(_in_process, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)

    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in STATISTICS:
        norm = nn.BatchNorm2d(3).train()
        freeze_tensors(norm, [name])
        inputs = images(4).expand(4, 3, 6, 6).clone().requires_grad_()
        outputs = norm(inputs)
        outputs.pow(3).sum().backward()
        joined = {
            key: torch.cat([first[key], second[key]]) for key in (f"{name} out", f"{name} in")
        }
        torch.testing.assert_close(joined[f"{name} out"], outputs.detach())
        torch.testing.assert_close(joined[f"{name} in"], inputs.grad, rtol=1e-4, atol=1e-4)
        for key, value in norm.state_dict().items():
            torch.testing.assert_close(first[f"{name} {key}"], value)
            torch.testing.assert_close(second[f"{name} {key}"], value)


def test_a_proof_about_no_tensor_is_refused() -> None:
    with pytest.raises(PlanError, match=r"no key was given. Use check_frozen\(model, frozen_keys"):
        check_frozen(nn.Linear(1, 1), [], lambda: None)
