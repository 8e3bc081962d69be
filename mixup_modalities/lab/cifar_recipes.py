"""The CIFAR-10 entries of the tables in `recipes`: models, methods, augmentation, further tests, and the settings.

`cifar10-preact18-...` and `cifar10-noise-...` are the experiments of Zhang et al. (2018, sections 3.2 and 3.4) as their
code runs them, for a GPU. `cifar10-small-...` ask the same questions at a size that a CPU answers in half a minute.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from mixup_modalities.image import ImageMixup
from mixup_modalities.lab.augment import FlipCrop
from mixup_modalities.lab.image_models import PreActResNet, mix_at_random_stage
from mixup_modalities.lab.robustness import robust_accuracies
from mixup_modalities.lab.splits import Dataset, Split

# Zhang et al. (2018) mix CIFAR-10 with alpha = 1, Yun et al. (2019) cut with 1 (here every batch, there every second
# one), Verma et al. (2019) mix hidden states with 2.
ALPHAS = {"erm": 0.0, "mixup": 1.0, "cutmix": 1.0, "manifold": 2.0}
NOISE = {"erm": ("erm", 0.0), "mixup-8": ("mixup", 8.0), "mixup-32": ("mixup", 32.0)}


def _preact(**settings) -> Callable[[Dataset], tuple[nn.Module, Dataset]]:
    return lambda data: (PreActResNet.for_images(data.train.x, len(data.classes), **settings), data)


SMALL = {"width": 16, "blocks": (1, 1, 1), "strides": (2, 2, 2)}
IMAGE_MODELS: dict[str, Callable[[Dataset], tuple[nn.Module, Dataset]]] = {
    "preact18": _preact(),
    "preact18-stem7": _preact(stem="imagenet"),
    "preact-small": _preact(**SMALL),
    "preact-small-stem7": _preact(**SMALL, stem="imagenet"),
}
IMAGE_METHODS: dict[str, Callable[[Any, nn.Module], dict[str, Any]]] = {
    "manifold": lambda recipe, model: {"mixup": ImageMixup(recipe.alpha), "forward": mix_at_random_stage},
}
AUGMENTS: dict[str, Callable] = {"flip-crop": FlipCrop(4)}
IMAGE_TESTS: dict[str, Callable[[nn.Module, Split], dict[str, float]]] = {
    "cifar10": lambda model, test: robust_accuracies(model, test.x, test.y),
}


def cifar_settings() -> Iterator[dict[str, Any]]:
    """Yield the fields of each CIFAR-10 `Recipe`: "cifar10-preact18-erm", "cifar10-small-mixup", ..."""
    shared = {"ledger": "cifar10", "dataset": "cifar10", "weight_decay": 1e-4, "augment": "flip-crop"}
    # The authors' schedule, and all 50,000 images, as they have no validation set.
    full = shared | {"epochs": 200, "batch_size": 128, "lr": 0.1, "optimizer": "momentum", "schedule": "step"}
    full |= {"model": "preact18", "warmup": 0.0, "train_on_validation": True, "evaluate_every": 10}
    small = shared | {"model": "preact-small", "num_train": 2000, "num_validation": 500, "num_further": 500}
    small |= {"epochs": 10, "batch_size": 50, "lr": 0.1, "evaluate_every": 5, "minutes_cpu": 0.35}
    for size, settings in (("preact18", full), ("small", small)):
        for method, alpha in ALPHAS.items():
            yield settings | {"name": f"cifar10-{size}-{method}", "method": method, "alpha": alpha}
        yield settings | {"name": f"cifar10-{size}-stem7-erm", "model": f"{settings['model']}-stem7"}
    # The best epoch is chosen among all, on validation labels that are as wrong as the others.
    full |= {"train_on_validation": False, "evaluate_every": 1}
    # Few epochs learn wrong labels by heart only where every epoch shows the same pixels.
    small |= {"augment": None, "num_train": 1000, "epochs": 12, "evaluate_every": 3, "minutes_cpu": 0.3}
    for size, settings in (("", full), ("small-", small)):
        for percent in (20, 50, 80):
            # The paper draws that share of labels anew from all ten classes, so nine in ten of them are wrong.
            noisy = settings | {"label_noise": 0.9 * percent / 100}
            for name, (method, alpha) in NOISE.items():
                yield noisy | {"name": f"cifar10-{size}noise-{percent}-{name}", "method": method, "alpha": alpha}
