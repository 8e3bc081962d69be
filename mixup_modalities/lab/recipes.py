"""Every experiment of the book by name: `run(find_recipe("mnist-noise-40-8"), seed=0)`.

A recipe is data, frozen: what is trained on what, and how. Two tables turn its words into objects.

- `MODELS[recipe.model](dataset)` returns the untrained model, and the data set in the form that the model reads (for
  images the same; for texts one with token ids in place of strings).
- `METHODS[recipe.method](recipe, model)` returns the arguments of `fit` that the method consists of, such as `mixup=`.
- `TESTS[recipe.dataset](model, test split)`, where there is one, returns further metrics of the trained model.
- `AUGMENTS[recipe.augment]` changes raw training batches, as `fit(augment=)` takes it.

A new experiment is a new entry in `RECIPES`, and at most one in each table.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mixup_modalities.image import CutMix, ImageMixup
from mixup_modalities.lab.audio_recipes import AUDIO_METHODS, AUDIO_MODELS, AUDIO_TESTS, audio_settings
from mixup_modalities.lab.cifar_recipes import AUGMENTS, IMAGE_METHODS, IMAGE_MODELS, IMAGE_TESTS, cifar_settings
from mixup_modalities.lab.datasets import Dataset, load
from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.models import ConvNet
from mixup_modalities.lab.question_recipes import QUESTION_METHODS, question_settings
from mixup_modalities.lab.runtime import seeded, stream
from mixup_modalities.lab.splits import Split
from mixup_modalities.lab.text_recipes import TEXT_METHODS, TEXT_MODELS, text_settings
from mixup_modalities.lab.training import evaluate, fit


class RecipeError(LabError):
    """There is no such recipe; the message offers the nearest names."""


@dataclass(frozen=True)
class Recipe:
    """One experiment, complete but for the seed.

    Attributes:
        name: what `run` and the ledger call it.
        ledger: the file it is written to, `results/<ledger>.csv`.
        dataset: name of the data set.
        model: key of `MODELS`.
        method: key of `METHODS`: how examples are mixed; "erm" for not at all.
        alpha: lam ~ Beta(alpha, alpha).
        num_train: training examples drawn at random for each seed; `None` for all.
        num_validation: validation examples, likewise.
        train_on_validation: add the validation set to the training set, and measure on none.
        num_further: test examples that the further tests of `TESTS` take, from the first; `None` for all.
        label_noise: share of the training and validation labels that are replaced by wrong ones.
        augment: key of `AUGMENTS`; `None` for none.
        epochs: and the following: see `fit`.
        minutes_cpu: about what one seed takes on one CPU core; NaN if nobody has measured it.
        minutes_gpu: on one GPU, likewise.
    """

    name: str
    ledger: str
    dataset: str
    model: str
    method: str = "erm"
    alpha: float = 0.0
    num_train: int | None = None
    num_validation: int | None = None
    train_on_validation: bool = False
    num_further: int | None = None
    label_noise: float = 0.0
    augment: str | None = None
    epochs: int = 25
    batch_size: int = 100
    lr: float = 0.1
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.2
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    evaluate_every: int = 1
    minutes_cpu: float = math.nan
    minutes_gpu: float = math.nan


def _conv_net(width: int) -> Callable:
    return lambda dataset: (ConvNet.for_images(dataset.train.x, len(dataset.classes), width=width), dataset)


MODELS: dict[str, Callable[[Dataset], tuple[nn.Module, Dataset]]] = {
    "conv-8": _conv_net(8),
    "conv-16": _conv_net(16),
    **IMAGE_MODELS,
    **AUDIO_MODELS,
    **TEXT_MODELS,
}
METHODS: dict[str, Callable[[Recipe, nn.Module], dict[str, Any]]] = {
    "erm": lambda recipe, model: {},
    "mixup": lambda recipe, model: {"mixup": ImageMixup(recipe.alpha)},
    "cutmix": lambda recipe, model: {"mixup": CutMix(recipe.alpha)},
    **IMAGE_METHODS,
    **AUDIO_METHODS,
    **TEXT_METHODS,
    **QUESTION_METHODS,
}
TESTS: dict[str, Callable[[nn.Module, Split], dict[str, float]]] = {**IMAGE_TESTS, **AUDIO_TESTS}
ALPHAS = (0, 0.2, 1, 4, 8)
FIT_FIELDS = ("epochs", "batch_size", "lr", "optimizer", "weight_decay", "schedule", "warmup", "clip_norm")
FIT_FIELDS += ("label_smoothing",)


def _mnist_recipes() -> list[Recipe]:
    small = Recipe("", "mnist", "mnist", "conv-8", num_train=1000, num_validation=200, epochs=20, batch_size=50)
    small = replace(small, warmup=0.1, minutes_cpu=0.03)
    full = replace(small, model="conv-16", num_train=None, num_validation=None)
    full = replace(full, epochs=5, batch_size=100, minutes_cpu=1.0)
    found = []
    for alpha in ALPHAS:
        mixed = replace(small, method="mixup" if alpha else "erm", alpha=alpha)
        found.append(replace(mixed, name=f"mnist-500-{alpha}", num_train=500, epochs=40))  # as many steps in all
        found += [replace(mixed, name=f"mnist-noise-{p}-{alpha}", label_noise=p / 100) for p in (20, 40, 80)]
    found.append(replace(full, name="mnist-full-erm"))
    found.append(replace(full, name="mnist-full-mixup", method="mixup", alpha=0.2))
    return found


_further = [
    Recipe(**settings) for settings in (*cifar_settings(), *audio_settings(), *text_settings(), *question_settings())
]
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in [*_mnist_recipes(), *_further]}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        RecipeError: there is none; the nearest names are offered.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(RECIPES)}"
        raise RecipeError(f"there is no recipe named {name!r}: {hint}")
    return RECIPES[name]


def corrupt_labels(y: Tensor, fraction: float, num_classes: int, generator: torch.Generator) -> Tensor:
    """Replace a share of the labels by wrong ones, uniform over the other classes (symmetric label noise).

    Noise that is drawn from all classes, as is also common, is right by chance for one label in C; here every label
    that is touched is wrong, and `fraction` means what it says.

    Args:
        y: int64 `(N,)`, class indices below `num_classes`.
        fraction: share of wrong labels in [0, 1]; exactly `round(fraction * N)` rows are changed.
        num_classes: C, at least 2.
        generator: which rows, and which labels; a CPU generator.

    Returns:
        A new tensor int64 `(N,)`.

    Raises:
        ValueError: a fraction outside of [0, 1], fewer than two classes, or labels that are no class indices.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if y.dtype != torch.int64 or y.ndim != 1 or (len(y) and not 0 <= int(y.min()) <= int(y.max()) < num_classes):
        raise ValueError(f"y must be int64 class indices (N,) below {num_classes}, got {y.dtype} {tuple(y.shape)}")
    count = round(fraction * len(y))
    rows = torch.randperm(len(y), generator=generator)[:count].to(y.device)
    shift = torch.randint(1, num_classes, (count,), generator=generator).to(y.device)
    noisy = y.clone()
    noisy[rows] = (y[rows] + shift) % num_classes
    return noisy


