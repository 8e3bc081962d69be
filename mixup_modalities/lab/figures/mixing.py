"""Pictures of a mixture at work: a matrix times a column of images, and mixed points in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize

from mixup_modalities.lab.figures.style import COLORS, Figure, as_array, as_pictures, expect, new_figure, styled


@styled
def plot_mixing(matrix: Any, images: Any, *, row_labels: Sequence[str] | None = None, size: float = 0.8) -> Figure:
    """A mixing matrix between the images it is applied to and the images that come out: W x, multiplied in the open.

    The sources stand above the columns of W. Row i of W holds the weights of the sources in the image at its right end,
    which is computed here as W x.

    Args:
        matrix: `(R, B)`, real.
        images: `(B, H, W)`, `(B, 1, H, W)` or `(B, 3, H, W)` in 0..1 or 0..255.
        row_labels: `R` texts, written beside the mixed images, for instance their labels.
        size: width of a cell in inches.

    Raises:
        ValueError: shapes that disagree.
    """
    w, sources = as_array(matrix, "matrix").astype(float), as_array(images, "images")
    expect(w.ndim == 2, "matrix", "shape (rows, columns)", f"shape {w.shape}")
    expect(w.shape[1] == len(sources), "images", f"{w.shape[1]}, one per column of the matrix", str(len(sources)))
    if row_labels is not None:
        expect(len(row_labels) == len(w), "row_labels", f"{len(w)}, one per row", str(len(row_labels)))
    scale = 255.0 if sources.dtype.kind in "biu" else 1.0
    mixed = np.tensordot(w, sources / scale, axes=1)
    pictures = as_pictures(np.concatenate([sources / scale, mixed]), "images")
    rows, columns = w.shape
    wide = 1.45 if row_labels is not None else 0
    figure, axes = new_figure(width=size * (columns + 1.9 + wide), height=size * (rows + 1.7))
    ax = axes[0, 0]
    ax.axis("off")
    cmap, norm = colormaps["Blues"], Normalize(0, 1)
    ax.imshow(w, cmap=cmap, norm=norm)
    edges = {"color": "#DDE3EA", "linewidth": 0.6}
    ax.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, **edges)
    ax.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, **edges)
    for (i, j), value in np.ndenumerate(w):
        if abs(value) >= 0.005:
            color = "white" if norm(value) > 0.55 else "#222222"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color=color)
    for k, picture in enumerate(pictures):
        x, y = (k, -1.15) if k < columns else (columns + 0.15, k - columns)
        ax.imshow(picture, extent=(x - 0.46, x + 0.46, y + 0.46, y - 0.46))
    ax.text(-0.65, -1.15, "x", ha="right", va="center", style="italic", fontsize=13)
    ax.text(-0.65, (rows - 1) / 2, "W", ha="right", va="center", style="italic", fontsize=13)
    ax.text(columns + 0.15, -0.62, "W x", ha="center", va="bottom", style="italic", fontsize=13)
    for i, label in enumerate(row_labels or ()):
        ax.text(columns + 0.72, i, label, ha="left", va="center", fontsize=8.5)
    ax.set(xlim=(-1.1, columns + 0.65 + wide), ylim=(rows - 0.45, -1.65))
    figure.alt = (
        f"{columns} source images above the columns of a {rows} by {columns} matrix of weights; at the right end of "
        "each row stands the mixed image that its weights give."
    )
    return figure


@styled
def plot_points(
    panels: Mapping[str, Sequence[Any]], *, columns: int | None = None, size: float = 3.1, marked: str = "marked"
) -> Figure:
    """Points in the plane, coloured by how much of class 1 their label holds; one panel per set of points.

    Args:
        panels: title -> `(x, p)` or `(x, p, mark)`: points `(N, 2)`, label weights of class 1 `(N,)` in [0, 1], and
            which points to ring, boolean `(N,)`.
        columns: panels in a row; all of them by default.
        size: width of each panel in inches.
        marked: what the rings mean, for the legend.

    Raises:
        ValueError: shapes that disagree, weights outside [0, 1].
    """
    arrays = {title: [as_array(part, f"panels[{title!r}]") for part in parts] for title, parts in panels.items()}
    expect(bool(arrays), "panels", "at least one", "none")
    for title, (x, p, *mark) in arrays.items():
        expect(x.ndim == 2 and x.shape[1] == 2, f"panels[{title!r}]", "points (N, 2)", f"shape {x.shape}")
        fits = all(part.shape == (len(x),) for part in (p, *mark))
        expect(fits, f"panels[{title!r}]", f"{len(x)} weights and marks, one per point", "another number")
        expect(bool(((p >= 0) & (p <= 1)).all()), f"panels[{title!r}]", "weights in [0, 1]", "values outside")
    columns = min(columns or len(arrays), len(arrays))
    rows = -(-len(arrays) // columns)
    every = np.concatenate([x for x, *_ in arrays.values()])
    low, high = every.min(0) - 0.25, every.max(0) + 0.25
    height = rows * (size * (high[1] - low[1]) / (high[0] - low[0]) + 0.55)
    figure, axes = new_figure(rows, columns, width=size * columns + 0.7, height=height, sharex=True, sharey=True)
    cmap = LinearSegmentedColormap.from_list("label", (COLORS["erm"], "#DCD6DC", COLORS["mixup"]))
    for ax in axes.flat[len(arrays) :]:
        ax.set_visible(False)
    for ax, (title, (x, p, *mark)) in zip(axes.flat, arrays.items()):
        ax.scatter(*x.T, c=p, cmap=cmap, vmin=0, vmax=1, s=20, edgecolors="#555555", linewidths=0.3)
        for which in mark:
            if which.any():
                ring = {"facecolors": "none", "edgecolors": "#222222", "linewidths": 1.1}
                ax.scatter(*x[which.astype(bool)].T, s=64, label=marked, **ring)
                ax.legend(loc="upper right", handletextpad=0.1, borderpad=0.1)
        ax.set(title=title, xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    for ax in axes[-1]:
        ax.set_xlabel("$x_1$")
    for ax in axes[:, 0]:
        ax.set_ylabel("$x_2$")
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), cmap), ax=list(axes.flat), shrink=0.9)
    bar.set_label("label: share of class 1")
    figure.alt = f"Points in the plane coloured by the share of class 1 in their label: {'; '.join(arrays)}."
    return figure
