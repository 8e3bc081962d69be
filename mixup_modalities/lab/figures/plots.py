"""Figures that stand still, drawn by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mixup_modalities.lab.figures.style import (
    COLORS,
    Figure,
    as_array,
    as_pictures,
    color_of,
    expect,
    new_figure,
    styled,
)
from mixup_modalities.lab.metrics import Reliability, mean_interval

_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")
_BOUNDARY = ("#D55E00", "#0072B2")


@styled
def plot_matrices(
    *matrices: Any,
    titles: Sequence[str] = ("$W_x$: how the inputs are mixed", "$W_y$: how the labels are mixed"),
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    annotate: bool | None = None,
    columns: int | None = None,
    size: float = 3.3,
    vmax: float = 1.0,
    xlabel: str = "source example",
    ylabel: str = "mixed example",
    label: str = "weight",
) -> Figure:
    """Matrices side by side as heat maps with one colour bar: W_x beside W_y, or as many as are given.

    White is 0 and dark blue `vmax`, so that two matrices can be compared by eye; above `vmax` the bar is stretched, and
    an entry that is not finite is hatched. Where any entry is below 0, orange is below it and purple above, and equal
    sizes are equally dark.

    Args:
        *matrices: each `(R, C)`, real.
        titles: one per matrix.
        row_labels: `R` names for the rows (the mixed examples); numbers by default.
        column_labels: `C` names for the columns (the source examples); numbers by default.
        annotate: write the numbers into the cells; by default where the matrices have at most 8 columns.
        columns: heat maps in a row; all of them by default.
        size: width of each heat map in inches.
        vmax: end of the colour bar, for entries that are all far below 1; positive.
        xlabel: what a column is.
        ylabel: what a row is.
        label: what an entry is.

    Raises:
        ValueError: no matrix, one that has not two dimensions, too few titles, or `vmax` not positive.
    """
    arrays = [as_array(m, f"matrices[{k}]").astype(float) for k, m in enumerate(matrices)]
    if not arrays:
        raise ValueError("matrices: at least one is expected, none came")
    for k, m in enumerate(arrays):
        expect(m.ndim == 2, f"matrices[{k}]", "shape (rows, columns)", f"shape {m.shape}")
    expect(len(titles) >= len(arrays), "titles", f"at least {len(arrays)}", str(len(titles)))
    expect(0 < vmax < math.inf, "vmax", "a positive number", str(vmax))

    finite = np.concatenate([m[np.isfinite(m)] for m in arrays] + [np.array([0.0, vmax])])
    low, high = finite.min(), finite.max()
    cmap: Colormap
    norm: Normalize
    if low < 0:
        cmap, norm = colormaps["PuOr"], Normalize(-max(-low, high), max(-low, high))
    else:
        cmap, norm = colormaps["Blues"], Normalize(0.0, high)
    annotate = max(m.shape[1] for m in arrays) <= 8 if annotate is None else annotate
    columns = min(columns or len(arrays), len(arrays))
    rows = math.ceil(len(arrays) / columns)
    tallest = max(m.shape[0] / m.shape[1] for m in arrays)
    figure, axes = new_figure(rows, columns, width=size * columns + 0.5, height=rows * size * tallest + 0.3)
    for ax in axes.flat[len(arrays) :]:
        ax.set_visible(False)
    for k, (ax, m, title) in enumerate(zip(axes.flat, arrays, titles)):
        ax.imshow(np.ma.masked_invalid(m), cmap=cmap, norm=norm)
        ax.set(
            title=title,
            xlabel=xlabel if k + columns >= len(arrays) else "",
            ylabel=ylabel if k % columns == 0 else "",
        )
        ax.grid(False)
        ax.spines[["top", "right"]].set_visible(True)
        if max(m.shape) <= 20:
            ax.hlines(np.arange(1, m.shape[0]) - 0.5, -0.5, m.shape[1] - 0.5, color="#DDE3EA", linewidth=0.5)
            ax.vlines(np.arange(1, m.shape[1]) - 0.5, -0.5, m.shape[0] - 0.5, color="#DDE3EA", linewidth=0.5)
        _label_cells(ax.set_xticks, ax.xaxis, m.shape[1], column_labels)
        _label_cells(ax.set_yticks, ax.yaxis, m.shape[0], row_labels)
        for i, j in np.argwhere(~np.isfinite(m)):
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, hatch="////", fill=False, ec="#888888"))
        if annotate:
            for (i, j), value in np.ndenumerate(m):
                if np.isfinite(value) and abs(value) >= 0.005:
                    dark = np.dot(cmap(norm(value))[:3], (0.3, 0.59, 0.11)) < 0.55
                    ax.text(
                        j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if dark else "#222222"
                    )
    figure.colorbar(ScalarMappable(norm, cmap), ax=list(axes.flat), shrink=0.85, label=label)
    shapes = " and ".join(f"{t.replace('$', '')} ({m.shape[0]} by {m.shape[1]})" for m, t in zip(arrays, titles))
    figure.alt = f"Heat maps of {shapes}; a row: {ylabel}; a column: {xlabel}; dark: a large {label}."
    return figure


@styled
def plot_curves_with_intervals(
    x: Any,
    curves: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    level: float = 0.95,
    references: Mapping[str, float] | None = None,
    colors: Mapping[str, str] | None = None,
    log_x: bool = False,
    markers: bool = False,
    width: float = 7.0,
    height: float = 3.4,
) -> Figure:
    """One line per method: the mean over seeds, in a band that is the interval of that mean.

    Args:
        x: `(T,)`, for instance epochs or alphas.
        curves: name -> `(S, T)`, a row per seed; a single seed has no band.
        xlabel: with the unit.
        ylabel: with the unit.
        title: over the axes.
        level: coverage of the interval.
        colors: name -> colour, where `color_of` should not choose.
        references: name -> height of a dashed level line, such as the floor of the mixed loss.
        log_x: logarithmic x axis.
        markers: mark each point, for few points.
        width: inches.
        height: inches.

    Raises:
        ValueError: a curve whose length is not that of `x`.
    """
    x = as_array(x, "x").astype(float)
    figure, axes = new_figure(width=width, height=height)
    ax = axes[0, 0]
    for k, (name, values) in enumerate(curves.items()):
        values = np.atleast_2d(as_array(values, f"curves[{name!r}]").astype(float))
        expect(values.shape[1:] == x.shape, f"curves[{name!r}]", f"shape (seeds, {x.size})", f"shape {values.shape}")
        mean, low, high, _ = np.array([mean_interval(column, level) for column in values.T]).T
        color = (colors or {}).get(name, color_of(name, k))
        marker = _MARKERS[k % len(_MARKERS)] if markers else None
        ax.plot(x, mean, color=color, linestyle=_DASHES[k % len(_DASHES)], marker=marker, markersize=4.5, label=name)
        if len(values) > 1:
            ax.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    for name, level_line in (references or {}).items():
        ax.axhline(level_line, color=COLORS["floor"], linestyle=(0, (4, 3)), linewidth=1.1, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if log_x:
        ax.set_xscale("log")
    elif np.all(x == x.round()):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=True, edgecolor="none", framealpha=0.85)
    counts = {name: len(np.atleast_2d(as_array(values, name))) for name, values in curves.items()}
    seeds = "; ".join(f"{name} ({n} seed{'s' if n > 1 else ''})" for name, n in counts.items())
    figure.alt = f"Curves of {ylabel} against {xlabel} for {seeds}; bands are {level:.0%} intervals of the mean."
    return figure


@styled
def plot_intervals(
    groups: Mapping[str, Mapping[str, Any]],
    *,
    xlabel: str,
    level: float = 0.95,
    sharex: bool = True,
    colors: Mapping[str, str] | None = None,
    width: float = 7.0,
) -> Figure:
    """Each condition as its seeds (small dots), their mean (large dot) and the interval of the mean (bar).

    Args:
        groups: panel title -> condition -> `(S,)` results, one per seed.
        xlabel: what is measured, with the unit.
        level: coverage of the interval.
        sharex: the same axis in every panel.
        colors: condition -> colour, where `color_of` should not choose.
        width: inches, all panels together.

    Raises:
        ValueError: no condition, or one without results.
    """
    expect(bool(groups) and all(groups.values()), "groups", "at least one condition in each panel", "an empty mapping")
    rows = max(len(conditions) for conditions in groups.values())
    figure, axes = new_figure(1, len(groups), width=width, height=0.9 + 0.32 * rows, sharex=sharex, sharey=False)
    for ax, (title, conditions) in zip(axes[0], groups.items()):
        for k, (name, values) in enumerate(conditions.items()):
            values = as_array(values, f"groups[{title!r}][{name!r}]").astype(float).ravel()
            expect(values.size > 0, f"groups[{title!r}][{name!r}]", "at least one result", "none")
            interval = mean_interval(values, level)
            color = (colors or {}).get(name, color_of(name, k))
            ax.plot(values, np.full(values.size, k - 0.24), ".", color=color, alpha=0.6, mew=0, markersize=5)
            half = np.nan_to_num(interval.high - interval.mean)
            ax.errorbar(interval.mean, k, xerr=half, fmt=_MARKERS[k % len(_MARKERS)], color=color, capsize=3)
        ax.set(title=title, xlabel=xlabel, ylim=(len(conditions) - 0.5, -0.5))
        ax.set_yticks(range(len(conditions)), list(conditions))
        ax.grid(axis="y", visible=False)
    for ax in axes[0, 1:]:
        if [t.get_text() for t in ax.get_yticklabels()] == [t.get_text() for t in axes[0, 0].get_yticklabels()]:
            ax.set_yticklabels([])
    said = "; ".join(" / ".join([*([title] if title else []), *conditions]) for title, conditions in groups.items())
    figure.alt = f"Means with {level:.0%} intervals of {xlabel} for each condition ({said})."
    return figure


@styled
def plot_reliability(bins: Mapping[str, Reliability], *, width: float = 5.2, height: float = 3.6) -> Figure:
    """Reliability diagram (Guo et al., 2017): how often a model is right when it says how sure it is.

    On the diagonal a model is calibrated; below it, it promises too much. The area of a marker is the share of the
    examples in its bin; empty bins are left out, and the line passes by those with less than 1 % of the examples, whose
    accuracy is mostly chance.

    Args:
        bins: name -> the bins that `metrics.reliability` returns.
        width: inches.
        height: inches.

    Raises:
        ValueError: nothing to draw.
    """
    expect(bool(bins), "bins", "at least one model", "none")
    figure, axes = new_figure(width=width, height=height)
    ax = axes[0, 0]
    ax.plot([0, 1], [0, 1], color=COLORS["floor"], linestyle=(0, (4, 3)), linewidth=1.1, label="calibrated")
    for k, (name, bin_) in enumerate(bins.items()):
        full = as_array(bin_.count, "count") > 0
        x, y, n = (as_array(values, "bins")[full] for values in bin_)
        color, firm = color_of(name, k), n >= 0.01 * n.sum()
        ax.plot(x[firm], y[firm], color=color, linestyle=_DASHES[k % len(_DASHES)], label=name)
        ax.scatter(x, y, 10 + 150 * n / n.sum(), color=color, marker=_MARKERS[k % len(_MARKERS)], alpha=0.8)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(loc="upper left")
    figure.alt = f"Reliability diagram of {'; '.join(bins)}: accuracy against confidence, with the diagonal."
    return figure


@styled
def show_images(images: Any, titles: Sequence[str] | None = None, *, columns: int = 8, size: float = 0.86) -> Figure:
    """Images in a grid, without axes.

    Args:
        images: `(N, H, W)`, `(N, 1, H, W)` or `(N, 3, H, W)`; integers in 0..255 or floats in 0..1; floats
            outside are stretched together.
        titles: one per image.
        columns: images per row.
        size: width of each image in inches.

    Raises:
        ValueError: another shape, or not one title per image.
    """
    pictures = as_pictures(images, "images")
    if titles is not None:
        expect(len(titles) == len(pictures), "titles", f"{len(pictures)}, one per image", str(len(titles)))
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height = size * rows * pictures[0].shape[0] / pictures[0].shape[1] + (0.24 * rows if titles is not None else 0.05)
    figure, axes = new_figure(rows, columns, width=size * columns, height=height)
    for ax in axes.flat:
        ax.axis("off")
    for k, (ax, picture) in enumerate(zip(axes.flat, pictures)):
        ax.imshow(picture)
        if titles is not None:
            ax.set_title(titles[k], fontsize=8, pad=2)
    said = f", titled {', '.join(map(str, titles))}" if titles is not None else ""
    figure.alt = f"{len(pictures)} images in {rows} row{'s' if rows > 1 else ''}{said}."
    return figure


@styled
def decision_boundary(
    predictors: Mapping[str, Callable[[np.ndarray], Any]],
    x: Any,
    y: Any,
    *,
    margin: float = 0.4,
    resolution: int = 120,
    size: float = 3.4,
) -> Figure:
    """What binary classifiers of points in the plane believe: the probability of class 1 in colour, 0.5 as a line.

    Args:
        predictors: title -> function from points `(N, 2)` float32 to the probability of class 1, one panel each:
            `(N,)`, or `(S, N)` for S seeds, drawn as the mean in colour and a thin line for every seed.
        x: points to draw, `(N, 2)`.
        y: their classes, 0 or 1, `(N,)`.
        margin: plane shown beyond the points, in the units of `x`.
        resolution: evaluations along each axis.
        size: width of each panel in inches.

    Raises:
        ValueError: shapes that disagree, or a predictor that returns anything but `(N,)` or `(S, N)` values in [0, 1].
    """
    points, classes = as_array(x, "x").astype(float), as_array(y, "y").ravel()
    expect(points.ndim == 2 and points.shape[1] == 2, "x", "shape (N, 2)", f"shape {points.shape}")
    expect(len(classes) == len(points), "y", f"{len(points)} classes, one per point", str(len(classes)))
    low, high = points.min(0) - margin, points.max(0) + margin
    grid = np.meshgrid(np.linspace(low[0], high[0], resolution), np.linspace(low[1], high[1], resolution))
    plane = np.stack([g.ravel() for g in grid], 1).astype(np.float32)
    extent = (low[0], high[0], low[1], high[1])
    width, height = size * len(predictors) + 0.9, (size - 0.4) * (high[1] - low[1]) / (high[0] - low[0]) + 1.0
    figure, axes = new_figure(1, len(predictors), width=width, height=height, sharey=True)
    figure.set_dpi(110)  # a line per seed and a mark per point take many bytes
    # Bands of a tenth read as contour lines.
    cmap = LinearSegmentedColormap.from_list("boundary", ("#EDAA7C", "#FFFFFF", "#86B6DD"), N=10)
    for ax, (title, predict) in zip(axes[0], predictors.items()):
        p = as_array(predict(plane), f"predictors[{title!r}]")
        fits = p.shape[-1:] == (len(plane),) and p.ndim <= 2
        expect(fits, f"predictors[{title!r}]", f"shape ({len(plane)},) or (S, {len(plane)})", f"shape {p.shape}")
        expect(bool(((p >= 0) & (p <= 1)).all()), f"predictors[{title!r}]", "probabilities in [0, 1]", "values outside")
        p = p.reshape(-1, *grid[0].shape)
        ax.imshow(p.mean(0), extent=extent, origin="lower", cmap=cmap, vmin=0, vmax=1, interpolation="bilinear")
        for one in p:
            ax.contour(*grid, one, levels=[0.5], colors="#222222", linewidths=1.3 if len(p) == 1 else 0.7)
        for c in (0, 1):
            where = classes == c
            ax.plot(
                *points[where].T, "os"[c], color=_BOUNDARY[c], mec="white", mew=0.5, markersize=4.2, label=f"class {c}"
            )
        ax.set(title=title, xlabel="$x_1$", xlim=extent[:2], ylim=extent[2:])
        ax.grid(False)
    axes[0, 0].set_ylabel("$x_2$")
    handles = axes[0, 0].get_legend_handles_labels()  # below the panels: within them lines run everywhere
    figure.legend(*handles, loc="outside lower center", ncols=2, handletextpad=0.1)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), cmap), ax=list(axes[0]), shrink=0.9)
    bar.set_label("probability of class 1")
    figure.alt = (
        f"Two classes of points in the plane and the predicted probability of class 1: {'; '.join(predictors)}."
    )
    return figure


def _label_cells(set_ticks: Callable[..., Any], axis: Any, count: int, names: Sequence[str] | None) -> None:
    if names is None:  # the numbers of many cells would run together in a small panel
        axis.set_major_locator(MaxNLocator(8 if count <= 8 else 5, integer=True, steps=[1, 2, 4, 5, 10]))
    else:
        set_ticks(range(len(names)), list(names))
