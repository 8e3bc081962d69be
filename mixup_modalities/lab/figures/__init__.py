"""All plotting of the book, in one style: the only package that imports matplotlib and plotly.

Every function takes tensors or arrays and returns a new figure; none draws through pyplot or changes a global setting
(`use_style` excepted, whose purpose that is). Each figure carries a sentence that says what is seen: `alt_text`.
"""

from mixup_modalities.lab.figures.differences import plot_differences
from mixup_modalities.lab.figures.mixing import plot_mixing, plot_points
from mixup_modalities.lab.figures.plots import (
    decision_boundary,
    plot_curves_with_intervals,
    plot_intervals,
    plot_matrices,
    plot_reliability,
    show_images,
)
from mixup_modalities.lab.figures.scatter import plot_scatter
from mixup_modalities.lab.figures.sliders import (
    image_label_slider,
    image_slider,
    matrix_slider,
    mixing_slider,
    slider_figure,
)
from mixup_modalities.lab.figures.sound import Players, show_spectrograms, spectrogram_slider
from mixup_modalities.lab.figures.stills import draw_stills
from mixup_modalities.lab.figures.style import (
    COLORS,
    STYLE,
    Figure,
    alpha_colors,
    alt_text,
    color_of,
    new_figure,
    panel_axes,
    set_alt_text,
    use_style,
)
from mixup_modalities.lab.figures.tokens import plot_token_weights, token_slider
from mixup_modalities.lab.figures.vicinity import curve_slider, plane_slider, plot_ellipses, plot_lines

__all__ = [
    "COLORS",
    "STYLE",
    "Figure",
    "Players",
    "alpha_colors",
    "alt_text",
    "color_of",
    "curve_slider",
    "decision_boundary",
    "draw_stills",
    "image_label_slider",
    "image_slider",
    "matrix_slider",
    "mixing_slider",
    "new_figure",
    "panel_axes",
    "plane_slider",
    "plot_curves_with_intervals",
    "plot_differences",
    "plot_ellipses",
    "plot_intervals",
    "plot_lines",
    "plot_matrices",
    "plot_mixing",
    "plot_points",
    "plot_reliability",
    "plot_scatter",
    "plot_token_weights",
    "set_alt_text",
    "show_images",
    "show_spectrograms",
    "slider_figure",
    "spectrogram_slider",
    "token_slider",
    "use_style",
]
