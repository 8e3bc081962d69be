"""Flip and crop of whole batches: each image is what torchvision's transforms of one image can make of it."""

import pytest
import torch
from torchvision.transforms import functional

from mixup_modalities.lab.augment import FlipCrop


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_image_is_one_of_the_possible_crops(device, dtype):
    x = torch.randint(1, 256, (12, 3, 6, 5), generator=generator()).to(device, dtype)
    before = x.clone()
    y = FlipCrop(2)(x, generator(1))
    assert y.shape == x.shape and y.dtype == dtype and y.device == x.device and torch.equal(x, before)
    for image, made in zip(x, y):
        padded = functional.pad(image, [2, 2, 2, 2])
        crops = [functional.crop(padded, top, left, 6, 5) for top in range(5) for left in range(5)]
        assert any(torch.equal(made, each) for crop in crops for each in (crop, functional.hflip(crop)))


def test_all_shifts_and_both_sides_are_equally_likely():
    x = torch.zeros(20_000, 1, 8, 8)
    x[:, :, 3, 2] = 1  # one bright pixel tells where an image has gone
    y = FlipCrop(1)(x, generator())
    where = y.flatten(1).argmax(1)
    counts = torch.bincount(where, minlength=64).reshape(8, 8)
    # Rows 2 to 4; columns 1 to 3, and 4 to 6 mirrored: 18 places.
    expected = 20_000 / 18
    assert counts.sum() == counts[2:5, 1:7].sum()
    assert ((counts[2:5, 1:7] - expected) ** 2 / expected).sum() / 17 < 2


def test_it_follows_from_the_generator_alone_and_can_be_switched_off():
    x = torch.rand(9, 3, 8, 8, generator=generator())
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = FlipCrop()(x, generator(5))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, FlipCrop()(x, generator(5))) and not torch.equal(first, FlipCrop()(x, generator(6)))
    assert torch.equal(FlipCrop(0, flip=False)(x, generator()), x)
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="padding must not be negative, got -1"):
        FlipCrop(-1)
    with pytest.raises(ValueError, match=r"x must be images \(B, C, H, W\), got shape \(3, 8, 8\)"):
        FlipCrop()(torch.zeros(3, 8, 8), generator())
