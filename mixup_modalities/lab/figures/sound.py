"""Sound to look at and to listen to: spectrograms, a slider of spectrograms, a table of players."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from mixup_modalities.lab.figures.sliders import slider_figure
from mixup_modalities.lab.figures.style import Figure, as_array, expect, new_figure, set_alt_text, styled

with warnings.catch_warnings():
    # librosa's downloader imports it, and in a notebook without Jupyter's widgets it complains, once.
    warnings.simplefilter("ignore")
    import tqdm.auto  # noqa: F401


@styled
def show_spectrograms(
    panels: Mapping[str, Any],
    *,
    frames_per_second: float,
    frequencies: Any = None,
    limits: tuple[float, float] | None = None,
    cmap: str = "magma",
    label: str = "log power",
    columns: int = 3,
    width: float = 7.0,
    height: float = 1.9,
) -> Figure:
    """Spectrograms side by side on one colour scale, drawn by librosa.

    Args:
        panels: title -> `(mels, frames)`.
        frames_per_second: for the time axis.
        frequencies: `(mels,)`, the centre of each row in Hz; default: rows are numbered.
        limits: ends of the colour scale; default: lowest and highest value of all panels, but at most 12 apart (52 dB).
        cmap: matplotlib's name of the colours.
        label: of the colour bar.
        columns: panels in a row.
        width: inches, all panels together.
        height: inches of each row of panels.

    Raises:
        ValueError: a panel that is no matrix.
    """
    from librosa.display import specshow

    arrays = {title: as_array(panel, f"panels[{title!r}]") for title, panel in panels.items()}
    for title, array in arrays.items():
        expect(array.ndim == 2, f"panels[{title!r}]", "shape (mels, frames)", f"shape {array.shape}")
    high = max(float(array.max()) for array in arrays.values())
    low = max(min(float(array.min()) for array in arrays.values()), high - 12)
    low, high = (low, high) if limits is None else limits
    columns = min(columns, len(arrays))
    rows = -(-len(arrays) // columns)
    figure, axes = new_figure(rows, columns, width=width, height=height * rows + 0.2, sharex=True, sharey=True)
    for k, (ax, (title, array)) in enumerate(zip(axes.flat, arrays.items())):
        times = np.arange(array.shape[1]) / frames_per_second
        y = np.arange(len(array)) if frequencies is None else as_array(frequencies, "frequencies")
        drawn = specshow(array, ax=ax, x_coords=times, y_coords=y, vmin=low, vmax=high, cmap=cmap, rasterized=True)
        lowest = k >= len(arrays) - columns
        ax.set(title=title, xlabel="time (s)" if lowest else "")
        ax.tick_params(labelbottom=lowest)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        if frequencies is not None:
            ax.set_yscale("symlog", linthresh=1000, linscale=0.6)
            ax.set_yticks([250, 500, 1000, 2000, 4000], ["250", "500", "1k", "2k", "4k"], minor=False)
            ax.minorticks_off()
            ax.set_ylim(y[0], y[-1])
        ax.set_ylabel("frequency (Hz)" if k % columns == 0 and frequencies is not None else "")
        ax.grid(False)
    for ax in list(axes.flat)[len(arrays) :]:
        ax.axis("off")
    figure.colorbar(drawn, ax=list(axes.flat), label=label, shrink=0.9, pad=0.01)
    figure.alt = f"Spectrograms of {', '.join(arrays)}: frequency over time, bright where there is energy."
    return figure


def spectrogram_slider(
    panels: Mapping[str, Any],
    labels: Sequence[str],
    *,
    limits: tuple[float, float],
    frames_per_second: float | None = None,
    prefix: str = "λ = ",
    start: int = 0,
    height: int = 360,
) -> go.Figure:
    """Spectrograms under a slider that needs no kernel; low frequencies are at the bottom.

    Args:
        panels: title -> `(F, mels, frames)`, one spectrogram per slider position.
        labels: `F` texts, one per position.
        limits: lowest and highest value of the colour scale.
        frames_per_second: for a time axis in seconds; without it the axis has no numbers.
        prefix: stands before the label.
        start: the position shown first.
        height: CSS pixels.

    Raises:
        ValueError: a panel that has not `F` spectrograms.
    """
    stacks = {title: as_array(stack, f"panels[{title!r}]") for title, stack in panels.items()}
    for title, stack in stacks.items():
        good = stack.ndim == 3 and len(stack) == len(labels)
        expect(good, f"panels[{title!r}]", f"shape ({len(labels)}, mels, frames)", f"shape {stack.shape}")
    low, high = limits
    # One byte a cell is as much as the eye can tell, and keeps the page small.
    levels = {
        t: np.round((np.clip(s, low, high) - low) / (high - low) * 255).astype(np.uint8) for t, s in stacks.items()
    }
    cells = {"coloraxis": "coloraxis", "hoverinfo": "skip", "x0": 0, "dx": 1 / (frames_per_second or 1)}
    frames = [[go.Heatmap(z=s[f], **cells) for s in levels.values()] for f in range(len(labels))]
    figure = slider_figure(frames, labels, titles=list(stacks), prefix=prefix, start=start, height=height)
    figure.update_layout(coloraxis={"colorscale": "Magma", "cmin": 0, "cmax": 255, "showscale": False})
    if frames_per_second is None:
        figure.update_xaxes(showticklabels=False, title_text="time")
    else:
        figure.update_xaxes(nticks=3, title_text="time (s)", title_standoff=4)
        figure.layout.sliders[0].pad.t = 50  # the numbers push the axis's title down towards the slider's
    figure.update_yaxes(showticklabels=False, showgrid=False)
    figure.update_yaxes(title_text="mel band", row=1, col=1)
    names = " and ".join(stacks)
    return set_alt_text(
        figure, f"Spectrograms of {names} under a slider from {prefix}{labels[0]} to {prefix}{labels[-1]}."
    )


class Players:
    """A table of sound players that works without a kernel and without a network: a notebook shows it as HTML.

    Each sound is stored as MP3, about 4 kB a second.

    Args:
        rows: row title -> column title -> waveform `(samples,)` of full scale 1; louder ones are scaled down.
        sample_rate: Hz.

    Raises:
        ValueError: a waveform of another shape, or one that is not finite.
    """

    def __init__(self, rows: Mapping[str, Mapping[str, Any]], sample_rate: int = 16_000):
        self.columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        self.rows = {
            row: {column: _mp3(x, f"rows[{row!r}][{column!r}]", sample_rate) for column, x in sounds.items()}
            for row, sounds in rows.items()
        }

    def __repr__(self) -> str:
        return f"Players({len(self.rows)} x {len(self.columns)}: {', '.join(self.rows)} by {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in self.columns)
        body = ""
        for row, sounds in self.rows.items():
            body += f'<tr><th scope="row">{html.escape(row)}</th>'
            for column in self.columns:
                player = ""
                if column in sounds:
                    name = html.escape(f"{row}, {column}", quote=True)
                    data = base64.b64encode(sounds[column]).decode()
                    player = (
                        f'<audio controls preload="none" aria-label="{name}" style="width: 100%; min-width: 7em">'
                        f'<source src="data:audio/mpeg;base64,{data}" type="audio/mpeg"></audio>'
                    )
                body += f"<td>{player}</td>"
            body += "</tr>"
        return (
            '<div style="overflow-x: auto"><table class="mixup-players" style="width: 100%">'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def _mp3(waveform: Any, name: str, sample_rate: int) -> bytes:
    import soundfile

    x = as_array(waveform, name).astype(np.float32)
    expect(x.ndim == 1 and x.size > 0, name, "shape (samples,)", f"shape {x.shape}")
    expect(bool(np.isfinite(x).all()), name, "finite samples", "NaN or infinity")
    buffer = io.BytesIO()
    soundfile.write(buffer, x / max(1.0, float(np.abs(x).max())), sample_rate, format="MP3", compression_level=0.6)
    return buffer.getvalue()
