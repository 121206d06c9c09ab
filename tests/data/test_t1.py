from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paramreuse.data.t1 import read_t1
from paramreuse.errors import DataError
from samples.image_files import box

h5py = pytest.importorskip("h5py")
TIMES, SLICES = 11, 5


def patient_fields(seed: int, shape: tuple[int, int] = (9, 12)) -> dict[str, np.ndarray]:
    """Return the fields of one patient in MATLAB's order of axes, contours counted from 1."""
    rng = np.random.default_rng(seed)
    endo = np.array(box(5, 4, 6, 5)[:4], dtype=float)  # x 5-6, y 4-5: columns 4-5, rows 3-4
    epi = np.array(box(4, 3, 7, 6)[:4], dtype=float)
    stack = np.ones((TIMES, SLICES))
    return {
        "Img": rng.integers(0, 1000, (*shape, TIMES, SLICES)).astype(np.uint16),
        "EndoContours": endo[:, :, None, None] * stack,
        "EpiContours": epi[:, :, None, None] * stack,
        "TriggerTime": 100.0 + np.arange(TIMES * SLICES, dtype=float).reshape(TIMES, SLICES),
    }


def write_mat(path: Path, patients: list[dict[str, np.ndarray]], *, form: str = "struct") -> None:
    """Write a MATLAB v7.3 file: 512 bytes of header, then HDF5 with axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        if form == "scalar":
            for name, value in patients[0].items():
                file.create_dataset(f"Dataset/{name}", data=value.T)
        elif form == "cell":
            cells = file.create_dataset("Dataset", (1, len(patients)), dtype=h5py.ref_dtype)
            for index, fields in enumerate(patients):
                group = refs.create_group(str(index))
                for name, value in fields.items():
                    group.create_dataset(name, data=value.T)
                cells[0, index] = group.ref
        else:
            for name in patients[0]:
                field = file.create_dataset(
                    f"Dataset/{name}", (1, len(patients)), dtype=h5py.ref_dtype
                )
                for index, fields in enumerate(patients):
                    value = refs.create_dataset(f"{name}{index}", data=fields[name].T)
                    field[0, index] = value.ref
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116))


@pytest.mark.parametrize("form", ["struct", "cell"])
def test_every_image_comes_upright_with_its_myocardium(tmp_path: Path, form: str) -> None:
    patients = [patient_fields(seed) for seed in range(3)]
    write_mat(tmp_path / "T1Dataset210.mat", patients, form=form)
    t1 = read_t1(tmp_path)
    pieces = t1.read_subject("patient002")

    assert t1.classes == ("background", "myocardium")
    assert t1.subjects == ("patient001", "patient002", "patient003")
    assert len(pieces) == TIMES * SLICES
    piece = pieces[2 * TIMES + 4]  # third slice, fifth time
    assert piece.name == "patient002 slice 3 time 5 (122 ms)"  # 100 + 4 * 5 + 2
    assert piece.image.dtype == torch.float32
    np.testing.assert_array_equal(piece.image[0].numpy(), patients[1]["Img"][:, :, 4, 2])
    expected = np.zeros((9, 12), dtype=np.int64)
    expected[2:6, 3:7] = 1  # x 4-7, y 3-6 counted from 1
    expected[3:5, 4:6] = 0
    assert piece.labels is not None
    np.testing.assert_array_equal(piece.labels.numpy(), expected)


def test_contours_counted_from_0_are_an_option(tmp_path: Path) -> None:
    write_mat(tmp_path / "T1Dataset210.mat", [patient_fields(0)] * 2)
    from_one = read_t1(tmp_path).read_subject("patient001")[0].labels
    from_zero = read_t1(tmp_path, contour_origin=0).read_subject("patient001")[0].labels
    assert from_one is not None
    assert from_zero is not None
    torch.testing.assert_close(from_zero, torch.roll(from_one, (1, 1), (0, 1)))


def test_a_single_patient_is_stored_without_references(tmp_path: Path) -> None:
    write_mat(tmp_path / "T1Dataset210.mat", [patient_fields(0)], form="scalar")
    assert len(read_t1(tmp_path).read_subject("patient001")) == TIMES * SLICES


def test_the_official_split_is_the_first_and_the_last(tmp_path: Path) -> None:
    write_mat(tmp_path / "T1Dataset210.mat", [patient_fields(0)] * 5)
    assert read_t1(tmp_path).split is None  # fewer than 60 + 30
    assert read_t1(tmp_path, train=2, validation=1).split == {
        "train": ("patient001", "patient002"),
        "validation": ("patient005",),
    }


def test_of_210_patients_60_train_and_30_validate(tmp_path: Path) -> None:
    tiny = {name: value[..., :1] for name, value in patient_fields(0).items()}
    write_mat(tmp_path / "T1Dataset210.mat", [tiny] * 210)
    t1 = read_t1(tmp_path / "T1Dataset210.mat")
    assert len(t1.subjects) == 210
    assert t1.split is not None
    assert t1.split["train"] == t1.subjects[:60]
    assert t1.split["validation"] == t1.subjects[180:]


def test_spacing_is_the_nominal_one_unless_given(tmp_path: Path) -> None:
    write_mat(tmp_path / "T1Dataset210.mat", [patient_fields(0)] * 2)
    assert read_t1(tmp_path).read_subject("patient001")[0].spacing_mm == (2.1, 2.1)
    assert read_t1(tmp_path, spacing_mm=1.5).read_subject("patient001")[0].spacing_mm == (1.5, 1.5)


def test_an_image_without_contours_has_no_labels(tmp_path: Path) -> None:
    fields = patient_fields(0)
    fields["EndoContours"][:, :, 3, 0] = np.nan
    fields["EpiContours"][:, :, 3, 0] = np.nan
    fields["EpiContours"] = np.concatenate(
        [fields["EpiContours"], np.full((2, 2, TIMES, SLICES), np.nan)]
    )  # shorter contours are filled up
    write_mat(tmp_path / "T1Dataset210.mat", [fields] * 2)
    labels = [piece.labels for piece in read_t1(tmp_path).read_subject("patient001")]
    assert labels[3] is None
    assert labels[4] is not None
    assert int(labels[4].sum()) == 16 - 4


def test_an_older_mat_file_is_told_to_need_v7_3(tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "T1Dataset210.mat", {"Dataset": np.zeros(3)})
    with pytest.raises(DataError, match=r"needs to be a MATLAB v7\.3 file .*'MATLAB 5\.0 MAT-file"):
        read_t1(tmp_path)


def test_what_is_no_mat_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"T1Dataset210\.mat: no such file"):
        read_t1(tmp_path)
    (tmp_path / "T1Dataset210.mat").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="something else"):
        read_t1(tmp_path)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "T1Dataset210.mat"
    write_mat(path, [patient_fields(0)] * 2)
    path.write_bytes(path.read_bytes()[:4096])
    with pytest.raises(DataError, match=r"T1Dataset210\.mat: it is not a complete HDF5 file"):
        read_t1(tmp_path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    fields = patient_fields(0)
    del fields["TriggerTime"]
    write_mat(tmp_path / "T1Dataset210.mat", [fields] * 2)
    with pytest.raises(DataError, match="expected TriggerTime too"):
        read_t1(tmp_path)


def test_axes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    fields = patient_fields(0)
    fields["EpiContours"] = fields["EpiContours"][:, :, :5]
    write_mat(tmp_path / "T1Dataset210.mat", [fields] * 2)
    with pytest.raises(DataError, match=r"patient001: its fields have the shapes"):
        read_t1(tmp_path).read_subject("patient001")


def test_a_contour_outside_the_image_is_named(tmp_path: Path) -> None:
    fields = patient_fields(0)
    fields["EpiContours"][1, 0, 4, 2] = 40.0
    write_mat(tmp_path / "T1Dataset210.mat", [fields] * 2)
    with pytest.raises(
        DataError, match="patient001 slice 3 time 5, EpiContours, point 2: the point x=39"
    ):
        read_t1(tmp_path).read_subject("patient001")


@pytest.mark.parametrize(
    "options", [{"contour_origin": 2}, {"spacing_mm": 0.0}, {"spacing_mm": (1.0, 1.0, 1.0)}]
)
def test_options_out_of_range_are_named(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(options))):
        read_t1(tmp_path, **options)


def test_values_that_lie_in_another_file_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(range(216)))
    path = tmp_path / "T1Dataset210.mat"
    write_mat(path, [patient_fields(0)], form="scalar")
    with h5py.File(path, "r+") as file:
        shape = file["Dataset/Img"].shape
        del file["Dataset/Img"]
        size = int(np.prod(shape))
        file.create_dataset("Dataset/Img", shape, "u1", external=[(str(secret), 0, size)])
    with pytest.raises(DataError, match="points into another file, which is not read"):
        read_t1(path).read_subject("patient001")

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["Img"] = patient_fields(1)["Img"].T
    with h5py.File(path, "r+") as file:
        del file["Dataset/Img"]
        file["Dataset/Img"] = h5py.ExternalLink("other.h5", "Img")
    with pytest.raises(DataError, match="points into another file, which is not read"):
        read_t1(path).read_subject("patient001")


def test_a_field_that_declares_far_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "T1Dataset210.mat"
    write_mat(path, [patient_fields(0)], form="scalar")
    with h5py.File(path, "r+") as file:
        del file["Dataset/Img"]
        shape, chunks = (5, 11, 30_000, 30_000), (1, 1, 64, 64)
        file.create_dataset("Dataset/Img", shape, "u2", chunks=chunks, compression="gzip")

    with pytest.raises(DataError, match=r"would become \d+ MiB in memory"):
        read_t1(path).read_subject("patient001")
