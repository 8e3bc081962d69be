"""Paired differences: what changes when one thing changes, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from mixup_modalities.lab.figures.style import COLORS, Figure, as_array, expect, new_figure, styled
from mixup_modalities.lab.metrics import mean_interval


@styled
def plot_differences(
    panels: Mapping[str, Mapping[str, Any]],
    *,
    xlabel: str,
    level: float = 0.95,
    joint_level: float | None = None,
    sharex: bool = True,
    width: float = 7.0,
) -> Figure:
    """Differences between paired runs, one row a comparison: each seed, the mean, its interval, and a line at zero.

    A comparison whose widest interval leaves zero out is drawn in a colour, any other in grey.

    Args:
        panels: panel title -> comparison -> `(S,)` differences, one per seed.
        xlabel: of what the differences are, with the unit.
        level: coverage of the thick bar.
        joint_level: coverage of a thin bar around it, such as the level that many comparisons need together; none by
            default.
        sharex: the same x axis in every panel; `False` where the panels show different quantities.
        width: inches, all panels together.

    Raises:
        ValueError: no comparison, fewer than two seeds, or panels that compare different things.
    """
    expect(bool(panels) and all(panels.values()), "panels", "at least one comparison in each", "an empty mapping")
    names = list(next(iter(panels.values())))
    for title, comparisons in panels.items():
        expect(list(comparisons) == names, f"panels[{title!r}]", f"comparisons {names}", f"{list(comparisons)}")
    size = {"width": width, "height": 0.9 + 0.29 * len(names)}
    figure, axes = new_figure(1, len(panels), **size, sharex=sharex, sharey=True)
    for ax, (title, comparisons) in zip(axes[0], panels.items()):
        ax.axvline(0, color="#555555", linewidth=1)
        for k, (name, differences) in enumerate(comparisons.items()):
            values = as_array(differences, f"panels[{title!r}][{name!r}]").astype(float).ravel()
            expect(values.size > 1, f"panels[{title!r}][{name!r}]", "two seeds or more", str(values.size))
            inner, outer = mean_interval(values, level), mean_interval(values, joint_level or level)
            clear = outer.low > 0 or outer.high < 0
            color = COLORS["mixup"] if clear else COLORS["floor"]
            ax.plot(values, np.full(values.size, k - 0.27), ".", color=color, alpha=0.5, mew=0, markersize=5)
            ax.plot([outer.low, outer.high], [k, k], color=color, linewidth=1.2)
            ax.plot([inner.low, inner.high], [k, k], color=color, linewidth=3.4, solid_capstyle="butt")
            ax.plot(inner.mean, k, "D" if clear else "o", color=color, markersize=6)
        ax.set(title=title, xlabel=xlabel, ylim=(len(names) - 0.5, -0.6))
        ax.set_yticks(range(len(names)), names)
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    seen = "; ".join(" / ".join([title, *names]) for title in panels)
    figure.alt = f"Differences between paired runs in {xlabel}, with intervals and a line at zero ({seen})."
    return figure
