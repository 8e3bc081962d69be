"""Attack and corruptions: as strong as said, by their formulas, and the same for every model."""

import colorsys

import pytest
import torch
from torch import nn

from mixup_modalities.lab.robustness import CORRUPTIONS, corrupt, fgsm, robust_accuracies


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 8) -> torch.Tensor:
    return torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=generator())


class Brighter(nn.Module):
    """Logits (0, slope * (mean pixel - 1/2)): whoever is darker than half is class 0."""

    def __init__(self, slope: float = 10.0):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x):
        bright = self.slope * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([torch.zeros_like(bright), bright], 1)


def test_the_attack_moves_each_pixel_by_epsilon_against_the_label(device):
    x = images().to(device)
    y = torch.tensor([0, 1] * 4, device=device)
    sign = torch.where(y == 0, 1.0, -1.0)[:, None, None, None]
    torch.testing.assert_close(fgsm(Brighter().to(device), x, y, 0.1), (x / 255 + 0.1 * sign).clamp(0, 1))


def test_accuracy_under_attack_falls_where_the_margin_is_crossed():
    """Flat images at 1/2 -+ 3/255 and an attack of 2 or 4: right below the margin, wrong above it."""
    x = 0.5 + torch.tensor([-3.0, 3.0])[:, None, None, None] / 255 * torch.ones(2, 3, 8, 8)
    found = robust_accuracies(Brighter(), x, torch.tensor([0, 1]), epsilons=(2, 4))
    assert (found["accuracy_fgsm_2"], found["accuracy_fgsm_4"]) == (1.0, 0.0)
    assert set(found) == {"accuracy_fgsm_2", "accuracy_fgsm_4", "accuracy_corrupted"} | {
        f"accuracy_{name}" for name in CORRUPTIONS
    }
    assert found["accuracy_corrupted"] == pytest.approx(sum(found[f"accuracy_{n}"] for n in CORRUPTIONS) / 5)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_stay_in_range_change_something_and_repeat(device, name):
    x = images().to(device)
    made = corrupt(x, name, generator(1))
    assert made.shape == x.shape and made.min() >= 0 and made.max() <= 1 and made.is_floating_point()
    assert 0.005 < (made - x / 255).abs().mean() < 0.3
    assert torch.equal(made, corrupt(x, name, generator(1)))


def test_corruptions_are_as_strong_as_in_the_published_set():
    grey = torch.full((64, 3, 32, 32), 0.5)
    assert (corrupt(grey, "gaussian_noise", generator()) - grey).std() == pytest.approx(0.08, rel=0.02)
    assert corrupt(grey, "shot_noise", generator()).std() == pytest.approx((0.5 / 100) ** 0.5, rel=0.02)
    x = images() / 255
    torch.testing.assert_close(corrupt(x, "contrast", generator()), 0.4 * x + 0.6 * x.mean((2, 3), keepdim=True))
    for pixel, bright in zip(x[0].flatten(1).T[:9], corrupt(x, "brightness", generator())[0].flatten(1).T):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.15, 1))
        torch.testing.assert_close(bright, torch.tensor(expected), atol=1e-5, rtol=0)
    black = corrupt(torch.zeros(1, 3, 2, 2), "brightness", generator())
    assert torch.allclose(black, torch.tensor(0.15))


def test_the_mode_is_restored_and_unknown_corruptions_are_named():
    model = Brighter().train()
    robust_accuracies(model, images(), torch.zeros(8, dtype=torch.int64), limit=4)
    assert model.training and model.slope.grad is None
    with pytest.raises(ValueError, match=r"name must be one of gaussian_noise, .* got 'fog'"):
        corrupt(images(), "fog", generator())
