"""Further tests of a trained image classifier: a white-box attack of one step, and common corruptions.

Everything happens in raw pixels on the scale [0, 1], before the model's own normalisation, so that a strength means
the same for every model.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixup_modalities.lab.runtime import stream

EPSILONS = (1, 2, 4)  # of the attack, in units of 1/255


def unit(x: Tensor) -> Tensor:
    """Return images as floats in [0, 1], of uint8 in 0..255 or of floats already so."""
    return x / 255 if x.dtype == torch.uint8 else x


def fgsm(model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """Return adversarial images: one step of the fast gradient sign method (Goodfellow et al., 2015, arXiv 1412.6572).

    Args:
        model: takes images on the scale [0, 1]; in eval mode.
        x: images `(B, C, H, W)`, uint8 or floating in [0, 1].
        y: true labels, int64 `(B,)`.
        epsilon: the largest change of a pixel, on the scale [0, 1].

    Returns:
        clip(x + epsilon * sign(gradient of the loss)), floating `(B, C, H, W)`.
    """
    x = unit(x)
    return (x + epsilon * _gradient(model, x, y).sign()).clamp(0, 1)


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(model(x).float(), y, reduction="sum")
        return torch.autograd.grad(loss, x)[0]


def _gaussian_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.08 * torch.randn(x.shape, generator=generator).to(x.device)


def _shot_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.poisson(100 * x.cpu(), generator=generator).to(x.device) / 100


def _gaussian_blur(x: Tensor, generator: torch.Generator) -> Tensor:
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(x, [7, 7], [0.7, 0.7])


def _brightness(x: Tensor, generator: torch.Generator) -> Tensor:
    # Value of the HSV cone up by 0.15, hue and saturation kept: all three channels grow by one factor.
    value = x.amax(1, keepdim=True)
    return torch.where(value > 0, x * ((value + 0.15).clamp(max=1) / value.clamp_min(1e-6)), 0.15)


def _contrast(x: Tensor, generator: torch.Generator) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * 0.4 + mean


# Five of the corruptions of CIFAR-10-C (Hendrycks and Dietterich, 2019, arXiv 1903.12261) at their severity 3 of 5.
# They are computed anew, so the numbers stand beside those of the published files, and are not the same.
CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "gaussian_blur": _gaussian_blur,
    "brightness": _brightness,
    "contrast": _contrast,
}


def corrupt(x: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """Return corrupted images.

    Args:
        x: `(B, C, H, W)`, uint8 or floating in [0, 1].
        name: one of `CORRUPTIONS`.
        generator: a CPU generator.

    Returns:
        Floating images in [0, 1].
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"name must be one of {', '.join(CORRUPTIONS)}, got {name!r}")
    return CORRUPTIONS[name](unit(x), generator).clamp(0, 1)


def robust_accuracies(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epsilons: Iterable[float] = EPSILONS,
    limit: int = 2000,
    batch_size: int = 500,
) -> dict[str, float]:
    """Test a classifier under attack and on corrupted images, the same noise for every model.

    Args:
        model: takes images on the scale [0, 1]; put into eval mode, and back.
        x: test images `(N, C, H, W)`, uint8 or floating in [0, 1].
        y: int64 labels `(N,)`.
        epsilons: strengths of the attack, in units of 1/255.
        limit: only the first so many test images are used.
        batch_size: images at a time.

    Returns:
        `accuracy_fgsm_1`, ... for each epsilon; `accuracy_<corruption>` for each; and their mean,
        `accuracy_corrupted`.
    """
    device, was_training = next(model.parameters()).device, model.training
    names = {f"accuracy_fgsm_{epsilon:g}": epsilon for epsilon in epsilons}
    right = dict.fromkeys([*names, *(f"accuracy_{name}" for name in CORRUPTIONS)], 0)
    x, y = x[:limit], y[:limit]
    generators = {name: stream(0, name) for name in CORRUPTIONS}
    model.eval()
    try:
        for images, labels in zip(x.split(batch_size), y.split(batch_size)):
            images, labels = unit(images.to(device)), labels.to(device)
            sign = _gradient(model, images, labels).sign()
            tests = {key: (images + epsilon / 255 * sign).clamp(0, 1) for key, epsilon in names.items()}
            tests |= {f"accuracy_{name}": corrupt(images, name, generators[name]) for name in CORRUPTIONS}
            with torch.no_grad():
                for key, changed in tests.items():
                    right[key] += int((model(changed).argmax(1) == labels).sum())
    finally:
        model.train(was_training)
    found = {key: count / len(y) for key, count in right.items()}
    found["accuracy_corrupted"] = sum(found[f"accuracy_{name}"] for name in CORRUPTIONS) / len(CORRUPTIONS)
    return found
