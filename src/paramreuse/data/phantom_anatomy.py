"""The phantom's anatomy: which tissue, and which label, is at each point of a short-axis plane.

Lengths are millimetres. A plane is seen from below as usual: the right ventricle on the left, the
chest wall above, the liver below left, the descending aorta below right.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Array = npt.NDArray[np.float64]

LABEL_RV, LABEL_MYOCARDIUM, LABEL_LV = 1, 2, 3


class Tissue(IntEnum):
    """What a point is made of; several classes of the labels share one, as in a real heart."""

    AIR = 0
    LUNG = 1
    MUSCLE = 2
    FAT = 3
    LIVER = 4
    STOMACH = 5
    PERICARDIUM = 6
    MYOCARDIUM = 7
    BLOOD = 8


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One subject's heart and what is around it.

    Attributes:
        lv_radius_mm: Radius of the LV cavity at the base in end-diastole.
        wall_mm: Thickness of the myocardium in end-diastole.
        contraction: End-systolic over end-diastolic LV radius.
        ellipticity: Ratio of the LV's half axes, square-rooted.
        rv_size: RV over LV size.
        rv_depth: Level at which the RV ends; above 1 it reaches the apex.
        rotation: Of the heart in the plane, radians.
        shift_mm: Of the heart in the plane, right and down.
        tilt_mm: Drift of the heart's centre from base to apex, right and down.
        fat_mm: Thickness of the epicardial fat.
        trabeculation: Share of the cavity's rim that is muscle, 0 to 1.
        harmonics: Amplitude and phase of the wall's 2nd to 5th angular harmonic, ``(4, 2)``.
        waves: Warp of the plane: per wave direction x, y (radians per mm), phase and amplitude in
            mm of both components, ``(6, 5)``.
        papillaries: Angle, distance from the centre (share of the radius) and size (share of the
            radius) of each papillary muscle, ``(2, 3)``.
        chest_mm: Distance of the chest wall from the heart's centre.
        liver_mm: How far the liver reaches up.
        posture: Rotation of everything but the heart, radians.
        aorta: Centre right, down, and radius of the descending aorta, mm.
    """

    lv_radius_mm: float
    wall_mm: float
    contraction: float
    ellipticity: float
    rv_size: float
    rv_depth: float
    rotation: float
    shift_mm: Array
    tilt_mm: Array
    fat_mm: float
    trabeculation: float
    harmonics: Array
    waves: Array
    papillaries: Array
    chest_mm: float
    liver_mm: float
    posture: float
    aorta: Array


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one subject; consumes a fixed number of random values."""
    waves = np.column_stack(
        (
            rng.normal(0.0, 0.055, (6, 2)),
            rng.uniform(0.0, 2 * np.pi, 6),
            rng.normal(0.0, 1.1, (6, 2)),
        )
    )
    harmonics = np.column_stack(
        (rng.normal(0.0, 0.03, 4) / np.arange(1, 5), rng.uniform(0.0, 2 * np.pi, 4))
    )
    papillaries = np.column_stack(
        (
            np.array([-1.0, 1.1]) + rng.normal(0.0, 0.3, 2),
            rng.uniform(0.5, 0.72, 2),
            rng.uniform(0.13, 0.24, 2),
        )
    )
    return Anatomy(
        lv_radius_mm=rng.uniform(18.0, 28.0),
        wall_mm=float(np.clip(rng.normal(9.0, 2.2), 5.5, 15.0)),
        contraction=rng.uniform(0.55, 0.88),
        ellipticity=rng.uniform(0.92, 1.08),
        rv_size=rng.uniform(0.8, 1.25),
        rv_depth=rng.uniform(0.85, 1.2),
        rotation=rng.normal(0.0, 0.3),
        shift_mm=rng.normal(0.0, 6.0, 2),
        tilt_mm=rng.normal(0.0, 4.0, 2),
        fat_mm=rng.uniform(0.5, 7.0),
        trabeculation=rng.uniform(0.1, 0.6),
        harmonics=harmonics,
        waves=waves,
        papillaries=papillaries,
        chest_mm=rng.uniform(36.0, 56.0),
        liver_mm=rng.uniform(-8.0, 24.0),
        posture=rng.normal(0.0, 0.2),
        aorta=np.array([rng.normal(44.0, 5.0), rng.normal(46.0, 5.0), rng.uniform(8.5, 12.5)]),
    )


def cut_plane(
    anatomy: Anatomy, x: Array, y: Array, *, level: float, systole: float, texture: Array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut the body at a level of the heart.

    Args:
        anatomy: The subject.
        x: Place to the right of the field's centre, shape ``(H, W)``, mm.
        y: Place below the field's centre, shape ``(H, W)``, mm.
        level: From 0, the base, to 1, the apex.
        systole: From 0, end-diastole, to 1, end-systole.
        texture: Smooth noise with standard deviation 1, shape ``(H, W)``; where it is high,
            trabeculae, vessels and fat are.

    Returns:
        Tissue and label of each point, both of shape ``(H, W)``.
    """
    x, y = _warp(anatomy.waves, x, y)
    tissue = _surroundings(anatomy, x, y, texture)
    # Fat gathers in the grooves: it varies over centimetres, the texture over millimetres.
    coarse = np.sin(0.07 * x + anatomy.harmonics[0, 1]) + np.cos(0.09 * y + anatomy.harmonics[1, 1])
    labels = np.zeros_like(tissue)

    shift = anatomy.shift_mm + level * anatomy.tilt_mm
    # The LV lies right of the heart's centre, the RV left of it.
    right, down = x - shift[0] - 11.0, y - shift[1]
    cos, sin = np.cos(anatomy.rotation), np.sin(anatomy.rotation)
    u, v = cos * right + sin * down, cos * down - sin * right

    distance = np.hypot(u * anatomy.ellipticity, v / anatomy.ellipticity)
    angle = np.arctan2(v, u)
    amplitude, phase = anatomy.harmonics[:, 0], anatomy.harmonics[:, 1]
    ripple = sum(amplitude[k] * np.cos((k + 2) * angle + phase[k]) for k in range(4))
    taper = np.sqrt(1.0 - (0.9 * level) ** 2)
    contraction = 1.0 - systole * (1.0 - anatomy.contraction)
    endo = anatomy.lv_radius_mm * taper * contraction * (1.0 + ripple)
    wall = anatomy.wall_mm * (1.0 - 0.25 * level) * (1.0 + 0.55 * (1.0 - contraction))
    epi = endo + wall * (1.0 + 1.5 * amplitude[-1] * np.cos(2 * angle))

    rv = _rv_distance(anatomy, u, v, level=level, contraction=contraction, systole=systole)
    outline = np.minimum(distance - epi, rv - 3.0)
    tissue[outline < anatomy.fat_mm * (1.0 + 0.9 * coarse)] = Tissue.FAT
    tissue[(outline >= 0) & (outline < 1.2)] = Tissue.PERICARDIUM
    tissue[rv < 3.0] = Tissue.MYOCARDIUM
    _fill(tissue, labels, rv < 0, Tissue.BLOOD, LABEL_RV)
    _fill(tissue, labels, distance < epi, Tissue.MYOCARDIUM, LABEL_MYOCARDIUM)
    _fill(tissue, labels, distance < endo, Tissue.BLOOD, LABEL_LV)

    rim = 1.3 - anatomy.trabeculation
    in_lv = distance < endo
    tissue[in_lv & (distance > endo - 3.5) & (texture > rim)] = Tissue.MYOCARDIUM
    tissue[(labels == LABEL_RV) & (rv > -7.0) & (texture > rim - 0.1)] = Tissue.MYOCARDIUM
    for papillary, share, size in anatomy.papillaries:
        reach = endo.mean() * (1.0 - 0.15 * systole)
        away = np.hypot(
            u - reach * share * np.cos(papillary), v - reach * share * np.sin(papillary)
        )
        # Papillary muscles reach from the middle of the cavity towards the apex.
        tissue[in_lv & (away < reach * size * min(1.0, 3.0 * level))] = Tissue.MYOCARDIUM
    return tissue, labels


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> Array:
    """Draw a field of mean 0 and standard deviation 1 whose features are ``sigma_px`` wide."""
    field: Array = gaussian_filter(rng.standard_normal(shape), sigma_px, mode="wrap")
    field -= field.mean()
    spread = float(field.std())
    return field / spread if spread > 0 else field