def draw_task(
    dataset: Dataset,
    seed: int,
    *,
    num_train: int | None = None,
    num_validation: int | None = None,
    label_noise: float = 0.0,
) -> Dataset:
    """Draw a smaller, or noisier, training and validation set. The test set stays whole and right.

    Validation labels are as noisy as training labels: whoever has wrong labels has no clean ones to choose alpha with.

    Args:
        dataset: to draw from.
        seed: which examples, and which of their labels are wrong. It does not depend on anything else, so all methods
            see the same examples with the same labels.
        num_train: training examples, uniform without replacement, in random order; `None` or more than there are: all.
        num_validation: validation examples, likewise.
        train_on_validation: add the validation set to the training set, and measure on none.
        num_further: test examples that the further tests of `TESTS` take, from the first; `None` for all.
        label_noise: share of wrong labels, see `corrupt_labels`.

    Returns:
        The data set with new `train` and `validation`; their `extra["true_y"]` holds the labels before corruption.
    """
    drawn = {}
    for name, count in (("train", num_train), ("validation", num_validation)):
        split = dataset.splits.get(name)
        if split is None:
            continue
        if count is not None:
            order = torch.randperm(len(split), generator=stream(seed, f"{name} examples"))
            split = split.take(order[:count])
        noisy = corrupt_labels(split.y, label_noise, len(dataset.classes), stream(seed, f"{name} noise"))
        drawn[name] = replace(split, y=noisy, extra={**split.extra, "true_y": split.y})
    return replace(dataset, **drawn)


