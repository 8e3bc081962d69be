"""The loss of mixup for classification."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .mixture import Mixture, as_integer, check_choice, check_class_indices, check_number

Reduction = Literal["mean", "sum", "none"]


def mixup_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    mixture: Mixture,
    *,
    label_smoothing: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy against the mixed labels: ``lam CE(logits, y) + (1 - lam) CE(logits, y[partner])``.

    One log-softmax and two gathers; no ``(B, C)`` target is built. Cross-entropy is linear in its target, so this
    equals ``torch.nn.functional.cross_entropy(logits, mixture.targets(labels, C))`` with the same options
    (Zhang et al., 2018, https://arxiv.org/abs/1710.09412, section 2).

    Args:
        logits: ``(B, C)``, or ``(B, C, H, W)`` for segmentation (any number of axes after C).
        labels: class indices of the *unmixed* batch, ``(B,)`` or ``(B, H, W)``.
        mixture: the mixture that made the batch.
        label_smoothing: in [0, 1], as in torch.
        weight: ``(C,)``, a factor for each class.
        ignore_index: a label that adds nothing to the loss.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (the shape of ``labels``). The mean is over the label mass that
            is not ignored. As for soft targets in torch, and unlike index targets, ``weight`` does not enter the
            denominator.

    Returns:
        A scalar, or the shape of ``labels``; float32 for half-precision logits.

    Raises:
        TypeError: floating or one-hot labels, integer logits, no mixture, no number where one is due.
        ValueError: shapes or devices that disagree, a label out of range (looked at on the CPU), an unknown reduction.
    """
    if not isinstance(mixture, Mixture):
        raise TypeError(f"mixture: expected the Mixture that made the batch, got {type(mixture).__name__}")
    mixture.check_rows("logits", logits)
    mixture.check_rows("labels", labels)
    if not logits.is_floating_point():
        raise TypeError(f"logits: expected a floating tensor (B, C, ...), got {logits.dtype}")
    if logits.ndim < 2:
        raise ValueError(f"logits: expected shape ({len(mixture)}, C, ...), got {tuple(logits.shape)}")
    label_smoothing = check_number("label_smoothing", label_smoothing, "a number in [0, 1]")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number in [0, 1], got {label_smoothing}")
    check_choice("reduction", reduction, Reduction)
    if as_integer(ignore_index) is None:
        raise TypeError(f"ignore_index: expected an integer, got {type(ignore_index).__name__} {ignore_index!r}")
    num_classes = logits.shape[1]
    labels = check_class_indices("labels", labels, num_classes, ignore_index, ndim=logits.ndim - 1)
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"labels: expected shape {(logits.shape[0], *logits.shape[2:])} to fit logits, got {tuple(labels.shape)}"
        )
    if weight is not None and (not isinstance(weight, Tensor) or weight.shape != (num_classes,)):
        got = tuple(weight.shape) if isinstance(weight, Tensor) else f"{type(weight).__name__} {weight!r}"
        raise ValueError(f"weight: expected a tensor of shape ({num_classes},), one factor a class, got {got}")
    if weight is not None and weight.device != logits.device:
        raise ValueError(f"weight is on {weight.device} but logits are on {logits.device}: put both on one device")

    log_probs = torch.log_softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
    smooth = None
    if label_smoothing:
        scaled = log_probs if weight is None else log_probs * _along_classes(weight, log_probs)
        smooth = -scaled.mean(dim=1)

    def cross_entropy(y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each row against y, and which rows count."""
        counts = y != ignore_index
        y = torch.where(counts, y, 0)
        loss = -log_probs.gather(1, y.unsqueeze(1)).squeeze(1)
        if weight is not None:
            loss = loss * weight.to(loss.dtype)[y]
        if smooth is not None:
            loss = (1 - label_smoothing) * loss + label_smoothing * smooth
        return torch.where(counts, loss, 0), counts

    loss, counts = cross_entropy(labels)
    partner_loss, partner_counts = cross_entropy(labels.index_select(0, mixture.partner))
    lam = mixture.lam_like(loss)
    mixed = lam * loss + (1 - lam) * partner_loss
    if reduction == "none":
        return mixed
    if reduction == "sum":
        return mixed.sum()
    return mixed.sum() / (lam * counts + (1 - lam) * partner_counts).sum()


def _along_classes(weight: Tensor, like: Tensor) -> Tensor:
    return weight.to(like.dtype).reshape(1, -1, *[1] * (like.ndim - 2))
