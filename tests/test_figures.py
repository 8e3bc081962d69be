"""The figures show the numbers they were given, carry alt text, and leave no trace in global state."""

import io

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from mixup_modalities.lab import figures, metrics

matplotlib.use("Agg")
RNG = np.random.default_rng


def mixing(batch_size=6, seed=0):
    generator = RNG(seed)
    lam = generator.uniform(size=batch_size)
    return np.diag(lam) + np.diag(1 - lam) @ np.eye(batch_size)[generator.permutation(batch_size)]


def contrast_with_white(color):
    channels = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def test_every_colour_is_visible_on_white_and_no_two_are_the_same():
    assert min(contrast_with_white(c) for c in figures.COLORS.values()) >= 3
    assert len(set(figures.COLORS.values())) == len(figures.COLORS)


def test_a_method_keeps_its_colour_whatever_else_its_name_says():
    assert figures.color_of("mixup, α = 0.4", 3) == figures.color_of("Mixup") == figures.COLORS["mixup"]
    assert figures.color_of("ERM") == figures.COLORS["erm"]
    assert figures.color_of("power spectra") == figures.COLORS["power"]
    assert figures.color_of("one", 0) != figures.color_of("another", 1)


def test_alpha_colours_start_at_erm_and_darken():
    zero, *blues = figures.alpha_colors([0, 0.2, 1, 4])
    assert zero == figures.COLORS["erm"]
    assert np.all(np.diff([contrast_with_white(b) for b in blues]) > 0)
    assert figures.alpha_colors([4, 0.2])[::-1] == figures.alpha_colors([0.2, 4])


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, lambda w: torch.tensor(w, requires_grad=True)])
def test_plot_matrices_draws_the_matrices_it_was_given(convert):
    w_x, w_y = mixing(seed=0), mixing(seed=1)
    panels = figures.panel_axes(figures.plot_matrices(convert(w_x), convert(w_y)))
    assert len(panels) == 2
    for panel, expected in zip(panels, (w_x, w_y)):
        np.testing.assert_allclose(panel.images[0].get_array(), expected)
    assert panels[0].images[0].norm is panels[1].images[0].norm  # one colour bar speaks for both
    written = sorted(float(t.get_text()) for t in panels[0].texts)
    np.testing.assert_allclose(written, sorted(w_x[w_x >= 0.005]), atol=0.005)


def test_plot_matrices_shows_what_is_wrong_with_a_matrix():
    broken = mixing()
    broken[0, 1], broken[2, 2], broken[3, 3] = -0.5, np.nan, 1.7
    panel = figures.panel_axes(figures.plot_matrices(broken))[0]
    norm = panel.images[0].norm
    assert (norm.vmin, norm.vmax) == (-1.7, 1.7)  # an entry of -0.5 is as dark as one of 0.5
    assert len(panel.patches) == 1  # the entry that is not a number is hatched


def test_plot_matrices_labels_rows_and_columns():
    panel = figures.panel_axes(
        figures.plot_matrices(np.eye(2), row_labels=["mixed 0", "mixed 1"], column_labels=["cat", "dog"])
    )[0]
    assert [t.get_text() for t in panel.get_yticklabels()] == ["mixed 0", "mixed 1"]
    assert [t.get_text() for t in panel.get_xticklabels()] == ["cat", "dog"]


def test_plot_matrices_numbers_every_cell_where_there_is_room_and_some_where_not():
    for size, expected in ((5, [0, 1, 2, 3, 4]), (8, list(range(8))), (16, [0, 4, 8, 12])):
        figure = figures.plot_matrices(np.eye(size), annotate=False, size=2.2)
        panel = figures.panel_axes(figure)[0]
        for axis in (panel.xaxis, panel.yaxis):
            assert [tick for tick in axis.get_majorticklocs() if 0 <= tick < size] == expected


def test_plot_matrices_can_stand_in_rows():
    stack = [mixing(seed=k) for k in range(5)]
    figure = figures.plot_matrices(*stack, titles=list("abcde"), columns=3)
    panels = [panel for panel in figures.panel_axes(figure) if panel.get_visible()]
    assert len(panels) == 5
    assert [round(p.get_position().y0, 3) for p in panels[:3]] == [round(panels[0].get_position().y0, 3)] * 3
    assert panels[3].get_position().y0 < panels[0].get_position().y0
    for panel, w in zip(panels, stack):
        np.testing.assert_allclose(panel.images[0].get_array(), w)
    assert [bool(p.get_xlabel()) for p in panels] == [False, False, True, True, True]
    assert [bool(p.get_ylabel()) for p in panels] == [True, False, False, True, False]


