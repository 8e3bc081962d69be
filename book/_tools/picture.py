"""The picture of the README, and the figure and sounds of the landing page: one mixture of images, sound and text.

    python book/_tools/picture.py book/_static/one-mixture.png

Everything in it is computed: the offline digits, two synthetic spoken words, two questions with random embeddings.
"""

import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch

from mixup_modalities import LogMel, Mixture
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.figures import Players, set_alt_text, slider_figure
from mixup_modalities.lab.figures.style import COLORS, Figure, new_figure, styled
from mixup_modalities.lab.synth import WORDS, spoken_words
from mixup_modalities.text import mix_embeddings

LAM = 0.65
DIGITS = (3, 8)
SPOKEN = ("yes", "no")
QUESTIONS = ("who wrote this song ?", "where is the nearest station to the river ?")
KINDS = ("a person", "a place")


def images() -> torch.Tensor:
    """Two digits of the offline sample, `(2, 28, 28)` in [0, 1]."""
    train = load("mnist", sample=True).train
    rows = [int((train.y == digit).nonzero()[4]) for digit in DIGITS]
    return train.x[rows, 0] / 255


def waveforms() -> torch.Tensor:
    """Two synthetic words, `(2, samples)` at 16 kHz."""
    words = spoken_words(10, 1, torch.Generator().manual_seed(0))
    rows = [int((words.labels == list(WORDS).index(word)).nonzero()[0]) for word in SPOKEN]
    return words.waveforms[rows] / 32768


def powers(hop_length: int = 128, n_mels: int = 80) -> torch.Tensor:
    """Mel power of two synthetic words, `(2, mels, frames)`."""
    return LogMel(n_fft=1024, hop_length=hop_length, n_mels=n_mels).power(waveforms())


def decibels(power: torch.Tensor) -> torch.Tensor:
    """Power on a scale of decibels."""
    return 10 * power.clamp_min(1e-6).log10()


def embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    """Random embeddings of two questions and their mask, `(2, T, 16)` and `(2, T)`."""
    tokens = [question.split() for question in QUESTIONS]
    table = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    names = sorted(set(tokens[0] + tokens[1]))
    length = max(map(len, tokens))
    embeds, mask = torch.zeros(2, length, 16), torch.zeros(2, length, dtype=torch.long)
    for row, words in enumerate(tokens):
        embeds[row, : len(words)] = table[[names.index(word) for word in words]]
        mask[row, : len(words)] = 1
    return embeds, mask


@styled
def draw() -> Figure:
    """The picture: a row for each modality; two examples, their mixture, its label."""
    mixture = Mixture(torch.tensor(LAM), torch.tensor([1, 0]))
    pixels, power, (embeds, mask) = images(), powers(), embeddings()
    mixed_embeds, _ = mix_embeddings(embeds, mask, mixture)
    rows = [
        ("image\npixels", [*pixels, mixture.mix(pixels)[0]], {"cmap": "gray"}, DIGITS),
        ("sound\nmel power, then log", [decibels(x) for x in (*power, mixture.mix(power)[0])], {}, SPOKEN),
        ("text\ntoken embeddings", [x.T for x in (*embeds, mixed_embeds[0])], {}, KINDS),
    ]
    rows[1][2].update(
        cmap="magma",
        origin="lower",
        aspect="auto",
        vmin=float(decibels(power).max()) - 60,
        vmax=float(decibels(power).max()),
    )
    rows[2][2].update(cmap="PuOr", vmin=-2.5, vmax=2.5, aspect="auto")
    figure, axes = new_figure(3, 4, width=7.4, height=4.9, gridspec_kw={"width_ratios": [1, 1, 1, 0.9]})
    for (title, pictures, options, classes), line in zip(rows, axes):
        for ax, picture in zip(line, pictures):
            ax.imshow(np.asarray(picture), **options)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(title)
        label = mixture.targets(torch.tensor([0, 1]), 2)[0].tolist()
        bars = line[3].barh([0, 1], label, color=["#0072B2", "#8DBBDD"], height=0.5)
        line[3].bar_label(bars, [f"{weight:.2f}" for weight in label], padding=3)
        line[3].set_yticks([0, 1], [str(name) for name in classes])
        line[3].set(xlim=(0, 1), ylim=(1.7, -0.7), xticks=[])
        line[3].grid(False)
        line[3].spines["bottom"].set_visible(False)
    titles = ("$x_i$", "$x_j$", f"${LAM}\\,x_i + {1 - LAM:.2f}\\,x_j$", "the mixed label")
    for ax, text in zip(axes[0], titles):
        ax.set_title(text)
    figure.alt = (
        "Three rows, one for each modality: two digits, the spectrograms of two words, the token embeddings of two "
        f"questions. In each row the examples are mixed with weights {LAM} and {1 - LAM:.2f}, and so are the labels."
    )
    return figure


