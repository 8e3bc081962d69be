"""Figures of texts: what is drawn is what was given."""

import pytest
import torch
from matplotlib.colors import to_rgba

from mixup_modalities.lab import figures
from mixup_modalities.lab.figures.tokens import PAD

TEXTS = [["who", "?", PAD], ["what", "is", "it"]]
WEIGHTS = torch.tensor([[0.7, 0.7, 0.0], [0.3, 0.3, 0.3]])


def texts_of(figure) -> list[str]:
    return [text.get_text() for ax in figures.panel_axes(figure) for text in ax.texts]


def test_token_weights_show_every_token_once_a_panel():
    read = torch.ones(3)
    figure = figures.plot_token_weights({"a": (WEIGHTS, read), "b": (WEIGHTS, read)}, TEXTS)
    assert texts_of(figure) == 2 * [*TEXTS[0], *TEXTS[1]]
    assert "a; b" in figures.alt_text(figure)


def test_padding_is_orange_only_where_it_weighs_and_unread_places_are_hatched():
    leaking = WEIGHTS.clone()
    leaking[0, 2] = 0.7
    colors, hatched = [], []
    for weights, mask in ((WEIGHTS, [1, 1, 1]), (leaking, [1, 1, 0])):
        (ax,) = figures.panel_axes(figures.plot_token_weights({"": (weights, torch.tensor(mask))}, TEXTS))
        cells = [p for p in ax.patches if not p.get_hatch()]
        colors.append(cells[2].get_facecolor())  # first text, third place: the padding
        hatched.append(sum(bool(p.get_hatch()) for p in ax.patches))
    assert colors[0][:3] == (1, 1, 1)
    red, _, blue, _ = colors[1]
    assert red > 0.9 > 0.5 > blue
    assert hatched == [0, 1]


def test_hatching_stops_short_of_the_words():
    (ax,) = figures.panel_axes(figures.plot_token_weights({"": (WEIGHTS, torch.tensor([1, 1, 0]))}, TEXTS))
    cells = [p.get_facecolor() for p in ax.patches if not p.get_hatch()]
    ax.figure.draw_without_rendering()
    for text, color in zip(ax.texts, cells, strict=True):
        (halo,) = text.get_path_effects()
        assert to_rgba(halo._gc["foreground"]) == color
        assert text.get_zorder() > max(p.get_zorder() for p in ax.patches)


def test_darker_means_more():
    (ax,) = figures.panel_axes(figures.plot_token_weights({"": (WEIGHTS, torch.ones(3))}, TEXTS))
    heavy, light = (sum(ax.patches[k].get_facecolor()[:3]) for k in (0, 3))
    assert heavy < light


@pytest.mark.parametrize("bad", [(WEIGHTS[:, :2], torch.ones(3)), (WEIGHTS, torch.ones(2))])
def test_shapes_that_disagree_are_named(bad):
    with pytest.raises(ValueError, match=r"panels\['x'\]"):
        figures.plot_token_weights({"x": bad}, TEXTS)
    with pytest.raises(ValueError, match="panels"):
        figures.plot_token_weights({}, TEXTS)


def test_token_slider_has_a_frame_for_each_label():
    tokens = [["who", "what"], ["where", "who"], ["where", "what"]]
    scores = torch.tensor([[1.0, 0.2], [0.8, 0.6], [1.0, 0.3]])
    figure = figures.token_slider(tokens, scores, ["1", "0.5", "0"], title="similarity", marked=("who",), start=1)
    assert [list(frame.data[0].y) for frame in figure.frames] == [
        [f"{k + 1}. {name}" for k, name in enumerate(row)] for row in tokens
    ]
    assert list(figure.data[0].x) == pytest.approx([0.8, 0.6])
    first, second = figure.frames[1].data[0].marker.color
    assert second == figures.COLORS["erm"] != first
    assert "λ = 1 to λ = 0" in figures.alt_text(figure)
    with pytest.raises(ValueError, match="scores"):
        figures.token_slider(tokens, scores[:2], ["1", "0.5", "0"], title="similarity")
