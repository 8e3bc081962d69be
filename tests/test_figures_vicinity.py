"""Figures of the mathematics: what is drawn is what was given."""

import numpy as np
import pytest

from mixup_modalities.lab import figures

X = np.linspace(0, 1, 5)


def test_lines_keep_their_colour_in_every_panel():
    figure = figures.plot_lines({"a": {"p": (X, X), "q": (X, X**2)}, "b": {"q": (X, 1 - X)}}, xlabel="x", ylabel="y")
    first, second = figures.panel_axes(figure)
    assert first.get_lines()[1].get_color() == second.get_lines()[0].get_color() != first.get_lines()[0].get_color()
    np.testing.assert_array_equal(second.get_lines()[0].get_ydata(), 1 - X)
    assert "a (p, q); b (q)" in figures.alt_text(figure)


def test_each_seed_has_a_line_and_all_of_them_one_entry():
    figure = figures.plot_lines({"a": {"p": (X, np.stack([X, 2 * X])), "q": (X, X**2)}}, xlabel="x", ylabel="y")
    first, second, other = figures.panel_axes(figure)[0].get_lines()
    np.testing.assert_array_equal(second.get_ydata(), 2 * X)
    assert first.get_color() == second.get_color() != other.get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["p", "q"]


def test_ellipse_says_what_its_points_and_axes_are():
    names = {"label": "digits", "xlabel": "pixel 20", "ylabel": "pixel 43, minus its mean"}
    figure = figures.plot_ellipses(np.eye(2), {"mixtures around one digit": 0.1 * np.eye(2)}, **names)
    (ax,) = figures.panel_axes(figure)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("pixel 20", "pixel 43, minus its mean")
    figure.png()  # lays it out
    assert ax.yaxis.label.get_window_extent().x0 >= 0, "cut off at the edge"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "digits",
        "mixtures around one digit",
        "mean",
    ]


def test_ellipse_has_the_widths_of_its_covariance():
    points = np.array([[0.0, 0.0], [2.0, 4.0]])
    (ax,) = figures.panel_axes(figures.plot_ellipses(points, {"c": np.diag([4.0, 1.0])}))
    (ellipse,) = ax.patches
    assert sorted([ellipse.width, ellipse.height]) == pytest.approx([4, 8])
    assert tuple(ellipse.center) == (1, 2)
    longest = np.deg2rad(ellipse.angle if ellipse.width > ellipse.height else ellipse.angle + 90)
    assert abs(np.cos(longest)) == pytest.approx(1)


def test_every_position_of_a_curve_slider_moves_every_curve():
    two = {"p": np.stack([X, 2 * X]), "q": np.stack([-X, 3 * X])}
    marks = {"a": np.array([[0.5, 0.1], [0.25, 0.2]])}
    figure = figures.curve_slider(X, {"a": two, "b": {"p": two["p"]}}, ["0", "1"], xlabel="x", marks=marks, start=1)
    names = [trace.name for trace in figure.data]
    assert sorted(names) == ["minimum", "p", "p", "q"]
    assert figure.layout.showlegend and sum(bool(trace.showlegend) for trace in figure.data) == 3
    for f, frame in enumerate(figure.frames):
        assert list(frame.traces) == list(range(len(figure.data)))
        assert [trace.name for trace in frame.data] == names
        for trace, shown in zip(frame.data, figure.data):
            assert (trace.xaxis, trace.yaxis) == (shown.xaxis, shown.yaxis)
        np.testing.assert_allclose(frame.data[names.index("q")].y, two["q"][f])
        assert tuple(frame.data[names.index("minimum")].x) == (marks["a"][f, 0],)
    assert figure.data[0].x0 == 0 and figure.data[0].dx == 0.25


def test_a_panel_of_a_curve_slider_may_have_an_axis_of_its_own():
    panels = {"a": {"p": X[None]}, "b": {"p": X[None]}}
    own = {"xlabel": {"a": "λ", "b": "min(λ, 1 − λ)"}, "x_ranges": {"b": (0, 0.5)}, "ylabel": "loss"}
    layout = figures.curve_slider(X, panels, ["0"], **own).layout
    assert not layout.showlegend, "one name needs no legend"
    assert [axis.title.text for axis in (layout.xaxis, layout.xaxis2)] == ["λ", "min(λ, 1 − λ)"]
    assert [axis.title.text for axis in (layout.yaxis, layout.yaxis2)] == ["loss", None], "once, at the first panel"
    assert [axis.range for axis in (layout.xaxis, layout.xaxis2)] == [(0, 1), (0, 0.5)]


def test_plane_slider_names_its_axes_and_tells_a_half_from_nothing():
    grids = np.full((1, 2, 2), 0.5)
    figure = figures.plane_slider({"p": grids, "q": grids}, (0, 1, 0, 1), ["0"], beliefs=("p", "q"), columns=1)
    layout = figure.layout
    assert [axis.title.text for axis in (layout.xaxis, layout.xaxis2)] == ["x₁", "x₁"]
    assert [axis.title.text for axis in (layout.yaxis, layout.yaxis2)] == ["x₂", "x₂"]
    (middle,) = [color for where, color in figure.data[0].colorscale if where == 0.5]
    assert max(int(middle[k : k + 2], 16) for k in (1, 3, 5)) < 0.9 * 255


def test_plane_slider_scales_shares_and_leaves_beliefs():
    grids = np.arange(12.0).reshape(2, 2, 3)
    options = {"beliefs": ("q",), "points": np.array([[0.1, 0.2]]), "classes": np.array([1])}
    figure = figures.plane_slider({"p": grids, "q": grids / 12}, (0, 3, 0, 1), ["0", "1"], **options)
    p, q = figure.frames[0].data
    assert np.asarray(p.z).max() == 100 and np.asarray(q.z).max() == round(100 * 5 / 12)
    assert (p.x0, p.dx, p.y0, p.dy) == (0.5, 1.0, 0.25, 0.5)
    assert len(figure.data) == 4, "two heat maps and the points in each"


def test_plane_slider_leaves_blank_what_is_not_known():
    grid = np.array([[[np.nan, 0.5], [1.0, 0.0]]])
    (heat,) = figures.plane_slider({"q": grid}, (0, 1, 0, 1), ["0"], beliefs=("q",)).frames[0].data
    np.testing.assert_array_equal(np.asarray(heat.z), 100 * grid[0])


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"panels\['a'\]\['p'\]"):
        figures.plot_lines({"a": {"p": (X, X[1:])}}, xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match=r"panels\['a'\]\['p'\]"):
        figures.curve_slider(X, {"a": {"p": X[None]}}, ["0", "1"], xlabel="x")
    with pytest.raises(ValueError, match="evenly"):
        figures.curve_slider(X**2, {"a": {"p": X[None]}}, ["0"], xlabel="x")
    with pytest.raises(ValueError, match=r"panels\['a'\]"):
        figures.plane_slider({"a": np.zeros((3, 2, 2))}, (0, 1, 0, 1), ["0", "1"])
    with pytest.raises(ValueError, match=r"covariances\['c'\]"):
        figures.plot_ellipses(np.zeros((3, 2)), {"c": np.eye(3)})
