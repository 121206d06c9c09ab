"""A small set on disk for every reader, with what one needs to know to spoil it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paramreuse.data.acdc import read_acdc
from paramreuse.data.decathlon import read_decathlon
from paramreuse.data.folder import read_folder
from paramreuse.data.mnms import read_mnms
from paramreuse.data.nnunet import read_nnunet
from paramreuse.data.rvsc import read_rvsc
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.sunnybrook import read_sunnybrook
from paramreuse.data.t1 import read_t1
from samples.image_files import box, write_contour, write_dicom, write_nifti, write_png

SHAPE = (20, 24, 3)
SPACING = (1.5, 1.25, 8.0)


@dataclass(frozen=True)
class SmallSet:
    """A set of one subject.

    Attributes:
        root: Its folder.
        read: Its reader, with the options it needs.
        subject: Whom it holds.
        image: File of an image.
        labels: File of the labels on that image.
        checked: Whether a flipped bit of ``image`` is noticed: the format has a checksum.
    """

    root: Path
    read: Callable[[Path], ImageSet]
    subject: str
    image: Path
    labels: Path
    checked: bool

    def slices(self) -> list[ImageSlice]:
        """List the set and read its subject."""
        return self.read(self.root).read_subject(self.subject)


def noise(*shape: int) -> np.ndarray:
    """Values that no compression shortens much."""
    return np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)


def marked_labels(*shape: int) -> np.ndarray:
    """Labels that mark a box in every slice, and another class in its corner."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[4:9, 5:12], labels[4, 5] = 1, 2
    return labels


def write_acdc(root: Path) -> SmallSet:
    patient = root / "training" / "patient001"
    patient.mkdir(parents=True)
    (patient / "Info.cfg").write_text("ED: 1\nES: 4\nGroup: NOR\n")
    for number in (1, 4):
        write_nifti(patient / f"patient001_frame{number:02d}.nii.gz", noise(*SHAPE), SPACING)
        write_nifti(
            patient / f"patient001_frame{number:02d}_gt.nii.gz", marked_labels(*SHAPE), SPACING
        )
    image, labels = (patient / f"patient001_frame01{end}.nii.gz" for end in ("", "_gt"))
    return SmallSet(root, read_acdc, "patient001", image, labels, checked=True)


def write_decathlon(root: Path) -> SmallSet:
    image, labels = root / "imagesTr/organ_1.nii.gz", root / "labelsTr/organ_1.nii.gz"
    write_nifti(image, noise(*SHAPE), SPACING)
    write_nifti(labels, marked_labels(*SHAPE), SPACING)
    pair = {"image": "./imagesTr/organ_1.nii.gz", "label": "./labelsTr/organ_1.nii.gz"}
    names = {"0": "background", "1": "liver", "2": "tumour"}
    (root / "dataset.json").write_text(json.dumps({"labels": names, "training": [pair]}))
    return SmallSet(root, read_decathlon, "organ_1", image, labels, checked=True)


def small_mnms(root: Path) -> SmallSet:
    patient = root / "Training/Labeled/A0S9V9"
    image, labels = (patient / f"A0S9V9_sa{end}.nii.gz" for end in ("", "_gt"))
    write_nifti(image, noise(*SHAPE, 2), (*SPACING, 1.0))
    write_nifti(labels, marked_labels(*SHAPE, 2), (*SPACING, 1.0))
    (root / "table.csv").write_text("External code,ED,ES\nA0S9V9,0,1\n")
    return SmallSet(root, read_mnms, "A0S9V9", image, labels, checked=True)


