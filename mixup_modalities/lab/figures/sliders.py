"""Figures with a slider, drawn by plotly: they need no kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mixup_modalities.lab.figures.style import COLORS, as_array, as_pictures, expect, set_alt_text

GREYS = {"colorscale": [[0, "#000000"], [1, "#FFFFFF"]], "cmin": 0, "cmax": 255, "showscale": False}


def matrix_slider(
    panels: Mapping[str, Any], labels: Sequence[str], *, prefix: str = "λ = ", start: int = 0, height: int = 420
) -> go.Figure:
    """Heat maps under a slider that needs no kernel: one matrix per position.

    Args:
        panels: title -> `(F, R, C)`, one matrix per slider position.
        labels: `F` texts, one per position, for instance the values of lambda.
        prefix: stands before the label.
        start: the position shown first.
        height: CSS pixels.

    Raises:
        ValueError: a panel that has not `F` matrices.
    """
    stacks = {title: _frames(stack, f"panels[{title!r}]", len(labels), 3) for title, stack in panels.items()}
    frames = [
        [
            go.Heatmap(
                z=np.round(s[f], 4), coloraxis="coloraxis", hovertemplate="row %{y}, column %{x}: %{z}<extra></extra>"
            )
            for s in stacks.values()
        ]
        for f in range(len(labels))
    ]
    top = max(1.0, *(float(np.nanmax(s)) for s in stacks.values()))
    figure = slider_figure(frames, labels, titles=list(stacks), prefix=prefix, start=start, height=height)
    figure.update_layout(
        coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": top, "colorbar": {"thickness": 12, "outlinewidth": 0}}
    )
    for k in range(len(stacks)):
        _square(figure, k)
    names = " and ".join(stacks)
    return set_alt_text(
        figure, f"Heat maps of {names} under a slider from {prefix}{labels[0]} to {prefix}{labels[-1]}."
    )


def image_slider(
    panels: Mapping[str, Any], labels: Sequence[str], *, prefix: str = "λ = ", start: int = 0, height: int = 380
) -> go.Figure:
    """Images under a slider that needs no kernel: one image per position.

    Args:
        panels: title -> `(F, H, W)`, `(F, 1, H, W)` or `(F, 3, H, W)`, as `show_images` takes them.
        labels: `F` texts, one per position.
        prefix: stands before the label.
        start: the position shown first.
        height: CSS pixels.

    Raises:
        ValueError: a panel that has not `F` images.
    """
    stacks = {title: as_pictures(stack, f"panels[{title!r}]") for title, stack in panels.items()}
    for title, stack in stacks.items():
        expect(len(stack) == len(labels), f"panels[{title!r}]", f"{len(labels)} images, one per label", str(len(stack)))
    frames = [[go.Image(z=s[f], hoverinfo="skip") for s in stacks.values()] for f in range(len(labels))]
    figure = slider_figure(frames, labels, titles=list(stacks), prefix=prefix, start=start, height=height)
    for k in range(len(stacks)):
        _square(figure, k, ticks=False)
    names = " and ".join(stacks)
    return set_alt_text(figure, f"Images of {names} under a slider from {prefix}{labels[0]} to {prefix}{labels[-1]}.")


def image_label_slider(
    images: Any, targets: Any, labels: Sequence[str], class_names: Sequence[str], *, start: int = 0, height: int = 360
) -> go.Figure:
    """A mixed image beside its mixed label, both under one slider of lambda.

    Args:
        images: `(F, H, W)`, `(F, 1, H, W)` or `(F, 3, H, W)`, one mixed image per position.
        targets: `(F, C)`, the mixed label of each.
        labels: `F` values of lambda, as texts.
        class_names: `C` names.
        start: the position shown first.
        height: CSS pixels.

    Raises:
        ValueError: shapes that disagree.
    """
    pictures = as_pictures(images, "images")
    expect(len(pictures) == len(labels), "images", f"{len(labels)}, one per label", str(len(pictures)))
    weights = _frames(targets, "targets", len(labels), 2).astype(float)
    expect(len(class_names) == weights.shape[1], "class_names", f"{weights.shape[1]} names", str(len(class_names)))
    frames = [
        [go.Image(z=p, hoverinfo="skip"), go.Bar(x=list(class_names), y=np.round(w, 4), marker_color=COLORS["mixup"])]
        for p, w in zip(pictures, weights)
    ]
    figure = slider_figure(frames, labels, titles=["mixed image", "mixed label"], start=start, height=height)
    _square(figure, 0, ticks=False)
    figure.update_yaxes(range=[0, 1.02], row=1, col=2)
    figure.update_xaxes(type="category", row=1, col=2)
    return set_alt_text(
        figure,
        f"A mixed image beside the weights of its label, under a slider from λ = {labels[0]} to λ = {labels[-1]}.",
    )


def mixing_slider(
    matrices: Any,
    images: Any,
    targets: Any,
    labels: Sequence[str],
    class_names: Sequence[str],
    *,
    start: int = 0,
    height: int = 560,
) -> go.Figure:
    """A batch of two under one slider of lambda: its matrix, both mixed images, and the label of the first.

    Args:
        matrices: `(F, 2, 2)`, the mixing matrix at each position.
        images: `(F, 2, H, W)` or `(F, 2, C, H, W)`, the two mixed images, as `show_images` takes them.
        targets: `(F, C)`, the mixed label of the first image.
        labels: `F` values of lambda, as texts.
        class_names: `C` names.
        start: the position shown first.
        height: CSS pixels.

    Raises:
        ValueError: shapes that disagree.
    """
    matrices = _frames(matrices, "matrices", len(labels), 3).astype(float)
    expect(matrices.shape[1:] == (2, 2), "matrices", "shape (F, 2, 2)", f"shape {matrices.shape}")
    images = as_array(images, "images")
    good = images.ndim in (4, 5) and images.shape[:2] == (len(labels), 2)
    expect(good, "images", f"shape ({len(labels)}, 2, H, W) or ({len(labels)}, 2, C, H, W)", f"shape {images.shape}")
    weights = _frames(targets, "targets", len(labels), 2).astype(float)
    expect(len(class_names) == weights.shape[1], "class_names", f"{weights.shape[1]} names", str(len(class_names)))
    first, second = (as_pictures(images[:, k], "images") for k in range(2))
    cells = {"x": ["source 1", "source 2"], "y": ["row 1", "row 2"], "texttemplate": "%{z:.2f}", "hoverinfo": "skip"}
    frames = [
        [
            go.Heatmap(z=np.round(matrices[f], 4), coloraxis="coloraxis", **cells),
            go.Bar(
                x=list(class_names), y=np.round(weights[f], 4), marker_color=COLORS["mixup"], hovertemplate="%{y:.2f}"
            ),
            _picture(first[f]),
            _picture(second[f]),
        ]
        for f in range(len(labels))
    ]
    titles = ["the matrix W", "label of row 1", "row 1 of W x", "row 2 of W x"]
    figure = slider_figure(frames, labels, titles=titles, start=start, height=height, columns=2)
    blues = {"colorscale": "Blues", "cmin": 0, "cmax": 1, "showscale": False}
    figure.update_layout(coloraxis=blues, coloraxis2=GREYS)
    for k in (0, 2, 3):
        _square(figure, k, ticks=k == 0)
    figure.update_yaxes(range=[0, 1.02], row=1, col=2)
    figure.update_xaxes(type="category", row=1, col=2)
    return set_alt_text(
        figure,
        "Two images mixed with each other: the 2 by 2 matrix, both mixed images and the label of the first, "
        f"under a slider from λ = {labels[0]} to λ = {labels[-1]}.",
    )


def slider_figure(
    frames: Sequence[Sequence[Any]],
    labels: Sequence[str],
    *,
    titles: Sequence[str],
    prefix: str = "λ = ",
    start: int = 0,
    height: int = 400,
    columns: int | None = None,
) -> go.Figure:
    """Panels side by side under one slider; the other interactive figures are made of this one.

    The background is transparent and the text grey, so the figure reads on a light and on a dark page.

    Args:
        frames: for each slider position one plotly trace per panel, `F` times `P`.
        labels: `F` texts.
        titles: `P` texts, one over each panel.
        prefix: stands before the label.
        start: the position shown first.
        height: CSS pixels; the width is that of the page.
        columns: panels in a row; all of them by default. Two rows of two stay readable on a phone.

    Raises:
        ValueError: counts that disagree, or no such start.
    """
    expect(len(frames) == len(labels) > 0, "frames", f"{len(labels)}, one per label", str(len(frames)))
    expect(all(len(f) == len(titles) for f in frames), "frames", f"{len(titles)} traces in each", "another number")
    expect(0 <= start < len(labels), "start", f"a position in 0..{len(labels) - 1}", str(start))
    panels, columns = range(len(titles)), min(columns or len(titles), len(titles))
    figure = make_subplots(
        rows=-(-len(titles) // columns), cols=columns, subplot_titles=list(titles), horizontal_spacing=0.12
    )
    for k in panels:
        figure.add_trace(frames[start][k], row=k // columns + 1, col=k % columns + 1)
    # A frame replaces the traces' data and must name the axes again, or every panel's data lands in the first.
    axes = [{"xaxis": trace.xaxis, "yaxis": trace.yaxis} for trace in figure.data]
    figure.frames = [
        go.Frame(name=str(f), data=[trace.update(axes[k]) for k, trace in enumerate(traces)], traces=list(panels))
        for f, traces in enumerate(frames)
    ]
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    figure.update_layout(
        height=height,
        margin={"l": 40, "r": 20, "t": 40, "b": 20},
        showlegend=False,
        dragmode=False,
        modebar={"remove": ["zoom", "pan", "select", "lasso", "zoomIn", "zoomOut", "autoScale", "resetScale"]},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#767676", "size": 13},
        sliders=[
            {
                "active": start,
                "currentvalue": {"prefix": prefix},
                "pad": {"t": 36, "b": 8},
                "ticklen": 3,
                "steps": [
                    {"label": str(text), "method": "animate", "args": [[str(f)], now]} for f, text in enumerate(labels)
                ],
            }
        ],
    )
    figure.update_xaxes(gridcolor="rgba(128,128,128,0.25)", zeroline=False)
    figure.update_yaxes(gridcolor="rgba(128,128,128,0.25)", zeroline=False)
    return set_alt_text(
        figure, f"{' and '.join(titles)} under a slider from {prefix}{labels[0]} to {prefix}{labels[-1]}."
    )


def _frames(stack: Any, name: str, count: int, dimensions: int) -> np.ndarray:
    array = as_array(stack, name)
    good = array.ndim == dimensions and len(array) == count
    expect(good, name, f"{count} frames, {dimensions} dimensions in all", f"shape {array.shape}")
    return array


def _picture(pixels: np.ndarray) -> Any:
    """A trace that shows `(H, W, 3)` uint8; a grey image as a heat map on `GREYS`, in a third of the bytes."""
    if (pixels == pixels[..., :1]).all():
        z = np.ascontiguousarray(pixels[..., 0])
        return go.Heatmap(z=z, coloraxis="coloraxis2", hoverinfo="skip")
    return go.Image(z=pixels, hoverinfo="skip")


def _square(figure: go.Figure, panel: int, ticks: bool = True) -> None:
    """Equal cells, first row on top, in one panel of a slider figure."""
    x, y = figure.data[panel].xaxis, figure.data[panel].yaxis
    number = y.removeprefix("y")
    figure.update_layout(
        {
            f"yaxis{number}": {"scaleanchor": x, "autorange": "reversed", "constrain": "domain", "visible": ticks},
            f"xaxis{number}": {"constrain": "domain", "visible": ticks},
        }
    )
