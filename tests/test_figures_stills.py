"""Sliders on paper: what is drawn is what the slider shows at those positions."""

import base64
import json

import numpy as np
import pytest

from mixup_modalities.lab import figures

LABELS = ["1", "0.75", "0.5", "0.25", "0"]
STACK = np.linspace(0, 1, 5)[:, None, None] * np.ones((5, 2, 3))


def as_json(figure) -> dict:
    return json.loads(figure.to_json())


def pictures_of(still) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figures.panel_axes(still)]


def test_a_heat_map_is_drawn_at_the_first_and_the_last_position_and_between():
    still = figures.draw_stills(as_json(figures.matrix_slider({"a": STACK, "b": 1 - STACK}, LABELS)), positions=3)
    drawn = pictures_of(still)
    assert len(drawn) == 6  # two panels in each of three rows
    for row, position in enumerate((0, 2, 4)):
        np.testing.assert_allclose(drawn[2 * row], STACK[position], atol=1e-4)
        np.testing.assert_allclose(drawn[2 * row + 1], 1 - STACK[position], atol=1e-4)
    axes = figures.panel_axes(still)
    assert [ax.get_title() for ax in axes] == ["a", "b", "", "", "", ""]
    assert [ax.get_ylabel() for ax in axes[::2]] == ["λ = 1", "λ = 0.5", "λ = 0"]
    assert axes[0].yaxis_inverted()  # the first row of a matrix is on top
    assert axes[0].images[0].get_clim() == (0, 1)
    (scale,) = [ax for ax in still.axes if ax not in axes]
    assert scale.get_ylim() == (0, 1)


def test_one_panel_stands_two_by_two_and_every_position_has_its_name():
    still = figures.draw_stills(as_json(figures.image_slider({"digit": STACK}, LABELS)))
    axes = figures.panel_axes(still)
    assert [ax.get_title() for ax in axes] == ["λ = 1", "λ = 0.75", "λ = 0.25", "λ = 0"]
    for picture, position in zip(pictures_of(still), (0, 1, 3, 4)):
        np.testing.assert_array_equal(picture[..., 0], np.round(255 * STACK[position]))


def test_no_more_positions_are_drawn_than_there_are():
    still = figures.draw_stills(as_json(figures.image_slider({"digit": STACK[:3]}, LABELS[:3])), positions=9)
    shown = [ax for ax in figures.panel_axes(still) if ax.images]
    assert len(shown) == 3


def test_bars_are_as_long_as_in_the_slider():
    targets = np.stack([[lam, 1 - lam] for lam in (1, 0.75, 0.5, 0.25, 0)])
    slider = figures.image_label_slider(STACK, targets, LABELS, ["three", "eight"])
    still = figures.draw_stills(as_json(slider), positions=5)
    bars = [[bar.get_height() for bar in ax.patches] for ax in figures.panel_axes(still) if ax.patches]
    np.testing.assert_allclose(bars, targets)
    named = [ax for ax in figures.panel_axes(still) if ax.patches][-1]
    assert [text.get_text() for text in named.get_xticklabels()] == ["three", "eight"]


def test_curves_keep_their_places_colours_and_names():
    x = np.linspace(0, 1, 11)
    curves = {"up": np.stack([x * k for k in range(5)]), "down": np.stack([-x * k for k in range(5)])}
    slider = figures.curve_slider(x, {"both": curves}, LABELS, xlabel="x", colors={"up": "#112233"})
    still = figures.draw_stills(as_json(slider), positions=2)
    last = figures.panel_axes(still)[1]
    up, down = last.get_lines()
    np.testing.assert_allclose(up.get_xdata(), x, atol=1e-6)
    np.testing.assert_allclose(up.get_ydata(), 4 * x, atol=1e-5)
    np.testing.assert_allclose(down.get_ydata(), -4 * x, atol=1e-5)
    assert up.get_color() == "#112233"
    assert last.get_xlim() == (0, 1)
    assert [text.get_text() for text in still.legends[0].get_texts()] == ["up", "down"]


def test_points_are_drawn_in_every_panel_at_every_position():
    points, classes = np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([0, 1, 1])
    grids = {"a": STACK + 0.1, "b": STACK}
    slider = figures.plane_slider(grids, (-1, 2, -1, 2), LABELS, points=points, classes=classes, beliefs=["b"])
    still = figures.draw_stills(as_json(slider), positions=2)
    assert still.axes == figures.panel_axes(still)  # no scale of colours, as in the slider
    for ax in still.axes:
        drawn = np.concatenate([line.get_xydata() for line in ax.get_lines()])
        assert sorted(map(tuple, drawn)) == sorted(map(tuple, points))
        assert tuple(ax.images[0].get_extent()) == pytest.approx((-1, 2, -1, 2))


def test_the_alt_text_says_where_the_slider_stands():
    slider = figures.set_alt_text(figures.image_slider({"digit": STACK}, LABELS), "A digit fades.")
    assert figures.alt_text(figures.draw_stills(as_json(slider), positions=2)) == "A digit fades; here at λ = 1, λ = 0."


def test_values_in_bytes_and_values_in_a_list_are_the_same():
    packed = as_json(figures.matrix_slider({"a": STACK}, LABELS))
    plain = as_json(figures.matrix_slider({"a": STACK}, LABELS))
    for trace in [*plain["data"], *(trace for frame in plain["frames"] for trace in frame["data"])]:
        z = trace["z"]
        shape = [int(n) for n in z["shape"].split(",")]
        trace["z"] = np.frombuffer(base64.b64decode(z["bdata"]), z["dtype"]).reshape(shape).tolist()
    for one, other in zip(*(pictures_of(figures.draw_stills(figure)) for figure in (packed, plain))):
        np.testing.assert_array_equal(one, other)


def test_the_figure_is_left_as_it_was():
    figure = as_json(figures.matrix_slider({"a": STACK}, LABELS))
    before = json.dumps(figure)
    figures.draw_stills(figure)
    assert json.dumps(figure) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "a frame for each position of its slider"),
        ({"layout": {}}, "a frame for each position of its slider"),
    ],
)
def test_a_figure_without_a_slider_is_refused(change, message):
    figure = as_json(figures.matrix_slider({"a": STACK}, LABELS)) | change
    with pytest.raises(ValueError, match=message):
        figures.draw_stills(figure)


def test_a_trace_that_cannot_be_drawn_is_named():
    figure = as_json(figures.matrix_slider({"a": STACK}, LABELS))
    for trace in [*figure["data"], *(trace for frame in figure["frames"] for trace in frame["data"])]:
        trace["type"] = "surface"
    with pytest.raises(ValueError, match="got surface"):
        figures.draw_stills(figure)


def test_the_number_of_positions_is_checked():
    with pytest.raises(ValueError, match="positions: expected at least 1, got 0"):
        figures.draw_stills(as_json(figures.matrix_slider({"a": STACK}, LABELS)), positions=0)