def test_plot_matrices_has_a_scale_and_names_for_small_shares():
    shares = mixing() / 5
    names = {"xlabel": "partner", "ylabel": "row", "label": "share of the steps"}
    figure = figures.plot_matrices(shares, shares, vmax=0.25, **names)
    panels, (bar,) = figures.panel_axes(figure), [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    norm = panels[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (0, 0.25) and bar.get_ylabel() == "share of the steps"
    assert [(p.get_xlabel(), p.get_ylabel()) for p in panels] == [("partner", "row"), ("partner", "")]
    assert all(name in figures.alt_text(figure) for name in names.values())
    stretched = figures.panel_axes(figures.plot_matrices(np.eye(2), vmax=0.25))[0].images[0].norm
    assert stretched.vmax == 1  # no entry is darker than the bar can say


@pytest.mark.parametrize("scale", [1.0, 255])
def test_plot_mixing_multiplies_in_the_open(scale):
    w = np.array([[0.75, 0.25], [0.0, 1.0]])
    x = (np.stack([np.zeros((4, 4)), np.ones((4, 4))]) * scale).astype(type(scale))
    ax = figures.panel_axes(figures.plot_mixing(w, x, row_labels=["first", "second"]))[0]
    matrix, *pictures = ax.images
    np.testing.assert_allclose(matrix.get_array(), w)
    assert [int(p.get_array()[0, 0, 0]) for p in pictures] == [0, 255, 64, 255]  # two sources, two mixtures
    assert {"0.75", "0.25", "1.00", "first", "second"} <= {t.get_text() for t in ax.texts}


def test_plot_points_shows_labels_and_rings():
    x, p = RNG(0).normal(size=(6, 2)), np.linspace(0, 1, 6)
    figure = figures.plot_points({"plain": (x, p), "ringed": (x, p, p > 0.5)}, marked="far away")
    plain, ringed = figures.panel_axes(figure)
    np.testing.assert_allclose(plain.collections[0].get_offsets(), x)
    np.testing.assert_allclose(plain.collections[0].get_array(), p)
    assert len(plain.collections) == 1
    np.testing.assert_allclose(ringed.collections[1].get_offsets(), x[p > 0.5])
    assert ringed.get_legend().get_texts()[0].get_text() == "far away"


def test_curves_are_means_over_seeds_in_their_interval():
    x, values = np.arange(5), RNG(0).normal(size=(4, 5))
    figure = figures.plot_curves_with_intervals(
        x, {"ERM": values, "mixup": values[0]}, xlabel="epoch", ylabel="loss", references={"floor": 0.25}
    )
    (ax,) = figures.panel_axes(figure)
    erm, one_seed, floor = ax.lines
    np.testing.assert_allclose(erm.get_ydata(), values.mean(0))
    np.testing.assert_allclose(one_seed.get_ydata(), values[0])
    np.testing.assert_allclose(floor.get_ydata(), 0.25)
    assert len(ax.collections) == 1  # a single seed has no interval, so no band
    edges = ax.collections[0].get_paths()[0].vertices[:, 1]
    low, high = stats.t.interval(0.95, 3, values.mean(0), stats.sem(values))
    np.testing.assert_allclose([edges.min(), edges.max()], [low.min(), high.max()])
    assert erm.get_color() == figures.COLORS["erm"] and one_seed.get_linestyle() != erm.get_linestyle()


def test_intervals_show_each_seed_the_mean_and_the_bar():
    values = {"ERM": [0.7, 0.72, 0.71], "mixup": torch.tensor([0.8, 0.84])}
    figure = figures.plot_intervals({"clean": values, "noisy": values}, xlabel="accuracy")
    panels = figures.panel_axes(figure)
    assert [p.get_title() for p in panels] == ["clean", "noisy"]
    for k, (name, seeds) in enumerate(values.items()):
        drawn = [line for line in panels[0].lines if line.get_marker() == "."][k].get_xdata()
        np.testing.assert_allclose(drawn, np.asarray(seeds))
        bar = panels[0].collections[k].get_segments()[0][:, 0]
        seeds = np.asarray(seeds, float)
        np.testing.assert_allclose(bar, stats.t.interval(0.95, len(seeds) - 1, seeds.mean(), stats.sem(seeds)))
        assert name in figures.alt_text(figure)


def test_reliability_shows_the_bins_that_hold_examples():
    logits = torch.from_numpy(RNG(0).normal(size=(200, 3)))
    bins = metrics.reliability(logits, torch.arange(200) % 3, num_bins=10)
    (ax,) = figures.panel_axes(figures.plot_reliability({"mixup": bins}))
    full = bins.count > 0
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.stack([bins.confidence, bins.accuracy], 1)[full])
    areas = ax.collections[0].get_sizes() - 10
    np.testing.assert_allclose(areas / areas.sum(), bins.count[full] / 200)


def test_the_line_of_reliability_passes_by_nearly_empty_bins():
    count = np.array([1, 0, 2, 98, 99])  # of 200: half a per cent is too little, one is enough
    bins = metrics.Reliability(
        confidence=np.linspace(0.1, 0.9, 5), accuracy=np.array([1, np.nan, 0.5, 0.6, 0.8]), count=count
    )
    (ax,) = figures.panel_axes(figures.plot_reliability({"ERM": bins}))
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[0.5, 0.5], [0.7, 0.6], [0.9, 0.8]])
    assert len(ax.collections[0].get_offsets()) == 4  # its marker stays, however small


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 1, 6, 7), (5, 3, 6, 7)])
def test_show_images_shows_the_pixels(shape):
    images = RNG(0).integers(0, 256, shape, dtype=np.uint8)
    figure = figures.show_images(images, list("abcde"), columns=3)
    assert len(figure.axes) == 6  # two rows of three, the last one empty
    for ax, image in zip(figure.axes, images):
        expected = np.broadcast_to(image.reshape(-1, 6, 7), (3, 6, 7)).transpose(1, 2, 0)
        np.testing.assert_array_equal(ax.images[0].get_array(), expected)


