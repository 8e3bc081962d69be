"""Augmentation of whole batches on the device they are on: what a data loader's workers would do image by image."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FlipCrop:
    """Mirror each image with probability 1/2 and shift it by up to `padding` pixels, as is usual for CIFAR.

    That is `RandomCrop(size, padding)` after `RandomHorizontalFlip` of torchvision; what comes in from outside is 0,
    which is black where images are raw.

    Attributes:
        padding: the largest shift along each axis, in pixels.
        flip: whether to mirror; not for digits or letters.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self):
        if self.padding < 0:
            raise ValueError(f"padding must not be negative, got {self.padding}")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return new images.

        Args:
            x: `(B, C, H, W)` of any dtype; not changed.
            generator: a CPU generator. Of one seed, the same shifts on every device.

        Returns:
            `(B, C, H, W)`, same dtype and device, in channels-last order.
        """
        if x.ndim != 4:
            raise ValueError(f"x must be images (B, C, H, W), got shape {tuple(x.shape)}")
        (batch, _, height, width), pad = x.shape, self.padding
        # One draw for all three, and one transfer.
        shifts = torch.randint(2 * pad + 1, (2, batch), generator=generator)
        mirrored = torch.randint(2, (1, batch), generator=generator) * self.flip
        top, left, mirror = torch.cat([shifts, mirrored]).to(x.device, non_blocking=True)[:, :, None]
        row = torch.arange(height, device=x.device) + top
        column = torch.arange(width, device=x.device)
        column = torch.where(mirror.bool(), width - 1 - column, column) + left
        padded = torch.nn.functional.pad(x, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
        index = torch.arange(batch, device=x.device)[:, None, None]
        return padded[index, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)
