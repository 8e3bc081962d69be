"""One number against another, a point for each experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixup_modalities.lab.figures.style import COLORS, Figure, as_array, color_of, expect, new_figure, styled

_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


@styled
def plot_scatter(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]],
    *,
    xlabel: str,
    ylabel: str,
    level_line: float | None = None,
    slanted_line: float | None = None,
    width: float = 7.0,
    height: float = 3.4,
) -> Figure:
    """Points in panels, a colour and a marker for each group.

    Args:
        panels: panel title -> group -> `(x, y)`, each `(N,)`; panels share the x axis, and each has its own y axis.
        xlabel: with the unit.
        ylabel: of the first panel, with the unit; where panels differ their titles say how.
        level_line: height of a grey line across every panel, such as 0 where y is a difference.
        slanted_line: slope of a grey line through the origin, such as 1 where x predicts y.
        width: inches, all panels together.
        height: inches.

    Raises:
        ValueError: no point, values that are not finite, or an x of another length than its y.
    """
    expect(bool(panels) and all(panels.values()), "panels", "at least one group in each", "an empty mapping")
    figure, axes = new_figure(1, len(panels), width=width, height=height, sharex=True)
    for ax, (title, groups) in zip(axes[0], panels.items()):
        if level_line is not None:
            ax.axhline(level_line, color=COLORS["floor"], linewidth=1)
        for k, (name, points) in enumerate(groups.items()):
            x, y = (as_array(part, f"panels[{title!r}][{name!r}]").astype(float).ravel() for part in points)
            same = x.size == y.size > 0
            expect(same, f"panels[{title!r}][{name!r}]", "as many x as y, and at least one", f"{x.size} and {y.size}")
            finite = bool(abs(x).max() < float("inf") and abs(y).max() < float("inf"))
            expect(finite, f"panels[{title!r}][{name!r}]", "finite values", "a value that is not")
            style = {"color": color_of(name, k), "marker": _MARKERS[k % len(_MARKERS)], "markersize": 5.5}
            ax.plot(x, y, linestyle="", alpha=0.8, markeredgecolor="white", markeredgewidth=0.5, label=name, **style)
        if slanted_line is not None:
            end = max(float(as_array(x, "x").max()) for x, _ in groups.values())
            ax.plot([0, end], [0, slanted_line * end], color=COLORS["floor"], linewidth=1, zorder=0)
        ax.set(title=title, xlabel=xlabel)
    axes[0, 0].set_ylabel(ylabel)
    if len(next(iter(panels.values()))) > 1:  # one group needs no legend among its points
        axes[0, 0].legend(handletextpad=0.1)
    said = "; ".join(" / ".join([*([title] if title else []), *groups]) for title, groups in panels.items())
    figure.alt = f"Points of {ylabel} against {xlabel} ({said})."
    return figure
