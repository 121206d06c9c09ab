"""Images that do not suit a study: one message that names the file, before anything is trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramreuse.errors import DataError, StudyError
from paramreuse.study.config import Study
from paramreuse.study.study_file import check_study
from paramreuse.study.workbench import Workbench
from samples.image_files import write_png


def study_on(data: dict[str, Any], **changes: Any) -> Study:
    content = {
        "name": "small",
        "network": {"name": "unet", "width": 2},
        "data": {"mine": data},
        "models": {"target": {"data": "mine"}, "other": {"data": "mine"}},
        "sources": ["other"],
    }
    return check_study(content | changes, where="study.yaml")


def phantom(**changes: Any) -> dict[str, Any]:
    options = {"subjects": 3, "slices": 2, "size": 32}
    return {"reader": "phantom", "train": 2, "validation": 1, "options": options} | changes


def write_study_pictures(root: Path, colours: dict[str, int]) -> dict[str, Any]:
    for subject, channels in colours.items():
        shape = (32, 32) if channels == 1 else (32, 32, channels)
        write_png(root / f"i/{subject}.png", np.full(shape, 7, dtype=np.uint8))
        write_png(root / f"m/{subject}.png", np.ones((32, 32), dtype=np.uint8))
    options = {
        "images": "i/{subject}.png",
        "masks": "m/{subject}.png",
        "classes": ["background", "thing"],
        "spacing_mm": 1.0,
    }
    return {"reader": "folder", "root": str(root), "options": options, "size": 32}


def test_one_number_is_the_size_of_both_sides() -> None:
    assert study_on(phantom(size=64)).data["mine"].size == (64, 64)
    assert study_on(phantom(size=[64, 32])).data["mine"].size == (64, 32)


@pytest.mark.parametrize("size", [True, 64.0, "64", [64], 4, 10**9, [10**9, 64]])
def test_other_sizes_are_refused_by_name(size: object) -> None:
    with pytest.raises(StudyError, match=r"data\.mine\.size"):
        study_on(phantom(size=size))


@pytest.mark.parametrize("width", [10**9, 10**40])
def test_a_width_that_fits_no_memory_is_refused(width: int) -> None:
    with pytest.raises(StudyError, match=r"'network\.width' in 'study\.yaml' is 10*"):
        study_on(phantom(), network={"name": "unet", "width": width})


def test_a_network_that_needs_larger_images_says_so(tmp_path: Path) -> None:
    bench = Workbench(study_on(phantom(size=8)), tmp_path)

    with pytest.raises(StudyError, match=r"data\.mine: .* images of 8 x 8 pixels .* another size"):
        bench.try_out("target")


def test_training_and_validation_images_have_the_same_channels(tmp_path: Path) -> None:
    data = write_study_pictures(tmp_path, {"a": 1, "b": 1, "c": 1})
    study = study_on(data | {"train": 2, "validation": 1})
    (held_out,) = Workbench(study, tmp_path).images("mine").split.validation
    write_study_pictures(tmp_path, {held_out: 3})

    with pytest.raises(DataError, match=rf"i/[abc]\.png has 1 channels, i/{held_out}\.png has 3"):
        Workbench(study, tmp_path).images("mine")
