"""A cardiac phantom: short-axis images with labels, made from a seed, in three domains.

Every subject has an anatomy of its own; the domains differ as scanners and sequences do:

* ``cine``: balanced steady-state cine, blood bright, myocardium grey, as in ACDC.
* ``t1``: inversion recovery. Each slice has its own inversion time, so blood may be brighter or
  darker than myocardium, or the same.
* ``rvsc``: cine of another scanner: the field turned and mirrored, coarser pixels, other contrast.

It stands in where real images may not be shipped: demo, tests, first trials. It is no substitute
for them in a study.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Literal, TypeAlias

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from paramreuse.data.phantom_anatomy import Array, Tissue, cut_plane, draw_anatomy, smooth_noise
from paramreuse.data.slices import ImageSet, ImageSlice
from paramreuse.data.subjects import find_subject
from paramreuse.errors import DataError

CLASSES = ("background", "RV", "myocardium", "LV")
INVERSION_TIMES_MS = (100, 180, 260, 400, 600, 900, 1200, 1600, 2100, 2800, 3900)

Domain: TypeAlias = Literal["cine", "t1", "rvsc"]


@dataclass(frozen=True, slots=True)
class _Scanner:
    """How a domain sees the tissues.

    Attributes:
        stream: Number that keeps the domains' random streams apart.
        field_of_view_mm: Of the longer side.
        brightness: Per tissue; of a fully recovered magnetisation in an inversion recovery.
        relaxation_ms: T1 per tissue, or none where the contrast is not an inversion recovery.
        blur_px: Smallest and largest standard deviation of the point spread.
        noise: Smallest and largest noise in units of the brightest tissue.
        turned: Whether rows and columns change places.
    """

    stream: int
    field_of_view_mm: float
    brightness: Mapping[Tissue, float]
    blur_px: tuple[float, float]
    noise: tuple[float, float]
    relaxation_ms: Mapping[Tissue, float] | None = None
    turned: bool = False


def _per_tissue(*values: float) -> dict[Tissue, float]:
    return dict(zip(Tissue, values, strict=True))


# Columns: air, lung, muscle, fat, liver, stomach, pericardium, myocardium, blood.
# T1 at 1.5 T after Bojorquez et al. (2017), Magn. Reson. Imaging 35, table 1.
_SCANNERS: Mapping[str, _Scanner] = {
    "cine": _Scanner(
        stream=1,
        field_of_view_mm=144.0,
        brightness=_per_tissue(0.01, 0.08, 0.32, 0.88, 0.45, 0.58, 0.12, 0.38, 1.00),
        blur_px=(0.55, 0.85),
        noise=(0.02, 0.05),
    ),
    "t1": _Scanner(
        stream=2,
        field_of_view_mm=152.0,
        brightness=_per_tissue(0.01, 0.12, 0.80, 0.95, 0.85, 0.80, 0.25, 0.85, 1.00),
        blur_px=(0.6, 0.9),
        noise=(0.02, 0.05),
        relaxation_ms=_per_tissue(3000, 1200, 1000, 300, 600, 900, 1000, 1000, 1600),
    ),
    "rvsc": _Scanner(
        stream=3,
        field_of_view_mm=164.0,
        brightness=_per_tissue(0.02, 0.15, 0.42, 0.60, 0.30, 0.75, 0.20, 0.48, 0.92),
        blur_px=(0.55, 0.85),
        noise=(0.03, 0.07),
        turned=True,
    ),
}


def read_phantom(
    root: str | PathLike[str] | None = None,
    *,
    domain: Domain = "cine",
    subjects: int = 40,
    seed: int = 0,
    slices: int = 10,
    size: int | tuple[int, int] = 96,
) -> ImageSet:
    """List the subjects of a phantom; images are made when a subject is read.

    Subject i of a seed is the same, bit for bit, whatever the number of subjects. Global random
    states are neither used nor moved.

    Args:
        root: Ignored; every reader has it.
        domain: ``"cine"``, ``"t1"`` or ``"rvsc"``.
        subjects: Number of subjects.
        seed: Of the whole set; the domains of one seed hold different people.
        slices: Slices per subject. Cine: the first half in end-diastole, the second half in
            end-systole, each from base to apex. T1: from base to apex, each with another inversion
            time.
        size: Rows and columns of a slice. The field of view stays the same, so a smaller size
            means larger pixels.

    Returns:
        The set, with classes background, RV, myocardium, LV. Papillary muscles and trabeculae count
        to the cavity around them, the RV's free wall to the background, as in ACDC.

    Raises:
        DataError: An option is out of its range.

    Examples:
        >>> phantom = read_phantom(domain="t1", subjects=2)
        >>> phantom.subjects
        ('t1-0000', 't1-0001')
        >>> phantom.read_subject("t1-0000")[0].image.shape
        torch.Size([1, 96, 96])
    """
    shape = (size, size) if isinstance(size, int) else tuple(size)
    if domain not in _SCANNERS:
        raise DataError(
            f"cannot make a phantom: domain is {domain!r}, expected one of {list(_SCANNERS)}"
        )
    smallest = {"subjects": (subjects, 1), "slices": (slices, 1), "seed": (seed, 0)}
    for name, (value, least) in smallest.items():
        if not isinstance(value, int) or value < least:
            raise DataError(
                f"cannot make a phantom: {name} is {value!r}, expected a whole number "
                f"from {least} up"
            )
    if len(shape) != 2 or not all(isinstance(side, int) and side >= 16 for side in shape):
        raise DataError(
            f"cannot make a phantom: size is {size!r}, expected rows and columns from 16 up"
        )
    numbers = {f"{domain}-{index:04d}": index for index in range(subjects)}
    read = partial(
        _read_subject, domain=domain, seed=seed, numbers=numbers, num_slices=slices, shape=shape
    )
    return ImageSet(classes=CLASSES, subjects=tuple(sorted(numbers)), read_subject=read)


def _read_subject(
    subject: str,
    *,
    domain: str,
    seed: int,
    numbers: Mapping[str, int],
    num_slices: int,
    shape: tuple[int, int],
) -> list[ImageSlice]:
    index = find_subject(numbers, subject)
    scanner = _SCANNERS[domain]
    rng = np.random.default_rng([seed, scanner.stream, index])
    return _Session(rng, scanner, shape).scan(subject, num_slices)


class _Session:
    """One subject in one scanner: what stays the same from slice to slice."""

    def __init__(self, rng: np.random.Generator, scanner: _Scanner, shape: tuple[int, int]) -> None:
        self.rng, self.scanner, self.shape = rng, scanner, shape
        self.anatomy = draw_anatomy(rng)
        self.spacing_mm = scanner.field_of_view_mm / max(shape)
        self.gain = rng.uniform(400.0, 900.0)
        self.tissue_factor = rng.normal(1.0, 0.08, len(Tissue))
        self.relaxation_factor = rng.normal(1.0, 0.06, len(Tissue))
        self.blur_px = rng.uniform(*scanner.blur_px)
        self.noise = rng.uniform(*scanner.noise)
        self.coil = rng.normal(0.0, 1.0, 5) * (0.18, 0.25, 0.08, 0.08, 0.08)
        rows, columns = ((np.arange(n) - (n - 1) / 2) * self.spacing_mm for n in shape)
        y, x = np.meshgrid(rows, columns, indexing="ij")
        self.x, self.y = (y, -x) if scanner.turned else (x, y)

    def scan(self, subject: str, num_slices: int) -> list[ImageSlice]:
        if self.scanner.relaxation_ms is not None:
            order = self.rng.permutation(len(INVERSION_TIMES_MS))
            times = [INVERSION_TIMES_MS[order[k % len(order)]] for k in range(num_slices)]
            return [
                self._slice(f"{subject} TI {time} ms slice {k + 1}", subject, level, 0.15, time)
                for k, (level, time) in enumerate(zip(_levels(num_slices), times, strict=True))
            ]
        num_diastole = (num_slices + 1) // 2
        frames = (("ED", 0.0, num_diastole), ("ES", 1.0, num_slices - num_diastole))
        return [
            self._slice(f"{subject} {frame} slice {k + 1}", subject, level, systole)
            for frame, systole, number in frames
            for k, level in enumerate(_levels(number))
        ]

    def _slice(
        self, name: str, subject: str, level: float, systole: float, time_ms: float | None = None
    ) -> ImageSlice:
        texture = smooth_noise(self.rng, self.shape, 2.4 / self.spacing_mm)
        tissue, labels = cut_plane(
            self.anatomy, self.x, self.y, level=level, systole=systole, texture=texture
        )
        image = self._signal(time_ms)[tissue] * (1.0 + 0.05 * texture)
        image = gaussian_filter(image * self._coil_field(), self.blur_px)
        noisy = np.hypot(
            image + self.noise * self.rng.standard_normal(self.shape),
            self.noise * self.rng.standard_normal(self.shape),
        )  # a magnitude image: both channels of the receiver are noisy (Rician)
        pixels = torch.from_numpy((self.gain * noisy).astype(np.float32))
        return ImageSlice(
            image=pixels[None],
            labels=torch.from_numpy(labels),
            spacing_mm=(self.spacing_mm, self.spacing_mm),
            subject=subject,
            name=name,
        )

    def _signal(self, time_ms: float | None) -> Array:
        """Return the brightness of each tissue, blood being a little different in every slice."""
        signal = np.array([self.scanner.brightness[t] for t in Tissue]) * self.tissue_factor
        signal[Tissue.BLOOD] *= self.rng.uniform(0.82, 1.08)
        if time_ms is not None and self.scanner.relaxation_ms is not None:
            relaxation = np.array([self.scanner.relaxation_ms[t] for t in Tissue])
            relaxation = relaxation * self.relaxation_factor
            signal = signal * np.abs(1.0 - 2.0 * np.exp(-time_ms / relaxation))
        return signal

    def _coil_field(self) -> Array:
        """Return the sensitivity of a surface coil: smooth, brighter towards the chest wall."""
        half = self.scanner.field_of_view_mm / 2
        x, y = self.x / half, self.y / half
        a, b, c, d, e = self.coil
        field: Array = np.exp(a * x + (b - 0.25) * y + c * x * y + d * x**2 + e * y**2)
        return field


def _levels(number: int) -> list[float]:
    """Return evenly spaced levels, from just below the base to just above the apex."""
    return [(index + 0.5) / number for index in range(number)]
