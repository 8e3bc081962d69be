"""The questions nobody answered with numbers, as entries of the tables in `recipes`: what else one can do with lambda.

One lambda for the batch, a pair or a sample; shuffle, roll or flip; lambda folded to max(lam, 1 - lam); a soft target
or two losses, for cross-entropy and for a loss that is not linear in its target; mixup off at the end; alpha on a
slope. Each variant differs from "per_batch" in one thing, on digits with wrong labels and on few questions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixup_modalities.image import ImageMixup
from mixup_modalities.lab.text_models import mixed_at
from mixup_modalities.mixture import Mixture
from mixup_modalities.text import EmbeddingMixup

GAMMA = 2.0  # of the focal loss, as Lin et al. (2017) recommend


def fold(mixture: Mixture) -> Mixture:
    """Return the mixture with lam folded to max(lam, 1 - lam): each row keeps the larger share."""
    return Mixture(torch.maximum(mixture.lam, 1 - mixture.lam), mixture.partner)


class _Folds:
    """Folds what the module after it draws."""

    def draw(self, *args, **kwargs) -> Mixture:
        """The mixture for a batch, folded."""
        return fold(super().draw(*args, **kwargs))


class FoldedImageMixup(_Folds, ImageMixup):
    """`ImageMixup` whose rows keep the larger share, lam >= 1/2."""


class FoldedEmbeddingMixup(_Folds, EmbeddingMixup):
    """`EmbeddingMixup` whose rows keep the larger share, lam >= 1/2."""


def soft_cross_entropy(logits: Tensor, y: Tensor, mixture: Mixture) -> Tensor:
    """Return the cross-entropy of logits `(B, C)` against the mixed, soft target of labels `(B,)`, a scalar."""
    return F.cross_entropy(logits, mixture.targets(y, logits.shape[1]))


def focal_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return the focal loss (1 - p)^gamma (-ln p) of each row (Lin et al., 2017, equation 4), `(B,)`.

    Args:
        logits: `(B, C)`.
        y: labels as indices `(B,)`, or as probabilities `(B, C)`; then p is exp(-cross-entropy), as is often written,
            and the loss is not linear in its target.
    """
    loss = F.cross_entropy(logits, y, reduction="none")
    return (1 - torch.exp(-loss)) ** GAMMA * loss


def focal_two(logits: Tensor, y: Tensor, mixture: Mixture) -> Tensor:
    """Return the focal loss as two losses, weighed by lam and 1 - lam; arguments as `soft_cross_entropy`."""
    return mixture.loss(focal_loss, logits, y)


def focal_soft(logits: Tensor, y: Tensor, mixture: Mixture) -> Tensor:
    """Return the focal loss against the mixed, soft target; arguments as `soft_cross_entropy`."""
    return focal_loss(logits, mixture.targets(y, logits.shape[1])).mean()


@dataclass(frozen=True)
class Variant:
    """What a variant changes; the defaults change nothing.

    Attributes:
        settings: of the mixup module: `per`, `pairing`.
        folds: lam becomes max(lam, 1 - lam).
        loss: for `fit(loss_fn=...)`; `None` for `mixup_cross_entropy`.
        strength: share of alpha at progress t in [0, 1); `None` for all of it, always.
    """

    settings: tuple[tuple[str, str], ...] = ()
    folds: bool = False
    loss: Callable[[Tensor, Tensor, Mixture], Tensor] | None = None
    strength: Callable[[float], float] | None = None


VARIANTS: dict[str, Variant] = {
    "per_batch": Variant(),
    "per_pair": Variant((("per", "pair"),)),
    "per_sample": Variant((("per", "sample"),)),
    "roll": Variant((("pairing", "roll"),)),
    "flip": Variant((("pairing", "flip"),)),
    "fold_batch": Variant(folds=True),
    "fold_sample": Variant((("per", "sample"),), folds=True),
    "soft": Variant(loss=soft_cross_entropy),
    "focal_two": Variant(loss=focal_two),
    "focal_soft": Variant(loss=focal_soft),
    "off_tenth": Variant(strength=lambda t: float(t < 0.9)),
    "off_quarter": Variant(strength=lambda t: float(t < 0.75)),
    "ramp_up": Variant(strength=lambda t: t),
    "ramp_down": Variant(strength=lambda t: 1 - t),
    "half": Variant(strength=lambda t: 0.5),
}
# For each modality: how it mixes, plainly and folded, and further arguments of `fit`.
MIXES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "mnist": (ImageMixup, FoldedImageMixup, {}),
    "trec": (EmbeddingMixup, FoldedEmbeddingMixup, {"forward": mixed_at("word")}),
}


def _mixes_as(variant: Variant) -> Callable[[Any, nn.Module], dict[str, Any]]:
    def method(recipe: Any, model: nn.Module) -> dict[str, Any]:
        plain, folded, further = MIXES[recipe.dataset]
        found = {"mixup": (folded if variant.folds else plain)(recipe.alpha, **dict(variant.settings)), **further}
        if variant.loss is not None:
            found["loss_fn"] = variant.loss
        if variant.strength is not None:
            found["alpha"] = lambda t: recipe.alpha * variant.strength(t)
        return found

    return method


QUESTION_METHODS: dict[str, Callable[[Any, nn.Module], dict[str, Any]]] = {
    f"question-{name}": _mixes_as(variant) for name, variant in VARIANTS.items()
}


def question_settings() -> Iterator[dict[str, Any]]:
    """Yield the fields of each `Recipe`: "questions-mnist-erm", "questions-mnist-per_batch", ...

    The tasks are those of "mnist-noise-40-4" and "trec-500-cnn-word", measured after the last epoch only.
    """
    shared = {"ledger": "questions", "epochs": 20, "batch_size": 50, "warmup": 0.1, "evaluate_every": 20}
    digits = {"dataset": "mnist", "model": "conv-8", "num_train": 1000, "num_validation": 200, "label_noise": 0.4}
    texts = {"dataset": "trec", "model": "text-cnn", "num_train": 500, "num_validation": 454, "lr": 0.004}
    texts |= {"optimizer": "adamw", "weight_decay": 0.01}
    for task, alpha, minutes in ((digits, 4.0, 0.04), (texts, 1.0, 0.06)):
        for name in ("erm", *VARIANTS):
            own = {"method": "erm"} if name == "erm" else {"method": f"question-{name}", "alpha": alpha}
            yield shared | task | own | {"name": f"questions-{task['dataset']}-{name}", "minutes_cpu": minutes}
