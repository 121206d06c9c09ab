"""Official folds: nobody is in two of them."""

from pathlib import Path

import pytest

from paramreuse.data.acdc import read_acdc
from paramreuse.data.mnms import read_mnms
from paramreuse.data.slices import ImageSet
from paramreuse.errors import DataError
from samples.acdc_files import write_patient
from samples.reader_sets import small_mnms


def test_a_patient_of_acdc_in_both_folders_is_refused(tmp_path: Path) -> None:
    write_patient(tmp_path / "training" / "patient001")
    write_patient(tmp_path / "testing" / "patient001")

    with pytest.raises(DataError, match="patient001 is in training and in testing, so it would"):
        read_acdc(tmp_path)


@pytest.mark.parametrize("folder", ["Validation", "Testing"])
def test_a_patient_of_mnms_in_two_folders_is_refused(tmp_path: Path, folder: str) -> None:
    small = small_mnms(tmp_path)
    (tmp_path / folder).mkdir()
    small.image.parent.rename(tmp_path / folder / "A0S9V9")
    small_mnms(tmp_path)

    with pytest.raises(DataError, match=f"A0S9V9 is in Training and in {folder}"):
        read_mnms(tmp_path)


@pytest.mark.parametrize(
    ("subjects", "split", "message"),
    [
        (("a", "a"), None, r"\['a'\] are in it more than once"),
        (("a", "b"), {"train": ("a",), "validation": ("a",)}, r"\['a'\] are in it more than once"),
        (("a", "b"), {"train": ("a", "c")}, r"\['c'\] are in it without being subjects"),
    ],
)
def test_a_set_of_ones_own_is_held_to_the_same(subjects, split, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageSet(("0", "1"), subjects, lambda _: [], split)