def test_float_images_are_scaled_together():
    figure = figures.show_images(torch.tensor([[[0.0, 0.5]], [[0.5, 2.0]]]))
    first, second = (ax.images[0].get_array()[..., 0] for ax in figure.axes)
    assert first[0, 1] == second[0, 0] == 64  # the same value, the same grey


def test_decision_boundary_shows_what_the_predictor_says():
    x, y = RNG(0).normal(size=(20, 2)), np.arange(20) % 2

    def predict(points):
        return torch.sigmoid(torch.from_numpy(points) @ torch.tensor([1.0, -2.0]))

    figure = figures.decision_boundary({"line": predict, "half": lambda p: np.full(len(p), 0.4)}, x, y, resolution=30)
    left, right = figures.panel_axes(figure)
    field, (x0, x1, y0, y1) = left.images[0].get_array(), left.images[0].get_extent()
    corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], np.float32)
    np.testing.assert_allclose(field[[0, 0, -1, -1], [0, -1, 0, -1]], predict(corners), rtol=1e-4)
    np.testing.assert_allclose(right.images[0].get_array(), 0.4)
    assert sum(len(line.get_xdata()) for line in left.lines) == len(x)
    (legend,) = figure.legends  # beside the panels, where no boundary runs
    assert [text.get_text() for text in legend.texts] == ["class 0", "class 1"] and left.get_legend() is None


LAMBDAS = [f"{lam:.2f}" for lam in np.linspace(0, 1, 5)]


def test_a_slider_has_a_frame_per_lambda_with_its_values():
    stack = np.stack([mixing(seed=s) for s in range(5)])
    figure = figures.matrix_slider({"W_x": stack, "W_y": stack[::-1]}, LAMBDAS, start=2)
    assert len(figure.frames) == len(LAMBDAS)
    (slider,) = figure.layout.sliders
    assert slider.active == 2
    for f, (step, frame) in enumerate(zip(slider.steps, figure.frames)):
        assert step.label == LAMBDAS[f] and list(step.args[0]) == [frame.name]
        np.testing.assert_allclose(frame.data[0].z, stack[f], atol=1e-4)
        np.testing.assert_allclose(frame.data[1].z, stack[-1 - f], atol=1e-4)
        assert (frame.data[0].xaxis, frame.data[1].xaxis) == ("x", "x2")  # each panel keeps its own axes
    np.testing.assert_allclose(figure.data[0].z, stack[2], atol=1e-4)


