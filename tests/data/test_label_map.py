from typing import Any

import pytest
import torch

from paramreuse.data.label_map import map_labels
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.errors import DataError


def read_subject(subject: str) -> list[ImageSlice]:
    image = torch.zeros(1, 2, 2)
    labels = torch.tensor([[0, 1], [2, 3]])
    return [
        ImageSlice(image, labels, (1.0, 1.0), subject, "first"),
        ImageSlice(image, None, (1.0, 1.0), subject, "second"),
    ]


ACDC = ImageSet(
    classes=("background", "RV", "myocardium", "LV"),
    subjects=("a",),
    read_subject=read_subject,
    split={"train": ("a",)},
)
HEART = ("background", "ventricle", "wall")
MAPPING = {"RV": "ventricle", "myocardium": "wall", "LV": "ventricle"}


def test_labels_are_renumbered_by_class_name() -> None:
    mapped = map_labels(ACDC, MAPPING, HEART)
    first, second = mapped.read_subject("a")

    assert mapped.classes == HEART
    assert mapped.subjects == ACDC.subjects
    assert mapped.split == ACDC.split
    assert first.labels is not None
    assert first.labels.tolist() == [[0, 1], [2, 1]]
    assert first.labels.dtype == torch.int64
    assert (first.name, first.subject, first.spacing_mm) == ("first", "a", (1.0, 1.0))
    assert second.labels is None


def test_mapping_every_class_to_itself_changes_nothing() -> None:
    same = map_labels(ACDC, {name: name for name in ACDC.classes}, ACDC.classes)
    assert torch.equal(same.read_subject("a")[0].labels, read_subject("a")[0].labels)


@pytest.mark.parametrize(
    ("mapping", "classes", "message"),
    [
        (
            MAPPING | {"LA": "wall"},
            HEART,
            r"class 'LA', which does not exist; .*'myocardium', 'LV'",
        ),
        (MAPPING | {"LV": "lv"}, HEART, r"target 'lv', which does not exist; .*'ventricle'"),
        ({"RV": "ventricle"}, HEART, r"\['myocardium', 'LV'\] of the set are not mapped"),
        (MAPPING, ("background",), "two different names"),
        (MAPPING, ("background", "wall", "wall"), "two different names"),
        (MAPPING, "ab", "two different names"),
    ],
)
def test_a_map_that_does_not_fit_is_named(
    mapping: dict[str, str], classes: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        map_labels(ACDC, mapping, classes)
