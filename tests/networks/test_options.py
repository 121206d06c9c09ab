"""The section `network` of a study: who takes which key, and what arrives."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from paramreuse.errors import StudyError
from paramreuse.networks import pspnet, unet
from paramreuse.networks.unet import Upsampling
from paramreuse.study.config import NETWORK_OPTIONS, Study, dump_study
from paramreuse.study.named import NETWORKS
from paramreuse.study.study_file import check_study
from paramreuse.study.workbench import Workbench
from samples.studies import LITTLE, study_of, trained_content


def study(**network: Any) -> Study:
    return study_of(trained_content(network=network))


@pytest.mark.parametrize("build", [pspnet, unet])
def test_a_study_can_set_every_option_of_a_network_but_what_its_data_settle(build: Any) -> None:
    options = set(inspect.signature(build).parameters) - {"in_channels", "num_classes"}

    assert set(NETWORK_OPTIONS[build.__name__]) == options
    assert set(NETWORK_OPTIONS) == set(NETWORKS)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("long_skips", [False, True])
@pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])
def test_what_a_study_says_of_a_unet_arrives_in_it(
    tmp_path: Path, residual: bool, long_skips: bool, upsampling: Upsampling
) -> None:
    options = {"residual": residual, "long_skips": long_skips, "upsampling": upsampling}
    asked = study(name="unet", width=2, bias=False, **options)

    model = Workbench(asked, tmp_path).factory("target")()

    twin = unet(1, 4, 2, bias=False, **options)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in twin.state_dict().items()}
    assert [getattr(m, "residual", None) for m in model.modules()] == [
        getattr(m, "residual", None) for m in twin.modules()
    ]


@pytest.mark.parametrize("build", [pspnet, unet])
def test_what_a_study_leaves_open_is_as_the_network_has_it(tmp_path: Path, build: Any) -> None:
    model = Workbench(study(name=build.__name__, width=2), tmp_path).factory("target")()

    # Given on as None, biases would be missing.
    assert list(model.state_dict()) == list(build(width=2).state_dict())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"name": "pspnet", "residual": True},
            "cannot use 'study.yaml': network: residual is True, which is for unet: 'pspnet' would "
            "not see it. Leave it out",
        ),
        ({"name": "pspnet", "long_skips": False}, "network: long_skips is False, which is for u"),
        ({"name": "pspnet", "upsampling": "transposed"}, "upsampling is 'transposed', which is"),
        ({"name": "unet", "weights": "r18.pth"}, "weights is 'r18.pth', which is for pspnet: 'un"),
        (
            {"name": LITTLE, "residual": True},
            "'samples.studies:little' would not see it. Set it in th",
        ),
        ({"name": LITTLE, "width": 8}, "width is 8, which is for pspnet and unet: 'samples.stud"),
        ({"name": LITTLE, "bias": False}, "bias is False, which is for pspnet and unet"),
    ],
)
def test_an_option_of_another_network_is_refused(network: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        study(**network)


def test_defaults_of_another_network_that_are_written_out_are_no_mistake() -> None:
    asked = study(name="pspnet", width=8, upsampling="bilinear", residual=False, long_skips=True)

    again = check_study({**trained_content(), "network": asked.network.model_dump()}, where="again")

    assert again == asked
    assert "upsampling: bilinear" in dump_study(asked)
