"""Offline samples of the image sets: small data that need no network, made or bundled, the same on every machine."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from mixup_modalities.lab.splits import DataCard, Dataset, Split


def digits() -> Dataset:
    """Return scikit-learn's bundled handwritten digits as a stand-in for MNIST.

    1,797 grey images of 8 x 8 pixels and 17 levels, resized to 28 x 28 uint8 `(N, 1, 28, 28)`. The file keeps the order
    in which they were collected, so each class is cut by position: its last 50 images are for testing, the 20 before
    them for validation, and the rest (104 to 113 of a class) for training. No random choice is involved, and few
    writers stand on both sides of a cut.
    """
    images, labels = _resized_digits()
    parts = {"train": [], "validation": [], "test": []}
    for label in range(10):
        rows = (labels == label).nonzero().flatten()
        for name, part in zip(parts, (rows[:-70], rows[-70:-50], rows[-50:])):
            parts[name].append(part)
    splits = {}
    for name, part in parts.items():
        rows = torch.cat(part).sort().values
        splits[name] = Split(images[rows].clone(), labels[rows].clone())
    card = DataCard(
        title="handwritten digits of scikit-learn, resized to 28 x 28, in place of MNIST",
        source="scikit-learn, sklearn.datasets.load_digits",
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        notes=("The originals have 8 x 8 pixels: accuracies on them do not compare with those on MNIST.",),
    )
    return Dataset("mnist", **splits, classes=tuple("0123456789"), card=card, is_sample=True)


@cache
def _resized_digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    large = functional.interpolate(small, (28, 28), mode="bicubic", align_corners=False, antialias=True)
    return large.round().clamp(0, 255).to(torch.uint8), torch.from_numpy(bunch.target).long()