def _warp(waves: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Bend the plane by a few long waves, so that no outline is an exact ellipse."""
    dx, dy = np.zeros_like(x), np.zeros_like(y)
    for kx, ky, phase, right, down in waves:
        wave = np.sin(kx * x + ky * y + phase)
        dx += right * wave
        dy += down * wave
    return x + dx, y + dy


def _rv_distance(
    anatomy: Anatomy, u: Array, v: Array, *, level: float, contraction: float, systole: float
) -> Array:
    """Return about how far a point is outside the RV's free wall, in mm; negative inside."""
    epi = anatomy.lv_radius_mm + anatomy.wall_mm
    depth = min(1.0, level / anatomy.rv_depth)
    taper = np.sqrt(1.0 - depth**2) * (1.0 - 0.2 * systole)
    centre = -epi * (0.86 - 0.36 * level) * (0.6 + 0.4 * contraction)
    half_u = max(0.85 * epi * anatomy.rv_size * taper, 1e-3)
    half_v = max(1.0 * epi * anatomy.rv_size * taper, 1e-3)
    ratio = np.hypot((u - centre) / half_u, (v - 0.05 * epi) / half_v)
    distance: Array = (ratio - 1.0) * min(half_u, half_v)
    return distance


def _surroundings(anatomy: Anatomy, x: Array, y: Array, texture: Array) -> npt.NDArray[np.int64]:
    cos, sin = np.cos(anatomy.posture), np.sin(anatomy.posture)
    x, y = cos * x + sin * y, cos * y - sin * x
    tissue = np.full(x.shape, Tissue.LUNG, dtype=np.int64)
    tissue[texture > 2.3] = Tissue.BLOOD  # vessels of the lung
    stomach = np.hypot((x - 38.0) / 34.0, (y - 78.0 + anatomy.liver_mm) / 26.0)
    tissue[stomach < 1.0] = Tissue.STOMACH
    liver = np.hypot((x + 38.0) / 62.0, (y - 76.0 + anatomy.liver_mm) / 34.0)
    tissue[liver < 1.0] = Tissue.LIVER
    tissue[(liver < 0.9) & (texture > 1.7)] = Tissue.BLOOD  # vessels of the liver
    aorta = np.hypot(x - anatomy.aorta[0], y - anatomy.aorta[1]) - anatomy.aorta[2]
    tissue[aorta < 2.0 + 1.5 * texture] = Tissue.MUSCLE
    tissue[aorta < 0.0] = Tissue.BLOOD
    # Chest wall: a shallow arc above and to the left; ribs' muscle, fat under the skin, air.
    chest = -0.45 * x - 0.89 * y + 0.002 * (0.89 * x - 0.45 * y) ** 2 - anatomy.chest_mm
    tissue[chest > -5.0 + 3.0 * texture] = Tissue.FAT
    tissue[chest > -1.0 + texture] = Tissue.MUSCLE
    tissue[chest > 11.0] = Tissue.FAT
    tissue[chest > 24.0] = Tissue.AIR
    return tissue


def _fill(
    tissue: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    where: npt.NDArray[np.bool_],
    kind: Tissue,
    label: int,
) -> None:
    tissue[where] = kind
    labels[where] = label
