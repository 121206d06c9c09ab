"""Patients as the ACDC data set keeps them; no tests."""

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (5, 7, 3)


def write_volume(path: Path, volume: np.ndarray, zooms=(1.25, 1.5, 10.0)) -> None:
    nib.save(nib.Nifti1Image(volume, np.diag([*zooms, 1.0])), path)


def write_patient(folder: Path, ed: int = 1, es: int = 4, *, labelled: bool = True) -> Path:
    """A patient whose image holds the frame number, and whose labels mark one corner."""
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(
        f"ED: {ed}\nES: {es}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\n"
    )
    for number in (ed, es):
        name = f"{folder.name}_frame{number:02d}"
        image = np.full(SHAPE, number, dtype=np.int16)
        labels = np.zeros(SHAPE, dtype=np.uint8)
        image[1, 2, 0], labels[1, 2, 0] = 900, 3
        write_volume(folder / f"{name}.nii.gz", image)
        if labelled:
            write_volume(folder / f"{name}_gt.nii.gz", labels)
    return folder
