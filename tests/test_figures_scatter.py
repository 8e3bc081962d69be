"""The scatter plot: every point is where its numbers say, in the colour of its group."""

import numpy as np
import pytest

from mixup_modalities.lab import figures

GROUPS = {"word": ([0.1, 0.2], [1.0, -1.0]), "hidden": ([0.3], [2.0])}


def test_every_point_is_drawn_in_the_colour_of_its_group():
    figure = figures.plot_scatter({"left": GROUPS, "right": GROUPS}, xlabel="error", ylabel="gain", level_line=0.0)
    axes = figures.panel_axes(figure)
    assert [ax.get_title() for ax in axes] == ["left", "right"]
    for ax in axes:
        level, *groups = ax.lines
        assert set(level.get_ydata()) == {0.0}
        for line, (name, (x, y)) in zip(groups, GROUPS.items(), strict=True):
            np.testing.assert_allclose(line.get_xydata(), np.column_stack([x, y]))
            assert line.get_color() == figures.COLORS[name] and line.get_label() == name
    assert len({line.get_marker() for line in axes[0].lines[1:]}) == 2  # told apart without colour too
    assert "left / word / hidden" in figures.alt_text(figure)


def test_one_group_needs_no_legend():
    one, two = {"word": GROUPS["word"]}, GROUPS
    for groups, expected in ((one, None), (two, ["word", "hidden"])):
        (ax,) = figures.panel_axes(figures.plot_scatter({"": groups}, xlabel="error", ylabel="gain"))
        legend = ax.get_legend()
        assert (legend and [text.get_text() for text in legend.get_texts()]) == expected


def test_no_level_line_unless_asked_for():
    (ax,) = figures.panel_axes(figures.plot_scatter({"": GROUPS}, xlabel="error", ylabel="gain"))
    assert len(ax.lines) == len(GROUPS)


def test_the_slanted_line_starts_at_the_origin_and_ends_above_the_last_point():
    (ax,) = figures.panel_axes(figures.plot_scatter({"": GROUPS}, xlabel="count", ylabel="clock", slanted_line=2.0))
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), [[0, 0], [0.3, 0.6]])


@pytest.mark.parametrize(
    ("panels", "message"),
    [({}, "at least one group"), ({"a": {}}, "at least one group"), ({"a": {"x": ([1.0], [])}}, "1 and 0"),
     ({"a": {"x": ([1.0, 2.0], [1.0])}}, "2 and 1"), ({"a": {"x": ([1.0], [float("nan")])}}, "finite values"),
     ({"a": {"x": ([float("inf")], [1.0])}}, "finite values")],
)  # fmt: skip
def test_what_cannot_be_drawn(panels, message):
    with pytest.raises(ValueError, match=message):
        figures.plot_scatter(panels, xlabel="error", ylabel="gain")