def test_an_image_slider_mixes_before_your_eyes():
    images = torch.linspace(0, 1, 5)[:, None, None].expand(5, 4, 4)
    figure = figures.image_slider({"mixed": images}, LAMBDAS)
    shown = [np.asarray(frame.data[0].z)[0, 0, 0] for frame in figure.frames]
    assert shown == [0, 64, 128, 191, 255]


def test_image_and_label_move_together():
    lam = np.linspace(0, 1, 5)
    targets = np.stack([lam, 1 - lam], 1)
    figure = figures.image_label_slider(lam[:, None, None] * np.ones((5, 4, 4)), targets, LAMBDAS, ["three", "eight"])
    for frame, target in zip(figure.frames, targets):
        np.testing.assert_allclose(frame.data[1].y, target)
    assert list(figure.data[1].x) == ["three", "eight"]


def test_a_mixing_slider_keeps_matrix_images_and_label_together():
    lam = np.linspace(0, 1, 5)
    w = np.stack([[[a, 1 - a], [1 - a, a]] for a in lam])
    images = np.einsum("frb,bhw->frhw", w, np.stack([np.zeros((4, 4)), np.ones((4, 4))]))
    targets = np.stack([lam, 1 - lam], 1)
    figure = figures.mixing_slider(w, images, targets, LAMBDAS, ["three", "eight"], start=1)
    assert len({trace.yaxis for trace in figure.data}) == 4  # every panel has axes of its own, in two rows
    assert figure.layout.yaxis.domain[0] > figure.layout.yaxis3.domain[1]
    for f, frame in enumerate(figure.frames):
        matrix, label, first, second = frame.data
        np.testing.assert_allclose(matrix.z, w[f])
        np.testing.assert_allclose(label.y, targets[f])
        assert [int(image.z[0, 0]) for image in (first, second)] == [round(255 * (1 - lam[f])), round(255 * lam[f])]


def test_a_mixing_slider_shows_colours():
    images = RNG(0).uniform(size=(5, 2, 3, 4, 4))
    figure = figures.mixing_slider(np.zeros((5, 2, 2)), images, np.zeros((5, 2)), LAMBDAS, ["a", "b"])
    shown = np.asarray(figure.frames[3].data[3].z)
    np.testing.assert_array_equal(shown, np.moveaxis(np.round(images[3, 1] * 255), 0, -1))


def test_decision_boundary_shows_the_mean_and_a_line_for_each_seed():
    def three_seeds(p):
        return np.stack([1 / (1 + np.exp(-4 * (p[:, 0] - shift))) for shift in (-0.5, 0, 0.5)])

    x, y = RNG(0).normal(size=(20, 2)), np.arange(20) % 2
    ax = figures.panel_axes(figures.decision_boundary({"p": three_seeds}, x, y, resolution=31))[0]
    values = ax.images[0].get_array()
    left, right, bottom, top = ax.images[0].get_extent()
    plane = np.stack(np.meshgrid(np.linspace(left, right, 31), np.linspace(bottom, top, 31)), -1).reshape(-1, 2)
    np.testing.assert_allclose(values, three_seeds(plane).mean(0).reshape(31, 31), atol=1e-5)
    assert len([c for c in ax.collections if c.get_paths()]) == 3


def every_figure():
    w, x = mixing(), RNG(0).normal(size=(8, 2))
    stack = np.zeros((5, 4, 4))
    yield figures.plot_matrices(w, w)
    yield figures.plot_curves_with_intervals([0, 1], {"ERM": [[1, 2], [2, 3]]}, xlabel="epoch", ylabel="loss")
    yield figures.plot_intervals({"": {"ERM": [1, 2, 3]}}, xlabel="loss")
    yield figures.plot_reliability({"ERM": metrics.reliability(torch.eye(3), torch.arange(3))})
    yield figures.show_images(stack)
    yield figures.decision_boundary({"half": lambda p: np.full(len(p), 0.5)}, x, np.arange(8) % 2, resolution=9)
    yield figures.matrix_slider({"W": stack}, LAMBDAS)
    yield figures.image_slider({"x": stack}, LAMBDAS)
    yield figures.image_label_slider(stack, np.zeros((5, 2)), LAMBDAS, ["a", "b"])
    yield figures.mixing_slider(np.zeros((5, 2, 2)), np.zeros((5, 2, 4, 4)), np.zeros((5, 2)), LAMBDAS, ["a", "b"])
    yield figures.plot_mixing(np.eye(5), stack)
    yield figures.plot_points({"points": (x, np.zeros(8))})


