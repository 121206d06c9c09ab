"""Figures of a report: drawn where what they show is new, left alone where it is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from paramreuse.report.figures import plot_sweep
from paramreuse.sites.swaps import single_swaps
from paramreuse.study.drawn_figures import Drawing, write_figures
from paramreuse.training.trackers import Untracked
from samples.report import pilot_sweep, pspnet_sites


class Counted:
    """A figure that counts how often it is drawn."""

    def __init__(self) -> None:
        self.drawn = 0

    def drawings(self) -> Iterator[Drawing]:
        yield Drawing("one", "sweep", self.draw)

    def draw(self) -> Figure:
        self.drawn += 1
        sweep = pilot_sweep(single_swaps(pspnet_sites()[:6]), num_subjects=3)
        figure = plot_sweep(sweep).figure
        assert isinstance(figure, Figure)
        return figure


class Listening(Untracked):
    def __init__(self) -> None:
        self.names: list[str] = []

    def log_figure(self, name: str, figure: Figure) -> None:
        self.names.append(name)


def test_a_figure_is_drawn_again_only_where_its_table_has_changed(tmp_path: Path) -> None:
    one = Counted()

    write_figures(one.drawings(), tmp_path, {"sweep": "a,b"}, Untracked())
    first = (tmp_path / "one.svg").read_bytes()
    write_figures(one.drawings(), tmp_path, {"sweep": "a,b"}, Untracked())
    assert one.drawn == 1

    write_figures(one.drawings(), tmp_path, {"sweep": "a,c"}, Untracked())
    assert one.drawn == 2
    assert (tmp_path / "one.svg").read_bytes() != first


@pytest.mark.parametrize("content", [b"", b"<svg></svg>"])
def test_a_file_that_is_damaged_or_of_an_earlier_version_is_replaced(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "one.svg").write_bytes(content)
    one = Counted()

    write_figures(one.drawings(), tmp_path, {"sweep": "a,b"}, Untracked())

    assert one.drawn == 1
    assert (tmp_path / "one.svg").read_bytes().endswith(b"</svg>\n")


def test_where_a_tracker_takes_figures_every_one_is_drawn(tmp_path: Path) -> None:
    one, tracker = Counted(), Listening()
    write_figures(one.drawings(), tmp_path, {"sweep": "a,b"}, Untracked())

    write_figures(one.drawings(), tmp_path, {"sweep": "a,b"}, tracker)

    assert one.drawn == 2
    assert tracker.names == ["one"]