def run(
    recipe: Recipe, seed: int, *, dataset: Dataset | None = None, evaluate_every: int | None = None, **options
) -> dict[str, Any]:
    """Train and test one recipe with one seed.

    The seed fixes the examples drawn, the wrong labels, the initial weights, the order of batches and the mixtures.

    Args:
        recipe: what to run.
        seed: not negative.
        dataset: the data, if they are loaded already; default `load(recipe.dataset)`.
        evaluate_every: epochs between measurements, among which `best_...` is chosen; default the recipe's own.
        **options: further arguments of `fit`: `epochs`, `device`, `precision`, `progress`, `on_epoch`, `resume`, ...

    Returns:
        A row for the ledger: test `accuracy`, `nll`, `ece` after the last epoch; the last epoch of `fit`'s history;
        `best_accuracy`, `best_nll`, `best_ece`, test results of the epoch with the highest validation accuracy
        (`best_epoch`, the earliest of several), which is what early stopping gives; and where it was run.

    Raises:
        RecipeError: the device has too little memory; the message says which batch size to try.
    """
    whole = load(recipe.dataset) if dataset is None else dataset
    task = replace(whole, train=whole.full_train, validation=None) if recipe.train_on_validation else whole
    data = draw_task(
        task, seed, num_train=recipe.num_train, num_validation=recipe.num_validation, label_noise=recipe.label_noise
    )
    with seeded(int(stream(seed, "weights").initial_seed())):
        model, data = MODELS[recipe.model](data)
    settings = {key: getattr(recipe, key) for key in FIT_FIELDS} | METHODS[recipe.method](recipe, model)
    settings |= {"augment": AUGMENTS[recipe.augment]} if recipe.augment else {}
    settings |= options
    every = recipe.evaluate_every if evaluate_every is None else evaluate_every
    best: dict[str, Any] = {"accuracy": -1.0}
    notify = settings.pop("on_epoch", None)

    def keep_best(state: dict) -> None:
        score = state["rows"][-1].get("val_accuracy", -1.0)
        if score > best["accuracy"]:
            weights = {key: value.detach().clone() for key, value in state["model"].items()}
            best.update(accuracy=score, epoch=state["epoch"], model=weights)
        if notify is not None:
            notify(state | {"best": best})

    if settings.get("resume") and "best" in settings["resume"]:
        best.update(settings["resume"]["best"])
    try:
        history = fit(
            model, data.train, validation=data.validation, seed=seed, evaluate_every=every,
            on_epoch=keep_best, **settings,
        )  # fmt: skip
    except torch.OutOfMemoryError as error:
        raise RecipeError(_memory_hint(recipe)) from error
    test = evaluate(model, data.test)
    row = {"recipe": recipe.name, "seed": seed, "accuracy": test.accuracy, "nll": test.nll, "ece": test.ece}
    row |= {key: value for key, value in history.final.items() if key not in ("epoch", "lr")}
    if recipe.dataset in TESTS:
        some = data.test if recipe.num_further is None else data.test.take(slice(recipe.num_further))
        row |= TESTS[recipe.dataset](model, some)
    row |= getattr(model, "provenance", {})
    if "model" in best:
        model.load_state_dict(best["model"])
        stopped = test if best["epoch"] == settings["epochs"] else evaluate(model, data.test)
        row |= {"best_epoch": best["epoch"], "best_accuracy": stopped.accuracy}
        row |= {"best_nll": stopped.nll, "best_ece": stopped.ece}
    row |= {"epochs": settings["epochs"], "num_train": len(data.train), "num_test": len(data.test)}
    row |= {"seconds": history.seconds, "device": history.device, "precision": history.precision}
    row |= {"dataset": whole.name, "dataset_sha256": whole.card.sha256, "lossy": whole.card.lossy}
    return row | {"data": "sample" if whole.is_sample else "real"}


def _memory_hint(recipe: Recipe) -> str:
    trouble = f"{recipe.name} with batches of {recipe.batch_size} does not fit into the memory of the device"
    if recipe.batch_size < 2:
        return f"{trouble}: use one with more memory, or --device cpu"
    return f"{trouble}: try --batch-size {recipe.batch_size // 2}, or --device cpu"
