"""Mixup and CutMix for batches of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .kernels import normalise_and_mix_rows
from .mixture import Mixture, MixupModule, Pairing, Per, check_generator, random_source


class _ImageModule(MixupModule):
    """The part that ImageMixup and CutMix share: checks and the normalisation of uint8 images."""

    def __init__(
        self,
        alpha: float,
        *,
        per: Per = "batch",
        pairing: Pairing = "shuffle",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
        check_finite: bool = False,
    ):
        super().__init__(alpha, per=per, pairing=pairing)
        if (mean is None) != (std is None):
            raise ValueError(f"mean and std: expected both or neither, got mean={mean!r} and std={std!r}")
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"dtype: expected a floating torch.dtype, got {dtype!r}")
        self.dtype, self.check_finite = dtype, check_finite
        # Not buffers: they follow the images at each call, and model.half() or .to(dtype) does not round them.
        self.scale = self.shift = None
        if mean is not None:
            mean, std = (_numbers(name, v) for name, v in (("mean", mean), ("std", std)))
            if len(mean) != len(std) and 1 not in (len(mean), len(std)):
                raise ValueError(f"mean and std: expected as many numbers, got {len(mean)} and {len(std)}")
            if not bool((std > 0).all() & std.isfinite().all() & mean.isfinite().all()):
                raise ValueError(
                    f"std: expected numbers > 0 and finite means, got mean={mean.tolist()}, std={std.tolist()}"
                )
            # (u / 255 - mean) / std = u * scale + shift
            self.scale, self.shift = 1 / (255 * std), -mean / std

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise TypeError(f"images: expected a tensor (B, C, H, W), got {type(images).__name__}")
        if images.ndim < 2 or images.shape[0] == 0:
            raise ValueError(f"images: expected a batch (B, C, H, W), B >= 1, got shape {tuple(images.shape)}")
        if images.dtype == torch.uint8:
            if self.scale is None:
                raise TypeError(
                    "images: got uint8 but no mean and std. Give them (in units of [0, 1] pixels, one number or one a "
                    "channel), or convert first (images.float() / 255)"
                )
            channels = max(self.scale.numel(), self.shift.numel())
            if channels not in (1, images.shape[1]):
                raise ValueError(
                    f"images: expected {channels} channels as mean and std have, got shape {tuple(images.shape)}"
                )
        elif not images.is_floating_point():
            raise TypeError(f"images: expected floating or uint8 pixels, got {images.dtype}")
        elif self.check_finite and not bool(images.isfinite().all()):
            bad = (~images.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"images: expected finite pixels, got NaN or infinity in rows {bad[:8]}")

    def _normalise(self, images: Tensor) -> Tensor:
        """``(u / 255 - mean) / std`` in float32."""
        shape = (1, -1, *[1] * (images.ndim - 2))
        scale, shift = (v.view(shape) for v in self._scale_and_shift(images.device))
        return torch.addcmul(shift, images.float(), scale)

    def _scale_and_shift(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.scale.to(device, non_blocking=True), self.shift.to(device, non_blocking=True)

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return super().extra_repr() + ("" if self.scale is None else f", uint8 -> {self.dtype}")


def _numbers(name: str, value: float | Sequence[float]) -> Tensor:
    """Float32 ``(1,)`` or ``(C,)``."""
    try:
        numbers = torch.as_tensor(value, dtype=torch.float32, device="cpu").reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.empty(0)
    if not len(numbers):
        raise TypeError(f"{name}: expected a number or one a channel, got {value!r}")
    return numbers


class ImageMixup(_ImageModule):
    """Mixup of images: each image becomes ``lam`` of itself and ``1 - lam`` of its partner (Zhang et al., 2018).

    >>> images, mixture = ImageMixup(alpha=0.2)(images)
    >>> loss = mixture.loss(F.cross_entropy, model(images), labels)

    Args:
        alpha: lam ~ Beta(alpha, alpha); 0 switches mixing off.
        per: one lam for the ``"batch"``, each ``"pair"`` or each ``"sample"``.
        pairing: ``"shuffle"``, ``"roll"`` or ``"flip"``; see :func:`~mixup_modalities.draw_mixture`.
        mean: of the pixels on the scale [0, 1], a number or one a channel; only for uint8 images.
        std: likewise.
        dtype: of the output for uint8 images. Floating images keep their own dtype and are taken as normalised.
        check_finite: look for NaN and infinity first. On a GPU this waits for the device.
    """

    def __init__(
        self,
        alpha: float = 0.2,
        *,
        per: Per = "batch",
        pairing: Pairing = "shuffle",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
        check_finite: bool = False,
    ):
        super().__init__(alpha, per=per, pairing=pairing, mean=mean, std=std, dtype=dtype, check_finite=check_finite)

    def forward(self, images: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Mixture]:
        """Mix a batch.

        Args:
            images: ``(B, C, H, W)`` floating, or uint8 if ``mean`` and ``std`` were given. Never changed. The
                first axis is the batch whatever the rank, from two axes on: a single image needs ``image[None]``.
            generator: a CPU generator; default torch's global one.

        Returns:
            The mixed images (same shape, device and memory format) and the mixture. In evaluation mode the input,
            normalised if it was uint8, and the identity.

        Raises:
            TypeError: integer pixels other than uint8, or uint8 without mean and std.
            ValueError: fewer than two axes, an empty batch, another number of channels than ``mean`` has, non-finite
                pixels if checked.
        """
        self._check(images)
        check_generator(generator)
        mixture = self.draw(images.shape[0], images.device, generator)
        mixes = self.training and self.alpha > 0
        if images.dtype != torch.uint8:
            return (mixture.mix(images) if mixes else images), mixture
        if not mixes:
            return self._normalise(images).to(self.dtype), mixture
        scale, shift = self._scale_and_shift(images.device)
        return normalise_and_mix_rows(images, mixture.partner, mixture.lam, scale, shift, self.dtype), mixture


class CutMix(_ImageModule):
    """CutMix: a box of each image is replaced by the same box of its partner (Yun et al., 2019, eq. 1-2).

    The box has the area ``1 - lam``, lam ~ Beta(alpha, alpha), and a centre uniform over the image; what would lie
    outside is cut off (https://arxiv.org/abs/1905.04899). ``mixture.lam`` is the area actually kept, so labels and
    pixels agree exactly. Arguments as for :class:`ImageMixup`; the default alpha is 1, as in the paper. uint8 images
    without mean and std are pasted as they are.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        per: Per = "batch",
        pairing: Pairing = "shuffle",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
        check_finite: bool = False,
    ):
        super().__init__(alpha, per=per, pairing=pairing, mean=mean, std=std, dtype=dtype, check_finite=check_finite)

    def forward(self, images: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Mixture]:
        """Paste boxes between the images of a batch.

        Args:
            images: ``(B, C, H, W)`` floating or uint8. Never changed.
            generator: a CPU generator; default torch's global one.

        Returns:
            The images (same shape, device and memory format) and a mixture whose ``lam`` is the exact kept area. In
            evaluation mode the input, normalised if uint8 with mean and std, and the identity.

        Raises:
            TypeError: integer pixels other than uint8.
            ValueError: not four axes, or what :class:`ImageMixup` refuses.
        """
        if isinstance(images, Tensor) and (images.ndim != 4 or 0 in images.shape):
            raise ValueError(f"images: expected a batch (B, C, H, W), no axis empty, got shape {tuple(images.shape)}")
        if self.scale is not None or getattr(images, "dtype", None) != torch.uint8:
            self._check(images)
        check_generator(generator)
        mixture = self.draw(images.shape[0], "cpu", generator)
        if self.training and self.alpha > 0:
            box, kept = _draw_boxes(mixture, *images.shape[2:], per=self.per, generator=generator)
            mixture = Mixture(kept, mixture.partner).to(images.device)
            inside = _box_mask(box.to(images.device, non_blocking=True), *images.shape[2:])
            images = _paste(images, images.index_select(0, mixture.partner), inside)
        else:
            mixture = mixture.to(images.device)
        if images.dtype == torch.uint8 and self.scale is not None:
            images = self._normalise(images).to(self.dtype)
        return images, mixture


