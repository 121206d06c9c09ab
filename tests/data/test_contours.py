from pathlib import Path

import numpy as np
import pytest

from paramreuse.data.formats.contours import fill_contour, read_contour
from paramreuse.errors import DataError
from samples.image_files import box, write_contour


def test_a_contour_fills_the_pixels_whose_centres_are_inside_or_on_it() -> None:
    mask = fill_contour(np.array(box(1.0, 2.0, 3.0, 2.6)), (5, 6))
    # x 1..3, y 2..2.6: row 2 alone, columns 1 to 3. Rounding y up would add row 3.
    expected = np.zeros((5, 6), dtype=bool)
    expected[2, 1:4] = True
    np.testing.assert_array_equal(mask, expected)


def test_x_is_the_column_and_y_the_row() -> None:
    mask = fill_contour(np.array([*box(4.0, 0.0, 5.0, 0.0), (5.0, 1.0)]), (2, 6))
    assert mask[0, 4]
    assert mask[0, 5]
    assert not mask[0, 0]


def test_an_open_and_a_closed_contour_fill_the_same() -> None:
    closed = np.array(box(0.2, 0.2, 3.7, 2.2))
    np.testing.assert_array_equal(fill_contour(closed, (4, 5)), fill_contour(closed[:-1], (4, 5)))


def test_direction_does_not_matter() -> None:
    points = np.array([(1.2, 1.1), (6.3, 2.2), (4.1, 6.4), (2.2, 5.0)])
    np.testing.assert_array_equal(fill_contour(points, (8, 8)), fill_contour(points[::-1], (8, 8)))


def test_a_contour_drawn_twice_stays_filled() -> None:
    once = np.array(box(1.0, 1.0, 4.0, 4.0))
    # By the even-odd rule the second round would empty it.
    np.testing.assert_array_equal(
        fill_contour(np.concatenate([once, once]), (6, 6)), fill_contour(once, (6, 6))
    )


def test_filling_agrees_with_matplotlib_away_from_the_outline() -> None:
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
    radii = rng.uniform(6.0, 14.0, 40)
    points = np.stack([20 + radii * np.cos(angles), 16 + radii * np.sin(angles)], axis=1)
    rows, columns = np.mgrid[:33, :41]
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1)
    expected = Outline(points).contains_points(centres).reshape(33, 41)
    np.testing.assert_array_equal(fill_contour(points, (33, 41)), expected)


def test_a_text_contour_is_read_with_windows_line_ends(tmp_path: Path) -> None:
    write_contour(tmp_path / "c.txt", [(1, 2), (3.25, 2), (3, 4)])
    points = read_contour(tmp_path / "c.txt", (8, 8))
    assert points.tolist() == [[1.0, 2.0], [3.25, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1\n5 1\n1 1\n", "it has 2 different points, expected 3 or more"),
        ("", "it has 0 different points"),
        ("1 1\n\n5 1\n5 9\n", r"c\.txt, line 4: the point x=5, y=9 is outside .* 8 rows"),
        ("1 1\n5 1\n-0.6 3\n", r"line 3: the point x=-0\.6"),
        ("1 1\n5 1\nnan 3\n", "line 3: the point x=nan"),
        ("1 1\n5;1\n3 3\n", r"c\.txt, line 2: it is '5;1', expected two numbers"),
        ("1 1\n5 1 2\n3 3\n", "line 2: it is '5 1 2'"),
    ],
)
def test_a_bad_contour_is_named_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_contour(tmp_path / "c.txt", (8, 8))
    assert str(tmp_path / "c.txt") in str(caught.value)


def test_a_contour_may_reach_the_edge_of_the_image() -> None:
    assert fill_contour(np.array(box(-0.5, -0.5, 3.5, 2.5)), (3, 4)).all()


def test_a_file_that_is_far_too_long_for_a_contour_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    with path.open("wb") as stream:
        stream.truncate(200_000_000)

    with pytest.raises(DataError, match=r"it has 200000000 bytes, expected at most 1048576"):
        read_contour(path, (8, 8))