def slider() -> go.Figure:
    """The same three mixtures and their label under one slider of lambda."""
    lams = [round(1 - 0.1 * k, 1) for k in range(11)]
    pixels, power, (embeds, mask) = images(), powers(256, 48), embeddings()
    ceiling = float(decibels(power).max())
    names = [f"{digit}, {word}, {kind}" for digit, word, kind in zip(DIGITS, SPOKEN, KINDS)]
    frames = []
    for lam in lams:
        mixture = Mixture(torch.tensor(lam), torch.tensor([1, 0]))
        grey = (255 * mixture.mix(pixels)[0]).round().to(torch.uint8)
        loud = ((decibels(mixture.mix(power)[0]) - ceiling + 60).clamp(0, 60) / 60 * 255).round().to(torch.uint8)
        vectors = mix_embeddings(embeds, mask, mixture)[0][0].T
        label = mixture.targets(torch.tensor([0, 1]), 2)[0]
        frames.append(
            [
                go.Heatmap(z=grey.numpy(), coloraxis="coloraxis", hoverinfo="skip"),
                go.Heatmap(z=loud.numpy(), coloraxis="coloraxis2", hoverinfo="skip"),
                go.Heatmap(z=np.round(vectors.numpy(), 2), coloraxis="coloraxis3", hoverinfo="skip"),
                go.Bar(x=names, y=np.round(label.numpy(), 2), marker_color=COLORS["mixup"], hoverinfo="skip"),
            ]
        )
    titles = ["image: pixels", "sound: mel power", "text: embeddings", "the label of each"]
    figure = slider_figure(frames, lams, titles=titles, start=4, height=620, columns=2)
    figure.update_layout(
        coloraxis={"colorscale": "Greys_r", "cmin": 0, "cmax": 255, "showscale": False},
        coloraxis2={"colorscale": "Magma", "cmin": 0, "cmax": 255, "showscale": False},
        coloraxis3={"colorscale": "PuOr", "cmin": -2.5, "cmax": 2.5, "showscale": False},
    )
    for row, column in ((1, 1), (1, 2), (2, 1)):
        figure.update_xaxes(showticklabels=False, showgrid=False, row=row, col=column)
        figure.update_yaxes(showticklabels=False, showgrid=False, row=row, col=column)
    figure.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain", row=1, col=1)
    figure.update_xaxes(constrain="domain", row=1, col=1)
    figure.update_xaxes(title_text="time", row=1, col=2)
    figure.update_xaxes(title_text="token", row=2, col=1)
    for column, left in ((1, 0.0), (2, 0.59)):  # a gap for the names of the axes, on a phone too
        figure.update_xaxes(domain=[left, left + 0.41], col=column)
    for title in figure.layout.annotations:
        title.x = 0.205 if title.x < 0.5 else 0.795
    figure.update_yaxes(title_text="mel band", title_standoff=4, row=1, col=2)
    figure.update_yaxes(title_text="dimension", title_standoff=4, row=2, col=1)
    figure.update_yaxes(title_text="share", title_standoff=4, range=[0, 1.02], row=2, col=2)
    return set_alt_text(
        figure,
        "Two digits, two spoken words and two questions, each pair mixed with the same weights, beside the mixed "
        "label, under a slider of lambda from 1 to 0.",
    )


def players() -> Players:
    """The two words mixed at five lambdas, one below the other: all are in sight on a phone."""
    x = waveforms()
    mixed = {lam: Mixture(torch.tensor(lam), torch.tensor([1, 0])).mix(x)[0] for lam in (1.0, 0.75, 0.5, 0.25, 0.0)}
    return Players({f"λ = {lam:g}": {" and ".join(SPOKEN): wave.numpy()} for lam, wave in mixed.items()})


if __name__ == "__main__":
    picture = draw()
    Path(sys.argv[1]).write_bytes(picture.png())
    print(picture.alt)
