"""The look of the book: colours, the figure class with its alt text, and the reading of tensors."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib
import matplotlib.colors
import matplotlib.figure
import numpy as np
import plotly.graph_objects as go
from matplotlib import colormaps
from matplotlib.axes import Axes
from PIL import Image

# Okabe and Ito's colours and Tol's "muted": told apart with every common colour-vision deficiency, and dark enough for
# lines on white. A method or a mixing domain has the same colour on every page.
COLORS = {
    "erm": "#D55E00",
    "mixup": "#0072B2",
    "cutmix": "#009E73",
    "manifold": "#AA3377",
    "waveform": "#B8860B",
    "power": "#332288",
    "log": "#2F9287",
    "word": "#117733",
    "sentence": "#882255",
    "hidden": "#5B86B5",
    "floor": "#6B6B6B",
}
_SPARE = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#B8860B", "#332288", "#2F9287", "#6B6B6B")

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 144,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "normal",
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#8A8A8A",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "image.interpolation": "nearest",
    "image.cmap": "gray",
}
CSS_PIXELS_PER_INCH = 100
P = ParamSpec("P")


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that shows itself in a notebook as one small PNG with its alt text beside it.

    Not registered with pyplot: it appears once, as the last expression of a cell, and is freed with its last reference.
    """

    alt: str = ""

    def png(self) -> bytes:
        """Renders the figure as a PNG of at most 256 colours, which takes a third of the bytes of full colour."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            self.savefig(buffer, format="png", dpi=self.dpi, facecolor=self.get_facecolor())
        buffer.seek(0)
        small, out = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE), io.BytesIO()
        small.save(out, format="PNG", optimize=True)
        return out.getvalue()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        width, height = (round(inches * CSS_PIXELS_PER_INCH) for inches in self.get_size_inches())
        return (
            {"image/png": self.png(), "text/plain": repr(self)},
            {"image/png": {"width": width, "height": height, "alt": self.alt}},
        )


def use_style() -> None:
    """Makes the book's style the default of matplotlib, for plots that a notebook draws by itself."""
    matplotlib.rcParams.update(STYLE)


def color_of(name: str, position: int = 0) -> str:
    """The book's colour for a method or a domain.

    Args:
        name: for instance "ERM", "mixup", "CutMix", "power", "mixup, alpha = 1"; the first word that
            `COLORS` knows counts.
        position: chooses among the spare colours when no word is known.

    Returns:
        A colour as `"#RRGGBB"`.
    """
    words = name.lower().replace(",", " ").replace("-", " ").split()
    return next((COLORS[word] for word in words if word in COLORS), _SPARE[position % len(_SPARE)])


def alpha_colors(alphas: Sequence[float]) -> list[str]:
    """One colour per alpha: ERM's for 0, then blues that darken as alpha grows.

    Args:
        alphas: values >= 0, in any order.

    Returns:
        As many colours, as `"#RRGGBB"`.
    """
    order = sorted({a for a in alphas if a > 0})
    ramp = colormaps["Blues"](np.linspace(0.45, 0.95, max(len(order), 1)))
    blues = {a: matplotlib.colors.to_hex(c) for a, c in zip(order, ramp)}
    return [COLORS["erm"] if a == 0 else blues[a] for a in alphas]


def alt_text(figure: Figure | go.Figure) -> str:
    """The sentence that stands for a figure of this module where it cannot be seen.

    Raises:
        ValueError: the figure has none.
    """
    text = figure.alt if isinstance(figure, Figure) else (figure.layout.meta or {}).get("alt", "")
    if not text:
        raise ValueError("figure: it has no alt text; set it with set_alt_text(figure, text)")
    return text


def set_alt_text(figure: Figure | go.Figure, text: str) -> Figure | go.Figure:
    """Replaces the alt text that the plotting function wrote, and returns the same figure."""
    if not text.strip():
        raise ValueError("text: the alt text is empty; say what is seen")
    if isinstance(figure, Figure):
        figure.alt = text
    else:
        figure.update_layout(meta={"alt": text})
    return figure


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 3.2, **kwargs: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure, for the plotting functions of this package, which carry the decorator `styled`.

    Args:
        rows: rows of axes.
        columns: columns of axes.
        width: inches; 7 fills the text column of the book.
        height: inches.
        **kwargs: for `matplotlib.figure.Figure.subplots`, such as `sharey=True`.

    Returns:
        The figure and its axes, `(rows, columns)`.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def panel_axes(figure: Figure) -> list[Axes]:
    """The axes that hold data, without colour bars, in reading order."""
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def styled(plot: Callable[P, Figure]) -> Callable[P, Figure]:
    """Runs a plotting function in the book's style and leaves matplotlib's settings as they were."""

    @functools.wraps(plot)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return plot(*args, **kwargs)

    return wrapper


def expect(holds: bool, name: str, expected: str, came: str) -> None:
    """Raises a ValueError that names the argument, what was expected and what came, unless `holds`."""
    if not holds:
        raise ValueError(f"{name}: expected {expected}, got {came}")


def as_array(values: Any, name: str) -> np.ndarray:
    """Tensor (any device, any dtype, with or without gradient) or array-like -> NumPy array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() and values.itemsize < 4:  # NumPy has no bfloat16
            values = values.float()
    array = np.asarray(values)
    expect(array.dtype.kind in "biuf", name, "real numbers", f"{array.dtype}")
    return array


def as_pictures(images: Any, name: str) -> np.ndarray:
    """Images of any number type -> `(N, H, W, 3)` uint8.

    Args:
        images: `(N, H, W)`, `(N, 1, H, W)` or `(N, 3, H, W)`; integers in 0..255, or floats in 0..1; floats outside are
            stretched together, so that the images stay comparable.
        name: the argument's name, for the error.
    """
    array = as_array(images, name)
    good = array.ndim == 3 or (array.ndim == 4 and array.shape[1] in (1, 3))
    expect(good and array.size > 0, name, "images (N, H, W), (N, 1, H, W) or (N, 3, H, W)", f"shape {array.shape}")
    array = array[..., None] if array.ndim == 3 else np.moveaxis(array, 1, -1)
    if array.dtype.kind == "f":
        low, high = min(0.0, float(array.min())), max(1.0, float(array.max()))
        array = (array - low) / (high - low) * 255
    array = np.clip(np.round(array), 0, 255).astype(np.uint8)
    return np.broadcast_to(array, (*array.shape[:3], 3))
