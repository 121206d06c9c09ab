"""The two networks: numbering, shapes, weights."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paramreuse.errors import CheckpointError, ParamReuseError
from paramreuse.networks import pspnet, unet
from samples.networks import papers_networks

LAYERS = nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d


def registered(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, LAYERS)]


def executed(model: nn.Module, image: Tensor) -> list[str]:
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, path=path: order.append(path))
        for path, module in model.named_modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad():
        model.eval()(image)
    for hook in hooks:
        hook.remove()
    return order


def convs(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def num_sites(model: nn.Module) -> int:
    """Tensors of all layers but the output layer, counters aside."""
    keys = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    return len([key for key in keys if not key.startswith(("head", "classifier"))])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("model", papers_networks())
def test_layers_are_registered_in_the_order_in_which_they_run(model: nn.Module) -> None:
    assert executed(model, torch.zeros(1, 1, 32, 32)) == registered(model)


def test_unet_has_the_papers_18_convolutions_and_an_output() -> None:
    model = unet()
    features = [conv.out_channels for conv in convs(model)]

    down = [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert features == [*down, 512, 512, 256, 256, 128, 128, 64, 64, 4]
    assert [conv.kernel_size for conv in convs(model)] == [(3, 3)] * 18 + [(1, 1)]
    assert len([m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]) == 18
    # The 11th sees 1024 upsampled features beside the 512 of the long connection.
    assert convs(model)[10].in_channels == 1024 + 512


def test_unet_bias_is_optional_except_at_the_output() -> None:
    assert [conv.bias is not None for conv in convs(unet(width=2))] == [True] * 19
    assert [c.bias is not None for c in convs(unet(width=2, bias=False))] == [False] * 18 + [True]


def test_unet_with_transposed_upsampling_has_four_further_kernels() -> None:
    model = unet(width=2, upsampling="transposed")

    assert len(convs(model)) == 19
    assert len([m for m in model.modules() if isinstance(m, nn.ConvTranspose2d)]) == 4
    # 16 features after upsampling beside the 16 of the long connection.
    assert convs(model)[10].in_channels == 32


def test_pspnet_has_the_papers_25_convolutions_at_their_places() -> None:
    model = pspnet()
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    at = dict(enumerate(paths, start=1))

    assert len(paths) == 26
    assert at[1] == "backbone.conv1"
    assert (at[2], at[3]) == ("backbone.layer1.0.conv1", "backbone.layer1.0.conv2")
    assert (at[6], at[7]) == ("backbone.layer2.0.conv1", "backbone.layer2.0.conv2")
    assert at[8] == "backbone.layer2.0.downsample.0"
    assert at[13] == "backbone.layer3.0.downsample.0"
    assert (at[16], at[18]) == ("backbone.layer4.0.conv1", "backbone.layer4.0.downsample.0")
    assert (at[19], at[20]) == ("backbone.layer4.1.conv1", "backbone.layer4.1.conv2")
    assert [at[n] for n in (21, 24, 25, 26)] == [
        "pyramid.0.conv",
        "pyramid.3.conv",
        "bottleneck.conv",
        "classifier",
    ]
    all_convs = dict(enumerate(convs(model), start=1))
    assert (all_convs[6].in_channels, all_convs[6].out_channels) == (64, 128)
    assert (all_convs[16].in_channels, all_convs[16].out_channels) == (256, 512)
    kinds = [type(m) for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    # Each of the 25 is followed by its own normalisation; the classifier is not.
    assert kinds == [nn.Conv2d, nn.BatchNorm2d] * 25 + [nn.Conv2d]


def test_pspnet_has_130_sites_without_and_150_with_backbone_biases() -> None:
    # 25 W + 5 B + 25 x 4 BatchNorm tensors; 20 more B.
    assert num_sites(pspnet(width=2)) == 130
    assert num_sites(pspnet(width=2, bias=True)) == 150


def test_pspnet_backbone_is_eight_times_smaller_than_the_image() -> None:
    features = pspnet(width=2).backbone.eval()(torch.zeros(1, 1, 64, 48))

    assert features.shape == (1, 16, 8, 6)


@pytest.mark.parametrize("size", [(33, 47), (64, 40)])
@pytest.mark.parametrize(
    "model",
    [
        unet(2, 3, width=2),
        unet(2, 3, width=2, upsampling="transposed"),
        pspnet(2, 3, width=2),
    ],
)
def test_output_has_the_size_of_the_input(model: nn.Module, size: tuple[int, int]) -> None:
    assert model.eval()(torch.rand(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("build", [unet, pspnet])
def test_every_parameter_gets_a_gradient(build) -> None:
    model = build(width=2).train()
    model(torch.rand(2, 1, 48, 48)).square().sum().backward()

    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("build", [unet, pspnet])
def test_torch_export_captures_it_for_odd_sizes_and_any_batch(build) -> None:
    model = build(width=2).eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(
        model, (torch.rand(2, 1, 45, 51),), dynamic_shapes=({0: batch},)
    ).module()
    images = torch.rand(5, 1, 45, 51)

    torch.testing.assert_close(program(images), model(images))


def resnet18(width: int = 2, channels: int = 3, *, bias: bool = False) -> dict[str, Tensor]:
    """State dict with torchvision's names, written from its documentation, values at random."""

    def norm(path: str, n: int) -> dict[str, Tensor]:
        names = ("weight", "bias", "running_mean", "running_var")
        counter = {f"{path}.num_batches_tracked": torch.tensor(7)}
        return {f"{path}.{name}": torch.rand(n) for name in names} | counter

    def conv(path: str, *shape: int) -> dict[str, Tensor]:
        tensors = {f"{path}.weight": torch.randn(shape)}
        return tensors | ({f"{path}.bias": torch.randn(shape[0])} if bias else {})

    state = conv("conv1", width, channels, 7, 7) | norm("bn1", width)
    n_in = width
    for stage in range(1, 5):
        n = width * 2 ** (stage - 1)
        for block in range(2):
            path = f"layer{stage}.{block}"
            state |= conv(f"{path}.conv1", n, n_in, 3, 3) | norm(f"{path}.bn1", n)
            state |= conv(f"{path}.conv2", n, n, 3, 3) | norm(f"{path}.bn2", n)
            if n_in != n:
                down = f"{path}.downsample"
                state |= conv(f"{down}.0", n, n_in, 1, 1) | norm(f"{down}.1", n)
            n_in = n
    return state | {"fc.weight": torch.rand(1000, n_in), "fc.bias": torch.rand(1000)}


