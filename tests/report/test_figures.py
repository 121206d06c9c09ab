"""Figures: the numbers that are drawn, and that nothing global is touched."""

import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paramreuse.errors import ScoreError
from paramreuse.recommendation.audit import BlockAudit
from paramreuse.report.block_figures import plot_depth_curve, plot_rewind
from paramreuse.report.figures import (
    class_styles,
    figure_sweep,
    map_columns,
    plot_batchnorm,
    plot_distance,
    plot_map,
    plot_sweep,
    plot_transfer,
)
from paramreuse.reuse.verdict import judge
from paramreuse.sites.swaps import layer_swaps, single_swaps
from paramreuse.sweep.outcomes import Sweep
from samples.report import (
    batchnorm_rows,
    comparison_rows,
    pilot_sweep,
    pspnet_sites,
    transfer_rows,
)


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return pilot_sweep(single_swaps(pspnet_sites()[:24]), num_subjects=4)


def lines_of(axes: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in axes.lines}


def test_a_sweep_is_drawn_as_scores_by_layer_with_the_baselines(sweep: Sweep) -> None:
    axes = plot_sweep(sweep, kind="W")

    rv = sweep.frame().query("kind == 'W' and `class` == 'RV' and replacement == 'source'")
    np.testing.assert_array_equal(lines_of(axes)["RV"], rv["score"])
    levels = [line.get_ydata()[0] for line in axes.lines if len(line.get_ydata()) == 2]
    np.testing.assert_allclose(sorted(levels), sorted(sweep.baseline_scores().values()))
    assert axes.get_xticks()[0] == 1