def _draw_boxes(
    mixture: Mixture, height: int, width: int, *, per: Per, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Boxes ``(1 or B, 4)`` as top, bottom, left, right, and the kept share of the area, ``()`` or ``(B,)``."""
    lam = mixture.lam.reshape(-1)
    centre = torch.rand(2, lam.numel(), dtype=torch.float32, **random_source(generator))
    if per == "pair":  # both members of a pair swap the same box
        centre = centre[:, torch.minimum(torch.arange(len(mixture), device="cpu"), mixture.partner)]
    side = (1 - lam).sqrt()
    edges = []
    for size, middle in zip((height, width), centre):
        # Integer sides and corners, as in the authors' code: a box of int(size * side) pixels around the centre.
        half, middle = (size * side).long() // 2, (middle * size).long()
        edges += [(middle - half).clamp(0, size), (middle + half).clamp(0, size)]
    top, bottom, left, right = edges
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return torch.stack(edges, dim=1), kept.reshape(mixture.lam.shape)


def _box_mask(box: Tensor, height: int, width: int) -> Tensor:
    """True inside the box, ``(1 or B, 1, H, W)``."""
    top, bottom, left, right = box[:, :, None].unbind(1)
    y, x = torch.arange(height, device=box.device), torch.arange(width, device=box.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)


def _paste(images: Tensor, partner_images: Tensor, inside: Tensor) -> Tensor:
    pasted = torch.where(inside, partner_images, images)
    return pasted if pasted.stride() == images.stride() else torch.empty_like(images).copy_(pasted)