def small_nnunet(root: Path) -> SmallSet:
    image, labels = root / "imagesTr/case_0000.nii.gz", root / "labelsTr/case.nii.gz"
    write_nifti(image, noise(*SHAPE), SPACING)
    write_nifti(labels, marked_labels(*SHAPE), SPACING)
    content = {
        "channel_names": {"0": "T2"},
        "labels": {"background": 0, "PZ": 1, "TZ": 2},
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return SmallSet(root, read_nnunet, "case", image, labels, checked=True)


def write_folder_of_volumes(root: Path) -> SmallSet:
    image, labels = root / "images/p1.nii.gz", root / "masks/p1.nii.gz"
    write_nifti(image, noise(*SHAPE), SPACING)
    write_nifti(labels, marked_labels(*SHAPE), SPACING)
    return SmallSet(root, _read_volumes, "p1", image, labels, checked=True)


def _read_volumes(root: Path) -> ImageSet:
    patterns = {"images": "images/{subject}.nii.gz", "masks": "masks/{subject}.nii.gz"}
    return read_folder(root, **patterns, classes=["background", "a", "b"])


def write_folder_of_pictures(root: Path) -> SmallSet:
    image, labels = root / "images/p1_1.png", root / "masks/p1_1.png"
    write_png(image, noise(20, 24).astype(np.uint16))
    write_png(labels, marked_labels(20, 24))
    return SmallSet(root, _read_pictures, "p1", image, labels, checked=True)


def _read_pictures(root: Path) -> ImageSet:
    patterns = {"images": "images/{subject}_{slice}.png", "masks": "masks/{subject}_{slice}.png"}
    return read_folder(root, **patterns, classes=["background", "a", "b"], spacing_mm=1.0)


def write_rvsc(root: Path) -> SmallSet:
    patient = root / "TrainingSet/patient01"
    image = patient / "P01dicom/P01-0080.dcm"
    write_dicom(image, noise(40, 50))
    contours = patient / "P01contours-manual"
    for kind, corners in (("i", box(20, 20, 24, 24)), ("o", box(18, 18, 26, 26))):
        write_contour(contours / f"P01-0080-{kind}contour-manual.txt", corners)
    lines = [f".\\x\\P01-0080-{kind}contour-manual.txt" for kind in "io"]
    (patient / "P01list.txt").write_text("\r\n".join([*lines, ""]), newline="")
    labels = contours / "P01-0080-icontour-manual.txt"
    return SmallSet(root, read_rvsc, "patient01", image, labels, checked=False)


def write_sunnybrook(root: Path) -> SmallSet:
    image = root / "dicoms/SCD0000101/48.dcm"
    write_dicom(image, noise(40, 50))
    labels = root / "contourfiles/SC-HF-I-1/i-contours/IM-0001-0048-icontour-manual.txt"
    write_contour(labels, box(20, 20, 24, 24))
    (root / "link.csv").write_text("patient_id,original_id\nSCD0000101,SC-HF-I-1\n")
    return SmallSet(root, read_sunnybrook, "SCD0000101", image, labels, checked=False)


def write_t1(root: Path) -> SmallSet:
    import h5py

    path = root / "T1Dataset210.mat"
    corners = [np.array(box(*sides)[:4], float) for sides in ((5, 4, 6, 5), (4, 3, 7, 6))]
    values = {
        "Img": noise(9, 12, 2, 1).astype(np.float32),
        "EndoContours": corners[0][:, :, None, None] * np.ones((2, 1)),
        "EpiContours": corners[1][:, :, None, None] * np.ones((2, 1)),
        "TriggerTime": np.ones((2, 1)),
    }
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            file.create_dataset(f"Dataset/{name}", data=value.T)
    return SmallSet(root, read_t1, "patient001", path, path, checked=False)


WRITERS: dict[str, Callable[[Path], SmallSet]] = {
    "acdc": write_acdc,
    "decathlon": write_decathlon,
    "folder of PNG": write_folder_of_pictures,
    "folder of NIfTI": write_folder_of_volumes,
    "mnms": small_mnms,
    "nnunet": small_nnunet,
    "rvsc": write_rvsc,
    "sunnybrook": write_sunnybrook,
    "t1": write_t1,
}
"""Every reader of files; what the phantom makes it makes itself."""
