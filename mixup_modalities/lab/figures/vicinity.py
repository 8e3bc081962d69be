"""Figures of the mathematics: curves side by side, curves under a slider, distributions in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.patches import Ellipse

from mixup_modalities.lab.figures.sliders import slider_figure
from mixup_modalities.lab.figures.style import (
    COLORS,
    Figure,
    as_array,
    color_of,
    expect,
    new_figure,
    set_alt_text,
    styled,
)

_DASHES = ("-", "--", "-.", ":")
_PLOTLY_DASHES = ("solid", "dash", "dashdot", "dot")
_SHARE = [[0, "rgba(0,114,178,0)"], [0.25, "rgba(0,114,178,0.45)"], [1, "rgba(0,60,110,1)"]]
# The middle is the grey of `plot_points`: on a white page a white one would look like a place where nothing is known.
_BELIEF = [[0, "#D55E00"], [0.5, "#DCD6DC"], [1, "#0072B2"]]


@styled
def plot_lines(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]],
    *,
    xlabel: str,
    ylabel: str,
    colors: Mapping[str, str] | None = None,
    marks: Mapping[str, tuple[float, float]] | None = None,
    log_x: bool = False,
    sharey: bool = True,
    width: float = 7.0,
    height: float = 2.9,
) -> Figure:
    """Exact curves, a panel for each quantity.

    Args:
        panels: title -> name of a curve -> `(x, y)`: x `(T,)`; y `(T,)`, or `(S, T)` for a line for each of S seeds.
        xlabel: with the unit.
        ylabel: with the unit.
        colors: name -> colour, where `color_of` should not choose; the same name has the same colour in every panel.
        marks: title of a panel -> a point `(x, y)` to mark in it.
        log_x: logarithmic x axis.
        sharey: the same y axis in every panel.
        width: inches, all panels together.
        height: inches.

    Raises:
        ValueError: no panel, or a curve whose x and y differ in length.
    """
    expect(bool(panels) and all(panels.values()), "panels", "at least one curve in each", "none")
    figure, axes = new_figure(1, len(panels), width=width, height=height, sharey=sharey)
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    for ax, (title, curves) in zip(axes[0], panels.items()):
        for name, (x, y) in curves.items():
            x, y = (as_array(values, f"panels[{title!r}][{name!r}]").astype(float) for values in (x, y))
            expect(
                x.ndim == 1 and y.ndim in (1, 2) and y.shape[-1] == x.size,
                f"panels[{title!r}][{name!r}]",
                "x (T,) and y (T,) or (S, T)",
                f"{x.shape}, {y.shape}",
            )
            k = names.index(name)
            color = (colors or {}).get(name, color_of(name, k))
            ax.plot(x, y.T, color=color, linestyle=_DASHES[k % len(_DASHES)], label=name)
        if marks and title in marks:
            ax.plot(*marks[title], "o", color="#222222", markersize=5)
        ax.set(title=title, xlabel=xlabel)
        if log_x:
            ax.set_xscale("log")
    axes[0, 0].set_ylabel(ylabel)
    handles = {line.get_label(): line for ax in axes[0] for line in ax.get_lines() if line.get_label() in names}
    if len(names) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(names), 4))
    said = "; ".join(f"{title} ({', '.join(curves)})" for title, curves in panels.items())
    figure.alt = f"Curves of {ylabel} against {xlabel}: {said}."
    return figure


@styled
def plot_ellipses(
    x: Any,
    covariances: Mapping[str, Any],
    *,
    label: str = "data",
    xlabel: str = "$x_1$",
    ylabel: str = "$x_2$",
    colors: Mapping[str, str] | None = None,
) -> Figure:
    """Points in the plane, and around their mean one ellipse for each covariance: two standard deviations.

    Args:
        x: `(N, 2)`.
        covariances: name -> `(2, 2)`, symmetric and positive.
        label: of the points, in the legend.
        xlabel: what the first coordinate is.
        ylabel: what the second coordinate is.
        colors: name -> colour.

    Raises:
        ValueError: another shape.
    """
    points = as_array(x, "x").astype(float)
    expect(points.ndim == 2 and points.shape[1] == 2, "x", "shape (N, 2)", f"shape {points.shape}")
    figure, axes = new_figure(width=5.2, height=3.4)
    ax = axes[0, 0]
    ax.plot(*points.T, ".", color="#B9C2CC", markersize=4, label=label)
    for k, (name, matrix) in enumerate(covariances.items()):
        matrix = as_array(matrix, f"covariances[{name!r}]").astype(float)
        expect(matrix.shape == (2, 2), f"covariances[{name!r}]", "shape (2, 2)", f"shape {matrix.shape}")
        values, vectors = np.linalg.eigh(matrix)
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        color = (colors or {}).get(name, color_of(name, k))
        width, height = 4 * np.sqrt(values[::-1])
        shape = {"fill": False, "edgecolor": color, "linewidth": 1.8, "linestyle": _DASHES[k % len(_DASHES)]}
        ax.add_patch(Ellipse(points.mean(0), width, height, angle=angle, label=name, **shape))
    ax.plot(*points.mean(0), "+", color="#222222", markersize=9, label="mean")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_aspect("equal", adjustable="datalim")  # with "box" the layout cuts off the label of the y axis
    ax.autoscale_view()
    figure.legend(loc="outside right center")
    figure.alt = f"Points in the plane with ellipses of two standard deviations: {', '.join(covariances)}."
    return figure


def curve_slider(
    x: Any,
    panels: Mapping[str, Mapping[str, Any]],
    labels: Sequence[str],
    *,
    xlabel: str | Mapping[str, str],
    ylabel: str = "",
    prefix: str = "λ = ",
    colors: Mapping[str, str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    x_ranges: Mapping[str, tuple[float, float]] | None = None,
    marks: Mapping[str, Any] | None = None,
    start: int = 0,
    height: int = 380,
    columns: int | None = None,
) -> go.Figure:
    """Curves under a slider that needs no kernel.

    Args:
        x: `(T,)`, evenly spaced, common to all curves.
        panels: title -> name of a curve -> `(F, T)`, one curve for each slider position.
        labels: `F` texts, one for each position.
        xlabel: with the unit; title -> text where the panels differ.
        ylabel: with the unit; stands at the first panel.
        prefix: stands before the label.
        colors: name -> colour, where `color_of` should not choose.
        ranges: title -> `(low, high)` of the y axis; by default from the values.
        x_ranges: title -> `(low, high)` of the x axis, for a panel that shows a part of `x`.
        marks: title -> `(F, 2)`, a point to mark in each position.
        start: the position shown first.
        height: CSS pixels.
        columns: panels in a row; all of them by default.

    Raises:
        ValueError: x that is not evenly spaced, or a curve that has not `F` rows of `T` values.
    """
    x = as_array(x, "x").astype(float)
    even = x.ndim == 1 and x.size > 1 and np.allclose(np.diff(x), np.diff(x).mean())
    expect(even, "x", "evenly spaced values (T,)", f"shape {x.shape}")
    steps = {"x0": round(float(x[0]), 6), "dx": round(float(np.diff(x).mean()), 8)}  # a list would be in every frame
    shape = (len(labels), x.size)
    stacks: dict[str, dict[str, np.ndarray]] = {}
    for title, curves in panels.items():
        stacks[title] = {name: as_array(y, f"panels[{title!r}][{name!r}]").astype(float) for name, y in curves.items()}
        for name, y in stacks[title].items():
            expect(y.shape == shape, f"panels[{title!r}][{name!r}]", f"shape {shape}", f"shape {y.shape}")
    names = list(dict.fromkeys(name for curves in stacks.values() for name in curves))

    def line(name: str, y: np.ndarray) -> go.Scatter:
        k = names.index(name)
        style = {"color": (colors or {}).get(name, color_of(name, k)), "dash": _PLOTLY_DASHES[k % 4], "width": 2.5}
        text = f"{name}: %{{y:.3f}}<extra></extra>"
        return go.Scatter(**steps, y=y.astype(np.float32), mode="lines", name=name, line=style, hovertemplate=text)

    def dot(point: np.ndarray) -> go.Scatter:
        marker = {"color": "#767676", "size": 10, "symbol": "diamond"}
        return go.Scatter(x=[point[0]], y=[point[1]], mode="markers", marker=marker, name="minimum", hoverinfo="skip")

    first = [[line(*next((n, y[f]) for n, y in curves.items())) for curves in stacks.values()] for f in range(shape[0])]
    figure = slider_figure(
        first, labels, titles=list(stacks), prefix=prefix, start=start, height=height, columns=columns
    )
    # `slider_figure` has one trace a panel. The others are added to the figure and, for each position, to its frame.
    places = [{"xaxis": trace.xaxis, "yaxis": trace.yaxis} for trace in figure.data]
    more: list[list[go.Scatter]] = [[] for _ in labels]
    for (title, curves), place in zip(stacks.items(), places):
        for f in range(shape[0]):
            more[f] += [line(name, y[f]).update(place) for name, y in list(curves.items())[1:]]
            if marks and title in marks:
                more[f].append(dot(np.round(as_array(marks[title], "marks")[f].astype(float), 4)).update(place))
    figure.add_traces(more[start])
    for frame, traces in zip(figure.frames, more):
        frame.update(data=[*frame.data, *traces], traces=list(range(len(figure.data))))
    named = {title: xlabel if isinstance(xlabel, str) else xlabel[title] for title in stacks}
    for (title, curves), trace in zip(stacks.items(), list(figure.data)):
        values = np.concatenate([y[np.isfinite(y)] for y in curves.values()])
        low, high = (ranges or {}).get(title, (min(0.0, values.min()), 1.05 * values.max()))
        number = trace.yaxis.removeprefix("y")
        across = {"range": list((x_ranges or {}).get(title, (float(x.min()), float(x.max()))))}
        across["title"] = {"text": named[title]}
        figure.update_layout({f"yaxis{number}": {"range": [low, high]}, f"xaxis{number}": across})
    figure.update_yaxes(title_text=ylabel or None, row=1, col=1)
    seen: set[str] = set()
    for trace in figure.data:
        trace.update(legendgroup=trace.name, showlegend=trace.name not in seen)
        seen.add(trace.name)
    if len(seen) > 1:
        legend = {"orientation": "h", "y": 1.12, "yanchor": "bottom"}
        figure.update_layout(showlegend=True, legend=legend, margin={"t": 80})
    said = "; ".join(f"{title} ({', '.join(curves)})" for title, curves in panels.items())
    across_all = " and ".join(dict.fromkeys(named.values()))
    span = f"under a slider from {prefix}{labels[0]} to {prefix}{labels[-1]}"
    return set_alt_text(figure, f"Curves against {across_all}: {said}, {span}.")


def plane_slider(
    panels: Mapping[str, Any],
    extent: tuple[float, float, float, float],
    labels: Sequence[str],
    *,
    beliefs: Sequence[str] = (),
    points: Any = None,
    classes: Any = None,
    prefix: str = "α = ",
    start: int = 0,
    height: int = 420,
    columns: int | None = None,
    xlabel: str = "x₁",
    ylabel: str = "x₂",
) -> go.Figure:
    """Functions of the plane as heat maps under a slider that needs no kernel.

    Args:
        panels: title -> `(F, R, C)`, one grid for each slider position; NaN is left blank.
        extent: `(left, right, bottom, top)` of the grid, whose first row is at the bottom.
        labels: `F` texts, one for each position.
        beliefs: the titles whose values are probabilities of class 1, drawn from orange over grey to blue; the values
            of the others are shares, drawn from nothing to dark blue, each position on its own scale.
        points: `(N, 2)`, drawn into every panel.
        classes: `(N,)`, 0 or 1.
        prefix: stands before the label.
        start: the position shown first.
        height: CSS pixels.
        columns: panels in a row; all of them by default.
        xlabel: what the first coordinate is.
        ylabel: what the second coordinate is.

    Raises:
        ValueError: a panel that has not `F` grids.
    """
    stacks = {title: as_array(stack, f"panels[{title!r}]").astype(float) for title, stack in panels.items()}
    for title, stack in stacks.items():
        expect(
            stack.ndim == 3 and len(stack) == len(labels),
            f"panels[{title!r}]",
            f"{len(labels)} grids",
            f"shape {stack.shape}",
        )
    left, right, bottom, top = extent

    def heat(title: str, grid: np.ndarray) -> go.Heatmap:
        dx, dy = (right - left) / grid.shape[1], (top - bottom) / grid.shape[0]
        belief = title in beliefs
        z = np.round(100 * (grid if belief else grid / np.nanmax(grid)))
        z = z.astype(np.float32 if np.isnan(z).any() else np.uint8)  # what takes few bytes in the page
        scale = {"colorscale": _BELIEF if belief else _SHARE, "zmin": 0, "zmax": 100, "showscale": False}
        where = {"x0": round(left + dx / 2, 4), "dx": round(dx, 5), "y0": round(bottom + dy / 2, 4), "dy": round(dy, 5)}
        return go.Heatmap(z=z, **where, **scale, hoverinfo="skip")

    frames = [[heat(title, stack[f]) for title, stack in stacks.items()] for f in range(len(labels))]
    figure = slider_figure(
        frames, labels, titles=list(stacks), prefix=prefix, start=start, height=height, columns=columns
    )
    axes = [(trace.xaxis, trace.yaxis) for trace in figure.data]
    for x_axis, y_axis in axes:
        within = {"constrain": "domain"}
        square = {"scaleanchor": x_axis, **within, "range": [bottom, top], "title": {"text": ylabel}}
        number = y_axis.removeprefix("y")
        wide = {"range": [left, right], **within, "title": {"text": xlabel}}
        figure.update_layout({f"yaxis{number}": square, f"xaxis{number}": wide})
        if points is None:
            continue
        dots, y = as_array(points, "points").astype(float), as_array(classes, "classes").astype(int)
        marker = {"size": 6, "line": {"width": 1, "color": "white"}}
        marker |= {
            "color": [COLORS["mixup" if c else "erm"] for c in y],
            "symbol": ["square" if c else "circle" for c in y],
        }
        where = {"x": np.round(dots[:, 0], 3), "y": np.round(dots[:, 1], 3), "xaxis": x_axis, "yaxis": y_axis}
        figure.add_trace(go.Scatter(**where, mode="markers", marker=marker, hoverinfo="skip"))
    span = f"under a slider from {prefix}{labels[0]} to {prefix}{labels[-1]}"
    return set_alt_text(figure, f"The plane, coloured by {' and '.join(panels)}, {span}.")
