"""Figures of texts: what each token weighs in a mixture, and which tokens a mixed embedding is near to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from mixup_modalities.lab.figures.sliders import slider_figure
from mixup_modalities.lab.figures.style import COLORS, Figure, as_array, expect, new_figure, set_alt_text, styled

PAD = "[PAD]"


@styled
def plot_token_weights(
    panels: Mapping[str, tuple[Any, Any]],
    texts: Sequence[Sequence[str]],
    *,
    row_labels: Sequence[str] | None = None,
    width: float = 7.0,
) -> Figure:
    """How much of each token is in each position of a mixture, and which positions the network reads.

    A row for each text and a column for each position; the darker, the more of that token. Padding that has weight is
    orange. Positions that the mask leaves out are hatched.

    Args:
        panels: title -> weights `(S, T)` of the texts at each position, and the mask `(T,)`, 1 where the network reads.
        texts: `S` lists of `T` tokens; padding is "[PAD]".
        row_labels: `S` names.
        width: inches.

    Raises:
        ValueError: shapes that disagree.
    """
    expect(bool(panels), "panels", "at least one", "none")
    rows, columns = len(texts), len(texts[0])
    figure, axes = new_figure(len(panels), 1, width=width, height=(0.34 * rows + 0.36) * len(panels))
    blues, oranges = colormaps["Blues"], colormaps["Oranges"]
    for ax, (title, (weights, mask)) in zip(axes[:, 0], panels.items()):
        weights = as_array(weights, f"panels[{title!r}] weights").astype(float)
        mask = as_array(mask, f"panels[{title!r}] mask").astype(bool)
        shapes = f"weights ({rows}, {columns}) and mask ({columns},)"
        good = weights.shape == (rows, columns) and mask.shape == (columns,)
        expect(good, f"panels[{title!r}]", shapes, f"{weights.shape} and {mask.shape}")
        for i, text in enumerate(texts):
            for t, token in enumerate(text):
                weight = weights[i, t]
                color = (oranges if token == PAD else blues)(0.85 * weight) if weight > 0 else (1.0, 1.0, 1.0, 1.0)
                ax.add_patch(Rectangle((t - 0.5, i - 0.5), 1, 1, facecolor=color, edgecolor="white", linewidth=1.5))
                dark = np.dot(color[:3], (0.3, 0.59, 0.11)) < 0.55
                ink = "white" if dark else "#222222" if weight > 0 else "#9A9A9A"
                size = min(8.5, 0.88 * width * 72 / columns * 0.9 / (0.6 * len(token)))
                halo = [withStroke(linewidth=2.5, foreground=color)]  # hatching stops short of the word
                ax.text(t, i, token, ha="center", va="center", fontsize=size, color=ink, path_effects=halo)
        for t in np.flatnonzero(~mask):
            unread = Rectangle((t - 0.5, -0.5), 1, rows, fill=False, hatch="///", edgecolor="#ABABAB", linewidth=0)
            ax.add_patch(unread)
        ax.set(title=title, xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[])
        ax.set_yticks(range(rows), row_labels or [f"text {i + 1}" for i in range(rows)])
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
    figure.alt = f"The tokens of {rows} texts, shaded by their weight in a mixture, for: {'; '.join(panels)}."
    return figure


def token_slider(
    tokens: Sequence[Sequence[str]],
    scores: Any,
    labels: Sequence[str],
    *,
    title: str,
    marked: Sequence[str] = (),
    prefix: str = "λ = ",
    start: int = 0,
    height: int = 380,
) -> go.Figure:
    """Bars of the best tokens under a slider that needs no kernel.

    Args:
        tokens: `F` lists of `K` tokens, the best first.
        scores: `(F, K)`, in [0, 1].
        labels: `F` texts, one per position.
        title: what the scores are.
        marked: tokens drawn in another colour.
        prefix: stands before the label.
        start: the position shown first.
        height: CSS pixels.

    Raises:
        ValueError: shapes that disagree.
    """
    scores = as_array(scores, "scores").astype(float)
    shape = (len(labels), len(tokens[0]))
    expect(scores.shape == shape and len(tokens) == len(labels), "scores", f"shape {shape}", f"shape {scores.shape}")
    frames = [
        [
            go.Bar(
                x=np.round(row, 3),
                y=[f"{rank + 1}. {name}" for rank, name in enumerate(names)],
                orientation="h",
                marker_color=[COLORS["erm"] if name in marked else COLORS["mixup"] for name in names],
                hovertemplate="%{y}: %{x:.2f}<extra></extra>",
            )
        ]
        for names, row in zip(tokens, scores)
    ]
    figure = slider_figure(frames, labels, titles=[title], prefix=prefix, start=start, height=height)
    figure.update_xaxes(range=[0, 1.02])
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(margin={"l": 110})
    return set_alt_text(
        figure,
        f"The {shape[1]} best tokens by {title}, under a slider from {prefix}{labels[0]} to {prefix}{labels[-1]}.",
    )
