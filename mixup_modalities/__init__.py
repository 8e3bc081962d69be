"""Mixup for images, text embeddings and spectrograms: one mixing matrix, three modalities, and an audit."""

from importlib.metadata import PackageNotFoundError, version

from .audio import LogMel, SpectrogramMixup
from .audit import audit, mixing_matrix
from .image import CutMix, ImageMixup
from .losses import mixup_cross_entropy
from .mixture import Mixture, draw_mixture
from .text import EmbeddingMixup

try:
    __version__ = version("mixup-modalities")
except PackageNotFoundError:  # imported from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "CutMix",
    "EmbeddingMixup",
    "ImageMixup",
    "LogMel",
    "Mixture",
    "SpectrogramMixup",
    "audit",
    "draw_mixture",
    "mixing_matrix",
    "mixup_cross_entropy",
]
