"""The figure of paired differences: zero is drawn, and colour is kept for intervals that leave it out."""

import numpy as np
import pytest

from mixup_modalities.lab import figures
from mixup_modalities.lab.metrics import mean_interval

CLEAR, UNCLEAR = [0.20, 0.21, 0.19], [0.2, -0.2, 0.05]


def bars_of(ax) -> list[tuple[float, float]]:
    return [
        tuple(line.get_xdata()) for line in ax.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
    ]


def test_each_comparison_shows_its_seeds_and_both_intervals():
    figure = figures.plot_differences(
        {"digits": {"a": CLEAR, "b": UNCLEAR}, "texts": {"a": UNCLEAR, "b": CLEAR}},
        xlabel="accuracy",
        joint_level=0.999,
    )
    left, right = figures.panel_axes(figure)
    assert [t.get_text() for t in left.get_yticklabels()] == ["a", "b"]
    for ax, order in ((left, (CLEAR, UNCLEAR)), (right, (UNCLEAR, CLEAR))):
        expected = [mean_interval(values, level) for values in order for level in (0.999, 0.95)]
        np.testing.assert_allclose(bars_of(ax)[-4:], [(i.low, i.high) for i in expected])
        assert any(set(line.get_xdata()) == {0} for line in ax.lines)
    assert "digits / a / b; texts / a / b" in figures.alt_text(figure)


def test_colour_is_for_what_is_clear_of_zero_at_the_joint_level():
    def color(values, **options):
        (ax,) = figures.panel_axes(figures.plot_differences({"": {"a": values}}, xlabel="accuracy", **options))
        return ax.lines[-1].get_color()

    assert color(CLEAR) == figures.COLORS["mixup"] and color(UNCLEAR) == figures.COLORS["floor"]
    nearly = [0.1, 0.2, 0.15]
    assert mean_interval(nearly).low > 0 > mean_interval(nearly, 0.9999).low
    assert color(nearly) == figures.COLORS["mixup"] and color(nearly, joint_level=0.9999) == figures.COLORS["floor"]


@pytest.mark.parametrize("sharex", [True, False])
def test_panels_share_their_axis_or_have_each_its_own(sharex):
    panels = {"accuracy": {"a": CLEAR}, "nats": {"a": [20.0, 21.0, 19.0]}}
    figure = figures.plot_differences(panels, xlabel="change", sharex=sharex)
    left, right = figures.panel_axes(figure)
    assert (left.get_xlim() == right.get_xlim()) == sharex
    assert sharex or left.get_xlim()[1] < 1 < right.get_xlim()[1]


@pytest.mark.parametrize(
    ("panels", "message"),
    [({}, "at least one"), ({"a": {}}, "at least one"), ({"a": {"x": [1.0]}}, "two seeds"),
     ({"a": {"x": CLEAR}, "b": {"y": CLEAR}}, r"panels\['b'\]: expected comparisons \['x'\]")],
)  # fmt: skip
def test_what_cannot_be_drawn(panels, message):
    with pytest.raises(ValueError, match=message):
        figures.plot_differences(panels, xlabel="accuracy")
