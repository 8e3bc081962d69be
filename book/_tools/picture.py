"""Draw the picture of the landing page and the README: one mixture applied to images, sound and text.

    python book/_tools/picture.py book/_static/one-mixture.png

Everything in it is computed: the offline digits, two synthetic spoken words, two questions with random embeddings.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from mixup_modalities import LogMel, Mixture
from mixup_modalities.lab.datasets import load
from mixup_modalities.lab.figures.style import Figure, new_figure, styled
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


def powers() -> torch.Tensor:
    """Mel power of two synthetic words, `(2, mels, frames)`."""
    words = spoken_words(10, 1, torch.Generator().manual_seed(0))
    rows = [int((words.labels == list(WORDS).index(word)).nonzero()[0]) for word in SPOKEN]
    return LogMel(n_fft=1024, hop_length=128, n_mels=80).power(words.waveforms[rows] / 32768)


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
    decibels = lambda x: 10 * x.clamp_min(1e-6).log10()  # noqa: E731
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


if __name__ == "__main__":
    picture = draw()
    Path(sys.argv[1]).write_bytes(picture.png())
    print(picture.alt)
