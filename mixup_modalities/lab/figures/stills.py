"""A figure with a slider on paper: some of its positions, drawn by matplotlib side by side."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.ticker import FixedLocator, MaxNLocator

from mixup_modalities.lab.figures.style import COLORS, Figure, expect, new_figure, styled

_DASHES = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":"}
_MARKERS = {"circle": "o", "diamond": "D", "square": "s", "cross": "P", "x": "X"}


@styled
def draw_stills(figure: Mapping[str, Any], *, positions: int = 4, width: float = 7.0) -> Figure:
    """A slider figure as a printed page shows it: the panels at a few positions from the first to the last.

    Args:
        figure: what `slider_figure` and the figures made of it are as JSON (`json.loads(figure.to_json())`), with
            traces of the types heatmap, image, bar and scatter.
        positions: how many; all of them if there are fewer.
        width: inches, all panels together.

    Returns:
        A row of panels for each position; where there is one panel, the positions two by two. Its `alt` is that of
        the figure, and the positions.

    Raises:
        ValueError: the figure has no slider, or a trace of another type.
    """
    layout, frames = figure.get("layout", {}), figure.get("frames", [])
    sliders = layout.get("sliders") or [{}]
    labels = [step["label"] for step in sliders[0].get("steps", [])]
    expect(len(labels) == len(frames) > 0, "figure", "a frame for each position of its slider", f"{len(frames)} frames")
    expect(positions > 0, "positions", "at least 1", str(positions))
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(positions, len(frames))).round().astype(int)).tolist()
    prefix = sliders[0].get("currentvalue", {}).get("prefix", "")
    names = [f"{prefix}{labels[position]}" for position in chosen]
    panels = list(dict.fromkeys(trace.get("xaxis", "x") for trace in figure["data"]))
    titles = [note.get("text", "") for note in layout.get("annotations", [])] + [""] * len(panels)

    alone = len(panels) == 1
    rows, columns = (-(-len(chosen) // 2), min(2, len(chosen))) if alone else (len(chosen), len(panels))
    height = 0.5 + rows * (2.1 if alone else 1.4 if columns < 3 else 1.3)
    drawn, axes = new_figure(rows, columns, width=width, height=height)
    for k, (position, name) in enumerate(zip(chosen, names)):
        frame = frames[position]
        traces = [dict(trace) for trace in figure["data"]]
        for number, trace in zip(frame.get("traces", range(len(traces))), frame["data"]):
            traces[number].update(trace)
        for p, panel in enumerate(panels):
            ax = axes[divmod(k, columns)] if alone else axes[k, p]
            for trace in traces:
                if trace.get("xaxis", "x") == panel:
                    _draw(ax, trace, layout)
            number = panel.removeprefix("x")
            lowest = k >= len(chosen) - (columns if alone else 1)
            _dress(ax, *(layout.get(f"{axis}axis{number}", {}) for axis in "xy"), lowest=lowest)
            ax.set_title(name if alone else titles[p] if k == 0 else "")
            if p == 0 and not alone:
                ax.set_ylabel("\n".join(filter(None, (name, ax.get_ylabel()))))
    for ax in list(axes.flat)[len(chosen) * len(panels) :]:
        ax.axis("off")
    if alone and titles[0]:
        drawn.suptitle(titles[0], fontsize="medium")
    for trace in figure["data"]:
        scale = layout[trace["coloraxis"]] if "coloraxis" in trace else trace
        if trace.get("type") == "heatmap" and scale.get("showscale", True):
            shown = axes.flat[panels.index(trace.get("xaxis", "x"))].images[0]
            drawn.colorbar(shown, ax=list(axes.flat), shrink=0.6, pad=0.02)
            break
    lines = {line.get_label(): line for ax in axes.flat for line in ax.get_lines() if line.get_label()[0] != "_"}
    if layout.get("showlegend") and len(lines) > 1:
        drawn.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=min(len(lines), 4))
    alt = (layout.get("meta") or {}).get("alt", "").removesuffix(".")
    drawn.alt = f"{alt}; here at {', '.join(names)}."
    return drawn


def _draw(ax: Axes, trace: Mapping[str, Any], layout: Mapping[str, Any]) -> None:
    """One trace of plotly with the same data, place and colours."""
    kind = trace.get("type", "scatter")
    expect(kind in ("heatmap", "image", "bar", "scatter"), "figure", "heatmap, image, bar and scatter traces", kind)
    if kind == "image":
        ax.imshow(_values(trace["z"]).astype(np.uint8))
    elif kind == "heatmap":
        _draw_heatmap(ax, trace, layout)
    elif kind == "bar":
        sideways = trace.get("orientation") == "h"
        names, lengths = (trace["y"], trace["x"]) if sideways else (trace["x"], trace["y"])
        places = np.arange(len(names))
        color = _colors(trace.get("marker", {}).get("color", COLORS["mixup"]))
        (ax.barh if sideways else ax.bar)(places, _values(lengths), color=color)
        _name(ax.yaxis if sideways else ax.xaxis, names)
        (ax.yaxis if sideways else ax.xaxis).grid(False)
    else:
        y = _values(trace["y"]).astype(float)
        x = _values(trace["x"]) if "x" in trace else trace.get("x0", 0) + trace.get("dx", 1) * np.arange(len(y))
        line, marker = trace.get("line", {}), trace.get("marker", {})
        label = trace.get("name", "_nolegend_")
        if "lines" in trace.get("mode", "lines"):
            style = {
                "color": _colors(line.get("color", COLORS["mixup"])),
                "linestyle": _DASHES[line.get("dash", "solid")],
            }
            ax.plot(x, y, label=label, linewidth=1.5, **style)
        else:
            _draw_points(ax, x, y, marker, label)


def _draw_heatmap(ax: Axes, trace: Mapping[str, Any], layout: Mapping[str, Any]) -> None:
    z = _values(trace["z"]).astype(float)
    scale = layout[trace["coloraxis"]] if "coloraxis" in trace else trace
    colors = [(float(where), to_rgba(_colors(color))) for where, color in scale["colorscale"]]
    cmap = LinearSegmentedColormap.from_list("trace", colors)
    low, high = (scale.get(name, scale.get(other)) for name, other in (("cmin", "zmin"), ("cmax", "zmax")))
    x0, dx, y0, dy = (trace.get(name, default) for name, default in (("x0", 0), ("dx", 1), ("y0", 0), ("dy", 1)))
    extent = (x0 - dx / 2, x0 + dx * (z.shape[1] - 0.5), y0 - dy / 2, y0 + dy * (z.shape[0] - 0.5))
    ax.imshow(z, cmap=cmap, vmin=low, vmax=high, origin="lower", extent=extent, aspect="auto")
    for axis, names in ((ax.xaxis, trace.get("x")), (ax.yaxis, trace.get("y"))):
        if isinstance(names, list):
            _name(axis, names)
    found = re.fullmatch(r"%\{z:(.*)\}", trace.get("texttemplate", ""))
    if found:
        middle = (low + high) / 2
        for (row, column), value in np.ndenumerate(z):
            place = (x0 + dx * column, y0 + dy * row)
            ax.text(
                *place, format(value, found[1]), ha="center", va="center", color="w" if value > middle else "#333333"
            )
    ax.grid(False)


def _name(axis: Axis, names: Sequence[object]) -> None:
    """Ticks with names; those side by side share the width of the panel."""
    wide = max(14 // len(names), 3) if axis.axis_name == "x" else 30
    axis.set_ticks(range(len(names)), [fill(str(name), wide, break_long_words=False) for name in names])


def _draw_points(ax: Axes, x: np.ndarray, y: np.ndarray, marker: Mapping[str, Any], label: str) -> None:
    colors, symbols = (
        marker.get(name, default) for name, default in (("color", COLORS["mixup"]), ("symbol", "circle"))
    )
    colors, symbols = (v if isinstance(v, list) else [v] * len(x) for v in (colors, symbols))
    for symbol in dict.fromkeys(symbols):
        for color in dict.fromkeys(colors):
            here = [s == symbol and c == color for s, c in zip(symbols, colors)]
            style = {"marker": _MARKERS.get(symbol, "o"), "color": _colors(color), "markeredgecolor": "white"}
            ax.plot(x[here], y[here], linestyle="", markersize=4, markeredgewidth=0.5, label=label, **style)


def _dress(ax: Axes, x: Mapping[str, Any], y: Mapping[str, Any], *, lowest: bool) -> None:
    """Ranges, ticks and names of the axes as plotly's layout has them."""
    for axis, options, limits in ((ax.xaxis, x, ax.set_xlim), (ax.yaxis, y, ax.set_ylim)):
        if "range" in options:
            limits(*options["range"])
        if options.get("visible") is False or options.get("showticklabels") is False:
            axis.set_ticks([])
            axis.grid(False)
        elif not isinstance(axis.get_major_locator(), FixedLocator):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axis.set_label_text((options.get("title") or {}).get("text", ""))
    if y.get("autorange") == "reversed" and ax.get_ylim()[0] < ax.get_ylim()[1]:
        ax.invert_yaxis()
    if "scaleanchor" in y:
        ax.set_aspect("equal")
    if y.get("visible") is False or (ax.images and y.get("showticklabels") is False):
        ax.spines[:].set_visible(False)
    if not lowest:
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)


def _values(data: Any) -> np.ndarray:
    """What plotly writes as a list, or as bytes with their type and shape."""
    if not isinstance(data, Mapping):
        return np.asarray(data)
    flat = np.frombuffer(base64.b64decode(data["bdata"]), dtype=data["dtype"])
    return flat.reshape([int(n) for n in str(data.get("shape", flat.size)).split(",")])


def _colors(color: Any) -> Any:
    """plotly's `rgb(...)` and `rgba(...)` as matplotlib takes them; other names are the same in both."""
    if isinstance(color, list):
        return [_colors(one) for one in color]
    numbers = re.fullmatch(r"rgba?\((.*)\)", color)
    if not numbers:
        return color
    *rgb, alpha = [float(n) for n in numbers[1].split(",")] + ([] if color.startswith("rgba") else [1.0])
    return (*(value / 255 for value in rgb), alpha)