def test_pspnet_takes_a_torchvision_state_dict_over_value_by_value() -> None:
    source = resnet18()
    state = pspnet(width=2, in_channels=3, weights=source).backbone.state_dict()

    assert sorted(state) == sorted(key for key in source if not key.startswith("fc."))
    assert [key for key in state if not torch.equal(state[key], source[key])] == []


def test_pspnet_sums_the_stem_for_grey_images() -> None:
    source = resnet18()
    stem = pspnet(width=2, weights=source).backbone.conv1.weight

    torch.testing.assert_close(stem, source["conv1.weight"].sum(1, keepdim=True))


def test_pspnet_stem_answers_a_repeated_grey_image_alike_for_any_number_of_channels() -> None:
    source = resnet18()
    grey = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    answers = [
        pspnet(c, width=2, weights=source).backbone.double().eval()(grey.expand(-1, c, -1, -1))
        for c in (1, 3, 5)
    ]

    # Kernels are float32: each stem is rounded once.
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answers[0], answers[2], rtol=1e-4, atol=1e-4)


def test_pspnet_backbone_biases_start_at_zero_beside_weights_without_them() -> None:
    with_bias = pspnet(width=2, bias=True, weights=(source := resnet18())).eval()
    biases = [m.bias for m in with_bias.backbone.modules() if isinstance(m, nn.Conv2d)]

    assert len(biases) == 20
    assert all(torch.equal(bias, torch.zeros_like(bias)) for bias in biases)
    without = pspnet(width=2, weights=source).eval()
    image = torch.rand(1, 1, 32, 32)
    assert torch.equal(with_bias.backbone(image), without.backbone(image))


def test_pspnet_takes_biases_that_the_weights_hold() -> None:
    source = resnet18(bias=True)
    backbone = pspnet(width=2, bias=True, weights=source).backbone

    assert torch.equal(backbone.layer2[0].downsample[0].bias, source["layer2.0.downsample.0.bias"])


def test_pspnet_takes_files_from_before_the_batch_counters() -> None:
    source = {k: t for k, t in resnet18().items() if not k.endswith("num_batches_tracked")}

    assert pspnet(width=2, weights=source).backbone.bn1.num_batches_tracked == 0


def test_pspnet_reads_weights_from_a_safetensors_file(tmp_path: Path) -> None:
    source = resnet18()
    save_file(source, tmp_path / "resnet18.safetensors")
    backbone = pspnet(width=2, weights=tmp_path / "resnet18.safetensors").backbone

    assert torch.equal(backbone.bn1.running_var, source["bn1.running_var"])


def without(state: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    return {k: t for k, t in state.items() if k != key}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (without(resnet18(), "layer3.0.bn2.bias"), r"missing: layer3\.0\.bn2\.bias\. Give"),
        (resnet18() | {"layer5.weight": torch.zeros(1)}, r"unknown: layer5\.weight"),
        (resnet18(width=3), r"shape: bn1\.bias is \(3,\) instead of \(2,\)"),
        (resnet18(bias=True), r"unknown: conv1\.bias"),
        ({}, r"missing: bn1\.bias, .* and \d+ more"),
    ],
)
def test_pspnet_names_what_does_not_fit_in_the_weights(
    weights: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        pspnet(width=2, weights=weights)


@pytest.mark.parametrize("build", [unet, pspnet])
@pytest.mark.parametrize("option", ["in_channels", "num_classes", "width"])
@pytest.mark.parametrize("count", [0, -1, 1.5, True, "8"])
def test_counts_must_be_whole_numbers_from_one_up(build, option: str, count: object) -> None:
    message = f"cannot build {build.__name__}: {option} is {count!r}"
    with pytest.raises(ParamReuseError, match=re.escape(message)):
        build(**{option: count})


def test_unet_refuses_an_unknown_upsampling() -> None:
    with pytest.raises(ParamReuseError, match="upsampling is 'nearest', expected one of"):
        unet(upsampling="nearest")