def test_every_figure_says_what_it_shows_and_can_be_told_otherwise():
    for figure in every_figure():
        assert len(figures.alt_text(figure)) > 15
        assert figures.alt_text(figures.set_alt_text(figure, "Something else.")) == "Something else."
    with pytest.raises(ValueError, match="alt text"):
        figures.alt_text(figures.Figure())
    with pytest.raises(ValueError, match="text"):
        figures.set_alt_text(figures.Figure(), " ")


def test_plotting_changes_no_global_setting_and_registers_nothing():
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    for figure in every_figure():
        if isinstance(figure, figures.Figure):
            figure.png()
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_a_notebook_gets_one_small_picture_with_alt_text_and_size():
    figure = figures.plot_matrices(mixing())
    data, metadata = figure._repr_mimebundle_()
    picture = Image.open(io.BytesIO(data["image/png"]))
    assert picture.format == "PNG" and picture.mode == "P"
    assert metadata["image/png"]["alt"] == figures.alt_text(figure)
    ratio = metadata["image/png"]["width"] / metadata["image/png"]["height"]
    assert ratio == pytest.approx(picture.width / picture.height, rel=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.plot_matrices(), "matrices"),
        (lambda: figures.plot_matrices(np.zeros(3)), r"matrices\[0\].*\(3,\)"),
        (lambda: figures.plot_matrices(np.eye(2), titles=[]), "titles"),
        (lambda: figures.plot_matrices(np.eye(2), vmax=0), "vmax"),
        (lambda: figures.plot_matrices(np.array([["a"]])), "real numbers"),
        (
            lambda: figures.plot_curves_with_intervals([0, 1], {"a": [1, 2, 3]}, xlabel="", ylabel=""),
            r"curves\['a'\].*\(1, 3\)",
        ),
        (lambda: figures.plot_intervals({}, xlabel=""), "groups"),
        (lambda: figures.plot_reliability({}), "bins"),
        (lambda: figures.plot_intervals({"": {"a": []}}, xlabel=""), "at least one result"),
        (lambda: figures.show_images(np.zeros((2, 4, 5, 5))), r"images.*\(2, 4, 5, 5\)"),
        (lambda: figures.show_images(np.zeros((2, 5, 5)), ["one"]), "titles.*2"),
        (lambda: figures.decision_boundary({"p": lambda p: p}, np.zeros((3, 2)), [0, 1, 1]), r"predictors\['p'\]"),
        (
            lambda: figures.decision_boundary({"p": lambda p: p[:, 0] + 9}, np.zeros((3, 2)), [0, 1, 1]),
            r"probabilities in \[0, 1\]",
        ),
        (lambda: figures.decision_boundary({}, np.zeros((3, 3)), [0, 1, 1]), "x: expected"),
        (lambda: figures.matrix_slider({"W": np.zeros((4, 2, 2))}, LAMBDAS), r"panels\['W'\].*5 frames"),
        (lambda: figures.image_slider({"x": np.zeros((4, 2, 2))}, LAMBDAS), r"panels\['x'\].*5 images"),
        (lambda: figures.image_label_slider(np.zeros((5, 2, 2)), np.zeros((5, 3)), LAMBDAS, ["a"]), "class_names"),
        (lambda: figures.slider_figure([], [], titles=[]), "frames"),
        (lambda: figures.plot_mixing(np.eye(3), np.zeros((2, 4, 4))), "images: expected 3.*got 2"),
        (lambda: figures.plot_mixing(np.eye(2), np.zeros((2, 4, 4)), row_labels=["a"]), "row_labels"),
        (lambda: figures.plot_points({}), "panels"),
        (lambda: figures.plot_points({"p": (np.zeros((3, 2)), np.zeros(2))}), r"panels\['p'\].*3 weights"),
        (lambda: figures.plot_points({"p": (np.zeros((3, 2)), np.ones(3) * 2)}), r"weights in \[0, 1\]"),
        (
            lambda: figures.mixing_slider(np.zeros((5, 3, 3)), np.zeros((5, 2, 4, 4)), np.zeros((5, 2)), LAMBDAS, "ab"),
            r"matrices.*\(5, 3, 3\)",
        ),
        (lambda: figures.matrix_slider({"W": np.zeros((5, 2, 2))}, LAMBDAS, start=5), "start"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
