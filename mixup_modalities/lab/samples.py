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


def drawn(name: str = "cifar10") -> Dataset:
    """Return drawn colour pictures as a stand-in for CIFAR-10 or CIFAR-100: 4,000, 500 and 1,000 of 32 x 32 pixels.

    In place of CIFAR-10 the class is one of ten shapes. Half of the pictures are filled with the texture that belongs
    to the shape (discs are plain, rings striped, ...), half with any: a cue that helps but does not suffice, as the
    background of a photograph. In place of CIFAR-100 the class is shape and texture together, and `extra["coarse"]`
    is the shape. Colours, place, size, direction and noise are random, the seed is fixed.
    """
    from mixup_modalities.lab.drawn import SHAPES, TEXTURES

    fine, splits = name == "cifar100", {}
    for part, (x, y, shape) in _pictures(fine).items():
        splits[part] = Split(x.clone(), y.clone(), extra={"coarse": shape.clone()} if fine else {})
    kinds = len(SHAPES) * len(TEXTURES) if fine else len(SHAPES)
    what = "textured shapes" if fine else "shapes"
    classes = [f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES] if fine else SHAPES
    card = DataCard(
        title=f"drawn {what} of {kinds} classes, in place of {name.upper().replace('CIFAR', 'CIFAR-')}",
        source="drawn from formulas by this package",
        licence="CC0 1.0",
        notes=("The pictures are drawings, not photographs: accuracies on them do not compare with those on CIFAR.",),
    )
    return Dataset(name, **splits, classes=tuple(classes), card=card, is_sample=True)


@cache
def _pictures(fine: bool) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Pictures, labels and shapes of each split; with `fine`, the label says the texture too."""
    from mixup_modalities.lab.drawn import SHAPES, TEXTURES, draw

    kinds = len(SHAPES) * len(TEXTURES) if fine else len(SHAPES)
    generator, parts = torch.Generator().manual_seed(2009), {}
    for part, count in (("train", 4000), ("validation", 500), ("test", 1000)):
        y = (torch.arange(count) % kinds)[torch.randperm(count, generator=generator)]
        other = torch.randint(len(TEXTURES), (count,), generator=generator)
        own = torch.rand(count, generator=generator) < 0.5
        shape = y // len(TEXTURES) if fine else y
        texture = y % len(TEXTURES) if fine else torch.where(own, shape, other)
        parts[part] = draw(shape, texture, generator), y, shape
    return parts