def test_every_kind_that_was_swept_has_a_panel(sweep: Sweep) -> None:
    figure = figure_sweep(sweep)

    assert [axes.get_title() for axes in figure.axes] == ["W", "B", "RM", "RV", "RW", "RB"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_a_control_is_drawn_on_request(sweep: Sweep) -> None:
    control = lines_of(plot_sweep(sweep, replacement="shuffled"))["mean"]

    assert not np.array_equal(control, lines_of(plot_sweep(sweep))["mean"])


def test_a_kind_that_was_not_swept_is_an_error_that_lists_the_others(sweep: Sweep) -> None:
    with pytest.raises(ScoreError, match=r"cannot draw kind 'Q'.*\['B', 'RB', 'RM'"):
        plot_sweep(sweep, kind="Q")


def test_a_sweep_without_single_swaps_cannot_be_drawn() -> None:
    layers = pilot_sweep(layer_swaps(pspnet_sites()[:12]), num_subjects=3)

    with pytest.raises(ScoreError, match="swapped no site by itself"):
        figure_sweep(layers)
    with pytest.raises(ScoreError, match="judges no site by itself"):
        plot_map(judge(layers))


def test_distance_shows_where_tensors_are_unrelated() -> None:
    rows = comparison_rows(pspnet_sites(), 0.5)
    frame = pd.DataFrame(rows)

    axes = plot_distance(pd.concat([frame.assign(source=name) for name in ("a", "b")]))

    assert set(lines_of(axes)) >= {"a", "b"}
    assert [1, 1] in [list(line.get_ydata()) for line in axes.lines]
    kernels = [row["relative_rmse"] for row in rows if row["kind"] == "W"]
    np.testing.assert_array_equal(lines_of(axes)["a"], kernels)
    assert len(plot_distance(frame, measure="rmse").lines) == 1


def test_batchnorm_draws_shifts_and_scales_and_leaves_out_infinity() -> None:
    frame = pd.DataFrame(batchnorm_rows(1)).assign(mrv=np.inf)

    lines = lines_of(plot_batchnorm(frame))

    np.testing.assert_array_equal(lines["MRM, shift"], frame["mrm"])
    assert np.isnan(lines["MRV, scale"]).all()


def test_the_map_has_a_cell_with_a_sign_per_site(sweep: Sweep) -> None:
    verdict = judge(sweep)
    axes = plot_map(verdict)

    assert len(axes.patches) == 24
    signs = [text.get_text() for text in axes.texts]
    assert signs.count("✓") == sum(j.verdict == "reusable" for j in verdict.judgements)
    assert len(plot_map(verdict.frame()).patches) == 24


def test_a_normalisation_stands_under_the_kernel_in_front_of_it() -> None:
    families = ["conv", "norm", "conv", "conv", "norm", "norm"]

    assert map_columns(families, list("abcdef")) == {"a": 0, "b": 0, "c": 1, "d": 2, "e": 2, "f": 3}


def test_transfer_shows_each_seed_and_the_mean() -> None:
    rows = [row for row in transfer_rows() if row["strategy"] == "full"]
    axes = plot_transfer(pd.DataFrame(rows))

    drawn = np.concatenate([line.get_ydata() for line in axes.lines])

    assert {row["mean"] for row in rows} <= set(drawn)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["full"]
    assert plot_transfer(pd.DataFrame(rows).assign(source="t1")).get_xticklabels()[
        0
    ].get_text() == ("full · t1")


def test_many_classes_keep_styles_of_their_own() -> None:
    names = [f"class {n}" for n in range(13)]

    styles = class_styles(names, [False] + [True] * 12)

    assert len({(colour, dashes) for colour, dashes, _ in styles.values()}) == 14


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_figures_need_no_display_and_leave_no_global_state(sweep: Sweep, ending: str) -> None:
    before = "matplotlib.pyplot" in sys.modules
    axes = plot_sweep(sweep)
    buffer = BytesIO()

    axes.figure.savefig(buffer, format=ending)

    assert len(buffer.getvalue()) > 5000
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_a_figure_is_drawn_into_the_axes_given(sweep: Sweep) -> None:
    draw: list[Callable[[Axes], Axes]] = [
        lambda ax: plot_sweep(sweep, ax=ax),
        lambda ax: plot_map(judge(sweep), ax=ax),
        lambda ax: plot_distance(pd.DataFrame(comparison_rows(pspnet_sites(), 0.5)), ax=ax),
        lambda ax: plot_batchnorm(pd.DataFrame(batchnorm_rows(1)), ax=ax),
        lambda ax: plot_transfer(pd.DataFrame(transfer_rows()), ax=ax),
    ]
    for into in draw:
        axes = Figure().subplots()
        assert into(axes) is axes


def test_a_class_that_counts_for_no_subject_leaves_the_others_drawn(sweep: Sweep) -> None:
    baseline = sweep.baseline.copy()
    baseline[:, 3] = np.nan

    lines = lines_of(plot_sweep(replace(sweep, baseline=baseline)))

    assert np.isnan(lines["LV"]).all()
    assert np.isfinite(lines["RV"]).all()


def test_one_site_can_be_drawn() -> None:
    one = pilot_sweep(single_swaps(pspnet_sites()[:1]), num_subjects=2)

    figure_sweep(one).savefig(BytesIO(), format="svg")
    plot_map(judge(one)).figure.savefig(BytesIO(), format="svg")


def test_figures_take_what_was_measured_and_axes_by_position() -> None:
    from matplotlib.figure import Figure

    import paramreuse as pr
    from paramreuse.networks import unet

    target, source = unet(width=2).eval(), unet(width=2).eval()
    axes = Figure().subplots()

    assert pr.plot_distance(pr.compare_models(target, source), axes) is axes
    assert len(axes.lines[0].get_xdata()) == 19
    norms = pr.plot_batchnorm(pr.compare_batchnorms(target, source), Figure().subplots())
    assert len(norms.lines[0].get_xdata()) == 18


def test_the_depth_curve_has_a_line_per_source_from_front_to_back() -> None:
    rows = [
        {"source": source, "share": share, "gain": gain, "gain_low": gain - 0.1, "gain_high": 0.4}
        for source in ("ae", "t1")
        for share, gain in ((0.5, 0.3), (0.0, 0.0), (1.0, 0.2))
    ]

    axes = plot_depth_curve(pd.DataFrame(rows))

    lines = [line for line in axes.lines if line.get_label() in ("ae", "t1")]
    assert [list(line.get_ydata()) for line in lines] == [[0.0, 0.3, 0.2]] * 2
    assert list(lines[0].get_xdata()) == pytest.approx([0, 50, 100], abs=1)
    # One bar per point, and scratch at 0.
    assert len(axes.lines) == 2 * (1 + 3) + 1
    with pytest.raises(ScoreError, match="no prefix of a source was trained"):
        plot_depth_curve(pd.DataFrame())


def test_the_rewind_figure_has_a_dot_per_block_and_replacement() -> None:
    audits = [BlockAudit("front", 0.1, 0.5, (0.0, 0.2), (0.4, 0.6)), BlockAudit("head", 0.0, 0.0)]

    axes = plot_rewind(audits)

    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    assert drawn["back to the source"] == [0.1, 0.0]
    assert drawn["drawn afresh"] == [0.5, 0.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["front", "head"]
    assert axes.get_ylim() == (1.5, -0.5)
    with pytest.raises(ScoreError, match="it has no block"):
        plot_rewind([])
